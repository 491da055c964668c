"""Preflight: what about a stream surprises a publisher is told once, with what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from nats.js import api
from nats.js.api import DiscardPolicy, RetentionPolicy, StreamConfig

import eventbus
from eventbus import AckOutcome, BusEvent, BusSnapshot, EventKind, RetryPolicy, TopicConfig
from eventbus.embedded.nats import EmbeddedNats
from eventbus.inspection import Finding, Level
from eventbus.publishers.nats.preflight import examine
from tests.nats_tools import add_stream, admin, read_back

RETRY_S = 30.0
TOPIC = TopicConfig("shop.>")


def stream(consumers: int = 0, cluster: api.ClusterInfo | None = None, **settings: Any) -> api.StreamInfo:
    """A stream as the server describes it, by default one about which there is nothing to warn."""
    config = StreamConfig(
        name="SHOP", subjects=["shop.>"], **{"duplicate_window": 120.0, "num_replicas": 3, **settings}
    )
    state = api.StreamState(messages=0, bytes=0, first_seq=0, last_seq=0, consumer_count=consumers)
    return api.StreamInfo(config=config, state=state, cluster=cluster)


def found(info: api.StreamInfo, topic: TopicConfig = TOPIC, longest_retry_s: float | None = RETRY_S) -> list[str]:
    """The findings' first words."""
    return [finding.what for finding in examine(info, topic, longest_retry_s)]


# ---- the rules -----------------------------------------------------------------------------------------------------


def test_a_stream_with_nothing_special() -> None:
    """Nothing is told of a replicated stream without limits and with a window as long as the retries."""
    assert examine(stream(duplicate_window=RETRY_S), TOPIC, RETRY_S) == ()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"no_ack": True}, "stream SHOP has no_ack"),
        ({"sealed": True}, "stream SHOP is sealed"),
        ({"retention": RetentionPolicy.INTEREST}, "stream SHOP keeps messages by interest and has no consumer"),
        ({"max_msgs": 5}, "stream SHOP removes old messages (discard old, max_msgs 5)"),
        ({"max_bytes": 4096}, "stream SHOP removes old messages (discard old, max_bytes 4096)"),
        ({"max_age": 60.0}, "stream SHOP removes old messages (discard old, max_age 60 s)"),
        ({"max_msgs_per_subject": 1}, "stream SHOP removes old messages (discard old, max_msgs_per_subject 1)"),
        (
            {"duplicate_window": 2.0},
            "stream SHOP remembers message ids for 2 s, retries go on for 30 s",
        ),
        ({"duplicate_window": 0.0}, "stream SHOP remembers message ids for 0 s, retries go on for 30 s"),
    ],
)
def test_each_warning(settings: dict[str, Any], said: str) -> None:
    """One setting, one warning, which says why it matters and what to do."""
    (finding,) = examine(stream(**settings), TOPIC, RETRY_S)
    assert finding.what == said
    assert finding.level is Level.WARNING
    assert finding.why
    assert finding.advice
    assert str(finding) == f"{finding.what}: {finding.why}. {finding.advice}"


def test_several_at_once_come_worst_first() -> None:
    """Nothing hides anything else."""
    info = stream(no_ack=True, sealed=True, retention=RetentionPolicy.INTEREST, max_msgs=1, duplicate_window=1.0)
    words = ["no_ack", "sealed", "interest", "removes", "remembers"]
    assert [word in text for word, text in zip(words, found(info), strict=True)] == [True] * 5


@pytest.mark.parametrize(
    "settings",
    [
        {"max_msgs": 5, "discard": DiscardPolicy.NEW},
        {"max_bytes": 5, "discard": DiscardPolicy.NEW},
        {"max_msgs_per_subject": 5, "discard": DiscardPolicy.NEW, "discard_new_per_subject": True},
        {"max_msg_size": 100},
        {"max_msgs": -1, "max_bytes": -1, "max_age": 0.0, "max_msgs_per_subject": -1},
    ],
)
def test_limits_that_refuse_and_remove_nothing(settings: dict[str, Any]) -> None:
    """A stream that refuses what does not fit keeps what it acked: the refusal is told per message."""
    assert found(stream(**settings)) == []


@pytest.mark.parametrize("settings", [{"max_age": 60.0}, {"max_msgs_per_subject": 5}])
def test_discard_new_that_removes_all_the_same(settings: dict[str, Any]) -> None:
    """Age counts under every policy, and the limit per subject too unless discard_new_per_subject is set."""
    (text,) = found(stream(discard=DiscardPolicy.NEW, **settings))
    assert text.startswith("stream SHOP removes old messages (discard new, ")


def test_interest_with_a_consumer() -> None:
    """Somebody is interested, so messages are kept."""
    assert found(stream(consumers=1, retention=RetentionPolicy.INTEREST)) == []


