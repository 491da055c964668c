"""Inspection: what a broker and the stream of a topic are like, and what about it may surprise. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    """Worth knowing; nothing is wrong."""
    WARNING = "warning"
    """Messages can be lost, or stay without an ack."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as a publisher may expect: what, why it matters, what to do. Nothing secret in it."""

    level: Level
    what: str
    why: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}. {self.advice}"


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The server at the other end of the connection.

    max_payload_bytes: payload and headers together. round_trip_s: seconds, median of several pings. transport: "tcp"
    or "websocket". tls: is the connection encrypted? cluster: its name, or None.
    """

    name: str
    version: str
    jetstream: bool
    max_payload_bytes: int
    round_trip_s: float
    transport: str
    tls: bool
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """The stream that takes a topic, or with exists=False the one that would be made on the first publish.

    limits: those that are set, by JetStream's names; max_age in seconds. messages, stored_bytes: what it holds now.
    """

    name: str
    exists: bool
    subjects: tuple[str, ...]
    storage: str
    replicas: int
    duplicate_window_s: float
    retention: str = "limits"
    discard: str = "old"
    limits: Mapping[str, float] = field(default_factory=dict)
    messages: int = 0
    stored_bytes: int = 0
    consumers: int = 0


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found. stream: None where it could not be asked for; a finding tells why. url: without credentials."""

    url: str
    topic: str
    server: ServerFacts
    stream: StreamFacts | None
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that are more than information."""
        return tuple(finding for finding in self.findings if finding.level is Level.WARNING)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)
