"""What is kept of a run: frozen values, written by StoreWriter and read back by StoreReader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from eventbus.errors import EventBusError
from eventbus.latency import LatencyHistogram
from eventbus.report import DeliveryReport
from eventbus.snapshot import BusSnapshot


class StoreError(EventBusError):
    """The store of runs cannot be used: locked, full, corrupt, or of a newer version. Names the file and what to do."""


class RunStatus(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    DRAINING = "draining"
    """Nothing new is sent; outstanding acks are awaited."""
    FINISHED = "finished"
    """Ended by its own plan: duration, count, or end of file."""
    STOPPED = "stopped"
    """Ended by hand: a command, a signal, or standard input closing."""
    FAILED = "failed"
    """Ended by an error; ``RunInfo.error`` says which."""
    INTERRUPTED = "interrupted"
    """No end was written, and its process is gone or has been silent for more than 5 s. Never stored: the reader's
    conclusion."""

    @property
    def is_over(self) -> bool:
        """True where nothing more can happen in this run."""
        return self not in (RunStatus.RUNNING, RunStatus.DRAINING)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run. Times are seconds since the epoch.

    url: without user and password. settings: the plan, as plain values. pid: of the process that ran it.
    report: CloseReport as a dict; None until the bus is closed.
    environment: versions and machine, as plain values. verdict: of the run's thresholds, as plain values; None without
    any, or until the run is over. name, notes: given by people. baseline: pinned, to compare others with.
    """

    run_id: str
    started_wall_s: float
    ended_wall_s: float | None
    status: RunStatus
    url: str
    topic: str
    settings: Mapping[str, Any]
    pid: int
    error: str | None = None
    report: Mapping[str, Any] | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    verdict: Mapping[str, Any] | None = None
    name: str = ""
    notes: str = ""
    baseline: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """A run at one instant.

    elapsed_s: seconds since the run began. offered: messages that the load wanted to send by now, in total.
    target_rate: messages per second, None where the load sends as fast as the window lets.
    loop_lag_s: the longest that the event loop came late since the sample before.
    schedule_lag_s: the longest that a message was sent after the time that the schedule had for it, since the sample
    before; 0 where nothing was sent. scheduled: latency of acked messages from their scheduled time to the ack, since
    the run began; empty in a closed model, which has no schedule. warming_up: what is counted until now is not judged.

    None where it is not known, as in runs that an older AckScope kept: resident_bytes: memory of the process that
    publishes, of several together. store_delay_s: age of the oldest sample that the store's writer had not written yet
    when this one was taken. round_trip_s: of the last PING, where the broker answered it; of several processes the
    longest.
    """

    wall_s: float
    elapsed_s: float
    offered: int
    target_rate: float | None
    snapshot: BusSnapshot
    loop_lag_s: float = 0.0
    schedule_lag_s: float = 0.0
    scheduled: LatencyHistogram = field(default_factory=LatencyHistogram)
    warming_up: bool = False
    resident_bytes: int | None = None
    store_delay_s: float | None = None
    round_trip_s: float | None = None


@dataclass(frozen=True, slots=True)
class FailedMessage:
    """A message that was not plainly acked: rejected, unknown, or (``late``) acked after it had been given up."""

    wall_s: float
    message_id: str
    topic: str
    outcome: str
    late: bool
    attempts: int
    error_class: str | None
    error_kind: str | None
    error_text: str | None
    trace_id: str | None = None

    @classmethod
    def of(cls, report: DeliveryReport, wall_s: float, trace_id: str | None = None) -> FailedMessage:
        """What is kept of ``report``, which came at ``wall_s``; trace_id: 32 hexadecimal digits, where one is known."""
        return cls(
            wall_s=wall_s,
            message_id=report.message_id,
            topic=report.topic,
            outcome=str(report.outcome),
            late=report.late,
            attempts=report.attempts,
            error_class=None if report.error_class is None else str(report.error_class),
            error_kind=None if report.error_kind is None else str(report.error_kind),
            error_text=report.error_text,
            trace_id=trace_id,
        )


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Messages that failed alike, counted exactly however many they are.

    kind: of ErrorKind, as a word; empty where no error was told. text: the first 200 characters of the error.
    outcome: "rejected", "unknown", or "acked late": those had been counted as unknown before, so that what is left
    unknown is the one without the other. message_id, trace_id: of the newest; trace_id None where none is known.
    """

    kind: str
    topic: str
    outcome: str
    text: str
    count: int
    first_wall_s: float
    last_wall_s: float
    message_id: str
    trace_id: str | None = None

    def merged(self, other: FailureGroup) -> FailureGroup:
        """Both together, where they are of the same kind, topic, outcome and text."""
        newest = other if other.last_wall_s >= self.last_wall_s else self
        return replace(
            newest,
            count=self.count + other.count,
            first_wall_s=min(self.first_wall_s, other.first_wall_s),
        )


@dataclass(frozen=True, slots=True)
class AlertChange:
    """An alert that went from one state to another, with the value that decided it.

    firing: people should look (also while it is RECOVERING). value: NaN where there was none. state, previous: of
    AlertPhase (alerts/engine.py), as words. muted: why nobody is told (silenced, acknowledged, inhibited by ...), or
    empty. text: a sentence for people. labels: of the rule.
    """

    wall_s: float
    rule: str
    firing: bool
    value: float
    threshold: float
    text: str = ""
    state: str = ""
    previous: str = ""
    severity: str = "warning"
    muted: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
