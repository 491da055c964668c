"""Intervals of a run -> the ECharts option of a heatmap: which latency how many acks had, over time. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from dashboard import style
from dashboard.chart_frame import Option, Span, say_words
from dashboard.rates import Interval

COLUMNS = 40
STEPS = 4
"""Rows to each factor of ten."""


def heatmap(intervals: Sequence[Interval], span: Span, clock: Callable[[float], str]) -> Option:
    """How many acks had which latency in each part of the window: darker is more, on a logarithmic scale.

    Each range of latencies is a series with its name, so that a tooltip tells range, time and number; it needs no code
    in the browser. clock: the time of day where the viewer is.
    """
    columns, cells = _heat(intervals, span, clock)
    rows = sorted({row for _, row in cells})
    low, high = (rows[0], rows[-1]) if rows else (0, STEPS)
    most = max(cells.values(), default=0)
    option: Option = {
        "animation": False,
        "grid": {"left": 58, "right": 26, "top": 12, "bottom": 22, "outerBoundsMode": "none"},
        "tooltip": {"trigger": "item", "valueFormatter": "%,.0f acks", "confine": True},
        "xAxis": {
            "type": "category",
            "data": columns,
            "splitLine": {"show": False},
            "axisLabel": {"hideOverlap": True, "interval": max(1, len(columns) // 4)},
        },
        "yAxis": {
            "type": "category",
            "data": [_bound(row) for row in range(low, high + 1)],
            "axisLabel": {"hideOverlap": True},
            "splitLine": {"show": False},
        },
        "visualMap": {
            "show": False,
            "dimension": 2,
            "min": 0,
            "max": max(1.0, math.log10(most + 1)),
            "inRange": {"color": ["#CFE5F4", "#56B4E9", "#0072B2", "#003A5C"]},
        },
        "series": [
            {
                "type": "heatmap",
                "name": f"{_bound(row)} to {_bound(row + 1)}",
                "encode": {"x": 0, "y": 1, "tooltip": 3},
                "data": [
                    [column, row - low, round(math.log10(count + 1), 1), round(count)]
                    for (column, at), count in cells.items()
                    if at == row
                ],
            }
            for row in rows
        ],
    }
    if not cells:
        option["title"] = say_words("No acks in this window")
    return option


def _bound(row: int) -> str:
    """The least latency of a row of the heatmap."""
    return style.duration(10 ** (row / STEPS))


def _heat(
    intervals: Sequence[Interval], span: Span, clock: Callable[[float], str]
) -> tuple[list[str], dict[tuple[int, int], float]]:
    """The names of the columns, and acks by column and row. Rows are logarithms of the latency."""
    length_s = max(1.0, (span.to_s - span.from_s) / COLUMNS)
    number = max(1, math.ceil((span.to_s - span.from_s) / length_s))
    counts: dict[tuple[int, int], float] = {}
    for interval in intervals:
        column = min(number - 1, max(0, int((interval.wall_s - span.from_s - 1e-6) / length_s)))
        share = length_s / max(length_s, interval.span_s)  # of an interval that is longer than a column
        for row, count in interval.heat(STEPS).items():
            counts[column, row] = counts.get((column, row), 0.0) + count * share
    return [clock(span.from_s + column * length_s) for column in range(number)], counts
