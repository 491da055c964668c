"""Settings of a bus: small frozen classes, one per part. RetryPolicy lives with its rule, in ack/retry.py."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from typing import Literal

from eventbus.errors import ConfigError


class AckStrategy(StrEnum):
    """Four ways to treat acks, all behind the same ``publish``, so that they can be compared."""

    UNIFIED = "unified"
    """One handler for all acks: bounded, with deadlines and retries. The default, and the one to use."""
    TASK_PER_MESSAGE = "task_per_message"
    """A background task for each message awaits its ack."""
    WAIT_EACH = "wait_each"
    """``publish`` returns only when its own ack is there."""
    IGNORE = "ignore"
    """Send and forget: counted as ``unacknowledged``, never as acked."""


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """Bounds on what is pending at once. Both hold at every instant; whichever is met first makes publishers wait.

    max_pending: messages. max_pending_bytes: payload and headers; a message larger than this is refused.
    stall_timeout_s: longest wait for room in seconds before ``publish`` raises StallTimeout; None waits for ever.
    high_water, low_water: shares of max_pending at which the events ``paused`` and ``resumed`` are told: paused when
        that many are pending, or a publisher finds no room; resumed when it is down to the low mark and nobody waits.
        They tell, and change nothing about who is let in.
    """

    max_pending: int = 10_000
    max_pending_bytes: int = 64 * 1024 * 1024
    stall_timeout_s: float | None = None
    high_water: float = 0.9
    low_water: float = 0.5

    def __post_init__(self) -> None:
        if not self.max_pending >= 1:
            raise ConfigError(f"max_pending is {self.max_pending}; use 1 or more")
        if not self.max_pending_bytes >= 1:
            raise ConfigError(f"max_pending_bytes is {self.max_pending_bytes}; use 1 or more")
        if self.stall_timeout_s is not None and not 0 < self.stall_timeout_s < 1e6:
            raise ConfigError(f"stall_timeout_s is {self.stall_timeout_s}; use 0 to 1e6 seconds, or None for ever")
        if not 0 <= self.low_water < self.high_water <= 1:
            raise ConfigError(
                f"low_water is {self.low_water} and high_water {self.high_water}; use 0 <= low < high <= 1"
            )


@dataclass(frozen=True, slots=True)
class NatsAuth:
    """Who we are to NATS: exactly one of user with password, token, nkey or creds file. ``repr`` tells nothing secret.

    nkey_seed: the seed itself, ``SU...``; nkey_file: a file that holds it. creds_file: as ``nsc`` writes it; read
        again at each connect, so that it may be renewed. nkeys and creds files need the extra ``nkeys``.
    For all servers, also those that a cluster tells of. In a URL, user and password or a token do the same.
    """

    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    nkey_seed: str | None = field(default=None, repr=False)
    nkey_file: str | os.PathLike[str] | None = None
    creds_file: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if (self.user is None) != (self.password is None):
            raise ConfigError("auth has only one of user and password; give both, or use a token")
        ways = ("user", "token", "nkey_seed", "nkey_file", "creds_file")
        given = [way for way in ways if getattr(self, way) is not None]
        if len(given) != 1:
            raise ConfigError(f"auth has {' and '.join(given) or 'nothing'}; give exactly one of {', '.join(ways)}")
        if getattr(self, given[0]) == "":
            raise ConfigError(f"auth has an empty {given[0]}")


@dataclass(frozen=True, slots=True)
class KafkaAuth:
    """Who we are to Kafka, by SASL; for all brokers of the cluster. ``repr`` tells nothing secret.

    user, password: here or in the URL, in one place.
    mechanism: "PLAIN" (default), "SCRAM-SHA-256" or "SCRAM-SHA-512", as the listener has it. PLAIN sends the password
        as it is, so it needs TLS, unless the servers are on this machine.
    allow_plaintext: True sends it without TLS elsewhere too, where everyone on the way can read it.
    """

    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    allow_plaintext: bool = False

    def __post_init__(self) -> None:
        if (self.user is None) != (self.password is None):
            raise ConfigError("auth has only one of user and password; give both here, or both in the URL")
        if self.user == "":
            raise ConfigError("auth has an empty user")
        if self.mechanism not in (mechanisms := ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")):
            raise ConfigError(f"mechanism of auth is {self.mechanism!r}; use one of {', '.join(mechanisms)}")


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """How messages are gathered for Kafka, and what an ack of it means.

    acks: "all" (default) is acked when every replica in sync has it; 1 when the leader has, and is lost with it.
    idempotent: the client's own repetitions are stored once, in order. Needs acks="all".
    linger_s: how long a first batch waits for more messages, 0 to 10 s. Default 0: while two batches of a partition are
        under way the next one is gathered anyway, so batches grow with the load; Kafka's own clients wait 5 ms since
        4.0 (KIP-1030).
    max_batch_bytes: a batch is sent when this full. Default 256 KiB: a batch costs aiokafka some 200 us whatever is in
        it, which 16 KiB, Kafka's own ``batch.size``, spread over too few messages. A topic's ``max.message.bytes``
        bounds it too.
    max_request_bytes: largest message, with headers and key. Default 1 MiB, Kafka's own ``max.request.size``; brokers
        take as much (``message.max.bytes``).
    compression: None, "gzip", "snappy", "lz4" or "zstd"; for whole batches. All but gzip need the package ``cramjam``.
    """

    acks: Literal["all", 1] = "all"
    idempotent: bool = True
    linger_s: float = 0.0
    max_batch_bytes: int = 256 * 1024
    max_request_bytes: int = 1024 * 1024
    compression: Literal["gzip", "snappy", "lz4", "zstd"] | None = None

    def __post_init__(self) -> None:
        if self.acks not in ("all", 1) or isinstance(self.acks, bool):
            raise ConfigError(f"acks is {self.acks!r}; use 'all' or 1, or AckStrategy.IGNORE for none")
        if self.idempotent and self.acks != "all":
            raise ConfigError("acks is 1 and idempotent is True; an idempotent producer needs acks='all'")
        if not 0 <= self.linger_s <= 10:
            raise ConfigError(f"linger_s is {self.linger_s}; use 0 to 10 seconds")
        if not 1 <= self.max_request_bytes < 2**31:
            raise ConfigError(f"max_request_bytes is {self.max_request_bytes}; use 1 to 2**31 - 1")
        if not 1 <= self.max_batch_bytes <= self.max_request_bytes:
            raise ConfigError(
                f"max_batch_bytes is {self.max_batch_bytes}; use 1 to max_request_bytes, which is "
                f"{self.max_request_bytes}"
            )
        if self.compression not in (codecs := (None, "gzip", "snappy", "lz4", "zstd")):
            raise ConfigError(f"compression is {self.compression!r}; use one of {', '.join(map(repr, codecs))}")
        if self.compression not in (None, "gzip") and find_spec("cramjam") is None:
            raise ConfigError(
                f"compression {self.compression!r} needs cramjam; install it with `pip install 'ackscope[kafka]'`, "
                "or use 'gzip'"
            )


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """TLS is asked for: nothing is ever sent to a server that does not offer it.

    ``tls://``, ``wss://`` and ``kafka+ssl://`` ask for it too.

    ca_file: who signed the servers' certificates; None takes the system's authorities. cert_file, key_file: our own
        certificate (mutual TLS); key_file may be left out where cert_file holds the key too. key_password: of the key.
    hostname: the name to expect in the certificate, where it is not the one in the URL. Not for Kafka, whose brokers
        have several names.
    handshake_first: NATS only: TLS from the first byte, as the server's setting of that name wants it.
    """

    ca_file: str | os.PathLike[str] | None = None
    cert_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    key_password: str | None = field(default=None, repr=False)
    hostname: str | None = None
    handshake_first: bool = False

    def __post_init__(self) -> None:
        if self.cert_file is None and (self.key_file is not None or self.key_password is not None):
            raise ConfigError("tls has a key and no certificate; give cert_file too")


@dataclass(frozen=True, slots=True)
class TelemetryConfig:
    """What a bus tells OpenTelemetry. It uses the API only; an application sets the SDK up (eventbus.telemetry.setup).

    enabled: None (default) where the SDK is set up when the bus connects; False never; True needs the package.
    success_span_ratio: share of acked messages that get a span though no caller's trace asks for one. Default 1/1024: a
        span costs some 15 us, and 31 us more in the exporter's thread (OpenTelemetry SDK 1.45, CPython 3.11).
    failure_spans_per_s: failed messages that have a span each, per second; what is above is told by one span a second
        for each destination and error type, with its count. Default 200.
    """

    enabled: bool | None = None
    success_span_ratio: float = 1 / 1024
    failure_spans_per_s: int = 200

    def __post_init__(self) -> None:
        if not 0 <= self.success_span_ratio <= 1:
            raise ConfigError(f"success_span_ratio is {self.success_span_ratio}; use 0 to 1")
        if self.failure_spans_per_s < 0:
            raise ConfigError(f"failure_spans_per_s is {self.failure_spans_per_s}; use 0 or more")


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """How a connection is made and watched.

    name: shown in the broker's monitoring.
    connect_timeout_s: how long ``connect`` tries before ConnectFailed.
    reconnect_delay_s: pause between two tries of a lost connection; there is no limit on their number.
    ping_interval_s: the server is asked for a sign of life this often; after two unanswered pings the connection
        counts as lost. nats-py's default of 120 s would notice a frozen server after six minutes.
    auth: NatsAuth or KafkaAuth, as the broker is. inbox_prefix: NATS only. kafka: Kafka only.
    """

    name: str = "ackscope"
    connect_timeout_s: float = 5.0
    reconnect_delay_s: float = 0.25
    ping_interval_s: float = 10.0
    auth: NatsAuth | KafkaAuth | None = None
    tls: TlsConfig | None = None
    inbox_prefix: str = "_INBOX"
    kafka: KafkaConfig = KafkaConfig()

    def __post_init__(self) -> None:
        for setting in ("connect_timeout_s", "reconnect_delay_s", "ping_interval_s"):
            if not getattr(self, setting) > 0:
                raise ConfigError(f"{setting} is {getattr(self, setting)}; use more than 0 seconds")
        words = self.inbox_prefix.split(".")
        if "" in words or any(c in "*>" or c.isspace() or not c.isprintable() for c in self.inbox_prefix):
            raise ConfigError(f"inbox_prefix is {self.inbox_prefix!r}; use words between dots, as in '_INBOX.orders'")
