"""Alert rules: what fires, what does not, and when a change is told."""

from __future__ import annotations

import pytest

from eventbus.alerts import DEFAULT_RULES, AlertState, ThresholdRule, evaluate, transitions
from eventbus.errors import ConfigError
from eventbus.observe import Sample
from eventbus.snapshot import BusSnapshot, ConnectionState


def sample(at_s: float, *, pending: int = 0, acked: int = 0, rejected: int = 0, unknown: int = 0) -> Sample:
    snapshot = BusSnapshot(
        "bus",
        at_s,
        at_s,
        ConnectionState.CONNECTED,
        accepted=pending + acked + rejected + unknown,
        acked=acked,
        rejected=rejected,
        unknown=unknown,
        pending=pending,
    )
    return Sample(at_s, at_s, snapshot.accepted, None, snapshot)


def state_of(name: str, samples: list[Sample]) -> AlertState:
    return next(state for state in evaluate(DEFAULT_RULES, samples) if state.rule.name == name)


@pytest.mark.parametrize(("pending", "firing"), [(4_999, False), (5_000, False), (5_001, True)])
def test_pending_above_its_limit(pending: int, firing: bool) -> None:
    """More than 5,000 pending fires, 5,000 does not."""
    state = state_of("pending", [sample(0.0, pending=9_000), sample(0.25, pending=pending)])
    assert (state.firing, state.value) == (firing, pending)


@pytest.mark.parametrize(
    ("acked", "rejected", "unknown", "ratio"),
    [(990, 5, 5, 0.01), (980, 15, 5, 0.02), (0, 0, 20, 1.0), (0, 19, 0, None), (0, 0, 0, None)],
)
def test_error_ratio(acked: int, rejected: int, unknown: int, ratio: float | None) -> None:
    """The share of settled messages that were not acked; fires above 1 %, and says nothing below 20 settled."""
    state = state_of("error_ratio", [sample(0.0), sample(5.0, acked=acked, rejected=rejected, unknown=unknown)])
    assert state.value == (None if ratio is None else pytest.approx(ratio))
    assert state.firing == (ratio is not None and ratio > 0.01)


def test_old_errors_leave_the_ratio() -> None:
    """Only the last 10 s count: errors older than that neither keep it firing nor make it fire."""
    samples = [sample(0.0), sample(1.0, rejected=100), sample(6.0, acked=50, rejected=100)]
    assert state_of("error_ratio", samples).firing
    samples.append(sample(11.5, acked=100, rejected=100))
    assert state_of("error_ratio", samples).value == 0.0


def test_late_acks_do_not_make_a_negative_ratio() -> None:
    """Unknown messages that were acked late after all lower the ratio to zero, not below."""
    state = state_of("error_ratio", [sample(0.0, unknown=50), sample(5.0, acked=150, unknown=0)])
    assert (state.firing, state.value) == (False, 0.0)


def test_nothing_fires_without_samples() -> None:
    """Before the first sample every rule is silent."""
    assert [(state.firing, state.value) for state in evaluate(DEFAULT_RULES, [])] == [(False, None)] * 2


def test_only_changes_are_told() -> None:
    """A change is told when a rule begins and when it ceases to fire, with the value that decided it."""
    high, low = [sample(0.0, pending=6_000)], [sample(1.0, pending=3)]
    (begun,) = transitions(evaluate(DEFAULT_RULES, high), [], 7.0)
    assert (begun.rule, begun.firing, begun.value, begun.threshold, begun.wall_s) == (
        "pending",
        True,
        6_000,
        5_000,
        7.0,
    )
    assert transitions(evaluate(DEFAULT_RULES, high), ["pending"], 8.0) == []
    (ceased,) = transitions(evaluate(DEFAULT_RULES, low), ["pending"], 9.0)
    assert (ceased.firing, ceased.value) == (False, 3)


@pytest.mark.parametrize(("name", "threshold"), [("", 1.0), ("x", -1.0), ("x", float("nan"))])
def test_rule_that_cannot_be(name: str, threshold: float) -> None:
    """A rule has a name and a threshold of 0 or more."""
    with pytest.raises(ConfigError):
        ThresholdRule(name, "text", lambda _: None, threshold, "messages")
