"""Alert rules over the samples of a run."""

from eventbus.alerts.rule import DEFAULT_RULES, NEEDED_SPAN_S, AlertState, ThresholdRule, evaluate, transitions

__all__ = ["DEFAULT_RULES", "NEEDED_SPAN_S", "AlertState", "ThresholdRule", "evaluate", "transitions"]
