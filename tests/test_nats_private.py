"""Private names of nats-py that the publisher uses, each pinned here with what breaks without it.

nats-py has no public way to hand in a transport, to see its write buffer, or to set the timeout of stream requests.
When a new version fails here, the use in eventbus/publishers/nats has to be looked at before anything is upgraded.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.transport import TcpTransport, Transport
from nats.js.manager import JetStreamManager

from eventbus.embedded.nats import EmbeddedNats
from eventbus.publishers.nats.transport import AckTransport
from eventbus.publishers.nats.wire import FrameReader, Read

FOLDER = Path(__file__).parents[1] / "eventbus" / "publishers" / "nats"
PINNED = {"_transport", "_io_writer", "_timeout", "_server_info"}
"""Every private name of nats-py in use, besides those of ``self``."""


def _private_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"getattr", "setattr"}:
            name = node.args[1]
            if isinstance(name, ast.Constant) and str(name.value).startswith("_"):
                yield str(name.value)


def test_no_private_name_is_used_without_a_pin() -> None:
    """A private name of a library is used only with a test that says what breaks when it goes."""
    used = {name for path in FOLDER.glob("*.py") for name in _private_names(path)}
    assert used == PINNED


@pytest.fixture
def peer() -> Iterator[str]:
    """The URL of a listener that never reads: the kernel takes the connection and some bytes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"nats://127.0.0.1:{listener.getsockname()[1]}"


def ack_transport(seen: list[Read] | None = None) -> AckTransport:
    inner = TcpTransport()
    return AckTransport(inner, FrameReader("_INBOX.test."), ([] if seen is None else seen).append, lambda: None)


def test_client_takes_a_transport_set_before_connecting() -> None:
    """``Client._transport``: without it no ack is seen by the ledger, and every publish ends as a timeout."""
    assert Client()._transport is None, (
        "Client._transport has gone or is made early: AckTransport cannot be set any more"
    )
    source = inspect.getsource(Client._connect_to_server)
    assert "if not self._transport:" in source, (
        "nats-py no longer keeps a transport that is there before its first connect: it would replace AckTransport"
    )


@pytest.mark.integration
async def test_client_reads_and_reconnects_through_the_transport_that_was_set() -> None:
    """The transport set before connecting is the one that is used, also after a reconnect: acks depend on it."""
    connected_again = asyncio.Event()

    async def reconnected() -> None:
        connected_again.set()

    with EmbeddedNats() as server:
        client, transport = Client(), ack_transport()
        client._transport = transport
        await client.connect(server.url, reconnected_cb=reconnected, reconnect_time_wait=0)
        assert client._transport is transport, "nats-py made a transport of its own: acks would not be seen"
        await asyncio.to_thread(server.restart)
        async with asyncio.timeout(15):
            await connected_again.wait()
        assert client._transport is transport, "a reconnect replaces the transport: acks would no longer be seen"
        await client.close()


def test_transport_has_no_method_that_is_not_wrapped() -> None:
    """A method that nats-py adds to Transport and AckTransport does not pass on would be missing at run time."""
    assert Transport.__abstractmethods__ <= set(vars(AckTransport)), (
        "nats-py's Transport asks for more than AckTransport passes on"
    )


async def test_tcp_transport_keeps_its_stream_writer(peer: str) -> None:
    """``TcpTransport._io_writer``: without it the backlog reads 0 and close() waits for a frozen peer for ever."""
    transport = TcpTransport()
    assert transport._io_writer is None, "TcpTransport._io_writer has gone: the backlog of core sends has no bound"
    await transport.connect(urllib.parse.urlparse(peer), 32768, 5)
    assert isinstance(transport._io_writer, asyncio.StreamWriter), (
        "TcpTransport._io_writer is no StreamWriter any more: AckTransport can neither abort nor tell its backlog"
    )
    transport._io_writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await transport.wait_closed()


async def test_ack_transport_sees_its_backlog_and_drops_it_on_close(peer: str) -> None:
    """What ``_io_writer`` is there for: bytes not yet taken are counted, and a close does not wait for them."""
    transport = ack_transport()
    assert transport.backlog_bytes == 0
    await transport.connect(urllib.parse.urlparse(peer), 32768, 5)
    transport.write(bytes(64 * 1024 * 1024))  # more than the sockets of both ends hold
    assert transport.backlog_bytes > 1024 * 1024
    transport.close()
    async with asyncio.timeout(2):
        with contextlib.suppress(ConnectionError):
            await transport.wait_closed()


@pytest.mark.integration
async def test_client_keeps_the_greeting_of_the_server() -> None:
    """``Client._server_info``: without it an inspection has no name, version, cluster or JetStream flag to show."""
    with EmbeddedNats() as server:
        client = Client()
        await client.connect(server.url)
        greeting = getattr(client, "_server_info", {})
        await client.close()
    assert greeting.get("server_name"), "Client._server_info is no longer the server's INFO: doctor shows nothing of it"
    assert greeting["version"].startswith("2.")
    assert greeting["jetstream"] is True


@pytest.mark.integration
async def test_stream_requests_have_the_timeout_that_is_set() -> None:
    """``JetStreamManager._timeout``: without it a topic's preparation waits nats-py's 5 s for each request."""
    with EmbeddedNats() as server:
        client = Client()
        await client.connect(server.url)
        manager = client.jsm()
        assert isinstance(manager, JetStreamManager)
        assert isinstance(manager._timeout, int | float), "JetStreamManager._timeout has gone: requests are not bounded"
        await asyncio.to_thread(server.pause)
        manager._timeout = 0.1
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimeoutError):
            await manager.stream_info("ANY")
        assert loop.time() - began < 2, "JetStreamManager no longer obeys _timeout: prepare() would take too long"
        await asyncio.to_thread(server.resume)
        await client.close()


async def test_write_to_a_socket_that_is_gone() -> None:
    """asyncio drops it, uvloop raises: here it is dropped on both, and the loss of the connection is told apart."""

    class Gone:
        def is_closing(self) -> bool:
            return True

        def get_write_buffer_size(self) -> int:
            raise RuntimeError("the handler is closed")

    class Inner(TcpTransport):
        def write(self, payload: bytes) -> None:
            raise RuntimeError("the handler is closed")

    inner = Inner()
    inner._io_writer = type("Writer", (), {"transport": Gone()})()
    transport = AckTransport(inner, FrameReader("_INBOX.a."), lambda read: None, lambda: None)
    transport.write(b"PING\r\n")
    assert transport.backlog_bytes == 0
    inner._io_writer = None
    with pytest.raises(RuntimeError):
        transport.write(b"PING\r\n")
