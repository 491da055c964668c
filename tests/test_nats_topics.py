"""Topics on the real server: streams found, made and checked; what arrives; core topics; strategies; clean endings."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from nats.js.api import RetentionPolicy, StreamConfig

import eventbus
from eventbus import (
    AckOutcome,
    AckStrategy,
    BusEvent,
    ConfigError,
    ConnectFailed,
    ConnectionConfig,
    ErrorKind,
    EventKind,
    InvalidMessage,
    Receipt,
    RetryPolicy,
    TopicConfig,
    TopicError,
    WindowConfig,
)
from eventbus.embedded.nats import EmbeddedNats
from tests.nats_tools import (
    add_stream,
    admin,
    assert_conserved,
    copies,
    eventually,
    read_back,
    stream_names,
    tasks_besides,
)

pytestmark = pytest.mark.integration

ACKED, REJECTED, UNKNOWN = AckOutcome.ACKED, AckOutcome.REJECTED, AckOutcome.UNKNOWN


@pytest.fixture
def server() -> Iterator[EmbeddedNats]:
    with EmbeddedNats() as running:
        yield running


async def api_requests(url: str) -> int:
    """How many requests the server's JetStream API has answered so far."""
    async with admin(url) as client:
        return (await client.jetstream().account_info()).api.total


class Events:
    """An observer that keeps what happened."""

    every_outcome = False

    def __init__(self) -> None:
        self.heard: list[BusEvent] = []

    def settled(self, reports: object) -> None: ...

    def happened(self, event: BusEvent) -> None:
        self.heard.append(event)

    def of(self, kind: EventKind) -> list[str]:
        return [event.text for event in self.heard if event.kind is kind]


# ---- what arrives --------------------------------------------------------------------------------------------------


async def test_headers_and_message_id_arrive(server: EmbeddedNats) -> None:
    """The stream has the caller's headers and id as given, and the caller's mapping is as it was."""
    headers = {"Trace-Id": "abc", "Empty": "", "Unicode": "Grüße, 世界"}
    given = dict(headers)
    async with eventbus.connect(server.url) as bus:
        report = await (await bus.publish("orders.a", b"\r\n\x00body", headers=headers, message_id="order-1"))
        plain = await (await bus.publish("orders.b"))
    assert headers == given
    assert report.message_id == "order-1"
    first, second = await read_back(server.url, "ORDERS")
    assert (first.topic, first.message_id, first.payload) == ("orders.a", "order-1", b"\r\n\x00body")
    assert first.headers == given
    assert (second.topic, second.message_id, second.payload) == ("orders.b", plain.message_id, b"")
    assert second.headers == {}
    assert [str(r.position) for r in (report, plain)] == ["ORDERS@1", "ORDERS@2"]


async def test_same_message_id_twice_is_a_duplicate(server: EmbeddedNats) -> None:
    """The second is ACKED with duplicate=True at the first one's place, from whichever bus it comes."""
    async with eventbus.connect(server.url) as bus, eventbus.connect(server.url) as other:
        first = await (await bus.publish("orders.a", b"1", message_id="m"))
        second = await (await bus.publish("orders.a", b"2", message_id="m"))
        third = await (await other.publish("orders.a", b"3", message_id="m"))
        assert [r.outcome for r in (first, second, third)] == [ACKED] * 3
        assert [r.duplicate for r in (first, second, third)] == [False, True, True]
        assert first.position == second.position == third.position
        assert (bus.snapshot().acked, bus.snapshot().duplicates) == (2, 1)
    assert [message.payload for message in await read_back(server.url, "ORDERS")] == [b"1"]


async def test_topic_that_allows_duplicates_sends_no_id_of_its_own(server: EmbeddedNats) -> None:
    """Only an id that the caller gave is sent; without one the server has nothing to recognise."""
    topic = TopicConfig("dup.>", allow_duplicates=True)
    async with eventbus.connect(server.url, topics=[topic]) as bus:
        reports = [await (await bus.publish("dup.x")), await (await bus.publish("dup.x", message_id="given"))]
        assert [report.outcome for report in reports] == [ACKED, ACKED]
    assert [message.message_id for message in await read_back(server.url, "DUP")] == [None, "given"]


