"""Proxy: a TCP proxy on loopback that can make the network between a client and its server bad, on purpose.

Run by ``network.py`` (same folder) as ``python -I -S proxy.py``; it therefore imports nothing of this package. In a
process of its own, because whoever asks for a fault may stop for a while, and the network must not stop with it.

    client ──► Way "up"   ──► server
    client ◄── Way "down" ◄── server

What a Way does to the bytes that pass is said by the proxy's Disturbance. TCP has no holes: a connection that lost
bytes in a blackhole can never go on, so it is reset when the blackhole ends, as by a router that forgot it.

Bounded: a way holds at most MAX_BUFFERED bytes, then its source is no longer read, which slows the sender as a full
network does. So a delay also limits what can be under way: 8 MiB in 1 s.

Protocol of the process: the first line on its socket is {"server_port"}, answered by {"id": 0, "port"}; each later line
is {"id", "command", "arguments"}, answered by {"id", "error", "connections", "passed", "lost"}. It ends at the end of
file: whoever started it is gone, and with it goes every connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

LOOPBACK = "127.0.0.1"
UP, DOWN = "up", "down"
"""From the client to the server, and back."""
MAX_BUFFERED = 8 * 1024 * 1024
"""Bytes that one way of one connection holds at most, but for the one read that goes beyond."""
MAX_CONNECTIONS = 256
MAX_DELAY_S = 30.0
CONNECT_TIMEOUT_S = 5.0
PIECE_S = 0.02
"""Where bytes per second are limited, data goes on in pieces of this duration, not in bursts of a whole read."""
CHANNEL = 0
"""Descriptor of the socket to the program."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What happens to bytes that pass. Default: nothing.

    delay_s: added to each way, so a round trip takes twice that longer. jitter_s: up to this more, at random, without
    changing the order. bytes_per_s: of each way of each connection; None for no limit. blackhole: ways on which
    everything is lost. Raises ValueError.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    blackhole: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not (self.delay_s >= 0 and self.jitter_s >= 0 and self.delay_s + self.jitter_s <= MAX_DELAY_S):
            raise ValueError(f"delay_s {self.delay_s}, jitter_s {self.jitter_s}: use 0 to {MAX_DELAY_S:.0f} s together")
        if self.bytes_per_s is not None and not 1 <= self.bytes_per_s < float("inf"):
            raise ValueError(f"bytes_per_s is {self.bytes_per_s}; use 1 or more, or None for no limit")
        if not self.blackhole <= {UP, DOWN}:
            raise ValueError(f"blackhole is {sorted(self.blackhole)}; known ways are {UP} and {DOWN}")

    @property
    def holds(self) -> bool:
        """Whether bytes are held back at all."""
        return bool(self.delay_s or self.jitter_s or self.bytes_per_s)


class Way:
    """One direction of one connection: takes what its source sent, hands it to its sink when its time has come.

    State: ``_held``, of ``held_bytes``; what is in it goes out in its order. ``lost`` once bytes were thrown away.
    """

    def __init__(
        self,
        proxy: Proxy,
        name: str,
        source: asyncio.Transport,
        sink: asyncio.Transport,
        closed: Callable[[], None],
    ) -> None:
        self._proxy, self._name, self._source, self._sink, self._closed = proxy, name, source, sink, closed
        self._loop = asyncio.get_running_loop()
        self._held: deque[tuple[float, bytes]] = deque()
        self.held_bytes = 0
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ended: Callable[[], None] | None = None
        self._sink_full = self.reading_paused = False
        self.lost = self.closed = False

    def pass_on(self, data: bytes) -> None:
        """Bytes from the source."""
        disturbance = self._proxy.disturbance
        if self.closed or self.lost or self._name in disturbance.blackhole:
            self.lost = self.lost or not self.closed  # after a hole nothing that follows could be understood
            self._proxy.lost[self._name] += len(data)
        elif not self._held and not disturbance.holds:
            self._proxy.passed[self._name] += len(data)
            self._sink.write(data)
        else:
            self._hold(data, disturbance)

    def end(self, after: Callable[[], None]) -> None:
        """The source has ended; ``after`` is called once everything held is out. The first call counts."""
        if self._ended is None:
            self._ended = after
            self._let_out()

    def close(self) -> None:
        """Let nothing through any more, and tell the sink so (a half-close)."""
        if self.closed:
            return
        self.closed = True
        self.forget()
        if not self._sink.is_closing() and self._sink.can_write_eof():
            self._sink.write_eof()
        self._closed()

    def forget(self) -> None:
        """Drop what is held; the connection is over."""
        self._held.clear()
        self.held_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        """Read from the source again, unless there is no room for what it says."""
        if not self.reading_paused and not self._source.is_closing():
            self._source.resume_reading()

    def sink_is_full(self, full: bool) -> None:
        """The sink's buffer is full, or has room again."""
        self._sink_full = full
        self._pace()

    def _hold(self, data: bytes, disturbance: Disturbance) -> None:
        now = self._loop.time()
        size = len(data)
        if disturbance.bytes_per_s is not None:
            size = max(1, int(disturbance.bytes_per_s * PIECE_S))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            due = now + disturbance.delay_s + self._proxy.chance() * disturbance.jitter_s
            if disturbance.bytes_per_s is not None:
                self._free_at = max(self._free_at, now) + len(piece) / disturbance.bytes_per_s
                due = max(due, self._free_at + disturbance.delay_s)
            if self._held:
                due = max(due, self._held[-1][0])
            self._held.append((due, piece))
        self.held_bytes += len(data)
        self._let_out()

    def _let_out(self) -> None:
        now = self._loop.time()
        ready: list[bytes] = []
        while self._held and self._held[0][0] <= now:
            ready.append(self._held.popleft()[1])
        if ready:
            data = b"".join(ready)
            self.held_bytes -= len(data)
            self._proxy.passed[self._name] += len(data)
            self._sink.write(data)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._held[0][0], self._let_out) if self._held else None
        self._pace()
        if self._ended is not None and not self._held:
            self._ended()

    def _pace(self) -> None:
        """Read from the source only while there is room for what it says."""
        full = self._sink_full or self.held_bytes >= MAX_BUFFERED
        if full != self.reading_paused and not self._source.is_closing():
            self.reading_paused = full
            if full:
                self._source.pause_reading()
            else:
                self._source.resume_reading()


