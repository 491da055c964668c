"""Levels: the thresholds of a run's alerts and verdict, as lines for the charts that show what they are about. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json import dumps, loads

from dashboard import style
from dashboard.chart_frame import Threshold
from eventbus.alerts import Comparison, History, default_rules, rules_from_plain, thresholds_from_plain
from eventbus.alerts.term import CounterTerm, DistributionTerm, GaugeTerm, Term
from eventbus.errors import ConfigError
from eventbus.observe.run import RunInfo, Sample

ALERT, VERDICT = "alert", "must be"


@dataclass(frozen=True, slots=True)
class Level:
    """A line in the charts of ``metric``: ``right`` is read of the newest sample where it is no constant."""

    metric: str
    text: str
    comparison: Comparison

    def value(self, sample: Sample) -> float | None:
        """In base units; None where it cannot be told from one sample."""
        constant = self.comparison.constant
        if constant is not None:
            return constant
        if any(window != 0 for window in self.comparison.right.windows()):
            return None
        history = History()
        history.add(sample)
        return self.comparison.right.read(history).value


def levels_of(run: RunInfo) -> tuple[Level, ...]:
    """All levels of a run, by what it was started with; none where its settings cannot be read any more."""
    settings = run.settings
    return _levels(
        dumps(settings.get("rules")),
        dumps(settings.get("thresholds") or []),
        int(settings.get("max_pending") or 10_000) * int(settings.get("processes") or 1),
        float(settings.get("ack_timeout_s") or 5.0),
    )


def lines(levels: Sequence[Level], metric: str, sample: Sample | None, *, limited: bool = False) -> list[Threshold]:
    """Those of one metric as lines; equal values become one. limited: the chart draws a hard limit above them all, so
    that only low ones have their text above the line."""
    found: dict[float, Level] = {}
    for level in levels:
        value = level.value(sample) if level.metric == metric and sample is not None else None
        if value is not None and value not in found:
            found[value] = level
    highest = max(found, default=0.0)
    return [
        Threshold(
            value,
            f"{level.text} {level.comparison.op} {level.comparison.shown(value)}",
            style.UNKNOWN,
            place=("insideStart" if level.text == ALERT else "insideMiddle")
            + ("Top" if (value < highest / 10 if limited else value == highest) else "Bottom"),
        )
        for value, level in found.items()
    ]


@lru_cache(maxsize=16)
def _levels(rules: str, thresholds: str, max_pending: int, ack_timeout_s: float) -> tuple[Level, ...]:
    try:
        plain = loads(rules)
        made = (
            default_rules(max_pending=max_pending, ack_timeout_s=ack_timeout_s)
            if plain is None
            else rules_from_plain(plain)
        )
        judged = thresholds_from_plain(loads(thresholds))
    except ConfigError:
        return ()
    return (
        *(Level(m, ALERT, rule.expression) for rule in made for m in _metric(rule.expression.left)),
        *(Level(m, VERDICT, one.expression) for one in judged for m in _metric(one.expression.left)),
    )


def _metric(left: Term) -> Iterator[str]:
    """The name of the metric that a side is about: its own, or ``p99(ack_latency)``; nothing of what is calculated."""
    if isinstance(left, GaugeTerm) and left.how in ("last", "max"):
        yield left.gauge.name
    elif isinstance(left, DistributionTerm) and isinstance(left.how, float):
        yield left.distribution.name
    elif isinstance(left, CounterTerm) and left.how == "rate":
        yield left.counter.name
