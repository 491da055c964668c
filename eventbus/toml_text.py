"""TomlText: a TOML file that knows its lines, so that whoever checks what it says can tell where it is wrong."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from eventbus.errors import ConfigError

MAX_BYTES = 256 * 1024
"""Plans and rules are written by people; more than this is another file given by mistake."""

Key = Sequence[str | int]


class TomlText:
    """``text`` as TOML; raises ConfigError with name and line where it is none.

    name: of the file, for messages. data: what it says, as plain values.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self._text = text
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{name}: {_one_line(error)}") from error
        except RecursionError as error:
            raise ConfigError(f"{name}: nested too deeply") from error
        except ValueError as error:  # a number of more digits than Python takes
            raise ConfigError(f"{name}: {_one_line(error)}") from error

    @classmethod
    def read(cls, path: Path) -> TomlText:
        """The file at ``path``. Blocks. Raises ConfigError where it cannot be read, is too large, or is no TOML."""
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{path}: more than {MAX_BYTES:,} bytes; is it the right file?")
        try:
            return cls(content.decode("utf-8"), str(path))
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise ConfigError(f"{path}:{line}: not UTF-8: byte 0x{content[error.start]:02x}") from error

    def line_of(self, key: Key) -> int:
        """The line, from 1, at which the value of ``key`` is complete, as in ``("stages", 2, "rate")``; of what is
        missing, the line of the nearest table that is there; 1 where there is none.

        Found by reading fewer and more lines until the value is just there, and so right for every way to write TOML.
        """
        lines = self._text.splitlines(keepends=True)
        for length in range(len(key), 0, -1):
            if _has(self.data, key[:length]):
                return _first_end_with(lines, key[:length])
        return 1

    def refuse(self, key: Key, reason: str) -> NoReturn:
        """Raise ConfigError: file, line of ``key``, and the reason."""
        raise ConfigError(f"{self.name}:{self.line_of(key)}: {reason}")


def _first_end_with(lines: Sequence[str], key: Key) -> int:
    """How many lines have to be read until ``key``, which is in all of them, is there."""
    low, high = 0, len(lines)  # not yet there after low, there after high
    while high - low > 1:
        middle = (low + high) // 2
        for end in range(middle, low, -1):
            try:
                found = tomllib.loads("".join(lines[:end]))
            except (ValueError, RecursionError):
                continue  # in the middle of a value
            low, high = (low, end) if _has(found, key) else (middle, high)
            break
        else:
            low = middle
    return high


def _has(data: Any, key: Key) -> bool:
    for part in key:
        if not (part in data if isinstance(data, dict) else _is_index(data, part)):
            return False
        data = data[part]
    return True


def _is_index(data: Any, part: str | int) -> bool:
    return isinstance(data, list) and isinstance(part, int) and 0 <= part < len(data)


def _one_line(error: Exception) -> str:
    """tomllib says the place at the end: "... (at line 3, column 7)"."""
    return " ".join(str(error).split())
