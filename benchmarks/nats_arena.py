"""NatsArena: one embedded nats-server, and a fresh stream in memory for every round of a contestant."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import nats
from nats.js import JetStreamContext
from nats.js.api import StorageType, StreamConfig
from nats.js.errors import NotFoundError

from benchmarks.arena import Entry, run_contestant
from benchmarks.producer import STREAM, SUBJECT
from eventbus.embedded.nats import EmbeddedNats

_STORED_TIMEOUT_S = 5.0
"""Without acks a contestant ends before the stream has stored what the server has read."""


class NatsArena:
    """An ``Arena``. ``version`` as the server says it."""

    broker = "nats-server"
    setup = "memory storage"
    can_weigh = True

    def __init__(self, server: EmbeddedNats, jetstream: JetStreamContext, version: str) -> None:
        self._server = server
        self._jetstream = jetstream
        self.version = version

    async def race(self, entry: Entry, messages: int, window: int, *, paced: int, rate: float) -> dict[str, Any]:
        await self._fresh_stream(no_ack=False)
        result = await run_contestant(
            "nats", entry, self._server.url, window,
            "--messages", str(messages), "--paced", str(paced), "--rate", str(rate),
        )  # fmt: skip
        result["stored"] = await self._stored(result["published"])
        return result

    async def weigh(self, entry: Entry, messages: int, window: int) -> dict[str, Any]:
        """With a stream that never acknowledges. A thaw is answered when it holds all messages."""

        async def freeze() -> None:
            await asyncio.to_thread(self._server.pause)

        async def thaw() -> None:
            await asyncio.to_thread(self._server.resume)
            await self._stored(messages)

        await self._fresh_stream(no_ack=True)
        deeds = {"freeze": freeze, "thaw": thaw}
        try:
            return await run_contestant(
                "nats", entry, self._server.url, window, "--memory", str(messages), deeds=deeds
            )  # fmt: skip
        finally:
            await asyncio.to_thread(self._server.resume)  # it may have died while the server stood still

    async def clear(self) -> None:
        """Delete the stream: memory of one round is no burden on the next."""
        with contextlib.suppress(NotFoundError):
            await self._jetstream.delete_stream(STREAM)

    async def _fresh_stream(self, *, no_ack: bool) -> None:
        await self.clear()
        await self._jetstream.add_stream(
            StreamConfig(
                name=STREAM, subjects=[SUBJECT], storage=StorageType.MEMORY, no_ack=no_ack, duplicate_window=120.0
            )
        )

    async def _stored(self, expected: int) -> int:
        """Messages in the stream, once it has ``expected`` or has not grown for a while."""
        deadline = time.monotonic() + _STORED_TIMEOUT_S
        while True:
            stored = (await self._jetstream.stream_info(STREAM)).state.messages
            if stored >= expected or time.monotonic() > deadline:
                return stored
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def open_nats_arena() -> AsyncIterator[NatsArena]:
    """Start the server, and end it with everything in it."""
    server = EmbeddedNats()
    await asyncio.to_thread(server.start)
    try:
        client = await nats.connect(server.url)
        try:
            version = client.connected_server_version
            yield NatsArena(server, client.jetstream(), f"{version.major}.{version.minor}.{version.patch}")
        finally:
            await client.close()
    finally:
        await asyncio.shield(asyncio.to_thread(server.stop))
