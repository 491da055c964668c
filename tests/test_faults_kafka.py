"""Each fault of the mock of Kafka: it breaks what it says, and undoing it heals."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

import eventbus
from eventbus import (
    AckOutcome,
    ConnectionConfig,
    ConnectionState,
    ErrorKind,
    EventBus,
    Receipt,
    RetryPolicy,
    TopicConfig,
)
from eventbus.embedded.kafka import EmbeddedKafka
from eventbus.faults import Fault, kafka_faults
from tests.nats_tools import assert_conserved, eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform == "win32", reason="an embedded Kafka mock needs Linux or macOS"),
]
ACKED, REJECTED, UNKNOWN = AckOutcome.ACKED, AckOutcome.REJECTED, AckOutcome.UNKNOWN
SOON = ConnectionConfig(connect_timeout_s=2.0, reconnect_delay_s=0.05, ping_interval_s=0.2)
QUICK = RetryPolicy(max_attempts=2, base_delay_s=0.01, max_delay_s=0.02)


@pytest.fixture
def mock() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as running:
        running.create_topic("t", 1)
        yield running


def fault_of(mock: EmbeddedKafka, name: str) -> Fault:
    return next(fault for fault in kafka_faults(mock) if fault.name == name)


@contextlib.asynccontextmanager
async def bus_at(mock: EmbeddedKafka, *, ack_timeout_s: float = 3.0) -> AsyncIterator[EventBus]:
    """A bus that was acked once; in the end all it accepted is accounted for, and a fresh publish works."""
    async with eventbus.connect(
        mock.url, retry=QUICK, ack_timeout_s=ack_timeout_s, connection=SOON, topics=[TopicConfig("t")]
    ) as bus:
        assert (await (await bus.publish("t", b"first"))).outcome is ACKED
        yield bus
        await bus.flush(20)
        assert_conserved(bus.snapshot())
        assert (await (await bus.publish("t", b"last", ack_timeout_s=15.0))).outcome is ACKED


async def publish(bus: EventBus, number: int = 5) -> list[Receipt]:
    return [await bus.publish("t", b"%d" % n) for n in range(number)]


async def outcomes(receipts: list[Receipt]) -> set[tuple[AckOutcome, ErrorKind | None]]:
    return {(report.outcome, report.error_kind) for report in [await receipt for receipt in receipts]}


async def apply(fault: Fault) -> None:
    await asyncio.to_thread(fault.apply)


async def undo(fault: Fault) -> None:
    await asyncio.to_thread(fault.undo)
    await asyncio.to_thread(fault.undo)  # once more does no harm


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("kafka_denied", ErrorKind.PERMISSION),
        ("kafka_too_large", ErrorKind.TOO_LARGE),
    ],
)
async def test_injected_errors(mock: EmbeddedKafka, name: str, kind: ErrorKind) -> None:
    """Every message is rejected with what the fault is about, and afterwards none."""
    fault = fault_of(mock, name)
    async with bus_at(mock) as bus:
        await apply(fault)
        assert await outcomes(await publish(bus)) == {(REJECTED, kind)}
        await undo(fault)


async def test_too_few_replicas(mock: EmbeddedKafka) -> None:
    """The client repeats by itself: what that takes too long for is unknown, and acked late when it is over."""
    fault = fault_of(mock, "kafka_replicas")
    async with bus_at(mock, ack_timeout_s=1) as bus:
        await apply(fault)
        receipts = await publish(bus)
        await eventually(lambda: bus.snapshot().unknown == 5, "the client's repetitions take longer than that")
        await undo(fault)
        await eventually(lambda: bus.snapshot().late_acks == 5, "they are acked late")
        assert {outcome for outcome, _ in await outcomes(receipts)} == {ACKED}


async def test_slow_answers(mock: EmbeddedKafka) -> None:
    """Each answer takes half a second longer, and none is lost."""
    fault = fault_of(mock, "kafka_delay")
    async with bus_at(mock, ack_timeout_s=10) as bus:
        await apply(fault)
        report = await (await bus.publish("t", b"slow"))
        assert (report.outcome, report.error_kind) == (ACKED, None)
        assert report.ack_latency_s is not None
        assert report.ack_latency_s >= 0.5
        await undo(fault)
        report = await (await bus.publish("t", b"quick"))
        assert report.ack_latency_s is not None
        assert report.ack_latency_s < 0.5


@pytest.mark.parametrize("name", ["kafka_down", "kill", "freeze"])
async def test_broker_that_does_not_answer(mock: EmbeddedKafka, name: str) -> None:
    """Nothing is acked while it lasts; afterwards the bus goes on at the same place by itself."""
    fault = fault_of(mock, name)
    async with bus_at(mock, ack_timeout_s=1) as bus:
        ports = mock.ports
        await apply(fault)
        receipts = await publish(bus)
        await eventually(lambda: bus.snapshot().pending == 0, "each ends within its lifetime")
        assert bus.snapshot().acked == 1
        assert {outcome for outcome, _ in await outcomes(receipts)} <= {REJECTED, UNKNOWN}
        await undo(fault)
        assert mock.ports == ports
        await eventually(lambda: bus.snapshot().connection is ConnectionState.CONNECTED, "it is connected again")
