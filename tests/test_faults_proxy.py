"""The proxy in front of an embedded broker: it passes everything on, and each disturbance does what it says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from eventbus.errors import ConnectFailed
from eventbus.faults import Disturbance, Network
from eventbus.faults.proxy import DOWN, LOOPBACK, MAX_BUFFERED, MAX_CONNECTIONS, UP, Proxy
from tests.nats_tools import DEADLINE_S, eventually

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Echo:
    """A server that sends back what it gets, unless told to be silent; it notes what came."""

    port: int = 0
    got: bytearray = field(default_factory=bytearray)
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    answering: bool = True
    ended: int = 0
    reset: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self.reading.wait()
                data = await reader.read(65536)
                if not data:
                    self.ended += 1
                    break
                self.got += data
                if self.answering:
                    writer.write(data)
                    await writer.drain()
        except ConnectionError:
            self.reset += 1
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[Echo]:
    state = Echo()
    state.reading.set()
    server = await asyncio.start_server(state.serve, LOOPBACK, 0)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()


@contextlib.asynccontextmanager
async def proxied(chance: Callable[[], float] = lambda: 0.5) -> AsyncIterator[tuple[Echo, Proxy, int]]:
    async with echo() as server:
        proxy = Proxy(server.port, chance=chance)
        try:
            yield server, proxy, await proxy.start()
        finally:
            await proxy.stop()
            assert not proxy.connections


@contextlib.asynccontextmanager
async def client(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield reader, writer
    finally:
        writer.close()


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> float:
    """How long the answer took, in seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    return loop.time() - began


async def test_undisturbed_proxy_changes_nothing() -> None:
    """A megabyte goes through both ways unchanged, ends arrive as ends, and nothing is left."""
    data = os.urandom(1_000_000)
    async with proxied() as (server, proxy, port), client(port) as (reader, writer):
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        assert bytes(server.got) == data
        assert proxy.passed == {UP: len(data), DOWN: len(data)}
        writer.write_eof()
        assert await reader.read() == b""
        await eventually(lambda: not proxy.connections, "the connection ends on both sides")
        assert (server.ended, server.reset) == (1, 0)


async def test_delay_holds_each_way_back() -> None:
    """A round trip takes two delays and what chance makes of the jitter, and afterwards none."""
    async with proxied() as (_, proxy, port), client(port) as (reader, writer):
        assert await answered(reader, writer, b"quick") < 0.1
        proxy.disturb(Disturbance(delay_s=0.1, jitter_s=0.1))
        assert await answered(reader, writer, b"slow") >= 2 * (0.1 + 0.5 * 0.1)
        proxy.disturb(Disturbance())
        assert await answered(reader, writer, b"quick") < 0.1


async def test_jitter_keeps_the_order() -> None:
    """What is delayed less than what was sent before it waits for that, as TCP has it."""
    chances = iter([1.0, 0.0] * 200)
    async with proxied(lambda: next(chances)) as (_, proxy, port), client(port) as (reader, writer):
        proxy.disturb(Disturbance(jitter_s=0.03))
        sent = b""
        for n in range(50):
            writer.write(b"%04d" % n)
            sent += b"%04d" % n
            await asyncio.sleep(0)
        assert await reader.readexactly(len(sent)) == sent


async def test_bandwidth_is_limited() -> None:
    """60 kB at 200 kB/s take 0.3 s, in small pieces, and everything arrives."""
    async with proxied() as (server, proxy, port), client(port) as (_, writer):
        server.answering = False
        proxy.disturb(Disturbance(bytes_per_s=200_000))
        loop = asyncio.get_running_loop()
        began = loop.time()
        writer.write(bytes(60_000))
        await eventually(lambda: len(server.got) > 0, "the first piece comes")
        assert len(server.got) < 30_000
        await eventually(lambda: len(server.got) == 60_000, "all of it comes")
        assert loop.time() - began >= 0.25


async def test_blackhole_of_answers_loses_them_and_resets_at_its_end() -> None:
    """The server hears everything, the client nothing; a stream with a hole in it cannot go on, a new one can."""
    async with proxied() as (server, proxy, port):
        async with client(port) as (reader, writer):
            assert await answered(reader, writer, b"before") < 1
            proxy.disturb(Disturbance(blackhole=frozenset({DOWN})))
            writer.write(b"unheard")
            await eventually(lambda: proxy.lost[DOWN] == 7, "the answer is lost")
            assert bytes(server.got) == b"beforeunheard"
            proxy.disturb(Disturbance())
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
        async with client(port) as (reader, writer):
            assert await answered(reader, writer, b"after") < 1


async def test_blackhole_spares_connections_that_lost_nothing() -> None:
    """A connection on which nothing was said meanwhile goes on."""
    async with proxied() as (_, proxy, port), client(port) as (reader, writer):
        await answered(reader, writer, b"before")
        proxy.disturb(Disturbance(blackhole=frozenset({UP, DOWN})))
        proxy.disturb(Disturbance())
        await answered(reader, writer, b"after")


async def test_reset_breaks_both_sides_off() -> None:
    """Client and server both see a reset, and who connects again is served until the next one."""
    async with proxied() as (server, proxy, port):
        for n in range(1, 4):
            async with client(port) as (reader, writer):
                await answered(reader, writer, b"x")
                if n == 1:
                    proxy.reset(every_s=0.05)
                with pytest.raises(ConnectionResetError):
                    await reader.readexactly(1)
            await eventually(lambda n=n: server.reset == n, "the server sees it")  # type: ignore[misc]
        proxy.reset_no_more()
        async with client(port) as (reader, writer):
            await answered(reader, writer, b"x")


