"""Pinger: asks the broker for a round trip now and then while a run goes on, beside everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from eventbus.errors import EventBusError

EACH_S = 5.0


class Pinger:
    """ping: as EventBus.ping, bounded. ``run`` in a task of its own; cancel it to end it, which takes no time.

    round_trip_s: of the last ping; None before the first answer, and where the last was not answered.
    """

    def __init__(
        self,
        ping: Callable[[], Awaitable[float]],
        *,
        each_s: float = EACH_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ping = ping
        self._each_s = each_s
        self._sleep = sleep
        self.round_trip_s: float | None = None

    async def run(self) -> None:
        """Ask at once and then ``each_s`` after each answer, or after the last was given up; until cancelled."""
        while True:
            try:
                self.round_trip_s = await self._ping()
            except EventBusError:
                self.round_trip_s = None
            await self._sleep(self._each_s)
