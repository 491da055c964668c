"""Two ways to publish with aiokafka: ``send`` with a callback for each message, and ``send_and_wait``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks.producer import FINISH_TIMEOUT_S, PAYLOAD, Settings, ticks
from eventbus import LatencyHistogram

_MEASURED_BATCH_BYTES = 64 * 1024 * 1024


class AiokafkaProducer:
    """What the two have in common. Default settings, but that it is idempotent, which includes acks=all.

    batch_bytes: None is aiokafka's default, 16 KiB.
    """

    def __init__(self, settings: Settings, batch_bytes: int | None = None) -> None:
        # Else ``send`` waits at the first full batch while the server stands still, long before the window is full.
        self._batch_bytes = _MEASURED_BATCH_BYTES if settings.unanswered else batch_bytes
        self._settings = settings
        self._topic = settings.topic
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        size = {} if self._batch_bytes is None else {"max_batch_size": self._batch_bytes}
        servers = self._settings.url.removeprefix("kafka://")
        producer = AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True, acks="all", **size)
        self._producer = producer
        await producer.start()

    def prepare(self, count: int) -> None:
        pass

    async def publish_paced(self, count: int, rate: float) -> LatencyHistogram:
        raise NotImplementedError("waits for acks before it goes on, so it keeps no given rate")

    async def publish_unanswered(self, payloads: Sequence[bytes]) -> int:
        raise NotImplementedError("waits for acks before it goes on")

    async def close(self) -> None:
        await self._open_producer().stop()

    def _open_producer(self) -> AIOKafkaProducer:
        assert self._producer is not None, "open() comes first"
        return self._producer


class SendAndWait(AiokafkaProducer):
    """``await producer.send_and_wait(...)``, one after the other: nothing is ever in flight but the one message."""

    async def publish_all(self, count: int) -> int:
        send_and_wait, topic = self._open_producer().send_and_wait, self._topic
        for _ in range(count):
            await send_and_wait(topic, PAYLOAD)
        return count


class Send(AiokafkaProducer):
    """``send``, and a done callback on the future of each message.

    aiokafka bounds bytes, not messages: one unsent batch a partition, after which ``send`` waits. So that the bound is
    the same for all, what is in flight is counted, up in ``send``'s loop and down in the callback.
    """

    def __init__(self, settings: Settings, batch_bytes: int | None = None) -> None:
        super().__init__(settings, batch_bytes)
        self._in_flight = 0
        self._acked = 0
        self._limit = 0
        self._below: asyncio.Future[None] | None = None

    def _done(self, future: asyncio.Future[Any]) -> None:
        if future.exception() is None:
            self._acked += 1
        self._in_flight -= 1
        if self._below is not None and self._in_flight <= self._limit and not self._below.done():
            self._below.set_result(None)

    async def _until(self, limit: int) -> None:
        """Wait until no more than so many are in flight."""
        if self._in_flight > limit:
            self._limit, self._below = limit, asyncio.get_running_loop().create_future()
            async with asyncio.timeout(FINISH_TIMEOUT_S):
                await self._below
            self._below = None

    async def publish_all(self, count: int) -> int:
        send, topic, window, done = self._open_producer().send, self._topic, self._settings.window, self._done
        acked_before = self._acked
        for _ in range(count):
            if self._in_flight >= window:
                await self._until(window - 1)
            future = await send(topic, PAYLOAD)
            self._in_flight += 1
            future.add_done_callback(done)
        await self._until(0)
        return self._acked - acked_before

    async def publish_paced(self, count: int, rate: float) -> LatencyHistogram:
        send, topic = self._open_producer().send, self._topic
        latencies_ns: list[int] = []

        def done(sent_ns: int, future: asyncio.Future[Any]) -> None:
            if future.exception() is None:
                latencies_ns.append(time.monotonic_ns() - sent_ns)
            self._done(future)

        async for due in ticks(count, rate):
            for _ in range(due):
                sent_ns = time.monotonic_ns()
                future = await send(topic, PAYLOAD)
                self._in_flight += 1
                future.add_done_callback(partial(done, sent_ns))
        await self._until(0)
        return LatencyHistogram.of(latencies_ns)

    async def publish_unanswered(self, payloads: Sequence[bytes]) -> int:
        send, topic, done = self._open_producer().send, self._topic, self._done
        for payload in payloads:
            future = await send(topic, payload)
            self._in_flight += 1
            future.add_done_callback(done)
        return self._in_flight