async def test_half_close_ends_one_way_only() -> None:
    """The server reads an end and can still answer; what the client says later goes nowhere."""
    async with proxied() as (server, proxy, port), client(port) as (reader, writer):
        server.reading.clear()
        writer.write(b"last words")
        await eventually(lambda: proxy.passed[UP] == 10, "they passed")
        proxy.half_close(UP)
        writer.write(b"unheard")
        await eventually(lambda: proxy.lost[UP] == 7, "nobody hears")
        server.reading.set()
        assert await reader.read() == b"last words"
        assert server.ended == 1


async def test_held_bytes_are_bounded() -> None:
    """With a long delay the source is read no further than the bound, and is slowed as by a full network."""
    async with proxied() as (server, proxy, port), client(port) as (reader, writer):
        await answered(reader, writer, b"x")
        proxy.disturb(Disturbance(delay_s=30))
        (connection,) = proxy.connections
        way = connection.ways[UP]
        writer.write(bytes(3 * MAX_BUFFERED))
        await eventually(lambda: way.reading_paused, "reading pauses")
        assert MAX_BUFFERED <= way.held_bytes <= MAX_BUFFERED + 1024 * 1024
        assert len(server.got) == 1


async def test_slow_reader_slows_the_writer() -> None:
    """Without any disturbance: a server that does not read stops the client, and the proxy keeps little."""
    async with proxied() as (server, _, port), client(port) as (_, writer):
        server.reading.clear()
        data = bytes(1024 * 1024)
        full = False
        for _ in range(64):
            writer.write(data)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await writer.drain()
                    continue
            full = True
            break
        assert full, "64 MiB went into a connection that nobody reads"
        server.answering = False
        server.reading.set()
        await writer.drain()


async def test_server_that_is_not_there_resets_the_client() -> None:
    """A proxy cannot refuse what it accepted; the client sees a reset instead, and a later one is served."""
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    proxy = Proxy(port)
    listening = await proxy.start()
    async with client(listening) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
    await proxy.stop()
    assert not proxy.connections


async def test_what_a_client_says_at_once_arrives() -> None:
    """Also what it said, and that it ended, before the proxy had reached the server."""
    async with proxied() as (server, _, port):
        for _ in range(20):
            async with client(port) as (reader, writer):
                writer.write(b"hello")
                writer.write_eof()
                assert await reader.read() == b"hello"
        assert (len(server.got), server.ended) == (100, 20)


async def test_connections_are_bounded() -> None:
    """One more than the bound is reset; the others go on."""
    async with proxied() as (_, proxy, port), contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(client(port)) for _ in range(MAX_CONNECTIONS)]
        await eventually(lambda: len(proxy.connections) == MAX_CONNECTIONS, "all are there")
        async with client(port) as (reader, _):
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
        await answered(*held[0], b"x")


@pytest.mark.parametrize(
    "wrong",
    [{"delay_s": -1.0}, {"delay_s": 20.0, "jitter_s": 11.0}, {"bytes_per_s": 0.0}, {"blackhole": frozenset({"left"})}],
)
def test_disturbance_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    """What was given and what is allowed stands in the error."""
    with pytest.raises(ValueError, match=r"use |known ways"):
        Disturbance(**wrong)  # type: ignore[arg-type]


# ---- in a process of its own ---------------------------------------------------------------------------------------


async def test_network_in_its_process() -> None:
    """It listens on loopback only, obeys each command, tells what passed, and is gone after stop."""
    async with echo() as server, contextlib.AsyncExitStack() as stack:
        network = Network(server.port)
        with pytest.raises(ConnectFailed, match="call start"):
            network.port  # noqa: B018 - a property that raises
        stack.callback(network.stop)
        await asyncio.to_thread(network.start)
        port, pid = network.port, network.pid
        async with client(port) as (reader, writer):
            await answered(reader, writer, b"hello")
            status = await asyncio.to_thread(network.status)
            assert (status.connections, status.passed) == (1, {UP: 5, DOWN: 5})
            await asyncio.to_thread(network.disturb, Disturbance(delay_s=0.1))
            assert await answered(reader, writer, b"slow") >= 0.2
            await asyncio.to_thread(network.disturb, Disturbance())
            await asyncio.to_thread(network.half_close, UP)
            assert await reader.read() == b""
        async with client(port) as (reader, writer):
            await answered(reader, writer, b"hello")
            await asyncio.to_thread(network.reset)
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
        with pytest.raises(ValueError, match="way"):
            await asyncio.to_thread(network.half_close, "")
        if sys.platform == "linux":
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.2", port), timeout=1)
        await asyncio.to_thread(network.stop)
        await asyncio.to_thread(network.stop)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_killed_program_leaves_no_proxy() -> None:
    """SIGKILL of the program ends its proxy within a moment, in the midst of a blackhole too."""
    script = """
        import os, signal
        from eventbus.faults import Disturbance, Network
        network = Network(1)
        network.start()
        network.disturb(Disturbance(blackhole=frozenset({"down"})))
        print(network.port, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, cwd=ROOT, timeout=30
    )
    port = int(done.stdout)

    async def gone() -> None:
        def refused() -> bool:
            with socket.socket() as probe:
                probe.settimeout(1)
                return probe.connect_ex((LOOPBACK, port)) != 0

        await eventually(refused, "nobody listens any more")

    asyncio.run(gone())
