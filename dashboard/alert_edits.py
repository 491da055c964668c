"""Changes to the file of alert rules: text in, text out, with the comments that people wrote; and saving it.

A file that cannot be read is never written: whoever wants to change it has an AlertFile, and there is none of it.
"""

from __future__ import annotations

import contextlib
import copy
import os
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT

from dashboard.alert_rules import WRITING, AlertFile, checked, read_text
from eventbus.errors import ConfigError

_HEADER = "# Alert rules and sinks of the runs that the dashboard starts. What can be said: docs/alerts.md.\n\n"
_PRIVATE = 0o600
"""A sink may hold a credential."""

Change = Callable[[Any], None]
"""Changes a document in place: that of tomlkit, and plain values just so."""


def with_rule(text: str, table: Mapping[str, Any], *, replaces: str | None = None, on: bool = True) -> str:
    """``text`` with the rule that ``table`` says: in the place of ``replaces``, else at the end."""

    def change(document: Any) -> None:
        rules = document.setdefault("rules", _tables(document))
        place = next((index for index, rule in enumerate(rules) if rule.get("name") == replaces), None)
        if place is None:
            _append(rules, table)
        else:
            _make_equal(rules[place], table)
        names = [name for name in document.get("off", []) if name not in (replaces, table["name"])]
        _set_off(document, names if on else [*names, table["name"]])

    return _changed(text, change)


def without_rule(text: str, name: str) -> str:
    """``text`` without the rule of this name, and without a word of whether it is on."""

    def change(document: Any) -> None:
        rules = document.get("rules", [])
        for index in reversed([index for index, rule in enumerate(rules) if rule.get("name") == name]):
            del rules[index]
        if "rules" in document and not rules:
            del document["rules"]
        _set_off(document, [other for other in document.get("off", []) if other != name])

    return _changed(text, change)


def with_switch(text: str, name: str, on: bool) -> str:
    """``text``, where the rule of this name is on or off."""

    def change(document: Any) -> None:
        names = [other for other in document.get("off", []) if other != name]
        _set_off(document, names if on else [*names, name])

    return _changed(text, change)


def with_sink(text: str, table: Mapping[str, Any]) -> str:
    """``text`` with one more sink."""

    def change(document: Any) -> None:
        _append(document.setdefault("sinks", _tables(document)), table)

    return _changed(text, change)


def without_sink(text: str, index: int) -> str:
    """``text`` without the sink of this place."""

    def change(document: Any) -> None:
        del document["sinks"][index]
        if not document["sinks"]:
            del document["sinks"]

    return _changed(text, change)


def save(file: AlertFile, text: str) -> AlertFile:
    """Put ``text`` in the place of ``file``, all at once, and give what it says now. Blocks.

    Raises ConfigError and changes nothing where ``text`` cannot be used, where somebody else changed the file since
    ``file`` was read, and where it cannot be written.
    """
    with WRITING:
        if read_text(file.path) != file.text:
            raise ConfigError(f"{file.path} was changed by somebody else since it was shown; look at it again")
        made = checked(text, file.path)
        try:
            _write(file.path, text)
        except OSError as error:
            raise ConfigError(f"{file.path}: cannot be written: {error.strerror or error}") from error
    return made


def _write(path: Path, text: str) -> None:
    path = path.resolve()  # a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else _PRIVATE
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _changed(text: str, change: Change) -> str:
    """``text`` after ``change``. Raises ConfigError where this cannot be done with its comments kept."""
    wanted = tomllib.loads(text)
    change(wanted)
    try:
        document = tomlkit.parse(text or _HEADER)
        change(document)
        made = tomlkit.dumps(document)
        if tomllib.loads(made) == wanted:
            return made
    except (TOMLKitError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"the file is written in a way that cannot be changed here ({error}); use an editor"
        ) from error
    raise ConfigError("the file is written in a way that cannot be changed here; use an editor")


def _tables(document: Any) -> Any:
    return tomlkit.aot() if isinstance(document, tomlkit.TOMLDocument) else []


def _append(tables: Any, values: Mapping[str, Any]) -> None:
    if not isinstance(tables, AoT):
        tables.append(copy.deepcopy(dict(values)))
        return
    table = tomlkit.table()
    for name, value in values.items():
        table[name] = _value(value)
    table.add(tomlkit.nl())
    tables.append(table)


def _value(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return copy.deepcopy(value)
    inline = tomlkit.inline_table()  # a table of its own would stand below all else of its rule
    inline.update(value)
    return inline


def _make_equal(table: Any, values: Mapping[str, Any]) -> None:
    """Change only what differs, so that the rest stays as it was written."""
    for name in [name for name in table if name not in values]:
        del table[name]
    for name, value in values.items():
        if name not in table or table[name] != value:
            table[name] = _value(value)


def _set_off(document: Any, names: list[Any]) -> None:
    names = [str(name) for name in names]
    if names:
        if list(document.get("off", [])) != names:
            document["off"] = names
    elif "off" in document:
        del document["off"]