@pytest.mark.parametrize(
    ("topic", "longest_retry_s"), [(TOPIC, None), (TopicConfig("shop.>", allow_duplicates=True), RETRY_S)]
)
def test_short_window_that_ends_no_retry(topic: TopicConfig, longest_retry_s: float | None) -> None:
    """Without retries, or where duplicates are allowed, the window bounds nothing."""
    assert found(stream(duplicate_window=1.0), topic, longest_retry_s) == []


@pytest.mark.parametrize(
    ("cluster", "level"),
    [
        (None, Level.INFO),
        (api.ClusterInfo(leader="alone"), Level.INFO),
        (api.ClusterInfo(leader="n1", name="east"), Level.WARNING),
    ],
)
def test_one_replica(cluster: api.ClusterInfo | None, level: Level) -> None:
    """A warning where there are other servers that could hold a copy, else only information."""
    (finding,) = examine(stream(num_replicas=1, cluster=cluster), TOPIC, RETRY_S)
    assert finding.level is level
    assert "one replica" in finding.what
    assert examine(stream(num_replicas=3, cluster=cluster), TOPIC, RETRY_S) == ()


def test_warnings_survive_json() -> None:
    """A snapshot read back from JSON has its warnings as they were; an older one without them has none."""
    snapshot = BusSnapshot("b", 1.0, 2.0, eventbus.ConnectionState.CONNECTED, warnings=("one", "two"))
    data = snapshot.to_dict()
    assert data["warnings"] == ["one", "two"]
    assert BusSnapshot.from_dict(data) == snapshot
    del data["warnings"]
    assert BusSnapshot.from_dict(data).warnings == ()


# ---- a real server -------------------------------------------------------------------------------------------------


class Warned:
    """An observer that keeps the texts of topic warnings."""

    every_outcome = False

    def __init__(self) -> None:
        self.texts: list[str] = []

    def settled(self, reports: object) -> None: ...

    def happened(self, event: BusEvent) -> None:
        if event.kind is EventKind.TOPIC_WARNING:
            self.texts.append(event.text)


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedNats]:
    with EmbeddedNats() as running:
        yield running


@pytest.fixture
async def fresh(server: EmbeddedNats) -> str:
    """The URL of a server without streams."""
    async with admin(server.url) as client:
        for info in await client.jetstream().streams_info():
            await client.jetstream().delete_stream(info.config.name or "")
    return server.url


async def warned_of(url: str, config: StreamConfig) -> list[str]:
    """Make the stream, set up its topic, and return what was told; snapshot and events agree."""
    await add_stream(url, config)
    warned = Warned()
    async with eventbus.connect(url, topics=[TopicConfig("shop.>", create=False)], observers=[warned]) as bus:
        assert list(bus.snapshot().warnings) == warned.texts
    return warned.texts


@pytest.mark.integration
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"no_ack": True}, "has no_ack"),
        ({"retention": RetentionPolicy.INTEREST}, "by interest and has no consumer: messages are acked and not stored"),
        ({"max_msgs": 5}, "discard old, max_msgs 5"),
        ({"max_bytes": 4096}, "discard old, max_bytes 4096"),
        ({"max_age": 300}, "discard old, max_age 300 s"),
        ({"max_msgs_per_subject": 2}, "discard old, max_msgs_per_subject 2"),
        ({"max_msgs_per_subject": 2, "discard": DiscardPolicy.NEW}, "discard new, max_msgs_per_subject 2"),
    ],
)
async def test_stream_of_a_real_server(fresh: str, settings: dict[str, Any], said: str) -> None:
    """As a server describes a stream, so it is understood: one event, one warning in the snapshot."""
    (text,) = await warned_of(fresh, StreamConfig(name="SHOP", subjects=["shop.>"], **settings))
    assert said in text


@pytest.mark.integration
async def test_stream_that_the_bus_makes_itself(fresh: str) -> None:
    """Nothing is wrong with the defaults; one replica on a server of its own is no warning."""
    warned = Warned()
    async with eventbus.connect(fresh, topics=[TopicConfig("shop.>")], observers=[warned]) as bus:
        await (await bus.publish("other.a"))
        assert (bus.snapshot().warnings, warned.texts) == ((), [])


