"""NatsPublisher: publishes over one nats-py connection and hears the acks on an inbox of its own.

Not through ``JetStreamContext.publish_async``: its futures stay pending for ever after any server error, lost reply or
reconnect (seen with nats-py 2.16.0), and cost a future, a callback and a coroutine per message.

Who owns what: nats-py the socket, TLS, authentication and reconnects; this class the frames being gathered, the inbox,
and whether sending is allowed. Outgoing frames are written once per turn of the event loop, or as soon as 64 KiB are
there. After nats-py gives a connection up for good (it does so after some server errors), a new client is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client
from nats.aio.transport import TcpTransport, Transport

from eventbus.config import ConnectionConfig
from eventbus.errors import ConnectFailed, ErrorClass, ErrorKind, InvalidMessage, TopicError
from eventbus.event import BusEvent, EventKind
from eventbus.inspection import Inspection
from eventbus.message import Message
from eventbus.ports import AckSink, Capabilities, Clock, Failure, Outgoing, Route
from eventbus.publishers.nats import inspector, streams
from eventbus.publishers.nats.login import Login
from eventbus.publishers.nats.transport import AckTransport, TlsNotOffered
from eventbus.publishers.nats.websocket import WebSocketTransport
from eventbus.publishers.nats.wire import ID_BLOCK_BYTES, FrameReader, Read, header_block
from eventbus.snapshot import ConnectionState
from eventbus.topic import TopicConfig

_log = logging.getLogger("eventbus")

_WRITE_AT_BYTES = 64 * 1024
_MAX_SUBJECT_BYTES = 3900
"""A control line above 4,096 bytes makes the server close the connection; the rest of it needs the difference."""
_ID_HEADER_BYTES = 64
"""Room for the version line and a message id made by the bus, when a size is checked."""
_ONE_DAY_S = 86_400
_API_PREFIX = "$JS.API."
_CACHED_SUBJECTS = 10_000
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DENIED = re.compile(r'Permissions Violation for (Publish|Subscription) to "([^"]*)"', re.IGNORECASE)
_REFUSED_WORDS = ("authorization violation", "authentication expired", "authentication revoked")


class NatsPublisher:
    """Implements ports.Publisher for ``servers``, full URLs that may hold credentials (never logged).

    longest_retry_s: how long the bus may go on sending a message of a topic, in seconds, or None where it never
        repeats one; only to warn of duplicate windows that are shorter. Default: not known, so no such warning.
    """

    capabilities = Capabilities(system="nats")

    def __init__(
        self,
        servers: tuple[str, ...],
        config: ConnectionConfig,
        clock: Clock,
        longest_retry_s: Callable[[TopicConfig], float | None] = lambda _: None,
    ) -> None:
        self._longest_retry_s = longest_retry_s
        self._warned: dict[str, tuple[str, ...]] = {}
        self._login = Login(servers, config, self._address)
        self._servers = self._login.servers
        self._without_tls: set[str] = set()  # servers with which TLS fails, as far as was tried
        self._config = config
        self._clock = clock
        self._sink: AckSink | None = None
        self._id_prefix = ""
        self._id_block_bytes = 0
        self._client: Client | None = None
        self._transport: AckTransport | None = None
        self._inbox = ""
        self._ready = False
        self._was_ready = False  # until then a failed connect is the caller's affair
        self._closing = False
        self._refusal = ""
        self._refused = asyncio.Event()
        self._call_soon = asyncio.get_running_loop().call_soon
        self._connected = asyncio.Event()
        self._api_denied = asyncio.Event()
        self._last_error = "no answer"
        self._rebuilding: asyncio.Task[None] | None = None
        self._ping: asyncio.Task[None] | None = None
        self._frames: list[bytes] = []
        self._frame_bytes = 0
        self._max_payload = 1024 * 1024
        self.unchecked_bytes = self._max_payload - _ID_HEADER_BYTES
        self._heads: dict[str, str] = {}

    # ---- the connection ----------------------------------------------------------------------------------------

    async def open(self, sink: AckSink) -> None:
        """Connect and subscribe the inbox. Raises ConnectFailed within ``connect_timeout_s``; then nothing is left."""
        self._sink = sink
        self._id_prefix = sink.id_prefix
        self._id_block_bytes = ID_BLOCK_BYTES + len(sink.id_prefix)
        sink.connection_changed(ConnectionState.CONNECTING)
        await self._dial()

    async def _dial(self) -> None:
        """Make a client, connect it and begin to send."""
        client = Client()
        self._inbox = client.new_inbox().replace("_INBOX", self._config.inbox_prefix, 1) + "."
        self._heads.clear()
        reader = FrameReader(self._inbox)
        login = self._login
        inner: Transport = TcpTransport()  # type: ignore[no-untyped-call]
        if login.websocket:
            inner = WebSocketTransport(self._servers[0].partition("://")[0], login.context, login.hostname)
        transport = AckTransport(inner, reader, self._on_read, self._on_lost, require_tls=login.tls)
        client._transport = transport
        self._client, self._transport = client, transport
        self._refused.clear()
        self._refusal = ""
        self._without_tls.clear()
        dialling = asyncio.ensure_future(self._connect(client))
        refused = asyncio.ensure_future(self._refused.wait())
        try:
            await asyncio.wait(
                (dialling, refused), timeout=self._config.connect_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not dialling.done() or self._refusal:
                reason = self._refusal or f"{self._last_error} within {self._config.connect_timeout_s:g} s"
                raise ConnectFailed(f"could not connect to {self._shown()}: {reason}")
            dialling.result()
        except BaseException as error:
            # First the dialling, then the client: one that is closed while it connects goes on connecting.
            await _end(dialling)
            await self._drop(client, transport)
            if isinstance(error, (nats.errors.Error, OSError, ValueError)):
                raise ConnectFailed(f"could not connect to {self._shown()}: {_words(error)}") from error
            raise
        finally:
            refused.cancel()
        self._on_ready()

    async def _connect(self, client: Client) -> None:
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
        await client.subscribe(self._inbox + "*", cb=_unexpected)
        # Twice: nats-py writes a PING at once and the SUB before it a moment later, so only the second PONG says that
        # the server has seen the SUB, and would have refused it by now.
        for _ in range(2):
            await client.flush(timeout=max(1, int(self._config.connect_timeout_s)))

    def _shown(self) -> str:
        """The servers without credentials, paths and queries."""
        return ",".join(f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, self._servers))

    def _address(self) -> str:
        """``host:port`` of the server that is being dialled."""
        return "" if self._transport is None else self._transport.address

    def _on_ready(self) -> None:
        assert self._client is not None
        assert self._sink is not None
        self._max_payload = self._client.max_payload
        self.unchecked_bytes = self._max_payload - _ID_HEADER_BYTES
        self._api_denied.clear()
        self._ready = self._was_ready = True
        self._refusal = ""
        self._without_tls.clear()
        self._connected.set()
        self._tell(EventKind.CONNECTED, f"connected to {self._shown()}")
        self._sink.connection_changed(ConnectionState.CONNECTED)

    def _on_lost(self) -> None:
        """The transport is given up: nothing more is written to it, and no answer can come from it."""
        if self._ready:
            self._ready = False
            self._connected.clear()
            if self._ping is not None:
                self._ping.cancel()
            self._frames.clear()
            self._frame_bytes = 0
            if self._sink is not None and not self._closing:
                self._tell(EventKind.DISCONNECTED, f"connection to {self._shown()} lost; reconnecting")
                self._sink.connection_changed(ConnectionState.RECONNECTING, "the connection was lost")

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

    async def _rebuild(self) -> None:
        while not self._closing:
            try:
                await self._dial()
            except ConnectFailed as error:
                _log.warning("%s", error)
                await asyncio.sleep(self._config.reconnect_delay_s)
            else:
                return

    async def _on_error(self, error: Exception) -> None:
        """Every error that nats-py meets; only what changes the connection's state is told."""
        words = _words(error)
        self._last_error = words
        if any(refused in words.lower() for refused in _REFUSED_WORDS):
            self._deny(f"the server refuses these credentials ({words})")
        elif isinstance(error, TlsNotOffered | ssl.SSLError):
            self._tls_failed(error, words)
        else:
            _log.debug("nats: %s", words)

    def _tls_failed(self, error: Exception, words: str) -> None:
        """Trying again changes nothing, unless another server is better. Told once for each connection that is lost."""
        lasting = isinstance(error, TlsNotOffered | ssl.SSLCertVerificationError)
        if lasting or not (self._was_ready or isinstance(error, ssl.SSLEOFError)):
            self._without_tls.add(self._address())
            if len(self._without_tls) >= len(self._servers) and self._refusal != words:
                self._deny(words)

    def _deny(self, reason: str) -> None:
        self._refusal = reason
        self._refused.set()
        if self._sink is not None:
            self._ready = False
            self._tell(EventKind.DENIED, reason)
            self._sink.connection_changed(ConnectionState.DENIED, reason)

    def _tell(self, kind: EventKind, text: str) -> None:
        if self._sink is not None:
            self._sink.happened(BusEvent(self._clock.wall_s(), kind, text))

    # ---- answers -----------------------------------------------------------------------------------------------

    def _on_read(self, read: Read) -> None:
        if self._sink is None:
            return
        if read.replies:
            self._sink.replied(read.replies)
        for text in read.errors:
            denied = _DENIED.search(text)
            if denied is None:
                _log.warning("nats-server: %s", text)
            elif denied[1].lower() == "publish":
                why = f"this user may not publish to {denied[2]!r}"
                failure = Failure(ErrorClass.FATAL, ErrorKind.PERMISSION, why, topic=denied[2])
                self._sink.replied([failure])
                if denied[2].startswith(_API_PREFIX):
                    self._api_denied.set()
            elif denied[2].startswith(self._inbox[:-1]):
                self._deny(f"this user may not subscribe to {denied[2]!r}, so no ack can ever arrive")

    # ---- topics ------------------------------------------------------------------------------------------------

    async def prepare(self, name: str, config: TopicConfig | None) -> Route:
        """Find or make the stream of a topic. Waits for a few requests of at most 2 s each. Raises TopicError."""
        if config is not None and not config.durable:
            return Route(config, None, deduplicates=False, duplicate_window_s=0.0, acknowledged=False, covers=(name,))
        if self._client is None or not self._ready:
            text = f"topic {name!r}: no connection"
            raise TopicError(text, error_class=ErrorClass.TRANSIENT, kind=ErrorKind.UNAVAILABLE)
        longest_retry_s = self._longest_retry_s(config or TopicConfig(name))
        asking = asyncio.ensure_future(streams.prepare(self._client, name, config, longest_retry_s))
        asking.add_done_callback(_hear)
        denied = asyncio.ensure_future(self._api_denied.wait())
        try:
            await asyncio.wait((asking, denied), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                return self._unasked(name, config)
            route, created = asking.result()
        finally:
            asking.cancel()
            denied.cancel()
        if created:
            self._tell(EventKind.STREAM_CREATED, f"stream {route.log} created for {', '.join(route.covers)}")
        self._warn(route)
        return route

    def _warn(self, route: Route) -> None:
        """Tell what is wrong with a stream, each thing once, and again only where it was gone meanwhile."""
        log = route.log or ""
        told = self._warned.pop(log, ())
        for text in route.warnings:
            if text not in told:
                self._tell(EventKind.TOPIC_WARNING, text)
        if route.warnings:
            if len(self._warned) >= _CACHED_SUBJECTS:
                self._warned.clear()
            self._warned[log] = route.warnings

    def _unasked(self, name: str, config: TopicConfig | None) -> Route:
        """For a user who may publish but not ask about streams: no duplicate window is known, so nothing is assumed."""
        text = f"topic {name!r}: this user may not ask for its stream; what is in doubt will not be sent again"
        self._tell(EventKind.TOPIC_WARNING, text)
        topic = config or TopicConfig(name)
        return Route(topic, None, deduplicates=False, duplicate_window_s=0.0, covers=(name,), warnings=(text,))

    async def inspect(self, name: str, url: str) -> Inspection:
        """What the server is like, and the stream of a topic; changes nothing. ``url``: as it may be shown.

        Waits for a few requests of at most 2 s each. Raises ConnectFailed where the server stops answering.
        """
        assert self._client is not None
        assert self._transport is not None
        try:
            server = await inspector.inspect_server(
                self._client,
                "websocket" if self._login.websocket else "tcp",
                self._transport.encrypted,
                self._clock,
            )
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise ConnectFailed(f"the connection to {self._shown()} was lost: {_words(error)}") from error
        topic = TopicConfig(name)
        longest_retry_s = self._longest_retry_s(topic)
        asking = asyncio.ensure_future(inspector.inspect_stream(self._client, topic, longest_retry_s))
        asking.add_done_callback(_hear)
        denied = asyncio.ensure_future(self._api_denied.wait())
        try:
            await asyncio.wait((asking, denied), return_when=asyncio.FIRST_COMPLETED)
            stream, findings = asking.result() if asking.done() else (None, (inspector.MAY_NOT_ASK,))
        finally:
            asking.cancel()
            denied.cancel()
        return Inspection(url, name, server, stream, findings)

    # ---- messages ----------------------------------------------------------------------------------------------

    def check(self, message: Message) -> None:
        """Raise InvalidMessage for what would close the connection or be stored where nobody asked for it."""
        topic, payload, _, headers, own_id = message
        if topic not in self._heads:
            _check_subject(topic)
        size = len(payload) + _ID_HEADER_BYTES
        if headers is not None or own_id is not None:
            size += _check_headers(message)
        if size > self._max_payload:
            raise InvalidMessage(
                f"message for {message.topic!r} has {len(message.payload)} bytes of payload and {size} with headers; "
                f"the server takes {self._max_payload}: send less, or raise max_payload at the server"
            )

    def send(self, pending: Outgoing) -> None:
        """Gather its frame; written at the end of this turn of the loop."""
        topic, payload, _, headers, own_id = pending.message
        head = self._heads.get(topic) or self._head_of(topic)
        size = len(payload)
        if size > self.unchecked_bytes:  # it was accepted when the server took more
            self._refuse_too_large(pending, size)
            return
        if headers is not None or own_id is not None:
            block = header_block(pending.message_id, headers)
            control = f"HPUB {head}{pending.token} {len(block)} {len(block) + size}\r\n".encode() + block
        elif pending.route.topic.allow_duplicates:
            control = f"PUB {head}{pending.token} {size}\r\n".encode()
        else:
            token = str(pending.token)
            block_size = self._id_block_bytes + len(token)
            control = (
                f"HPUB {head}{token} {block_size} {block_size + size}\r\nNATS/1.0\r\n"
                f"Nats-Msg-Id: {self._id_prefix}{token}\r\n\r\n"
            ).encode()
        frames = self._frames  # _gather(), inlined, since it is hot
        if not frames:
            self._call_soon(self._write)
        frames += (control, payload, b"\r\n")
        self._frame_bytes = gathered = self._frame_bytes + len(control) + size + 2
        if gathered >= _WRITE_AT_BYTES:
            self._write()

    def _refuse_too_large(self, pending: Outgoing, size: int) -> None:
        """Sending it would make the server close the connection, to the harm of everything else in flight."""
        text = f"{size} bytes of payload; the server now takes {self._max_payload} with headers"
        assert self._sink is not None
        self._sink.replied([Failure(ErrorClass.FATAL, ErrorKind.TOO_LARGE, text, (pending.token,))])

    def send_unacknowledged(self, message: Message) -> bool:
        """The same without a reply subject; False without a connection."""
        if not self._ready:
            return False
        subject, payload = message.topic.encode(), message.payload
        if message.message_id is None and message.headers is None:
            self._gather(b"PUB %b %d\r\n" % (subject, len(payload)), payload)
        else:
            block = header_block(message.message_id, message.headers)
            self._gather(b"HPUB %b %d %d\r\n%b" % (subject, len(block), len(block) + len(payload), block), payload)
        return True

    def _head_of(self, topic: str) -> str:
        """Subject and inbox, as they stand before the token."""
        if len(self._heads) >= _CACHED_SUBJECTS:
            self._heads.clear()
        head = self._heads[topic] = f"{topic} {self._inbox}"
        return head

    def _gather(self, control: bytes, payload: bytes) -> None:
        frames = self._frames
        if not frames:
            self._call_soon(self._write)
        frames += (control, payload, b"\r\n")
        self._frame_bytes = gathered = self._frame_bytes + len(control) + len(payload) + 2
        if gathered >= _WRITE_AT_BYTES:
            self._write()

    def _write(self) -> None:
        if self._frames and self._ready and self._transport is not None:
            frames, self._frames, self._frame_bytes = self._frames, [], 0
            self._transport.write(b"".join(frames))

    @property
    def backlog_bytes(self) -> int:
        """Bytes that are gathered or that the operating system has not taken yet."""
        return self._frame_bytes + (0 if self._transport is None else self._transport.backlog_bytes)

    async def flush(self) -> None:
        """Wait for the server's PONG to a PING behind all that was handed over; tries again after a reconnect.

        The PING is a task of its own that no caller's cancellation reaches: nats-py 2.16 stops reading for good when
        the PONG comes to a future that was cancelled. At most one is under way.
        """
        while True:
            await self._connected.wait()
            self._write()
            earlier = self._ping
            if earlier is not None:
                await asyncio.wait((earlier,))  # it may be ahead of what was just written
            if self._ping is earlier and self._client is not None:
                self._ping = asyncio.create_task(self._client.flush(timeout=_ONE_DAY_S), name="eventbus flush")
                self._ping.add_done_callback(_hear)
            ping = self._ping
            if ping is not None:
                await asyncio.wait((ping,))
                if not ping.cancelled() and ping.exception() is None:
                    return
            await asyncio.sleep(self._config.reconnect_delay_s)

    async def close(self, timeout_s: float) -> None:
        """End the connection within ``timeout_s``; the sink hears nothing more."""
        self._write()
        self._closing = True
        self._sink = None
        self._ready = False
        if self._rebuilding is not None:
            self._rebuilding.cancel()
            await asyncio.wait([self._rebuilding], timeout=timeout_s / 2)
        if self._ping is not None:
            self._ping.cancel()
        if self._client is not None and self._transport is not None:
            await self._drop(self._client, self._transport, timeout_s / 2)
        self._client = self._transport = None

    async def _drop(self, client: Client, transport: AckTransport, timeout_s: float = 1.0) -> None:
        """Close a client in bounded time; whatever happens, its socket goes."""
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(timeout_s):
                await client.close()
        transport.close()


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended: wait_for, inside nats-py, can swallow a single cancellation on Python 3.11."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=0.1)
    _hear(task)


def _hear(task: asyncio.Future[Any]) -> None:
    """Nobody may be left who asks how it ended, and asyncio would complain about that."""
    if not task.cancelled():
        task.exception()


async def _unexpected(message: object) -> None:
    """Replies are taken out of the stream of bytes before nats-py sees them."""
    _log.error("a reply reached nats-py past the frame reader: %r", message)


def _words(error: Exception) -> str:
    """An exception for people: nats-py's texts begin with 'nats: ', a refused connection with its errno."""
    text = str(error).removeprefix("nats: ").strip("'\" ") or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        if "CERTIFICATE_REQUIRED" in text or "HANDSHAKE_FAILURE" in text or "BAD_CERTIFICATE" in text:
            return "the server refuses the TLS handshake: it may ask for a client certificate (TlsConfig.cert_file)"
        return f"TLS failed: {(error.reason or text).lower().replace('_', ' ')}"
    return "connection refused" if isinstance(error, ConnectionRefusedError) else text


def _check_subject(topic: str) -> None:
    if len(topic.encode(errors="surrogatepass")) > _MAX_SUBJECT_BYTES:
        raise InvalidMessage(f"topic {topic[:40]!r}… is longer than {_MAX_SUBJECT_BYTES} bytes")
    if "*" in topic or ">" in topic:
        raise InvalidMessage(f"topic {topic!r} has a wildcard; publish to one subject, without '*' and '>'")
    if any(c.isspace() or c < " " for c in topic) or "" in topic.split("."):
        raise InvalidMessage(f"topic {topic!r}: a NATS subject is words between dots, as 'orders.created', no spaces")
    try:
        topic.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"topic {topic!r} is not valid Unicode") from error


def _check_headers(message: Message) -> int:
    """Bytes that the caller's headers and id need. Raises InvalidMessage."""
    size = 0
    values = dict(message.headers or {})
    if message.message_id is not None:
        if any(name.lower() == "nats-msg-id" for name in values):
            raise InvalidMessage("give the message id as message_id or as the header Nats-Msg-Id, not both")
        values["Nats-Msg-Id"] = message.message_id
    for name, value in values.items():
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidMessage(f"header name {name!r}: use letters, digits and - _ . only, as in 'Trace-Id'")
        if "\r" in value or "\n" in value or "\0" in value:
            raise InvalidMessage(f"the value of header {name!r} has a line break or NUL: no NATS header can carry it")
        try:
            size += len(name) + len(value.encode()) + 4
        except UnicodeEncodeError as error:
            raise InvalidMessage(f"the value of header {name!r} is not valid Unicode") from error
    return size