class Connection:
    """A client, its connection to the server, and the two ways between them."""

    def __init__(self, proxy: Proxy, client: asyncio.Transport) -> None:
        self._proxy, self._client = proxy, client
        self._server: asyncio.Transport | None = None
        self.ways: dict[str, Way] = {}

    async def open(self, client_end: End) -> None:
        """Connect to the server; where there is none, the client is reset."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: ServerEnd(self, client_end), LOOPBACK, self._proxy.server_port
                )
        except (OSError, TimeoutError):
            self.reset()

    def opened(self, server: asyncio.Transport, client_end: End, server_end: End) -> None:
        """Let data through: the server is there."""
        self._server = server
        if self._client.is_closing():
            self.reset()
            return
        up = Way(self._proxy, UP, self._client, server, self._way_closed)
        down = Way(self._proxy, DOWN, server, self._client, self._way_closed)
        self.ways = {UP: up, DOWN: down}
        client_end.joined(up, down)
        server_end.joined(down, up)

    def wait_for_server(self) -> None:
        """Read no more of what the client says before there is somebody to say it to."""
        if self._client.is_reading():
            self._client.pause_reading()

    def finished(self, way: Way) -> None:
        """One of the ends is gone: what it sent still arrives, then the other goes as well."""
        way.end(self.close)

    def close(self) -> None:
        """End both sides in good order."""
        self._over()
        for transport in (self._client, self._server):
            if transport is not None and not transport.is_closing():
                transport.close()

    def reset(self) -> None:
        """End both sides at once, by RST."""
        self._over()
        for transport in (self._client, self._server):
            if transport is not None:
                _reset(transport)

    def _way_closed(self) -> None:
        if all(way.closed for way in self.ways.values()):
            self.close()

    def _over(self) -> None:
        self._proxy.connections.discard(self)
        for way in self.ways.values():
            way.forget()


class End(asyncio.Protocol):
    """One of the two sockets of a connection, as asyncio tells of it."""

    def __init__(self, connection: Connection | None = None) -> None:
        self.connection = connection
        self._out: Way | None = None
        self._back: Way | None = None
        self._early: bytes | None = None
        self._ended_early = False

    def joined(self, out: Way, back: Way) -> None:
        """out: where this end's bytes go. back: what writes to it."""
        self._out, self._back = out, back
        early, self._early = self._early, None
        if early is not None:
            out.pass_on(early)
            out.resume()
        if self._ended_early:
            self.eof_received()

    def data_received(self, data: bytes) -> None:
        """Pass it on. While the server is not there yet, keep one read and read no more."""
        if self._out is not None:
            self._out.pass_on(data)
            return
        self._early = data if self._early is None else self._early + data
        if self.connection is not None:
            self.connection.wait_for_server()

    def eof_received(self) -> bool:
        """True: the other direction stays open (a half-close)."""
        if self._out is None:
            self._ended_early = True
        elif not self._out.lost:
            self._out.end(self._out.close)
        return True

    def pause_writing(self) -> None:
        """Nobody reads here: slow down who writes."""
        if self._back is not None:
            self._back.sink_is_full(True)

    def resume_writing(self) -> None:
        """There is room again."""
        if self._back is not None:
            self._back.sink_is_full(False)

    def connection_lost(self, error: Exception | None) -> None:
        """The other end goes as well: at once after a reset, else once everything has arrived."""
        if self.connection is None:
            return
        if error is not None or self._out is None or self._back is None or self._back.closed:
            self.connection.reset() if error is not None else self.connection.close()
        else:
            self.connection.finished(self._out)


