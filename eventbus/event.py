"""BusEvent: something that happened to a bus and that a person would want to know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EventKind(StrEnum):
    """What happened. A closed set: dashboards choose a mark by it."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    DENIED = "denied"
    STREAM_CREATED = "stream_created"
    PRODUCER_REPLACED = "producer_replaced"
    TOPIC_WARNING = "topic_warning"
    TOPIC_FAILED = "topic_failed"
    PAUSED = "paused"
    RESUMED = "resumed"
    CLOSED = "closed"
    PROCESS_LOST = "process_lost"
    """One of the processes that share a load is gone."""
    RATE_CHANGED = "rate_changed"
    """Somebody gave a load that goes on another rate."""
    SHAPE_CHANGED = "shape_changed"
    """Somebody gave a load that goes on another shape."""
    FAULT_BEGAN = "fault_began"
    """Something was broken on purpose."""
    FAULT_ENDED = "fault_ended"


@dataclass(frozen=True, slots=True)
class BusEvent:
    """One event: when (seconds since the epoch), what, and a sentence for people without anything secret in it."""

    wall_s: float
    kind: EventKind
    text: str
