"""What a load publishes: LoadMessage, and Messages, where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class LoadMessage(NamedTuple):
    """One message of a load. A named tuple, since one may be made for every publish.

    topic: one single topic. key: chooses the partition on Kafka; not used by NATS. headers: None is cheaper than an
    empty mapping. A message without key and headers takes the short way through the bus.
    """

    topic: str
    payload: bytes
    key: str | None = None
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Messages:
    """Where the messages of a run come from.

    source: one after the other; the run ends where it ends. total: how many there are; None without end, or where it
    is not known. times: for a replay at recorded times, when each message was recorded, in seconds from the first,
    never falling; one for each message, and they make the schedule.
    """

    source: Iterator[LoadMessage]
    total: int | None = None
    times: Iterator[float] | None = None
