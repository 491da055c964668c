"""Alert rules as people write them: ``[[rules]]`` tables of a TOML file, or the same as JSON.

A rule may be inhibited by a default one, which need not be written: the run gets it along (``defaults.rules_in_use``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from eventbus.alerts.defaults import STANDARD
from eventbus.alerts.quantity import quantity
from eventbus.alerts.rule import AlertRule, check_together
from eventbus.alerts.table import PlainSource, Source, Table, brief, items_at
from eventbus.errors import ConfigError
from eventbus.toml_text import TomlText

NAMES = (
    "name",
    "when",
    "clear",
    "for",
    "keep_firing_for",
    "severity",
    "labels",
    "summary",
    "description",
    "min_samples",
    "no_data",
    "inhibited_by",
    "repeat",
)
"""What a rule may say; the first two it must."""


def rules_from(toml: TomlText, key: Sequence[str | int] = ("rules",)) -> tuple[AlertRule, ...]:
    """The rules of a file; none where ``key`` is not there. Raises ConfigError: file, line, cause, what is allowed."""
    return _rules(toml, tuple(key))


def rules_from_plain(items: Any) -> tuple[AlertRule, ...]:
    """The rules of a list of tables, as from JSON. Raises ConfigError: path (``rules[2].when``), cause, what to use."""
    return _rules(PlainSource({"rules": items}), ("rules",))


def _rules(source: Source, key: tuple[str | int, ...]) -> tuple[AlertRule, ...]:
    rules = tuple(_rule(Table(source, at, values, "a rule")) for at, values in items_at(source, key))
    wrong = check_together(rules, STANDARD)
    if wrong is not None:
        index, reason = wrong
        source.refuse((*key, index, "inhibited_by" if "inhibit" in reason else "name"), reason)
    return rules


def _rule(table: Table) -> AlertRule:
    table.check_names(NAMES)
    name, expression = table.text("name"), table.expression("when")
    given = {
        "clear": _clear(table, expression.unit),
        "for_s": table.seconds("for", 0.0),
        "keep_firing_s": table.seconds("keep_firing_for", 0.0),
        "severity": table.text("severity", "warning"),
        "labels": table.text_by_name("labels"),
        "summary": table.text("summary", ""),
        "description": table.text("description", ""),
        "min_samples": table.integer("min_samples", 1),
        "no_data": table.text("no_data", "keep"),
        "inhibited_by": table.texts("inhibited_by"),
        "repeat_s": table.seconds("repeat", 3600.0),
    }
    try:
        return AlertRule(name, expression, **given)  # type: ignore[arg-type]
    except ConfigError as error:
        reason = str(error)
        # A rule's own refusal begins with the name that it is about.
        about = reason.split(maxsplit=1)[0]
        table.refuse({"label": "labels"}.get(about, about), reason)


def _clear(table: Table, unit: str) -> float | None:
    """A number in base units, or a text with its unit, as in "200ms"."""
    given = table.value("clear")
    if "clear" not in table:
        return None
    if isinstance(given, str):
        try:
            found = quantity(given.strip())
        except ConfigError as error:
            table.refuse("clear", f"clear: {error}")
        plain_fits = unit in ("", "/s", "ratio")
        if found.value == 0 or (plain_fits if found.plain else found.dimension.unit == unit):
            return found.value
        table.refuse("clear", f"clear is {brief(given)}, {found.dimension}; use the unit of the expression")
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        table.refuse("clear", f'clear is {brief(given)}; use a number, or a text with its unit, as in "200ms"')
    return float(given)
