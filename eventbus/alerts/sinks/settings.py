"""Sinks as people write them: ``[[sinks]]`` tables of a TOML file, or the same as JSON.

Any text of a sink may be ``env:NAME``, which stands for the environment variable of that name, so that no secret has to
lie in a file. No message repeats what a header or a URL holds, but the URL's host.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NoReturn

from eventbus.alerts.quantity import duration_s
from eventbus.alerts.sinks.address import WebhookAddress
from eventbus.alerts.sinks.apprise import AppriseSink
from eventbus.alerts.sinks.log import LogSink
from eventbus.alerts.sinks.sink import Sink
from eventbus.alerts.sinks.webhook import WebhookSink
from eventbus.errors import ConfigError
from eventbus.toml_text import TomlText

ALLOWED_HOSTS = "ACKSCOPE_ALERT_HOSTS"
"""Environment variable: hosts that webhooks may be sent to, separated by commas, whatever a plan says. Unset: all."""

_MAX_SINKS = 20
_MAX_TIMEOUT_S = 30.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_RESERVED = ("store",)
_ENV = "env:"
_COMMON = ("kind", "name")
_KEYS: dict[str, tuple[str, ...]] = {
    "log": (),
    "webhook": ("url", "headers", "bearer_token", "timeout", "allow_private", "allowed_hosts", "ca_file"),
    "apprise": ("urls", "timeout", "allow_private"),
}

_Key = tuple[str | int, ...]
_Refuse = Callable[[_Key, str], NoReturn]


def sinks_from(
    toml: TomlText, key: Sequence[str | int] = ("sinks",), *, environ: Mapping[str, str] = os.environ
) -> tuple[Sink, ...]:
    """The sinks of a file, in its order; none where ``key`` is not there. Sends nothing, looks nothing up.

    Raises ConfigError with file and line, also where an environment variable is not set or an extra is missing.
    """
    data: Any = toml.data
    for part in key:
        if not isinstance(data, dict) or part not in data:
            return ()
        data = data[part]

    def refuse(below: _Key, reason: str) -> NoReturn:
        toml.refuse((*key, *below), reason)

    return _sinks(data, refuse, environ)


def sinks_from_plain(items: Any, *, environ: Mapping[str, str] = os.environ) -> tuple[Sink, ...]:
    """The sinks of a JSON list; as ``sinks_from``, with ``sinks[0].url`` for the place."""

    def refuse(below: _Key, reason: str) -> NoReturn:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in below)
        raise ConfigError(f"sinks{place}: {reason}")

    return _sinks(items, refuse, environ)


def _sinks(items: Any, refuse: _Refuse, environ: Mapping[str, str]) -> tuple[Sink, ...]:
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        refuse((), "sinks are tables; write each as [[sinks]] with its kind below")
    if len(items) > _MAX_SINKS:
        refuse((_MAX_SINKS,), f"more than {_MAX_SINKS} sinks")
    sinks: list[Sink] = []
    for number, item in enumerate(items):
        sinks.append(_Entry(item, number, refuse, environ).sink([sink.name for sink in sinks]))
    return tuple(sinks)


class _Entry:
    """One table, read key by key; every refusal tells its place."""

    def __init__(self, table: Mapping[str, Any], number: int, refuse: _Refuse, environ: Mapping[str, str]) -> None:
        self._table = table
        self._number = number
        self._refuse = refuse
        self._environ = environ

    def sink(self, taken: Sequence[str]) -> Sink:
        """The sink that the table is about. taken: names of those before it."""
        kind = self._table.get("kind")
        if not isinstance(kind, str) or kind not in _KEYS:
            given = "a sink has no kind" if kind is None else f"a sink's kind is {kind!r}"[:60]
            self.refuse(f"{given}; use one of {', '.join(_KEYS)}", "kind")
        allowed = (*_COMMON, *_KEYS[kind])
        for key in self._table:
            if key not in allowed:
                close = get_close_matches(key, allowed, 1)
                meant = f"; did you mean {close[0]}?" if close else f"; use {', '.join(allowed)}"
                self.refuse(f"a sink of kind {kind} has no {key[:40]!r}{meant}", key)
        name = self._name(kind, taken)
        if kind == "webhook":
            return self._webhook(name)
        return self._apprise(name) if kind == "apprise" else LogSink(name)

    def refuse(self, reason: str, *key: str | int) -> NoReturn:
        """Raise ConfigError with the place of ``key`` in this table."""
        self._refuse((self._number, *key), reason)

    def _webhook(self, name: str) -> WebhookSink:
        url, private = self._text("url"), self._flag("allow_private")
        hosts = self._texts("allowed_hosts") if "allowed_hosts" in self._table else None
        with self._at("url"):
            address = WebhookAddress.parse(url, allow_private=private, allowed_hosts=hosts)
            operator = self._environ.get(ALLOWED_HOSTS)
            if operator is not None:
                hosts = [host.strip() for host in operator.split(",") if host.strip()]
                WebhookAddress.parse(url, allow_private=private, allowed_hosts=hosts)
        headers, timeout_s, context = self._headers(address), self._timeout(10.0), self._context(address)
        with self._at("headers"):
            return WebhookSink(name, address, headers=headers, timeout_s=timeout_s, context=context)

    def _apprise(self, name: str) -> AppriseSink:
        urls = self._texts("urls")
        if not urls:
            self.refuse("urls is empty; use at least one URL of apprise", "urls")
        timeout_s, private = self._timeout(20.0), self._flag("allow_private")
        with self._at("urls"):
            return AppriseSink(name, urls, timeout_s=timeout_s, allow_private=private)

    def _name(self, kind: str, taken: Sequence[str]) -> str:
        if "name" not in self._table:
            free = (kind, *(f"{kind}-{number}" for number in range(2, _MAX_SINKS + 2)))
            return next(name for name in free if name not in taken)
        name = self._table["name"]
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _RESERVED:
            self.refuse("a sink's name is 1 to 64 letters, digits, '-', '_' and '.', and not \"store\"", "name")
        if name in taken:
            self.refuse(f"more than one sink is named {name!r}; give each a name of its own", "name")
        return name

    def _headers(self, address: WebhookAddress) -> dict[str, str]:
        table = self._table.get("headers", {})
        if not isinstance(table, dict):
            self.refuse('headers is no table; write it as headers = { Authorization = "env:NAME" }', "headers")
        headers = {name: self._value(value, "headers", name) for name, value in table.items()}
        ways = [name for name in headers if name.lower() == "authorization"]
        ways += ["bearer_token"] if "bearer_token" in self._table else []
        ways += ["the URL's login"] if address.authorization else []
        if len(ways) > 1:
            self.refuse(f"{' and '.join(ways)} exclude each other; use one of them", "bearer_token")
        if "bearer_token" in self._table:
            headers["Authorization"] = f"Bearer {self._text('bearer_token')}"
        return headers

    def _context(self, address: WebhookAddress) -> ssl.SSLContext | None:
        if "ca_file" not in self._table:
            return None
        file = self._text("ca_file")
        if not address.secure:
            self.refuse("ca_file is of no use without https", "ca_file")
        try:
            return ssl.create_default_context(cafile=file)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            self.refuse(f"ca_file {file[:80]!r}: no certificates can be read: {reason}", "ca_file")

    def _timeout(self, default_s: float) -> float:
        if "timeout" not in self._table:
            return default_s
        with self._at("timeout"):
            seconds = duration_s(self._table["timeout"])
        if not 0 < seconds <= _MAX_TIMEOUT_S:
            self.refuse(f"timeout is {seconds:g} s; use more than 0s and at most {_MAX_TIMEOUT_S:g}s", "timeout")
        return seconds

    def _flag(self, key: str) -> bool:
        value = self._table.get(key, False)
        if not isinstance(value, bool):
            self.refuse(f"{key} is neither true nor false", key)
        return value

    def _text(self, key: str) -> str:
        if key not in self._table:
            self.refuse(f"a sink of kind {self._table['kind']} needs {key}", key)
        return self._value(self._table[key], key)

    def _texts(self, key: str) -> list[str]:
        value = self._table.get(key)
        if not isinstance(value, list):
            self.refuse(f'{key} is no list of texts; write it as {key} = ["…"]', key)
        return [self._value(item, key, place) for place, item in enumerate(value)]

    def _value(self, value: Any, *key: str | int) -> str:
        """A text, with what it stands for in the environment."""
        name = ".".join(map(str, key))
        if not isinstance(value, str) or not value:
            self.refuse(f"{name} is no text, or an empty one", *key)
        if not value.startswith(_ENV):
            return value
        found = self._environ.get(value.removeprefix(_ENV))
        if not found:
            self.refuse(f"{name} is {value[:60]!r}, and this environment variable is not set or empty", *key)
        return found

    @contextmanager
    def _at(self, key: str) -> Iterator[None]:
        """What is refused inside is refused with the place of ``key``."""
        try:
            yield
        except ConfigError as error:
            self.refuse(str(error), key)
