"""What options of ``load`` mean: text from a command line to values of a plan. Each raises ConfigError in one line."""

from __future__ import annotations

import re

from eventbus.errors import ConfigError
from eventbus.load.duration import parse_duration
from eventbus.load.plan import check_rate
from eventbus.load.shape import ShapeError, Stage
from eventbus.load.weighted_topic import WeightedTopic

_DASK = re.compile(r"(?:(?:tcp|tls|ws|wss|ucx)://)?(?:[^\s:/@\[\]]+|\[[0-9a-fA-F:.%]+\]):([0-9]{1,5})", re.ASCII)
_NONE = ("0s", "0ms", "0m", "0h")


def rate_from(text: str) -> float | None:
    """Messages per second; None for ``max``."""
    if text == "max":
        return None
    try:
        rate = float(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a number of messages per second, nor 'max'") from None
    return check_rate(rate)


def duration_or_none_from(text: str) -> float:
    """Seconds, 0 for ``0s``."""
    return 0.0 if text.strip() in _NONE else parse_duration(text)


def stage_from(text: str) -> Stage:
    """``30s:5000``: how long, and up to which rate; 0 ends in silence."""
    duration, found, rate = text.partition(":")
    if not found:
        raise ConfigError(f"{text!r} is not a stage; write how long and up to which rate, as 30s:5000")
    if rate == "max":
        raise ConfigError(f"{text!r}: a stage needs a rate in messages per second, not 'max'")
    try:
        at = float(rate)
    except ValueError:
        raise ConfigError(f"{text!r}: {rate!r} is not a number of messages per second") from None
    try:
        return Stage(parse_duration(duration), at)
    except ShapeError as error:
        raise ConfigError(f"{text!r}: {error}") from error


def topic_from(text: str) -> WeightedTopic:
    """``NAME`` or ``NAME=WEIGHT``."""
    name, found, weight = text.rpartition("=")
    if not found:
        return WeightedTopic(text, 1.0)
    try:
        share = float(weight)
    except ValueError:
        raise ConfigError(f"{text!r}: the weight after = is not a number") from None
    return WeightedTopic(name, share)


def size_from(text: str) -> tuple[int, int | None]:
    """``128``, or a range as ``100-2000``: the least bytes and the most; None where all are of one size."""
    least, found, most = text[1:].partition("-")  # from the second on, so that -1 is told to be too small
    try:
        sizes = int(text[:1] + least), int(most) if found else None
    except ValueError:
        raise ConfigError(f"{text!r} is not a size in bytes, as 128 or 100-2000") from None
    if sizes[1] is not None and sizes[1] < sizes[0]:
        raise ConfigError(f"{text!r} is not a range of sizes; write the smaller one first, as 100-2000")
    return sizes


def header_from(text: str) -> tuple[str, str]:
    """``NAME=VALUE``."""
    name, found, value = text.partition("=")
    if not found or not name:
        raise ConfigError(f"{text!r} is not a header; write NAME=VALUE")
    return name, value


def dask_from(text: str) -> str:
    """The address of a Dask scheduler: ``tcp://HOST:PORT``. Checked here because its own error comes late."""
    match = _DASK.fullmatch(text.strip())
    if not match or not 0 < int(match[1]) < 65536:
        raise ConfigError(f"{text!r} is not the address of a Dask scheduler; write tcp://HOST:PORT")
    return text.strip()
