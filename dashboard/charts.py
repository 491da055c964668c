"""Intervals of a run -> ECharts options for the live panels. Pure: plain JSON values, no callbacks, no streamlit.

Nothing animates and every update replaces the option, so a chart is redrawn in place once a second at little cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from dashboard import style
from dashboard.chart_frame import (
    Column,
    Mark,
    Option,
    Span,
    Threshold,
    area,
    framed,
    line,
    say_nothing,
    span_of,
)
from dashboard.heatmap import heatmap
from dashboard.rates import Interval

__all__ = [
    "Mark", "Option", "Span", "Threshold", "errors", "failures", "heatmap", "lags", "latency", "oldest", "outcomes",
    "pending", "repairs", "scheduled", "span_of", "stalled", "traffic",
]  # fmt: skip

MESSAGES_PER_SECOND = "%,.0f /s"
PERCENTILES = ((50.0, "dotted", 1.4), (95.0, "dashed", 1.4), (99.0, "solid", 1.6), (99.9, "solid", 2.4))
PLOT_HEIGHT = 142
"""Pixels between the margins of a panel whose lines are named at their ends: widgets.CHART_HEIGHT less 34."""
NAME_HEIGHT = 11


def outcomes(intervals: Sequence[Interval], span: Span, marks: Sequence[Mark] = ()) -> Option:
    """What became of messages in each second, stacked; the offered rate as a line above them."""
    stacked: list[tuple[str, str, Column]] = [
        ("acked", style.ACKED, lambda i: i.per_second(i.plain_acks)),
        ("duplicate", style.DUPLICATE, lambda i: i.per_second(i.duplicates)),
        ("late", style.LATE, lambda i: i.per_second(i.late_acks)),
        ("rejected", style.REJECTED, lambda i: i.per_second(i.rejected)),
        ("unknown", style.UNKNOWN, lambda i: i.per_second(i.unknown)),
        ("no ack", style.PENDING, lambda i: i.per_second(i.unacknowledged)),
    ]
    present = [row for row in stacked if row[0] == "acked" or any(row[2](i) for i in intervals)]
    columns: list[tuple[str, Column]] = [(name, column) for name, _, column in present]
    columns.append(("offered", lambda i: i.per_second(i.offered)))
    series = [area(name, colour) for name, colour, _ in present]
    series.append(line("offered", style.OFFERED, dash="dashed", width=1.5))
    return framed(intervals, columns, series, span, marks, tooltip=MESSAGES_PER_SECOND, from_zero=True)


def errors(intervals: Sequence[Interval], span: Span, marks: Sequence[Mark] = ()) -> Option:
    """Failed attempts in each second by kind, those that a retry cured among them."""
    kinds = sorted({kind for interval in intervals for kind in interval.errors})
    columns: list[tuple[str, Column]] = [(style.words(kind), _errors_of(kind)) for kind in kinds]
    series = [
        area(style.words(kind), style.ERROR_KIND_COLOURS.get(kind, style.ERROR_KIND_COLOURS["other"])) for kind in kinds
    ]
    option = framed(intervals, columns, series, span, marks, tooltip="%,.1f /s", from_zero=True)
    if not kinds:
        say_nothing(option, "No errors in this window")
    return option


def latency(
    intervals: Sequence[Interval], span: Span, marks: Sequence[Mark] = (), levels: Sequence[Threshold] = ()
) -> Option:
    """Percentiles of ack latency on a log axis, told apart by line style. levels: in seconds."""
    columns: list[tuple[str, Column]] = [(f"p{percent:g}", _percentile_of(percent)) for percent, _, _ in PERCENTILES]
    series = [line(f"p{percent:g}", style.ACKED, dash=dash, width=width) for percent, dash, width in PERCENTILES]
    return _on_log_axis(intervals, columns, series, span, marks, levels, "No acks in this window")


def scheduled(intervals: Sequence[Interval], span: Span, marks: Sequence[Mark] = ()) -> Option:
    """p99 from the scheduled time beside p99 from the send: apart where messages waited before they were sent."""
    columns: list[tuple[str, Column]] = [
        ("sent", _percentile_of(99.0)),
        ("scheduled", lambda i: _milliseconds(i.scheduled_percentile_s(99.0))),
    ]
    series = [
        line("sent", style.ACKED, dash="solid", width=1.6),
        line("scheduled", style.UNKNOWN, dash="dashed", width=1.8),
    ]
    return _on_log_axis(intervals, columns, series, span, marks, (), "No acks in this window", named_at_end=False)


def lags(intervals: Sequence[Interval], span: Span, marks: Sequence[Mark] = ()) -> Option:
    """What observing costs, and how late the load itself was: messages after their scheduled time, its event loop after
    its timers, samples that were not in the store yet."""
    rows: list[tuple[str, str, str, Column]] = [
        ("schedule", style.UNKNOWN, "solid", lambda i: i.schedule_lag_max_s * 1e3),
        ("event loop", style.PENDING, "dashed", lambda i: i.loop_lag_max_s * 1e3),
    ]
    if any(i.store_delay_max_s is not None for i in intervals):
        rows.append(("store", style.RETRY, "dotted", lambda i: _milliseconds(i.store_delay_max_s)))
    columns: list[tuple[str, Column]] = [(name, column) for name, _, _, column in rows]
    series = [line(name, colour, dash=dash, width=1.6) for name, colour, dash, _ in rows]
    option = framed(intervals, columns, series, span, marks, tooltip="%.2f ms", from_zero=True)
    option["yAxis"]["axisLabel"] |= {"formatter": "{value} ms"}
    return option


def traffic(intervals: Sequence[Interval], span: Span, marks: Sequence[Mark] = ()) -> Option:
    """Messages that the load wanted sent, that were accepted, and that were acked, in each second."""
    columns: list[tuple[str, Column]] = [
        ("offered", lambda i: i.per_second(i.offered)),
        ("sent", lambda i: i.per_second(i.accepted)),
        ("acked", lambda i: i.per_second(i.acked)),
    ]
    series = [
        line("offered", style.OFFERED, dash="dotted", width=2.4),
        line("sent", style.RETRY, dash="dashed", width=1.8),
        line("acked", style.ACKED, dash="solid", width=1.4),
    ]
    return framed(intervals, columns, series, span, marks, tooltip=MESSAGES_PER_SECOND, from_zero=True)


def stalled(
    intervals: Sequence[Interval], span: Span, marks: Sequence[Mark] = (), levels: Sequence[Threshold] = ()
) -> Option:
    """Share of the time in which a publisher waited for room in the window. levels: ratios."""
    columns: list[tuple[str, Column]] = [("stalled", lambda i: i.stalled_share * 100)]
    option = framed(
        intervals,
        columns,
        [area("stalled", style.DUPLICATE, stack=False)],
        span,
        marks,
        thresholds=[replace(one, value=one.value * 100) for one in levels],
        tooltip="%.1f %%",
        from_zero=True,
        named_by_heading=True,
    )
    option["yAxis"] |= {"max": 100}
    option["yAxis"]["axisLabel"] |= {"formatter": "{value} %"}
    if not any(i.stalled_s for i in intervals):
        say_nothing(option, "No publisher waited for room")
    return option


def pending(
    intervals: Sequence[Interval], span: Span, levels: Sequence[Threshold], marks: Sequence[Mark] = ()
) -> Option:
    """Messages awaiting their ack, against the window's limit and the thresholds of alerts."""
    limit = intervals[-1].max_pending if intervals else 0
    lines = list(levels)
    if limit:
        lines.append(Threshold(limit, f"limit {style.count(limit)}", style.PENDING, hard=True))
    columns: list[tuple[str, Column]] = [("pending", lambda i: float(i.pending_max))]
    option = framed(
        intervals,
        columns,
        [area("pending", style.PENDING, stack=False)],
        span,
        marks,
        thresholds=lines,
        tooltip="%,.0f messages",
        from_zero=True,
        named_by_heading=True,
    )
    option["yAxis"]["max"] = max([limit, *(one.value for one in levels), *(i.pending_max for i in intervals)]) * 1.15
    option["yAxis"]["axisLabel"]["showMaxLabel"] = False
    return option