async def test_many_tasks_publish_at_once(server: EmbeddedNats) -> None:
    """Tasks that share a bus get their own outcomes, and all share its bounds."""
    async with eventbus.connect(server.url, window=WindowConfig(max_pending=100)) as bus:

        async def publish(task: int) -> list[Receipt]:
            return [await bus.publish(f"tasks.{task}", b"%d" % n) for n in range(100)]

        publishing = asyncio.gather(*(publish(task) for task in range(50)))
        while not publishing.done():
            assert_conserved(bus.snapshot())
            await asyncio.sleep(0)
        reports = [await receipt for receipts in await publishing for receipt in receipts]
        assert {report.outcome for report in reports} == {ACKED}
        stored = await read_back(server.url, "TASKS")
        places = {message.offset: (message.message_id, message.topic) for message in stored}
        for report in reports:
            assert report.position is not None
            assert places[report.position.offset] == (report.message_id, report.topic)
        for task in range(50):  # without a retry, each task's own order is kept
            assert [m.payload for m in stored if m.topic == f"tasks.{task}"] == [b"%d" % n for n in range(100)]


async def test_two_buses_to_one_server(server: EmbeddedNats) -> None:
    """Neither hears the other's acks, and their ids never meet."""
    async with eventbus.connect(server.url) as one, eventbus.connect(server.url) as two:
        receipts = []
        for n in range(1_000):
            receipts += [await one.publish("both.x", b"1 %d" % n), await two.publish("both.x", b"2 %d" % n)]
        assert {(await receipt).outcome for receipt in receipts} == {ACKED}
        assert (one.snapshot().acked, two.snapshot().acked) == (1_000, 1_000)
    there = copies(await read_back(server.url, "BOTH"))
    assert (len(there), set(there.values())) == (2_000, {1})


# ---- streams -------------------------------------------------------------------------------------------------------


async def test_topic_that_nobody_configured(server: EmbeddedNats) -> None:
    """Its stream is named after its first word, takes all below it, and is told as an event."""
    events = Events()
    async with eventbus.connect(server.url, observers=[events]) as bus:
        reports = [await (await bus.publish(name)) for name in ("orders", "orders.a", "orders.b.c")]
        assert {report.outcome for report in reports} == {ACKED}
    assert await stream_names(server.url) == ["ORDERS"]
    (text,) = events.of(EventKind.STREAM_CREATED)
    assert "ORDERS" in text


async def test_stream_that_is_there_already_is_used(server: EmbeddedNats) -> None:
    """A subject that some stream takes goes there, whatever that stream is called."""
    await add_stream(server.url, StreamConfig(name="SHOP", subjects=["orders.*", "returns.>"]))
    async with eventbus.connect(server.url) as bus:
        reports = [await (await bus.publish(name)) for name in ("orders.a", "returns.b.c")]
        assert [str(report.position) for report in reports] == ["SHOP@1", "SHOP@2"]
    assert await stream_names(server.url) == ["SHOP"]


async def test_configured_stream_is_made_as_asked(server: EmbeddedNats) -> None:
    """Name, window, storage and size limit are the config's; a second bus with the same config finds no difference."""
    topic = TopicConfig("m.>", stream="METERS", duplicate_window_s=30, storage="memory", max_message_bytes=5_000)
    for _ in range(2):
        async with eventbus.connect(server.url, topics=[topic]) as bus:
            assert (await (await bus.publish("m.1"))).outcome is ACKED
    async with admin(server.url) as client:
        config = (await client.jetstream().stream_info("METERS")).config
    assert (config.subjects, config.duplicate_window, config.storage) == (["m.>"], 30, "memory")


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        (TopicConfig("shop.>", duplicate_window_s=60), "duplicate_window_s: wanted 60, the stream has 120"),
        (TopicConfig("shop.>", storage="memory"), "storage: wanted memory, the stream has file"),
        (TopicConfig("shop.>", replicas=3), "replicas: wanted 3, the stream has 1"),
        (TopicConfig("shop.>", max_message_bytes=10), "max_message_bytes: wanted 10, the stream has None"),
        (TopicConfig("other.>", stream="SHOP"), "shop.> do not take 'other.>'"),
    ],
    ids=["window", "storage", "replicas", "size", "subjects"],
)
async def test_stream_that_differs_from_its_config(server: EmbeddedNats, topic: TopicConfig, words: str) -> None:
    """TopicError that shows both values; the stream is never changed, and the refused connect leaves nothing."""
    await add_stream(server.url, StreamConfig(name="SHOP", subjects=["shop.>"]))
    before = asyncio.all_tasks()
    with pytest.raises(TopicError) as raised:
        await eventbus.connect(server.url, topics=[topic])
    assert words in str(raised.value)
    assert "SHOP" in str(raised.value)
    assert tasks_besides(before) == []
    async with admin(server.url) as client:
        config = (await client.jetstream().stream_info("SHOP")).config
    assert (config.subjects, config.duplicate_window, config.storage) == (["shop.>"], 120, "file")


