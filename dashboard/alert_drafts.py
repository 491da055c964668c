"""A rule as somebody types it: its texts, what is wrong with each, and the table that a file gets. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from eventbus.alerts import AlertRule, Comparison, parse, rules_from_plain
from eventbus.alerts.quantity import duration_s, duration_text
from eventbus.errors import ConfigError

_COLUMN = re.compile(r"column (\d+):")
_PLACE = re.compile(r"rules\[0\](?:\.(\w+))?[^:]*: ")
_LONG = 90
_DURATIONS = ("for", "keep_firing_for", "repeat")
_USUAL = {"for": 0.0, "keep_firing_for": 0.0, "repeat": 3600.0}


@dataclass(frozen=True, slots=True)
class Draft:
    """What the form holds, as it was typed; empty is the default. on: the next run gets the rule."""

    name: str = ""
    when: str = ""
    clear: str = ""
    for_: str = ""
    keep_firing_for: str = ""
    severity: str = "warning"
    summary: str = ""
    description: str = ""
    on: bool = True
    min_samples: int = 1
    no_data: str = "keep"
    inhibited_by: tuple[str, ...] = ()
    repeat: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, rule: AlertRule, on: bool) -> Draft:
        """The texts that stand for ``rule``."""
        return cls(
            name=rule.name,
            when=rule.expression.text,
            clear="" if rule.clear is None else quantity_text(rule.clear, rule.expression.unit),
            for_=duration_text(rule.for_s) if rule.for_s else "",
            keep_firing_for=duration_text(rule.keep_firing_s) if rule.keep_firing_s else "",
            severity=rule.severity,
            summary=rule.summary,
            description=rule.description,
            on=on,
            min_samples=rule.min_samples,
            no_data=rule.no_data,
            inhibited_by=rule.inhibited_by,
            repeat="" if rule.repeat_s == _USUAL["repeat"] else duration_text(rule.repeat_s),
            labels=rule.labels,
        )

    def table(self) -> dict[str, Any]:
        """The ``[[rules]]`` table, without what is the default."""
        texts = {
            "name": self.name.strip(),
            "when": " ".join(self.when.split()),
            "clear": self.clear.strip(),
            "for": self.for_.strip(),
            "keep_firing_for": self.keep_firing_for.strip(),
            "repeat": self.repeat.strip(),
            "severity": "" if self.severity == "warning" else self.severity,
            "summary": self.summary.strip(),
            "description": self.description.strip(),
        }
        table: dict[str, Any] = {name: text for name, text in texts.items() if text or name in ("name", "when")}
        if self.min_samples != 1:
            table["min_samples"] = self.min_samples
        if self.no_data != "keep":
            table["no_data"] = self.no_data
        if self.inhibited_by:
            table["inhibited_by"] = list(self.inhibited_by)
        if self.labels:
            table["labels"] = dict(self.labels)
        return table


@dataclass(frozen=True, slots=True)
class Checked:
    """What a draft comes to. rule: None where something is wrong. problems: by the name that a file has for the field.

    comparison: of the expression, also where something else is wrong. rule.inhibited_by is left out of it: whether
    these names fit is seen when the whole file is checked.
    """

    rule: AlertRule | None
    comparison: Comparison | None
    problems: Mapping[str, str]


def check(draft: Draft, taken: Collection[str] = ()) -> Checked:
    """All that is wrong with ``draft``. taken: names of other rules."""
    table = draft.table()
    problems: dict[str, str] = {}
    comparison = None
    if not table["name"]:
        problems["name"] = "Give it a name: a letter, then letters, digits and _ . -"
    elif table["name"] in taken:
        problems["name"] = "There is a rule of this name already."
    if not table["when"]:
        problems["when"] = "Say when it fires, as in p99(ack_latency, 10s) > 250ms"
    else:
        try:
            comparison = parse(draft.when)
        except ConfigError as error:
            problems["when"] = str(error)
    for name in _DURATIONS:
        try:
            duration_s(table.get(name, "0s"))
        except ConfigError as error:
            problems[name] = str(error)
            table.pop(name)
    rule = None
    if comparison is not None:
        rule = _rule(table, problems)
    return Checked(None if problems else rule, comparison, problems)


def caret(when: str, problem: str) -> str | None:
    """``when`` with a mark below the column that ``problem`` names; None where it names none."""
    found = _COLUMN.search(problem)
    if found is None:
        return None
    column = int(found[1])
    return f"{' '.join(when.splitlines())}\n{' ' * (column - 1)}^"


def brief(problem: str) -> str:
    """``problem`` without the list of all that could be written instead, where that is long."""
    head, use, rest = problem.partition("; use ")
    if not use:
        head, use, rest = problem.partition("? use ")
    return problem if len(rest) < _LONG else f"{head}{use[0]} all that can be used: docs/expressions.md"


def quantity_text(value: float, unit: str) -> str:
    """A number in base units as a file has it, in ``unit`` of Comparison.unit."""
    if unit == "s":
        return duration_text(value) if value >= 0 else f"{value!r}s"
    if unit == "ratio":
        return f"{value * 100:.10g}%"
    return f"{value:.15g}{unit if unit in ('B', '/s') else ''}"


def _rule(table: Mapping[str, Any], problems: dict[str, str]) -> AlertRule | None:
    """The rule of ``table``; what is wrong with it is noted in ``problems``, unless there is something already."""
    known = {name: value for name, value in table.items() if name != "inhibited_by"}
    if "name" in problems:
        known["name"] = "unnamed"
    try:
        return rules_from_plain([known])[0]
    except ConfigError as error:
        place = _PLACE.match(str(error))
        name = (place[1] if place else None) or "when"
        problems.setdefault(name, str(error)[place.end() :] if place else str(error))
        return None
