"""What became of a message, and of a bus: AckOutcome, Position, DeliveryReport, CloseReport."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from eventbus.errors import ErrorClass, ErrorKind, PublishRejected, PublishUnknown


class AckOutcome(StrEnum):
    """The one truth about a message. A duplicate is ACKED, with ``duplicate=True`` in its report."""

    ACKED = "acked"
    """Stored, says the broker. (JetStream syncs its files every 2 min by default: stored is not yet on disk.)"""
    REJECTED = "rejected"
    """Certainly not stored."""
    UNKNOWN = "unknown"
    """Sent, and no definite answer: it may be stored."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a message was stored: ``log`` is the stream or topic, ``offset`` its sequence or offset there."""

    log: str
    offset: int
    partition: int | None = None

    def __str__(self) -> str:
        part = "" if self.partition is None else f"[{self.partition}]"
        return f"{self.log}{part}@{self.offset}"


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """The end of one message. Never changes; a late ack makes a second report with ``late=True``.

    message_id: empty where none was sent with it (sends without acks).
    duplicate: the broker had this message id already (an earlier attempt, or an earlier publish, was stored).
    late: the ack came after the message had been settled as UNKNOWN.
    attempts: how many times it was sent; 0 if never.
    error_*: the last failure, also where a retry cured it; None if there was none.
    queued_s: seconds from publish to the first attempt; None if never sent.
    ack_latency_s: seconds from the last attempt to the ack; None without an ack.
    """

    message_id: str
    topic: str
    outcome: AckOutcome
    duplicate: bool = False
    late: bool = False
    position: Position | None = None
    attempts: int = 1
    error_class: ErrorClass | None = None
    error_kind: ErrorKind | None = None
    error_text: str | None = None
    queued_s: float | None = None
    ack_latency_s: float | None = None

    def raise_for_outcome(self) -> None:
        """Do nothing if ACKED; else raise PublishRejected or PublishUnknown, carrying this report."""
        if self.outcome is AckOutcome.REJECTED:
            raise PublishRejected(self)
        if self.outcome is AckOutcome.UNKNOWN:
            raise PublishUnknown(self)

    def __str__(self) -> str:
        words = [f"{self.outcome} {self.topic} id={self.message_id}"]
        if self.position is not None:
            words.append(f"at {self.position}" + (" (duplicate)" if self.duplicate else ""))
        if self.late:
            words.append("late")
        words.append(f"after {self.attempts} attempt" + ("" if self.attempts == 1 else "s"))
        if self.error_kind is not None and self.outcome is not AckOutcome.ACKED:
            words.append(f"because of {self.error_kind}: {self.error_text}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class CloseReport:
    """What a closed bus leaves. accepted == acked + rejected + unknown: nothing is pending any more.

    left_unknown: of ``unknown``, how many were settled by the close itself: sent, and not answered in time.
    left_unsent: of ``rejected``, how many were settled by the close itself: not sent, or refused and waiting for
        another attempt.
    duration_s: how long the close took. timed_out: the drain did not end within the timeout.
    """

    accepted: int
    acked: int
    duplicates: int
    late_acks: int
    rejected: int
    unknown: int
    unacknowledged: int
    left_unknown: int
    left_unsent: int
    duration_s: float
    timed_out: bool

    @property
    def clean(self) -> bool:
        """True where every accepted message was acked."""
        return self.acked == self.accepted
