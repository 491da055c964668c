"""Colours and number formats: one look for figures, charts and tables. Pure.

The palette is Okabe and Ito's, which stays apart for colour-blind eyes. One outcome has one colour everywhere; a
colour never stands alone, a word or an icon is always beside it.
"""

from __future__ import annotations

import math
from datetime import datetime, tzinfo

ACKED = "#0072B2"
DUPLICATE = "#E69F00"
UNKNOWN = "#D55E00"
REJECTED = "#CC79A7"
RETRY = "#56B4E9"
LATE = "#009E73"
PENDING = "#8C929B"
OFFERED = "#8C929B"

THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"
NOTHING = "\N{EN DASH}"

ERROR_KIND_COLOURS = {
    "timeout": "#D55E00",
    "disconnected": "#F2A27A",
    "closed": "#8F3F00",
    "expired": "#5E2A00",
    "no_responders": "#009E73",
    "unavailable": "#66C5AB",
    "overloaded": "#00634A",
    "permission": "#CC79A7",
    "no_stream": "#A3527F",
    "not_enough_replicas": "#A6DCC9",
    "out_of_sequence": "#B8541A",
    "fenced": "#5C3A7E",
    "stream_full": "#E5B5CF",
    "too_large": "#7A3560",
    "invalid": "#B39DDB",
    "conflict": "#7E57C2",
    "sealed": "#4527A0",
    "account_limit": "#9E9D24",
    "protocol": "#6D4C41",
    "other": "#8C929B",
}
"""By family: vermilion and brown may be stored, green may be tried again, pink and violet were refused."""


_WORDS = {"no_stream": "no stream or topic", "stream_created": "created"}
"""For names that have the word of one broker and are told of both."""


def words(name: str) -> str:
    """``stream_full`` -> ``stream full``."""
    return _WORDS.get(name) or name.replace("_", " ")


def count(number: float) -> str:
    """A whole number with thousands apart."""
    return f"{number:,.0f}"


def rate(per_second: float) -> str:
    """Messages in a second."""
    digits = 1 if 0 < per_second < 10 else 0
    return f"{per_second:,.{digits}f}{THIN_SPACE}/s"


def percent(ratio: float | None) -> str:
    """A ratio as a percentage; never rounds what is there down to nothing."""
    if ratio is None:
        return NOTHING
    value = ratio * 100
    if 0 < value < 0.01:
        return f"<{THIN_SPACE}0.01{THIN_SPACE}%"
    digits = 0 if value == 0 or value >= 99.995 else 2 if value < 10 else 1
    return f"{value:.{digits}f}{THIN_SPACE}%"


def level(threshold: float) -> str:
    """A threshold, as short as it can be: below 1 it is a ratio."""
    return f"{threshold * 100:g}{THIN_SPACE}%" if threshold < 1 else count(threshold)


def size(octets: float) -> str:
    """A number of bytes."""
    for step, unit in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if octets >= step:
            return f"{octets / step:.3g}{THIN_SPACE}{unit}"
    return f"{octets:.0f}{THIN_SPACE}B"


def duration(seconds: float | None) -> str:
    """A duration with the unit that suits it: 850 µs, 12.5 ms, 3.20 s, 2 min 5 s."""
    if seconds is None:
        return NOTHING
    if seconds == 0:
        return f"0{THIN_SPACE}ms"
    if seconds >= 60:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}{THIN_SPACE}min {rest}{THIN_SPACE}s"
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        # 0.9995 keeps 999.96 ms from being shown as 1000 ms
        if seconds >= size * 0.9995 or unit == "µs":
            value = seconds / size
            digits = max(0, 2 - max(0, math.floor(math.log10(value)))) if value > 0 else 0
            return f"{value:.{digits}f}{THIN_SPACE}{unit}"
    raise AssertionError("unreachable: the last unit takes everything")


def elapsed(seconds: float) -> str:
    """Time since a start: 00:42, 12:05, 1:02:03."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{second:02}" if hours else f"{minutes:02}:{second:02}"


def ago(seconds: float) -> str:
    """How long something is past, in whole units: just now, 12 s ago, 3 min ago, 2 h ago."""
    whole = int(seconds)
    if whole < 1:
        return "just now"
    for size, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if whole >= size:
            return f"{whole // size}{THIN_SPACE}{unit} ago"
    raise AssertionError("unreachable: the last unit takes everything")


def clock(wall_s: float, zone: tzinfo | None = None) -> str:
    """Time of day in ``zone``; None takes this machine's."""
    return datetime.fromtimestamp(wall_s, zone).strftime("%H:%M:%S")


def span(seconds: float) -> str:
    """A length of time that was planned: 5 s, 1.5 s, 2 min, 1 h 30 min."""
    if seconds < 60:
        return f"{seconds:g}{THIN_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{number}{THIN_SPACE}{unit}" for number, unit in parts if number)
