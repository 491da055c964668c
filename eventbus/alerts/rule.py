"""ThresholdRule: when a figure of a run is too high. Pure: samples in, states out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from eventbus.errors import ConfigError
from eventbus.observe.run import AlertChange, Sample

PENDING_LIMIT = 5_000
ERROR_RATIO_LIMIT = 0.01
ERROR_RATIO_SPAN_S = 10.0
ERROR_RATIO_MIN_SETTLED = 20
"""Below this many settled messages a ratio says nothing: one failure of three would be 33 %."""

NEEDED_SPAN_S = ERROR_RATIO_SPAN_S
"""How far back, in seconds, the samples given to ``evaluate`` must reach for the default rules."""


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """Fires while a figure is above its threshold.

    name: short and stable. text: a sentence for people. unit: of value and threshold, as "messages" or "ratio".
    value: the figure, from recent samples in time order (at least one); None where they do not say enough, and then
        the rule does not fire.
    """

    name: str
    text: str
    value: Callable[[Sequence[Sample]], float | None]
    threshold: float
    unit: str

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("an alert rule needs a name")
        if not self.threshold >= 0:
            raise ConfigError(f"threshold of alert rule {self.name!r} is {self.threshold}; use 0 or more")


@dataclass(frozen=True, slots=True)
class AlertState:
    """What a rule says now. value: None where the samples do not say enough."""

    rule: ThresholdRule
    firing: bool
    value: float | None


def pending(samples: Sequence[Sample]) -> float | None:
    """Messages pending in the last sample."""
    return float(samples[-1].snapshot.pending)


def error_ratio(samples: Sequence[Sample]) -> float | None:
    """Share, 0 to 1, of the messages settled in the last 10 s that were not acked; None below 20 settled."""
    last = samples[-1]
    begin = last.elapsed_s - ERROR_RATIO_SPAN_S
    first = samples[0]
    for sample in samples:
        if sample.elapsed_s > begin:
            break
        first = sample
    failed = _failed(last) - _failed(first)
    settled = failed + last.snapshot.acked - first.snapshot.acked
    if settled < ERROR_RATIO_MIN_SETTLED:
        return None
    # Late acks turn unknown into acked, so the difference can be below zero.
    return max(0, failed) / settled


def _failed(sample: Sample) -> int:
    return sample.snapshot.rejected + sample.snapshot.unknown


DEFAULT_RULES: tuple[ThresholdRule, ...] = (
    ThresholdRule("pending", "More than 5,000 messages wait for their ack", pending, PENDING_LIMIT, "messages"),
    ThresholdRule(
        "error_ratio",
        "More than 1 % of the messages settled in the last 10 s were not acked",
        error_ratio,
        ERROR_RATIO_LIMIT,
        "ratio",
    ),
)


def evaluate(rules: Iterable[ThresholdRule], samples: Sequence[Sample]) -> list[AlertState]:
    """The state of each rule by ``samples``, recent ones in time order; without samples nothing fires."""
    if not samples:
        return [AlertState(rule, False, None) for rule in rules]
    states = []
    for rule in rules:
        value = rule.value(samples)
        states.append(AlertState(rule, value is not None and value > rule.threshold, value))
    return states


def transitions(states: Iterable[AlertState], firing: Iterable[str], wall_s: float) -> list[AlertChange]:
    """What changed against ``firing``, the names of the rules that fired before."""
    before = frozenset(firing)
    return [
        AlertChange(wall_s, s.rule.name, s.firing, s.value or 0.0, s.rule.threshold, s.rule.text)
        for s in states
        if s.firing != (s.rule.name in before)
    ]
