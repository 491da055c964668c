"""Outbox: one sink's queue, and the task that works it off.

Invariants: ``put`` never waits and never raises. At most ``limit`` notifications wait, besides the one batch that is
being tried. A notification that was put is delivered, failed or dropped, exactly one of them, or still waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from eventbus.alerts.sinks.notification import Notification
from eventbus.alerts.sinks.sink import DeliveryError, Sink, SinkStatus
from eventbus.errors import ConfigError
from eventbus.ports import Clock, Random

Sleep = Callable[[float], Awaitable[None]]

_log = logging.getLogger("eventbus.alerts")
_ERROR_CHARACTERS = 300
_MAX_AFTER_S = 300.0
"""A receiver may ask for this much patience; a longer wait would tell of an alert when nobody cares any more."""


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How hard to try. limit: notifications that may wait for one sink. batch: most that are delivered together.

    attempts: at most so many for a batch, with a pause between them of base_delay_s, doubled each time up to
    max_delay_s, and of that a random part between half and all. timeout_s: for one attempt.
    """

    limit: int = 100
    batch: int = 50
    attempts: int = 5
    base_delay_s: float = 1.0
    max_delay_s: float = 30.0
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if min(self.limit, self.batch, self.attempts) < 1:
            raise ConfigError(f"delivery policy {self}: use 1 or more for limit, batch and attempts")
        if not (0 <= self.base_delay_s <= self.max_delay_s and self.timeout_s > 0):
            raise ConfigError(f"delivery policy {self}: use 0 <= base_delay_s <= max_delay_s, and timeout_s above 0")

    def delay_s(self, attempt: int, chance: float) -> float:
        """The pause after the ``attempt``-th one, from 1. chance: in [0, 1)."""
        # min first: 2.0**attempt of many attempts would overflow.
        longest = min(self.max_delay_s, self.base_delay_s * 2.0 ** min(attempt - 1, 60))
        return longest * (0.5 + chance / 2)


class Outbox:
    """Delivers to ``sink`` what is put here, in order. Runs on the loop that ``put`` is called on."""

    def __init__(self, sink: Sink, policy: DeliveryPolicy, clock: Clock, sleep: Sleep, random: Random) -> None:
        self.sink = sink
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._queue: deque[Notification] = deque()
        self._trying = 0
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._delivered = self._failed = self._dropped = 0
        self._last_success_s: float | None = None
        self._last_failure_s: float | None = None
        self._last_duration_s: float | None = None
        self._last_error: str | None = None
        self._failing = False

    def put(self, notification: Notification) -> None:
        """Queue it up. Where there is no room the oldest goes that does not tell of an end, else the oldest."""
        if self._closed:
            self._dropped += 1
            return
        if len(self._queue) >= self._policy.limit:
            # Who was told that an alert fires must be told that it ended; news of a new one are repeated anyway.
            del self._queue[next((i for i, waiting in enumerate(self._queue) if not waiting.is_over), 0)]
            self._dropped += 1
        self._queue.append(notification)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"alerts to {self.sink.name}")

    def status(self) -> SinkStatus:
        """As of now."""
        return SinkStatus(
            name=self.sink.name,
            delivered=self._delivered,
            failed=self._failed,
            dropped=self._dropped,
            waiting=len(self._queue) + self._trying,
            last_success_s=self._last_success_s,
            last_error=self._last_error,
            last_failure_s=self._last_failure_s,
            last_duration_s=self._last_duration_s,
            where=self.sink.where,
        )

    async def close(self, timeout_s: float) -> None:
        """Take nothing more; wait up to ``timeout_s`` until all is delivered or given up, then drop the rest."""
        self._closed = True
        task = self._task
        if task is not None and not task.done():
            await asyncio.wait([task], timeout=timeout_s)
            if not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=1.0)  # a sink that swallows its cancellation is left behind
        left = len(self._queue) + self._trying
        if left:
            self._dropped += left
            self._trying = 0
            self._queue.clear()
            _log.warning("%d notifications to %s were dropped: the close timed out", left, self.sink.name)

    async def _run(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(self._policy.batch, len(self._queue)))]
            self._trying = len(batch)
            arrived = await self._deliver(batch)
            if not self._trying:
                return  # closed meanwhile, and counted there
            self._trying = 0
            if arrived:
                self._delivered += len(batch)
            else:
                self._failed += len(batch)

    async def _deliver(self, batch: Sequence[Notification]) -> bool:
        attempt = 0
        while True:
            attempt += 1
            began_ns = self._clock.monotonic_ns()
            failure = await self._try(batch)
            self._last_duration_s = (self._clock.monotonic_ns() - began_ns) / 1e9
            if failure is None:
                self._succeeded()
                return True
            self._failed_with(failure)
            if not failure.retry or attempt >= self._policy.attempts:
                return False
            delay_s = self._policy.delay_s(attempt, self._random.random())
            await self._sleep(max(delay_s, min(failure.after_s or 0.0, _MAX_AFTER_S)))

    async def _try(self, batch: Sequence[Notification]) -> DeliveryError | None:
        try:
            async with asyncio.timeout(self._policy.timeout_s):
                await self.sink.deliver(batch)
        except DeliveryError as error:
            return error
        except TimeoutError:
            return DeliveryError(f"no answer within {self._policy.timeout_s:g} s", retry=True)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # it is us who are cancelled
            return DeliveryError("something that it awaited was cancelled", retry=True)
        except Exception as error:  # the edge to foreign code: a broken sink must not end its task
            # Only the type: libraries put addresses with passwords into their messages.
            _log.debug("sink %s raised", self.sink.name, exc_info=True)
            return DeliveryError(f"the sink raised {type(error).__name__}", retry=False)
        return None

    def _succeeded(self) -> None:
        self._last_success_s = self._clock.wall_s()
        recovered, self._failing = self._failing, False
        if recovered:
            _log.info("notifications reach %s again", self.sink.name)

    def _failed_with(self, failure: DeliveryError) -> None:
        self._last_failure_s = self._clock.wall_s()
        self._last_error = " ".join(str(failure).split())[:_ERROR_CHARACTERS]
        first, self._failing = not self._failing, True
        if first:
            _log.warning("notifications do not reach %s: %s", self.sink.name, self._last_error)