async def test_missing_stream_that_may_not_be_created(server: EmbeddedNats) -> None:
    """A configured topic fails at connect, before anything is published."""
    with pytest.raises(TopicError, match="create=False") as raised:
        await eventbus.connect(server.url, topics=[TopicConfig("none.>", create=False)])
    assert raised.value.kind is ErrorKind.NO_STREAM
    assert await stream_names(server.url) == []


async def test_many_subjects_of_a_known_stream_cost_one_preparation(server: EmbeddedNats) -> None:
    """Once the stream is known, its other subjects ask the server nothing."""
    async with eventbus.connect(server.url) as bus:
        assert (await (await bus.publish("many.first"))).outcome is ACKED
        before = await api_requests(server.url)
        for n in range(12_000):
            await bus.publish(f"many.{n}")
        await bus.flush(20)
        assert bus.snapshot().acked == 12_001
        assert await api_requests(server.url) - before <= 1  # the question itself
    async with admin(server.url) as client:
        assert (await client.jetstream().stream_info("MANY")).state.messages == 12_001


_BAD_TOPICS = ("f.*", "f.>", "f x", "f..x", ".f", "f.", "f\0", "f\t", "f\r\nPUB y 0\r\n\r\n", "x" * 5_000, "\ud800")


async def test_invalid_subjects_harm_only_themselves(server: EmbeddedNats) -> None:
    """What a server would close the connection for, or store under another name, is refused before it is sent."""
    async with eventbus.connect(server.url) as bus:
        good = [await bus.publish("fine.x") for _ in range(50)]
        for bad in (
            "fine.*",
            "fine.>",
            "fine x",
            "fine..x",
            ".fine",
            "fine.",
            "fi\0ne",
            "fine\r\nPUB",
            "x" * 5_000,
            "\ud800",
        ):
            with pytest.raises(InvalidMessage):
                await bus.publish(bad)
        for headers in ({"a b": "x"}, {"a": "x\r\nb: y"}, {"a:": "x"}, {"": "x"}, {"a": "\ud800"}):
            with pytest.raises(InvalidMessage):
                await bus.publish("fine.x", headers=headers)
        for message_id in ("a\r\nb", "\ud800"):
            with pytest.raises(InvalidMessage):
                await bus.publish("fine.x", message_id=message_id)
        good += [await bus.publish("fine.x") for _ in range(50)]
        assert {(r.outcome, r.attempts) for r in [await receipt for receipt in good]} == {(ACKED, 1)}
        assert bus.snapshot().accepted == 100
        assert "disconnected" not in bus.snapshot().errors


@pytest.mark.parametrize("topic", ["fresh.*", "fresh x", "x" * 5_000, "large"])
async def test_refused_message_makes_no_stream(server: EmbeddedNats, topic: str) -> None:
    """InvalidMessage comes before anything happens at the server."""
    async with eventbus.connect(server.url) as bus:
        with pytest.raises(InvalidMessage):
            await bus.publish(topic, bytes(2_000_000 if topic == "large" else 0))
        assert (await (await bus.publish("good.x"))).outcome is ACKED
    assert await stream_names(server.url) == ["GOOD"]


async def test_burst_over_many_subjects_of_an_unknown_stream(server: EmbeddedNats) -> None:
    """Subjects that come at once share the look-up of the stream that will take them."""
    before = await api_requests(server.url)
    async with eventbus.connect(server.url) as bus:
        receipts = [await bus.publish(f"burst.{n}") for n in range(2_000)]
        await bus.flush(20)
        assert {(await receipt).outcome for receipt in receipts} == {ACKED}
    assert await api_requests(server.url) - before < 20


# ---- without JetStream, and without acks ---------------------------------------------------------------------------

_NO_JETSTREAM = "accounts { PLAIN { users: [{ user: app, password: pw }] } }"


@pytest.fixture
def plain_url() -> Iterator[str]:
    """A server that has no JetStream for this user."""
    with EmbeddedNats(extra_config=_NO_JETSTREAM) as running:
        yield f"nats://app:pw@127.0.0.1:{running.port}"