def oldest(
    intervals: Sequence[Interval],
    span: Span,
    ack_timeout_s: float,
    marks: Sequence[Mark] = (),
    levels: Sequence[Threshold] = (),
) -> Option:
    """Age of the oldest pending message, against the ack timeout and the thresholds of alerts."""
    timeout = Threshold(ack_timeout_s, f"ack timeout {style.duration(ack_timeout_s)}", style.UNKNOWN, hard=True)
    columns: list[tuple[str, Column]] = [("oldest pending", lambda i: i.oldest_pending_age_max_s)]
    option = framed(
        intervals,
        columns,
        [area("oldest pending", style.PENDING, stack=False)],
        span,
        marks,
        thresholds=[*levels, timeout],
        tooltip="%.3f s",
        from_zero=True,
        named_by_heading=True,
    )
    peak = max([ack_timeout_s, *(one.value for one in levels), *(i.oldest_pending_age_max_s for i in intervals)])
    option["yAxis"]["max"] = peak * 1.15
    option["yAxis"]["axisLabel"] |= {"formatter": "{value} s", "showMaxLabel": False}
    return option


def failures(intervals: Sequence[Interval], span: Span, marks: Sequence[Mark] = ()) -> Option:
    """Messages that ended rejected or unknown in each second: few of them cannot be seen in a stack."""
    rows: list[tuple[str, str, str, Column]] = [
        ("rejected", style.REJECTED, "solid", lambda i: i.per_second(i.rejected)),
        ("unknown", style.UNKNOWN, "dashed", lambda i: i.per_second(i.unknown)),
    ]
    columns: list[tuple[str, Column]] = [(name, column) for name, _, _, column in rows]
    series = [line(name, colour, dash=dash, width=1.8) for name, colour, dash, _ in rows]
    option = framed(intervals, columns, series, span, marks, tooltip="%,.1f /s", from_zero=True)
    if not any(i.rejected or i.unknown for i in intervals):
        say_nothing(option, "No message failed in this window")
    return option


