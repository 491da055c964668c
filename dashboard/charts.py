"""Intervals of a run -> ECharts options for the live panels. Pure: plain JSON values, no callbacks, no streamlit.

Nothing animates and every update replaces the option, so a chart is redrawn in place once a second at little cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard import style
from dashboard.rates import Interval

Option = dict[str, Any]
Column = Callable[[Interval], float | None]

AXIS_STEPS_S = (30.0, 60.0, 120.0, 300.0, 600.0, 900.0)
LEGEND_LINE = 5
"""Legend entries that fit one line of the narrowest panel."""
MESSAGES_PER_SECOND = "%,.0f /s"
PERCENTILES = ((50.0, "dotted"), (95.0, "dashed"), (99.0, "solid"))


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened, drawn as a dashed upright line on every chart over time."""

    wall_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a chart shows, in seconds since the epoch."""

    from_s: float
    to_s: float

    def holds(self, wall_s: float) -> bool:
        return self.from_s <= wall_s <= self.to_s


@dataclass(frozen=True, slots=True)
class Threshold:
    """A level line: solid for a hard limit, dashed for an alert's threshold."""

    value: float
    text: str
    colour: str
    hard: bool = False


def span_of(intervals: Sequence[Interval], window_s: float | None, *, growing: bool) -> Span:
    """The time axis for ``intervals``. While a run grows it is given room, in steps, so that it seldom changes."""
    if not intervals:
        return Span(0.0, AXIS_STEPS_S[0])
    last = intervals[-1]
    length_s = last.end_s - intervals[0].start_s
    from_s = last.wall_s - length_s
    if not growing or length_s >= AXIS_STEPS_S[-1]:
        return Span(from_s, last.wall_s)
    room_s = next(step for step in AXIS_STEPS_S if step >= length_s)
    return Span(from_s, from_s + (room_s if window_s is None else max(length_s, min(room_s, window_s))))


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
    series = [_area(name, colour) for name, colour, _ in present]
    series.append(_line("offered", style.OFFERED, dash="dashed", width=1.5))
    return _option(intervals, columns, series, span, marks, tooltip=MESSAGES_PER_SECOND, from_zero=True)


def errors(intervals: Sequence[Interval], span: Span, marks: Sequence[Mark] = ()) -> Option:
    """Failed attempts in each second by kind, those that a retry cured among them."""
    kinds = sorted({kind for interval in intervals for kind in interval.errors})
    columns: list[tuple[str, Column]] = [(style.words(kind), _errors_of(kind)) for kind in kinds]
    series = [
        _area(style.words(kind), style.ERROR_KIND_COLOURS.get(kind, style.ERROR_KIND_COLOURS["other"]))
        for kind in kinds
    ]
    option = _option(intervals, columns, series, span, marks, tooltip="%,.1f /s", from_zero=True)
    if not kinds:
        _say_nothing(option, "No errors in this window")
    return option


def latency(intervals: Sequence[Interval], span: Span, marks: Sequence[Mark] = ()) -> Option:
    """Percentiles of ack latency on a log axis, told apart by line style."""
    columns: list[tuple[str, Column]] = [(f"p{percent:.0f}", _percentile_of(percent)) for percent, _ in PERCENTILES]
    series = [
        _line(f"p{percent:.0f}", style.ACKED, dash=dash, width=2.0 if dash == "solid" else 1.6)
        for percent, dash in PERCENTILES
    ]
    option = _option(intervals, columns, series, span, marks, tooltip="%.2f ms", named_by_heading=True)
    values = [v for i in intervals for _, column in columns if (v := column(i)) is not None and v > 0]
    low, high = _decades(values)
    option["yAxis"] |= {"type": "log", "min": low, "max": high}
    option["yAxis"]["axisLabel"] |= {"formatter": "{value} ms"}
    # Named at their ends: by its dashes alone a line of a legend is hard to tell. The names are moved apart a little,
    # so that they can be read where the lines meet.
    option["grid"]["right"] = 32
    for place, one in enumerate(option["series"][: len(columns)]):
        one["endLabel"] = {"show": True, "formatter": "{a}", "distance": 4, "offset": [0, 9 - 9 * place]}
    if not values:
        _say_nothing(option, "No acks in this window")
    return option


