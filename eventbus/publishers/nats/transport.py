"""AckTransport: the socket of a nats-py connection, with the bus's acks taken out of what it reads.

nats-py keeps everything else: dialling, TLS, authentication, PING, INFO, reconnects, other subscriptions. It offers
``nats.aio.transport.Transport`` as an abstract class but no way to hand one in, so the connection sets
``Client._transport`` before connecting; tests/test_nats_private.py pins this and the other private names used here.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from urllib.parse import ParseResult

import nats.errors
from nats.aio.transport import Transport

from eventbus.publishers.nats.wire import FrameReader, Read

_READ_BYTES = 256 * 1024
"""As much as asyncio's reader can hold: the more acks a read carries, the less each costs. nats-py asks for 32 KiB."""


class TlsNotOffered(nats.errors.Error):
    """TLS was asked for, and this server has none. Nothing was sent to it."""

    def __str__(self) -> str:
        return "nats: the server offers no TLS, and TLS was asked for: nothing was sent to it"


class AckTransport(Transport):
    """Wraps a TCP or WebSocket transport.

    require_tls: nothing at all is written to a connection that is not TLS. nats-py 2.16 would send the password in the
    clear to a server that offers none, and to one that leaves the choice to us; here all connections pass, also those
    of a reconnect and to servers that a cluster told of.
    on_read: called with every Read that has replies or errors, inside the read. on_closed: called when the connection
    is given up, before nats-py starts to reconnect.
    """

    def __init__(
        self,
        inner: Transport,
        reader: FrameReader,
        on_read: Callable[[Read], None],
        on_closed: Callable[[], None],
        *,
        require_tls: bool = False,
    ) -> None:
        self.address = ""  # host:port of the server dialled last
        self._inner = inner
        self._require_tls = require_tls
        self._unsafe = require_tls  # until there is TLS
        self._reader = reader
        self._on_read = on_read
        self._on_closed = on_closed
        self.encrypted = False
        """True where the connection has TLS."""

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Open a connection; frames start anew. nats-py leaves the one of a refused handshake open."""
        self._renew(uri)
        await self._inner.connect(uri, buffer_size, connect_timeout)
        self._has_tls(getattr(self._inner, "encrypted", False))

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """Upgrade to TLS (then nats-py gives the host's name), or open with it (then the whole URI)."""
        if not isinstance(uri, str):
            self._renew(uri)
        await self._inner.connect_tls(uri, ssl_context, buffer_size, connect_timeout)
        self._has_tls(True)

    def _renew(self, uri: ParseResult) -> None:
        self.address = uri.netloc
        self._has_tls(False)
        self._reader.reset()
        self._abort()

    def _has_tls(self, encrypted: bool) -> None:
        self.encrypted = encrypted
        self._unsafe = self._require_tls and not encrypted

    def write(self, payload: bytes) -> None:
        """Hand bytes to the operating system, or to the loop's buffer where it takes no more. Whole frames only."""
        if self._unsafe:
            raise TlsNotOffered
        try:
            self._inner.write(payload)
        except RuntimeError:
            if not self._is_closed():
                raise

    def _is_closed(self) -> bool:
        """True where the socket is gone and nobody has been told yet. There asyncio drops what is written, and uvloop
        raises RuntimeError: drop it too, since whatever is in flight then is about to be in doubt anyway."""
        writer = getattr(self._inner, "_io_writer", None)
        return writer is not None and bool(writer.transport.is_closing())

    def writelines(self, payload: list[bytes]) -> None:
        """The same for several."""
        if self._unsafe:
            raise TlsNotOffered
        try:
            self._inner.writelines(payload)
        except RuntimeError:
            if not self._is_closed():
                raise

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
        """One line, during the handshake: no acks can be in it. Raises TlsNotOffered."""
        line = await self._inner.readline()
        return _with_tls(line) if self._unsafe and line.startswith(b"INFO ") else line

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
        if writer is None:
            return int(getattr(self._inner, "backlog_bytes", 0))
        return 0 if self._is_closed() else int(writer.transport.get_write_buffer_size())

    def __bool__(self) -> bool:
        # nats-py asks "is there a transport" before its first connect and would otherwise make one of its own
        return True


def _with_tls(line: bytes) -> bytes:
    """The INFO of a server that offers TLS, so that nats-py upgrades: it does so only where the server insists."""
    try:
        info = json.loads(line[len(b"INFO ") :])
    except ValueError:
        return line  # nats-py says what is wrong with it
    if not isinstance(info, dict) or not (info.get("tls_required") or info.get("tls_available")):
        raise TlsNotOffered
    info["tls_required"] = True
    return b"INFO " + json.dumps(info).encode() + b"\r\n"
