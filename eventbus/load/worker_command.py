"""Command: one thing that a worker is told, as a checked value; read from a line of JSON.

What is wrong with a line is told in one sentence that repeats nothing of what may be secret in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eventbus.errors import ConfigError
from eventbus.event import EventKind
from eventbus.load.plan import LoadPlan, check_rate
from eventbus.load.shape import Shape, ShapeError, shape_from

MAX_LINE_BYTES = 2 * 1024 * 1024
"""A plan with the largest template has room."""
MAX_SILENCE_S = 7 * 86_400.0
MAX_NOTE = 500
"""Characters of a noted event, and of a comment."""
MAX_NAME = 100
"""Characters of who did something."""
_NOTED = (EventKind.FAULT_BEGAN, EventKind.FAULT_ENDED)
_SETTINGS: Mapping[str, frozenset[str]] = {
    "set": frozenset({"rate", "shape"}),
    "silence": frozenset({"alerts", "for_s", "by", "comment"}),
    "acknowledge": frozenset({"alert", "by"}),
    "note": frozenset({"kind", "text"}),
    "stop": frozenset(),
    "quit": frozenset(),
}
"""Commands besides start, and what each takes."""
_SHOWN = 80
_EXAMPLE = '{"cmd": "stop"}'


@dataclass(frozen=True, slots=True)
class Start:
    """Begin a run of this plan."""

    plan: LoadPlan


@dataclass(frozen=True, slots=True)
class SetRate:
    """Messages per second; None as fast as the window lets."""

    rate: float | None


@dataclass(frozen=True, slots=True)
class SetShape:
    """Go on with this shape, from its beginning."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class Silence:
    """Tell nobody of these alerts (``*`` for all) for so long."""

    names: tuple[str, ...]
    for_s: float
    by: str
    comment: str


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Somebody looks after an alert that fires."""

    name: str
    by: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was done from outside, as an event of the run."""

    kind: EventKind
    text: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Send nothing more, and report."""


@dataclass(frozen=True, slots=True)
class Quit:
    """The same, and end."""


Command = Start | SetRate | SetShape | Silence | Acknowledge | Note | Stop | Quit


def read_command(line: bytes) -> Command:
    """The command of ``line``. Raises ConfigError, on one line."""
    given = _parsed(line)
    name = given.pop("cmd", None)
    if name == "start":
        return Start(LoadPlan.from_dict(given))
    if not isinstance(name, str) or name not in _SETTINGS:
        raise ConfigError(f"unknown command {_short(name)}; known are start, {', '.join(_SETTINGS)}")
    if unknown := set(given) - _SETTINGS[name]:
        raise ConfigError(f"unknown setting {_short(min(unknown))} of command {name!r}")
    match name:
        case "set":
            return _set(given)
        case "silence":
            return _silence(given)
        case "acknowledge":
            return Acknowledge(_text(given, "alert"), _text(given, "by", "somebody")[:MAX_NAME])
        case "note":
            return _note(given)
        case "quit":
            return Quit()
        case _:
            return Stop()


def _set(given: Mapping[str, Any]) -> SetRate | SetShape:
    if len(given) != 1:
        raise ConfigError("command 'set' needs a rate in messages per second (null for no limit), or a shape")
    if "rate" in given:
        return SetRate(check_rate(given["rate"]))
    try:
        return SetShape(shape_from(given["shape"]))
    except ShapeError as error:
        raise ConfigError(str(error)) from error


def _silence(given: Mapping[str, Any]) -> Silence:
    names, for_s = given.get("alerts"), given.get("for_s")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError("command 'silence' needs alerts, a list of their names, or [\"*\"]")
    if isinstance(for_s, bool) or not isinstance(for_s, (int, float)) or not 0 < for_s <= MAX_SILENCE_S:
        raise ConfigError(f"command 'silence' needs for_s, seconds from more than 0 to {MAX_SILENCE_S:,.0f}")
    by, comment = _text(given, "by", "somebody")[:MAX_NAME], _text(given, "comment", "")[:MAX_NOTE]
    return Silence(tuple(names), for_s, by, comment)


def _note(given: Mapping[str, Any]) -> Note:
    kind, text = _text(given, "kind"), _text(given, "text")
    if kind not in _NOTED:
        raise ConfigError(f"kind is {_short(kind)}; use {' or '.join(_NOTED)}")
    return Note(EventKind(kind), text[:MAX_NOTE])


def _parsed(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise ConfigError(f"a command of more than {MAX_LINE_BYTES:,} bytes; commands are one JSON object a line")
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:  # the line is not repeated: it may hold a password
        raise ConfigError(f"a command is not JSON ({error}); send one object a line, as {_EXAMPLE}") from error
    if not isinstance(given, dict):
        raise ConfigError(f"a command is a JSON object, as {_EXAMPLE}")
    return given


def _text(given: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = given.get(name, default)
    if not isinstance(value, str):
        raise ConfigError(f"{name} is {_short(value)}; give it as text")
    return value


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
