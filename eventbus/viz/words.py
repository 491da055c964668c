"""Figures in words, as tables and reports show them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from eventbus.viz.summary import Unit

_TIME = re.compile(
    r"(p[\d.]+|mean|min|max|last)\((ack_latency|scheduled_latency|oldest_pending_age|loop_lag|schedule_lag)\b"
)
MANY = 5
"""From so many times on a change is told as a factor and not in percent."""
TIMES = "\N{MULTIPLICATION SIGN}"
NOTHING = "\N{EN DASH}"


def figure_text(value: float | None, unit: Unit) -> str:
    """A figure with its unit; a dash where there is none."""
    if value is None or value != value:
        return NOTHING
    if unit is Unit.SECONDS:
        return duration_text(value)
    if unit is Unit.RATIO:
        return percent_text(value)
    return f"{value:,.0f}/s" if unit is Unit.PER_SECOND else f"{value:,.0f}"


def duration_text(seconds: float) -> str:
    """Three digits and the unit that suits: 850 µs, 12.5 ms, 3.20 s, 2 min 5 s, 1 h 20 min."""
    if seconds == 0:
        return "0 ms"
    if seconds >= 3600:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes} min"
    if seconds >= 59.95:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= size * 0.9995 or unit == "µs":
            value = seconds / size
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    raise AssertionError("unreachable: the last unit takes everything")


def percent_text(ratio: float) -> str:
    """A ratio as a percentage; never rounds what is there down to nothing."""
    value = ratio * 100
    if 0 < value < 0.01:
        return "<0.01 %"
    return f"{value:.{0 if value in (0, 100) else 2 if value < 10 or value > 99 else 1}f} %"


def time_text(wall_s: float) -> str:
    """Date and time in UTC, to the second."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def verdict_text(expression: str, value: Any) -> str:
    """A figure of an expression: as a time or a percentage where its beginning says so, else bare."""
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        return NOTHING
    if _TIME.match(expression):
        return duration_text(value)
    if expression.startswith("ratio("):
        return percent_text(value)
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def relative_text(before: float | None, after: float | None, unit: Unit) -> str:
    """By how much a figure changed, with a sign; empty where that cannot be said."""
    if before is None or after is None or before == after:
        return ""
    if unit is Unit.RATIO:
        return f"{(after - before) * 100:+.2f} points"
    if not before:
        return ""
    ratio = after / before
    if not ratio:
        return "-100%"
    if ratio >= MANY or ratio <= 1 / MANY:
        return TIMES + (f"{ratio:,.3g}" if ratio < 1000 else f"{ratio:,.0f}")
    return f"{ratio - 1:+.0%}" if abs(ratio - 1) >= 0.005 else ""
