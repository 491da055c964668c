"""Terms: the parts of an expression, each of which reads a number from a history. Frozen; made by expression.parse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from eventbus.alerts.figures import Counter, Distribution, Gauge
from eventbus.alerts.history import History
from eventbus.alerts.quantity import TIME, Dimension


class Reading(NamedTuple):
    """A number, or None where there is none. samples: how many values it rests on; infinite for a constant."""

    value: float | None
    samples: float


class Term(Protocol):
    """Something that can be read."""

    @property
    def dimension(self) -> Dimension:
        """What it is a number of."""
        ...

    def read(self, history: History) -> Reading:
        """Its number now."""
        ...

    def windows(self) -> Iterator[float | None]:
        """Of each figure in it, in seconds; None is the whole run, 0 a single sample."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """A number. plain: made of numbers without units, which stand for counts and rates too."""

    value: float
    dimension: Dimension
    plain: bool

    def read(self, history: History) -> Reading:
        """The number."""
        return Reading(self.value, math.inf)

    def windows(self) -> Iterator[float | None]:
        """None at all."""
        return iter(())

    def fits(self, other: Dimension) -> bool:
        """Whether it may stand beside ``other``: without a unit also beside counts and rates, 0 beside anything."""
        if self.dimension == other or self.value == 0:
            return True
        return self.plain and other.bytes == 0 and other.seconds <= 0


@dataclass(frozen=True, slots=True)
class GaugeTerm:
    """A gauge. how: "last", "min", "max" or "mean"."""

    gauge: Gauge
    how: str
    window_s: float | None

    @property
    def dimension(self) -> Dimension:
        """The gauge's own."""
        return self.gauge.dimension

    def read(self, history: History) -> Reading:
        """Its value by ``how``."""
        if self.how == "last":
            value = history.value(self.gauge)
            return Reading(value, 0 if value is None else 1)
        spread = history.spread(self.gauge, self.window_s)
        if not spread.samples:
            return Reading(None, 0)
        value = {"min": spread.smallest, "max": spread.largest, "mean": spread.mean}[self.how]
        return Reading(value, spread.samples)

    def windows(self) -> Iterator[float | None]:
        """Its own."""
        yield 0.0 if self.how == "last" else self.window_s


@dataclass(frozen=True, slots=True)
class CounterTerm:
    """How a counter grew. how: "increase" or "rate"."""

    counter: Counter
    how: str
    window_s: float | None

    @property
    def dimension(self) -> Dimension:
        """The counter's own, or that per second."""
        return self.counter.dimension.per(TIME) if self.how == "rate" else self.counter.dimension

    def read(self, history: History) -> Reading:
        """Its growth, in all or per second."""
        growth = history.growth(self.counter, self.window_s)
        if growth is None:
            return Reading(None, 0)
        return Reading(growth.increase / growth.seconds if self.how == "rate" else growth.increase, growth.samples)

    def windows(self) -> Iterator[float | None]:
        """Its own."""
        yield self.window_s


@dataclass(frozen=True, slots=True)
class RatioTerm:
    """How much one counter grew for each one that another grew by. Rests on so many of the other."""

    part: Counter
    whole: Counter
    window_s: float | None

    @property
    def dimension(self) -> Dimension:
        """A ratio, where both count things."""
        return self.part.dimension.per(self.whole.dimension)

    def read(self, history: History) -> Reading:
        """The quotient of both growths; None where the other did not grow."""
        part = history.growth(self.part, self.window_s)
        whole = history.growth(self.whole, self.window_s)
        if part is None or whole is None or whole.increase <= 0:
            return Reading(None, 0)
        return Reading(part.increase / whole.increase, whole.increase)

    def windows(self) -> Iterator[float | None]:
        """Its own."""
        yield self.window_s


@dataclass(frozen=True, slots=True)
class DistributionTerm:
    """A figure of a distribution. how: "min", "max", "mean", or a percentile from 0 to 100."""

    distribution: Distribution
    how: str | float
    window_s: float | None

    @property
    def dimension(self) -> Dimension:
        """A time."""
        return TIME

    def read(self, history: History) -> Reading:
        """Its value by ``how``; rests on as many values as came."""
        histogram = history.latencies(self.distribution, self.window_s)
        if self.how == "mean":
            value = histogram.mean_s
        elif self.how == "max":
            value = histogram.max_s
        else:
            value = histogram.percentile_s(0.0 if isinstance(self.how, str) else self.how)
        return Reading(value, histogram.total)

    def windows(self) -> Iterator[float | None]:
        """Its own."""
        yield self.window_s


@dataclass(frozen=True, slots=True)
class Calculation:
    """Two terms with +, -, * or / between them."""

    sign: str
    left: Term
    right: Term
    dimension: Dimension

    def read(self, history: History) -> Reading:
        """The result; None where a part is, and for a division by 0."""
        left, right = self.left.read(history), self.right.read(history)
        samples = min(left.samples, right.samples)
        if left.value is None or right.value is None:
            return Reading(None, samples)
        return Reading(calculate(self.sign, left.value, right.value), samples)

    def windows(self) -> Iterator[float | None]:
        """Those of both."""
        yield from self.left.windows()
        yield from self.right.windows()


def calculate(sign: str, left: float, right: float) -> float | None:
    """``left sign right``; None for a division by 0 and for what is no finite number."""
    if sign == "+":
        result = left + right
    elif sign == "-":
        result = left - right
    elif sign == "*":
        result = left * right
    elif right == 0:
        return None
    else:
        result = left / right
    return result if math.isfinite(result) else None


def fit(left: Term, right: Term) -> Dimension | None:
    """What both are numbers of, so that they can be added or compared; None where they are of different things."""
    if left.dimension == right.dimension:
        return left.dimension
    if isinstance(left, Constant) and left.fits(right.dimension):
        return right.dimension
    if isinstance(right, Constant) and right.fits(left.dimension):
        return left.dimension
    return None