def pending(intervals: Sequence[Interval], span: Span, threshold: int, marks: Sequence[Mark] = ()) -> Option:
    """Messages awaiting their ack, against the window's limit and the alert's threshold."""
    limit = intervals[-1].max_pending if intervals else 0
    lines = [Threshold(threshold, f"alert {style.count(threshold)}", style.UNKNOWN)]
    if limit:
        lines.append(Threshold(limit, f"limit {style.count(limit)}", style.PENDING, hard=True))
    columns: list[tuple[str, Column]] = [("pending", lambda i: float(i.pending_max))]
    series = [_area("pending", style.PENDING, stack=False)]
    option = _option(
        intervals,
        columns,
        series,
        span,
        marks,
        thresholds=lines,
        tooltip="%,.0f messages",
        from_zero=True,
        named_by_heading=True,
    )
    option["yAxis"]["max"] = max([limit, threshold, *(i.pending_max for i in intervals)]) * 1.15
    option["yAxis"]["axisLabel"]["showMaxLabel"] = False
    return option


def oldest(intervals: Sequence[Interval], span: Span, ack_timeout_s: float, marks: Sequence[Mark] = ()) -> Option:
    """Age of the oldest pending message, against the ack timeout."""
    lines = [Threshold(ack_timeout_s, f"ack timeout {style.duration(ack_timeout_s)}", style.UNKNOWN, hard=True)]
    columns: list[tuple[str, Column]] = [("oldest pending", lambda i: i.oldest_pending_age_max_s)]
    series = [_area("oldest pending", style.PENDING, stack=False)]
    option = _option(
        intervals,
        columns,
        series,
        span,
        marks,
        thresholds=lines,
        tooltip="%.3f s",
        from_zero=True,
        named_by_heading=True,
    )
    peak = max([ack_timeout_s, *(i.oldest_pending_age_max_s for i in intervals)])
    option["yAxis"]["max"] = peak * 1.15
    option["yAxis"]["axisLabel"] |= {"formatter": "{value} s", "showMaxLabel": False}
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
    series = [_line(name, colour, dash=dash, width=1.8) for name, colour, dash, _ in present]
    option = _option(intervals, columns, series, span, marks, tooltip="%,.1f /s", from_zero=True)
    if not present:
        _say_nothing(option, "Nothing to repair in this window")
    return option


def _errors_of(kind: str) -> Column:
    return lambda interval: interval.per_second(interval.errors.get(kind, 0))


