"""NatsConnection: one nats-py client at a time, dialled, watched, and replaced when nats-py gives it up for good.

Who owns what: nats-py the socket, TLS, authentication and reconnects; this class the client, the transport around its
socket, the inbox, and whether anything may be sent.

Invariants
- For each client made ``on_dialled`` is called once, before anything is read. Only between ``on_ready`` and the next
  ``on_lost`` or ``on_denied`` may anything be written to its transport.
- The inbox is subscribed, and the server has seen that, before ``on_ready``: no ack can arrive before somebody listens.
- A client that could not connect leaves no task and no socket.
- nats-py gives a connection up for good after some server errors. Where it was ready before, another client is made
  then, for as long as it takes, until ``close``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client
from nats.aio.transport import TcpTransport, Transport

from eventbus.config import ConnectionConfig
from eventbus.errors import ConnectFailed
from eventbus.publishers.nats.login import Login
from eventbus.publishers.nats.task import end
from eventbus.publishers.nats.transport import AckTransport, TlsNotOffered
from eventbus.publishers.nats.websocket import WebSocketTransport
from eventbus.publishers.nats.wire import FrameReader, Read
from eventbus.publishers.one_ping import OnePing

_log = logging.getLogger("eventbus")

_ONE_DAY_S = 86_400
_REFUSED_WORDS = ("authorization violation", "authentication expired", "authentication revoked")


class NatsConnection:
    """``servers``: full URLs that may hold credentials (never logged). Raises ConfigError; see Login.

    Callbacks, none of which may raise or wait. on_dialled: a client is about to connect; its transport, and the inbox,
    with a dot at the end, that it will hear. on_ready: connected, or connected again; how many bytes of headers and
    payload the server takes. on_lost: until the next on_ready nothing can be written and no answer can come. on_denied:
    the same and why; the server forbids it, or TLS cannot be had. on_read: replies and errors of one read.
    """

    def __init__(
        self,
        servers: tuple[str, ...],
        config: ConnectionConfig,
        *,
        on_dialled: Callable[[AckTransport, str], None],
        on_ready: Callable[[int], None],
        on_lost: Callable[[], None],
        on_denied: Callable[[str], None],
        on_read: Callable[[Read], None],
    ) -> None:
        self._login = Login(servers, config, self._address)
        self._servers = self._login.servers
        self._config = config
        self._tell_dialled, self._tell_ready = on_dialled, on_ready
        self._tell_lost, self._tell_denied = on_lost, on_denied
        self._on_read = on_read
        self.client: Client | None = None
        """nats-py's, also while there is no connection; None before ``open`` and after ``close``."""
        self.ready = False
        """True while something may be sent."""
        self._transport: AckTransport | None = None
        self._was_ready = False  # until then a failed connect is the caller's affair
        self._closing = False
        self._refusal = ""
        self._refused = asyncio.Event()
        self._without_tls: set[str] = set()  # servers with which TLS fails, as far as was tried
        self._connected = asyncio.Event()
        self._last_error = "no answer"
        self._rebuilding: asyncio.Task[None] | None = None
        self._pings = OnePing(self._round_trip)

    @property
    def shown(self) -> str:
        """The servers without credentials, paths and queries."""
        return ",".join(f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, self._servers))

    @property
    def scheme(self) -> str:
        """How bytes travel: "websocket" or "tcp"."""
        return "websocket" if self._login.websocket else "tcp"

    @property
    def broker(self) -> str:
        """The server and its version, as it greeted us last; empty before."""
        # has no public name: pinned by tests/test_nats_private.py
        version = "" if self.client is None else self.client._server_info.get("version")
        return f"nats-server {version}" if version else ""

    @property
    def encrypted(self) -> bool:
        """True where the connection has TLS."""
        return self._transport is not None and self._transport.encrypted

    def _address(self) -> str:
        """``host:port`` of the server that is being dialled."""
        return "" if self._transport is None else self._transport.address

    # ---- begin -------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Make a client, connect it and subscribe the inbox.

        Raises ConnectFailed within ``connect_timeout_s``; then, and when cancelled, nothing is left.
        """
        client = Client()
        inbox = client.new_inbox().replace("_INBOX", self._config.inbox_prefix, 1) + "."
        login = self._login
        inner: Transport = TcpTransport()  # type: ignore[no-untyped-call]
        if login.websocket:
            inner = WebSocketTransport(self._servers[0].partition("://")[0], login.context, login.hostname)
        transport = AckTransport(inner, FrameReader(inbox), self._on_read, self._on_lost, require_tls=login.tls)
        client._transport = transport
        self.client, self._transport = client, transport
        self._tell_dialled(transport, inbox)
        self._refused.clear()
        self._refusal = ""
        self._without_tls.clear()
        dialling = asyncio.ensure_future(self._connect(client, inbox))
        refused = asyncio.ensure_future(self._refused.wait())
        try:
            await asyncio.wait(
                (dialling, refused), timeout=self._config.connect_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not dialling.done() or self._refusal:
                reason = self._refusal or f"{self._last_error} within {self._config.connect_timeout_s:g} s"
                raise ConnectFailed(f"could not connect to {self.shown}: {reason}")
            dialling.result()
        except BaseException as error:
            # First the dialling, then the client: one that is closed while it connects goes on connecting.
            await end(dialling)
            await _drop(client, transport)
            if isinstance(error, (nats.errors.Error, OSError, ValueError)):
                raise ConnectFailed(f"could not connect to {self.shown}: {words(error)}") from error
            raise
        finally:
            refused.cancel()
        self._on_ready()

    async def _connect(self, client: Client, inbox: str) -> None:
        await client.connect(
            list(self._servers),
            name=self._config.name,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_client_closed,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=self._config.reconnect_delay_s,  # type: ignore[arg-type]  # seconds; a float works
            connect_timeout=self._config.connect_timeout_s,  # type: ignore[arg-type]  # the same
            ping_interval=self._config.ping_interval_s,  # type: ignore[arg-type]  # the same
            max_outstanding_pings=2,
            inbox_prefix=self._config.inbox_prefix,
            **self._login.options,
        )
        await client.subscribe(inbox + "*", cb=_unexpected)
        # Twice: nats-py writes a PING at once and the SUB before it a moment later, so only the second PONG says that
        # the server has seen the SUB, and would have refused it by now.
        for _ in range(2):
            await client.flush(timeout=max(1, int(self._config.connect_timeout_s)))

    async def _rebuild(self) -> None:
        while not self._closing:
            try:
                await self.open()
            except ConnectFailed as error:
                _log.warning("%s", error)
                await asyncio.sleep(self._config.reconnect_delay_s)
            else:
                return

    # ---- what becomes of it ------------------------------------------------------------------------------------

    def _on_ready(self) -> None:
        assert self.client is not None
        self.ready = self._was_ready = True
        self._refusal = ""
        self._without_tls.clear()
        self._connected.set()
        self._tell_ready(self.client.max_payload)

    def _on_lost(self) -> None:
        """The transport is given up: nothing more is written to it, and no answer can come from it."""
        if self.ready:
            self.ready = False
            self._connected.clear()
            self._pings.cancel()
            self._tell_lost()

    async def _on_disconnected(self) -> None:
        self._on_lost()

    async def _on_reconnected(self) -> None:
        """Called by nats-py after the inbox is subscribed again, so that no ack is missed."""
        if not self._closing:
            self._on_ready()

    async def _on_client_closed(self) -> None:
        """nats-py has given this client up. Unless we closed it, make another, for as long as it takes."""
        self._on_lost()
        if self._was_ready and not self._closing and (self._rebuilding is None or self._rebuilding.done()):
            self._rebuilding = asyncio.create_task(self._rebuild(), name="eventbus reconnect")

    async def _on_error(self, error: Exception) -> None:
        """Every error that nats-py meets; only what changes the connection's state is told."""
        said = words(error)
        self._last_error = said
        if any(refused in said.lower() for refused in _REFUSED_WORDS):
            self.deny(f"the server refuses these credentials ({said})")
        elif isinstance(error, TlsNotOffered | ssl.SSLError):
            self._tls_failed(error, said)
        else:
            _log.debug("nats: %s", said)

    def _tls_failed(self, error: Exception, said: str) -> None:
        """Trying again changes nothing, unless another server is better. Told once for each connection that is lost."""
        lasting = isinstance(error, TlsNotOffered | ssl.SSLCertVerificationError)
        if lasting or not (self._was_ready or isinstance(error, ssl.SSLEOFError)):
            self._without_tls.add(self._address())
            if len(self._without_tls) >= len(self._servers) and self._refusal != said:
                self.deny(said)

    def deny(self, reason: str) -> None:
        """Nothing can come of this connection: a connect fails with ``reason``, one that is ready ends to be so."""
        self._refusal = reason
        self._refused.set()
        self.ready = False
        self._tell_denied(reason)

    # ---- use and end -------------------------------------------------------------------------------------------

    async def ping(self, write: Callable[[], None] = lambda: None) -> float:
        """Wait for the server's PONG to a PING, which is behind all that was handed over; again after a reconnect.

        Returns the seconds between the two. write: hands over what is gathered; called before each PING. The PING is a
        task of its own that no caller's cancellation reaches: nats-py 2.16 stops reading for good when the PONG comes
        to a future that was cancelled. At most one is under way.
        """
        while True:
            await self._connected.wait()
            write()
            took_s = await self._pings.answer()
            if took_s is not None:
                return took_s
            await asyncio.sleep(self._config.reconnect_delay_s)

    async def _round_trip(self) -> float:
        # Without a connection nats-py's flush returns at once, as if there had been an answer, or waits for ever.
        if self.client is None or not self.ready or not self.client.is_connected:
            raise nats.errors.ConnectionClosedError
        began_s = time.perf_counter()  # not the loop's clock: uvloop's has whole milliseconds
        await self.client.flush(timeout=_ONE_DAY_S)
        return time.perf_counter() - began_s

    async def close(self, timeout_s: float) -> None:
        """End the connection within ``timeout_s``; no callback but on_read follows."""
        self._closing = True
        self.ready = False
        if self._rebuilding is not None:
            self._rebuilding.cancel()
            await asyncio.wait([self._rebuilding], timeout=timeout_s / 2)
        self._pings.cancel()
        if self.client is not None and self._transport is not None:
            await _drop(self.client, self._transport, timeout_s / 2)
        self.client = self._transport = None


async def _drop(client: Client, transport: AckTransport, timeout_s: float = 1.0) -> None:
    """Close a client in bounded time; whatever happens, its socket goes."""
    with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
        async with asyncio.timeout(timeout_s):
            await client.close()
    transport.close()


async def _unexpected(message: object) -> None:
    """Replies are taken out of the stream of bytes before nats-py sees them."""
    _log.error("a reply reached nats-py past the frame reader: %r", message)


def words(error: Exception) -> str:
    """An exception for people: nats-py's texts begin with 'nats: ', a refused connection with its errno."""
    text = str(error).removeprefix("nats: ").strip("'\" ") or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        if "CERTIFICATE_REQUIRED" in text or "HANDSHAKE_FAILURE" in text or "BAD_CERTIFICATE" in text:
            return "the server refuses the TLS handshake: it may ask for a client certificate (TlsConfig.cert_file)"
        return f"TLS failed: {(error.reason or text).lower().replace('_', ' ')}"
    return "connection refused" if isinstance(error, ConnectionRefusedError) else text
