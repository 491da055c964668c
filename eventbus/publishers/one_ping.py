"""OnePing: one question to the broker under way at a time, which no caller's cancellation reaches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class OnePing:
    """ask: puts the question; returns the seconds until the answer, and may raise where none can come.

    Belongs to one event loop; after ``cancel`` nothing is under way.
    """

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, float]]) -> None:
        self._ask = ask
        self._asking: asyncio.Task[float] | None = None

    async def answer(self) -> float | None:
        """Wait for the answer to a question put after this call; None where none came. Bounded only by cancellation.

        Several callers that wait for an earlier question share the next one.
        """
        earlier = self._asking
        if earlier is not None:
            await asyncio.wait((earlier,))
        if self._asking is earlier:
            self._asking = asyncio.create_task(self._ask(), name="eventbus ping")
            self._asking.add_done_callback(_hear)
        asking = self._asking
        assert asking is not None
        await asyncio.wait((asking,))
        return None if asking.cancelled() or asking.exception() is not None else asking.result()

    def cancel(self) -> None:
        """Nobody can answer any more."""
        if self._asking is not None:
            self._asking.cancel()


def _hear(task: asyncio.Future[float]) -> None:
    """How it ended, which asyncio wants somebody to ask."""
    if not task.cancelled():
        task.exception()
