"""The kinds of shapes: constant, ramp, step, burst and sine. What they have in common: see Shape, in shape.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from eventbus.errors import ConfigError
from eventbus.load.rate_lines import LOST, RateLines

MAX_RATE = 10_000_000.0
"""Messages per second; far above what one process sends."""
MIN_S, MAX_S = 0.001, 1e9
"""Seconds of anything in a shape: no loop sends more finely, and nobody waits longer."""
MAX_STAGES = 1_000
"""Stages are written by people."""


class ShapeError(ConfigError):
    """A shape that cannot be. key: where, as ``("stages", 2, "rate")``; of what is missing, where it should be."""

    def __init__(self, text: str, key: tuple[str | int, ...] = ()) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a shape. duration_s: seconds. rate: messages per second, 0 or more."""

    duration_s: float
    rate: float

    def __post_init__(self) -> None:
        _seconds("duration", self.duration_s)
        _rate("rate", self.rate, zero=True)


@dataclass(frozen=True, slots=True)
class Constant:
    """The same rate without end: ``rate`` messages per second."""

    rate: float
    kind: ClassVar[str] = "constant"
    duration_s: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        _rate("rate", self.rate)

    @property
    def peak(self) -> float:
        """The rate."""
        return self.rate

    def rate_at(self, t_s: float) -> float:
        """See Shape."""
        return self.rate if t_s >= 0 else 0.0

    def due(self, t_s: float) -> float:
        """See Shape."""
        return max(0.0, t_s) * self.rate

    def when(self, due: float) -> float:
        """See Shape."""
        return due / self.rate

    def to_dict(self) -> dict[str, Any]:
        """See Shape."""
        return {"kind": self.kind, "rate": self.rate}


class _Staged:
    """What Ramp and Step have in common."""

    __slots__ = ()
    _lines: RateLines

    @property
    def duration_s(self) -> float | None:
        """All stages."""
        return self._lines.duration_s

    def rate_at(self, t_s: float) -> float:
        """See Shape."""
        return self._lines.rate_at(t_s)

    def due(self, t_s: float) -> float:
        """See Shape."""
        return self._lines.due(t_s)

    def when(self, due: float) -> float:
        """See Shape."""
        return self._lines.when(due)


@dataclass(frozen=True, slots=True)
class Ramp(_Staged):
    """From stage to stage in straight lines: each goes from the rate before it to its own, and the last one ends it.

    start_rate: before the first stage. Default 0.
    """

    stages: tuple[Stage, ...]
    start_rate: float = 0.0
    _lines: RateLines = field(init=False, repr=False, compare=False)
    kind: ClassVar[str] = "ramp"

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", _stages(self.stages))
        _rate("start_rate", self.start_rate, zero=True)
        begins = (self.start_rate, *(stage.rate for stage in self.stages))
        _rate("the highest rate of all stages", max(begins), "stages")
        lines = [(stage.duration_s, begin, stage.rate) for stage, begin in zip(self.stages, begins, strict=False)]
        object.__setattr__(self, "_lines", RateLines(lines))

    @property
    def peak(self) -> float:
        """The highest of all stages."""
        return max(self.start_rate, *(stage.rate for stage in self.stages))

    def to_dict(self) -> dict[str, Any]:
        """See Shape."""
        return {"kind": self.kind, "start_rate": self.start_rate, "stages": _as_dicts(self.stages)}


