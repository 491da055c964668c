"""Producers: which aiokafka producer to send with now, how a finished one is replaced, and whether brokers answer.

Invariants
- At most one producer is current; ``producer`` waits while there is none. A poisoned one is never current again, and
  lives on only until what is under way with it has ended, or its time is up.
- ``on_lost`` and ``on_ready`` alternate, beginning with ``on_ready``.
- After ``close`` there is no task and no socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from eventbus.config import ConnectionConfig
from eventbus.errors import ConnectFailed
from eventbus.publishers.kafka.producer import REQUEST_TIMEOUT_S, KafkaProducer

_log = logging.getLogger("eventbus")

_LOOK_S = 0.5
"""How often what is under way is looked at."""
_SUSPECT_S = 1.5
"""A batch without an answer for so long makes us ask whether any broker still answers."""
_REBOOTSTRAP_S = 15.0
"""If no broker that is known answers for so long, the servers of the URL are asked again: all may have moved."""
_RETIRE_S = 30.0
"""How long a poisoned producer may wait for what is under way on partitions that are sound."""


class Producers:
    """make: a new producer, not started. oldest_s: age in seconds of the oldest batch under way, 0 where there is none.

    Callbacks, none of which may raise or wait. on_ready: brokers answer (again). on_lost: none does. on_replaced: a
    producer is finished, and why. on_suspect: brokers answer, and yet a batch waits long; what is known of the cluster
    is new.
    """

    def __init__(
        self,
        make: Callable[[], KafkaProducer],
        config: ConnectionConfig,
        *,
        oldest_s: Callable[[], float],
        on_ready: Callable[[], None],
        on_lost: Callable[[str], None],
        on_replaced: Callable[[str], None],
        on_suspect: Callable[[], None] = lambda: None,
    ) -> None:
        self._tell_suspect = on_suspect
        self._make = make
        self._config = config
        self._oldest_s = oldest_s
        self._tell_ready, self._tell_lost, self._tell_replaced = on_ready, on_lost, on_replaced
        self._current: KafkaProducer | None = None
        self._there = asyncio.Event()
        self._ready = False
        self._closed = False
        self.broker = ""
        """What the brokers say of themselves; empty until one did."""
        self._retiring: dict[KafkaProducer, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> KafkaProducer | None:
        """The one to send with; None while there is none."""
        return self._current

    async def open(self) -> None:
        """Start the first producer. Raises ConnectFailed within ``connect_timeout_s``; then nothing is left."""
        producer = self._make()
        await producer.start(self._config.connect_timeout_s)
        self._use(producer)
        self._start(self._watch(), "eventbus kafka watch")

    def begin(self) -> None:
        """The same without waiting, for as long as it takes."""
        self._start(self._replace(), "eventbus kafka start")
        self._start(self._watch(), "eventbus kafka watch")

    def _use(self, producer: KafkaProducer) -> None:
        self._current = producer
        self.broker = producer.broker
        self._there.set()
        self._answered()

    async def producer(self) -> KafkaProducer:
        """The one to send with now; waits while there is none."""
        while self._current is None:
            await self._there.wait()
        return self._current

    def poisoned(self, producer: KafkaProducer, reason: str) -> None:
        """It must not be used any more; another takes its place."""
        if producer is not self._current or self._closed:
            return
        self._current = None
        self._there.clear()
        self._tell_replaced(reason)
        self._retiring[producer] = self._start(self._retire(producer), "eventbus kafka retire")
        self._start(self._replace(), "eventbus kafka replace")

    async def _replace(self) -> None:
        while True:
            producer = self._make()
            try:
                await producer.start(self._config.connect_timeout_s)
            except ConnectFailed as error:
                _log.warning("kafka: %s", error)
                self._lost(str(error))
                await asyncio.sleep(self._config.reconnect_delay_s)
            else:
                self._use(producer)
                return

    async def _retire(self, producer: KafkaProducer) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETIRE_S):
                    await producer.finished()
        finally:
            await producer.stop(1.0)
            self._retiring.pop(producer, None)

    # ---- do brokers answer? ------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Ask when a batch waits long for its answer, now and then without that, and often while nobody answers."""
        loop = asyncio.get_running_loop()
        asked_s = answered_s = loop.time()
        while True:
            await asyncio.sleep(self._config.reconnect_delay_s if not self._ready else _LOOK_S)
            producer, now_s = self._current, loop.time()
            if producer is None:
                continue
            suspect = self._oldest_s() > _SUSPECT_S
            pause_s = min(_SUSPECT_S, self._config.ping_interval_s) if suspect else self._config.ping_interval_s
            if self._ready and now_s - asked_s < pause_s:
                continue
            asked_s = now_s
            if await producer.answers(REQUEST_TIMEOUT_S):
                answered_s = loop.time()
                self._answered()
                if suspect and producer is self._current:
                    self._tell_suspect()
            elif producer is self._current:
                self._lost("no broker answers")
                if loop.time() - answered_s > _REBOOTSTRAP_S:
                    self.poisoned(producer, f"no known broker has answered for {_REBOOTSTRAP_S:g} s")

    def _answered(self) -> None:
        if not self._ready:
            self._ready = True
            self._tell_ready()

    def _lost(self, reason: str) -> None:
        if self._ready:
            self._ready = False
            self._tell_lost(reason)

    # ---- the end -----------------------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, timeout_s: float) -> None:
        """Stop everything within ``timeout_s``; what is under way fails."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s / 2):
                    await asyncio.wait(tasks)
        if self._current is not None:
            await self._current.stop(timeout_s / 2)
            self._current = None
