"""The metrics of a run that expressions may name, as data. docs/expressions.md is made from here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eventbus.alerts.quantity import BYTES, COUNT, PER_SECOND, TIME, Dimension
from eventbus.latency import LatencyHistogram
from eventbus.observe.run import Sample
from eventbus.snapshot import ConnectionState


@dataclass(frozen=True, slots=True)
class Gauge:
    """Goes up and down. read: its value in a sample; None where there is none."""

    name: str
    text: str
    dimension: Dimension
    read: Callable[[Sample], float | None]


@dataclass(frozen=True, slots=True)
class Counter:
    """Only grows: a total since the run began. read: the total in a sample."""

    name: str
    text: str
    dimension: Dimension
    read: Callable[[Sample], float]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Many values, of which an expression takes a percentile, the mean or an extreme. In seconds."""

    name: str
    text: str
    read: Callable[[Sample], LatencyHistogram]


Metric = Gauge | Counter | Distribution


def _connected(sample: Sample) -> float | None:
    """Nothing of a closed bus: a run that is over has not lost its broker."""
    state = sample.snapshot.connection
    return None if state is ConnectionState.CLOSED else float(state is ConnectionState.CONNECTED)


GAUGES = (
    Gauge("pending", "Messages accepted and not yet settled.", COUNT, lambda s: s.snapshot.pending),
    Gauge("pending_bytes", "Size of the pending messages.", BYTES, lambda s: s.snapshot.pending_bytes),
    Gauge(
        "window_limit",
        "The most messages that may be pending; from there on publishers wait.",
        COUNT,
        lambda s: s.snapshot.max_pending,
    ),
    Gauge(
        "oldest_pending_age",
        "How long the oldest pending message has been waiting; 0 where there is none.",
        TIME,
        lambda s: s.snapshot.oldest_pending_age_s,
    ),
    Gauge("waiting_publishers", "Calls of publish that wait for room.", COUNT, lambda s: s.snapshot.waiting_publishers),
    Gauge(
        "loop_lag", "The longest that the event loop came late since the sample before.", TIME, lambda s: s.loop_lag_s
    ),
    Gauge(
        "schedule_lag",
        "The longest that a message was sent after its scheduled time, since the sample before.",
        TIME,
        lambda s: s.schedule_lag_s,
    ),
    Gauge(
        "target_rate",
        "Messages per second that the load should send; nothing where it sends as fast as it can.",
        PER_SECOND,
        lambda s: s.target_rate,
    ),
    Gauge("connected", "1 while the broker is connected, else 0; nothing once the bus is closed.", COUNT, _connected),
)

COUNTERS = (
    Counter("offered", "Messages that the load wanted to send by now.", COUNT, lambda s: s.offered),
    Counter(
        "sent",
        "Messages that were taken to be sent: accepted and unacknowledged ones.",
        COUNT,
        lambda s: s.snapshot.accepted + s.snapshot.unacknowledged,
    ),
    Counter("accepted", "Messages that will get an outcome.", COUNT, lambda s: s.snapshot.accepted),
    Counter(
        "acked", "Messages that are stored, says the broker; duplicates included.", COUNT, lambda s: s.snapshot.acked
    ),
    Counter("duplicates", "Of the acked, those that the broker had already.", COUNT, lambda s: s.snapshot.duplicates),
    Counter(
        "late_acks",
        "Of the acked, those that had been settled as unknown before.",
        COUNT,
        lambda s: s.snapshot.late_acks,
    ),
    Counter("rejected", "Messages that are certainly not stored.", COUNT, lambda s: s.snapshot.rejected),
    Counter(
        "unknown",
        "Messages sent without a definite answer. A late ack takes one away again.",
        COUNT,
        lambda s: s.snapshot.unknown,
    ),
    Counter(
        "failed",
        "Messages settled as rejected or unknown. A late ack takes none away.",
        COUNT,
        lambda s: s.snapshot.rejected + s.snapshot.unknown + s.snapshot.late_acks,
    ),
    Counter(
        "settled",
        "Messages that have their outcome: acked, rejected or unknown.",
        COUNT,
        lambda s: s.snapshot.acked + s.snapshot.rejected + s.snapshot.unknown,
    ),
    Counter(
        "unacknowledged",
        "Messages sent in a way that has no ack: nothing can be said of them.",
        COUNT,
        lambda s: s.snapshot.unacknowledged,
    ),
    Counter("ack_timeouts", "Attempts whose ack did not come in time.", COUNT, lambda s: s.snapshot.ack_timeouts),
    Counter("retries", "Attempts that were repeated.", COUNT, lambda s: s.snapshot.retries),
    Counter(
        "stalled_time",
        "Time during which at least one publisher waited for room; its rate is a share of the time.",
        TIME,
        lambda s: s.snapshot.stalled_s_total,
    ),
    Counter(
        "callback_errors", "Exceptions in callbacks of the application.", COUNT, lambda s: s.snapshot.callback_errors
    ),
)

DISTRIBUTIONS = (
    Distribution("ack_latency", "From the last attempt to the ack, of acked messages.", lambda s: s.snapshot.latency),
    Distribution(
        "scheduled_latency",
        "From the time that the schedule had for a message to its ack: what a wait before sending hides is in it. "
        "Nothing in a closed model.",
        lambda s: s.scheduled,
    ),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (*GAUGES, *COUNTERS, *DISTRIBUTIONS)}
"""Every metric by its name."""


@dataclass(frozen=True, slots=True)
class Function:
    """What may be asked of a metric. of: the kinds of metrics that it takes."""

    name: str
    of: tuple[type[Metric], ...]
    text: str
    example: str


FUNCTIONS: Mapping[str, Function] = {
    function.name: function
    for function in (
        Function("last", (Gauge,), "The newest value; a gauge's name alone means the same.", "last(pending)"),
        Function("min", (Gauge, Distribution), "The smallest value.", "min(connected, 10s)"),
        Function("max", (Gauge, Distribution), "The largest value.", "max(pending)"),
        Function("mean", (Gauge, Distribution), "The mean: of a gauge, over its samples.", "mean(ack_latency, 1m)"),
        Function("increase", (Counter,), "By how much it grew; never below 0.", "increase(ack_timeouts, 10s)"),
        Function("rate", (Counter,), "By how much it grew per second.", "rate(acked, 5s)"),
        Function(
            "ratio",
            (Counter,),
            "By how much the first grew for each one that the second did; without a second, for each settled message.",
            "ratio(failed, accepted)",
        ),
    )
}
"""Every function by its name; besides these, ``p`` with a number is a percentile."""

PERCENTILE_EXAMPLE = "p99.9(scheduled_latency, 1m)"
