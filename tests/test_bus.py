"""The public contract, on ``memory://``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

import eventbus
import eventbus.routing
from eventbus import (
    AckOutcome,
    AckStrategy,
    BusClosed,
    ConfigError,
    DeliveryReport,
    ErrorClass,
    ErrorKind,
    EventBus,
    FlushTimeout,
    InvalidMessage,
    RetryPolicy,
    StallTimeout,
    TopicConfig,
    TopicError,
    WindowConfig,
    WindowFull,
)
from eventbus.ports import AckBatch, Failure, Route
from eventbus.publishers.memory import MemoryPublisher
from tests.fakes import Recorder, until

ONE = WindowConfig(max_pending=1)
NO_RETRY = RetryPolicy(max_attempts=1)
QUICK = RetryPolicy(max_attempts=3, base_delay_s=0.001, max_delay_s=0.002)


class Buses:
    """Opens buses and closes them at the end of the test."""

    def __init__(self) -> None:
        self._opened: list[EventBus] = []

    async def __call__(self, **settings: Any) -> tuple[EventBus, MemoryPublisher]:
        bus = await eventbus.connect("memory://", **settings)
        self._opened.append(bus)
        publisher = bus._publisher
        assert isinstance(publisher, MemoryPublisher)
        return bus, publisher

    async def close(self) -> None:
        for bus in self._opened:
            report = await bus.close(0.2)
            assert report.accepted == report.acked + report.rejected + report.unknown
            assert bus.snapshot().pending == bus.snapshot().pending_bytes == 0


@pytest.fixture
async def connect() -> AsyncIterator[Buses]:
    buses = Buses()
    yield buses
    await buses.close()


def ack_of(log: str, token: int, offset: int) -> AckBatch:
    return AckBatch(log, [token], [offset])


def balanced(bus: EventBus) -> bool:
    s = bus.snapshot()
    return s.accepted == s.acked + s.rejected + s.unknown + s.pending


# ---- publish ---------------------------------------------------------------------------------------------------


async def test_message_and_its_report(connect: Buses):
    """Stored byte for byte; the report says where, after how many attempts, how long."""
    bus, publisher = await connect()
    receipt = await bus.publish("orders.created", b"\0\xff", headers={"a": "b"}, message_id="mine")
    assert receipt.message_id == "mine"
    report = await receipt
    assert receipt.settled
    assert receipt.report == report == await receipt
    assert (report.outcome, report.attempts, report.duplicate, report.late) == (AckOutcome.ACKED, 1, False, False)
    assert str(report.position) == "ORDERS@1"
    assert report.error_kind is None
    assert report.ack_latency_s is not None
    assert report.ack_latency_s >= 0
    (stored,) = publisher.streams["ORDERS"].messages
    assert (stored.payload, stored.headers, stored.message_id) == (b"\0\xff", {"a": "b"}, "mine")


async def test_message_ids_are_made(connect: Buses):
    """Different for every message and every bus."""
    one, _ = await connect()
    other, _ = await connect()
    ids = {(await bus.publish("a")).message_id for bus in (one, other) for _ in range(50)}
    assert len(ids) == 100


async def test_same_message_id_twice(connect: Buses):
    """ACKED both times, stored once, and told as a duplicate."""
    bus, publisher = await connect()
    first = await (await bus.publish("a", b"1", message_id="x"))
    second = await (await bus.publish("a", b"1", message_id="x"))
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.position == second.position
    assert second.outcome is AckOutcome.ACKED
    assert len(publisher.streams["A"].messages) == 1
    assert (bus.snapshot().acked, bus.snapshot().duplicates) == (2, 1)


async def test_ten_thousand_messages(connect: Buses):
    """Far more than the window holds: all acked, in the order of publishing."""
    bus, publisher = await connect(window=WindowConfig(max_pending=100))
    for n in range(10_000):
        await bus.publish("a", b"%d" % n)
        assert bus.snapshot().pending <= 100 if n % 500 == 0 else True
    await bus.flush()
    assert bus.snapshot().acked == 10_000
    assert [m.payload for m in publisher.streams["A"].messages] == [b"%d" % n for n in range(10_000)]


async def test_wrong_messages(connect: Buses):
    """InvalidMessage before anything is accepted; the bus goes on."""
    bus, _ = await connect()
    for arguments in (
        {"topic": ""},
        {"topic": "a", "payload": "x"},
        {"topic": "a", "payload": b"x" * (1 << 20) + b"x"},
    ):
        with pytest.raises(InvalidMessage):
            await bus.publish(**arguments)
        with pytest.raises(InvalidMessage):
            bus.publish_nowait(**arguments)
    assert bus.snapshot().accepted == 0
    assert (await (await bus.publish("a"))).outcome is AckOutcome.ACKED


async def test_topics_that_cannot_be(connect: Buses):
    """InvalidMessage, also with a wildcard: one publishes to one topic."""
    bus, _ = await connect()
    for topic in ("a b", "a..b", "a.", "a.*", "a.>", ">"):
        with pytest.raises(InvalidMessage, match="topic"):
            await bus.publish(topic)


async def test_refused_message_makes_no_stream(connect: Buses):
    """A message is checked before its topic is prepared."""
    bus, publisher = await connect()
    with pytest.raises(InvalidMessage):
        await bus.publish("fresh.topic", b"x" * (2 << 20))
    await (await bus.publish("other"))
    assert list(publisher.streams) == ["OTHER"]


@pytest.mark.parametrize("timeout_s", [0, -1.0, float("nan"), float("inf")])
async def test_ack_timeout_that_cannot_be(connect: Buses, timeout_s: float):
    """ConfigError; nothing was accepted."""
    bus, _ = await connect()
    with pytest.raises(ConfigError, match="ack_timeout_s"):
        await bus.publish("a", ack_timeout_s=timeout_s)
    with pytest.raises(ConfigError, match="ack_timeout_s"):
        eventbus.connect("memory://", ack_timeout_s=timeout_s)
    assert bus.snapshot().accepted == 0


async def test_message_larger_than_the_window(connect: Buses):
    """It could never be admitted: refused at once."""
    bus, _ = await connect(window=WindowConfig(max_pending_bytes=10))
    with pytest.raises(InvalidMessage, match="max_pending_bytes"):
        await bus.publish("a", b"x" * 11)
    with pytest.raises(InvalidMessage, match="max_pending_bytes"):
        await bus.publish("a", b"x" * 5, headers={"name": "value"})


async def test_full_window(connect: Buses):
    """publish_nowait raises WindowFull, which says how full; publish waits."""
    bus, publisher = await connect(window=WindowConfig(max_pending=2))
    publisher.drop_acks = True
    first = bus.publish_nowait("a", b"xyz")
    bus.publish_nowait("a", b"xyz")
    with pytest.raises(WindowFull, match=r"2 of 2 messages and 6 of \d+ bytes are pending"):
        bus.publish_nowait("a")
    waiting = asyncio.create_task(bus.publish("a", b"third"))
    await until(lambda: bus.snapshot().waiting_publishers == 1)
    with pytest.raises(WindowFull, match=r"1 \w+ wait"):
        bus.publish_nowait("a")
    assert not waiting.done()
    publisher.disconnect()
    publisher.drop_acks = False
    publisher.reconnect()
    assert (await (await waiting)).outcome is AckOutcome.ACKED
    assert (await first).duplicate
    await bus.flush()
    snapshot = bus.snapshot()
    assert (snapshot.accepted, snapshot.acked, snapshot.waiting_publishers) == (3, 3, 0)
    assert snapshot.stalled_s_total > 0


async def test_cancelled_wait_for_room(connect: Buses):
    """Nothing was published, and the place is given back."""
    bus, publisher = await connect(window=ONE)
    publisher.drop_acks = True
    await bus.publish("a", b"1")
    cancelled, waiting = (asyncio.create_task(bus.publish("a", payload)) for payload in (b"2", b"3"))
    await until(lambda: bus.snapshot().waiting_publishers == 2)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    assert cancelled.cancelled()
    publisher.disconnect()
    publisher.drop_acks = False
    publisher.reconnect()
    await (await waiting)
    assert [m.payload for m in publisher.streams["A"].messages] == [b"1", b"3"]
    assert bus.snapshot().accepted == 2


async def test_cancelled_await(connect: Buses):
    """Only the waiter is detached; others still hear, and the message comes to its end."""
    bus, publisher = await connect()
    publisher.disconnect()
    receipt = await bus.publish("a")

    async def wait() -> DeliveryReport:
        return await receipt

    one, other = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.wait([one])
    assert one.cancelled()
    assert not receipt.settled
    publisher.reconnect()
    assert (await other).outcome is AckOutcome.ACKED
    assert await receipt == await other


async def test_stall_timeout(connect: Buses):
    """StallTimeout after the time that was set; nothing was accepted."""
    bus, publisher = await connect(window=WindowConfig(max_pending=1, stall_timeout_s=0.05))
    publisher.drop_acks = True
    await bus.publish("a")
    began = time.monotonic()
    with pytest.raises(StallTimeout, match="nothing was accepted"):
        await bus.publish("a")
    assert 0.045 <= time.monotonic() - began < 2.0
    assert bus.snapshot().accepted == 1
    assert bus.snapshot().waiting_publishers == 0


# ---- failures --------------------------------------------------------------------------------------------------


async def test_refused_for_good(connect: Buses):
    """REJECTED, told by the report and not raised; the exception is there for who wants it."""
    bus, publisher = await connect()
    publisher.refuse_with = Failure(ErrorClass.FATAL, ErrorKind.PERMISSION, "may not")
    report = await (await bus.publish("a"))
    assert (report.outcome, report.error_kind, report.error_text) == (
        AckOutcome.REJECTED,
        ErrorKind.PERMISSION,
        "may not",
    )
    with pytest.raises(eventbus.PublishRejected):
        report.raise_for_outcome()
    assert bus.snapshot().errors == {"permission": 1}
    assert not publisher.streams["A"].messages


async def test_refused_at_first(connect: Buses):
    """Tried again with the same id; what went wrong before stays in the report."""
    bus, publisher = await connect(retry=RetryPolicy(max_attempts=50, base_delay_s=0.001, max_delay_s=0.002))
    publisher.refuse_with = Failure(ErrorClass.TRANSIENT, ErrorKind.OVERLOADED, "busy")
    receipt = await bus.publish("a")
    await until(lambda: bus.snapshot().retries >= 2)
    publisher.refuse_with = None
    report = await receipt
    assert report.outcome is AckOutcome.ACKED
    assert report.attempts >= 3
    assert report.error_kind is ErrorKind.OVERLOADED
    assert not report.duplicate
    assert len(publisher.streams["A"].messages) == 1


async def test_refused_each_time(connect: Buses):
    """After max_attempts: REJECTED, since none of them can have been stored."""
    bus, publisher = await connect(retry=QUICK)
    publisher.refuse_with = Failure(ErrorClass.TRANSIENT, ErrorKind.OVERLOADED, "busy")
    report = await (await bus.publish("a"))
    assert (report.outcome, report.attempts) == (AckOutcome.REJECTED, 3)
    assert bus.snapshot().errors == {"overloaded": 3}


async def test_no_ack_at_all(connect: Buses):
    """UNKNOWN after all attempts: stored once, since the broker knows the id."""
    bus, publisher = await connect(retry=QUICK, ack_timeout_s=0.1)
    publisher.drop_acks = True
    report = await (await bus.publish("a"))
    assert (report.outcome, report.attempts, report.error_kind) == (AckOutcome.UNKNOWN, 3, ErrorKind.TIMEOUT)
    assert len(publisher.streams["A"].messages) == 1
    assert bus.snapshot().ack_timeouts == 3
    assert balanced(bus)


async def test_nobody_takes_the_topic_for_a_moment(connect: Buses):
    """The stream is looked up again, and the message goes out by the route that was found."""
    bus, publisher = await connect(retry=RetryPolicy(max_attempts=4, base_delay_s=0.01, max_delay_s=0.01))
    await (await bus.publish("a.b"))
    publisher.refuse_with = Failure(ErrorClass.TRANSIENT, ErrorKind.NO_RESPONDERS, "nobody", min_delay_s=0.01)
    receipts = [await bus.publish("a.b") for _ in range(3)]
    await until(lambda: bus.snapshot().errors.get("no_responders", 0) >= 3)
    publisher.refuse_with = None
    reports = [await receipt for receipt in receipts]
    assert all(report.outcome is AckOutcome.ACKED and report.attempts >= 2 for report in reports)


async def test_stream_deleted_meanwhile(connect: Buses):
    """It is made again where that is allowed."""
    bus, publisher = await connect(retry=RetryPolicy(max_attempts=4, base_delay_s=0.01, max_delay_s=0.01))
    await (await bus.publish("a.b", b"before"))
    publisher.refuse_with = Failure(ErrorClass.TRANSIENT, ErrorKind.NO_RESPONDERS, "nobody", min_delay_s=0.01)
    del publisher.streams["A"]
    receipt = await bus.publish("a.b", b"after")
    await until(lambda: "A" in publisher.streams)
    publisher.refuse_with = None
    assert (await receipt).outcome is AckOutcome.ACKED
    assert [m.payload for m in publisher.streams["A"].messages] == [b"after"]


async def test_doubt_is_sticky(connect: Buses):
    """A refusal after an attempt without an answer says nothing of the first copy: UNKNOWN, not REJECTED."""
    bus, publisher = await connect(retry=RetryPolicy(max_attempts=5, base_delay_s=0.0, max_delay_s=0.0))
    publisher.drop_acks = True
    receipt = await bus.publish("a")
    await until(lambda: publisher.streams.get("A") and publisher.streams["A"].messages)
    publisher.disconnect()
    publisher.refuse_with = Failure(ErrorClass.FATAL, ErrorKind.CONFLICT, "no")
    publisher.reconnect()
    report = await receipt
    assert (report.outcome, report.error_kind) == (AckOutcome.UNKNOWN, ErrorKind.CONFLICT)
    assert len(publisher.streams["A"].messages) == 1


async def test_ack_clears_doubt(connect: Buses):
    """A lost connection, then an ack of the second copy: ACKED, as the duplicate that it is."""
    bus, publisher = await connect(retry=QUICK)
    publisher.drop_acks = True
    receipt = await bus.publish("a")
    await until(lambda: publisher.streams.get("A") and publisher.streams["A"].messages)
    publisher.disconnect()
    publisher.drop_acks = False
    publisher.reconnect()
    report = await receipt
    assert (report.outcome, report.duplicate, report.attempts) == (AckOutcome.ACKED, True, 2)
    assert report.error_kind is ErrorKind.DISCONNECTED


async def test_late_ack(connect: Buses):
    """It turns unknown into acked: in the counts, in the receipt, and for observers as a second report."""
    observer = Recorder(every_outcome=False)
    bus, publisher = await connect(retry=NO_RETRY, ack_timeout_s=0.01, observers=[observer])
    publisher.drop_acks = True
    receipt = await bus.publish("a", message_id="x")
    assert (await receipt).outcome is AckOutcome.UNKNOWN
    assert (bus.snapshot().unknown, bus.snapshot().late_acks) == (1, 0)
    ack = ack_of("A", 1, 7)
    bus._handler.replied([ack])
    bus._handler.replied([ack])
    snapshot = bus.snapshot()
    assert (snapshot.acked, snapshot.unknown, snapshot.late_acks) == (1, 0, 1)
    report = await receipt
    assert (report.outcome, report.late, str(report.position)) == (AckOutcome.ACKED, True, "A@7")
    assert [r.outcome for r in observer.reports] == [AckOutcome.UNKNOWN, AckOutcome.ACKED]
    assert balanced(bus)


async def test_published_while_disconnected(connect: Buses):
    """Held, sent after the reconnect, in the order of publishing."""
    bus, publisher = await connect()
    await (await bus.publish("a", b"0"))
    publisher.disconnect()
    receipts = [await bus.publish("a", b"%d" % n) for n in range(1, 6)]
    assert bus.snapshot().pending == 5
    assert bus.snapshot().connection is eventbus.ConnectionState.RECONNECTING
    publisher.reconnect()
    reports = [await receipt for receipt in receipts]
    assert all(r.outcome is AckOutcome.ACKED and r.attempts == 1 for r in reports)
    assert [m.payload for m in publisher.streams["A"].messages] == [b"%d" % n for n in range(6)]


async def test_never_connected_again(connect: Buses):
    """After its lifetime a message that was never sent is REJECTED: it is certainly not stored."""
    bus, publisher = await connect(retry=NO_RETRY, ack_timeout_s=0.02)
    publisher.disconnect()
    report = await (await bus.publish("a"))
    assert (report.outcome, report.attempts, report.queued_s) == (AckOutcome.REJECTED, 0, None)


# ---- topics ----------------------------------------------------------------------------------------------------


async def test_topic_that_may_not_be_made(connect: Buses):
    """Configured: connect fails. Not configured, it is made after its first token."""
    with pytest.raises(TopicError, match="create=False"):
        await eventbus.connect("memory://", topics=[TopicConfig("a.b", create=False)])
    bus, publisher = await connect()
    await (await bus.publish("a.b"))
    assert publisher.streams["A"].subjects == ("a", "a.>")


async def test_many_topics_of_one_stream(connect: Buses):
    """One preparation serves them all."""
    bus, publisher = await connect(topics=[TopicConfig("orders.>", stream="O")])
    for n in range(100):
        await bus.publish(f"orders.{n}.x")
    await bus.flush()
    assert list(publisher.streams) == ["O"]
    assert bus.snapshot().acked == 100


@pytest.mark.parametrize("name", ["orders.>", "orders.*"])
async def test_publish_to_a_configured_pattern(connect: Buses, name: str):
    """It stands for topics and is none itself."""
    bus, publisher = await connect(topics=[TopicConfig(name)])
    for payload in (b"", b"x" * 100_000):
        with pytest.raises(InvalidMessage, match="wildcard"):
            await bus.publish(name, payload)
    assert (await (await bus.publish("orders.a"))).outcome is AckOutcome.ACKED
    assert len(publisher.streams["ORDERS"].messages) == 1


async def test_more_new_topics_than_are_cached(connect: Buses, monkeypatch: pytest.MonkeyPatch):
    """Each is prepared once all the same, and no message is forgotten."""
    monkeypatch.setattr(eventbus.routing, "_CACHED_NAMES", 2)
    bus, publisher = await connect(ack_timeout_s=0.5, retry=NO_RETRY)
    gate, asked, prepare = asyncio.Event(), [], publisher.prepare

    async def slowly(name: str, config: TopicConfig | None) -> Route:
        asked.append(name)
        await gate.wait()
        return await prepare(name, config)

    monkeypatch.setattr(publisher, "prepare", slowly)
    receipts = [await bus.publish(name) for name in "abcabca"]
    gate.set()
    assert all([(await receipt).outcome is AckOutcome.ACKED for receipt in receipts])
    assert sorted(asked) == ["a", "b", "c"]


async def test_preparation_that_fails_in_an_unforeseen_way(connect: Buses, monkeypatch: pytest.MonkeyPatch):
    """The next publish asks again."""
    bus, publisher = await connect(ack_timeout_s=0.02, retry=NO_RETRY)
    prepare = publisher.prepare

    async def fails(name: str, config: TopicConfig | None) -> Route:
        raise OSError("unforeseen")

    unseen: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
    monkeypatch.setattr(publisher, "prepare", fails)
    assert (await (await bus.publish("a"))).outcome is AckOutcome.REJECTED
    monkeypatch.setattr(publisher, "prepare", prepare)
    assert (await (await bus.publish("a"))).outcome is AckOutcome.ACKED


async def test_topic_configured_twice():
    """ConfigError names it."""
    with pytest.raises(ConfigError, match="'a' is configured 2 times"):
        await eventbus.connect("memory://", topics=[TopicConfig("a"), TopicConfig("a", durable=False)])


async def test_own_ack_timeouts(connect: Buses):
    """The message's beats the topic's, which beats the bus's."""
    bus, publisher = await connect(topics=[TopicConfig("a", ack_timeout_s=0.01)], retry=NO_RETRY, ack_timeout_s=60)
    publisher.drop_acks = True
    slow, quick = await bus.publish("b"), await bus.publish("a")
    quickest = await bus.publish("b", ack_timeout_s=0.01)
    assert (await quick).error_kind is (await quickest).error_kind is ErrorKind.TIMEOUT
    assert not slow.settled


