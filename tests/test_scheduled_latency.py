"""Latency from the scheduled time: counted for what is acked, once, in bounded memory, by a witness of the bus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import eventbus
from eventbus.config import TelemetryConfig
from eventbus.load.scheduled_latency import WINDOWS_REMEMBERED, ScheduledLatency
from eventbus.observe.witnesses import Witnesses
from eventbus.ports import Ended, Failure
from eventbus.report import AckOutcome

MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Message:
    """Implements ports.Ended."""

    token: int
    topic: str = "a.b"
    extras: None = None
    message_id: str = ""
    accepted_ns: int = 0
    attempts: int = 1
    duplicate: bool = False
    failure: Failure | None = None
    place: tuple[str, int | None] | None = None
    offset: int = 0


def messages(*tokens: int) -> list[Message]:
    return [Message(token) for token in tokens]


def test_acked_messages_are_counted_from_their_scheduled_time() -> None:
    """The latency is the ack's time less the scheduled one, however late the message was sent."""
    latency = ScheduledLatency(100)
    latency.sent([1, 2, 3], [10 * MS, 20 * MS, 30 * MS])
    latency.ended(AckOutcome.ACKED, messages(1, 3), 40 * MS)
    latency.ended(AckOutcome.ACKED, messages(2), 120 * MS)
    histogram = latency.histogram()
    assert (histogram.total, histogram.sum_ns, histogram.max_ns) == (3, (30 + 10 + 100) * MS, 100 * MS)


def test_messages_of_others_are_left_out() -> None:
    """What was never told to it, and what had its outcome before, is not counted."""
    latency = ScheduledLatency(100)
    latency.sent([1, 0, 2], [10 * MS, 11 * MS, 12 * MS])  # 0: one that was refused
    latency.ended(AckOutcome.ACKED, messages(1, 7, 0), 20 * MS)
    latency.ended(AckOutcome.ACKED, messages(1, 8), 30 * MS)
    latency.acked_late(Message(9), 40 * MS)
    assert latency.histogram().total == 1


def test_failed_messages_are_not_counted_until_a_late_ack() -> None:
    """REJECTED never counts; UNKNOWN counts once its ack comes after all, with the whole time."""
    latency = ScheduledLatency(100)
    latency.sent([1, 2], [10 * MS, 20 * MS])
    latency.ended(AckOutcome.REJECTED, messages(1), 30 * MS)
    latency.ended(AckOutcome.UNKNOWN, messages(2), 5000 * MS)
    assert latency.histogram().total == 0
    latency.acked_late(Message(1), 6000 * MS)
    latency.acked_late(Message(2), 6020 * MS)
    latency.acked_late(Message(2), 7000 * MS)
    assert (latency.histogram().total, latency.histogram().max_ns) == (1, 6000 * MS)


def test_outcome_that_came_first() -> None:
    """A message that was acked before its receipt was seen counts by what its publisher says."""
    latency = ScheduledLatency(100)
    latency.acked(25 * MS)
    assert (latency.histogram().total, latency.histogram().max_ns) == (1, 25 * MS)


def test_memory_is_bounded_by_the_window() -> None:
    """Whatever is lost on the way, no more is kept than the window and its memory of unknown messages hold."""
    latency = ScheduledLatency(10)
    for begin in range(1, 1000, 10):
        latency.sent(range(begin, begin + 10), [0] * 10)
        if begin % 20 == 1:
            latency.ended(AckOutcome.UNKNOWN, messages(*range(begin, begin + 10)), MS)
    assert len(latency._scheduled) <= 10
    assert len(latency._unknown) <= WINDOWS_REMEMBERED * 10
    latency.ended(AckOutcome.ACKED, messages(*range(991, 1001)), MS)
    assert latency.histogram().total == 10


class Seen:
    """A witness that writes down."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, list[int]]] = []

    def ended(self, outcome: AckOutcome, settled: Any, now_ns: int) -> None:
        self.seen.append((str(outcome), [message.token for message in settled]))

    def acked_late(self, pending: Ended, now_ns: int) -> None:
        self.seen.append(("late", [pending.token]))


def test_several_witnesses_of_one_bus() -> None:
    """Each is told of everything; where there is one alone, nothing stands in between."""
    first, second = Seen(), Seen()
    assert Witnesses.of(None, None) is None
    assert Witnesses.of(None, first) is first
    both = Witnesses.of(first, second)
    assert both is not None
    both.ended(AckOutcome.REJECTED, messages(1, 2), 5)
    both.acked_late(Message(3), 6)
    assert first.seen == second.seen == [("rejected", [1, 2]), ("late", [3])]


@pytest.mark.parametrize("telemetry", [False, True])
async def test_witness_of_a_bus(telemetry: bool) -> None:
    """A witness given to ``connect`` sees every outcome, with and without OpenTelemetry beside it."""
    seen = Seen()
    config = TelemetryConfig(enabled=telemetry)
    async with eventbus.connect("memory://", witness=seen, telemetry=config) as bus:
        receipts = [bus.publish_nowait("a.b", b"x") for _ in range(3)]
        await bus.flush()
        assert [outcome for outcome, _ in seen.seen] == ["acked"]
        assert seen.seen[0][1] == [1, 2, 3]
        assert all(receipt.settled for receipt in receipts)
