"""CallbackRunner: the application's on_delivery and on_error, run off the ack path.

Reports queue up here and one task calls the callbacks in order of settlement. The queue is bounded: while ``limit``
reports wait, publishers are asked to wait as well (EventBus does that), except from inside a callback, which may
publish and would otherwise wait for itself.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from eventbus.event import BusEvent
from eventbus.ports import Tally
from eventbus.report import AckOutcome, DeliveryReport

Callback = Callable[[DeliveryReport], Awaitable[None] | None]

_log = logging.getLogger("eventbus")
_TURN = 64
"""Synchronous callbacks called before the event loop gets a turn."""


class CallbackRunner:
    """on_delivery hears every report, on_error those that are not ACKED. Sync or async; what they raise is counted."""

    def __init__(self, on_delivery: Callback | None, on_error: Callback | None, limit: int, tally: Tally) -> None:
        self._on_delivery = on_delivery
        self._on_error = on_error
        self._limit = limit
        self._tally = tally
        self._queue: deque[DeliveryReport] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._room = asyncio.Event()
        self._room.set()
        self.every_outcome = on_delivery is not None

    @property
    def full(self) -> bool:
        """True while ``limit`` reports wait and the asking task is not the one that works them off."""
        return len(self._queue) >= self._limit and not self._closing and asyncio.current_task() is not self._task

    async def wait_for_room(self) -> None:
        """Wait until the queue is shorter than its limit."""
        await self._room.wait()

    def settled(self, reports: Sequence[DeliveryReport]) -> None:
        """Queue them up."""
        self._queue.extend(reports)
        if len(self._queue) >= self._limit:
            self._room.clear()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="eventbus callbacks")

    def happened(self, event: BusEvent) -> None:
        """Events are not for callbacks."""

    async def _run(self) -> None:
        called = 0
        while self._queue:
            report = self._queue.popleft()
            if len(self._queue) < self._limit:
                self._room.set()
            await self._call(self._on_delivery, report)
            if report.outcome is not AckOutcome.ACKED:
                await self._call(self._on_error, report)
            called += 1
            if called % _TURN == 0:
                await asyncio.sleep(0)

    async def _call(self, callback: Callback | None, report: DeliveryReport) -> None:
        if callback is None:
            return
        try:
            result = callback(report)
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # it is us who are cancelled
            self._raised(callback, report)  # something that the callback awaited was
        except Exception:  # the edge to foreign code: one bad callback must not silence the others
            self._raised(callback, report)

    def _raised(self, callback: Callback, report: DeliveryReport) -> None:
        self._tally.callback_errors += 1
        _log.exception("callback %r raised for %s", callback, report.message_id)

    async def close(self, timeout_s: float) -> None:
        """Wait up to ``timeout_s`` for the queue to be worked off, then stop calling; says in the log what was left."""
        self._closing = True
        self._room.set()
        task = self._task
        if task is None or task.done() or asyncio.current_task() is task:
            return
        await asyncio.wait([task], timeout=timeout_s)
        if not task.done():
            _log.warning("%d delivery callbacks were not called: the close timed out", len(self._queue))
            task.cancel()
            await asyncio.wait([task], timeout=1.0)
