"""LoadRunner: publishes what the schedule says is due, and counts what was offered against what was taken.

The open model: the schedule does not wait for acks. Where the window is full, ``offered`` goes on growing and the
difference to ``accepted`` shows how far the system lags behind. Messages are published in batches; there is no task,
timer or future per message, and receipts are dropped: the ledger knows them all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum
from itertools import islice
from typing import Any, Protocol

from eventbus.errors import ConfigError, InvalidMessage, WindowFull
from eventbus.load.plan import LoadPlan
from eventbus.load.schedule import Schedule
from eventbus.ports import Clock

BATCH = 256
"""Messages published before the event loop may run: some 2 ms, so that acks are read in between."""

MIN_PAUSE_S = 0.002
MAX_PAUSE_S = 0.02
"""Longest pause; a slow load still notices ``stop`` and a new rate within it."""

CATCH_UP_S = 5.0
"""After the duration, what was due and found no room is still sent for so long; the rest stays offered only."""


class PublishesMessages(Protocol):
    """The part of a bus that a runner needs."""

    def publish_nowait(self, topic: str, payload: bytes) -> Any:
        """Publish, or raise WindowFull."""

    async def publish(self, topic: str, payload: bytes) -> Any:
        """Publish, after a wait for room if need be."""


class EndReason(StrEnum):
    """Why the sending ended."""

    PLAN = "plan"
    STOPPED = "stopped"


class LoadRunner:
    """Sends one plan through a bus; ``run`` once.

    payloads: what to send; ends the run when it ends. total: how many it has, if known.
    clock and sleep: injected for tests.
    """

    def __init__(
        self,
        bus: PublishesMessages,
        plan: LoadPlan,
        payloads: Iterator[bytes],
        total: int | None = None,
        *,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bus = bus
        self._topic = plan.topic
        self._payloads = payloads
        self._one_size = plan.replay is None
        self._limit = min((n for n in (plan.count, total) if n is not None), default=None)
        self._duration_ns = None if plan.duration_s is None else round(plan.duration_s * 1e9)
        self._clock = clock
        self._sleep = sleep
        self._schedule = Schedule(plan.rate, clock.monotonic_ns())
        self._end_ns: int | None = None
        self._ended_ns: int | None = None
        self._started_ns: int | None = None
        self._stopped = False
        self._exhausted = False
        self._waiting: asyncio.Timeout | None = None
        self._accepted = 0
        self._refused = 0
        self._refusal: str | None = None
        self._most_offered = 0

    @property
    def accepted(self) -> int:
        """Messages that the bus took."""
        return self._accepted

    @property
    def refused(self) -> int:
        """Messages that no broker would take (too large, for instance); nothing was sent of them."""
        return self._refused

    @property
    def refusal(self) -> str | None:
        """Why the first of them was refused."""
        return self._refusal

    @property
    def target_rate(self) -> float | None:
        """Messages per second; None for as fast as the window lets."""
        return self._schedule.rate

    @property
    def sending_s(self) -> float:
        """Seconds from the start until now, or until the sending ended."""
        if self._started_ns is None:
            return 0.0
        end_ns = self._clock.monotonic_ns() if self._ended_ns is None else self._ended_ns
        return (end_ns - self._started_ns) / 1e9

    @property
    def offered(self) -> int:
        """Messages that the schedule wanted to send until now; never less than were sent, and never falling."""
        if self._started_ns is not None and self._ended_ns is None:
            self._most_offered = max(self._most_offered, self._due() or 0)
        return max(self._most_offered, self._accepted + self._refused)

    def set_rate(self, rate: float | None) -> None:
        """Go on with another rate (checked by the caller)."""
        self._schedule.change(rate, self._now_within(), self._accepted + self._refused)

    def stop(self) -> None:
        """Send nothing more; ``run`` returns soon. Idempotent."""
        self._stopped = True
        if self._waiting is not None:
            with contextlib.suppress(RuntimeError):  # the wait has just ended by itself
                self._waiting.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> EndReason:
        """Send until the plan or ``stop`` ends it. Raises what the bus raises, but for messages it refuses one by one.

        Cancellation ends it between two messages. ConfigError where the very first random payload is refused: all
        of them would be.
        """
        self._started_ns = now = self._clock.monotonic_ns()
        self._schedule = Schedule(self._schedule.rate, now)
        if self._duration_ns is not None:
            self._end_ns = now + self._duration_ns
        try:
            while not self._stopped:
                number = self._number_to_send()
                if number is None:
                    return EndReason.PLAN
                if number:
                    await self._send(number)
                    await self._sleep(0)
                else:
                    pause_s = self._schedule.next_due_s(self._clock.monotonic_ns())
                    await self._sleep(min(MAX_PAUSE_S, max(MIN_PAUSE_S, pause_s)))
            return EndReason.STOPPED
        finally:
            self._most_offered = self.offered
            self._ended_ns = self._clock.monotonic_ns()

    def _number_to_send(self) -> int | None:
        """How many messages to send now, at most a batch; 0 where none is due yet, None where the plan has ended."""
        done = self._accepted + self._refused
        if self._exhausted or done == self._limit:
            return None
        due = self._due()
        number = BATCH if due is None else min(BATCH, due - done)
        if self._limit is not None:
            number = min(number, self._limit - done)
        if self._end_ns is not None:
            over_ns = self._clock.monotonic_ns() - self._end_ns
            if over_ns >= CATCH_UP_S * 1e9 or (over_ns >= 0 and (due is None or number <= 0)):
                return None
        return max(0, number)

    def _due(self) -> int | None:
        """What the schedule wants sent by now, within duration and limit; None where it sets no bound."""
        due = self._schedule.due(self._now_within())
        return due if due is None or self._limit is None else min(due, self._limit)

    def _now_within(self) -> int:
        now = self._clock.monotonic_ns()
        return now if self._end_ns is None else min(now, self._end_ns)

    async def _send(self, number: int) -> None:
        found_no_room = self._send_what_fits(number)
        if found_no_room is None:
            return
        try:
            async with asyncio.timeout(self._patience_s()) as self._waiting:
                await self._bus.publish(self._topic, found_no_room)
            self._accepted += 1
        except InvalidMessage as error:
            self._refuse(error)
        except TimeoutError:
            if self._waiting is None or not self._waiting.expired():
                raise
        finally:
            self._waiting = None

    def _send_what_fits(self, number: int) -> bytes | None:
        """Publish up to ``number`` messages without waiting; returns the payload that found no room, if one did."""
        publish = self._bus.publish_nowait
        topic = self._topic
        taken = sent = 0
        try:
            for payload in islice(self._payloads, number):
                taken += 1
                try:
                    publish(topic, payload)
                except WindowFull:
                    return payload
                except InvalidMessage as error:
                    self._refuse(error, sent)
                else:
                    sent += 1
        finally:
            self._accepted += sent
        self._exhausted = taken < number
        return None

    def _patience_s(self) -> float | None:
        if self._end_ns is None:
            return None
        return max(0.0, (self._end_ns - self._clock.monotonic_ns()) / 1e9 + CATCH_UP_S)

    def _refuse(self, error: InvalidMessage, sent: int = 0) -> None:
        if self._one_size and not self._accepted and not sent:
            raise ConfigError(str(error)) from error
        self._refused += 1
        self._refusal = self._refusal or str(error)
