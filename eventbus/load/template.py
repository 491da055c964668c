"""Template: JSON text with ``{{ fields }}``, and the payloads made of it with Faker.

A field is a method of Faker with or without arguments, as ``{{ name }}`` or ``{{ random_int(min=1, max=6) }}``, or one
of these, which are made for each message:

    {{ sequence }}   0, 1, 2, ...; each number once in a run, also where several processes share it
    {{ uuid4 }}      random, repeatable by the seed
    {{ now }}        the time in UTC, as 2026-11-23T09:30:00.125Z
    {{ now_ms }}     the same as milliseconds since the epoch

Inside quotes a value becomes part of that string; outside it becomes a JSON value of its own kind.

Faker takes 2 to 110 us for a value (40.54, CPython 3.11), too long for each message. So each field gets a list of some
thousand values before the run begins, as the bytes that go into the payload, and repeats them. Every list has another
prime for its length: the same values meet again only after the product of two of them, a million messages.
"""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from itertools import count, cycle, islice, repeat
from typing import Any
from uuid import UUID

from eventbus.errors import ConfigError
from eventbus.load.replay import check_json

MAX_FIELDS = 100
LEAST_VALUES = 1_000
MAX_VALUES_BYTES = 64 * 1024 * 1024
"""Of the made-up values of one template."""

_PLACE = re.compile(r"\{\{(.*?)(\}\}|\Z)", re.DOTALL)
_LIVE = ("sequence", "uuid4", "now", "now_ms")

Make = Callable[[], object]


@dataclass(frozen=True, slots=True)
class TemplateField:
    """One ``{{ field }}``. quoted: it stands inside a JSON string. where: line and column, for people."""

    name: str
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    quoted: bool
    where: str

    @property
    def is_live(self) -> bool:
        """Made for each message, and not by Faker."""
        return self.name in _LIVE and not self.arguments and not self.named


@dataclass(frozen=True, slots=True)
class Template:
    """A template taken apart; raises ConfigError with line and column where a field is none.

    Whether Faker has the fields, and whether JSON comes out, is known only with values: ``payloads`` tells.
    """

    text: str
    texts: tuple[str, ...] = field(init=False, repr=False)
    fields: tuple[TemplateField, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        texts, fields, end, quoted = [], [], 0, False
        for found in _PLACE.finditer(self.text):
            texts.append(self.text[end : found.start()])
            quoted = _quoted_after(texts[-1], quoted)
            where = _where(self.text, found.start())
            if not found[2]:
                raise ConfigError(f"{where}: '{{{{' without '}}}}'")
            fields.append(_field(found[1], quoted, where))
            end = found.end()
        if len(fields) > MAX_FIELDS:
            raise ConfigError(f"the template has {len(fields)} fields; use at most {MAX_FIELDS}")
        object.__setattr__(self, "texts", (*texts, self.text[end:]))
        object.__setattr__(self, "fields", tuple(fields))

    def payloads(
        self, *, seed: int | None, wall_s: Callable[[], float], first: int = 0, step: int = 1
    ) -> Iterator[bytes]:
        """Payloads without end, equal ones for equal seeds but for the time. first, step: of ``{{ sequence }}``.

        Blocks for up to 0.1 s for each field, to make up its values. Raises ConfigError where Faker is missing or has
        no such field, or where no JSON comes out with every one of these values.
        """
        values = self._made_up(seed)
        form = b"%b".join(text.encode().replace(b"%", b"%%") for text in self.texts)
        if not self.fields:
            _check(form % ())
            return repeat(form % ())

        def sources(chance: random.Random) -> list[Iterator[bytes]]:
            return [
                cycle(made) if made else _live(field, chance, wall_s, first, step)
                for field, made in zip(self.fields, values, strict=True)
            ]

        for payload in islice(
            map(form.__mod__, zip(*sources(random.Random()), strict=True)), max(map(len, values)) or 1
        ):
            _check(payload)
        return map(form.__mod__, zip(*sources(random.Random(seed)), strict=True))

    def _made_up(self, seed: int | None) -> list[list[bytes]]:
        """The values of each field; none for those that are made for each message."""
        if all(field.is_live for field in self.fields):
            return [[] for _ in self.fields]
        faker = _Faker(seed)
        left = MAX_VALUES_BYTES
        lengths = _primes(LEAST_VALUES)
        made = []
        for of in self.fields:
            values: list[bytes] = []
            if not of.is_live:
                make = faker.maker(of)
                for _ in range(next(lengths)):
                    values.append(_encoded(of, make()))
                    left -= len(values[-1])
                    if left < 0:
                        raise ConfigError(
                            f"{of.where}: the values of {of.name!r} are too large: some thousand of each field must "
                            f"fit into {MAX_VALUES_BYTES:,} bytes together"
                        )
            made.append(values)
        return made


class _Faker:
    """Faker's methods by name. seed: makes their values repeatable."""

    def __init__(self, seed: int | None) -> None:
        try:
            from faker import Factory  # here: it is an extra, and takes some 0.3 s to load
        except ImportError as error:
            raise ConfigError("a template needs Faker: pip install 'ackscope[fake]'") from error
        self._generator = Factory.create()
        self._generator.seed_instance(seed)
        self._names = {
            name
            for provider in self._generator.get_providers()
            for name in dir(type(provider))
            if not name.startswith("_") and callable(getattr(provider, name))
        }

    def maker(self, of: TemplateField) -> Make:
        """What makes one value; raises ConfigError where there is no such field or it cannot be made so."""
        if of.name not in self._names:
            raise ConfigError(f"{of.where}: unknown field {of.name!r}{_close(of.name, {*self._names, *_LIVE})}")
        method = getattr(self._generator, of.name)

        def make() -> object:
            try:
                value: object = method(*of.arguments, **of.named)
            except Exception as error:  # the edge to Faker: whatever its methods raise is about the template
                raise ConfigError(
                    f"{of.where}: Faker cannot make {of.name!r}: {' '.join(str(error).split())}"
                ) from error
            return value

        return make


def _field(text: str, quoted: bool, where: str) -> TemplateField:
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Name):
            return TemplateField(call.id, (), {}, quoted, where)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            arguments = tuple(ast.literal_eval(argument) for argument in call.args)
            named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
            return TemplateField(call.func.id, arguments, named, quoted, where)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass
    shown = " ".join(text.split())[:40]
    raise ConfigError(f"{where}: {shown!r} is no field; write {{{{ name }}}} or {{{{ random_int(min=1, max=6) }}}}")