@pytest.mark.integration
async def test_sealed_stream(fresh: str) -> None:
    """A stream is sealed by an update; the warning is there before the first message is refused."""
    config = StreamConfig(name="SHOP", subjects=["shop.>"])
    await add_stream(fresh, config)
    async with admin(fresh) as client:
        config.sealed = True
        await client.jetstream().update_stream(config)
    warned = Warned()
    async with eventbus.connect(fresh, topics=[TopicConfig("shop.>")], observers=[warned]) as bus:
        assert ["is sealed" in text for text in warned.texts] == [True]
        report = await (await bus.publish("shop.a"))
    assert (report.outcome, report.error_kind) == (AckOutcome.REJECTED, eventbus.ErrorKind.SEALED)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("settings", "warnings"),
    [
        ({"ack_timeout_s": 5.0}, 1),
        ({"ack_timeout_s": 0.5}, 0),
        ({"ack_timeout_s": 5.0, "retry": RetryPolicy(max_attempts=1)}, 0),
        ({"ack_timeout_s": 0.5, "topics": [TopicConfig("shop.>", duplicate_window_s=20.0, ack_timeout_s=5.0)]}, 1),
    ],
)
async def test_window_shorter_than_the_retries_of_this_bus(fresh: str, settings: dict[str, Any], warnings: int) -> None:
    """It depends on the bus: on its attempts, and on the ack timeout, which a topic may have of its own."""
    await add_stream(fresh, StreamConfig(name="SHOP", subjects=["shop.>"], duplicate_window=20))
    warned = Warned()
    async with eventbus.connect(fresh, observers=[warned], **settings) as bus:
        await (await bus.publish("shop.a"))
        assert len(bus.snapshot().warnings) == warnings
    assert len(warned.texts) == warnings
    assert all("remembers message ids for 20 s, retries go on for 28.75 s" in text for text in warned.texts)


@pytest.mark.integration
async def test_interest_without_consumers_acks_and_stores_nothing(fresh: str) -> None:
    """What the warning says is so."""
    await add_stream(fresh, StreamConfig(name="SHOP", subjects=["shop.>"], retention=RetentionPolicy.INTEREST))
    async with eventbus.connect(fresh) as bus:
        report = await (await bus.publish("shop.a"))
        assert len(bus.snapshot().warnings) == 1
    assert report.outcome is AckOutcome.ACKED
    assert await read_back(fresh, "SHOP") == []


@pytest.mark.integration
async def test_many_topics_of_one_stream(fresh: str) -> None:
    """What is wrong with a stream is told once, however many topics and configs lead to it."""
    await add_stream(fresh, StreamConfig(name="SHOP", subjects=["shop.>", "till.>"], max_msgs=50))
    warned = Warned()
    topics = [TopicConfig("shop.>", stream="SHOP"), TopicConfig("till.>", stream="SHOP")]
    async with eventbus.connect(fresh, topics=topics, observers=[warned]) as bus:
        receipts = [await bus.publish(f"{first}.{n}") for n in range(5) for first in ("shop", "till")]
        await asyncio.gather(*receipts)
        assert len(bus.snapshot().warnings) == 1
    assert len(warned.texts) == 1


@pytest.mark.integration
async def test_warning_that_comes_back(fresh: str) -> None:
    """Told again only where it was gone meanwhile; a topic is set up anew after nobody took its messages."""
    config = StreamConfig(name="SHOP", subjects=["shop.>"], max_msgs=50)
    topics, retry = [TopicConfig("shop.>", create=False)], RetryPolicy(max_attempts=2, base_delay_s=0.01)
    await add_stream(fresh, config)
    warned, told = Warned(), []
    async with (
        admin(fresh) as client,
        eventbus.connect(fresh, topics=topics, retry=retry, observers=[warned]) as bus,
    ):
        manager = client.jetstream()
        for limit in (50, -1, 50):
            assert (await (await bus.publish("shop.a"))).outcome is AckOutcome.ACKED
            told.append((len(warned.texts), len(bus.snapshot().warnings)))
            await manager.delete_stream("SHOP")
            assert (await (await bus.publish("shop.a"))).outcome is AckOutcome.REJECTED
            assert bus.snapshot().warnings == ()
            config.max_msgs = limit
            await manager.add_stream(config)
        assert (await (await bus.publish("shop.a"))).outcome is AckOutcome.ACKED
        told.append((len(warned.texts), len(bus.snapshot().warnings)))
    assert told == [(1, 1), (1, 1), (1, 0), (2, 1)]


@pytest.mark.integration
async def test_user_who_may_not_ask_about_streams() -> None:
    """That nothing can be known of a topic is a warning too."""
    denied = 'users = [ { user: app, password: pw, permissions: { publish: { deny: ["$JS.API.>"] } } } ]'
    with EmbeddedNats(extra_config=f"authorization {{ {denied} }}") as running:
        warned = Warned()
        topics = [TopicConfig("shop.>")]
        url = f"nats://app:pw@127.0.0.1:{running.port}"
        async with eventbus.connect(url, topics=topics, observers=[warned]) as bus:
            assert list(bus.snapshot().warnings) == warned.texts
    assert ["may not ask for its stream" in text for text in warned.texts] == [True]


def test_finding_is_frozen() -> None:
    """A finding is a value."""
    finding = Finding(Level.INFO, "what", "why", "do")
    with pytest.raises(AttributeError):
        finding.what = "else"  # type: ignore[misc]
