"""Inspection: what a broker and the stream of a topic are like, and what about them may surprise. Values only.

NATS has a server with streams, Kafka a cluster with topics; findings are told in the same way for both.
"""

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
    """The nats-server at the other end of the connection.

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
    """The stream of JetStream that takes a topic, or with exists=False the one that would be made on the first publish.

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
class ClusterFacts:
    """The Kafka cluster at the other end. No broker tells its version, only which requests it knows.

    cluster: its id. brokers: ``host:port`` of those alive, by node id. controller: its node id, or the broker's that
    speaks for it; None where none is named. requests: the newest version of each that matters to a publisher, by
    Kafka's name; 0 where it is known in its first form only. round_trip_s: seconds, median of several small requests.
    tls: is the connection encrypted? mechanism: of SASL, None without login.
    """

    cluster: str | None
    brokers: Mapping[int, str]
    controller: int | None
    requests: Mapping[str, int]
    round_trip_s: float
    tls: bool
    mechanism: str | None = None


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """One partition by node ids: who leads it (None: nobody), who should have all of it, and who has it now."""

    number: int
    leader: int | None
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KafkaTopicFacts:
    """The topic of Kafka, or with exists=False the one that would be made on the first publish.

    partition_count, replicas: replicas is the least that a partition has; None where it is not told. partitions:
    empty where there is no topic yet. settings: those that matter to a publisher, by Kafka's names, as text; empty
    where this user may not ask.
    """

    name: str
    exists: bool
    partition_count: int | None
    replicas: int | None
    partitions: tuple[PartitionFacts, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found. url: without credentials.

    stream: what stores the topic's messages, a stream or a topic of Kafka; None where it could not be asked for, and a
    finding tells why.
    """

    url: str
    topic: str
    server: ServerFacts | ClusterFacts
    stream: StreamFacts | KafkaTopicFacts | None
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that are more than information."""
        return tuple(finding for finding in self.findings if finding.level is Level.WARNING)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)