def _quoted_after(text: str, quoted: bool) -> bool:
    """Whether one is inside a JSON string after ``text``."""
    escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = quoted
        elif character == '"':
            quoted = not quoted
    return quoted


def _live(
    of: TemplateField, chance: random.Random, wall_s: Callable[[], float], first: int, step: int
) -> Iterator[bytes]:
    if of.name == "sequence":
        return map(b"%d".__mod__, count(first, step))
    form = b"%b" if of.quoted else b'"%b"'
    if of.name == "uuid4":
        return map(form.__mod__, _uuids(chance))
    if of.name == "now_ms":
        return (b"%d" % (wall_s() * 1000) for _ in repeat(None))
    return (form % _as_iso(wall_s()) for _ in repeat(None))


def _as_iso(wall_s: float) -> bytes:
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def _uuids(chance: random.Random) -> Iterator[bytes]:
    """Version 4, as UUID(...) writes them, in a third of its time."""
    while True:
        bits = f"{chance.getrandbits(128):032x}"
        variant = "89ab"[int(bits[16], 16) & 3]
        yield f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-{variant}{bits[17:20]}-{bits[20:]}".encode()


def _encoded(of: TemplateField, value: object) -> bytes:
    try:
        whole = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
        if of.quoted:
            # A string's own quotes are those of the template; what is no string is written into it as JSON.
            whole = (whole if whole.startswith('"') else json.dumps(whole, ensure_ascii=False))[1:-1]
        return whole.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{of.where}: {of.name!r} gives what JSON cannot hold: {' '.join(str(error).split())}"
        ) from error


def _plain(value: object) -> object:
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__}")


def _check(payload: bytes) -> None:
    fault = check_json(payload)
    if fault is not None:
        shown = payload[:200].decode("utf-8", "replace")
        raise ConfigError(f"the template gives no JSON: {fault}, as in {' '.join(shown.split())}")


def _where(text: str, place: int) -> str:
    line = text.count("\n", 0, place) + 1
    return f"template, line {line}, column {place - (text.rfind(chr(10), 0, place) + 1) + 1}"


def _close(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else "; it is neither one of Faker nor of " + ", ".join(_LIVE)


def _primes(above: int) -> Iterator[int]:
    return (n for n in count(above | 1, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2)))
