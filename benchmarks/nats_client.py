"""Three ways to publish with nats-py, each as its documentation has it: one by one, gathered, and asynchronously."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

import nats
from nats.aio.client import Client
from nats.js import JetStreamContext

from benchmarks.producer import FINISH_TIMEOUT_S, PAYLOAD, SUBJECT, MessageIds, Settings, ticks
from eventbus import LatencyHistogram

_MEASURED_BUFFER_BYTES = 64 * 1024 * 1024


class NatsClient:
    """What the three have in common. Default settings, but for the window."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ids = MessageIds()
        self._client = Client()
        self._jetstream: JetStreamContext = self._client.jetstream()

    async def open(self) -> None:
        if self._settings.unanswered:
            # Else the client blocks at 2 MiB of unsent frames, long before the window is full.
            self._client = await nats.connect(self._settings.url, pending_size=_MEASURED_BUFFER_BYTES)
        else:
            self._client = await nats.connect(self._settings.url)
        self._jetstream = self._client.jetstream(publish_async_max_pending=self._settings.window)

    def _headers(self) -> dict[str, str] | None:
        return {"Nats-Msg-Id": self._ids.next()} if self._settings.message_ids else None

    def prepare(self, count: int) -> None:
        pass

    async def publish_paced(self, count: int, rate: float) -> LatencyHistogram:
        raise NotImplementedError("waits for acks before it goes on, so it keeps no given rate")

    async def publish_unanswered(self, payloads: Sequence[bytes]) -> int:
        raise NotImplementedError("waits for acks before it goes on")

    async def close(self) -> None:
        await self._client.close()


class Publish(NatsClient):
    """``await js.publish(...)``, one after the other: nothing is ever in flight but the one message."""

    async def publish_all(self, count: int) -> int:
        publish, headers = self._jetstream.publish, self._headers
        for _ in range(count):
            await publish(SUBJECT, PAYLOAD, headers=headers())
        return count


class GatherPublish(NatsClient):
    """``asyncio.gather`` of a window full of ``js.publish``, then of the next."""

    async def publish_all(self, count: int) -> int:
        publish, headers = self._jetstream.publish, self._headers
        acked = 0
        while acked < count:
            chunk = min(self._settings.window, count - acked)
            # Its default timeout of 5 s begins with the call, and the last of a window may wait that long.
            acks = [publish(SUBJECT, PAYLOAD, FINISH_TIMEOUT_S, headers=headers()) for _ in range(chunk)]
            await asyncio.gather(*acks)
            acked += chunk
        return acked


class PublishAsync(NatsClient):
    """``js.publish_async`` with its futures dropped: the cheapest correct use.

    A window of its own bounds what is in flight, ``publish_async_completed`` waits for the rest, and a future that
    fails unseen is reported to the loop's exception handler, which counts it here.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._failed = 0

    async def open(self) -> None:
        await super().open()
        asyncio.get_running_loop().set_exception_handler(self._on_unseen)

    def _on_unseen(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        self._failed += 1

    async def publish_all(self, count: int) -> int:
        publish_async, headers = self._jetstream.publish_async, self._headers
        failed_before = self._failed
        for _ in range(count):
            await publish_async(SUBJECT, PAYLOAD, headers=headers())
        async with asyncio.timeout(FINISH_TIMEOUT_S):
            await self._jetstream.publish_async_completed()
        return count - (self._failed - failed_before)

    async def publish_paced(self, count: int, rate: float) -> LatencyHistogram:
        publish_async, headers = self._jetstream.publish_async, self._headers
        latencies_ns: list[int] = []

        def acked(sent_ns: int, future: asyncio.Future[object]) -> None:
            if future.exception() is None:
                latencies_ns.append(time.monotonic_ns() - sent_ns)

        async for due in ticks(count, rate):
            for _ in range(due):
                sent_ns = time.monotonic_ns()
                future = await publish_async(SUBJECT, PAYLOAD, headers=headers())
                future.add_done_callback(partial(acked, sent_ns))
        async with asyncio.timeout(FINISH_TIMEOUT_S):
            await self._jetstream.publish_async_completed()
        await asyncio.sleep(0)  # the last callbacks run in the turn after the one that completes
        return LatencyHistogram.of(latencies_ns)

    async def publish_unanswered(self, payloads: Sequence[bytes]) -> int:
        publish_async, headers = self._jetstream.publish_async, self._headers
        for payload in payloads:
            await publish_async(SUBJECT, payload, headers=headers())
        return self._jetstream.publish_async_pending()
