"""Quantities: numbers with the units that people write, what they are numbers of, and how they are shown."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from eventbus.errors import ConfigError

MAX_NUMBER = 1e15
"""No figure of a run comes near it; larger numbers are slips, and could overflow."""


class Dimension(NamedTuple):
    """What a number is a number of: powers of things (messages, attempts), of seconds, and of bytes."""

    things: int = 0
    seconds: int = 0
    bytes: int = 0

    def times(self, other: Dimension) -> Dimension:
        """Of a product."""
        return Dimension(self.things + other.things, self.seconds + other.seconds, self.bytes + other.bytes)

    def per(self, other: Dimension) -> Dimension:
        """Of a quotient."""
        return Dimension(self.things - other.things, self.seconds - other.seconds, self.bytes - other.bytes)

    @property
    def unit(self) -> str:
        """Its unit, as ``shown`` takes it: "ratio", "" (a count), "s", "B", "/s"; "?" for what has no name."""
        return _NAMES.get(self, ("?", ""))[0]

    def __str__(self) -> str:
        return _NAMES.get(self, ("", "a product of units"))[1]


RATIO = Dimension()
COUNT = Dimension(things=1)
TIME = Dimension(seconds=1)
BYTES = Dimension(bytes=1)
PER_SECOND = Dimension(things=1, seconds=-1)

_NAMES = {
    RATIO: ("ratio", "a ratio"),
    COUNT: ("", "a count"),
    TIME: ("s", "a time"),
    BYTES: ("B", "a size in bytes"),
    PER_SECOND: ("/s", "a rate per second"),
}

_UNITS: dict[str, tuple[float, Dimension]] = {
    "us": (1e-6, TIME),
    "ms": (1e-3, TIME),
    "s": (1.0, TIME),
    "m": (60.0, TIME),
    "h": (3600.0, TIME),
    "%": (0.01, RATIO),
    "/s": (1.0, PER_SECOND),
    "B": (1.0, BYTES),
    "KiB": (1024.0, BYTES),
    "MiB": (1024.0**2, BYTES),
    "GiB": (1024.0**3, BYTES),
}

NUMBER_PATTERN = (
    r"(?:[0-9]|\.[0-9])[0-9A-Za-z_.]*(?:(?<=[eE])[+-][0-9]+)?(?:[ \t]*(?:%|\/s\b)|[ \t]+(?:us|ms|s|m|h|[KMG]i?B|B)\b)?"
)
"""Whatever begins as a number does, so that a number with a wrong unit is refused as such. For lark: / is escaped."""

_QUANTITY = re.compile(r"([0-9._]+(?:[eE][+-]?[0-9]+)?)[ \t]*(/s|%|[A-Za-z]+)?")


class Quantity(NamedTuple):
    """A number in base units (seconds, bytes, 1 for 100 %). plain: it was written without a unit."""

    value: float
    dimension: Dimension
    plain: bool


def quantity(text: str) -> Quantity:
    """``text`` as a number, with or without a unit; raises ConfigError with what is allowed."""
    match = _QUANTITY.fullmatch(text)
    try:
        if match is None or (match[2] is not None and match[2] not in _UNITS):
            raise ValueError
        number = float(match[1])
    except ValueError:
        raise ConfigError(
            f"{text[:40]!r} is not a number; use one such as 5000, 1_000, 250ms, 1%, 950/s, 64MiB"
        ) from None
    if not number < MAX_NUMBER:
        raise ConfigError(f"{text[:40]!r} is too large; use less than {MAX_NUMBER:.0e}")
    factor, dimension = _UNITS[match[2]] if match[2] else (1.0, RATIO)
    # Dividing gives the nearest number to what was written: 250 * 1e-3 would be good, but 3 * 1e-3 is not 0.003.
    value = number * factor if factor >= 1 else number / round(1 / factor)
    return Quantity(value, dimension, not match[2])


def duration_s(given: object) -> float:
    """Seconds of a text such as "5s", "250ms", "1m"; raises ConfigError for anything else, numbers without unit too."""
    if isinstance(given, str):
        try:
            found = quantity(given.strip())
        except ConfigError:
            found = None
        if found is not None and (found.dimension == TIME or (found.plain and found.value == 0)):
            return found.value
    raise ConfigError(f'{_brief(given)} is not a duration; use a number with its unit, as in "500ms", "5s", "1m", "1h"')


def duration_text(seconds: float) -> str:
    """The inverse of ``duration_s``, in the largest unit that gives a whole number."""
    if not seconds:
        return "0s"
    for unit, factor in (("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= factor and seconds % factor == 0:
            return f"{seconds / factor:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms" if round(seconds * 1000) / 1000 == seconds else f"{seconds!r}s"


def shown(value: float | None, unit: str) -> str:
    """For people: ``value`` in base units, ``unit`` as Dimension.unit says; "no data" for None or NaN."""
    if value is None or math.isnan(value):
        return "no data"
    if unit == "s":
        for factor, name in ((1.0, "s"), (1e3, "ms")):
            if abs(value) * factor >= 1 or value == 0:
                return f"{_digits(value * factor)} {name}"
        return f"{_digits(value * 1e6)} µs"
    if unit == "B":
        for factor, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
            if abs(value) >= factor:
                return f"{_digits(value / factor)} {name}"
        return f"{_digits(value)} B"
    if unit == "ratio":
        return f"{_digits(value * 100)} %"
    return _digits(value) + (unit if unit == "/s" else "")


def _digits(value: float) -> str:
    """Three significant digits, but all of a whole number's."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _brief(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 40 else text[:39] + "…"
