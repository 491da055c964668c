"""History: the samples of a run that its thresholds and alert rules look back on.

Invariant: entries are in the order of their time, and the first is at most one older than the span.
"""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from eventbus.alerts.figures import COUNTERS, DISTRIBUTIONS, GAUGES, Counter, Distribution, Gauge
from eventbus.latency import LatencyHistogram, PackedLatency
from eventbus.observe.run import Sample

if TYPE_CHECKING:
    from eventbus.alerts.expression import Comparison

FULL_S = 60.0
"""Samples younger than this are all kept."""
COARSE = 0.01
"""Of older ones, neighbours are kept as one where they are closer than this share of their age. So a window's begin is
right within 1 %, and an hour takes some 650 entries instead of 14,400 (each carries two histograms: about 9 KB)."""
_COMPACT_EACH = 64
_SLACK_S = 0.05
"""A sample this much too young still counts as a window's begin: what samples each 250 ms is not punctual."""


class Spread(NamedTuple):
    """What a gauge was over some time. last: None where it says nothing now."""

    last: float | None
    smallest: float = math.inf
    largest: float = -math.inf
    total: float = 0.0
    samples: int = 0

    def followed_by(self, later: Spread) -> Spread:
        """Both together."""
        return Spread(
            later.last,
            min(self.smallest, later.smallest),
            max(self.largest, later.largest),
            self.total + later.total,
            self.samples + later.samples,
        )

    @property
    def mean(self) -> float | None:
        """Mean over the samples; None without any."""
        return self.total / self.samples if self.samples else None


_NOTHING = Spread(None)


class Growth(NamedTuple):
    """By how much a counter grew, in how many seconds, as seen in how many samples."""

    increase: float
    seconds: float
    samples: int


class _Totals(NamedTuple):
    """What of a sample only grows, packed: hundreds of them are kept."""

    elapsed_s: float
    counters: tuple[float, ...]
    latencies: tuple[PackedLatency, ...]

    @classmethod
    def of(cls, sample: Sample) -> _Totals:
        return cls(
            sample.elapsed_s,
            tuple([counter.read(sample) for counter in COUNTERS]),
            tuple([PackedLatency(distribution.read(sample)) for distribution in DISTRIBUTIONS]),
        )


class _Entry(NamedTuple):
    """One sample, or several neighbours: the totals of the last of them, with what the gauges were in all."""

    begin_s: float
    totals: _Totals
    spreads: dict[str, Spread]
    samples: int = 1

    def followed_by(self, later: _Entry) -> _Entry:
        spreads = {name: spread.followed_by(later.spreads[name]) for name, spread in self.spreads.items()}
        return _Entry(self.begin_s, later.totals, spreads, self.samples + later.samples)


