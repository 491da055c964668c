"""Where the alerts of a run stand, by the changes that its store keeps. Pure; without Streamlit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eventbus.alerts import AlertPhase, AlertRule
from eventbus.alerts.quantity import shown
from eventbus.observe.run import AlertChange

MAX_HISTORY = 1_000
"""Changes that the page shows of one run, the newest."""
SEVERITIES = ("critical", "warning", "info")
"""What people look at first comes first."""
SIGNS = {"critical": "✖", "warning": "⚠", "info": "•"}
"""For tables, which take no icons; the word stands beside it."""
ACTIVE = (AlertPhase.FIRING, AlertPhase.RECOVERING, AlertPhase.PENDING, AlertPhase.NO_DATA)


@dataclass(frozen=True, slots=True)
class Standing:
    """One alert that is not at rest. since_s: when it entered its phase, seconds since the epoch.

    value, threshold: as they were then, with their unit. muted: why nobody is told, or empty.
    text: what is wrong; what_to_do: the rule's description, may be empty. expression: empty where the rule is unknown.
    """

    rule: str
    phase: AlertPhase
    severity: str
    since_s: float
    value: str
    threshold: str
    muted: str = ""
    text: str = ""
    what_to_do: str = ""
    expression: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the history. value, threshold: with their unit. repeat: it only still fires."""

    wall_s: float
    rule: str
    phase: AlertPhase
    previous: AlertPhase | None
    severity: str
    value: str
    threshold: str
    text: str
    muted: str

    @property
    def repeat(self) -> bool:
        return self.phase is self.previous


def phase_of(change: AlertChange) -> AlertPhase:
    """The phase that an alert entered. Changes of AckScope 0.1 have none: those fire, or are over."""
    try:
        return AlertPhase(change.state)
    except ValueError:
        return AlertPhase.FIRING if change.firing else AlertPhase.RESOLVED


def standings(changes: Sequence[AlertChange], rules: Sequence[AlertRule]) -> list[Standing]:
    """Alerts that are firing, recovering, pending or without data, after ``changes``; the gravest first."""
    known = {rule.name: rule for rule in rules}
    last: dict[str, AlertChange] = {}
    since: dict[str, float] = {}
    for change in changes:
        before = last.get(change.rule)
        if before is None or phase_of(before) is not phase_of(change):
            since[change.rule] = change.wall_s
        last[change.rule] = change
    active = [change for change in last.values() if phase_of(change) in ACTIVE]
    found = [_standing(change, since[change.rule], known.get(change.rule)) for change in active]
    return sorted(found, key=lambda one: (ACTIVE.index(one.phase), _rank(one.severity), one.since_s))


def history(changes: Sequence[AlertChange], rules: Sequence[AlertRule], limit: int = MAX_HISTORY) -> list[Change]:
    """The newest ``limit`` changes, newest first."""
    known = {rule.name: rule for rule in rules}
    return [_change(change, known.get(change.rule)) for change in reversed(changes[-limit:])]


def figure(value: float, rule: AlertRule | None) -> str:
    """A value of a rule's expression with its unit; of an unknown rule the number alone."""
    if rule is not None:
        return rule.expression.shown(value)
    return shown(value, "") if math.isfinite(value) else "no data"


def _standing(change: AlertChange, since_s: float, rule: AlertRule | None) -> Standing:
    return Standing(
        rule=change.rule,
        phase=phase_of(change),
        severity=change.severity,
        since_s=since_s,
        value=figure(change.value, rule),
        threshold=figure(change.threshold, rule),
        muted=change.muted,
        text=change.text or change.rule,
        what_to_do="" if rule is None else rule.description,
        expression="" if rule is None else rule.expression.text,
    )


def _change(change: AlertChange, rule: AlertRule | None) -> Change:
    return Change(
        wall_s=change.wall_s,
        rule=change.rule,
        phase=phase_of(change),
        previous=AlertPhase(change.previous) if change.previous in set(AlertPhase) else None,
        severity=change.severity,
        value=figure(change.value, rule),
        threshold=figure(change.threshold, rule),
        text=change.text,
        muted=change.muted,
    )


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
