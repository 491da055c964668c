"""The frame that charts over time share: time axis, legend, level lines, the upright lines of events. Pure."""

from __future__ import annotations

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
MAX_MARKS = 40
"""Events that are drawn, the newest: of more, a chart would be all lines."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened, drawn as a dashed upright line on every chart over time. sign: stands at its top."""

    wall_s: float
    text: str
    sign: str = ""
    colour: str = style.PENDING


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a chart shows, in seconds since the epoch."""

    from_s: float
    to_s: float

    def holds(self, wall_s: float) -> bool:
        return self.from_s <= wall_s <= self.to_s


@dataclass(frozen=True, slots=True)
class Threshold:
    """A level line: solid for a hard limit, dashed for a threshold of an alert or of the run. place: of its text."""

    value: float
    text: str
    colour: str
    hard: bool = False
    place: str = "insideStartBottom"


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


def framed(
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
        [round(i.wall_s * 1000), *(None if (v := column(i)) is None else _short(v) for _, column in columns)]
        for i in intervals
    ]
    seen = [mark for mark in sorted(marks, key=lambda mark: mark.wall_s) if span.holds(mark.wall_s)][-MAX_MARKS:]
    # Many series take a second line of the legend.
    top = 12 if named_by_heading else 28 if len(series) <= LEGEND_LINE else 44
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
            lines_across(thresholds, seen),
        ],
    }


def _short(value: float) -> float:
    """Five digits: more than a chart can show, and less than half of what the rest would be on its way."""
    return float(f"{value:.5g}") if -1e5 < value < 1e5 else round(value)


def area(name: str, colour: str, *, stack: bool = True) -> Option:
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


def line(name: str, colour: str, *, dash: str, width: float) -> Option:
    return {
        "type": "line",
        "name": name,
        "symbol": "none",
        "color": colour,
        "lineStyle": {"width": width, "type": dash, "color": colour},
    }


def lines_across(thresholds: Sequence[Threshold], marks: Sequence[Mark]) -> Option:
    """A series without points that carries level lines and the upright lines of events."""
    data: list[Option] = [
        {
            "yAxis": threshold.value,
            "lineStyle": {"color": threshold.colour, "type": "solid" if threshold.hard else "dashed", "width": 1.5},
            "label": {
                "formatter": threshold.text,
                "position": "insideEndTop" if threshold.hard else threshold.place,
                "color": threshold.colour,
            },
        }
        for threshold in thresholds
    ]
    data += [
        {
            "xAxis": round(mark.wall_s * 1000),
            "name": mark.text,
            "lineStyle": {"color": mark.colour, "type": "dashed", "width": 1.2, "opacity": 0.8},
            "label": {
                "show": bool(mark.sign),
                "formatter": mark.sign,
                "position": "end",
                "distance": 0,
                "color": mark.colour,
                "fontSize": 10,
            },
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


def say_words(text: str) -> Option:
    """The title of a chart of nothing: a sentence in its middle."""
    return {
        "text": text,
        "left": "center",
        "top": "middle",
        "textStyle": {"fontSize": 13, "fontWeight": "normal", "color": style.PENDING},
    }


def say_nothing(option: Option, text: str) -> None:
    """Turn a chart of nothing into a sentence over an empty time axis."""
    option["title"] = say_words(text)
    option["legend"]["show"] = False
    option["series"][-1]["markLine"]["data"] = [
        line for line in option["series"][-1]["markLine"]["data"] if "xAxis" in line
    ]
    option["yAxis"] |= {"max": 10 if option["yAxis"]["type"] == "log" else 1, "splitLine": {"show": False}}
    option["yAxis"]["axisLabel"]["show"] = False
