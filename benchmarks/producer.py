"""Producer: what a contestant has to be able to do, and the workload that is the same for all of them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from eventbus import LatencyHistogram

STREAM = "BENCHMARK"
SUBJECT = "benchmark.events"
PAYLOAD = bytes(range(128))
TICK_S = 0.001
"""A paced producer sends what is due once in this time: event loops do not wake more finely than that."""
FINISH_TIMEOUT_S = 60.0
"""Longest wait for the last acks of a run. Only a contestant that has lost acks reaches it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a producer is told.

    url: of the server. window: messages that may be in flight. message_ids: whether each message carries an id, by
    which the server recognises a second copy. unanswered: the run is one in which no ack comes, so nothing may give up
    on a message, and no buffer but the window may stop it. topic: of Kafka; on NATS it is always SUBJECT.
    """

    url: str
    window: int
    message_ids: bool
    unanswered: bool = False
    topic: str = SUBJECT


class Producer(Protocol):
    """One way to publish with acks. Belongs to one event loop; used by one task."""

    async def open(self) -> None:
        """Connect; everything that is needed only once."""

    def prepare(self, count: int) -> None:
        """Whatever may be done before the clock starts for the next ``count`` messages."""

    async def publish_all(self, count: int) -> int:
        """Publish as fast as possible, with at most ``window`` in flight. Returns the number of acks seen.

        Ends when the last ack is there or, for a producer without acks, when the server has read everything.
        """

    async def publish_paced(self, count: int, rate: float) -> LatencyHistogram:
        """Publish ``rate`` messages a second whether acks come or not. Latency: from the publish to its ack seen."""

    async def publish_unanswered(self, payloads: Sequence[bytes]) -> int:
        """Publish these while no ack comes; returns the number pending. Waits for nothing else."""

    async def close(self) -> None:
        """Disconnect; acks are not waited for long."""


Make = Callable[[Settings], Producer]


class MessageIds:
    """Ids of the same length for all contestants: 12 hexadecimal digits for the run, and a number."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._last = 0

    def next(self) -> str:
        """An id that was never given before."""
        self._last += 1
        return f"{self._prefix}-{self._last}"


class Pace:
    """An open loop of ``count`` messages, ``rate`` a second: what is late is still due."""

    def __init__(self, count: int, rate: float) -> None:
        self._count, self._rate = count, rate
        self._start = time.monotonic()
        self._out = self._tick = 0

    @property
    def finished(self) -> bool:
        """Whether all are out."""
        return self._out >= self._count

    def due(self) -> int:
        """How many messages are due now and not out; the caller sends them."""
        due = min(self._count, int((time.monotonic() - self._start) * self._rate) + 1) - self._out
        self._out += due
        return due

    def next_tick(self) -> float:
        """Until when to wait, on the monotonic clock; past where the caller is late."""
        self._tick = max(self._tick + 1, int((time.monotonic() - self._start) / TICK_S))
        return self._start + self._tick * TICK_S


async def ticks(count: int, rate: float) -> AsyncIterator[int]:
    """How many messages are due now, tick by tick, until all are out; for an event loop."""
    pace = Pace(count, rate)
    while not pace.finished:
        if due := pace.due():
            yield due
        await asyncio.sleep(max(0.0, pace.next_tick() - time.monotonic()))
