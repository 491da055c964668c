"""When messages arrive in operational time, which goes faster where the rate is higher: one message per unit.

A schedule maps these positions to the clock by its shape. So arrivals are right for every shape, also on the way from
one to another: unit-exponential gaps there are a Poisson process of that shape's rate here.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

from eventbus.load.rate_lines import LOST

_CHUNK = 256
"""Gaps that are made at once, which costs some 0.1 us each."""


class Arrivals(Protocol):
    """Positions in operational time, ascending."""

    def upto(self, position: float, most: int) -> Sequence[float]:
        """Take the next ones up to ``position``, at most so many."""

    def next(self) -> float:
        """The position of the next one; it is not taken."""

    def count(self, position: float) -> int:
        """How many there are from the first up to ``position``, taken or not. Never called with less than before."""


class EvenArrivals:
    """One at each whole number: equal gaps while the rate stays."""

    def __init__(self) -> None:
        self._taken = 0

    def upto(self, position: float, most: int) -> Sequence[float]:
        """See Arrivals."""
        first = self._taken + 1
        self._taken = max(self._taken, min(self._taken + most, math.floor(position + LOST)))
        return range(first, self._taken + 1)

    def next(self) -> float:
        """See Arrivals."""
        return self._taken + 1

    def count(self, position: float) -> int:
        """See Arrivals."""
        return math.floor(position + LOST)


class _Gaps:
    """Positions with unit-exponential gaps; equal seeds give equal ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random
        self.positions: list[float] = []
        self.begin = 0
        self.last = 0.0

    def make(self) -> None:
        """The next chunk, in place of what was taken; the rest stays."""
        chance, log = self._random, math.log
        gaps = [-log(1.0 - chance()) for _ in range(_CHUNK)]
        made = list(accumulate(gaps, initial=self.last))
        self.positions = self.positions[self.begin :] + made[1:]
        self.begin, self.last = 0, made[-1]


class PoissonArrivals:
    """Independent of each other: gaps are exponential. seed: equal ones give equal arrivals.

    They are made twice, by two generators with the same seed: one takes, the other counts ahead. So counting what is
    due behind a stall of any length needs no memory.
    """

    def __init__(self, seed: int) -> None:
        self._taken = _Gaps(seed)
        self._counted = _Gaps(seed)
        self._count = 0

    def upto(self, position: float, most: int) -> Sequence[float]:
        """See Arrivals."""
        gaps = self._taken
        while gaps.last <= position and len(gaps.positions) - gaps.begin < most:
            gaps.make()
        begin = gaps.begin
        gaps.begin = min(begin + most, bisect_right(gaps.positions, position, begin))
        return gaps.positions[begin : gaps.begin]

    def next(self) -> float:
        """See Arrivals."""
        if self._taken.begin == len(self._taken.positions):
            self._taken.make()
        return self._taken.positions[self._taken.begin]

    def count(self, position: float) -> int:
        """See Arrivals. Costs 0.1 us for each message since the last call."""
        gaps = self._counted
        while gaps.last <= position:
            self._count += len(gaps.positions) - gaps.begin
            gaps.begin = len(gaps.positions)
            gaps.make()
        before, gaps.begin = gaps.begin, bisect_right(gaps.positions, position, gaps.begin)
        self._count += gaps.begin - before
        return self._count