def repairs(intervals: Sequence[Interval], span: Span, marks: Sequence[Mark] = ()) -> Option:
    """What the ledger had to do: retries, ack timeouts, duplicates and late acks in each second."""
    rows: list[tuple[str, str, str, Column]] = [
        ("retries", style.RETRY, "solid", lambda i: i.per_second(i.retries)),
        ("ack timeouts", style.UNKNOWN, "solid", lambda i: i.per_second(i.ack_timeouts)),
        ("duplicates", style.DUPLICATE, "dashed", lambda i: i.per_second(i.duplicates)),
        ("late acks", style.LATE, "dotted", lambda i: i.per_second(i.late_acks)),
    ]
    present = [row for row in rows if any(row[3](i) for i in intervals)]
    columns: list[tuple[str, Column]] = [(name, column) for name, _, _, column in present]
    series = [line(name, colour, dash=dash, width=1.8) for name, colour, dash, _ in present]
    option = framed(intervals, columns, series, span, marks, tooltip="%,.1f /s", from_zero=True)
    if not present:
        say_nothing(option, "Nothing to repair in this window")
    return option


def _errors_of(kind: str) -> Column:
    return lambda interval: interval.per_second(interval.errors.get(kind, 0))


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def _percentile_of(percent: float) -> Column:
    return lambda interval: _milliseconds(interval.percentile_s(percent))


def _on_log_axis(
    intervals: Sequence[Interval],
    columns: Sequence[tuple[str, Column]],
    series: list[Option],
    span: Span,
    marks: Sequence[Mark],
    levels: Sequence[Threshold],
    nothing: str,
    *,
    named_at_end: bool = True,
) -> Option:
    values = [v for i in intervals for _, column in columns if (v := column(i)) is not None and v > 0]
    low, high = _decades([*values, *(one.value * 1e3 for one in levels if values)])
    option = framed(
        intervals,
        columns,
        series,
        span,
        marks,
        thresholds=[replace(one, value=one.value * 1e3) for one in levels],
        tooltip="%.2f ms",
        named_by_heading=named_at_end,
    )
    option["yAxis"] |= {"type": "log", "min": low, "max": high}
    option["yAxis"]["axisLabel"] |= {"formatter": "{value} ms"}
    if named_at_end:
        # Named at their ends: by its dashes alone a line of a legend is hard to tell.
        option["grid"]["right"] = 36
        ends = [next((v for i in reversed(intervals) if (v := column(i))), low) for _, column in columns]
        for one, up in zip(option["series"], _apart([_height(end, low, high) for end in ends]), strict=False):
            one["endLabel"] = {"show": True, "formatter": "{a}", "distance": 3, "offset": [0, -up]}
    if not values:
        say_nothing(option, nothing)
    return option


def _height(value: float, low: float, high: float) -> float:
    """Where a value is on the log axis of a panel, in pixels above its foot."""
    return PLOT_HEIGHT * math.log(value / low) / math.log(high / low)


def _apart(heights: Sequence[float]) -> list[int]:
    """How far up names have to be moved to be NAME_HEIGHT apart, with the lowest first and none above the chart."""
    places: list[float] = []
    for height in heights:
        places.append(max(height, places[-1] + NAME_HEIGHT) if places else height)
    top = float(PLOT_HEIGHT)
    for at in range(len(places) - 1, -1, -1):
        places[at] = min(places[at], top)
        top = places[at] - NAME_HEIGHT
    return [round(place - height) for place, height in zip(places, heights, strict=True)]


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Whole powers of ten around ``values``, at least two decades, so that the axis holds still."""
    if not values:
        return 0.1, 100.0
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 2)
    return float(10.0**low), float(10.0**high)
