"""NatsioPublishAsync: ``publish_async`` of natsio, another client for asyncio, where it is installed.

natsio is not typed for our Python versions (it needs 3.13), so it is imported by name and used as Any.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.producer import FINISH_TIMEOUT_S, PAYLOAD, SUBJECT, MessageIds, Settings, ticks
from eventbus import LatencyHistogram

_MEASURED_BUFFER_BYTES = 64 * 1024 * 1024


def missing() -> str | None:
    """Why natsio cannot take part, or None if it can."""
    try:
        version = importlib.metadata.version("natsio")
    except importlib.metadata.PackageNotFoundError:
        return "natsio is not installed: `pip install 'natsio>=1'`, on Python 3.13 or later"
    if int(version.split(".")[0]) < 1:
        return f"natsio {version} has no JetStream: `pip install 'natsio>=1'`, on Python 3.13 or later"
    return None


class NatsioPublishAsync:
    """Its futures are dropped, as for nats-py; the window is its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ids = MessageIds()
        self._failed = 0
        self._client: Any = None
        self._jetstream: Any = None

    async def open(self) -> None:
        natsio = importlib.import_module("natsio")
        # For a measurement without answers: else it blocks at 2 MiB of unsent frames, long before the window is full.
        options = {"max_pending_size": _MEASURED_BUFFER_BYTES} if self._settings.unanswered else {}
        self._client = await natsio.connect(self._settings.url, **options)
        self._jetstream = self._client.jetstream(
            publish_async_max_pending=self._settings.window, publish_async_stall_wait=FINISH_TIMEOUT_S
        )
        asyncio.get_running_loop().set_exception_handler(self._on_unseen)

    def _on_unseen(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        self._failed += 1

    def _id(self) -> str | None:
        return self._ids.next() if self._settings.message_ids else None

    def prepare(self, count: int) -> None:
        pass

    async def publish_all(self, count: int) -> int:
        publish_async, next_id = self._jetstream.publish_async, self._id
        failed_before = self._failed
        for _ in range(count):
            await publish_async(SUBJECT, PAYLOAD, msg_id=next_id())
        await self._jetstream.publish_async_complete(timeout=FINISH_TIMEOUT_S)
        return count - (self._failed - failed_before)

    async def publish_paced(self, count: int, rate: float) -> LatencyHistogram:
        publish_async, next_id = self._jetstream.publish_async, self._id
        latencies_ns: list[int] = []

        def acked(sent_ns: int, future: asyncio.Future[object]) -> None:
            if future.exception() is None:
                latencies_ns.append(time.monotonic_ns() - sent_ns)

        async for due in ticks(count, rate):
            for _ in range(due):
                sent_ns = time.monotonic_ns()
                future = await publish_async(SUBJECT, PAYLOAD, msg_id=next_id())
                future.add_done_callback(partial(acked, sent_ns))
        await self._jetstream.publish_async_complete(timeout=FINISH_TIMEOUT_S)
        await asyncio.sleep(0)  # the last callbacks run in the turn after the one that completes
        return LatencyHistogram.of(latencies_ns)

    async def publish_unanswered(self, payloads: Sequence[bytes]) -> int:
        publish_async, next_id = self._jetstream.publish_async, self._id
        for payload in payloads:
            await publish_async(SUBJECT, payload, msg_id=next_id())
        return int(self._jetstream.publish_async_pending)

    async def close(self) -> None:
        await self._client.close()
