"""WebSocketTransport: a NATS connection inside a WebSocket, by aiohttp (the extra ``websocket``).

Not nats-py's own (seen with 2.16.0): that one sends nothing until it is drained, cannot be opened a second time, and
dials the servers that a cluster tells of as ``nats://``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from types import ModuleType
from typing import Any
from urllib.parse import ParseResult, urlunsplit

from nats.aio.transport import Transport

from eventbus.errors import ConfigError

_CLOSE_TIMEOUT_S = 1.0


class WebSocketTransport(Transport):
    """Connects to ``scheme`` (``ws`` or ``wss``) whatever the scheme of the URI it is given.

    hostname: to expect in the certificate; None takes the URI's. encrypted: whether the open connection has TLS.
    Redirects are refused: they could lead to another host, and out of TLS. A write is sent at once, in order, by a task
    of its own. Raises ConfigError where aiohttp is missing.
    """

    def __init__(self, scheme: str, context: ssl.SSLContext | None, hostname: str | None = None) -> None:
        self._aiohttp = _import_aiohttp()
        self.encrypted = False
        self._scheme = scheme
        self._context = context
        self._hostname = hostname
        self._session: Any = None
        self._socket: Any = None
        self._received = b""
        self._waiting: list[bytes] = []
        self._unsent_bytes = 0
        self._sender: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Open a connection; one that was left open before goes. Raises OSError."""
        self.close()
        await self.wait_closed()
        self._received = b""
        aiohttp = self._aiohttp
        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(_refuse_redirect)
        patience = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout)
        self._session = aiohttp.ClientSession(timeout=patience, trace_configs=[trace])
        url = urlunsplit((self._scheme, uri.netloc, uri.path, uri.query, ""))
        try:
            async with asyncio.timeout(connect_timeout):
                self._socket = await self._session.ws_connect(
                    url, ssl=self._context or True, server_hostname=self._hostname, max_msg_size=0
                )
        except aiohttp.ClientConnectorCertificateError as error:
            raise error.certificate_error from None
        except aiohttp.ClientConnectorError as error:
            raise error.os_error from None
        except aiohttp.WSServerHandshakeError as error:
            raise ConnectionError(f"not a NATS websocket: HTTP status {error.status}") from None
        except aiohttp.ClientError as error:
            if isinstance(error.__cause__, ssl.SSLError):  # TLS 1.3 refuses a client only after the handshake
                raise error.__cause__ from None
            raise ConnectionError(f"no websocket there: {type(error).__name__}") from None

        self.encrypted = self._socket.get_extra_info("ssl_object") is not None

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """Open with TLS; asked again for an open connection, as nats-py does, it is content if that has TLS."""
        if not isinstance(uri, str):
            await self.connect(uri, buffer_size, connect_timeout)
        if not self.encrypted:
            raise ConnectionError("a ws:// connection cannot change to TLS: use wss://")

    def write(self, payload: bytes) -> None:
        """Have it sent."""
        self._waiting.append(payload)
        self._unsent_bytes += len(payload)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send(), name="eventbus websocket")

    def writelines(self, payload: list[bytes]) -> None:
        """The same for several."""
        self.write(b"".join(payload))

    async def _send(self) -> None:
        with contextlib.suppress(OSError, self._aiohttp.ClientError):  # the reader learns that it is lost
            while self._waiting and self._socket is not None:
                waiting, self._waiting = self._waiting, []
                message = b"".join(waiting)
                await self._socket.send_bytes(message)
                self._unsent_bytes -= len(message)

    async def read(self, buffer_size: int) -> bytes:
        """The next message; b"" at the end."""
        received, self._received = self._received, b""
        return received or await self._receive()

    async def readline(self) -> bytes:
        """Up to the end of a line, whatever messages it is spread over; less at the end of the connection."""
        while b"\n" not in self._received:
            more = await self._receive()
            if not more:
                break
            self._received += more
        line, newline, self._received = self._received.partition(b"\n")
        return line + newline

    async def _receive(self) -> bytes:
        while self._socket is not None:
            message = await self._socket.receive()
            if message.type is self._aiohttp.WSMsgType.ERROR:
                raise ConnectionError("websocket error")
            if message.type is not self._aiohttp.WSMsgType.BINARY:
                return b""
            if message.data:
                return bytes(message.data)
        return b""

    async def drain(self) -> None:
        """Wait until all that was written is with the operating system."""
        if self._sender is not None:
            await asyncio.wait((self._sender,))

    def close(self) -> None:
        """Drop the connection with what was not sent; does not wait for a frozen peer."""
        opened, session, sender = self._socket, self._session, self._sender
        self._socket = self._session = self._sender = None
        self._waiting, self._unsent_bytes = [], 0
        self.encrypted = False
        if sender is not None:
            sender.cancel()
        if opened is not None:
            _shut(opened.get_extra_info("socket"))
        if session is not None:
            self._closer = asyncio.create_task(_close(session), name="eventbus websocket close")

    async def wait_closed(self) -> None:
        """Wait for the end of close(), about 1 s at most."""
        if self._closer is not None:
            await asyncio.wait((self._closer,))

    def at_eof(self) -> bool:
        """True without an open connection."""
        return self._socket is None or bool(self._socket.closed)

    @property
    def backlog_bytes(self) -> int:
        """Bytes not yet handed to the operating system."""
        return self._unsent_bytes

    def __bool__(self) -> bool:
        return True


def _shut(opened: Any) -> None:
    """End it both ways, by a copy: uvloop's sockets cannot be shut down themselves."""
    if opened is None:  # the peer was first
        return
    with contextlib.suppress(OSError, ValueError), socket.socket(fileno=os.dup(opened.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)


async def _refuse_redirect(session: object, context: object, params: object) -> None:
    raise ConnectionError("no websocket there: it redirects elsewhere")


async def _close(session: Any) -> None:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await session.close()


def _import_aiohttp() -> ModuleType:
    try:
        import aiohttp
    except ImportError:
        raise ConfigError(
            "ws:// and wss:// need aiohttp; install it with `pip install 'ackscope[websocket]'`"
        ) from None
    return aiohttp
