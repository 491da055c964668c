"""Arena: one embedded nats-server, a fresh stream in memory for every round of a contestant, a process for each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
from nats.js import JetStreamContext
from nats.js.api import StorageType, StreamConfig
from nats.js.errors import NotFoundError

from benchmarks.producer import STREAM, SUBJECT
from eventbus.embedded.nats import EmbeddedNats

PROCESS_TIMEOUT_S = 180.0
_STORED_TIMEOUT_S = 5.0
"""Without acks a contestant ends before the stream has stored what the server has read."""
_ROOT = Path(__file__).parents[1]


class ContestantFailed(Exception):
    """A contestant ended without a result; the text is the end of what it wrote to standard error."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A contestant's name and the event loop that it runs on."""

    name: str
    loop: str


class Arena:
    """See above. ``server_version`` as the server says it."""

    def __init__(self, server: EmbeddedNats, jetstream: JetStreamContext, server_version: str) -> None:
        self._server = server
        self._jetstream = jetstream
        self.server_version = server_version

    async def race(self, entry: Entry, messages: int, window: int, *, paced: int, rate: float) -> dict[str, Any]:
        """One round. Adds ``stored``, what the stream holds afterwards. Raises ContestantFailed."""
        await self._fresh_stream(no_ack=False)
        result = await self._run(entry, window, "--messages", str(messages), "--paced", str(paced), "--rate", str(rate))
        result["stored"] = await self._stored(result["published"])
        return result

    async def weigh(self, entry: Entry, messages: int, window: int) -> dict[str, Any]:
        """Memory per pending message, with a stream that never acknowledges. Raises ContestantFailed."""
        await self._fresh_stream(no_ack=True)
        return await self._run(entry, window, "--memory", str(messages), taken=messages)

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

    async def _run(self, entry: Entry, window: int, *arguments: str, taken: int = 0) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.contestant", entry.name, "--url", self._server.url, "--loop", entry.loop,
            "--window", str(window), *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=_ROOT,
        )  # fmt: skip
        assert process.stderr is not None
        complaints = asyncio.ensure_future(process.stderr.read())
        try:
            async with asyncio.timeout(PROCESS_TIMEOUT_S):
                answer = await self._attend(process, taken)
                await process.wait()
        except TimeoutError:
            raise ContestantFailed(f"no result within {PROCESS_TIMEOUT_S:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await asyncio.to_thread(self._server.resume)  # it may have died while the server stood still
            words = (await complaints).decode(errors="replace").strip().splitlines()
        if process.returncode or not answer:
            raise ContestantFailed("\n".join(words[-3:]) or f"exit code {process.returncode}")
        result: dict[str, Any] = json.loads(answer)
        return result

    async def _attend(self, process: asyncio.subprocess.Process, taken: int) -> bytes:
        """Freeze and thaw the server when asked to; the line that is neither is the result.

        A thaw is answered when the stream holds ``taken`` messages.
        """
        assert process.stdout is not None
        assert process.stdin is not None
        while line := await process.stdout.readline():
            word = line.strip()
            if word not in (b"freeze", b"thaw"):
                return line
            if word == b"freeze":
                await asyncio.to_thread(self._server.pause)
            else:
                await asyncio.to_thread(self._server.resume)
                await self._stored(taken)
            process.stdin.write(b"\n")
            await process.stdin.drain()
        return b""


@contextlib.asynccontextmanager
async def open_arena() -> AsyncIterator[Arena]:
    """Start the server, and end it with everything in it."""
    server = EmbeddedNats()
    await asyncio.to_thread(server.start)
    try:
        client = await nats.connect(server.url)
        try:
            version = client.connected_server_version
            yield Arena(server, client.jetstream(), f"{version.major}.{version.minor}.{version.patch}")
        finally:
            await client.close()
    finally:
        await asyncio.shield(asyncio.to_thread(server.stop))
