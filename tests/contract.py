"""The contract that every publisher passes, seen through the public bus: one suite, run against each backend.

A backend says by its Capabilities what it can promise, and offers the faults that every broker has: falling silent
and losing the connection. test_contract.py names the backends; another publisher becomes one more class there.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

import pytest

from eventbus import (
    AckOutcome,
    AckStrategy,
    BusClosed,
    ConnectionState,
    DeliveryReport,
    ErrorKind,
    EventBus,
    FlushTimeout,
    InvalidMessage,
    Receipt,
    RetryPolicy,
    StallTimeout,
    TopicConfig,
    WindowConfig,
    WindowFull,
)
from eventbus.ports import Capabilities
from tests.nats_tools import Stored, assert_conserved, eventually

ACKED, REJECTED, UNKNOWN = AckOutcome.ACKED, AckOutcome.REJECTED, AckOutcome.UNKNOWN
TOPIC = "demo.x"
QUICK = RetryPolicy(max_attempts=2, base_delay_s=0.01, max_delay_s=0.01)
"""Two attempts in a row, for tests in which nobody will answer."""


class Backend(Protocol):
    """A broker to test with. One bus at a time; its topics are ``demo.>`` (durable) and ``core.>`` (not)."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def subjects(self) -> int:
        """How many subjects one burst may touch for the first time: cheap in one stream, dear where each is a log."""

    async def connect(self, **settings: Any) -> EventBus:
        """A bus with these settings of ``eventbus.connect``."""

    async def stored(self) -> list[Stored]:
        """What the broker keeps of ``demo.>``, oldest first; where each topic is a log, one topic after the other."""

    async def fall_silent(self) -> None:
        """From now on nothing is answered; what is sent may be stored."""

    async def speak_again(self) -> None:
        """The opposite."""

    async def disconnect(self) -> None:
        """The connection is lost, and cannot be had again."""

    async def reconnect(self) -> None:
        """It can be had again; the bus finds it by itself."""


def payloads(stored: list[Stored]) -> list[bytes]:
    return [message.payload for message in stored]


async def publish_many(bus: EventBus, number: int, **settings: Any) -> list[Receipt]:
    return [await bus.publish(TOPIC, b"%d" % n, **settings) for n in range(number)]


async def outcomes(receipts: list[Receipt]) -> set[AckOutcome]:
    return {(await receipt).outcome for receipt in receipts}