# ---- sends without acks ----------------------------------------------------------------------------------------


async def test_acks_ignored(connect: Buses, caplog: pytest.LogCaptureFixture):
    """Warned of once; counted as unacknowledged and never as acked."""
    bus, _ = await connect(strategy=AckStrategy.IGNORE)
    assert caplog.text.count("acks are ignored") == 1
    for _ in range(3):
        report = await (await bus.publish("a"))
        assert (report.outcome, report.error_kind) == (AckOutcome.UNKNOWN, ErrorKind.UNACKNOWLEDGED)
    bus.publish_nowait("a")
    await bus.flush()
    snapshot = bus.snapshot()
    assert (snapshot.unacknowledged, snapshot.accepted, snapshot.acked, snapshot.pending) == (4, 0, 0, 0)
    close = await bus.close()
    assert (close.unacknowledged, close.accepted) == (4, 0)


async def test_topic_that_is_not_durable(connect: Buses):
    """Core publish beside durable topics; only the latter have acks."""
    bus, publisher = await connect(topics=[TopicConfig("ticks", durable=False)])
    await bus.publish("ticks", b"1")
    await bus.publish("orders", b"2")
    await bus.flush()
    assert [m.payload for m in publisher.core_messages] == [b"1"]
    snapshot = bus.snapshot()
    assert (snapshot.unacknowledged, snapshot.accepted, snapshot.acked) == (1, 1, 1)