@dataclass(frozen=True, slots=True)
class Step(_Staged):
    """From stage to stage in jumps: each has its rate from its begin to its end, and the last one ends it."""

    stages: tuple[Stage, ...]
    _lines: RateLines = field(init=False, repr=False, compare=False)
    kind: ClassVar[str] = "step"

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", _stages(self.stages))
        _rate("the highest rate of all stages", self.peak, "stages")
        object.__setattr__(self, "_lines", RateLines([(s.duration_s, s.rate, s.rate) for s in self.stages]))

    @property
    def peak(self) -> float:
        """The highest of all stages."""
        return max(stage.rate for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """See Shape."""
        return {"kind": self.kind, "stages": _as_dicts(self.stages)}


@dataclass(frozen=True, slots=True)
class Burst:
    """``base`` messages per second, and ``peak`` in the last ``length_s`` seconds of each ``every_s``; without end.

    Bursts come last, so that a run begins with something to compare them with.
    """

    base: float
    peak: float
    every_s: float
    length_s: float
    _lines: RateLines = field(init=False, repr=False, compare=False)
    kind: ClassVar[str] = "burst"
    duration_s: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        _rate("base", self.base, zero=True)
        _rate("peak", self.peak)
        _seconds("every", self.every_s)
        _seconds("length", self.length_s)
        if self.peak <= self.base:
            raise ShapeError(f"peak is {self.peak:g}; use more than base, which is {self.base:g}", ("peak",))
        if self.length_s >= self.every_s:
            raise ShapeError(
                f"length is {self.length_s:g} s; use less than every, which is {self.every_s:g} s", ("length",)
            )
        calm_s = self.every_s - self.length_s
        object.__setattr__(
            self, "_lines", RateLines([(calm_s, self.base, self.base), (self.length_s, self.peak, self.peak)])
        )

    def rate_at(self, t_s: float) -> float:
        """See Shape."""
        # The remainder can be rounded up to the whole of the period, where the sum of its parts may be less.
        return (self._lines.rate_at(t_s % self.every_s) or self.base) if t_s >= 0 else 0.0

    def due(self, t_s: float) -> float:
        """See Shape."""
        periods, rest_s = divmod(max(0.0, t_s), self.every_s)
        return periods * self._lines.total + self._lines.due(rest_s)

    def when(self, due: float) -> float:
        """See Shape."""
        periods = max(0, math.ceil(due / self._lines.total) - 1)
        rest = min(due - periods * self._lines.total, self._lines.total)
        return periods * self.every_s + self._lines.when(rest)

    def to_dict(self) -> dict[str, Any]:
        """See Shape."""
        return {
            "kind": self.kind,
            "base": self.base,
            "peak": self.peak,
            "every_s": self.every_s,
            "length_s": self.length_s,
        }


@dataclass(frozen=True, slots=True)
class Sine:
    """``mean`` messages per second, up and down by ``amplitude`` in each ``period_s``, upwards first; without end."""

    mean: float
    amplitude: float
    period_s: float
    kind: ClassVar[str] = "sine"
    duration_s: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        _rate("mean", self.mean)
        _rate("amplitude", self.amplitude, zero=True)
        _seconds("period", self.period_s)
        if self.amplitude > self.mean:
            raise ShapeError(
                f"amplitude is {self.amplitude:g}; use at most mean, which is {self.mean:g}", ("amplitude",)
            )
        _rate("mean and amplitude together", self.peak, "amplitude")

    @property
    def peak(self) -> float:
        """Of each period."""
        return self.mean + self.amplitude

    def rate_at(self, t_s: float) -> float:
        """See Shape."""
        return max(0.0, self.mean + self.amplitude * math.sin(math.tau * t_s / self.period_s)) if t_s >= 0 else 0.0

    def due(self, t_s: float) -> float:
        """See Shape."""
        if t_s <= 0:
            return 0.0
        turn = math.tau / self.period_s
        return self.mean * t_s + self.amplitude / turn * (1 - math.cos(turn * t_s))

    def when(self, due: float) -> float:
        """See Shape. Exact to a millionth of a message, by Newton's method kept within known bounds."""
        high = max(0.0, due / self.mean)
        low = max(0.0, high - self.amplitude * self.period_s / (math.pi * self.mean))
        t_s = high
        for _ in range(60):  # halving alone would need no more
            missing = due - self.due(t_s)
            if abs(missing) < max(LOST, due * 1e-14):
                break
            low, high = (t_s, high) if missing > 0 else (low, t_s)
            rate = self.rate_at(t_s)
            t_s = t_s + missing / rate if rate else math.inf
            if not low < t_s < high:
                t_s = (low + high) / 2
        return t_s

    def to_dict(self) -> dict[str, Any]:
        """See Shape."""
        return {"kind": self.kind, "mean": self.mean, "amplitude": self.amplitude, "period_s": self.period_s}


def _stages(given: Any) -> tuple[Stage, ...]:
    if not isinstance(given, (list, tuple)) or not all(isinstance(stage, Stage) for stage in given):
        raise ShapeError(f"stages is {given!r}; give a list of stages, each with a duration and a rate", ("stages",))
    if not 1 <= len(given) <= MAX_STAGES:
        raise ShapeError(f"there are {len(given)} stages; use 1 to {MAX_STAGES:,}", ("stages",))
    return tuple(given)


def _as_dicts(stages: Sequence[Stage]) -> list[dict[str, float]]:
    return [{"duration_s": stage.duration_s, "rate": stage.rate} for stage in stages]


def _number(name: str, value: Any, what: str) -> None:
    # A whole number can be larger than any float, and then math.isfinite raises.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e300 < value < 1e300:
        raise ShapeError(f"{name} is {_short(value)}; use a number of {what}", (name,))


def _seconds(name: str, value: Any) -> None:
    _number(name, value, "seconds")
    if not MIN_S <= value <= MAX_S:
        raise ShapeError(f"{name} is {value:g} s; use {MIN_S:g} to {MAX_S:,.0f} seconds", (name,))


def _rate(name: str, value: Any, key: str = "", *, zero: bool = False) -> None:
    _number(name, value, "messages per second")
    if not (0 <= value <= MAX_RATE) or (value == 0 and not zero):
        least = "0" if zero else "more than 0"
        raise ShapeError(f"{name} is {value:g}; use {least} to {MAX_RATE:,.0f} messages per second", (key or name,))


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a number of more than 30 digits"
    return text if len(text) <= 60 else f"{text[:60]}..."