def _percentile_of(percent: float) -> Column:
    def column(interval: Interval) -> float | None:
        seconds = interval.latency.percentile_s(percent)
        return None if seconds is None else seconds * 1e3

    return column


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Whole powers of ten around ``values``, at least two decades, so that the axis holds still."""
    if not values:
        return 0.1, 100.0
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 2)
    return float(10.0**low), float(10.0**high)


def _option(
    intervals: Sequence[Interval],
    columns: Sequence[tuple[str, Column]],
    series: list[Option],
    span: Span,
    marks: Sequence[Mark],
    *,
    tooltip: str,
    thresholds: Sequence[Threshold] = (),
    from_zero: bool = False,
    named_by_heading: bool = False,
) -> Option:
    """The frame that all charts over time share: one column of numbers per series, in ``dataset.source``."""
    source = [
        [round(i.wall_s * 1000), *(None if (v := column(i)) is None else round(v, 4) for _, column in columns)]
        for i in intervals
    ]
    seen = [mark for mark in marks if span.holds(mark.wall_s)]
    # Many series take a second line of the legend.
    top = 10 if named_by_heading else 28 if len(series) <= LEGEND_LINE else 44
    return {
        "animation": False,
        "dataset": {"dimensions": ["time", *(name for name, _ in columns)], "source": source},
        # The same margins everywhere, so that a moment is at the same place in every chart.
        "grid": {"left": 58, "right": 26, "top": top, "bottom": 22, "outerBoundsMode": "none"},
        "legend": {
            "show": not named_by_heading,
            "top": 0,
            "left": 0,
            "itemWidth": 16,
            "itemHeight": 8,
            "itemGap": 9,
            "selectedMode": False,  # a choice would be lost at the next refresh
            "data": [_legend_entry(one) for one in series],
        },
        "tooltip": {"trigger": "axis", "valueFormatter": tooltip, "confine": True},
        "xAxis": {
            "type": "time",
            "min": round(span.from_s * 1000),
            "max": round(span.to_s * 1000),
            "splitNumber": 3,
            "splitLine": {"show": False},
            "axisLabel": {"formatter": "{HH}:{mm}:{ss}", "hideOverlap": True, "showMinLabel": False},
        },
        "yAxis": {
            "type": "value",
            "splitNumber": 4,
            "axisLabel": {"hideOverlap": True},
            **({"min": 0} if from_zero else {}),
        },
        "series": [
            *(one | {"encode": {"x": "time", "y": one["name"]}} for one in series),
            _lines_across(thresholds, seen),
        ],
    }


def _area(name: str, colour: str, *, stack: bool = True) -> Option:
    # A stacked band has no outline: that of an empty band would hide the colour of the one below it.
    return {
        "type": "line",
        "name": name,
        "symbol": "none",
        "color": colour,
        "lineStyle": {"width": 0 if stack else 1.5, "color": colour},
        "areaStyle": {"opacity": 0.85 if stack else 0.4, "color": colour},
        **({"stack": "all"} if stack else {}),
    }


def _legend_entry(series: Option) -> Option:
    """A filled patch for a band; a line shows its own dashes."""
    mark = {"icon": "roundRect"} if "areaStyle" in series else {"itemStyle": {"opacity": 0}}
    return {"name": series["name"], **mark}


def _line(name: str, colour: str, *, dash: str, width: float) -> Option:
    return {
        "type": "line",
        "name": name,
        "symbol": "none",
        "color": colour,
        "lineStyle": {"width": width, "type": dash, "color": colour},
    }


def _lines_across(thresholds: Sequence[Threshold], marks: Sequence[Mark]) -> Option:
    """A series without points that carries level lines and the upright lines of events."""
    data: list[Option] = [
        {
            "yAxis": threshold.value,
            "lineStyle": {"color": threshold.colour, "type": "solid" if threshold.hard else "dashed", "width": 1.5},
            "label": {
                "formatter": threshold.text,
                "position": "insideEndTop" if threshold.hard else "insideStartTop",
                "color": threshold.colour,
            },
        }
        for threshold in thresholds
    ]
    data += [
        {
            "xAxis": round(mark.wall_s * 1000),
            "name": mark.text,
            "lineStyle": {"color": style.PENDING, "type": "dashed", "width": 1, "opacity": 0.6},
            "label": {"show": False},
        }
        for mark in marks
    ]
    return {
        "type": "line",
        "name": "marks",
        "data": [],
        "silent": True,
        "tooltip": {"show": False},
        "markLine": {"silent": True, "symbol": "none", "animation": False, "data": data},
    }


def _say_nothing(option: Option, text: str) -> None:
    """Turn a chart of nothing into a sentence over an empty time axis."""
    option["title"] = {
        "text": text,
        "left": "center",
        "top": "middle",
        "textStyle": {"fontSize": 13, "fontWeight": "normal", "color": style.PENDING},
    }
    option["legend"]["show"] = False
    option["yAxis"] |= {"max": 10 if option["yAxis"]["type"] == "log" else 1, "splitLine": {"show": False}}
    option["yAxis"]["axisLabel"]["show"] = False