async def test_unacknowledged_send_without_a_connection(connect: Buses):
    """It certainly is not sent: REJECTED, and the accounts balance."""
    observer = Recorder(every_outcome=False)
    bus, publisher = await connect(topics=[TopicConfig("ticks", durable=False)], observers=[observer])
    publisher.disconnect()
    report = await (await bus.publish("ticks"))
    assert (report.outcome, report.attempts) == (AckOutcome.REJECTED, 0)
    assert observer.reports == [report], "whoever looks is told of it as of any other end"
    assert bus.snapshot().unacknowledged == 0
    assert balanced(bus)


@pytest.mark.parametrize("strategy", [AckStrategy.UNIFIED, AckStrategy.TASK_PER_MESSAGE, AckStrategy.WAIT_EACH])
async def test_strategies_with_acks(connect: Buses, strategy: AckStrategy):
    """The same outcomes behind the same publish; WAIT_EACH returns with the report there."""
    bus, _ = await connect(strategy=strategy)
    receipts = [await bus.publish("a") for _ in range(20)]
    if strategy is AckStrategy.WAIT_EACH:
        assert all(receipt.settled for receipt in receipts)
        with pytest.raises(ConfigError, match="publish_nowait"):
            bus.publish_nowait("a")
    else:
        bus.publish_nowait("a")
    await bus.flush()
    assert bus.snapshot().acked == bus.snapshot().accepted >= 20


