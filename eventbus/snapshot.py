"""BusSnapshot and WindowStatistics: what a reader may see of a bus. Frozen; to and from plain dicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from eventbus.latency import LatencyHistogram


class ConnectionState(StrEnum):
    """What the connection to the broker is doing."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    DENIED = "denied"
    """The broker answers and refuses us (credentials, or the right to receive acks); still trying."""
    CLOSED = "closed"


_WORST_FIRST = (
    ConnectionState.DENIED,
    ConnectionState.RECONNECTING,
    ConnectionState.CONNECTING,
    ConnectionState.CONNECTED,
    ConnectionState.CLOSED,
)
"""Of several buses: one that has ended in good order is no trouble as long as another goes on."""
_ADDED = (
    "accepted",
    "acked",
    "duplicates",
    "late_acks",
    "rejected",
    "unknown",
    "unacknowledged",
    "ack_timeouts",
    "retries",
    "pending",
    "pending_bytes",
    "max_pending",
    "waiting_publishers",
    "callback_errors",
)
_LARGEST = ("monotonic_s", "wall_s", "oldest_pending_age_s", "stalled_s_total")
MAX_WARNINGS = 100


@dataclass(frozen=True, slots=True)
class WindowStatistics:
    """How full a window is."""

    pending: int
    pending_bytes: int
    max_pending: int
    max_pending_bytes: int


@dataclass(frozen=True, slots=True)
class BusSnapshot:
    """The state of a bus at one instant. Counters only grow, but for ``unknown``: a late ack moves one to ``acked``.

    Always: accepted == acked + rejected + unknown + pending. ``duplicates`` and ``late_acks`` are among ``acked``;
    ``unacknowledged`` (sends without any ack, by IGNORE or core NATS) is apart from ``accepted``.
    errors: how often each error kind was seen, retried ones included. latency: of acked messages, last attempt to ack.
    stalled_s_total: wall time during which at least one publisher waited for room.
    monotonic_s, wall_s: when this was taken; wall_s is seconds since the epoch.
    warnings: what is wrong with the streams of the topics in use, a sentence each; at most 100.
    """

    bus_id: str
    monotonic_s: float
    wall_s: float
    connection: ConnectionState
    accepted: int = 0
    acked: int = 0
    duplicates: int = 0
    late_acks: int = 0
    rejected: int = 0
    unknown: int = 0
    unacknowledged: int = 0
    ack_timeouts: int = 0
    retries: int = 0
    pending: int = 0
    pending_bytes: int = 0
    max_pending: int = 0
    oldest_pending_age_s: float = 0.0
    waiting_publishers: int = 0
    stalled_s_total: float = 0.0
    callback_errors: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them back."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data["connection"] = str(self.connection)
        data["errors"] = dict(self.errors)
        data["latency"] = self.latency.to_dict()
        data["warnings"] = list(self.warnings)
        return data

    def merged(self, other: BusSnapshot) -> BusSnapshot:
        """Both together, as of one bus with this one's id: what is counted or pending is added, exactly.

        The oldest age, the times and ``stalled_s_total`` are the larger of both: two buses that wait in the same second
        have waited for one second. The connection is the worse one; CLOSED only where both are. In any order the same,
        but for the id and the order of the warnings, of which 100 are kept.
        """
        values: dict[str, Any] = {name: getattr(self, name) + getattr(other, name) for name in _ADDED}
        values.update((name, max(getattr(self, name), getattr(other, name))) for name in _LARGEST)
        return replace(
            self,
            connection=min(self.connection, other.connection, key=_WORST_FIRST.index),
            errors={
                kind: self.errors.get(kind, 0) + other.errors.get(kind, 0) for kind in {**self.errors, **other.errors}
            },
            latency=self.latency.merged(other.latency),
            warnings=tuple(dict.fromkeys((*self.warnings, *other.warnings)))[:MAX_WARNINGS],
            **values,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BusSnapshot:
        """The inverse of ``to_dict``; names that it does not know (of a newer version) are left out."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        values["connection"] = ConnectionState(values["connection"])
        values["latency"] = LatencyHistogram.from_dict(values["latency"])
        values["warnings"] = tuple(values.get("warnings", ()))
        return cls(**values)