class History:
    """What was sampled, for windows of up to ``span_s`` seconds and for the whole run. Bounded, however long the run.

    Whole-run figures count from the beginning of the run, or from ``begin``. A window that reaches further back than
    the run counts what there is. Not for several threads at once.
    """

    def __init__(self, span_s: float = 0.0) -> None:
        self.span_s = span_s
        self._entries: list[_Entry] = []
        self._last: Sample | None = None
        self._whole = _Whole()
        self._floor_s = -math.inf
        self._until_compact = _COMPACT_EACH

    @classmethod
    def covering(cls, comparisons: Iterable[Comparison]) -> History:
        """One that reaches as far back as these need."""
        return cls(max((comparison.window_s or 0.0 for comparison in comparisons), default=0.0))

    @property
    def last(self) -> Sample | None:
        """The newest sample; None before the first."""
        return self._last

    @property
    def began_s(self) -> float:
        """The ``elapsed_s`` from which whole-run figures count: 0, or that of ``begin``."""
        return self._whole.began_s

    def add(self, sample: Sample) -> None:
        """The next sample. One that is older than the last is left out."""
        last = self._last
        if last is not None and sample.elapsed_s < last.elapsed_s:
            return
        spreads = {gauge.name: _spread(gauge.read(sample)) for gauge in GAUGES}
        self._entries.append(_Entry(sample.elapsed_s, _Totals.of(sample), spreads))
        self._last = sample
        if sample is not self._whole.first:
            self._whole.add(spreads)
        self._trim(sample.elapsed_s)

    def begin(self, sample: Sample) -> None:
        """The warm-up ends with ``sample``: whole-run figures count from here. Windows go on as before.

        Whether ``sample`` was added before or is added after does not matter.
        """
        self._whole = _Whole(sample)

    def judged(self) -> History:
        """A view in which windows do not reach back before ``begin`` either; to be read before the next ``add``."""
        view = copy.copy(self)
        view._floor_s = self.began_s
        return view

    def value(self, gauge: Gauge) -> float | None:
        """What ``gauge`` is in the newest sample."""
        return self._entries[-1].spreads[gauge.name].last if self._entries else None

    def spread(self, gauge: Gauge, window_s: float | None) -> Spread:
        """What ``gauge`` was in the last ``window_s`` seconds; None: in the whole run."""
        if window_s is None:
            return self._whole.spreads.get(gauge.name, _NOTHING)
        spread = _NOTHING
        for entry in self._within(window_s):
            spread = spread.followed_by(entry.spreads[gauge.name])
        return spread

    def growth(self, counter: Counter, window_s: float | None) -> Growth | None:
        """By how much ``counter`` grew, never below 0; None where no time has passed."""
        last = self.last
        if last is None:
            return None
        base = self._base(window_s)
        seconds = last.elapsed_s - (base.elapsed_s if base else 0.0)
        if seconds <= 0:
            return None
        increase = counter.read(last) - (base.counters[COUNTERS.index(counter)] if base else 0.0)
        samples = self._whole.samples if window_s is None else sum(e.samples for e in self._within(window_s))
        return Growth(max(0.0, increase), seconds, samples)

    def latencies(self, distribution: Distribution, window_s: float | None) -> LatencyHistogram:
        """The values of ``distribution`` that came; empty where there were none."""
        last = self.last
        if last is None:
            return LatencyHistogram()
        base = self._base(window_s)
        seen = distribution.read(last)
        return seen.since(base.latencies[DISTRIBUTIONS.index(distribution)].histogram()) if base else seen

    def _base(self, window_s: float | None) -> _Totals | None:
        """The totals that a window is measured against; None for the begin of the run, when all was 0."""
        if window_s is None:
            return self._whole.base
        start_s = self._entries[-1].totals.elapsed_s - window_s
        if start_s < self._floor_s:
            return self._whole.base
        before = self._count_until(start_s)
        if before:
            return self._entries[before - 1].totals
        return self._entries[0].totals if start_s > 0 else None

    def _within(self, window_s: float) -> Iterator[_Entry]:
        if self._entries:
            start_s = max(self._entries[-1].totals.elapsed_s - window_s, self._floor_s)
            for index in range(self._count_until(start_s), len(self._entries)):
                yield self._entries[index]

    def _count_until(self, at_s: float) -> int:
        return bisect_right(self._entries, at_s + _SLACK_S, key=lambda entry: entry.totals.elapsed_s)

    def _trim(self, now_s: float) -> None:
        """Drop what is older than the span, but for the one that it is measured against; thin out what is left."""
        self._until_compact -= 1
        if self._until_compact > 0:
            return
        self._until_compact = _COMPACT_EACH
        kept: list[_Entry] = []
        for entry in self._entries[max(0, self._count_until(now_s - self.span_s - _SLACK_S) - 1) :]:
            age_s = now_s - entry.totals.elapsed_s
            if kept and age_s > FULL_S and entry.totals.elapsed_s - kept[-1].begin_s <= COARSE * age_s:
                kept[-1] = kept[-1].followed_by(entry)
            else:
                kept.append(entry)
        self._entries = kept


class _Whole:
    """What the gauges were since the run began, or since ``first``."""

    def __init__(self, first: Sample | None = None) -> None:
        self.first = first
        self.base = None if first is None else _Totals.of(first)
        self.began_s = first.elapsed_s if first else 0.0
        self.spreads: dict[str, Spread] = {}
        self.samples = 0

    def add(self, spreads: dict[str, Spread]) -> None:
        self.samples += 1
        self.spreads = {name: self.spreads.get(name, _NOTHING).followed_by(spread) for name, spread in spreads.items()}


def _spread(value: float | None) -> Spread:
    return _NOTHING if value is None else Spread(value, value, value, value, 1)