# ---- callbacks and observers -----------------------------------------------------------------------------------


async def test_callbacks(connect: Buses):
    """on_delivery hears every report once, on_error those that are not ACKED."""
    heard: list[DeliveryReport] = []
    errors: list[DeliveryReport] = []
    bus, publisher = await connect(on_delivery=heard.append, on_error=errors.append)
    await (await bus.publish("a", message_id="good"))
    publisher.refuse_with = Failure(ErrorClass.FATAL, ErrorKind.INVALID, "no")
    await (await bus.publish("a", message_id="bad"))
    await bus.close()
    assert [r.message_id for r in heard] == ["good", "bad"]
    assert [r.message_id for r in errors] == ["bad"]


async def test_callback_that_raises(connect: Buses):
    """Counted; acks and the other messages go on."""

    def raises(report: DeliveryReport) -> None:
        raise ValueError("of the application")

    bus, _ = await connect(on_delivery=raises)
    logging.getLogger("eventbus").disabled = False
    receipts = [await bus.publish("a") for _ in range(5)]
    assert all([(await r).outcome is AckOutcome.ACKED for r in receipts])
    await until(lambda: bus.snapshot().callback_errors == 5)


async def test_callback_that_publishes(connect: Buses):
    """Also with a window of one: it waits for room, never for itself."""
    chain: list[str] = []

    async def publish_next(report: DeliveryReport) -> None:
        chain.append(report.topic)
        if len(chain) < 10:
            await bus.publish(f"a.{len(chain)}")

    bus, _ = await connect(on_delivery=publish_next, window=ONE)
    await bus.publish("a.0")
    await until(lambda: len(chain) == 10)
    assert chain == [f"a.{n}" for n in range(10)]


