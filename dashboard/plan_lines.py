"""Lists of a load plan as people type them, one entry a line: stages, topics, headers, thresholds. Pure.

Each is read with the number of the line that cannot be, and written as it would be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from eventbus.alerts import Threshold, parse
from eventbus.alerts.quantity import duration_s, duration_text
from eventbus.errors import ConfigError
from eventbus.load.duration import parse_duration

T = TypeVar("T")

_ABORT = re.compile(r"abort(?:\s+after\s+(\S+))?")
_STAGE = re.compile(r"(\S+?)\s*(?:[:,]|\s|to)\s*([\d._,]+)\s*(?:/s)?")
_TOPIC = re.compile(r"(\S+?)(?:\s*[=:]\s*|\s+)([\d.]+)|(\S+)")


class LineRefused(ConfigError):
    """A line that cannot be; the text begins with its number."""


def stages_of(text: str) -> list[dict[str, float]]:
    """``30s 500``: how long, and up to (ramp) or at (step) how many messages a second."""

    def stage(line: str) -> dict[str, float]:
        found = _STAGE.fullmatch(line)
        if found is None:
            raise ConfigError(f"{line!r} is no stage; write how long and the rate, as in: 30s 500")
        return {"duration_s": parse_duration(found[1]), "rate": _number(found[2])}

    return _each(text, stage)


def stage_lines(stages: Iterable[Mapping[str, float]]) -> str:
    return "\n".join(f"{duration_text(stage['duration_s'])} {stage['rate']:g}" for stage in stages)


def topics_of(text: str) -> list[dict[str, Any]]:
    """``orders.created = 3``: a topic and its weight, which is 1 where none is given."""

    def topic(line: str) -> dict[str, Any]:
        found = _TOPIC.fullmatch(line)
        if found is None:
            raise ConfigError(f"{line!r} is no topic with a weight; write: orders.created = 3")
        return {"name": found[3]} if found[3] else {"name": found[1], "weight": _number(found[2])}

    return _each(text, topic)


def topic_lines(topics: Iterable[tuple[str, float]]) -> str:
    return "\n".join(f"{name} = {weight:g}" for name, weight in topics)


def headers_of(text: str) -> dict[str, str]:
    """``Name: value``."""

    def header(line: str) -> tuple[str, str]:
        name, found, value = line.partition(":")
        if not found or not name.strip():
            raise ConfigError(f"{line!r} is no header; write: Name: value")
        return name.strip(), value.strip()

    return dict(_each(text, header))


def header_lines(headers: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in headers.items())


def thresholds_of(text: str) -> tuple[Threshold, ...]:
    """``p99(ack_latency) < 250ms``; with ``; abort`` or ``; abort after 30s`` behind it the run ends where it fails."""
    return tuple(_each(text, _threshold))


def threshold_lines(thresholds: Iterable[Threshold]) -> str:
    return "\n".join(
        f"{one.expression.text}; abort after {duration_text(one.grace_s)}" if one.abort else one.expression.text
        for one in thresholds
    )


def _threshold(line: str) -> Threshold:
    expression, found, action = (part.strip() for part in line.partition(";"))
    parsed = parse(expression)
    if not found:
        return Threshold(parsed)
    matched = _ABORT.fullmatch(action)
    if matched is None:
        raise ConfigError(f"{action!r} is unknown after ';'; write abort, or abort after 30s")
    return Threshold(parsed, True) if matched[1] is None else Threshold(parsed, True, duration_s(matched[1]))


def _each(text: str, read: Callable[[str], T]) -> list[T]:
    found = []
    for number, line in _lines(text):
        try:
            found.append(read(line))
        except ConfigError as error:
            raise LineRefused(f"line {number}: {error}") from error
    return found


def _lines(text: str) -> Iterator[tuple[int, str]]:
    lines: Sequence[str] = text.splitlines()
    return ((number, line.strip()) for number, line in enumerate(lines, 1) if line.strip())


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "").replace("_", ""))
    except ValueError:
        raise ConfigError(f"{text!r} is not a number") from None
