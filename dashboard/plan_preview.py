"""A load plan in a picture and in a line: what it is going to send. Pure."""

from __future__ import annotations

from dashboard import style
from dashboard.chart_frame import Option, say_words
from eventbus.load.plan import LoadPlan
from eventbus.load.shape import Burst, Constant, Shape, Sine

POINTS = 240
ENDLESS_S = 60.0
"""Shown of a load without an end."""
PERIODS = 3
"""Shown of one that repeats."""


def preview(plan: LoadPlan) -> Option:
    """Messages per second over the time of the plan, its warm-up shaded; in words where it has no rate."""
    shape = _shape(plan)
    length_s = _length_s(plan, shape)
    source = (
        []
        if shape is None
        else [[round(t, 3), round(shape.rate_at(t), 2)] for t in _times(length_s) if t < _end_s(shape) or t == 0]
    )
    option: Option = {
        "animation": False,
        "dataset": {"dimensions": ["time", "rate"], "source": source},
        "grid": {"left": 52, "right": 20, "top": 14, "bottom": 34, "outerBoundsMode": "none"},
        "legend": {"show": False},
        "tooltip": {"trigger": "axis", "valueFormatter": "%,.0f /s", "confine": True},
        "xAxis": {
            "type": "value",
            "min": 0,
            "max": length_s,
            "name": "seconds",
            "nameLocation": "middle",
            "nameGap": 20,
            "splitLine": {"show": False},
            "axisLabel": {"hideOverlap": True},
        },
        "yAxis": {"type": "value", "min": 0, "splitNumber": 3, "axisLabel": {"hideOverlap": True}},
        "series": [
            {
                "type": "line",
                "name": "messages/s",
                "symbol": "none",
                "color": style.ACKED,
                "lineStyle": {"width": 2, "color": style.ACKED},
                "areaStyle": {"opacity": 0.25, "color": style.ACKED},
                "encode": {"x": "time", "y": "rate"},
                **_warm_up(plan),
            }
        ],
    }
    if shape is None:
        option["title"] = say_words(_without_rate(plan))
        option["yAxis"] |= {"max": 1, "splitLine": {"show": False}}
        option["yAxis"]["axisLabel"]["show"] = False
    return option


def summary(plan: LoadPlan) -> str:
    """The plan in a line: pace, length and number of messages."""
    parts = [_pace(plan)]
    if plan.sending_s is not None:
        parts.append(style.span(plan.sending_s))
    if plan.count is not None:
        parts.append(f"{style.count(plan.count)} messages")
    elif (shape := _shape(plan)) is not None and plan.sending_s is not None:
        parts.append(f"about {style.count(shape.due(plan.sending_s))} messages")
    if plan.sending_s is None and plan.count is None and (plan.replay is None or plan.loop):
        parts.append("until stopped")
    if plan.thresholds:
        parts.append(f"{len(plan.thresholds)} thresholds" if len(plan.thresholds) > 1 else "1 threshold")
    return ", ".join(parts)


def _pace(plan: LoadPlan) -> str:
    if plan.workers is not None or plan.replay_at == "recorded":
        return _without_rate(plan)
    shape = _shape(plan)
    if shape is None:
        return _without_rate(plan)
    if isinstance(shape, Constant):
        return style.rate(shape.rate)
    return f"{shape.kind} up to {style.rate(shape.peak)}"


def _without_rate(plan: LoadPlan) -> str:
    if plan.workers is not None:
        return f"{style.count(plan.workers)} workers, each awaits its ack"
    if plan.replay_at == "recorded":
        faster = "" if plan.replay_speed == 1 else f", {plan.replay_speed:g} times as fast"
        return f"as recorded{faster}"
    return "as fast as the window lets"


def _shape(plan: LoadPlan) -> Shape | None:
    return plan.shape or (None if plan.rate is None else Constant(plan.rate))


def _end_s(shape: Shape) -> float:
    return float("inf") if shape.duration_s is None else shape.duration_s


def _length_s(plan: LoadPlan, shape: Shape | None) -> float:
    if plan.sending_s is not None:
        return plan.sending_s
    if isinstance(shape, Burst):
        return shape.every_s * PERIODS
    if isinstance(shape, Sine):
        return shape.period_s * PERIODS
    return ENDLESS_S


def _times(length_s: float) -> list[float]:
    return [length_s * point / POINTS for point in range(POINTS + 1)]


def _warm_up(plan: LoadPlan) -> Option:
    if not plan.warm_up_s:
        return {}
    area = [{"xAxis": 0, "name": "warm-up"}, {"xAxis": plan.warm_up_s}]
    return {
        "markArea": {
            "silent": True,
            "itemStyle": {"color": style.PENDING, "opacity": 0.18},
            "label": {"color": style.PENDING, "position": "insideTopLeft"},
            "data": [area],
        }
    }