async def test_slow_callbacks_hold_publishers_back(connect: Buses):
    """A whole window of untold reports is full: bounded memory; publish waits and then goes on."""
    gate, heard = asyncio.Event(), []

    async def waits(report: DeliveryReport) -> None:
        await gate.wait()
        heard.append(report)

    bus, _ = await connect(on_delivery=waits, window=WindowConfig(max_pending=3))
    for _ in range(4):
        await (await bus.publish("a"))
    with pytest.raises(WindowFull, match="callbacks are behind"):
        bus.publish_nowait("a")
    waiting = asyncio.create_task(bus.publish("a"))
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    await (await asyncio.wait_for(waiting, 2.0))
    await until(lambda: len(heard) == 5)


async def test_new_topic_while_callbacks_are_behind(connect: Buses):
    """Its preparation ends while the publish waits: it goes out by the route that was made."""
    gate = asyncio.Event()

    async def waits(report: DeliveryReport) -> None:
        await gate.wait()

    bus, publisher = await connect(
        on_delivery=waits, window=WindowConfig(max_pending=2), ack_timeout_s=0.5, retry=NO_RETRY
    )
    for _ in range(3):
        await (await bus.publish("a"))
    waiting = asyncio.create_task(bus.publish("fresh"))
    await until(lambda: "FRESH" in publisher.streams)
    gate.set()
    assert (await (await waiting)).outcome is AckOutcome.ACKED


