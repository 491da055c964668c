"""Sampler: looks at a run each quarter of a second. Pull only: what is looked at knows nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from eventbus.observe.run import Sample
from eventbus.ports import Clock
from eventbus.snapshot import BusSnapshot

INTERVAL_S = 0.25
_LAG_STEP_S = 0.01


class LagProbe:
    """How late the event loop calls back: a timer each 10 ms that looks how much later it came.

    Made and used on the loop's thread; ``stop`` ends it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._largest_s = 0.0
        self._arm()

    def take(self) -> float:
        """Largest lag in seconds since the last call, the callback that is late right now included."""
        largest, self._largest_s = max(self._largest_s, self._loop.time() - self._due), 0.0
        return max(0.0, largest)

    def stop(self) -> None:
        """End the timer. Idempotent."""
        self._timer.cancel()

    def _arm(self) -> None:
        self._due = self._loop.time() + _LAG_STEP_S
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self._largest_s = max(self._largest_s, self._loop.time() - self._due)
        self._arm()


class Sampler:
    """Takes a Sample at once and then each ``interval_s``, until ``run`` is cancelled.

    snapshot: of the bus. load: messages offered so far, and the target rate. lag: largest lag since the last call.
    took: gets every sample, on the loop; it must not wait and must not raise. started_ns: when the run began.
    """

    def __init__(
        self,
        *,
        snapshot: Callable[[], BusSnapshot],
        load: Callable[[], tuple[int, float | None]],
        lag: Callable[[], float],
        took: Callable[[Sample], None],
        clock: Clock,
        started_ns: int,
        interval_s: float = INTERVAL_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._snapshot = snapshot
        self._load = load
        self._lag = lag
        self._took = took
        self._clock = clock
        self._started_ns = started_ns
        self._interval_ns = round(interval_s * 1e9)
        self._sleep = sleep

    def look(self) -> Sample:
        """One sample now."""
        snapshot = self._snapshot()
        offered, target_rate = self._load()
        elapsed_s = (self._clock.monotonic_ns() - self._started_ns) / 1e9
        return Sample(self._clock.wall_s(), elapsed_s, offered, target_rate, snapshot, self._lag())

    def take(self) -> Sample:
        """One sample now, handed on."""
        sample = self.look()
        self._took(sample)
        return sample

    async def run(self) -> None:
        """Sample until cancelled. Instants that a busy loop missed are left out, not made up for."""
        interval_ns = self._interval_ns
        while True:
            self.take()
            passed_ns = self._clock.monotonic_ns() - self._started_ns
            await self._sleep((interval_ns - passed_ns % interval_ns) / 1e9)
