"""LatencyParts: where the time of acked messages went, in figures and in words. Pure.

A message's time from its place in the schedule to its ack has two parts that add up: until its last attempt was sent,
and from there to the ack. The first is not told by a bus as such; it is the difference of the two means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dashboard import style
from dashboard.rates import Interval
from eventbus import LatencyHistogram

PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)
NOTICEABLE = 0.01
"""Shares below it are called hardly any."""
_LATE_S = 0.01
"""A schedule that is met within so much is called met: timers and one busy turn of the loop take as long."""
_LARGE = 0.5


@dataclass(frozen=True, slots=True)
class LatencyParts:
    """What a time of a run had in latencies, without its warm-up. Durations are seconds.

    ack: from the last attempt's send to its ack. scheduled: from the scheduled time to the ack, those that were acked
    late among them; empty in a closed model. stalled_share: of the time in which a publisher waited for room.
    warming_up: there was nothing but warm-up, and the figures are of that.
    """

    ack: LatencyHistogram = field(default_factory=LatencyHistogram)
    scheduled: LatencyHistogram = field(default_factory=LatencyHistogram)
    accepted: int = 0
    unacknowledged: int = 0
    late_acks: int = 0
    retries: int = 0
    ack_timeouts: int = 0
    span_s: float = 0.0
    stalled_s: float = 0.0
    stalled_share: float = 0.0
    schedule_lag_max_s: float = 0.0
    loop_lag_max_s: float = 0.0
    warming_up: bool = False

    @property
    def before_s(self) -> float | None:
        """Mean time until the last attempt was sent; None without a schedule or without acks."""
        if self.scheduled.mean_s is None or self.ack.mean_s is None:
            return None
        return max(0.0, self.scheduled.mean_s - self.ack.mean_s)

    @property
    def before_share(self) -> float | None:
        """Share of it in the whole mean time."""
        before_s = self.before_s
        return None if before_s is None or not self.scheduled.mean_s else before_s / self.scheduled.mean_s

    @property
    def retry_ratio(self) -> float:
        """Attempts that were repeated, for each accepted message."""
        return self.retries / self.accepted if self.accepted else 0.0


def parts_of(intervals: Sequence[Interval]) -> LatencyParts:
    """Of some intervals of a run, without those of its warm-up unless there are no others."""
    judged = [interval for interval in intervals if not interval.warming_up]
    rows = judged or intervals
    span_s, stalled_s = sum(row.span_s for row in rows), sum(row.stalled_s for row in rows)
    return LatencyParts(
        ack=together(row.latency for row in rows),
        scheduled=together(row.scheduled for row in rows),
        accepted=sum(row.accepted for row in rows),
        unacknowledged=sum(row.unacknowledged for row in rows),
        late_acks=sum(row.late_acks for row in rows),
        retries=sum(row.retries for row in rows),
        ack_timeouts=sum(row.ack_timeouts for row in rows),
        span_s=span_s,
        stalled_s=stalled_s,
        stalled_share=min(1.0, stalled_s / span_s) if span_s > 0 else 0.0,
        schedule_lag_max_s=max((row.schedule_lag_max_s for row in rows), default=0.0),
        loop_lag_max_s=max((row.loop_lag_max_s for row in rows), default=0.0),
        warming_up=bool(rows) and not judged,
    )


def together(histograms: Iterable[LatencyHistogram]) -> LatencyHistogram:
    """All of them as one, exactly; cheaper than to merge one after another."""
    counts: dict[int, int] = {}
    total = sum_ns = max_ns = 0
    for histogram in histograms:
        for bucket, count in histogram.counts.items():
            counts[bucket] = counts.get(bucket, 0) + count
        total += histogram.total
        sum_ns += histogram.sum_ns
        max_ns = max(max_ns, histogram.max_ns)
    return LatencyHistogram(dict(sorted(counts.items())), total, sum_ns, max_ns)


def percentile_s(histogram: LatencyHistogram, percent: float) -> float | None:
    """A percentile in seconds; None where not one message lies above it, since it would only be the maximum."""
    if round(histogram.total * (100 - percent), 6) < 100:  # 1000 * (100 - 99.9) is a little less than 100
        return None
    return histogram.percentile_s(percent)


@dataclass(frozen=True, slots=True)
class PercentileRow:
    """One line of the table, as words with their units."""

    name: str
    ack: str
    scheduled: str
    difference: str


def percentile_rows(parts: LatencyParts) -> list[PercentileRow]:
    """Percentiles, maximum and mean of both latencies, and by how much they differ."""
    rows = [
        _row(f"p{percent:g}", percentile_s(parts.ack, percent), percentile_s(parts.scheduled, percent))
        for percent in PERCENTILES
    ]
    rows.append(_row("max", parts.ack.max_s, parts.scheduled.max_s))
    rows.append(_row("mean", parts.ack.mean_s, parts.scheduled.mean_s))
    return rows


def _row(name: str, ack_s: float | None, scheduled_s: float | None) -> PercentileRow:
    if ack_s is None or scheduled_s is None:
        difference = style.NOTHING
    else:
        sign = "+" if scheduled_s >= ack_s else "\N{MINUS SIGN}"
        difference = sign + style.duration(abs(scheduled_s - ack_s))
    return PercentileRow(name, style.duration(ack_s), style.duration(scheduled_s), difference)


# ---- in words ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of the time in words. weight: "fine", "notable" or "large", for its icon and colour.

    figure: how much there was of it, to be read at a glance; a dash where it is not known.
    """

    title: str
    weight: str
    figure: str
    text: str