class PublisherContract:
    """Subclass it, name the subclass Test..., and give it a ``backend`` fixture."""

    # ---- a broker that works ---------------------------------------------------------------------------------------

    async def test_one_message(self, backend: Backend) -> None:
        """ACKED, stored once as given, and the report says where."""
        async with await backend.connect() as bus:
            receipt = await bus.publish(TOPIC, b"one")
            report = await receipt
            assert (report.outcome, report.duplicate, report.late, report.attempts) == (ACKED, False, False, 1)
            assert (report.topic, report.message_id) == (TOPIC, receipt.message_id)
            assert report.error_kind is None
            assert report.queued_s is not None
            assert report.queued_s >= 0
            assert report.ack_latency_s is not None
            assert report.ack_latency_s > 0
            report.raise_for_outcome()
            assert await receipt is not None  # awaiting again tells the same
            (message,) = await backend.stored()
            assert (message.topic, message.payload) == (TOPIC, b"one")
            assert message.message_id == (report.message_id if backend.capabilities.keeps_made_ids else None)
            if backend.capabilities.reports_position:
                assert report.position is not None
                assert report.position.offset == message.offset

    async def test_many_messages(self, backend: Backend) -> None:
        """More than the window holds: all acked, stored once each and in order, conserved at every instant."""
        async with await backend.connect(window=WindowConfig(max_pending=100)) as bus:
            receipts = []
            for n in range(5_000):
                receipts.append(await bus.publish(TOPIC, b"%d" % n))
                if n % 100 == 0:
                    assert_conserved(bus.snapshot())
            await bus.flush()
            assert await outcomes(receipts) == {ACKED}
            snapshot = bus.snapshot()
            assert_conserved(snapshot)
            assert (snapshot.accepted, snapshot.acked, snapshot.pending, snapshot.pending_bytes) == (5_000, 5_000, 0, 0)
            assert snapshot.latency.total == 5_000
            assert payloads(await backend.stored()) == [b"%d" % n for n in range(5_000)]

    async def test_headers_id_and_kinds_of_payload(self, backend: Backend) -> None:
        """Headers and id arrive as given; any bytes-like payload is stored; the caller's mapping is not written to."""
        headers = {"Trace-Id": "abc", "Unicode": "Grüße"}
        given = dict(headers)
        async with await backend.connect() as bus:
            await bus.publish(TOPIC, b"bytes", headers=headers, message_id="mine")
            await bus.publish(TOPIC, bytearray(b"bytearray"))
            await bus.publish(TOPIC, memoryview(b"memoryview"))
            await bus.publish(TOPIC)
            await bus.flush()
        stored = await backend.stored()
        assert payloads(stored) == [b"bytes", b"bytearray", b"memoryview", b""]
        assert (stored[0].message_id, stored[0].headers) == ("mine", given)
        assert headers == given
        if backend.capabilities.keeps_made_ids:
            assert len({message.message_id for message in stored}) == 4

    async def test_same_id_twice(self, backend: Backend) -> None:
        """Where the broker deduplicates: ACKED as a duplicate, stored once, at the same place."""
        if not backend.capabilities.deduplicates:
            return
        async with await backend.connect() as bus:
            first = await (await bus.publish(TOPIC, b"1", message_id="m"))
            second = await (await bus.publish(TOPIC, b"2", message_id="m"))
            assert (first.outcome, first.duplicate) == (ACKED, False)
            assert (second.outcome, second.duplicate) == (ACKED, True)
            assert first.position == second.position
            assert (bus.snapshot().acked, bus.snapshot().duplicates) == (2, 1)
        assert payloads(await backend.stored()) == [b"1"]

    async def test_same_id_twice_in_one_burst(self, backend: Backend) -> None:
        """Also where both are on their way at once, each has its own outcome and one copy is stored."""
        if not backend.capabilities.deduplicates:
            return
        async with await backend.connect() as bus:
            receipts = [bus.publish_nowait(TOPIC, message_id="m") for _ in range(20)]
            reports = [await receipt for receipt in receipts]
            assert {report.outcome for report in reports} == {ACKED}
            assert sorted(report.duplicate for report in reports) == [False] + [True] * 19
        assert len(await backend.stored()) == 1

    async def test_what_no_broker_takes(self, backend: Backend) -> None:
        """InvalidMessage before anything is accepted; neighbours are unharmed."""
        async with await backend.connect() as bus:
            before = await publish_many(bus, 10)
            bad: list[tuple[Any, Any, dict[str, Any]]] = [
                ("", b"", {}),
                (TOPIC, "text", {}),
                (TOPIC, None, {}),
                (TOPIC, b"", {"headers": {"a": 1}}),
                (TOPIC, b"", {"headers": ["a"]}),
                (TOPIC, b"", {"message_id": ""}),
                (TOPIC, bytes(50_000_000), {}),
            ]
            for topic, payload, settings in bad:
                with pytest.raises(InvalidMessage):
                    await bus.publish(topic, payload, **settings)
                with pytest.raises(InvalidMessage):
                    bus.publish_nowait(topic, payload, **settings)
            after = await publish_many(bus, 10)
            assert await outcomes([*before, *after]) == {ACKED}
            assert bus.snapshot().accepted == 20

    async def test_many_subjects(self, backend: Backend) -> None:
        """A burst over subjects that were never used before is acked, each under its own name."""
        async with await backend.connect() as bus:
            subjects = [f"demo.{n:03}" for n in range(backend.subjects)]
            receipts = [await bus.publish(subject) for subject in subjects]
            assert await outcomes(receipts) == {ACKED}
        assert [message.topic for message in await backend.stored()] == subjects

    async def test_core_topic(self, backend: Backend) -> None:
        """Without acks nothing is accepted or acked: it is counted as unacknowledged and its outcome is UNKNOWN."""
        if not backend.capabilities.core:
            return
        async with await backend.connect(topics=[TopicConfig("core.>", durable=False)]) as bus:
            for _ in range(100):
                await bus.publish("core.x")
            report = await bus.publish_nowait("core.x")
            await bus.flush()
            assert (report.outcome, report.error_kind) == (UNKNOWN, ErrorKind.UNACKNOWLEDGED)
            snapshot = bus.snapshot()
            assert (snapshot.unacknowledged, snapshot.accepted) == (101, 0)
        assert (await bus.close()).unacknowledged == 101

    @pytest.mark.parametrize("strategy", list(AckStrategy))
    async def test_every_strategy(self, backend: Backend, strategy: AckStrategy) -> None:
        """All store the same; only IGNORE does not know it."""
        async with await backend.connect(strategy=strategy, topics=[TopicConfig("demo.>")]) as bus:
            receipts = await publish_many(bus, 200)
            await bus.flush()
            snapshot = bus.snapshot()
            if strategy is AckStrategy.IGNORE:
                assert (snapshot.unacknowledged, snapshot.acked, snapshot.accepted) == (200, 0, 0)
                assert await outcomes(receipts) == {UNKNOWN}
            else:
                assert (snapshot.unacknowledged, snapshot.acked, snapshot.accepted) == (0, 200, 200)
                assert await outcomes(receipts) == {ACKED}
        if strategy is not AckStrategy.IGNORE or backend.capabilities.system != "memory":
            assert payloads(await backend.stored()) == [b"%d" % n for n in range(200)]

    async def test_callbacks(self, backend: Backend) -> None:
        """Each report is told once, in order of settlement; one that raises is counted and harms nobody."""
        heard: list[DeliveryReport] = []
        failed: list[DeliveryReport] = []

        async def hear(report: DeliveryReport) -> None:
            heard.append(report)
            if report.message_id == "raise":
                raise RuntimeError("a defect of the application")

        async with await backend.connect(on_delivery=hear, on_error=failed.append) as bus:
            ids = ["first", "raise", "last"]
            for message_id in ids:
                await bus.publish(TOPIC, message_id=message_id)
            await bus.flush()
            await eventually(lambda: len(heard) == 3, "the callbacks are called")
            assert bus.snapshot().callback_errors == 1
        assert [report.message_id for report in heard] == ids
        assert failed == []

    # ---- room ------------------------------------------------------------------------------------------------------

    async def test_full_window(self, backend: Backend) -> None:
        """publish_nowait takes what fits and no more; acks make room again."""
        async with await backend.connect(window=WindowConfig(max_pending=10)) as bus:
            receipts = [bus.publish_nowait(TOPIC) for _ in range(10)]
            with pytest.raises(WindowFull, match="10 of 10 messages"):
                bus.publish_nowait(TOPIC)
            assert bus.snapshot().pending == 10
            assert await outcomes(receipts) == {ACKED}
            assert (await bus.publish_nowait(TOPIC)).outcome is ACKED
        assert len(await backend.stored()) == 11

    async def test_window_full_of_bytes(self, backend: Backend) -> None:
        """The bound in bytes holds as well; what can never fit is invalid rather than waiting for ever."""
        async with await backend.connect(window=WindowConfig(max_pending_bytes=1_000)) as bus:
            receipts = [bus.publish_nowait(TOPIC, bytes(400)) for _ in range(2)]
            with pytest.raises(WindowFull):
                bus.publish_nowait(TOPIC, bytes(400))
            with pytest.raises(InvalidMessage, match="max_pending_bytes"):
                await bus.publish(TOPIC, bytes(1_001))
            receipts.append(await bus.publish(TOPIC, bytes(400)))
            assert bus.snapshot().pending_bytes <= 1_000
            assert await outcomes(receipts) == {ACKED}

    async def test_publishers_wait_in_their_order(self, backend: Backend) -> None:
        """First come, first served; a cancelled wait publishes nothing and holds nobody up."""
        window = WindowConfig(max_pending=1)
        async with await backend.connect(window=window, ack_timeout_s=0.5, topics=[TopicConfig("demo.>")]) as bus:
            await backend.fall_silent()
            await bus.publish(TOPIC, b"first")
            waiting = [asyncio.create_task(bus.publish(TOPIC, b"%d" % n)) for n in range(20)]
            await eventually(lambda: bus.snapshot().waiting_publishers == 20, "all wait")
            with pytest.raises(WindowFull):
                bus.publish_nowait(TOPIC)
            for task in waiting[5:10]:
                task.cancel()
            await asyncio.wait(waiting[5:10])
            assert all(task.cancelled() for task in waiting[5:10])
            await backend.speak_again()
            others = [*waiting[:5], *waiting[10:]]
            assert await outcomes([await task for task in others]) == {ACKED}
            assert bus.snapshot().accepted == 16
            assert bus.snapshot().stalled_s_total > 0
        assert payloads(await backend.stored()) == [b"first", *(b"%d" % n for n in (*range(5), *range(10, 20)))]

    async def test_wait_for_room_that_takes_too_long(self, backend: Backend) -> None:
        """StallTimeout, after which nothing was accepted."""
        window = WindowConfig(max_pending=1, stall_timeout_s=0.05)
        async with await backend.connect(window=window, ack_timeout_s=0.5, topics=[TopicConfig("demo.>")]) as bus:
            await backend.fall_silent()
            receipt = await bus.publish(TOPIC)
            with pytest.raises(StallTimeout):
                await bus.publish(TOPIC)
            assert bus.snapshot().accepted == 1
            await backend.speak_again()
            assert (await receipt).outcome is ACKED

    # ---- a broker that is silent -----------------------------------------------------------------------------------

    async def test_no_answer_at_all(self, backend: Backend) -> None:
        """UNKNOWN after the bounded attempts, told to whoever awaits and to on_error; at most one copy is stored."""
        failed: list[DeliveryReport] = []
        async with await backend.connect(
            retry=QUICK, ack_timeout_s=0.1, topics=[TopicConfig("demo.>")], on_error=failed.append
        ) as bus:
            await backend.fall_silent()
            receipts = await publish_many(bus, 20)
            reports = [await receipt for receipt in receipts]
            attempts = 2 if backend.capabilities.deduplicates else 1
            assert {(report.outcome, report.error_kind) for report in reports} == {(UNKNOWN, ErrorKind.TIMEOUT)}
            assert {report.attempts for report in reports} == {attempts}
            snapshot = bus.snapshot()
            assert (snapshot.unknown, snapshot.ack_timeouts, snapshot.pending) == (20, 20 * attempts, 0)
            assert_conserved(snapshot)
            await eventually(lambda: len(failed) == 20, "on_error hears each")
            await backend.speak_again()
            there = payloads(await backend.stored())
            assert len(there) == len(set(there))
            assert set(there) <= {b"%d" % n for n in range(20)}

    async def test_answer_to_a_later_attempt(self, backend: Backend) -> None:
        """A retry under the same id is acked, and one copy is stored."""
        if not backend.capabilities.deduplicates:
            return
        policy = RetryPolicy(max_attempts=10, base_delay_s=0.02, max_delay_s=0.05)
        async with await backend.connect(retry=policy, ack_timeout_s=0.2, topics=[TopicConfig("demo.>")]) as bus:
            await backend.fall_silent()
            receipts = await publish_many(bus, 20)
            await eventually(lambda: bus.snapshot().retries >= 20, "each is sent again")
            assert not any(receipt.settled for receipt in receipts)
            await backend.speak_again()
            reports = [await receipt for receipt in receipts]
            assert {report.outcome for report in reports} == {ACKED}
            assert bus.snapshot().errors["timeout"] == bus.snapshot().ack_timeouts >= 20
        assert sorted(payloads(await backend.stored())) == sorted(b"%d" % n for n in range(20))

    async def test_cancelled_await(self, backend: Backend) -> None:
        """Cancelling detaches that waiter only: others hear the outcome, and the message is stored."""
        async with await backend.connect(topics=[TopicConfig("demo.>")]) as bus:
            await backend.fall_silent()
            receipt = await bus.publish(TOPIC, ack_timeout_s=0.5)

            async def wait() -> DeliveryReport:
                return await receipt

            waiters = [asyncio.create_task(wait()) for _ in range(3)]
            await asyncio.sleep(0)
            waiters[1].cancel()
            await asyncio.wait([waiters[1]])
            assert waiters[1].cancelled()
            await backend.speak_again()
            assert {(await waiters[n]).outcome for n in (0, 2)} == {ACKED}
        assert len(await backend.stored()) == 1

    async def test_flush_that_takes_too_long(self, backend: Backend) -> None:
        """FlushTimeout in time; the messages stay in the ledger and are acked later."""
        async with await backend.connect(ack_timeout_s=0.5, topics=[TopicConfig("demo.>")]) as bus:
            await bus.flush(timeout_s=0.05)  # nothing to wait for
            await backend.fall_silent()
            receipts = await publish_many(bus, 5)
            began = time.monotonic()
            with pytest.raises(FlushTimeout, match="5 messages"):
                await bus.flush(timeout_s=0.05)
            assert time.monotonic() - began < 0.4
            assert bus.snapshot().pending == 5
            await backend.speak_again()
            assert await outcomes(receipts) == {ACKED}

    # ---- a connection that is lost ---------------------------------------------------------------------------------

    async def test_lost_with_messages_in_flight(self, backend: Backend) -> None:
        """They are sent again after the reconnect under the same ids: acked, and stored once each."""
        if not backend.capabilities.deduplicates:
            return
        policy = RetryPolicy(max_attempts=5, base_delay_s=0.02, max_delay_s=0.05)
        async with await backend.connect(retry=policy, topics=[TopicConfig("demo.>")]) as bus:
            await backend.fall_silent()
            receipts = await publish_many(bus, 200)
            await backend.disconnect()
            await eventually(lambda: bus.snapshot().connection is ConnectionState.RECONNECTING, "the loss is noticed")
            assert bus.snapshot().errors["disconnected"] == 200
            assert_conserved(bus.snapshot())
            await backend.speak_again()
            await backend.reconnect()
            assert await outcomes(receipts) == {ACKED}
            assert bus.snapshot().connection is ConnectionState.CONNECTED
        assert sorted(payloads(await backend.stored())) == sorted(b"%d" % n for n in range(200))

    async def test_publish_while_disconnected(self, backend: Backend) -> None:
        """Accepted and held, within the same bounds; sent once the connection is back."""
        async with await backend.connect(window=WindowConfig(max_pending=50), topics=[TopicConfig("demo.>")]) as bus:
            await backend.disconnect()
            await eventually(lambda: bus.snapshot().connection is ConnectionState.RECONNECTING, "the loss is noticed")
            receipts = [bus.publish_nowait(TOPIC, b"%d" % n) for n in range(50)]
            with pytest.raises(WindowFull):
                bus.publish_nowait(TOPIC)
            await backend.reconnect()
            assert {(report.outcome, report.attempts) for report in [await r for r in receipts]} == {(ACKED, 1)}
        assert payloads(await backend.stored()) == [b"%d" % n for n in range(50)]

    async def test_connection_that_does_not_come_back(self, backend: Backend) -> None:
        """What was never sent is REJECTED when its lifetime ends: certainly not stored."""
        async with await backend.connect(retry=QUICK, ack_timeout_s=0.1, topics=[TopicConfig("demo.>")]) as bus:
            await backend.disconnect()
            await eventually(lambda: bus.snapshot().connection is ConnectionState.RECONNECTING, "the loss is noticed")
            began = time.monotonic()
            report = await (await bus.publish(TOPIC))
            assert time.monotonic() - began < 1
            assert (report.outcome, report.error_kind, report.attempts) == (REJECTED, ErrorKind.DISCONNECTED, 0)
            assert report.queued_s is None
            await backend.reconnect()
            assert (await self._acked_again(bus)).outcome is ACKED
        assert len(await backend.stored()) == 1

    async def _acked_again(self, bus: EventBus) -> DeliveryReport:
        """A fresh publish after the fault."""
        await eventually(lambda: bus.snapshot().connection is ConnectionState.CONNECTED, "it reconnects by itself")
        return await (await bus.publish(TOPIC, ack_timeout_s=5))

    # ---- the end ---------------------------------------------------------------------------------------------------

    async def test_close(self, backend: Backend) -> None:
        """Waits for what is pending, tells it, takes no more, and can be called again."""
        bus = await backend.connect()
        receipts = await publish_many(bus, 500)
        first, second = await asyncio.gather(bus.close(), bus.close())
        assert first is second
        assert await bus.close(timeout_s=0) is first
        assert first.clean
        assert (first.accepted, first.acked, first.timed_out) == (500, 500, False)
        assert all(receipt.settled for receipt in receipts)
        assert bus.snapshot().connection is ConnectionState.CLOSED
        for publish in (bus.publish_nowait, bus.publish):
            with pytest.raises(BusClosed):
                await publish(TOPIC)
        assert bus.snapshot().accepted == 500

    async def test_close_of_a_silent_bus(self, backend: Backend) -> None:
        """Ends in time; what is in flight is UNKNOWN, publishers that wait for room are refused."""
        bus = await backend.connect(window=WindowConfig(max_pending=20), topics=[TopicConfig("demo.>")])
        await backend.fall_silent()
        receipts = await publish_many(bus, 20)
        waiting = asyncio.create_task(bus.publish(TOPIC))
        await eventually(lambda: bus.snapshot().waiting_publishers == 1, "one waits for room")
        began = time.monotonic()
        report = await bus.close(timeout_s=0.3)
        assert time.monotonic() - began < 0.8
        assert (report.accepted, report.unknown, report.left_unknown, report.left_unsent) == (20, 20, 20, 0)
        assert report.timed_out
        assert not report.clean
        assert {r.error_kind for r in [await receipt for receipt in receipts]} == {ErrorKind.CLOSED}
        with pytest.raises(BusClosed):
            await waiting
        await backend.speak_again()

    async def test_close_of_a_disconnected_bus(self, backend: Backend) -> None:
        """What was never sent is REJECTED, and the report says so."""
        bus = await backend.connect(topics=[TopicConfig("demo.>")])
        await backend.disconnect()
        await eventually(lambda: bus.snapshot().connection is ConnectionState.RECONNECTING, "the loss is noticed")
        receipts = await publish_many(bus, 10)
        began = time.monotonic()
        report = await bus.close(timeout_s=0.3)
        assert time.monotonic() - began < 0.8
        assert (report.accepted, report.rejected, report.left_unsent, report.left_unknown) == (10, 10, 10, 0)
        assert await outcomes(receipts) == {REJECTED}
        await backend.reconnect()
        assert await backend.stored() == []
