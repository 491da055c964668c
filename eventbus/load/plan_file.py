"""Plans as TOML files. The same names as in LoadPlan, but times are written with their unit: ``duration = "30s"``.

What is wrong is refused with file and line, before anything is connected or sent.
"""

from __future__ import annotations

import re
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from eventbus.alerts import rules_from, sinks_from, thresholds_from
from eventbus.errors import ConfigError
from eventbus.load.duration import parse_duration
from eventbus.load.plan import LoadPlan
from eventbus.load.setting import Key, SettingRefused, shown, spelled
from eventbus.toml_text import TomlText

_SECONDS = {"duration": "duration_s", "ack_timeout": "ack_timeout_s", "warm_up": "warm_up_s", "drain": "drain_s"}
_MAY_BE_ZERO = ("warm_up", "drain")
_NOT_IN_FILES = ("share", "embedded")
"""What a program says of a plan, and no person."""
_OWN = {own: name for name, own in _SECONDS.items()}
"""The names in a file by those in a plan."""
_SPELLING = re.compile(r"\b(duration|ack_timeout|warm_up|drain)_s\b")


def plan_from(path: Path) -> LoadPlan:
    """The plan in the file at ``path``. Blocks. A relative ``replay`` is looked for beside the file.

    Raises ConfigError in one line, ``FILE:LINE: cause; what is allowed``. Reads no other file and connects nowhere.
    """
    return plan_of(TomlText.read(path), path.parent)


def plan_of(toml: TomlText, folder: Path = Path()) -> LoadPlan:
    """The plan that ``toml`` tells; see ``plan_from``. folder: where a relative ``replay`` is looked for."""
    values: dict[str, Any] = {}
    for name, value in toml.data.items():
        _check_name(toml, name)
        if name in _SECONDS:
            values[_SECONDS[name]] = _seconds(toml, name, value)
        elif name not in ("thresholds", "rules"):
            values[name] = value
    if "thresholds" in toml.data:
        values["thresholds"] = thresholds_from(toml)
    if "rules" in toml.data:
        values["rules"] = rules_from(toml)
    sinks_from(toml)  # only to check them: a plan has them as they are written, for whoever makes them
    replay = values.get("replay")
    if isinstance(replay, str) and replay:
        values["replay"] = str(folder / replay)
    try:
        return LoadPlan.from_dict(values)
    except SettingRefused as error:
        _refuse(toml, error)
    except ConfigError as error:
        raise ConfigError(f"{toml.name}: {error}") from error


def _refuse(toml: TomlText, error: SettingRefused) -> NoReturn:
    key: Key = (_OWN.get(str(error.key[0]), error.key[0]), *error.key[1:])
    reason = _SPELLING.sub(r"\1", error.reason)
    toml.refuse(key, f"{spelled(key)} {reason}")


def _check_name(toml: TomlText, name: str) -> None:
    known = [_OWN.get(f.name, f.name) for f in fields(LoadPlan) if f.name not in _NOT_IN_FILES]
    if name not in known:
        near = get_close_matches(_OWN.get(name, name), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        toml.refuse((name,), f"unknown setting {shown(name)}; {hint}")


def _seconds(toml: TomlText, name: str, value: Any) -> float:
    if name in _MAY_BE_ZERO and value in ("0s", "0ms"):
        return 0.0
    try:
        return parse_duration(value if isinstance(value, str) else shown(value))
    except ConfigError as error:
        toml.refuse((name,), f"{name} cannot be used: {error}")
