"""LoadPlan: what can be asked of a run, how it is written down, and how it is shared by processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventbus.config import AckStrategy
from eventbus.errors import ConfigError
from eventbus.load.plan import LoadPlan, WeightedTopic
from eventbus.load.setting import SettingRefused
from eventbus.load.shape import Burst, Constant, Ramp, Shape, Sine, Stage, Step

RULE = {"name": "slow", "when": "p99(ack_latency, 10s) > 100ms", "for": "3s", "severity": "critical"}
FULL: dict[str, Any] = {
    "name": "all of it",
    "url": "nats://me:secret@h",
    "topics": [{"name": "a.b", "weight": 2}, {"name": "c"}],
    "strategy": "task_per_message",
    "shape": {"kind": "ramp", "stages": [{"duration": "10s", "rate": 500}], "start_rate": 5},
    "arrivals": "poisson",
    "duration_s": 9,
    "count": 1000,
    "warm_up_s": 2,
    "drain_s": 0,
    "payload_size": 10,
    "payload_size_max": 20,
    "keys": 7,
    "headers": {"kind": "test"},
    "max_attempts": 3,
    "processes": 2,
    "seed": -3,
    "thresholds": ["p99(ack_latency) < 250ms", {"expression": "max(pending) < 10", "abort": True, "grace": "5s"}],
    "rules": [RULE],
    "sinks": [{"kind": "webhook", "url": "https://user:hidden@h"}],
}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rate": 10**400}, "rate is 1000"),
        ({"rate": 5, "shape": {"kind": "constant", "rate": 5}}, "shape and rate exclude each other"),
        ({"rate": 5, "workers": 2}, "workers and a rate exclude each other"),
        ({"shape": {"kind": "constant", "rate": 5}, "workers": 2}, "workers and a shape exclude each other"),
        ({"workers": 0}, "workers is 0; use 1 to 100,000"),
        ({"workers": 5, "arrivals": "poisson"}, "arrivals is poisson; that needs a rate"),
        ({"arrivals": "random"}, "arrivals is 'random'; use 'constant' or 'poisson'"),
        ({"strategy": "wait_each"}, "strategy is wait_each; that needs workers"),
        ({"strategy": "best"}, "strategy is 'best'; use 'unified' or "),
        ({"strategy": []}, "strategy is []"),
        ({"shape": 5}, "shape cannot be used: shape is 5"),
        ({"shape": {"kind": "ramp", "stages": [{"rate": 5}]}}, "duration is missing"),
        ({"topics": "a"}, "topics is 'a'; give a list"),
        ({"topics": ["a"]}, "topics[0] is 'a'; give a table with name"),
        ({"topics": [{"name": "a"}, {"name": "b", "weight": -1}]}, "topics[1].weight is -1; use more than 0"),
        ({"topics": [{"name": "a"}, {"name": "b", "wait": 1}]}, "topics[1].wait is unknown"),
        ({"topics": [{"name": "a"}, {"name": "a"}]}, "topics[1].name is 'a' once more"),
        ({"topics": [{"name": "a.*"}]}, "topics[0].name 'a.*' has a wildcard"),
        ({"topic": "x", "topics": [{"name": "a"}]}, "topic and topics exclude each other"),
        ({"warm_up_s": -1}, "warm_up_s is -1; use 0 or more"),
        ({"warm_up_s": 5, "duration_s": 5}, "warm_up_s is 5; use less than the 5 s of the run"),
        (
            {"warm_up_s": 5, "shape": {"kind": "step", "stages": [{"duration_s": 4, "rate": 1}]}},
            "less than the 4 s of the run",
        ),
        ({"drain_s": None}, "drain_s is None; use a number of seconds"),
        ({"payload_size_max": 127}, "payload_size_max is 127; use payload_size, which is 128, or more"),
        ({"payload_size_max": 200, "template": "1"}, "payload_size_max is for random payloads"),
        ({"template": "1", "replay": "a.jsonl"}, "template and replay exclude each other"),
        ({"template": '{"a": {{ name }'}, "template cannot be used: template, line 1, column 7"),
        ({"template": "\ud800"}, "half a surrogate pair"),
        ({"keys": 0}, "keys is 0; use 1 to"),
        ({"headers": [1]}, "headers is [1]; use a table"),
        ({"headers": {"a": 5}}, "headers.a is 5; names and values must be text"),
        ({"replay_at": "recorded"}, "replay_at is recorded; that needs a file"),
        ({"replay_at": "recorded", "replay": "a", "rate": 5}, "replay_at is recorded; that excludes rate"),
        ({"replay_time": "t", "replay": "a"}, "replay_time needs replay_at = 'recorded'"),
        ({"replay_speed": 2, "replay": "a"}, "replay_speed needs replay_at = 'recorded'"),
        ({"replay_speed": 0}, "replay_speed is 0; use more than 0"),
        ({"max_attempts": 0}, "max_attempts is 0; use 1 to 1,000"),
        ({"processes": 300}, "processes is 300; use 1 to 256"),
        ({"processes": 4, "count": 3}, "count is 3; use at least one for each of 4 processes"),
        ({"share": [2, 2]}, "use an index from 0, and below"),
        ({"share": [0, True]}, "share is (0, True)"),
        ({"name": 5}, "name is 5; use text"),
        ({"name": "x" * 201}, "name has 201 characters; use at most 200"),
        ({"name": "a\nb"}, r"name is 'a\nb'; use one line without control characters"),
        ({"name": "a\x1b[31m"}, "use one line without control characters"),
        ({"sinks": {"url": "https://user:hidden@h"}}, "sinks is dict; give a list of tables"),
        ({"sinks": ["hidden"]}, "sinks is tuple; give a list of tables"),
    ],
)
def test_plan_that_cannot_be(given: dict[str, Any], said: str) -> None:
    """It is refused with the setting, what was given and what is allowed, in one line."""
    with pytest.raises(ConfigError) as caught:
        LoadPlan.from_dict(given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_setting_is_known_to_whoever_catches() -> None:
    """The refusal carries where the setting stands, so that a file's line or a form's field can be found for it."""
    with pytest.raises(SettingRefused) as caught:
        LoadPlan.from_dict({"shape": {"kind": "ramp", "stages": [{"duration": "1s", "rate": -1}]}})
    assert caught.value.key == ("shape", "stages", 0, "rate")


def test_huge_values_are_cut_in_messages() -> None:
    """A value of a megabyte makes a short message all the same."""
    with pytest.raises(ConfigError) as caught:
        LoadPlan.from_dict({"rate": ["x" * 1_000_000]})
    assert len(str(caught.value)) < 300


def test_plan_of_everything_is_plain_json_and_back() -> None:
    """What is recorded of a plan can be run again; ``to_dict`` has all of it, ``settings`` all that may be stored."""
    plan = LoadPlan.from_dict(FULL)
    assert plan.topic == "a.b"
    assert plan.strategy is AckStrategy.TASK_PER_MESSAGE
    assert plan.shape == Ramp((Stage(10, 500),), start_rate=5)
    assert plan.topics == (WeightedTopic("a.b", 2), WeightedTopic("c"))
    assert [threshold.abort for threshold in plan.thresholds] == [False, True]
    assert plan.rules is not None
    assert plan.rules[0].for_s == 3.0
    assert LoadPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    stored = json.loads(json.dumps(plan.settings()))
    again = LoadPlan.from_dict({**stored, "url": plan.url})
    assert again.settings() == stored
    assert again.thresholds == plan.thresholds
    assert again.rules == plan.rules


def test_plan_of_defaults_is_plain_json_and_back() -> None:
    """Also where nothing was said; then alerts are the default ones, and not none."""
    plan = LoadPlan()
    assert LoadPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert plan.rules is None
    assert LoadPlan.from_dict({"rules": []}).rules == ()


def test_credentials_of_url_and_sinks_are_not_recorded() -> None:
    """Neither ``repr`` nor ``settings`` shows what may hold a password."""
    plan = LoadPlan.from_dict(FULL)
    shown = repr(plan) + json.dumps(plan.settings())
    assert "secret" not in shown
    assert "hidden" not in shown


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, None),
        ({"duration_s": 5}, 5),
        ({"shape": {"kind": "constant", "rate": 1}}, None),
        ({"shape": {"kind": "step", "stages": [{"duration_s": 4, "rate": 1}]}}, 4),
        ({"shape": {"kind": "step", "stages": [{"duration_s": 4, "rate": 1}]}, "duration_s": 3}, 3),
    ],
)
def test_end_by_duration_or_shape(given: dict[str, Any], seconds: float | None) -> None:
    """Sending ends at the duration or at the shape's end, whichever comes first."""
    assert LoadPlan.from_dict(given).sending_s == seconds


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_shares_are_together_the_whole(of: int) -> None:
    """Rates and counts of all shares sum up to the plan's, exactly; each has its own chance and its own records."""
    plan = LoadPlan(
        rate=1000,
        count=1001,
        max_pending=10_000,
        seed=5,
        topics=(WeightedTopic("a"), WeightedTopic("b", 3)),
        processes=of,
    )
    shares = [plan.with_share(index, of) for index in range(of)]
    assert sum(share.rate or 0 for share in shares) == pytest.approx(1000)
    assert sum(share.count or 0 for share in shares) == 1001
    assert sum(share.max_pending for share in shares) == 10_000
    assert len({share.seed for share in shares}) == of
    assert [share.share for share in shares] == [(index, of) for index in range(of)]
    assert all(share.processes == 1 and share.topics == plan.topics for share in shares)
    assert all(LoadPlan.from_dict(json.loads(json.dumps(share.to_dict()))) == share for share in shares)


