"""AlertEngine: the phase of every alert rule, and who is to be told. Pure: time comes only by arguments.

                          holds                          holds for `for`
    inactive, resolved ──────────────► pending ──────────────────────────► firing ◄───────────┐
            ▲                             │ does not hold                    │ over (clear)     │ not over any more
            └─────────────────────────────┘                                  ▼                  │
                             resolved ◄──────────────────────────────── recovering ─────────────┘
                                             over for `keep_firing_for`

With `for` or `keep_firing_for` of 0 the phase between is left out. `no_data` is where the expression says nothing and
the rule asks for it; from there it goes on as from inactive. Invariant: a phase changes in `_Alert.step` alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from eventbus.alerts.defaults import STANDARD
from eventbus.alerts.expression import Evaluation
from eventbus.alerts.history import History
from eventbus.alerts.rule import AlertRule, check_together
from eventbus.errors import ConfigError
from eventbus.observe.run import AlertChange

KEPT_CHANGES = 1_000
"""The newest so many changes are kept in memory."""
ALL = "*"


class AlertPhase(StrEnum):
    """Where an alert stands."""

    INACTIVE = "inactive"
    PENDING = "pending"
    """Its expression holds, but not yet for as long as ``for`` asks."""
    FIRING = "firing"
    RECOVERING = "recovering"
    """Over, but not yet for as long as ``keep_firing_for`` asks: still firing for people."""
    RESOLVED = "resolved"
    """Has fired, and is over. Until its expression holds again."""
    NO_DATA = "no_data"

    @property
    def fires(self) -> bool:
        """Whether people should look."""
        return self in (AlertPhase.FIRING, AlertPhase.RECOVERING)


@dataclass(frozen=True, slots=True)
class AlertState:
    """One alert now.

    since_s: when it entered its phase, wall time in seconds since the epoch; 0 before the first evaluation.
    value, threshold: both sides of its expression; None where they say nothing.
    muted: why nobody is told, or empty. acknowledged: by whom, or empty.
    """

    rule: AlertRule
    phase: AlertPhase
    since_s: float
    value: float | None
    threshold: float | None
    muted: str = ""
    acknowledged: str = ""


@dataclass(frozen=True, slots=True)
class Silence:
    """Nobody is told until ``until_s``, wall time in seconds since the epoch."""

    until_s: float
    by: str
    comment: str

    def __str__(self) -> str:
        return f"silenced by {self.by}" + (f": {self.comment}" if self.comment else "")


def fingerprint(rule: str, labels: Mapping[str, str]) -> str:
    """16 hexadecimal digits that stand for one alert: the same for the same rule and labels, in every process."""
    text = json.dumps([rule, sorted(labels.items())])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class AlertEngine:
    """The alerts of one run. ``evaluate`` at each sample, or each second; not for several threads at once.

    Raises ConfigError for rules that cannot be together: two of one name, or inhibited by one that is neither there nor
    a default one. A default one that is not there inhibits nothing: ``rules_in_use`` adds it.
    """

    def __init__(self, rules: Iterable[AlertRule]) -> None:
        self.rules = tuple(rules)
        wrong = check_together(self.rules, STANDARD)
        if wrong is not None:
            raise ConfigError(f"alert rules: {wrong[1]}")
        self._alerts = {rule.name: _Alert(rule) for rule in self.rules}
        self._silences: dict[str, Silence] = {}
        self._changes: deque[AlertChange] = deque(maxlen=KEPT_CHANGES)

    @property
    def changes(self) -> tuple[AlertChange, ...]:
        """The newest 1,000, in their order."""
        return tuple(self._changes)

    def evaluate(self, history: History, now_s: float, wall_s: float) -> list[AlertChange]:
        """What changed, in the order of the rules; repeats are changes from firing to firing.

        now_s: monotonic, by which durations are measured. wall_s: seconds since the epoch, which changes carry and
        silences end by.
        """
        self._silences = {name: silence for name, silence in self._silences.items() if silence.until_s > wall_s}
        before = {name: alert.phase for name, alert in self._alerts.items()}
        for alert in self._alerts.values():
            alert.step(alert.rule.expression.evaluate(history), now_s, wall_s)
        # Only now is known who inhibits whom, whatever the order of the rules.
        changes = []
        for name, alert in self._alerts.items():
            change = self._change(alert, before[name], now_s, wall_s)
            if change is not None:
                changes.append(change)
        self._changes.extend(changes)
        return changes

    def states(self) -> tuple[AlertState, ...]:
        """Every rule's state after the last evaluation."""
        return tuple(
            AlertState(
                alert.rule,
                alert.phase,
                alert.since_wall_s,
                alert.evaluation.value,
                alert.evaluation.threshold,
                self._muted(alert) or (f"acknowledged by {alert.acknowledged}" if alert.acknowledged else ""),
                alert.acknowledged,
            )
            for alert in self._alerts.values()
        )

    def silence(self, names: Iterable[str] | str, until_s: float, by: str, comment: str = "") -> None:
        """Tell nobody of these rules ("*": of all) until ``until_s``, wall time in seconds since the epoch.

        A later silence of the same name replaces it. What still fires when it ends is told then. Raises ConfigError
        for a name that is no rule.
        """
        if not math.isfinite(until_s):
            raise ConfigError(f"a silence until {until_s}; use seconds since the epoch")
        silence = Silence(until_s, by, comment)
        self._silences.update(dict.fromkeys(self._known(names), silence))

    def unsilence(self, names: Iterable[str] | str) -> None:
        """End the silences of these names; "*" ends all. Raises ConfigError for a name that is no rule."""
        given = self._known(names)
        for name in self._silences.copy() if ALL in given else given:
            self._silences.pop(name, None)

    @property
    def silences(self) -> Mapping[str, Silence]:
        """Those that hold, by rule; "*" is for all."""
        return dict(self._silences)

    def acknowledge(self, name: str, by: str) -> bool:
        """Somebody looks after it: no more repeats until it is over. False where it does not fire.

        Raises ConfigError for a name that is no rule.
        """
        if name not in self._alerts:
            raise ConfigError(self._not_a_rule(name))
        alert = self._alerts[name]
        if not alert.phase.fires:
            return False
        alert.acknowledged = by
        return True

    def _known(self, names: Iterable[str] | str) -> list[str]:
        """``names``, checked."""
        given = [names] if isinstance(names, str) else list(names)
        for name in given:
            if name not in self._alerts and name != ALL:
                raise ConfigError(self._not_a_rule(name))
        return given

    def _not_a_rule(self, name: str) -> str:
        return f"{name[:40]!r} is not an alert rule; there are {', '.join(self._alerts) or 'none'}"

    def _muted(self, alert: _Alert) -> str:
        """Why nobody is told of it now, but for an acknowledgement."""
        silence = self._silences.get(alert.rule.name) or self._silences.get(ALL)
        if silence is not None:
            return str(silence)
        for name in alert.rule.inhibited_by:
            other = self._alerts.get(name)
            if other is not None and other.phase.fires:
                return f"inhibited by {name}"
        return ""

    def _change(self, alert: _Alert, before: AlertPhase, now_s: float, wall_s: float) -> AlertChange | None:
        """What is to be said of ``alert``, which was ``before``; None where nothing is."""
        muted = self._muted(alert)
        if alert.phase is not before:
            muted = alert.entered(muted, now_s)
        elif alert.phase is AlertPhase.FIRING and alert.repeat_due(muted, now_s):
            alert.told(muted, now_s)
        else:
            return None
        return _change(alert, before, muted, wall_s)


