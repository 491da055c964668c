"""Where the alerts of a run stand, by the changes that its store keeps and by what it tells while it goes on. Pure;
without Streamlit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dashboard import style
from eventbus.alerts import AlertNow, AlertPhase, AlertRule
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
    """Where one alert stands. since_s: when it entered its phase, seconds since the epoch; 0 where nobody knows.

    value, threshold: with their unit, the latter as in "> 250 ms"; as they are now where ``live``, else as they were
    when it entered its phase.
    wait_s: how long its phase can last before the next one: a pending alert's ``for``, a recovering one's
    ``keep_firing_for``. muted: why nobody is told, or empty. text: what is wrong; what_to_do: the rule's description,
    may be empty. expression: empty where the rule is unknown.
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
    live: bool = False
    wait_s: float = 0.0

    def held_s(self, at_s: float) -> float:
        """How long it has been in its phase."""
        return max(0.0, at_s - self.since_s)

    def progress(self, at_s: float) -> float:
        """From 0 to 1: how near a pending alert is to firing, or a recovering one to its end; a firing one is there."""
        if self.phase is AlertPhase.FIRING:
            return 1.0
        return min(1.0, self.held_s(at_s) / self.wait_s) if self.wait_s else 0.0

    def told(self, at_s: float) -> str:
        """The same in words."""
        held_s = self.held_s(at_s)
        match self.phase:
            case AlertPhase.PENDING if self.wait_s:
                return f"holds for {_of(held_s, self.wait_s)}, then it fires"
            case AlertPhase.RECOVERING if self.wait_s:
                return f"over for {_of(held_s, self.wait_s)}, then it is resolved"
            case _:
                return f"{style.words(str(self.phase))} for {long(held_s)}"


@dataclass(frozen=True, slots=True)
class Firing:
    """One time that an alert fired, recovering included. to_s: None where it still does. Seconds since the epoch."""

    rule: str
    severity: str
    text: str
    from_s: float
    to_s: float | None = None


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


def standings(
    changes: Sequence[AlertChange], rules: Sequence[AlertRule], live: Sequence[AlertNow] = ()
) -> list[Standing]:
    """Where each alert stands after ``changes``, in the order of ``rules``; then those of rules that are not known.

    live: what the run told last. The store may be a moment ahead of it, or behind.
    """
    known = {rule.name: rule for rule in rules}
    stored = _stored(changes, known)
    told = {alert.name: alert for alert in live}
    found = []
    for name in dict.fromkeys((*known, *stored, *told)):
        before, alert = stored.get(name), told.get(name)
        if alert is not None and (before is None or alert.since_s >= before.since_s):
            found.append(_live(alert, known.get(name), before))
        else:
            found.append(before or _standing(name, AlertPhase.INACTIVE, known.get(name), 0.0, "", ""))
    return found


def active(found: Sequence[Standing]) -> list[Standing]:
    """Those that are firing, recovering, pending or without data; the gravest first, of these the muted ones last."""
    return sorted(
        (one for one in found if one.phase in ACTIVE),
        key=lambda one: (ACTIVE.index(one.phase), bool(one.muted), _rank(one.severity), one.since_s),
    )


def firings(changes: Sequence[AlertChange]) -> list[Firing]:
    """Each time that an alert fired, in the order of their begins."""
    found: list[Firing] = []
    going_on: dict[str, int] = {}
    for change in changes:
        if phase_of(change).fires:
            if change.rule not in going_on:
                going_on[change.rule] = len(found)
                found.append(Firing(change.rule, change.severity, change.text or change.rule, change.wall_s))
        elif change.rule in going_on:
            at = going_on.pop(change.rule)
            found[at] = replace(found[at], to_s=change.wall_s)
    return found


def history(changes: Sequence[AlertChange], rules: Sequence[AlertRule], limit: int = MAX_HISTORY) -> list[Change]:
    """The newest ``limit`` changes, newest first."""
    known = {rule.name: rule for rule in rules}
    return [_change(change, known.get(change.rule)) for change in reversed(changes[-limit:])]


def figure(value: float, rule: AlertRule | None) -> str:
    """A value of a rule's expression with its unit; of an unknown rule the number alone."""
    if rule is not None:
        return rule.expression.shown(value)
    return shown(value, "") if math.isfinite(value) else "no data"


def long(seconds: float) -> str:
    """A length of time in whole seconds: 12 s, 2 min 5 s."""
    return style.span(float(int(seconds)))


def _of(held_s: float, wait_s: float) -> str:
    """3 of 5 s."""
    if wait_s >= 60:
        return f"{long(min(held_s, wait_s))} of {style.span(wait_s)}"
    return f"{int(min(held_s, wait_s))} of {style.span(wait_s)}"


def _stored(changes: Sequence[AlertChange], known: Mapping[str, AlertRule]) -> dict[str, Standing]:
    last: dict[str, AlertChange] = {}
    since: dict[str, float] = {}
    for change in changes:
        before = last.get(change.rule)
        if before is None or phase_of(before) is not phase_of(change):
            since[change.rule] = change.wall_s
        last[change.rule] = change
    found = {}
    for name, change in last.items():
        rule = known.get(name)
        one = _standing(
            name, phase_of(change), rule, since[name], figure(change.value, rule), figure(change.threshold, rule)
        )
        found[name] = replace(one, severity=change.severity, muted=change.muted, text=change.text or name)
    return found


def _live(alert: AlertNow, rule: AlertRule | None, stored: Standing | None) -> Standing:
    value, threshold = (figure(math.nan if one is None else one, rule) for one in (alert.value, alert.threshold))
    one = _standing(alert.name, alert.state, rule, alert.since_s, value, threshold)
    if rule is None and stored is not None:
        one = replace(one, severity=stored.severity, text=stored.text)
    return replace(one, muted=alert.muted, live=True)


def _standing(
    name: str, phase: AlertPhase, rule: AlertRule | None, since_s: float, value: str, threshold: str
) -> Standing:
    found = Standing(name, phase, "warning", since_s, value, threshold, text=name)
    if rule is None:
        return found
    constant = rule.expression.constant
    limit = threshold or ("" if constant is None else figure(constant, rule))
    return replace(
        found,
        severity=rule.severity,
        threshold=f"{rule.expression.op} {limit}" if limit else "",
        text=rule.summary or rule.expression.text,
        what_to_do=rule.description,
        expression=rule.expression.text,
        wait_s={AlertPhase.PENDING: rule.for_s, AlertPhase.RECOVERING: rule.keep_firing_s}.get(phase, 0.0),
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