def verdict(parts: LatencyParts, *, closed: bool) -> str:
    """One sentence: where most of the time went. closed: each worker awaits its ack, and there is no schedule."""
    mean_s, before_s, share = parts.scheduled.mean_s, parts.before_s, parts.before_share
    if not parts.ack.total:
        return "No message was acked in this time, so there is no latency to tell of."
    if closed or mean_s is None or before_s is None or share is None:
        return (
            f"An ack took {style.duration(parts.ack.mean_s)} on average after the send. "
            "There is no schedule to be late for, so waiting before the send is not measured."
        )
    broker = f"{style.duration(parts.ack.mean_s)} on the way to the broker and back"
    if share < _LARGE:
        return (
            f"Most of the time is the broker's: of {style.duration(mean_s)} on average, {broker}, and "
            f"{style.duration(before_s)} before the last send."
        )
    return (
        f"Most of the time passes before the send: of {style.duration(mean_s)} on average, {style.duration(before_s)} "
        f"({style.percent(share)}), and only {broker}. {_cause(parts)}"
    )


def _cause(parts: LatencyParts) -> str:
    """What kept messages from being sent, by what can be seen of it."""
    causes = []
    if parts.retry_ratio >= NOTICEABLE:
        causes.append("attempts were repeated, and each ack timeout and pause counts")
    if parts.stalled_share >= NOTICEABLE:
        causes.append("the window was full at times, so that publishers waited for room")
    if not causes and parts.schedule_lag_max_s >= _LATE_S:
        causes.append("the load itself sent late at times, because its process or the machine was busy")
    told = "; ".join(causes) or "it is as short as a timer and a turn of the event loop take"
    return f"{told[0].upper()}{told[1:]}."


def findings(parts: LatencyParts, *, closed: bool, max_pending: int, ack_timeout_s: float) -> list[Finding]:
    """The four parts of the time in the order in which a message meets them: what each is, and what can be done."""
    return [
        _schedule(parts, closed=closed),
        _window(parts, max_pending),
        _retries(parts, ack_timeout_s),
        _broker(parts),
    ]


def _schedule(parts: LatencyParts, *, closed: bool) -> Finding:
    if closed:
        text = "A closed model: each worker sends when its last ack came, so no message can be late."
        return Finding("Schedule", "fine", style.NOTHING, text)
    lag = style.duration(parts.schedule_lag_max_s)
    figure = f"at most {lag} late"
    if parts.schedule_lag_max_s < _LATE_S:
        return Finding("Schedule", "fine", figure, "Messages were sent at their time, as near as a timer can be.")
    text = f"Messages were sent up to {lag} after their time. "
    if parts.stalled_s > 0:
        return Finding("Schedule", "large", figure, text + "They waited for room in the window, see there.")
    text += (
        f"The event loop itself was up to {style.duration(parts.loop_lag_max_s)} late: the process or the machine was "
        "busy, and some of every latency here may be its own."
    )
    return Finding("Schedule", "notable", figure, text)


def _window(parts: LatencyParts, max_pending: int) -> Finding:
    if parts.stalled_s <= 0:
        text = "No publisher ever waited for room, so the window cost no time."
        return Finding("Window wait", "fine", "none", text)
    figure = f"{style.duration(parts.stalled_s)}, {style.percent(parts.stalled_share)} of the time"
    text = (
        f"So long a publisher waited for room among {style.count(max_pending)} pending messages. This is "
        "back-pressure: the broker acks slower than messages are offered. A larger window only helps where acks are "
        "late but not too few."
    )
    return Finding("Window wait", "large" if parts.stalled_share >= 0.05 else "notable", figure, text)


def _retries(parts: LatencyParts, ack_timeout_s: float) -> Finding:
    if not parts.retries and not parts.late_acks:
        return Finding("Retries", "fine", "none", "No attempt was repeated.")
    figure = f"{style.count(parts.retries)}, {style.percent(parts.retry_ratio)} of accepted"
    text = (
        f"Attempts that were repeated; {style.count(parts.ack_timeouts)} waited in vain for the ack timeout of "
        f"{style.duration(ack_timeout_s)}. "
        "The ack latency begins anew with each attempt; from the schedule, every attempt and pause counts."
    )
    if parts.late_acks:
        text += (
            f" {style.count(parts.late_acks)} messages were acked after they had been given up: they count from the "
            "schedule only."
        )
    return Finding("Retries", "large" if parts.retry_ratio >= 0.05 else "notable", figure, text)


def _broker(parts: LatencyParts) -> Finding:
    p50, p99 = parts.ack.percentile_s(50), parts.ack.percentile_s(99)
    if p50 is None or p99 is None:
        text = "No ack came, so nothing is known of the way to the broker and back."
        return Finding("Broker", "fine", style.NOTHING, text)
    uneven = p99 > 20 * p50
    text = (
        f"From the last send to the ack: half of the acks within {style.duration(p50)}, 99 of 100 within "
        f"{style.duration(p99)}. "
    )
    text += (
        "The slow ones are far from the usual one: look in the heatmap whether that is all the time or only now and "
        "then, as when a broker pauses."
        if uneven
        else "Network, broker, replicas and the wait for this process to read the ack are all in it."
    )
    figure = f"p50 {style.duration(p50)}, p99 {style.duration(p99)}"
    return Finding("Broker", "notable" if uneven else "fine", figure, text)
