"""Schedule: when each message of a load is to be sent, whatever became of those before it (an open model).

Pure; the caller brings the time. Times are nanoseconds of the caller's monotonic clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from eventbus.errors import ConfigError
from eventbus.load.arrivals import Arrivals, EvenArrivals, PoissonArrivals
from eventbus.load.shape import Constant, Shape

CONSTANT = "constant"
POISSON = "poisson"
ARRIVALS = (CONSTANT, POISSON)

_STRAIGHT_NS = 1_000_000
"""Within this time the rate is taken as straight between two messages whose times are exact."""


class Timetable(Protocol):
    """What a runner asks of a schedule."""

    @property
    def unlimited(self) -> bool:
        """True where any number of messages is due at any time."""

    def take(self, now_ns: int, most: int) -> Sequence[int]:
        """The scheduled times of the next messages that are due by now, at most so many, in order. Each once."""

    def due(self, now_ns: int) -> int | None:
        """Messages due since the start, taken or not; None while it is unlimited. Never falls while time goes on."""

    def next_due_s(self, now_ns: int) -> float:
        """Seconds until the next message is due; 0 where one is, infinite where no more comes."""

    def rate_at(self, now_ns: int) -> float | None:
        """Messages per second that it wants now; None while it is unlimited, or not known ahead."""

    def change(self, to: Shape | float | None, now_ns: int) -> None:
        """From now on another shape, from its begin, or another rate. What was due by now stays due, at its time."""


class _Span:
    """A shape that holds from ``start_ns`` on, where operational time stood at ``base``; None is without limit."""

    __slots__ = ("base", "shape", "start_ns")

    def __init__(self, shape: Shape | float | None, start_ns: int, base: float) -> None:
        self.shape: Shape | None = Constant(shape) if isinstance(shape, (int, float)) else shape
        self.start_ns = start_ns
        self.base = base

    def position(self, now_ns: int) -> float:
        """Operational time at that time; without limit it stands still."""
        if self.shape is None:
            return self.base
        return self.base + self.shape.due((now_ns - self.start_ns) / 1e9)

    def when_ns(self, position: float, by_ns: int) -> int:
        """When operational time comes to ``position``, which is known to be by that time at the latest."""
        assert self.shape is not None
        passed_ns = self.shape.when(position - self.base) * 1e9
        return by_ns if passed_ns >= by_ns - self.start_ns else self.start_ns + int(passed_ns)

    def times(self, positions: Sequence[float], by_ns: int) -> list[int]:
        """When these are due."""
        shape, base, start_ns = self.shape, self.base, self.start_ns
        if isinstance(shape, Constant):
            interval_ns = 1e9 / shape.rate
            return [start_ns + int((position - base) * interval_ns) for position in positions]
        first_ns, last_ns = self.when_ns(positions[0], by_ns), self.when_ns(positions[-1], by_ns)
        return self._between(positions, first_ns, last_ns, by_ns)

    def _between(self, positions: Sequence[float], first_ns: int, last_ns: int, by_ns: int) -> list[int]:
        """The times of positions of which those of the first and last are known: halved until they are close."""
        if len(positions) <= 2:
            return [first_ns, last_ns][-len(positions) :]
        if last_ns - first_ns <= _STRAIGHT_NS:
            first = positions[0]
            interval_ns = (last_ns - first_ns) / (positions[-1] - first)
            return [first_ns + int((position - first) * interval_ns) for position in positions]
        half = len(positions) // 2
        half_ns = self.when_ns(positions[half], by_ns)
        return (
            self._between(positions[: half + 1], first_ns, half_ns, by_ns)[:-1]
            + self._between(positions[half:], half_ns, last_ns, by_ns)
        )  # fmt: skip


class Schedule:
    """Implements Timetable for a shape. Times are exact where the rate is straight within a millisecond; elsewhere
    (a jump, the crest of a fast sine) they may be off by part of one.

    shape: or a rate per second; None is without limit, and then a message is due when it is asked for. start_ns: when
    the shape begins; with equal gaps the first message is due one interval later, so that a duration of d seconds
    gives exactly rate times d messages. arrivals: "constant" (equal gaps while the rate stays) or "poisson". seed: of
    the latter; equal seeds give equal schedules.
    """

    def __init__(
        self, shape: Shape | float | None, start_ns: int, *, arrivals: str = CONSTANT, seed: int | None = None
    ) -> None:
        if arrivals not in ARRIVALS:
            raise ConfigError(f"arrivals is {arrivals!r}; use {' or '.join(map(repr, ARRIVALS))}")
        if arrivals == POISSON and seed is None:
            raise ConfigError("poisson arrivals need a seed")
        self._arrivals: Arrivals = EvenArrivals() if seed is None or arrivals == CONSTANT else PoissonArrivals(seed)
        self._unscheduled = 0  # taken while there was no limit
        self._spans = deque([_Span(shape, start_ns, 0.0)])  # but for the last, those of which something is left

    @property
    def unlimited(self) -> bool:
        """See Timetable."""
        return self._spans[-1].shape is None

    def rate_at(self, now_ns: int) -> float | None:
        """See Timetable."""
        span = self._spans[-1]
        return None if span.shape is None else span.shape.rate_at((now_ns - span.start_ns) / 1e9)

    def take(self, now_ns: int, most: int) -> Sequence[int]:
        """See Timetable. Costs some 0.15 us a message, twice as much where arrivals are Poisson."""
        taken: list[int] = []
        spans = self._spans
        while True:
            span, following = spans[0], spans[1] if len(spans) > 1 else None
            if following is not None:
                by_ns, limit = following.start_ns, following.base
            else:
                by_ns, limit = now_ns, span.position(now_ns)
            if span.shape is not None:
                positions = self._arrivals.upto(limit, most - len(taken))
                if positions:
                    taken += span.times(positions, by_ns)
            elif following is None:
                self._unscheduled += most - len(taken)
                return taken + [now_ns] * (most - len(taken))
            if following is None or len(taken) == most:
                return taken
            spans.popleft()

    def due(self, now_ns: int) -> int | None:
        """See Timetable."""
        if self.unlimited:
            return None
        return self._unscheduled + self._arrivals.count(self._spans[-1].position(now_ns))

    def next_due_s(self, now_ns: int) -> float:
        """See Timetable."""
        span = self._spans[-1]
        if span.shape is None or len(self._spans) > 1:
            return 0.0
        when_s = span.shape.when(self._arrivals.next() - span.base)
        return max(0.0, when_s - (now_ns - span.start_ns) / 1e9) if when_s < math.inf else math.inf

    def change(self, to: Shape | float | None, now_ns: int) -> None:
        """See Timetable."""
        last = self._spans[-1]
        position = last.position(now_ns)
        if last.shape is None or self._arrivals.next() > position:
            self._spans.pop()  # nothing of it is left
        self._spans.append(_Span(to, now_ns, position))