async def test_slow_callbacks_and_a_stall_timeout(connect: Buses):
    """The wait for callbacks is bounded by the same setting."""
    gate = asyncio.Event()

    async def waits(report: DeliveryReport) -> None:
        await gate.wait()

    bus, _ = await connect(on_delivery=waits, window=WindowConfig(max_pending=1, stall_timeout_s=0.03))
    for _ in range(2):
        await (await bus.publish("a"))
    with pytest.raises(StallTimeout, match="callbacks"):
        await bus.publish("a")
    gate.set()


async def test_observer_that_publishes_in_the_ack_path(connect: Buses):
    """Reentrance does no harm."""

    class Echo(Recorder):
        def settled(self, reports: Any) -> None:
            super().settled(reports)
            for report in reports:
                if report.topic == "a":
                    bus.publish_nowait("echo", report.message_id.encode())

    observer = Echo()
    bus, publisher = await connect(observers=[observer])
    for _ in range(10):
        await bus.publish("a")
    await until(lambda: len(observer.reports) == 20)
    assert len(publisher.streams["ECHO"].messages) == 10
    assert balanced(bus)


# ---- flush and close -------------------------------------------------------------------------------------------


async def test_flush_of_nothing(connect: Buses):
    """Returns at once, also with no time at all."""
    bus, _ = await connect()
    await bus.flush(timeout_s=0)


async def test_flush_waits_for_what_was_accepted_before(connect: Buses):
    """And not for what comes after it."""
    bus, publisher = await connect()
    publisher.disconnect()
    receipts = [await bus.publish("a") for _ in range(3)]
    flushing = asyncio.create_task(bus.flush())
    await asyncio.sleep(0)
    publisher.reconnect()
    await until(lambda: all(r.settled for r in receipts))
    publisher.drop_acks = True
    await bus.publish("a")
    await asyncio.wait_for(flushing, 2.0)
    assert bus.snapshot().pending == 1


async def test_flush_that_takes_too_long(connect: Buses):
    """FlushTimeout, a TimeoutError, says how many; they stay in the ledger."""
    bus, publisher = await connect()
    publisher.drop_acks = True
    for _ in range(3):
        await bus.publish("a")
    with pytest.raises(FlushTimeout, match=r"3 messages still pending after 0.01 s") as caught:
        await bus.flush(timeout_s=0.01)
    assert isinstance(caught.value, TimeoutError)
    assert bus.snapshot().pending == 3


async def test_cancelled_flush(connect: Buses):
    """Only the waiting stops."""
    bus, publisher = await connect()
    publisher.disconnect()
    receipt = await bus.publish("a")
    flushing = asyncio.create_task(bus.flush())
    await asyncio.sleep(0)
    flushing.cancel()
    await asyncio.wait([flushing])
    assert flushing.cancelled()
    publisher.reconnect()
    await receipt
    await bus.flush()


async def test_close(connect: Buses):
    """Waits for what is pending, reports, and takes no more."""
    bus, _ = await connect()
    receipts = [await bus.publish("a") for _ in range(10)]
    report = await bus.close()
    assert (report.accepted, report.acked, report.clean, report.timed_out) == (10, 10, True, False)
    assert all(receipt.settled for receipt in receipts)
    for _ in range(2):
        with pytest.raises(BusClosed):
            await bus.publish("a")
        with pytest.raises(BusClosed):
            bus.publish_nowait("a")
    await bus.flush()
    assert bus.snapshot().accepted == 10


