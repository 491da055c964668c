"""AckTransport: the socket of a nats-py connection, with the bus's acks taken out of what it reads.

nats-py keeps everything else: dialling, TLS, authentication, PING, INFO, reconnects, other subscriptions. It offers
``nats.aio.transport.Transport`` as an abstract class but no way to hand one in, so the connection sets
``Client._transport`` before connecting; tests/test_nats_private.py pins this and the other private names used here.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport, Transport, WebSocketTransport

from eventbus.publishers.nats.wire import FrameReader, Read

_READ_BYTES = 256 * 1024
"""As much as asyncio's reader can hold: the more acks a read carries, the less each costs. nats-py asks for 32 KiB."""


class AckTransport(Transport):
    """Wraps a TCP or WebSocket transport.

    on_read: called with every Read that has replies or errors, inside the read. on_closed: called when the connection
    is given up, before nats-py starts to reconnect.
    """

    def __init__(
        self, websocket: bool, reader: FrameReader, on_read: Callable[[Read], None], on_closed: Callable[[], None]
    ) -> None:
        self._inner: Transport = WebSocketTransport() if websocket else TcpTransport()  # type: ignore[no-untyped-call]
        self._reader = reader
        self._on_read = on_read
        self._on_closed = on_closed

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Open a connection; frames start anew. nats-py leaves the one of a refused handshake open."""
        self._reader.reset()
        self._abort()
        await self._inner.connect(uri, buffer_size, connect_timeout)

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """Upgrade to TLS, or open with it."""
        await self._inner.connect_tls(uri, ssl_context, buffer_size, connect_timeout)

    def write(self, payload: bytes) -> None:
        """Hand bytes to the operating system, or to the loop's buffer where it takes no more. Whole frames only."""
        self._inner.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        """The same for several."""
        self._inner.writelines(payload)

    async def read(self, buffer_size: int) -> bytes:
        """The next bytes that are not for the ledger; waits until there are some, or the connection ends (b"")."""
        while True:
            data = await self._inner.read(max(buffer_size, _READ_BYTES))
            if not data:
                return b""
            read = self._reader.feed(data)
            if read.replies or read.errors:
                self._on_read(read)
            if read.rest:
                return read.rest

    async def readline(self) -> bytes:
        """One line, during the handshake: no acks can be in it."""
        return await self._inner.readline()

    async def drain(self) -> None:
        """Wait until the loop's write buffer is short enough."""
        await self._inner.drain()  # type: ignore[no-untyped-call]

    async def wait_closed(self) -> None:
        """Wait until the socket is closed: at once, since close() aborts."""
        await self._inner.wait_closed()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Drop the connection with what is in its buffer: a graceful close would wait for a frozen peer for ever.

        What was not answered is in doubt anyway; who wants it delivered flushes first.
        """
        self._on_closed()
        self._abort()
        self._inner.close()  # type: ignore[no-untyped-call]

    def _abort(self) -> None:
        writer = getattr(self._inner, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    def at_eof(self) -> bool:
        """True where the peer has ended the connection."""
        return self._inner.at_eof()

    @property
    def backlog_bytes(self) -> int:
        """Bytes that the operating system has not taken yet."""
        writer = getattr(self._inner, "_io_writer", None)
        return 0 if writer is None else writer.transport.get_write_buffer_size()

    def __bool__(self) -> bool:
        # nats-py asks "is there a transport" before its first connect and would otherwise make one of its own
        return True
