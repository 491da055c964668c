"""The file in which people keep alert rules and sinks for the runs of the dashboard: reading, checking, what it means.

It lies beside the store, as ``alerts.toml``, and has ``[[rules]]`` and ``[[sinks]]`` as docs/alerts.md describes them,
besides ``off``, the names of rules that no run gets. The default rules need not be in it: every run gets them, with the
limits that fit it, unless ``off`` or a rule of the same name says otherwise. ``inhibited_by`` may name them.
Without Streamlit. alert_edits.py changes the file.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from eventbus.alerts import AlertRule, default_rules, rules_from, rules_from_plain, rules_in_use
from eventbus.alerts.table import Table, brief
from eventbus.errors import ConfigError
from eventbus.observe.run import RunInfo
from eventbus.observe.schema import default_store_path
from eventbus.toml_text import MAX_BYTES, TomlText

FILE_NAME = "alerts.toml"
MAX_PENDING, ACK_TIMEOUT_S = 10_000, 5.0
"""The window and the ack timeout of a run that says nothing else; the limits of some default rules come from them."""
WRITING = threading.Lock()
"""Held by whoever changes a file: all sessions of the dashboard are threads of one process."""
_KEYS = ("off", "rules", "sinks")


class Origin(StrEnum):
    """Where a rule comes from."""

    DEFAULT = "default"
    CHANGED = "default, changed"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Listed:
    """A rule as the page lists it. on: the next run gets it."""

    rule: AlertRule
    origin: Origin
    on: bool


@dataclass(frozen=True, slots=True)
class AlertFile:
    """What the file says. text: as it was read, empty where there is no file. off: names of rules that no run gets.

    sinks: tables as they are written, ``env:NAME`` and all. They may hold credentials: not in ``repr``.
    """

    path: Path
    text: str = field(default="", repr=False)
    rules: tuple[AlertRule, ...] = ()
    off: frozenset[str] = frozenset()
    sinks: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    def listed(self, *, max_pending: int = MAX_PENDING, ack_timeout_s: float = ACK_TIMEOUT_S) -> tuple[Listed, ...]:
        """The default rules in their order, changed ones in their place, and then the own ones."""
        defaults = default_rules(max_pending=max_pending, ack_timeout_s=ack_timeout_s)
        own = {rule.name: rule for rule in self.rules}
        found = []
        for rule in defaults:
            changed = own.pop(rule.name, None)
            origin = Origin.DEFAULT if changed is None else Origin.CHANGED
            found.append(Listed(changed or rule, origin, self._is_on(rule.name)))
        return (*found, *(Listed(rule, Origin.OWN, self._is_on(name)) for name, rule in own.items()))

    def in_use(self, *, max_pending: int = MAX_PENDING, ack_timeout_s: float = ACK_TIMEOUT_S) -> tuple[AlertRule, ...]:
        """The rules of the next run. None waits for one that is off."""
        return tuple(
            replace(one.rule, inhibited_by=tuple(name for name in one.rule.inhibited_by if name not in self.off))
            for one in self.listed(max_pending=max_pending, ack_timeout_s=ack_timeout_s)
            if one.on
        )

    def _is_on(self, name: str) -> bool:
        return name not in self.off


def rules_path() -> Path:
    """``$ACKSCOPE_HOME/alerts.toml``: beside the store of runs."""
    return default_store_path().with_name(FILE_NAME)


def rules_and_sinks(
    path: Path | None = None, *, max_pending: int = MAX_PENDING, ack_timeout_s: float = ACK_TIMEOUT_S
) -> dict[str, Any]:
    """What the file adds to a load plan, as ``LoadSettings.more`` takes it: ``rules`` and ``sinks``, each only where
    the file says something of it. max_pending: of all processes of the run together.

    Blocks for one small read. Raises ConfigError with file, line and cause, where the file cannot be used.
    """
    file = read(path or rules_path())
    more: dict[str, Any] = {}
    if file.rules or file.off:
        used = file.in_use(max_pending=max_pending, ack_timeout_s=ack_timeout_s)
        more["rules"] = [rule.to_plain() for rule in used]
    if file.sinks:
        more["sinks"] = [dict(sink) for sink in file.sinks]
    return more


def read(path: Path) -> AlertFile:
    """The file at ``path``; one that is not there says nothing. Blocks. Raises ConfigError: file, line, cause."""
    return checked(read_text(path), path)


def read_text(path: Path) -> str:
    """All of the file, empty where there is none. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: more than {MAX_BYTES:,} bytes; is it the right file?")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start:,}; save it as UTF-8") from error


def checked(text: str, path: Path) -> AlertFile:
    """What ``text`` says. Raises ConfigError: file, line, cause. Does not look up what ``env:NAME`` stands for."""
    toml = TomlText(text, str(path))
    for key in toml.data:
        if key not in _KEYS:
            toml.refuse((key,), f"{brief(key)} is not known here; use {', '.join(_KEYS)}")
    rules = rules_from(toml)
    off = Table(toml, (), toml.data, "the file").texts("off")
    names = {rule.name for rule in (*default_rules(max_pending=MAX_PENDING, ack_timeout_s=ACK_TIMEOUT_S), *rules)}
    for name in off:
        if name not in names:
            toml.refuse(("off",), f"off names {brief(name)}, which is no rule; there are {', '.join(sorted(names))}")
    sinks = toml.data.get("sinks", [])
    if not isinstance(sinks, list) or not all(isinstance(sink, dict) for sink in sinks):
        toml.refuse(("sinks",), "sinks are tables; write each as [[sinks]] with its kind below")
    return AlertFile(path, text, rules, frozenset(off), tuple(sinks))


def rules_of(run: RunInfo) -> tuple[AlertRule, ...]:
    """The rules that a run had; none where its settings cannot be read, as those of another version may not."""
    given = run.settings.get("rules")
    try:
        return rules_in_use(
            None if given is None else rules_from_plain(given),
            max_pending=int(run.settings.get("max_pending", MAX_PENDING)) * int(run.settings.get("processes", 1)),
            ack_timeout_s=float(run.settings.get("ack_timeout_s", ACK_TIMEOUT_S)),
        )
    except (ConfigError, ValueError, TypeError):
        return ()