async def test_close_twice_and_at_once(connect: Buses):
    """Every call gets the one report."""
    bus, _ = await connect()
    await bus.publish("a")
    first, second = await asyncio.gather(bus.close(), bus.close(0.0))
    assert first is second is await bus.close(5.0)


async def test_close_with_a_dead_broker(connect: Buses):
    """Ends within its timeout with everything settled: sent ones UNKNOWN, others REJECTED."""
    bus, publisher = await connect()
    publisher.drop_acks = True
    sent = [await bus.publish("a") for _ in range(3)]
    await until(lambda: publisher.streams.get("A") and len(publisher.streams["A"].messages) == 3)
    publisher.disconnect()
    unsent = [await bus.publish("a") for _ in range(2)]
    began = time.monotonic()
    report = await bus.close(0.2)
    assert time.monotonic() - began < 0.2 + 0.1
    assert report.timed_out
    assert (report.unknown, report.rejected, report.left_unknown, report.left_unsent) == (3, 2, 3, 2)
    assert [(await r).outcome for r in sent] == [AckOutcome.UNKNOWN] * 3
    reports = [await r for r in unsent]
    assert all(r.outcome is AckOutcome.REJECTED and r.error_kind is ErrorKind.CLOSED for r in reports)
    assert await bus.close() is report
    assert bus.snapshot().pending == 0


async def test_close_at_once(connect: Buses):
    """A timeout of 0 leaves nothing pending either."""
    bus, publisher = await connect()
    publisher.drop_acks = True
    await bus.publish("a")
    await until(lambda: bus.snapshot().pending == 1 and bus._routing.find("a").ready)
    report = await bus.close(0.0)
    assert report.accepted == report.acked + report.rejected + report.unknown == 1


@pytest.mark.parametrize("timeout_s", [-0.1, float("nan")])
async def test_close_timeout_that_cannot_be(connect: Buses, timeout_s: float):
    """ConfigError; the bus stays open."""
    bus, _ = await connect()
    with pytest.raises(ConfigError, match="timeout_s of close"):
        await bus.close(timeout_s)
    assert (await (await bus.publish("a"))).outcome is AckOutcome.ACKED


async def test_close_while_others_wait_for_room(connect: Buses):
    """They get BusClosed; nothing of theirs was accepted."""
    bus, publisher = await connect(window=ONE)
    publisher.drop_acks = True
    await bus.publish("a")
    waiting = [asyncio.create_task(bus.publish("a")) for _ in range(3)]
    await until(lambda: bus.snapshot().waiting_publishers == 3)
    report = await bus.close(0.05)
    for task in waiting:
        with pytest.raises(BusClosed):
            await task
    assert report.accepted == 1


async def test_close_while_publishers_wait_for_callbacks(connect: Buses):
    """They get BusClosed too, though the callback hangs; and so does who comes later."""

    async def hangs(report: DeliveryReport) -> None:
        await asyncio.Event().wait()

    bus, _ = await connect(on_delivery=hangs, window=WindowConfig(max_pending=2))
    for _ in range(3):
        await (await bus.publish("a"))
    waiting = asyncio.create_task(bus.publish("a"))
    await asyncio.sleep(0)
    assert not waiting.done()
    await bus.close(0.1)
    with pytest.raises(BusClosed):
        await asyncio.wait_for(waiting, 1.0)
    with pytest.raises(BusClosed):
        bus.publish_nowait("a")


async def test_close_while_publishers_wait_for_a_topic_without_acks(connect: Buses, monkeypatch: pytest.MonkeyPatch):
    """A send without acks waits for its topic; a close ends that."""
    bus, publisher = await connect(strategy=AckStrategy.IGNORE)

    async def never(name: str, config: TopicConfig | None) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(publisher, "prepare", never)
    waiting = asyncio.create_task(bus.publish("a"))
    await asyncio.sleep(0)
    await bus.close(0.1)
    with pytest.raises(BusClosed):
        await asyncio.wait_for(waiting, 1.0)


async def test_new_topic_after_close(connect: Buses):
    """Refused, and nothing is begun for it."""
    bus, publisher = await connect()
    await bus.close()
    before = asyncio.all_tasks()
    with pytest.raises(BusClosed):
        await bus.publish("new.topic")
    assert asyncio.all_tasks() == before
    assert not publisher.streams


async def test_late_ack_while_closing(connect: Buses):
    """The close report stays consistent: what was left unknown is part of unknown."""
    gate = asyncio.Event()

    async def waits(report: DeliveryReport) -> None:
        await gate.wait()

    bus, publisher = await connect(on_delivery=waits)
    publisher.drop_acks = True
    receipt = await bus.publish("a")
    await until(lambda: publisher.streams.get("A") and publisher.streams["A"].messages)
    closing = asyncio.create_task(bus.close(0.3))
    await receipt
    bus._handler.replied([ack_of("A", 1, 1)])
    gate.set()
    report = await closing
    assert (report.acked, report.late_acks, report.unknown, report.left_unknown) == (1, 1, 0, 0)


