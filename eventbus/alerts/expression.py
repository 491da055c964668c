"""Comparison: what a threshold or an alert rule says of a run, as in ``p99(ack_latency, 1m) < 250ms``.

What can be written, and what it means: docs/expressions.md.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from eventbus.alerts.history import History
from eventbus.alerts.parser import MAX_LENGTH, MAX_WINDOW_S, MIN_WINDOW_S, Parsed, parse_terms
from eventbus.alerts.quantity import Dimension, shown
from eventbus.alerts.term import Constant, Term, fit

__all__ = ["MAX_LENGTH", "MAX_WINDOW_S", "MIN_WINDOW_S", "Comparison", "Evaluation", "parse"]

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a comparison said at one time. value: of its left side; threshold: of its right; holds: whether it is true.

    None where the samples do not say enough. With ``and`` the first two are of the first comparison.
    samples: the fewest values that any of its figures rests on: latencies for those of a distribution, messages for a
    ratio (those of its second counter), samples of the run for all others. What follows an ``and`` is not counted, so
    that a short window beside a long one may hold less; without any value it says nothing all the same.
    """

    value: float | None
    threshold: float | None
    holds: bool | None
    samples: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides and what is between them; made by ``parse``. Equal where the text is; can be pickled.

    text: on one line. op: one of < <= > >= == !=. window_s: the longest window, None where there is none.
    whole_run: at least one figure is of the whole run. dimension: what both sides are numbers of.
    also: what must hold besides, each after an ``and``. The first comparison is the one that is shown, drawn, and
    cleared by; all the rest here but text, window_s and whole_run is of it alone.
    """

    text: str
    op: str
    window_s: float | None
    whole_run: bool
    dimension: Dimension = field(compare=False, repr=False)
    left: Term = field(compare=False, repr=False)
    right: Term = field(compare=False, repr=False)
    also: tuple[Comparison, ...] = field(default=(), compare=False, repr=False)

    def evaluate(self, history: History) -> Evaluation:
        """Both sides by ``history``, and whether it holds: not where one part does not, and else nothing where one part
        says nothing."""
        first = self._alone(history)
        holds = [first.holds, *(part.evaluate(history).holds for part in self.also)]
        together = False if False in holds else None if None in holds else True
        return Evaluation(first.value, first.threshold, together, first.samples)

    def _alone(self, history: History) -> Evaluation:
        left, right = self.left.read(history), self.right.read(history)
        samples = int(min(left.samples, right.samples))
        if left.value is None or right.value is None:
            return Evaluation(left.value, right.value, None, samples)
        return Evaluation(left.value, right.value, _COMPARE[self.op](left.value, right.value), samples)

    @property
    def unit(self) -> str:
        """Of both sides: "s", "ratio", "B", "/s", "" for a count."""
        return self.dimension.unit

    @property
    def constant(self) -> float | None:
        """The right side, where it is a number; None where it is measured."""
        return self.right.value if isinstance(self.right, Constant) else None

    def shown(self, value: float | None) -> str:
        """A value of either side for people, with its unit."""
        return shown(value, self.unit)

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return parse, (self.text,)


def parse(text: str) -> Comparison:
    """``text`` as a comparison. Raises ConfigError: "expression, column N: ...", on one line, with what is allowed."""
    first, *rest = [_comparison(parsed) for parsed in parse_terms(text)]
    if not rest:
        return first
    return replace(
        first,
        text=" ".join(text.split()),
        window_s=max((part.window_s for part in (first, *rest) if part.window_s), default=None),
        whole_run=any(part.whole_run for part in (first, *rest)),
        also=tuple(rest),
    )


def _comparison(parsed: Parsed) -> Comparison:
    windows = [*parsed.left.windows(), *parsed.right.windows()]
    dimension = fit(parsed.left, parsed.right)
    assert dimension is not None, "parse_terms refuses what does not fit"
    return Comparison(
        text=" ".join(parsed.text.split()),
        op=parsed.op,
        window_s=max((window for window in windows if window), default=None),
        whole_run=None in windows,
        dimension=dimension,
        left=parsed.left,
        right=parsed.right,
    )
