"""What a load sends besides templates and files: sizes, topics, keys and headers, cheap enough for the hot path."""

from __future__ import annotations

import time
from collections import Counter, deque
from itertools import islice

import pytest

from eventbus.load.message import LoadMessage
from eventbus.load.payload import open_messages
from eventbus.load.plan import LoadPlan, WeightedTopic


def messages(plan: LoadPlan, number: int) -> list[LoadMessage]:
    return list(islice(open_messages(plan).source, number))


def test_payloads_of_one_size() -> None:
    """They have the size asked for, and there are 4,096 different ones, with and without a pool made before."""
    for size, distinct in ((64, 4096), (16_000, 100)):
        made = messages(LoadPlan(payload_size=size, topic="a.b", seed=1), distinct)
        assert {(message.topic, len(message.payload), message.key, message.headers) for message in made} == {
            ("a.b", size, None, None)
        }
        assert len({message.payload for message in made}) == distinct


def test_payloads_of_random_size() -> None:
    """Each size of the range is as likely as the others, its ends too."""
    made = messages(LoadPlan(payload_size=10, payload_size_max=19, seed=1), 20_000)
    sizes = Counter(len(message.payload) for message in made)
    assert set(sizes) == set(range(10, 20))
    assert all(1_800 < number < 2_200 for number in sizes.values())


@pytest.mark.parametrize(("keys", "number"), [(1, 100), (5, 1_000), (1_000, 20_000), (100_000, 1_000)])
def test_keys(keys: int, number: int) -> None:
    """Keys are random among so many."""
    made = {message.key for message in messages(LoadPlan(keys=keys, seed=1), number)}
    assert made <= {f"key-{n}" for n in range(keys)}
    assert len(made) >= min(keys, 900)


def test_topics_by_weight() -> None:
    """Topics are chosen at random, as often as their weights say."""
    plan = LoadPlan(topics=(WeightedTopic("a", 1), WeightedTopic("b", 3)), seed=1)
    chosen = Counter(message.topic for message in messages(plan, 20_000))
    assert set(chosen) == {"a", "b"}
    assert chosen["b"] / 20_000 == pytest.approx(0.75, abs=0.02)


def test_headers() -> None:
    """Each message has the headers of the plan."""
    for plan in (LoadPlan(headers={"a": "b"}), LoadPlan(headers={"a": "b"}, keys=2)):
        assert [message.headers for message in messages(plan, 2)] == [{"a": "b"}] * 2


def test_all_of_it_repeats_with_the_seed() -> None:
    """Equal seeds give equal messages, in content, key and topic; shares of a load differ."""
    plan = LoadPlan(
        seed=3, keys=50, payload_size_max=500, topics=(WeightedTopic("a", 1), WeightedTopic("b", 3)), processes=2
    )
    assert messages(plan, 200) == messages(plan, 200)
    assert messages(plan.with_share(0, 2), 200) != messages(plan.with_share(1, 2), 200)


def test_plain_payloads_cost_next_to_nothing() -> None:
    """Below 0.3 us each (0.01 measured): at 50,000 a second they must not be what a core is busy with."""
    source = open_messages(LoadPlan(seed=1)).source
    begin = time.process_time()
    deque(islice(source, 200_000), maxlen=0)
    assert (time.process_time() - begin) / 200_000 < 0.3e-6