async def test_cancelled_close(connect: Buses):
    """The waiting stops, the close does not."""
    bus, publisher = await connect()
    publisher.drop_acks = True
    await bus.publish("a")
    closing = asyncio.create_task(bus.close(0.1))
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    with pytest.raises(BusClosed):
        await bus.publish("a")
    report = await bus.close()
    assert (report.accepted, report.unknown) == (1, 1)


async def test_error_inside_the_with_block():
    """The bus is closed, what is pending is settled, and the error goes on."""
    receipts: list[eventbus.Receipt] = []
    buses: list[EventBus] = []

    async def work() -> None:
        async with eventbus.connect("memory://") as bus:
            buses.append(bus)
            receipts.append(await bus.publish("a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
    assert (await receipts[0]).outcome is AckOutcome.ACKED
    with pytest.raises(BusClosed):
        await buses[0].publish("a")


async def test_close_leaves_no_task(connect: Buses):
    """Also with callbacks, tasks per message and topics that are being prepared."""
    before = asyncio.all_tasks()
    for strategy in (AckStrategy.UNIFIED, AckStrategy.TASK_PER_MESSAGE):
        bus, publisher = await connect(strategy=strategy, on_delivery=lambda report: None)
        publisher.drop_acks = True
        for n in range(5):
            await bus.publish(f"t{n}")
        await bus.close(0.05)
    await until(lambda: asyncio.all_tasks() == before)


async def test_conservation_at_every_instant(connect: Buses):
    """accepted == acked + rejected + unknown + pending, whenever one looks, through every kind of trouble."""
    bus, publisher = await connect(
        window=WindowConfig(max_pending=20), retry=QUICK, ack_timeout_s=0.01, observers=[Recorder()]
    )
    looked = 0

    async def look() -> None:
        nonlocal looked
        while True:
            assert balanced(bus)
            assert bus.snapshot().pending <= 20
            looked += 1
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    busy = Failure(ErrorClass.TRANSIENT, ErrorKind.OVERLOADED, "busy")
    for n in range(300):
        publisher.drop_acks = n % 7 == 0
        publisher.refuse_with = busy if n % 11 == 0 else None
        if n % 50 == 0:
            publisher.disconnect()
            publisher.reconnect()
        await bus.publish("a", b"%d" % n)
    publisher.drop_acks, publisher.refuse_with = False, None
    await bus.flush()
    looking.cancel()
    await asyncio.wait([looking])
    assert looking.cancelled()
    assert looked > 10
    snapshot = bus.snapshot()
    assert snapshot.accepted == 300
    payloads = [m.payload for m in publisher.streams["A"].messages]
    assert len(payloads) == len(set(payloads)), "nothing is stored twice"
    assert snapshot.acked <= len(payloads) <= snapshot.acked + snapshot.unknown


async def test_observer_that_publishes_again_when_a_topic_fails(
    connect: Buses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is free again before anybody hears that it failed, so the next publish asks anew."""

    class Again(Recorder):
        def settled(self, reports: Any) -> None:
            super().settled(reports)
            if len(self.reports) == 1:
                bus.publish_nowait("a.b")

    observer = Again()
    bus, publisher = await connect(observers=[observer], ack_timeout_s=0.2, retry=NO_RETRY)

    async def refuse(name: str, config: TopicConfig | None) -> Route:
        raise TopicError("no", error_class=ErrorClass.FATAL, kind=ErrorKind.NO_STREAM)

    monkeypatch.setattr(publisher, "prepare", refuse)
    await bus.publish("a.b")
    await until(lambda: len(observer.reports) == 2)
    assert [report.error_kind for report in observer.reports] == [ErrorKind.NO_STREAM] * 2


async def test_right_to_publish_taken_away_in_mid_run(connect: Buses) -> None:
    """What was sent to a topic that was acked before may be stored, whatever the broker says now: never REJECTED."""
    bus, publisher = await connect(retry=QUICK)
    assert (await (await bus.publish("a.b"))).outcome is AckOutcome.ACKED
    publisher.drop_acks = True
    in_flight = await bus.publish("a.b")
    denied = Failure(ErrorClass.FATAL, ErrorKind.PERMISSION, "denied", topic="a.b")
    bus._handler.replied([denied])
    publisher.refuse_with = Failure(ErrorClass.FATAL, ErrorKind.PERMISSION, "denied")
    assert (await in_flight).outcome is AckOutcome.UNKNOWN
    publisher.refuse_with = None
    afterwards = await bus.publish("a.b")
    bus._handler.replied([denied])
    assert (await afterwards).outcome is AckOutcome.REJECTED


async def test_topic_denied_from_the_start(connect: Buses) -> None:
    """Nothing was ever acked there, so nothing can be stored: REJECTED at once, and other topics are unharmed."""
    bus, publisher = await connect()
    assert (await (await bus.publish("a.b"))).outcome is AckOutcome.ACKED
    publisher.drop_acks = True
    denied, other = await bus.publish("a.c"), await bus.publish("a.b")
    bus._handler.replied([Failure(ErrorClass.FATAL, ErrorKind.PERMISSION, "denied", topic="a.c")])
    assert (await denied).outcome is AckOutcome.REJECTED
    assert not other.settled
