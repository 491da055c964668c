"""RunSummary: a run in some thirty figures, without its warm-up; and what tells whether one run was better. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from eventbus.latency import LatencyHistogram
from eventbus.observe.run import Sample
from eventbus.viz.steps import BEGINNING, COUNTERS, growth

TOLERANCE = 0.05
"""Figures that differ by less are called the same: buckets alone make percentiles differ by up to 1.6 %."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What was counted from the end of the warm-up to the last sample. Times are seconds.

    warm_up_s: how long it was. sending_s: until the last message was offered. active_s: until the last ack or failure.
    counts: growth of each counter. stalled_s: in which a publisher waited for room. *_max: peaks.
    """

    duration_s: float = 0.0
    warm_up_s: float = 0.0
    sending_s: float = 0.0
    active_s: float = 0.0
    offered: int = 0
    counts: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    errors: Mapping[str, int] = field(default_factory=dict)
    stalled_s: float = 0.0
    pending: int = 0
    pending_max: int = 0
    oldest_pending_age_max_s: float = 0.0
    loop_lag_max_s: float = 0.0
    schedule_lag_max_s: float = 0.0
    ack: LatencyHistogram = field(default_factory=LatencyHistogram)
    scheduled: LatencyHistogram = field(default_factory=LatencyHistogram)
    samples: int = 0

    @property
    def sent(self) -> int:
        """Accepted, or sent in a way that has no ack."""
        return self.counts["accepted"] + self.counts["unacknowledged"]

    @property
    def awaits_acks(self) -> bool:
        """Whether any message had an ack to come: else there was nothing that could be pending."""
        return bool(self.counts["accepted"] or not self.counts["unacknowledged"])

    @property
    def failed(self) -> int:
        """Rejected, and unknown that were not acked late after all."""
        return self.counts["rejected"] + max(0, self.counts["unknown"] - self.counts["late_acks"])

    @property
    def failed_ratio(self) -> float | None:
        """``failed`` among all that were settled; None where nothing was."""
        settled = self.counts["acked"] + self.failed
        return self.failed / settled if settled else None


def summarize(samples: Iterable[Sample]) -> RunSummary:
    """The summary of a run whose samples come in the order of their time, all of them from its beginning."""
    start: Sample | None = None
    last: Sample | None = None
    number, sending_s, active_s = 0, 0.0, 0.0
    pending = 0
    oldest_s = loop_lag_s = schedule_lag_s = 0.0
    for sample in samples:
        number += 1
        snapshot = sample.snapshot
        if sample.warming_up:
            start = last = sample
            sending_s = active_s = sample.elapsed_s
            continue
        if sample.offered > (0 if last is None else last.offered):
            sending_s = sample.elapsed_s
        if last is None or _settled(sample) > _settled(last):
            active_s = sample.elapsed_s
        pending = max(pending, snapshot.pending)
        oldest_s = max(oldest_s, snapshot.oldest_pending_age_s)
        loop_lag_s = max(loop_lag_s, sample.loop_lag_s)
        schedule_lag_s = max(schedule_lag_s, sample.schedule_lag_s)
        last = sample
    if last is None:
        return RunSummary()
    warm_up_s = 0.0 if start is None else start.elapsed_s
    old, new = BEGINNING if start is None else start.snapshot, last.snapshot
    return RunSummary(
        duration_s=last.elapsed_s - warm_up_s,
        warm_up_s=warm_up_s,
        sending_s=sending_s - warm_up_s,
        active_s=active_s - warm_up_s,
        offered=last.offered - (0 if start is None else start.offered),
        counts=growth(old, new),
        errors={kind: n - old.errors.get(kind, 0) for kind, n in new.errors.items() if n > old.errors.get(kind, 0)},
        stalled_s=new.stalled_s_total - old.stalled_s_total,
        pending=new.pending,
        pending_max=pending,
        oldest_pending_age_max_s=oldest_s,
        loop_lag_max_s=loop_lag_s,
        schedule_lag_max_s=schedule_lag_s,
        ack=new.latency if start is None else new.latency.since(old.latency),
        scheduled=last.scheduled if start is None else last.scheduled.since(start.scheduled),
        samples=number,
    )


def _settled(sample: Sample) -> int:
    snapshot = sample.snapshot
    return snapshot.acked + snapshot.rejected + snapshot.unknown + snapshot.unacknowledged


class Unit(StrEnum):
    """What a figure is measured in."""

    MESSAGES = "messages"
    PER_SECOND = "per_s"
    SECONDS = "s"
    RATIO = "ratio"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a summary. name: as in exports, with its unit. better: the sign of a change for the good, 0 where

    neither is. value: None where there was nothing to measure.
    """

    name: str
    label: str
    unit: Unit
    better: int
    value: Callable[[RunSummary], float | None]


