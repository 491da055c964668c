"""LoadPlan: what a run should send, where, and how fast. Checked on construction."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from eventbus.errors import ConfigError
from eventbus.topic import TopicConfig

MAX_RATE = 10_000_000.0
MAX_PAYLOAD_SIZE = 64 * 1024 * 1024
EMBEDDED = ("nats", "kafka")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """One run. It ends at the first of duration, count and end of file; without any of them, when it is stopped.

    url: of the broker; may hold a password, so it is left out of ``repr`` and ``settings``.
    topic: a single topic, no wildcard.
    rate: messages per second, more than 0; None sends as fast as the window lets.
    duration_s: seconds of sending. count: messages.
    payload_size: bytes of each random payload; not used with replay. seed: makes the payloads repeatable.
    replay: a JSONL file: each line is one message, byte for byte without its line end. loop: begin
        again at its end; without a file it has no meaning.
    max_pending: bound of the window. ack_timeout_s: seconds to wait for the ack of one attempt.
    embedded: "nats" or "kafka" where the broker was started for this, whatever its url says by now; taken from the url
        where that is an embedded one. What was measured against Kafka's mock must be known as such.

    Raises ConfigError. Does not read the replay file: ``open_payloads`` does.
    """

    url: str = field(default="embedded+nats://", repr=False)
    topic: str = "demo.events"
    rate: float | None = None
    duration_s: float | None = None
    count: int | None = None
    payload_size: int = 128
    replay: Path | None = None
    loop: bool = False
    max_pending: int = 10_000
    ack_timeout_s: float = 5.0
    seed: int | None = None
    embedded: str | None = None

    def __post_init__(self) -> None:
        given: Any = self.url  # plans are also made from JSON: the annotations are not to be trusted here
        if not isinstance(given, str) or not given:
            raise ConfigError("url is empty; give the broker's, as in nats://127.0.0.1:4222 or embedded+nats://")
        if TopicConfig(self.topic).is_pattern:
            raise ConfigError(f"topic {self.topic!r} has a wildcard; a load publishes to a single topic")
        _number("rate", self.rate, "a number of messages per second", above=0, most=MAX_RATE)
        _number("duration_s", self.duration_s, "a number of seconds", above=0)
        _number("ack_timeout_s", self.ack_timeout_s, "a number of seconds", above=0, optional=False)
        _whole("count", self.count, least=1)
        _whole("payload_size", self.payload_size, least=0, most=MAX_PAYLOAD_SIZE, optional=False)
        _whole("max_pending", self.max_pending, least=1, optional=False)
        _whole("seed", self.seed, least=None)
        given = self.replay
        if isinstance(given, str) and given:
            object.__setattr__(self, "replay", Path(given))
        elif given is not None and not isinstance(given, Path):
            raise ConfigError(f"replay is {given!r}; give the path of a JSONL file")
        given = self.loop
        if not isinstance(given, bool):
            raise ConfigError(f"loop is {given!r}; use true or false")
        system = self.url.removeprefix("embedded+").removesuffix("://")
        if self.embedded is None and self.url.startswith("embedded+") and system in EMBEDDED:
            object.__setattr__(self, "embedded", system)
        elif self.embedded not in (None, *EMBEDDED):
            raise ConfigError(f"embedded is {self.embedded!r}; use 'nats' or 'kafka', or none")

    @property
    def on_mock(self) -> bool:
        """True where the broker is librdkafka's mock of a Kafka."""
        return self.embedded == "kafka"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LoadPlan:
        """A plan of plain values, as from JSON. Raises ConfigError, for unknown names as well."""
        names = [f.name for f in fields(cls)]
        unknown = sorted(set(data) - set(names))
        if unknown:
            raise ConfigError(f"unknown setting {unknown[0]!r}; known are {', '.join(names)}")
        return cls(**data)

    def settings(self) -> dict[str, Any]:
        """All but the url, as plain values for JSON."""
        data = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "url"}
        data["replay"] = None if self.replay is None else str(self.replay)
        return data


def check_rate(rate: Any) -> float | None:
    """``rate`` if it can be one of a plan, else ConfigError."""
    _number("rate", rate, "a number of messages per second", above=0, most=MAX_RATE)
    return None if rate is None else float(rate)


def parse_duration(text: str) -> float:
    """Seconds of ``500ms``, ``10s``, ``1.5m`` or ``1h``. Raises ConfigError, for zero as well."""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _UNIT_S[match[2]] if match else 0.0
    if not seconds > 0:
        raise ConfigError(f"{text!r} is not a duration above zero; write it as 500ms, 10s, 2m or 1h")
    return seconds


def _number(name: str, value: Any, what: str, *, above: float, most: float = math.inf, optional: bool = True) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"{name} is {value!r}; use {what}" + (", or none" if optional else ""))
    if not above < value <= most:
        upper = "" if most == math.inf else f" and at most {most:,.0f}"
        raise ConfigError(f"{name} is {value:g}; use more than {above:g}{upper}")


def _whole(name: str, value: Any, *, least: int | None, most: int | None = None, optional: bool = True) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name} is {value!r}; use a whole number" + (", or none" if optional else ""))
    if (least is not None and value < least) or (most is not None and value > most):
        raise ConfigError(f"{name} is {value}; use {least:,}" + (" or more" if most is None else f" to {most:,}"))
