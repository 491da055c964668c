"""Samples -> rates: what happened between samples, at any resolution. Pure.

A bus only counts upwards; rates are the reader's business. An ``Interval`` is the difference of two samples. Two
neighbours merge exactly (counts add, histograms add, peaks take the larger), so a chart of any span gets at most as
many points as it can show and no peak is lost on the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eventbus import BusSnapshot, ConnectionState, LatencyHistogram
from eventbus.latency import bucket_bounds_ns

if TYPE_CHECKING:
    from eventbus.observe.run import Sample

FINE_S = 900.0
"""The newest quarter of an hour is kept second by second, what is older is thinned out."""
MAX_COARSE = 600
"""How many intervals older than FINE_S are kept."""
MAX_POINTS = 300
"""The most points that one chart series gets."""
MAX_MERGED = 2_000
"""How many merged intervals are remembered: those of all windows of a page."""
STEPS_S = (1, 2, 3, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened between ``start_s`` and ``end_s`` of a run. Counts are differences, gauges are as named.

    unknown: newly settled as unknown; late acks do not lessen it. acked: all acks, duplicates and late ones among
    them. pending: at the end. *_max: the peak. offered: messages that the load wanted sent. latency: from the last
    attempt to the ack. scheduled: from the time that the schedule had for a message; empty where there is none.
    store_delay_max_s: None where it was not told.
    warming_up: what is in here is not judged.
    """

    start_s: float
    end_s: float
    wall_s: float
    offered: int = 0
    accepted: int = 0
    acked: int = 0
    duplicates: int = 0
    late_acks: int = 0
    rejected: int = 0
    unknown: int = 0
    unacknowledged: int = 0
    ack_timeouts: int = 0
    retries: int = 0
    stalled_s: float = 0.0
    pending: int = 0
    pending_max: int = 0
    oldest_pending_age_max_s: float = 0.0
    max_pending: int = 0
    target_rate: float | None = None
    connection: ConnectionState = ConnectionState.CONNECTED
    errors: Mapping[str, int] = field(default_factory=dict)
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    scheduled: LatencyHistogram = field(default_factory=LatencyHistogram)
    loop_lag_max_s: float = 0.0
    schedule_lag_max_s: float = 0.0
    store_delay_max_s: float | None = None
    warming_up: bool = False
    _percentiles: dict[float, float | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    _heat: dict[int, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def percentile_s(self, percent: float) -> float | None:
        """Of ``latency``, in seconds. Found once: charts ask each second for the same of the same interval."""
        return self._percentile_s(self.latency, percent, percent)

    def scheduled_percentile_s(self, percent: float) -> float | None:
        """The same of ``scheduled``."""
        return self._percentile_s(self.scheduled, percent, -1.0 - percent)

    def _percentile_s(self, histogram: LatencyHistogram, percent: float, key: float) -> float | None:
        if key not in self._percentiles:
            self._percentiles[key] = histogram.percentile_s(percent)
        return self._percentiles[key]

    def heat(self, steps: int) -> Mapping[int, int]:
        """Acks by the power of ten of their latency in seconds, ``steps`` to each; found once, as percentiles are."""
        if not self._heat and self.latency.total:
            for bucket, count in self.latency.counts.items():
                lower, upper = bucket_bounds_ns(bucket)
                row = math.floor(math.log10(max(1, lower + upper) / 2e9) * steps)
                self._heat[row] = self._heat.get(row, 0) + count
        return self._heat

    @property
    def span_s(self) -> float:
        return self.end_s - self.start_s

    def per_second(self, number: float) -> float:
        """``number`` of this interval as a rate."""
        return number / self.span_s if self.span_s > 0 else 0.0

    @property
    def plain_acks(self) -> int:
        """Acks that are neither duplicates nor late."""
        return max(0, self.acked - self.duplicates - self.late_acks)

    @property
    def error_ratio(self) -> float | None:
        """Rejected and unknown among all that were settled; None if nothing was."""
        settled = self.acked - self.late_acks + self.rejected + self.unknown
        return (self.rejected + self.unknown) / settled if settled > 0 else None

    @property
    def left_error_ratio(self) -> float | None:
        """The same without those that were acked late after all: what is left, where this is a whole run."""
        settled = self.acked - self.late_acks + self.rejected + self.unknown
        return max(0, self.rejected + self.unknown - self.late_acks) / settled if settled > 0 else None

    @property
    def stalled_share(self) -> float:
        """Share of the time in which a publisher waited for room."""
        return min(1.0, self.per_second(self.stalled_s))

    def merged(self, later: Interval) -> Interval:
        """Both together; ``later`` is the neighbour that follows."""
        errors = dict(self.errors)
        for kind, number in later.errors.items():
            errors[kind] = errors.get(kind, 0) + number
        return Interval(
            start_s=self.start_s,
            end_s=later.end_s,
            wall_s=later.wall_s,
            offered=self.offered + later.offered,
            accepted=self.accepted + later.accepted,
            acked=self.acked + later.acked,
            duplicates=self.duplicates + later.duplicates,
            late_acks=self.late_acks + later.late_acks,
            rejected=self.rejected + later.rejected,
            unknown=self.unknown + later.unknown,
            unacknowledged=self.unacknowledged + later.unacknowledged,
            ack_timeouts=self.ack_timeouts + later.ack_timeouts,
            retries=self.retries + later.retries,
            stalled_s=self.stalled_s + later.stalled_s,
            pending=later.pending,
            pending_max=max(self.pending_max, later.pending_max),
            oldest_pending_age_max_s=max(self.oldest_pending_age_max_s, later.oldest_pending_age_max_s),
            max_pending=later.max_pending,
            target_rate=later.target_rate,
            connection=later.connection,
            errors=errors,
            latency=self.latency.merged(later.latency),
            scheduled=self.scheduled.merged(later.scheduled),
            loop_lag_max_s=max(self.loop_lag_max_s, later.loop_lag_max_s),
            schedule_lag_max_s=max(self.schedule_lag_max_s, later.schedule_lag_max_s),
            store_delay_max_s=_larger(self.store_delay_max_s, later.store_delay_max_s),
            warming_up=later.warming_up,
        )


def _larger(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else max(one, other)


def merge(intervals: Sequence[Interval]) -> Interval:
    """All of them as one; there must be at least one."""
    whole = intervals[0]
    for later in intervals[1:]:
        whole = whole.merged(later)
    return whole


def between(earlier: Sample | None, later: Sample) -> Interval:
    """What happened from one sample to the next; None stands for the start of the run, when all counts were 0."""
    new = later.snapshot
    if earlier is None:
        old, start_s, offered = BusSnapshot("", 0.0, 0.0, ConnectionState.CONNECTING), 0.0, 0
        scheduled = LatencyHistogram()
    else:
        old, start_s, offered = earlier.snapshot, earlier.elapsed_s, earlier.offered
        scheduled = earlier.scheduled
    late_acks = new.late_acks - old.late_acks
    return Interval(
        start_s=start_s,
        end_s=later.elapsed_s,
        wall_s=later.wall_s,
        offered=later.offered - offered,
        accepted=new.accepted - old.accepted,
        acked=new.acked - old.acked,
        duplicates=new.duplicates - old.duplicates,
        late_acks=late_acks,
        rejected=new.rejected - old.rejected,
        # a late ack takes one from ``unknown``: adding it back leaves what became unknown in this time
        unknown=new.unknown - old.unknown + late_acks,
        unacknowledged=new.unacknowledged - old.unacknowledged,
        ack_timeouts=new.ack_timeouts - old.ack_timeouts,
        retries=new.retries - old.retries,
        stalled_s=new.stalled_s_total - old.stalled_s_total,
        pending=new.pending,
        pending_max=new.pending,
        oldest_pending_age_max_s=new.oldest_pending_age_s,
        max_pending=new.max_pending,
        target_rate=later.target_rate,
        connection=new.connection,
        errors={k: n - old.errors.get(k, 0) for k, n in new.errors.items() if n > old.errors.get(k, 0)},
        latency=new.latency.since(old.latency),
        scheduled=later.scheduled.since(scheduled),
        loop_lag_max_s=later.loop_lag_s,
        schedule_lag_max_s=later.schedule_lag_s,
        store_delay_max_s=later.store_delay_s,
        warming_up=later.warming_up,
    )


class Timeline:
    """The history of one run, in seconds. ``extend`` takes new samples; everything else only looks.

    first_s: how far into the run the oldest sample was.

    Memory is bounded: FINE_S of seconds and MAX_COARSE older, coarser intervals, however long the run is. Not
    thread-safe; its owner locks.
    """

    def __init__(self) -> None:
        self._seconds: list[Interval] = []
        self._open: Interval | None = None
        self._groups: dict[tuple[int, int], tuple[int, Interval]] = {}  # what was merged for charts: (members, whole)
        self.first_s = 0.0
        self.last: Sample | None = None

    @property
    def elapsed_s(self) -> float:
        """How far into the run the newest sample is."""
        return self.last.elapsed_s if self.last is not None else 0.0

    def extend(self, samples: Sequence[Sample]) -> None:
        """Take in samples that follow those seen so far, in time order; older ones are left out."""
        for sample in samples:
            if self.last is not None and sample.elapsed_s <= self.last.elapsed_s:
                continue
            step = between(self.last, sample)
            if self.last is None:
                self.first_s = sample.elapsed_s
            self.last = sample
            self._open = step if self._open is None else self._open.merged(step)
            if int(step.end_s) > int(step.start_s):
                self._seconds.append(self._open)
                self._open = None
        self._thin()

    def intervals(self, window_s: float | None, *, until_s: float | None = None, whole: bool = False) -> list[Interval]:
        """The newest ``window_s`` of the run (None: all of it), oldest first, at most MAX_POINTS.

        until_s: look at the run as it was then. whole: True adds the last unfinished second, for a run that ended.
        """
        known = self._seconds
        if whole and self._open is not None and self._open.span_s > 0:
            known = [*known, self._open]
        if until_s is not None:
            known = [interval for interval in known if interval.end_s <= until_s]
        if window_s is not None and known:
            from_s = known[-1].end_s - window_s
            known = [interval for interval in known if interval.end_s > from_s]
        if not known:
            return []
        return self._resampled(known, _step_s(known[-1].end_s - known[0].start_s))

    def latest(self, span_s: float, *, until_s: float | None = None) -> Interval | None:
        """The newest ``span_s`` as one interval; None while there is not one whole second."""
        recent = self.intervals(span_s, until_s=until_s)
        return merge(recent) if recent else None

    def total(self) -> Interval | None:
        """The run from its start until now as one interval; None before the first sample."""
        return between(None, self.last) if self.last is not None else None

    def _thin(self) -> None:
        if not self._seconds:
            return
        fine_from_s = self._seconds[-1].end_s - FINE_S
        old = sum(1 for interval in self._seconds if interval.end_s <= fine_from_s)
        if old > MAX_COARSE:
            old -= old % 2
            pairs = [merge(self._seconds[at : at + 2]) for at in range(0, old, 2)]
            self._seconds[:old] = pairs
            self._groups.clear()

    def _resampled(self, intervals: Sequence[Interval], step_s: int) -> list[Interval]:
        """Neighbours within the same ``step_s`` become one. Steps are counted from the run's start: points stay put,
        and what was merged once is used again as long as nothing joins it."""
        if step_s == 1:
            return list(intervals)
        groups: dict[int, list[Interval]] = {}
        for interval in intervals:
            groups.setdefault(int((interval.start_s + interval.end_s) / 2 / step_s), []).append(interval)
        return [self._merged(step_s, place, group) for place, group in groups.items()]

    def _merged(self, step_s: int, place: int, group: Sequence[Interval]) -> Interval:
        members, whole = self._groups.get((step_s, place), (0, None))
        if whole is None or members != len(group) or whole.end_s != group[-1].end_s:
            whole = merge(group)
            if len(self._groups) >= MAX_MERGED:
                self._groups.clear()
            self._groups[step_s, place] = len(group), whole
        return whole


def _step_s(span_s: float) -> int:
    """The finest round step that shows ``span_s`` with at most MAX_POINTS points."""
    for step in STEPS_S:
        if span_s / step <= MAX_POINTS:
            return step
    return STEPS_S[-1]
