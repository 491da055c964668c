"""Charts of the Latency page: ECharts options from intervals. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum

from dashboard import style
from dashboard.chart_frame import Column, Mark, Option, Span, Threshold, framed, line, say_nothing, say_words
from dashboard.latency_parts import LatencyParts, percentile_s
from dashboard.rates import Interval
from eventbus import LatencyHistogram
from eventbus.latency import bucket_bounds_ns

HEAT_COLUMNS = 300
HEAT_ROWS = 40
LINES = ((50.0, "dotted", 1.4), (95.0, "dashed", 1.4), (99.0, "solid", 1.6), (99.9, "solid", 2.6))
"""Percentile, dashes and width of its line."""
CURVE = (50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95, 99.99, 99.999)
"""Each of about the same room, so that the last nines can be read."""
LABEL_PX = 11
"""Lines of text at the ends of percentiles are so far apart, at least."""
PLOT_PX = 142
"""Height of the plot of a panel: widgets.CHART_HEIGHT without the margins above and below."""
_EIGHTHS = 3
"""Finest rows of the heatmap: eight buckets of a histogram, an eighth of a doubling."""


class Measure(StrEnum):
    """Which latency."""

    ACK = "from the send"
    SCHEDULED = "from the schedule"

    def of(self, interval: Interval) -> LatencyHistogram:
        """What an interval has of it."""
        return interval.latency if self is Measure.ACK else interval.scheduled

    def percentile_s(self, interval: Interval, percent: float) -> float | None:
        """Found once for each interval."""
        if self is Measure.ACK:
            return interval.percentile_s(percent)
        return interval.scheduled_percentile_s(percent)

    @property
    def colour(self) -> str:
        """Beside its name, never alone."""
        return style.ACKED if self is Measure.ACK else style.UNKNOWN


def axis_ms(intervals: Sequence[Interval]) -> tuple[float, float]:
    """A log axis in milliseconds that holds both latencies: whole powers of ten, at least two."""
    values = [
        value * 1e3
        for interval in intervals
        for measure in Measure
        for percent in (LINES[0][0], LINES[-1][0])
        if (value := measure.percentile_s(interval, percent))
    ]
    if not values:
        return 0.1, 100.0
    low = math.floor(math.log10(min(values)))
    return 10.0**low, 10.0 ** max(math.ceil(math.log10(max(values))), low + 2)


def percentiles(
    intervals: Sequence[Interval],
    span: Span,
    measure: Measure,
    axis: tuple[float, float],
    *,
    marks: Sequence[Mark] = (),
    levels: Sequence[Threshold] = (),
    nothing: str = "No acks in this time",
) -> Option:
    """p50 to p99.9 over time on a log axis, told apart by dashes and by names at their ends. levels: in seconds."""
    columns = [(f"p{percent:g}", _column(measure, percent)) for percent, _, _ in LINES]
    option = framed(
        intervals,
        columns,
        [line(f"p{percent:g}", measure.colour, dash=dash, width=width) for percent, dash, width in LINES],
        span,
        marks,
        thresholds=[Threshold(one.value * 1e3, one.text, one.colour) for one in levels],
        tooltip="%.2f ms",
        named_by_heading=True,
    )
    option["yAxis"] |= {"type": "log", "min": axis[0], "max": axis[1]}
    option["yAxis"]["axisLabel"] |= {"formatter": "{value} ms"}
    option["grid"]["right"] = 42
    ends = next((row[1:] for row in reversed(option["dataset"]["source"]) if row[1] is not None), None)
    moves = [0.0] * len(columns) if ends is None else _apart(ends, axis, PLOT_PX)
    for one, move in zip(option["series"], moves, strict=False):
        one["endLabel"] = {"show": True, "formatter": "{a}", "distance": 3, "fontSize": 11, "offset": [0, move]}
    if not any(measure.of(interval).total for interval in intervals):
        say_nothing(option, nothing)
    return option


def _apart(ends: Sequence[float | None], axis: tuple[float, float], plot_px: int) -> list[float]:
    """By how many pixels each name is moved down from the end of its line, so that none lies on another.

    ends: where the lines end, in milliseconds, which rise from line to line. ECharts' own ``labelLayout`` does not move
    such labels. Names are pushed up from the lowest one; where that reaches the top, all are pushed down from there.
    """
    low, high = (math.log10(end) for end in axis)
    natural = [
        plot_px * (1 - (math.log10(max(end or axis[0], axis[0])) - low) / (high - low)) for end in ends
    ]  # from the top
    placed: list[float] = []
    for place in natural:
        placed.append(min(place, placed[-1] - LABEL_PX) if placed else place)
    for at in range(len(placed) - 1, -1, -1):
        least = 0.0 if at == len(placed) - 1 else placed[at + 1] + LABEL_PX
        placed[at] = max(placed[at], least)
    return [round(there - place, 1) for there, place in zip(placed, natural, strict=True)]


def _column(measure: Measure, percent: float) -> Column:
    def value(interval: Interval) -> float | None:
        seconds = measure.percentile_s(interval, percent)
        return None if seconds is None else seconds * 1e3

    return value


def curve(ack: LatencyHistogram, scheduled: LatencyHistogram) -> Option:
    """Latency over percentiles, both in one chart: where they part, messages waited before they were sent."""
    named = {Measure.ACK: ack, Measure.SCHEDULED: scheduled}
    shown = [percent for percent in CURVE if any(percentile_s(h, percent) is not None for h in named.values())]
    option: Option = {
        "animation": False,
        "grid": {"left": 58, "right": 26, "top": 28, "bottom": 22, "outerBoundsMode": "none"},
        "legend": {"top": 0, "left": 0, "itemWidth": 22, "itemHeight": 8, "selectedMode": False},
        "tooltip": {"trigger": "axis", "valueFormatter": "%.2f ms", "confine": True},
        "xAxis": {
            "type": "category",
            "data": [f"p{percent:g}" for percent in shown],
            "boundaryGap": False,
            "axisLabel": {"hideOverlap": True},
        },
        "yAxis": {"type": "log", "axisLabel": {"formatter": "{value} ms", "hideOverlap": True}},
        "series": [
            line(measure.value, measure.colour, dash="solid" if measure is Measure.ACK else "dashed", width=2.0)
            | {"data": [_ms(percentile_s(histogram, percent)) for percent in shown]}
            for measure, histogram in named.items()
            if histogram.total
        ],
    }
    if not shown:
        option["title"] = say_words("Too few acks in this time for percentiles")
        option["legend"]["show"] = False
    return option


def split(parts: LatencyParts) -> Option | None:
    """The mean time from the schedule to the ack as one bar of its two parts; None where they are not known."""
    before_s, broker_s, share = parts.before_s, parts.ack.mean_s, parts.before_share
    if before_s is None or broker_s is None or share is None:
        return None
    told = (
        ("before the last send", before_s, share, style.DUPLICATE),
        ("to the broker and back", broker_s, 1 - share, style.ACKED),
    )
    return {
        "animation": False,
        "grid": {"left": 0, "right": 0, "top": 30, "bottom": 0, "outerBoundsMode": "none"},
        "legend": {"top": 0, "left": 0, "itemWidth": 16, "itemHeight": 10, "selectedMode": False},
        "xAxis": {"type": "value", "show": False, "min": 0, "max": before_s + broker_s},
        "yAxis": {"type": "category", "data": ["mean"], "show": False},
        "series": [
            {
                "type": "bar",
                "name": f"{name}: {style.duration(seconds)}, {style.percent(part)}",
                "stack": "mean",
                "color": colour,
                "barWidth": "100%",
                "silent": True,
                "data": [seconds],
            }
            for name, seconds, part, colour in told
        ],
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else float(f"{seconds * 1e3:.4g}")


def heatmap(
    intervals: Sequence[Interval],
    span: Span,
    measure: Measure,
    clock: Callable[[float], str],
    nothing: str = "No acks in this time",
) -> Option:
    """How many acks took how long, over time: stronger is more, on a logarithmic scale.

    At most HEAT_COLUMNS by HEAT_ROWS cells, of which only those with acks are told: place, place, logarithm for the
    colour, acks, and from which to which latency the row goes. clock: the time of day where the viewer is.
    """
    names, cells = _cells(intervals, span, measure, clock)
    step_s = _usual_s(intervals[-HEAT_COLUMNS:])
    shift = _shift(sorted({row for _, row in cells}))
    merged: dict[tuple[int, int], int] = {}
    for (column, row), acks in cells.items():
        place = column, row >> (shift - _EIGHTHS)
        merged[place] = merged.get(place, 0) + acks
    rows = [row for _, row in merged] or [0]
    low, high = min(rows), max(rows)
    option: Option = {
        "animation": False,
        "grid": {"left": 66, "right": 26, "top": 12, "bottom": 22, "outerBoundsMode": "none"},
        "tooltip": {"confine": True, "formatter": _cell_words(step_s)},
        "xAxis": {
            "type": "category",
            "data": names,
            "splitLine": {"show": False},
            "axisTick": {"show": False},
            "axisLabel": {"hideOverlap": True, "interval": max(1, len(names) // 8), "showMinLabel": False},
        },
        "yAxis": {
            "type": "category",
            "data": [style.duration(_bounds_s(row, shift)[0]) for row in range(low, high + 1)],
            "splitLine": {"show": False},
            "axisTick": {"show": False},
            "axisLabel": {"hideOverlap": True, "interval": max(0, (high - low) // 6)},
        },
        "visualMap": {
            "show": False,
            "dimension": 2,
            "min": 0,
            "max": max(1.0, math.log10(max(merged.values(), default=1))),
            # By its opacity alone: more stands out more on a light page and on a dark one.
            "inRange": {"color": ["rgba(23,132,199,0.12)", "rgba(23,132,199,1)"]},
        },
        "series": [
            {
                "type": "heatmap",
                "name": "acks",
                "progressive": 0,  # else only the first 400 cells are drawn at once, and the rest in later frames
                "data": [
                    [column, row - low, round(math.log10(acks), 1), acks, *_bounds_ms(row, shift)]
                    for (column, row), acks in merged.items()
                ],
            }
        ],
    }
    if not merged:
        option["title"] = say_words(nothing)
        option["yAxis"]["axisLabel"]["show"] = False
    return option


def _cell_words(step_s: float) -> str:
    """What is told of a cell: when, from which to which latency, how many."""
    when = "{b}" if step_s < 1.5 else f"{{b}}, {style.span(round(step_s))}"
    return when + "<br/><b>{@[4]} to {@[5]} ms</b><br/>{@[3]} acks"


def _usual_s(intervals: Sequence[Interval]) -> float:
    """How long most of the intervals are: a run's last one is shorter."""
    return sorted(interval.span_s for interval in intervals)[len(intervals) // 2] if intervals else 1.0


def _cells(
    intervals: Sequence[Interval], span: Span, measure: Measure, clock: Callable[[float], str]
) -> tuple[list[str], dict[tuple[int, int], int]]:
    """The names of the columns, and acks by column and finest row.

    A column is an interval, so that none is cut and none is left out; what the span has room for besides stays empty.
    """
    shown = intervals[-HEAT_COLUMNS:]
    times = [interval.wall_s - interval.span_s / 2 for interval in shown]
    if shown:
        step_s = max(0.25, _usual_s(shown))
        room = min(HEAT_COLUMNS - len(shown), math.floor((span.to_s - shown[-1].wall_s) / step_s))
        times += [shown[-1].wall_s + (place + 0.5) * step_s for place in range(room)]
    cells: dict[tuple[int, int], int] = {}
    for column, interval in enumerate(shown):
        for bucket, acks in measure.of(interval).counts.items():
            place = column, bucket >> _EIGHTHS
            cells[place] = cells.get(place, 0) + acks
    return [clock(wall_s) for wall_s in times], cells


def _shift(rows: Sequence[int]) -> int:
    """By how many bits buckets are shifted to rows, so that at most HEAT_ROWS are left."""
    shift = 0
    while rows and (rows[-1] >> shift) - (rows[0] >> shift) >= HEAT_ROWS:
        shift += 1
    return _EIGHTHS + shift


def _bounds_ms(row: int, shift: int) -> list[float]:
    """As a person reads them."""
    return [float(f"{seconds * 1e3:.3g}") for seconds in _bounds_s(row, shift)]


def _bounds_s(row: int, shift: int) -> tuple[float, float]:
    return bucket_bounds_ns(row << shift)[0] / 1e9, bucket_bounds_ns(((row + 1) << shift) - 1)[1] / 1e9
