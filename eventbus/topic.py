"""TopicConfig: what a logical topic should be at the broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eventbus.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=False)
class TopicConfig:
    """A logical topic: durable or not, and how its stream is made if it has to be.

    name: the topic, on NATS also the subject. ``*`` stands for one token, a trailing ``>`` for one or more, so that
        one config can stand for many topics.
    durable: False publishes with core NATS: no acknowledgement exists, sends are counted as ``unacknowledged``.
    stream: name of the stream; None takes the stream that already has the subject, else one named after the
        first token.
    create: may a missing stream be created? An existing one is never changed.
    duplicate_window_s: how long the stream remembers message ids; also the bound on retries. Used when creating;
        otherwise the stream's own is read. Default 120 s, JetStream's own.
    replicas: 1 to 5.
    storage: "file" or "memory".
    max_message_bytes: largest message that this topic takes, headers included (a message id needs some 60 bytes);
        None leaves it to the broker.
    partitions: Kafka only; None takes the broker's default.
    min_insync_replicas: Kafka only: so many replicas, the leader among them, must have a message before it is acked,
        else it is refused. At most ``replicas``; None takes the broker's default, which is 1 unless it was changed.
    allow_duplicates: True lets an ambiguous message be sent again where the broker cannot deduplicate, and on NATS
        sends no message id unless the caller gives one.
    ack_timeout_s: seconds to wait for an ack of one attempt; None takes the bus's.
    """

    name: str
    durable: bool = True
    stream: str | None = None
    create: bool = True
    duplicate_window_s: float = 120.0
    replicas: int = 1
    storage: Literal["file", "memory"] = "file"
    max_message_bytes: int | None = None
    partitions: int | None = None
    allow_duplicates: bool = False
    ack_timeout_s: float | None = None
    min_insync_replicas: int | None = None

    def __post_init__(self) -> None:
        _check_pattern(self.name)
        if self.stream is not None and (not self.stream or any(c in self.stream for c in " .*>/\\\t\r\n\0")):
            raise ConfigError(f"stream name {self.stream!r}: use letters, digits, '-' and '_', no dots or spaces")
        if not 0 < self.duplicate_window_s < 1e9:
            raise ConfigError(
                f"duplicate_window_s of topic {self.name!r} is {self.duplicate_window_s}; use more than 0"
            )
        if not 1 <= self.replicas <= 5:
            raise ConfigError(f"replicas of topic {self.name!r} is {self.replicas}; use 1 to 5")
        if self.min_insync_replicas is not None and not 1 <= self.min_insync_replicas <= self.replicas:
            raise ConfigError(
                f"min_insync_replicas of topic {self.name!r} is {self.min_insync_replicas}; use 1 to replicas, "
                f"which is {self.replicas}, or None"
            )
        if self.storage not in ("file", "memory"):
            raise ConfigError(f"storage of topic {self.name!r} is {self.storage!r}; use 'file' or 'memory'")
        for setting in ("max_message_bytes", "partitions", "ack_timeout_s"):
            value = getattr(self, setting)
            if value is not None and not 0 < value < (1e6 if setting == "ack_timeout_s" else 1e12):
                raise ConfigError(f"{setting} of topic {self.name!r} is {value}; use more than 0, or None")

    @property
    def is_pattern(self) -> bool:
        """True where the name has a wildcard, so that it stands for many topics."""
        return "*" in self.name or ">" in self.name

    def matches(self, topic: str) -> bool:
        """True where ``topic`` is this one, or is covered by its wildcards."""
        return subject_matches(self.name, topic)


def subject_matches(pattern: str, subject: str) -> bool:
    """True where ``subject`` is covered by ``pattern``: ``*`` is one token, a trailing ``>`` one or more."""
    if pattern == subject:
        return True
    wanted = pattern.split(".")
    given = subject.split(".")
    for position, token in enumerate(wanted):
        if token == ">":
            return len(given) > position
        if position < len(given) and given[position] == ">":
            return False  # a wider pattern than this one
        if position >= len(given) or token not in ("*", given[position]):
            return False
    return len(wanted) == len(given)


def _check_pattern(name: str) -> None:
    if not isinstance(name, str) or not name:
        raise ConfigError(f"topic name is {name!r}; it must be a non-empty str")
    tokens = name.split(".")
    if any(not t or any(c in t for c in " \t\r\n\0") for t in tokens):
        raise ConfigError(f"topic name {name!r}: dots separate non-empty words without spaces, as in 'orders.created'")
    if any(("*" in t or ">" in t) and len(t) > 1 for t in tokens) or ">" in tokens[:-1]:
        raise ConfigError(
            f"topic name {name!r}: '*' stands for a whole word, and '>' only at the end, as in 'orders.>'"
        )