async def test_configured_topic_without_jetstream(plain_url: str) -> None:
    """Connect fails at once and says that JetStream does not answer."""
    began = time.monotonic()
    with pytest.raises(TopicError, match="JetStream"):
        await eventbus.connect(plain_url, topics=[TopicConfig("orders.>")])
    assert time.monotonic() - began < 3


async def test_publish_without_jetstream(plain_url: str) -> None:
    """Certainly not stored, so REJECTED, within the message's lifetime; core topics are not concerned."""
    policy = RetryPolicy(max_attempts=2, base_delay_s=0.05, max_delay_s=0.05)
    core = TopicConfig("beat.>", durable=False)
    async with eventbus.connect(plain_url, retry=policy, ack_timeout_s=0.3, topics=[core]) as bus:
        began = time.monotonic()
        report = await (await bus.publish("orders.x"))
        assert time.monotonic() - began < 2
        assert (report.outcome, report.attempts) == (REJECTED, 0)
        assert report.error_text is not None
        await bus.publish("beat.x")
        assert bus.snapshot().unacknowledged == 1
        assert_conserved(bus.snapshot())


@contextlib.asynccontextmanager
async def subscriber(url: str, subject: str) -> AsyncIterator[list[Msg]]:
    """What a core subscriber hears."""
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    async with admin(url) as client:
        await client.subscribe(subject, cb=hear)
        await client.flush()
        yield heard


async def test_core_topic(server: EmbeddedNats) -> None:
    """Sent without a stream and without an ack: a subscriber hears it, the bus counts it as unacknowledged."""
    topic = TopicConfig("beat.>", durable=False)
    async with subscriber(server.url, "beat.>") as heard, eventbus.connect(server.url, topics=[topic]) as bus:
        receipts = [await bus.publish(f"beat.{n % 3}", b"%d" % n, headers={"N": str(n)}) for n in range(1_000)]
        bus.publish_nowait("beat.now", b"nowait")
        await bus.flush()
        await eventually(lambda: len(heard) == 1_001, "the subscriber hears all")
        assert [message.data for message in heard[:1_000]] == [b"%d" % n for n in range(1_000)]
        assert heard[7].headers == {"N": "7"}
        assert heard[7].reply == ""
        report = await receipts[0]
        assert (report.outcome, report.error_kind) == (UNKNOWN, ErrorKind.UNACKNOWLEDGED)
        snapshot = bus.snapshot()
        assert (snapshot.unacknowledged, snapshot.accepted, snapshot.acked, snapshot.unknown) == (1_001, 0, 0, 0)
        closed = await bus.close()
    assert closed.unacknowledged == 1_001
    assert await stream_names(server.url) == []


async def test_ignored_acks(server: EmbeddedNats, caplog: pytest.LogCaptureFixture) -> None:
    """IGNORE sends to the stream, never says acked, and warns exactly once."""
    await add_stream(server.url, StreamConfig(name="LOOSE", subjects=["loose.>"]))
    async with eventbus.connect(server.url, strategy=AckStrategy.IGNORE) as bus:
        for n in range(500):
            await bus.publish("loose.x", b"%d" % n)
        await bus.flush()
        snapshot = bus.snapshot()
        assert (snapshot.unacknowledged, snapshot.accepted, snapshot.acked) == (500, 0, 0)
    assert len(await read_back(server.url, "LOOSE")) == 500
    assert len([record for record in caplog.records if "ignored" in record.message]) == 1


async def test_first_publish_with_ignored_acks_has_its_stream_made(server: EmbeddedNats) -> None:
    """Also where nobody looks at acks, a topic's stream is made before the first message leaves."""
    async with eventbus.connect(server.url, strategy=AckStrategy.IGNORE) as bus:
        for n in range(50):
            await bus.publish("fresh.x", b"%d" % n)
    assert [message.payload for message in await read_back(server.url, "FRESH")] == [b"%d" % n for n in range(50)]


