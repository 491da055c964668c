"""RateLines: a rate over time that is made of straight lines, with its integral and the inverse of that."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

LOST = 1e-6
"""What floating point may lose of a number of messages: 333.3 a second for 10 s are 3,333."""


class RateLines:
    """``lines``: of each its seconds, the rate at its begin and the rate at its end; one after the other.

    Before the first and after the last the rate is 0. total: messages due in all of ``duration_s`` seconds.
    """

    __slots__ = ("begins", "dues", "duration_s", "rates", "slopes", "total")

    def __init__(self, lines: Sequence[tuple[float, float, float]]) -> None:
        self.begins: list[float] = []
        self.dues: list[float] = []
        self.rates: list[float] = []
        self.slopes: list[float] = []
        self.duration_s = self.total = 0.0
        for seconds, begin, end in lines:
            self.begins.append(self.duration_s)
            self.dues.append(self.total)
            self.rates.append(begin)
            self.slopes.append((end - begin) / seconds)
            self.duration_s += seconds
            self.total += (begin + end) / 2 * seconds

    def rate_at(self, t_s: float) -> float:
        """Messages per second at that time."""
        if not 0 <= t_s < self.duration_s:
            return 0.0
        line = bisect_right(self.begins, t_s) - 1
        return max(0.0, self.rates[line] + self.slopes[line] * (t_s - self.begins[line]))

    def due(self, t_s: float) -> float:
        """Messages due by that time."""
        if t_s <= 0:
            return 0.0
        if t_s >= self.duration_s:
            return self.total
        line = bisect_right(self.begins, t_s) - 1
        passed_s = t_s - self.begins[line]
        return self.dues[line] + passed_s * (self.rates[line] + self.slopes[line] * passed_s / 2)

    def when(self, due: float) -> float:
        """The first time at which so many are due; infinite where they never are."""
        if due <= 0:
            return 0.0
        if due > self.total + LOST:
            return math.inf
        line = bisect_left(self.dues, min(due, self.total)) - 1  # the one that begins below: its rate is not 0
        left, rate, slope = due - self.dues[line], self.rates[line], self.slopes[line]
        # Of the two ways to solve the quadratic this is the one that divides by no small difference.
        root = math.sqrt(max(0.0, rate * rate + 2 * slope * left))
        return min(self.begins[line] + 2 * left / (rate + root), self.duration_s)
