"""SettingRefused, and the checks of single values of a plan.

Plans are also made from JSON and TOML: no annotation is to be trusted here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from eventbus.errors import ConfigError

Key = tuple[str | int, ...]
"""Where a value stands in a plan, as ``("topics", 1, "weight")``."""

_SHOWN = 80
_BARE = re.compile(r"[\w-]{1,80}", re.ASCII)


class SettingRefused(ConfigError):
    """A setting that cannot be. key: which. reason: what it is and what is allowed; the message is both together."""

    def __init__(self, key: Key | str, reason: str) -> None:
        self.key: Key = (key,) if isinstance(key, str) else key
        self.reason = reason
        super().__init__(self.key, reason)

    def __str__(self) -> str:
        return f"{spelled(self.key)} {self.reason}"


def spelled(key: Key) -> str:
    """``topics[1].weight``: places count from 0, as in JSON. A name that is none in TOML is quoted."""
    parts = (
        f"[{part}]" if isinstance(part, int) else f".{part}" if _BARE.fullmatch(part) else f".{shown(part)}"
        for part in key
    )
    return "".join(parts).removeprefix(".")


def shown(value: object) -> str:
    """The value in a message: its repr in one line, cut after 80 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def number(
    name: str,
    value: Any,
    what: str,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float = math.inf,
    optional: bool = False,
) -> None:
    """Refuse what is no finite number above ``above`` or of at least ``least``, and at most ``most``."""
    if value is None and optional:
        return
    # A whole number may be too large to be a float: isfinite would raise OverflowError.
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and (not isinstance(value, float) or not math.isfinite(value)):
        raise SettingRefused(name, f"is {shown(value)}; use {what}{_or_none(optional)}")
    if (above is not None and not value > above) or (least is not None and not value >= least) or value > most:
        lower = f"more than {above:g}" if above is not None else f"{least:g} or more"
        upper = "" if most == math.inf else f" and at most {most:,.0f}"
        raise SettingRefused(name, f"is {shown(value)}; use {lower}{upper}")


def whole(name: str, value: Any, *, least: int | None, most: int | None = None, optional: bool = False) -> None:
    """Refuse what is no whole number from ``least`` to ``most``."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingRefused(name, f"is {shown(value)}; use a whole number{_or_none(optional)}")
    if (least is not None and value < least) or (most is not None and value > most):
        lower = "" if least is None else f"{least:,}"
        raise SettingRefused(name, f"is {shown(value)}; use {lower} " + ("or more" if most is None else f"to {most:,}"))


def text(name: str, value: Any, *, most: int, optional: bool = False) -> None:
    """Refuse what is no text of at most so many characters that can be written in UTF-8."""
    if value is None and optional:
        return
    if not isinstance(value, str):
        raise SettingRefused(name, f"is {shown(value)}; use text{_or_none(optional)}")
    if len(value) > most:
        raise SettingRefused(name, f"has {len(value):,} characters; use at most {most:,}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        raise SettingRefused(name, f"has half a surrogate pair (U+{code:04X}), which is no character") from error


def line(name: str, value: Any, *, most: int) -> None:
    """Refuse what is no text of one line: it is printed, and control characters could forge what it stands in."""
    text(name, value, most=most)
    if not value.isprintable():
        raise SettingRefused(name, f"is {shown(value)}; use one line without control characters")


def flag(name: str, value: Any) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise SettingRefused(name, f"is {shown(value)}; use true or false")


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Refuse what is none of these words."""
    if not isinstance(value, str) or value not in allowed:
        raise SettingRefused(name, f"is {shown(value)}; use {' or '.join(map(repr, allowed))}")


def text_by_text(name: str, value: Any) -> dict[str, str]:
    """A copy of a mapping of text to text, else refused."""
    if not isinstance(value, Mapping):
        raise SettingRefused(name, f"is {shown(value)}; use a table of names and texts")
    for part, content in value.items():
        if not isinstance(part, str) or not part or not isinstance(content, str):
            key = (name, part) if isinstance(part, str) and part else (name,)
            raise SettingRefused(key, f"is {shown(content)}; names and values must be text")
        text(f"{name}.{part}", content, most=64 * 1024)
    return dict(value)


def _or_none(optional: bool) -> str:
    return ", or leave it out" if optional else ""
