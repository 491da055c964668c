"""Table: one table that people wrote (in TOML or JSON), read field by field, so that each error names its place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn, Protocol

from eventbus.alerts.expression import Comparison, parse
from eventbus.alerts.quantity import duration_s
from eventbus.errors import ConfigError

Key = tuple[str | int, ...]
MAX_TABLES = 1_000


class Source(Protocol):
    """Where values come from. TomlText is one."""

    @property
    def data(self) -> Mapping[str, Any]:
        """All of it."""
        ...

    def refuse(self, key: Sequence[str | int], reason: str) -> NoReturn:
        """Raise ConfigError: the place of ``key``, and the reason."""
        ...


class PlainSource:
    """Values that are in no file, as from JSON; the place is the path to them: ``rules[2].when``."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data

    def refuse(self, key: Sequence[str | int], reason: str) -> NoReturn:
        """Raise ConfigError: path, and reason."""
        path = "".join(f".{part}" if isinstance(part, str) and part.isidentifier() else f"[{part!r}]" for part in key)
        raise ConfigError(f"{path.removeprefix('.')}: {reason}")


class Table:
    """The table at ``key`` of ``source``. Every method refuses what it does not allow, with place and cause."""

    def __init__(self, source: Source, key: Key, values: Any, what: str) -> None:
        self.source = source
        self.key = key
        self.what = what
        if not isinstance(values, Mapping):
            source.refuse(key, f"{what} is {brief(values)}; use a table")
        self._values: Mapping[str, Any] = values

    def check_names(self, known: Collection[str]) -> None:
        """Only names of ``known`` are there."""
        for name in self._values:
            if name not in known:
                near = get_close_matches(str(name), known, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                self.refuse(str(name), f"{brief(name)} is no setting of {self.what}; {hint}use {', '.join(known)}")

    def refuse(self, name: str, reason: str) -> NoReturn:
        """Raise ConfigError for the value of ``name``."""
        self.source.refuse((*self.key, name), reason)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str | None = None) -> str:
        """A text; required where there is no default."""
        given = self._required(name) if default is None else self._values.get(name, default)
        if not isinstance(given, str):
            self.refuse(name, f"{name} is {brief(given)}; use a text in quotes")
        return given

    def boolean(self, name: str, default: bool) -> bool:
        """True or false."""
        given = self._values.get(name, default)
        if not isinstance(given, bool):
            self.refuse(name, f"{name} is {brief(given)}; use true or false")
        return given

    def integer(self, name: str, default: int) -> int:
        """A whole number."""
        given = self._values.get(name, default)
        if isinstance(given, bool) or not isinstance(given, int):
            self.refuse(name, f"{name} is {brief(given)}; use a whole number")
        return given

    def seconds(self, name: str, default: float) -> float:
        """A duration, as in "5s"."""
        if name not in self._values:
            return default
        try:
            return duration_s(self._values[name])
        except ConfigError as error:
            self.refuse(name, f"{name}: {error}")

    def expression(self, name: str) -> Comparison:
        """A comparison."""
        return expression_at(self.source, (*self.key, name), self.text(name))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; a text alone is a list of one."""
        given = self._values.get(name, [])
        given = [given] if isinstance(given, str) else given
        if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
            self.refuse(name, f"{name} is {brief(given)}; use a list of names in quotes")
        return tuple(given)

    def text_by_name(self, name: str) -> dict[str, str]:
        """A table of texts."""
        given = self._values.get(name, {})
        if not isinstance(given, Mapping):
            self.refuse(name, f'{name} is {brief(given)}; use a table, as in {{ team = "orders" }}')
        for inner, value in given.items():
            if not isinstance(value, str):
                reason = f"{name}.{str(inner)[:40]!s} is {brief(value)}; use a text in quotes"
                self.source.refuse((*self.key, name, str(inner)), " ".join(reason.split()))
        return {str(inner): value for inner, value in given.items()}

    def value(self, name: str) -> Any:
        """Whatever is there; None where nothing is."""
        return self._values.get(name)

    def _required(self, name: str) -> Any:
        if name not in self._values:
            self.source.refuse(self.key, f"{self.what} has no {name}; add it")
        return self._values[name]


def expression_at(source: Source, key: Key, text: str) -> Comparison:
    """``text``, which stands at ``key``, as a comparison."""
    try:
        return parse(text)
    except ConfigError as error:
        source.refuse(key, str(error))


def items_at(source: Source, key: Key) -> Iterator[tuple[Key, Any]]:
    """The items of the list at ``key``, each with its key; none where nothing is there."""
    found: Any = source.data
    for depth, part in enumerate(key):
        if isinstance(found, Mapping) and part not in found:
            return
        try:
            found = found[part]
        except (KeyError, IndexError, TypeError):
            source.refuse(key[:depth], f"{brief(found)} is here; use a table")
    if not isinstance(found, list):
        source.refuse(key, f"{key[-1]} is {brief(found)}; use [[{key[-1]}]] tables")
    if len(found) > MAX_TABLES:
        source.refuse(key, f"{len(found):,} {key[-1]}; use at most {MAX_TABLES:,}")
    for index, item in enumerate(found):
        yield (*key, index), item


def brief(given: object) -> str:
    """``given`` as it is shown in an error: on one line, and not all of what is long."""
    text = repr(given)
    return text if len(text) <= 60 else text[:59] + "…"