class _Alert:
    """One rule's phase, and what people know of it."""

    def __init__(self, rule: AlertRule) -> None:
        self.rule = rule
        self.phase = AlertPhase.INACTIVE
        self.since_wall_s = 0.0
        self.evaluation = Evaluation(None, None, None)
        self.acknowledged = ""
        self._since_s = 0.0
        self._told_s = 0.0
        self._heard = False  # somebody was told that it fires

    def step(self, evaluation: Evaluation, now_s: float, wall_s: float) -> None:
        """The phase after ``evaluation``."""
        self.evaluation = evaluation
        phase = self._next(now_s)
        # Without `for` or `keep_firing_for` the phase between would last no time: it is left out.
        if phase is AlertPhase.PENDING and self.phase is not AlertPhase.PENDING and not self.rule.for_s:
            phase = AlertPhase.FIRING
        if phase is AlertPhase.RECOVERING and self.phase is AlertPhase.FIRING and not self.rule.keep_firing_s:
            phase = AlertPhase.RESOLVED
        if phase is not self.phase:
            self.phase, self._since_s, self.since_wall_s = phase, now_s, wall_s

    def _next(self, now_s: float) -> AlertPhase:
        holds, over = self._holds()
        if holds is None:
            return self.phase if self.rule.no_data == "keep" else AlertPhase.NO_DATA
        passed_s = now_s - self._since_s
        match self.phase:
            case AlertPhase.PENDING:
                if not holds:
                    return AlertPhase.INACTIVE
                return AlertPhase.FIRING if passed_s >= self.rule.for_s else AlertPhase.PENDING
            case AlertPhase.FIRING:
                return AlertPhase.RECOVERING if over else AlertPhase.FIRING
            case AlertPhase.RECOVERING:
                if not over:
                    return AlertPhase.FIRING
                return AlertPhase.RESOLVED if passed_s >= self.rule.keep_firing_s else AlertPhase.RECOVERING
            case _ if holds:
                return AlertPhase.PENDING
            case AlertPhase.RESOLVED:
                return AlertPhase.RESOLVED
            case _:
                return AlertPhase.INACTIVE

    def _holds(self) -> tuple[bool | None, bool]:
        """Whether the expression holds (None: it says nothing), and whether it is over."""
        holds, value = self.evaluation.holds, self.evaluation.value
        if holds is None or value is None or self.evaluation.samples < self.rule.min_samples:
            if self.rule.no_data in ("ok", "firing"):
                fires = self.rule.no_data == "firing"
                return fires, not fires
            return None, False
        return holds, not holds and self.rule.is_over(value)

    def repeat_due(self, muted: str, now_s: float) -> bool:
        """Whether people are to be told of it again, or at last."""
        if muted or self.acknowledged:
            return False
        return not self._heard or now_s - self._told_s >= self.rule.repeat_s

    def entered(self, muted: str, now_s: float) -> str:
        """It has entered another phase. Returns why nobody is to be told, or empty."""
        if self.phase is AlertPhase.FIRING:
            if self.acknowledged and not muted:
                return f"acknowledged by {self.acknowledged}"
            self.told(muted, now_s)
            return muted
        if not self.phase.fires:
            self._heard, self.acknowledged = False, ""
        return muted

    def told(self, muted: str, now_s: float) -> None:
        """People are told now that it fires, unless it is muted."""
        self._told_s = now_s
        self._heard = self._heard or not muted


def _change(alert: _Alert, before: AlertPhase, muted: str, wall_s: float) -> AlertChange:
    rule, evaluation = alert.rule, alert.evaluation
    return AlertChange(
        wall_s=wall_s,
        rule=rule.name,
        firing=alert.phase.fires,
        value=math.nan if evaluation.value is None else evaluation.value,
        threshold=math.nan if evaluation.threshold is None else evaluation.threshold,
        text=rule.summary or rule.expression.text,
        state=str(alert.phase),
        previous=str(before),
        severity=rule.severity,
        muted=muted,
        labels=dict(rule.labels),
    )