@pytest.mark.parametrize("strategy", [AckStrategy.WAIT_EACH, AckStrategy.TASK_PER_MESSAGE])
async def test_other_strategies_tell_the_same_truth(server: EmbeddedNats, strategy: AckStrategy) -> None:
    """The way of waiting differs, outcomes and stream do not."""
    async with eventbus.connect(server.url, strategy=strategy) as bus:
        receipts = []
        for n in range(200):
            receipts.append(await bus.publish("ways.x", b"%d" % n))
            if strategy is AckStrategy.WAIT_EACH:
                assert receipts[-1].settled
                assert bus.snapshot().pending == 0
        assert {(await receipt).outcome for receipt in receipts} == {ACKED}
        if strategy is AckStrategy.WAIT_EACH:
            with pytest.raises(ConfigError, match="publish_nowait"):
                bus.publish_nowait("ways.x")
    assert [message.payload for message in await read_back(server.url, "WAYS")] == [b"%d" % n for n in range(200)]


# ---- endings -------------------------------------------------------------------------------------------------------


def open_sockets() -> int:
    """How many sockets this process has; told by Linux only, elsewhere nothing is compared."""
    if sys.platform != "linux":
        return 0
    return sum(1 for name in os.listdir("/proc/self/fd") if _is_socket(name))


def _is_socket(descriptor: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    except FileNotFoundError:  # the listing's own
        return False


def sockets_gone(before: int) -> Callable[[], bool]:
    return lambda: open_sockets() <= before


async def test_closed_bus_leaves_nothing(server: EmbeddedNats) -> None:
    """No task, no socket, after a close in good order and after a hurried one alike."""
    before, sockets = asyncio.all_tasks(), open_sockets()
    for timeout_s in (5.0, 0.0):
        bus = await eventbus.connect(server.url, on_delivery=lambda report: None, strategy=AckStrategy.TASK_PER_MESSAGE)
        for n in range(500):
            await bus.publish(f"end.{n}")
        bus.publish_nowait("another.topic")
        report = await bus.close(timeout_s=timeout_s)
        assert report.accepted == report.acked + report.rejected + report.unknown == 501
        assert tasks_besides(before) == []
        await eventually(sockets_gone(sockets), "its socket is closed")


async def test_connect_cancelled_while_the_server_says_nothing() -> None:
    """A peer that takes the connection and stays silent holds nobody up."""
    before, sockets = asyncio.all_tasks(), open_sockets()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        connecting = asyncio.ensure_future(_connect(f"nats://127.0.0.1:{listener.getsockname()[1]}"))
        await eventually(lambda: open_sockets() > sockets + 1, "it is connected")
        began = time.monotonic()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert time.monotonic() - began < 1.5
        assert tasks_besides(before) == []
    await eventually(sockets_gone(sockets), "its socket is closed")


@pytest.mark.parametrize("progress", ["at once", "server there"])
async def test_cancelled_connect_ends_its_embedded_server(
    progress: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An embedded server that was started for a connect goes with it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before, sockets = asyncio.all_tasks(), open_sockets()
    connecting = asyncio.ensure_future(_connect("embedded+nats://", topics=[TopicConfig("cut.>")]))
    await asyncio.sleep(0)
    if progress == "server there":
        await eventually(lambda: any(tmp_path.glob("*/nats-server_*.ports")), "the server is ready")
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    await eventually(lambda: not any(tmp_path.iterdir()), "server and directory are gone")
    assert tasks_besides(before) == []
    await eventually(sockets_gone(sockets), "no socket is left")


async def test_embedded_bus_ends_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of ``embedded+nats://`` lives exactly as long as its bus."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with eventbus.connect("embedded+nats://") as bus:
        assert (await (await bus.publish("home.x"))).outcome is ACKED
        url = bus.url
        assert os.listdir(tmp_path) != []
    assert os.listdir(tmp_path) == []
    with pytest.raises(ConnectFailed):
        await eventbus.connect(url, connection=ConnectionConfig(connect_timeout_s=0.2))


async def _connect(url: str, topics: list[TopicConfig] | None = None) -> eventbus.EventBus:
    return await eventbus.connect(url, topics=topics or [])


# ---- what an administrator should know -----------------------------------------------------------------------------


async def test_interest_stream_without_consumers_acks_and_stores_nothing(server: EmbeddedNats) -> None:
    """JetStream's own rule, pinned: with interest retention and no consumer an ack does not mean that it is kept."""
    await add_stream(server.url, StreamConfig(name="HEARD", subjects=["heard.>"], retention=RetentionPolicy.INTEREST))
    async with eventbus.connect(server.url) as bus:
        assert (await (await bus.publish("heard.x"))).outcome is ACKED
    assert await read_back(server.url, "HEARD") == []