def _count(name: str, better: int = -1, label: str = "") -> Figure:
    return Figure(name, label or name.replace("_", " "), Unit.MESSAGES, better, lambda summary: summary.counts[name])


def _rate(name: str, label: str, count: Callable[[RunSummary], int], over: Callable[[RunSummary], float]) -> Figure:
    def value(summary: RunSummary) -> float | None:
        return count(summary) / over(summary) if over(summary) > 0 else None

    return Figure(name, label, Unit.PER_SECOND, 1, value)


def _percentile(percent: float, *, scheduled: bool = False) -> Figure:
    words = f"p{percent:g}".replace(".", "")
    kind = "scheduled" if scheduled else "ack"
    return Figure(
        f"{kind}_latency_{words}_s",
        f"{kind} latency p{percent:g}",
        Unit.SECONDS,
        -1,
        lambda summary: (summary.scheduled if scheduled else summary.ack).percentile_s(percent),
    )


FIGURES: tuple[Figure, ...] = (
    Figure("duration_s", "duration", Unit.SECONDS, 0, lambda summary: summary.duration_s),
    Figure("offered", "offered", Unit.MESSAGES, 0, lambda summary: summary.offered),
    _count("accepted", 0),
    _count("acked", 0),
    Figure("failed_ratio", "failed", Unit.RATIO, -1, lambda summary: summary.failed_ratio),
    _count("rejected"),
    Figure(
        "unknown",
        "unknown",
        Unit.MESSAGES,
        -1,
        lambda summary: max(0, summary.counts["unknown"] - summary.counts["late_acks"]),
    ),
    _count("unacknowledged", 0),
    _count("duplicates"),
    _count("late_acks"),
    _count("ack_timeouts"),
    _count("retries"),
    _rate("sent_per_s", "sent rate", lambda s: s.sent, lambda s: s.sending_s),
    _rate("acked_per_s", "ack rate", lambda s: s.counts["acked"], lambda s: s.active_s),
    *map(_percentile, (50, 95, 99, 99.9)),
    Figure("ack_latency_max_s", "ack latency max", Unit.SECONDS, -1, lambda summary: summary.ack.max_s),
    *(_percentile(percent, scheduled=True) for percent in (50, 99, 99.9)),
    Figure("pending_max", "pending max", Unit.MESSAGES, -1, lambda s: s.pending_max if s.awaits_acks else None),
    Figure(
        "oldest_pending_age_max_s",
        "oldest pending max",
        Unit.SECONDS,
        -1,
        lambda summary: summary.oldest_pending_age_max_s if summary.awaits_acks else None,
    ),
    Figure(
        "stalled_ratio",
        "stalled",
        Unit.RATIO,
        -1,
        lambda summary: min(1.0, summary.stalled_s / summary.duration_s) if summary.duration_s > 0 else None,
    ),
    Figure("loop_lag_max_s", "loop lag max", Unit.SECONDS, -1, lambda summary: summary.loop_lag_max_s),
    Figure("schedule_lag_max_s", "schedule lag max", Unit.SECONDS, -1, lambda summary: summary.schedule_lag_max_s),
)
"""In the order in which they are shown."""


def figures_of(summary: RunSummary) -> dict[str, float | None]:
    """Every figure by its name."""
    return {figure.name: figure.value(summary) for figure in FIGURES}


class Change(StrEnum):
    """What became of a figure, from one run to another."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    DIFFERENT = "different"
    """It differs, and that is neither good nor bad."""
    NONE = "none"
    """One of the two has no such figure."""


def change(figure: Figure, before: float | None, after: float | None, tolerance: float = TOLERANCE) -> Change:
    """Compare a figure. tolerance: a share of the larger of the two, up to which they are the same."""
    if before is None or after is None:
        return Change.NONE
    if abs(after - before) <= tolerance * max(abs(before), abs(after)):
        return Change.SAME
    if figure.better == 0:
        return Change.DIFFERENT
    return Change.BETTER if (after > before) == (figure.better > 0) else Change.WORSE
