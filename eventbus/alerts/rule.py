"""AlertRule: when people should look at a run. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from eventbus.alerts.expression import Comparison
from eventbus.alerts.quantity import duration_text
from eventbus.errors import ConfigError

PENDING_LIMIT = 5_000
ERROR_RATIO_LIMIT = 0.01
ERROR_RATIO_MIN_SETTLED = 20
"""Below this many settled messages a ratio says nothing: one failure of three would be 33 %."""

SEVERITIES = ("info", "warning", "critical")
NO_DATA = ("ok", "keep", "no_data", "firing")
MAX_RULES = 200
"""More in one engine are a slip: each is evaluated at every sample."""
MAX_DURATION_S = 7 * 24 * 3600.0

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MAX_TEXT = 1000


@dataclass(frozen=True, slots=True)
class AlertRule:
    """Fires while ``expression`` holds. Raises ConfigError for what cannot be, by the names that a file has for it.

    name: short and stable: a letter, then letters, digits and _ . -, at most 64.
    clear: the value of the expression's left side, in base units, that it must come back to before a firing alert is
        over (hysteresis); None: as soon as the expression does not hold. Between both, what is remains.
    for_s: how long it must hold before it fires. keep_firing_s: how long it goes on after it is over. 0 to 7 days.
    severity: "info", "warning" or "critical". labels: told along, by names as Prometheus allows them.
    summary, description: for people; one sentence, and what to do.
    min_samples: how many values the expression must rest on (see Evaluation); with fewer it says nothing.
    no_data: what it means where the expression says nothing: "ok" (as if it did not hold), "keep" (its phase stays,
        while time passes), "no_data" (a phase of its own, in which it does not fire) or "firing" (as if it held).
    inhibited_by: names of other rules; while one of them fires, nobody is told of this one.
    repeat_s: people are told again after so long while it fires. 1 s to 7 days.
    """

    name: str
    expression: Comparison
    clear: float | None = None
    for_s: float = 0.0
    keep_firing_s: float = 0.0
    severity: str = "warning"
    labels: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    description: str = ""
    min_samples: int = 1
    no_data: str = "keep"
    inhibited_by: tuple[str, ...] = ()
    repeat_s: float = 3600.0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"name is {self.name[:70]!r}; use a letter, then letters, digits and _ . - (at most 64 characters)"
            )
        for name, seconds, least in (
            ("for", self.for_s, 0.0),
            ("keep_firing_for", self.keep_firing_s, 0.0),
            ("repeat", self.repeat_s, 1.0),
        ):
            if not least <= seconds <= MAX_DURATION_S:
                raise ConfigError(f"{name} is {seconds:g} s; use {least:g} s to 7 days")
        _check_choice("severity", self.severity, SEVERITIES)
        _check_choice("no_data", self.no_data, NO_DATA)
        if not 1 <= self.min_samples <= 1_000_000_000:
            raise ConfigError(f"min_samples is {self.min_samples}; use 1 or more")
        for name, text in (("summary", self.summary), ("description", self.description)):
            if len(text) > _MAX_TEXT:
                raise ConfigError(f"{name} has {len(text):,} characters; use at most {_MAX_TEXT:,}")
        for label, value in self.labels.items():
            if not _LABEL.fullmatch(label):
                raise ConfigError(f"label {label[:70]!r} has no valid name; use letters, digits and _")
            if len(value) > _MAX_TEXT:
                raise ConfigError(f"label {label} has {len(value):,} characters; use at most {_MAX_TEXT:,}")
        self._check_clear()

    def _check_clear(self) -> None:
        if self.clear is None:
            return
        if self.expression.op in ("==", "!="):
            raise ConfigError(f"clear is given, but the expression compares with {self.expression.op}; use < or >")
        if not math.isfinite(self.clear):
            raise ConfigError(f"clear is {self.clear}; use a number")
        limit = self.expression.constant
        if limit is not None and (self.clear > limit if self.fires_above else self.clear < limit):
            given, most = self.expression.shown(self.clear), self.expression.shown(limit)
            raise ConfigError(f"clear is {given}; use {'at most' if self.fires_above else 'at least'} {most}")

    @property
    def fires_above(self) -> bool:
        """True for > and >=: it is over when the value has come down."""
        return self.expression.op in (">", ">=")

    def is_over(self, value: float) -> bool:
        """Whether ``value``, with which the expression does not hold, is also past ``clear``."""
        if self.clear is None:
            return True
        return value <= self.clear if self.fires_above else value >= self.clear

    def to_plain(self) -> dict[str, Any]:
        """Plain values, as ``rules_from_plain`` and a ``[[rules]]`` table have them; without what is the default."""
        plain: dict[str, Any] = {"name": self.name, "when": self.expression.text}
        if self.clear is not None:
            plain["clear"] = self.clear
        for name, seconds, usual in (
            ("for", self.for_s, 0.0),
            ("keep_firing_for", self.keep_firing_s, 0.0),
            ("repeat", self.repeat_s, 3600.0),
        ):
            if seconds != usual:
                plain[name] = duration_text(seconds)
        usual_rule: dict[str, Any] = {"severity": "warning", "min_samples": 1, "no_data": "keep"}
        for name in ("severity", "summary", "description", "min_samples", "no_data"):
            if getattr(self, name) != usual_rule.get(name, ""):
                plain[name] = getattr(self, name)
        if self.labels:
            plain["labels"] = dict(self.labels)
        if self.inhibited_by:
            plain["inhibited_by"] = list(self.inhibited_by)
        return plain


def _check_choice(name: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise ConfigError(f"{name} is {given[:40]!r}; use one of {', '.join(allowed)}")


def check_together(rules: Sequence[AlertRule], beside: Sequence[AlertRule] = ()) -> tuple[int, str] | None:
    """What is wrong with these in one engine, as (index of the rule, reason); None where nothing is.

    Names must be unique, what inhibits must be there, and no circle of rules may mute each other. beside: others that
    can inhibit them; one of a name that is among the rules does not count.
    """
    if len(rules) > MAX_RULES:
        return MAX_RULES, f"{len(rules)} rules; use at most {MAX_RULES}"
    names: dict[str, AlertRule] = {}
    for index, rule in enumerate(rules):
        if rule.name in names:
            return index, f"there are two rules named {rule.name!r}; give each a name of its own"
        names[rule.name] = rule
    names = {rule.name: rule for rule in beside} | names
    for index, rule in enumerate(rules):
        for other in rule.inhibited_by:
            if other not in names:
                others = [name for name in names if name != rule.name]
                near = get_close_matches(other, others, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                known = ", ".join(others) or "none"
                return index, f"inhibited_by names {other[:40]!r}, which is no rule here; {hint}the others: {known}"
        if _inhibits_itself(rule, names):
            return index, f"rule {rule.name!r} would inhibit itself; then nobody would be told of anything"
    return None


def _inhibits_itself(rule: AlertRule, names: Mapping[str, AlertRule]) -> bool:
    seen: set[str] = set()
    waiting = list(rule.inhibited_by)
    while waiting:
        name = waiting.pop()
        if name == rule.name:
            return True
        if name not in seen and name in names:
            seen.add(name)
            waiting += names[name].inhibited_by
    return False
