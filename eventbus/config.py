"""Settings of a bus: small frozen classes, one per part. RetryPolicy lives with its rule, in ack/retry.py."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
class ConnectionConfig:
    """How a connection is made and watched.

    name: shown in the broker's monitoring.
    connect_timeout_s: how long ``connect`` tries before ConnectFailed.
    reconnect_delay_s: pause between two tries of a lost connection; there is no limit on their number.
    ping_interval_s: the server is asked for a sign of life this often; after two unanswered pings the connection
        counts as lost. nats-py's default of 120 s would notice a frozen server after six minutes.
    """

    name: str = "ackscope"
    connect_timeout_s: float = 5.0
    reconnect_delay_s: float = 0.25
    ping_interval_s: float = 10.0

    def __post_init__(self) -> None:
        for setting in ("connect_timeout_s", "reconnect_delay_s", "ping_interval_s"):
            if not getattr(self, setting) > 0:
                raise ConfigError(f"{setting} is {getattr(self, setting)}; use more than 0 seconds")
