"""Step: what happened in one step of a run's time. Samples only count upwards; a step is the difference of two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from eventbus.latency import LatencyHistogram
from eventbus.observe.run import Sample
from eventbus.snapshot import BusSnapshot, ConnectionState

MAX_STEPS = 600
FINE_S = 15.0
"""Runs up to so long are shown by quarters of a second; with longer ones that would be noise."""
_ROUND_S = (1.0, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)

COUNTERS = (
    "accepted",
    "acked",
    "duplicates",
    "late_acks",
    "rejected",
    "unknown",
    "unacknowledged",
    "ack_timeouts",
    "retries",
    "callback_errors",
)
"""Names of BusSnapshot that a step holds the growth of. unknown: newly settled so; late acks do not lessen it."""


@dataclass(frozen=True, slots=True)
class Step:
    """From ``start_s`` to ``end_s`` of a run. Counts are what came in it; *_max is the peak, all else as at its end.

    wall_s: of the end. ack, scheduled: latencies of what was acked in it, from the send and from the scheduled time.
    """

    start_s: float
    end_s: float
    wall_s: float
    warming_up: bool
    connection: ConnectionState
    target_rate: float | None
    offered: int
    counts: Mapping[str, int]
    errors: Mapping[str, int]
    stalled_s: float
    pending: int
    pending_max: int
    pending_bytes: int
    max_pending: int
    waiting_publishers_max: int
    oldest_pending_age_max_s: float
    loop_lag_max_s: float
    schedule_lag_max_s: float
    ack: LatencyHistogram
    scheduled: LatencyHistogram

    @property
    def span_s(self) -> float:
        """How long it is."""
        return self.end_s - self.start_s

    def per_second(self, count: float) -> float:
        """``count`` of this step as a rate."""
        return count / self.span_s if self.span_s > 0 else 0.0

    @property
    def sent(self) -> int:
        """Accepted, or sent in a way that has no ack."""
        return self.counts["accepted"] + self.counts["unacknowledged"]

    @property
    def failed_ratio(self) -> float | None:
        """Rejected and newly unknown among all that were settled in it; None where nothing was."""
        failed = self.counts["rejected"] + self.counts["unknown"]
        settled = self.counts["acked"] - self.counts["late_acks"] + failed
        return failed / settled if settled > 0 else None


def step_for(duration_s: float, most: int = MAX_STEPS) -> float:
    """The finest round step, in seconds, that cuts ``duration_s`` into at most ``most``."""
    if duration_s <= FINE_S:
        return 0.25
    return next((step for step in _ROUND_S if duration_s / step <= most), _ROUND_S[-1])


def steps(samples: Iterable[Sample], step_s: float) -> Iterator[Step]:
    """The steps of a run whose samples come in the order of their time, all of them from its beginning.

    A step ends with the last sample before a multiple of ``step_s``, counted from the run's beginning; where there is
    none, as in a run that was thinned out, the step is longer.
    """
    before = last = None
    peaks = _Peaks()
    for sample in samples:
        if last is not None and int(sample.elapsed_s / step_s) != int(last.elapsed_s / step_s):
            yield _step(before, last, peaks)
            before, peaks = last, _Peaks()
        peaks.see(sample)
        last = sample
    if last is not None and (before is None or last.elapsed_s > before.elapsed_s):
        yield _step(before, last, peaks)


class _Peaks:
    """The largest of what is only known as it was at a sample, or since the one before."""

    def __init__(self) -> None:
        self.pending = self.waiting = 0
        self.oldest_s = self.loop_lag_s = self.schedule_lag_s = 0.0

    def see(self, sample: Sample) -> None:
        snapshot = sample.snapshot
        self.pending = max(self.pending, snapshot.pending)
        self.waiting = max(self.waiting, snapshot.waiting_publishers)
        self.oldest_s = max(self.oldest_s, snapshot.oldest_pending_age_s)
        self.loop_lag_s = max(self.loop_lag_s, sample.loop_lag_s)
        self.schedule_lag_s = max(self.schedule_lag_s, sample.schedule_lag_s)


def growth(before: BusSnapshot, after: BusSnapshot) -> dict[str, int]:
    """How much each of COUNTERS grew between two snapshots."""
    grown = {name: getattr(after, name) - getattr(before, name) for name in COUNTERS}
    grown["unknown"] += grown["late_acks"]  # a late ack takes one from ``unknown``
    return grown


BEGINNING = BusSnapshot("", 0.0, 0.0, ConnectionState.CONNECTING)
"""Before a run's first sample all counts are 0."""


def _step(before: Sample | None, last: Sample, peaks: _Peaks) -> Step:
    new, old = last.snapshot, BEGINNING if before is None else before.snapshot
    return Step(
        start_s=0.0 if before is None else before.elapsed_s,
        end_s=last.elapsed_s,
        wall_s=last.wall_s,
        warming_up=last.warming_up,
        connection=new.connection,
        target_rate=last.target_rate,
        offered=last.offered - (0 if before is None else before.offered),
        counts=growth(old, new),
        errors={kind: n - old.errors.get(kind, 0) for kind, n in new.errors.items() if n > old.errors.get(kind, 0)},
        stalled_s=new.stalled_s_total - old.stalled_s_total,
        pending=new.pending,
        pending_max=peaks.pending,
        pending_bytes=new.pending_bytes,
        max_pending=new.max_pending,
        waiting_publishers_max=peaks.waiting,
        oldest_pending_age_max_s=peaks.oldest_s,
        loop_lag_max_s=peaks.loop_lag_s,
        schedule_lag_max_s=peaks.schedule_lag_s,
        ack=new.latency.since(old.latency),
        scheduled=last.scheduled.since(LatencyHistogram() if before is None else before.scheduled),
    )
