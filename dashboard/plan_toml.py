"""Plans as TOML files that ``ackscope load`` takes: writing one, and reading one that somebody uploads.

What may hold credentials is not written: users and passwords of the URL, and where alerts are told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import tomlkit

from eventbus.alerts.quantity import duration_text
from eventbus.errors import ConfigError
from eventbus.load.plan import LoadPlan
from eventbus.load.plan_file import plan_of
from eventbus.toml_text import MAX_BYTES, TomlText
from eventbus.url import BrokerUrl

_TIMES = {"duration_s": "duration", "warm_up_s": "warm_up", "drain_s": "drain", "ack_timeout_s": "ack_timeout"}
_ORDER = ("name", "url", "topic", "rate", "workers", "duration_s", "count", "warm_up_s")
"""What people look for first; the rest follows as LoadPlan has it."""
_NOT_WRITTEN = ("share", "embedded", "sinks")
_UNSAFE = re.compile(r"[^\w.-]+")


def text_of(plan: LoadPlan) -> str:
    """The file of a plan: what is not as it would be anyway, times with their units."""
    values, usual = plan.to_dict(), LoadPlan().to_dict()
    values["url"] = BrokerUrl.parse(plan.url).redacted
    if plan.topics:
        values["topic"] = usual["topic"]
    document = tomlkit.document()
    document.add(tomlkit.comment("A load plan of AckScope. Run it with: ackscope load FILE"))
    if plan.sinks:
        document.add(tomlkit.comment("Where its alerts are told is left out: it may hold credentials."))
    names = [*_ORDER, *(name for name in values if name not in _ORDER)]
    plain = [name for name in names if not isinstance(values[name], (dict, list))]
    for name in [*plain, *(name for name in names if name not in plain)]:
        if name not in _NOT_WRITTEN and (values[name] != usual[name] or name == "url") and values[name] is not None:
            document.add(_TIMES.get(name, name), _item(name, values[name]))
    return tomlkit.dumps(document)


def plan_from_upload(content: bytes, name: str) -> LoadPlan:
    """The plan in a file that somebody uploaded. Raises ConfigError: file, line, cause, what is allowed."""
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{name}: more than {MAX_BYTES:,} bytes; is it the right file?")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not UTF-8; is it the right file?") from error
    return plan_of(TomlText(text, name))


def file_name(plan: LoadPlan) -> str:
    """By the plan's name: ``baseline.toml``."""
    return f"{_UNSAFE.sub('-', plan.name).strip('-') or 'plan'}.toml"


def _item(name: str, value: Any) -> Any:
    if name in _TIMES:
        return duration_text(float(value))
    if isinstance(value, str) and "\n" in value:
        return tomlkit.string(value, multiline=True)
    if name == "shape" and isinstance(value, Mapping):
        return tomlkit.item(dict(value))
    return tomlkit.item(value)
