"""BareSocket: the floor. Writes frames that were built before, and only counts the acks that come back.

It knows of no message what became of it: it parses nothing, times nothing out and repeats nothing. So it shows what the
server, the kernel and Python's event loop take by themselves, and no publisher that does its work can be cheaper.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Sequence
from typing import cast
from urllib.parse import urlsplit

from benchmarks.producer import FINISH_TIMEOUT_S, PAYLOAD, SUBJECT, MessageIds, Settings, ticks
from eventbus import LatencyHistogram

_FRAMES_PER_WRITE = 256
"""About 64 KiB, what one write to a socket takes at once; also how much room is waited for, to gather writes."""
_MARK = b"MSG "
"""Stands in every ack once and nowhere else: neither the inbox nor the stream has it in its name."""


class BareSocket:
    """See above."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ids = MessageIds()
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._frames: list[bytes] = []
        self._last_token = 0
        self._acks = AckCounter(settings.window)

    async def open(self) -> None:
        address = urlsplit(self._settings.url)
        loop = asyncio.get_running_loop()
        transport, greeting = await loop.create_connection(
            Greeting, address.hostname or "127.0.0.1", address.port or 4222
        )
        options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "lang": "bare"}
        transport.write(b"CONNECT %b\r\nSUB %b.* 1\r\nPING\r\n" % (json.dumps(options).encode(), self._inbox.encode()))
        async with asyncio.timeout(5):
            await greeting.done
        transport.set_protocol(self._acks)
        self._acks.connection_made(transport)

    def prepare(self, count: int) -> None:
        self._frames = [self._frame() for _ in range(count)]

    def _frame(self) -> bytes:
        self._last_token += 1
        head = f"{SUBJECT} {self._inbox}.{self._last_token}"
        if not self._settings.message_ids:
            return b"PUB %b %d\r\n%b\r\n" % (head.encode(), len(PAYLOAD), PAYLOAD)
        block = f"NATS/1.0\r\nNats-Msg-Id: {self._ids.next()}\r\n\r\n".encode()
        return b"HPUB %b %d %d\r\n%b%b\r\n" % (head.encode(), len(block), len(block) + len(PAYLOAD), block, PAYLOAD)

    async def publish_all(self, count: int) -> int:
        before = self._acks.counted
        frames, self._frames = self._frames[:count], []
        async with asyncio.timeout(FINISH_TIMEOUT_S):
            await self._acks.send(frames)
        return self._acks.counted - before

    async def publish_paced(self, count: int, rate: float) -> LatencyHistogram:
        frames, self._frames = self._frames[:count], []
        done = self._acks.time(count)
        out = 0
        async for due in ticks(count, rate):
            self._acks.send_now(frames[out : out + due])
            out += due
        async with asyncio.timeout(FINISH_TIMEOUT_S):
            await done
        return LatencyHistogram.of(self._acks.latencies_ns)

    async def publish_unanswered(self, payloads: Sequence[bytes]) -> int:
        raise NotImplementedError("the bare socket keeps nothing of a message, so nothing of it is pending")

    async def close(self) -> None:
        self._acks.abort()


class Greeting(asyncio.Protocol):
    """Until the server has answered the first PING with PONG."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._seen = b""

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if b"PONG\r\n" in self._seen and not self.done.done():
            self.done.set_result(None)


class AckCounter(asyncio.Protocol):
    """Keeps ``window`` frames in flight: one count per read, writes gathered."""

    def __init__(self, window: int) -> None:
        self.counted = 0
        self.latencies_ns: list[int] = []
        self._window = window
        self._transport: asyncio.WriteTransport | None = None
        self._may_write = True
        self._tail = b""
        self._frames: list[bytes] = []
        self._out = 0  # of these frames
        self._goal = 0
        self._base = 0
        self._sent_ns: deque[int] | None = None
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is one without saying so

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._fill()

    def send(self, frames: list[bytes]) -> asyncio.Future[None]:
        """Send all of these, window by window; done when as many acks have come."""
        self._frames, self._out, self._base = frames, 0, self.counted
        done = self._await(len(frames))
        self._fill()
        return done

    def time(self, count: int) -> asyncio.Future[None]:
        """From now on, keep when each frame was sent: acks of one connection come in the order of its messages."""
        self._frames, self._out = [], 0
        self._sent_ns, self.latencies_ns = deque(), []
        return self._await(count)

    def send_now(self, frames: list[bytes]) -> None:
        """Write these at once."""
        assert self._sent_ns is not None
        assert self._transport is not None
        self._sent_ns.extend([time.monotonic_ns()] * len(frames))
        self._transport.write(b"".join(frames))

    def _await(self, count: int) -> asyncio.Future[None]:
        self._goal = self.counted + count
        self._done = asyncio.get_running_loop().create_future()
        return self._done

    def _fill(self) -> None:
        frames, out = self._frames, self._out
        if out == len(frames):
            return
        assert self._transport is not None
        limit = min(len(frames), self.counted - self._base + self._window)
        if limit - out < _FRAMES_PER_WRITE and limit < len(frames) and self._window > 2 * _FRAMES_PER_WRITE:
            return
        while out < limit and self._may_write:
            upto = min(out + _FRAMES_PER_WRITE, limit)
            self._out = upto
            self._transport.write(b"".join(frames[out:upto]))
            out = upto

    def data_received(self, data: bytes) -> None:
        # The end of a read may be the beginning of a mark, or of a PING: three bytes, too few for a whole one.
        data = self._tail + data
        self._tail = data[-len(_MARK) + 1 :]
        acks = data.count(_MARK)
        self.counted += acks
        if self._sent_ns is not None:
            now_ns = time.monotonic_ns()
            self.latencies_ns += [now_ns - self._sent_ns.popleft() for _ in range(acks)]
        self._fill()
        if b"PING" in data and self._transport is not None:
            self._transport.write(b"PONG\r\n")
        if self.counted >= self._goal and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def abort(self) -> None:
        """Drop the connection."""
        self._done = None
        if self._transport is not None:
            self._transport.abort()
