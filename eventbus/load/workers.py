"""Workers: the closed model. Each publishes one message, awaits its ack, and only then publishes the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from eventbus.errors import InvalidMessage
from eventbus.load.message import LoadMessage


class Workers:
    """``number`` of them take ``messages`` in turn, at most ``limit``; ``run`` once.

    publish: of a bus: it waits for room, and its receipt for the ack. refused: told of a message that no broker would
    take. One task for each worker, none for a message.
    """

    def __init__(
        self,
        publish: Callable[..., Awaitable[Any]],
        number: int,
        messages: Iterator[LoadMessage],
        limit: int | None,
        refused: Callable[[InvalidMessage], None],
    ) -> None:
        self._publish = publish
        self._number = number
        self._messages = messages
        self._left = limit
        self._refused = refused
        self._stopped = False
        self._ended: asyncio.Future[None] | None = None
        self._running = 0
        self.accepted = 0
        """Messages that the bus took."""

    def stop(self) -> None:
        """Send nothing more, await no ack; ``run`` returns soon. Idempotent."""
        self._stopped = True
        self._end()

    async def run(self, until: Awaitable[None] | None) -> None:
        """Until there are no more messages, ``until`` ends, or ``stop``. Raises what the bus raises.

        What is pending then is left to the ledger. Cancellation ends all workers.
        """
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        if self._stopped:
            self._end()
        tasks = [loop.create_task(self._work(), name=f"ackscope-worker-{n}") for n in range(self._number)]
        self._running = len(tasks)
        for task in tasks:
            task.add_done_callback(self._one_ended)
        ending = [self._ended, *([] if until is None else [asyncio.ensure_future(until)])]
        try:
            await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopped = True
            for each in (*tasks, *ending):
                each.cancel()
            results = await asyncio.gather(*tasks, *ending, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):  # a cancelled one is none
                raise result

    def _one_ended(self, task: asyncio.Task[None]) -> None:
        self._running -= 1
        if not self._running or (not task.cancelled() and task.exception() is not None):
            self._end()

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def _work(self) -> None:
        while not self._stopped and (message := self._next()) is not None:
            topic, payload, key, headers = message
            try:
                receipt = await self._publish(topic, payload, key=key, headers=headers)
            except InvalidMessage as error:
                self._refused(error)
                await asyncio.sleep(0)  # a file of nothing else must not keep the loop
            else:
                self.accepted += 1
                await receipt

    def _next(self) -> LoadMessage | None:
        if self._left is not None:
            if not self._left:
                return None
            self._left -= 1
        return next(self._messages, None)