def test_workers_are_shared() -> None:
    """In the closed model it is the workers that are divided."""
    plan = LoadPlan(workers=5, processes=2)
    assert [plan.with_share(index, 2).workers for index in range(2)] == [3, 2]


@pytest.mark.parametrize(
    "shape",
    [
        Constant(300),
        Ramp((Stage(5, 300), Stage(5, 0)), start_rate=30),
        Step((Stage(5, 300), Stage(5, 0))),
        Burst(30, 300, 10, 2),
        Sine(300, 150, 7),
    ],
    ids=lambda shape: shape.kind,
)
def test_share_of_a_shape(shape: Shape) -> None:
    """A share of a shape has the same times and a part of every rate."""
    share = LoadPlan(shape=shape).with_share(1, 3).shape
    assert share is not None
    assert share.duration_s == shape.duration_s
    for time_s in (0.5, 3, 7, 9, 9.9):
        assert share.rate_at(time_s) == pytest.approx(shape.rate_at(time_s) / 3)


def test_who_judges_is_not_who_shares() -> None:
    """Thresholds, alerts and sinks belong to the whole: a share has none, not even the default alerts."""
    share = LoadPlan.from_dict(FULL).with_share(0, 2)
    assert (share.thresholds, share.rules, share.sinks) == ((), (), ())


def test_less_to_do_than_processes() -> None:
    """There is no share of nothing; and a share is not shared again."""
    with pytest.raises(ConfigError, match="count is 2; use at least one for each of 3 processes"):
        LoadPlan(count=2).with_share(0, 3)
    with pytest.raises(ConfigError, match="share is"):
        LoadPlan().with_share(0, 2).with_share(0, 2)
    with pytest.raises(ConfigError, match="index is 2"):
        LoadPlan().with_share(2, 2)


def test_replay_path_of_json() -> None:
    """A path is text in JSON, and a path in the plan."""
    plan = LoadPlan.from_dict({"replay": "a.csv", "replay_at": "recorded", "replay_time": "t", "replay_speed": 2})
    assert plan.replay == Path("a.csv")
    assert LoadPlan.from_dict(plan.settings()) == plan