class ServerEnd(End):
    """The server, once it is connected: what it says first may come at once."""

    def __init__(self, connection: Connection, client_end: End) -> None:
        super().__init__(connection)
        self._client_end = client_end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the two ends."""
        assert self.connection is not None
        self.connection.opened(cast(asyncio.Transport, transport), self._client_end, self)


class ClientEnd(End):
    """A client that has just connected."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy = proxy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect it to the server."""
        client = cast(asyncio.Transport, transport)
        if len(self._proxy.connections) >= MAX_CONNECTIONS:
            _reset(client)
            return
        self.connection = Connection(self._proxy, client)
        self._proxy.connections.add(self.connection)
        self._proxy.spawn(self.connection.open(self))


class Proxy:
    """Listens on a port of 127.0.0.1 and passes everything on to ``server_port`` there. Lives on one event loop.

    chance: a random number from 0 to 1, for jitter. disturbance: what is done now; change it by ``disturb``.
    passed, lost: bytes so far, by way.
    """

    def __init__(self, server_port: int, *, chance: Callable[[], float] = random.random) -> None:
        self.server_port, self.chance = server_port, chance
        self.disturbance = Disturbance()
        self.connections: set[Connection] = set()
        self.passed, self.lost = {UP: 0, DOWN: 0}, {UP: 0, DOWN: 0}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._resets: asyncio.TimerHandle | None = None

    async def start(self) -> int:
        """Begin to listen; the port. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: ClientEnd(self), LOOPBACK, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def disturb(self, disturbance: Disturbance) -> None:
        """From now on do this instead. What is held goes out in its time; connections with a hole are reset."""
        self.disturbance = disturbance
        if not disturbance.blackhole:
            for connection in [one for one in self.connections if any(way.lost for way in one.ways.values())]:
                connection.reset()

    def reset(self, every_s: float = 0.0) -> None:
        """Reset every connection, now and, if ``every_s`` is more than 0, again each time until ``reset_no_more``."""
        self.reset_no_more()
        for connection in list(self.connections):
            connection.reset()
        if every_s > 0:
            self._resets = asyncio.get_running_loop().call_later(every_s, self.reset, every_s)

    def reset_no_more(self) -> None:
        """End the repetition. Idempotent."""
        if self._resets is not None:
            self._resets.cancel()
            self._resets = None

    def half_close(self, way: str) -> None:
        """On every connection, end this way for good; the other goes on. Raises ValueError."""
        if way not in (UP, DOWN):
            raise ValueError(f"way is {way!r}; known are {UP} and {DOWN}")
        for connection in list(self.connections):
            if way in connection.ways:
                connection.ways[way].close()

    def spawn(self, work: Any) -> None:
        """Run it in the background until it ends or the proxy does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Listen no more and reset what is open. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if server is not None:
            await server.wait_closed()


def _reset(transport: asyncio.Transport) -> None:
    """RST instead of FIN: closing with a linger of 0 s says that."""
    with contextlib.suppress(OSError, AttributeError):  # gone already
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def carry_out(proxy: Proxy, command: str, arguments: Mapping[str, Any]) -> None:
    """One command of the program. Raises ValueError or TypeError for what cannot be meant."""
    match command:
        case "disturb":
            blackhole = frozenset(arguments.get("blackhole", ()))
            proxy.disturb(Disturbance(**{**arguments, "blackhole": blackhole}))
        case "reset":
            proxy.reset(float(arguments.get("every_s", 0.0)))
        case "reset_no_more":
            proxy.reset_no_more()
        case "half_close":
            proxy.half_close(arguments["way"])
        case "status":
            pass
        case _:
            raise ValueError(f"unknown command {command}")


async def serve(channel: socket.socket) -> None:
    """Answer commands until the end of file."""
    reader, writer = await asyncio.open_connection(sock=channel)
    settings = json.loads(await reader.readline() or b"null")
    if settings is None:
        return
    proxy = Proxy(settings["server_port"])
    try:
        writer.write(json.dumps({"id": 0, "port": await proxy.start()}).encode() + b"\n")
        while line := await reader.readline():
            request, error = json.loads(line), None
            try:
                carry_out(proxy, request["command"], request["arguments"])
            except (ValueError, TypeError, KeyError) as wrong:
                error = str(wrong)
            state = {"connections": len(proxy.connections), "passed": proxy.passed, "lost": proxy.lost}
            writer.write(json.dumps({"id": request["id"], "error": error, **state}).encode() + b"\n")
    finally:
        await proxy.stop()


def main() -> None:
    """Serve, and leave nothing behind in any case."""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        asyncio.run(serve(socket.socket(fileno=os.dup(CHANNEL))))


if __name__ == "__main__":
    main()
