"""NatsPublisher: publishes over one nats-py connection and hears the acks on an inbox of its own.

Not through ``JetStreamContext.publish_async``: its futures stay pending for ever after any server error, lost reply or
reconnect (seen with nats-py 2.16.0), and cost a future, a callback and a coroutine per message.

Who owns what: connection.py the client and whether sending is allowed; topics.py routes; this class the frames being
gathered, and what the bus is told. Outgoing frames are written once per turn of the event loop, or as soon as
there are many.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Collection, Sequence

from eventbus.config import ConnectionConfig
from eventbus.errors import ErrorClass, ErrorKind
from eventbus.event import BusEvent, EventKind
from eventbus.inspection import Inspection
from eventbus.message import ID_DIGITS, Message
from eventbus.ports import AckSink, Capabilities, Clock, Failure, Outgoing, Route
from eventbus.publishers.nats.check import ID_HEADER_BYTES, check_size, check_subject
from eventbus.publishers.nats.connection import NatsConnection
from eventbus.publishers.nats.topics import NatsTopics
from eventbus.publishers.nats.transport import AckTransport
from eventbus.publishers.nats.wire import ID_BLOCK_BYTES, Read, header_block
from eventbus.snapshot import ConnectionState
from eventbus.topic import TopicConfig

_log = logging.getLogger("eventbus")

_WRITE_AT_FRAMES = 256
_WRITE_AT_BYTES = 64 * 1024
"""Frames that are written at once, and before the end of the turn: 256 of the usual 300 bytes are what a socket takes
in one go, and so are 64 KiB of larger ones."""
_API_PREFIX = "$JS.API."
_CACHED_SUBJECTS = 10_000
_MAX_BACKLOG_BYTES = 64 * 1024 * 1024
_COPIED_BYTES = 4096
"""Up to this size a payload is copied into its frame at once, which costs less than handling it apart."""
_DENIED = re.compile(r'Permissions Violation for (Publish|Subscription) to "([^"]*)"', re.IGNORECASE)


class NatsPublisher:
    """Implements ports.Publisher for ``servers``, full URLs that may hold credentials (never logged).

    longest_retry_s: how long the bus may go on sending a message of a topic, in seconds, or None where it never
        repeats one; only to warn of duplicate windows that are shorter. Default: not known, so no such warning.
    max_backlog_bytes: unsent frames at which sending pauses until the operating system has taken them: a server that
        stands still would else be sent each message again and again, into memory. Default 64 MiB.
    """

    capabilities = Capabilities(system="nats")

    def __init__(
        self,
        servers: tuple[str, ...],
        config: ConnectionConfig,
        clock: Clock,
        longest_retry_s: Callable[[TopicConfig], float | None] = lambda _: None,
        max_backlog_bytes: int = _MAX_BACKLOG_BYTES,
    ) -> None:
        self._max_backlog_bytes = max_backlog_bytes
        self._relief: asyncio.Task[None] | None = None
        self._clock = clock
        self._connection = NatsConnection(
            servers,
            config,
            on_dialled=self._on_dialled,
            on_ready=self._on_ready,
            on_lost=self._on_lost,
            on_denied=self._on_denied,
            on_read=self._on_read,
        )
        self._topics = NatsTopics(self._connection, longest_retry_s, clock, self._tell)
        self._sink: AckSink | None = None
        self._id_prefix = ""
        self._block_bytes = 0
        # The connection's, under names of this object: what is hot takes no detour. Set by its callbacks and by close.
        self._transport: AckTransport | None = None
        self._inbox = ""
        self._ready = False
        self._deny, self._api_denied = self._connection.deny, self._topics.denied
        self._call_soon = asyncio.get_running_loop().call_soon
        self._frames: list[bytes] = []
        self._large_bytes = 0  # of payloads that are gathered and were not copied into their frame
        self._max_payload = 1024 * 1024
        self.unchecked_bytes = self._max_payload - ID_HEADER_BYTES
        self._checked_topics: set[str] = set()
        self._named: dict[str, bytes] = {}
        self._plain: dict[str, bytes] = {}

    # ---- the connection ----------------------------------------------------------------------------------------

    async def open(self, sink: AckSink) -> None:
        """Connect and subscribe the inbox. Raises ConnectFailed within ``connect_timeout_s``; then nothing is left."""
        self._sink = sink
        self._id_prefix = sink.id_prefix
        self._block_bytes = ID_BLOCK_BYTES + len(sink.id_prefix) + ID_DIGITS
        sink.connection_changed(ConnectionState.CONNECTING)
        await self._connection.open()

    def _on_dialled(self, transport: AckTransport, inbox: str) -> None:
        self._transport, self._inbox = transport, inbox
        self._named.clear()
        self._plain.clear()

    def _on_ready(self, max_payload: int) -> None:
        assert self._sink is not None
        self._max_payload = max_payload
        self.unchecked_bytes = max_payload - ID_HEADER_BYTES
        self._api_denied.clear()
        self._ready = True
        self._tell(EventKind.CONNECTED, f"connected to {self._connection.shown}")
        self._sink.connection_changed(ConnectionState.CONNECTED)

    def _on_lost(self) -> None:
        self._ready = False
        self._end_relief()
        self._frames.clear()
        self._large_bytes = 0
        if self._sink is not None:
            self._tell(EventKind.DISCONNECTED, f"connection to {self._connection.shown} lost; reconnecting")
            self._sink.connection_changed(ConnectionState.RECONNECTING, "the connection was lost")

    def _on_denied(self, reason: str) -> None:
        self._ready = False
        if self._sink is not None:
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
        return await self._topics.prepare(name, config)

    async def inspect(self, name: str, url: str) -> Inspection:
        """What the server is like, and the stream of a topic; changes nothing. ``url``: as it may be shown.

        Waits for a few requests of at most 2 s each. Raises ConnectFailed where the server stops answering.
        """
        return await self._topics.inspect(name, url)

    # ---- messages ----------------------------------------------------------------------------------------------

    def check(self, message: Message) -> None:
        """Raise InvalidMessage for what would close the connection or be stored where nobody asked for it."""
        if message.topic not in self._checked_topics:
            check_subject(message.topic)
            if len(self._checked_topics) >= _CACHED_SUBJECTS:
                self._checked_topics.clear()
            self._checked_topics.add(message.topic)
        check_size(message, self._max_payload)

    def send(self, pending: Outgoing) -> None:
        """Gather its frame; written at the end of this turn of the loop."""
        topic, payload, token = pending.topic, pending.payload, pending.token
        size = len(payload)
        if size > _COPIED_BYTES or pending.extras is not None:
            self._send_in_parts(pending, size)
            return
        if pending.route.topic.allow_duplicates:
            frame = (self._plain.get(topic) or self._plain_of(topic)) % (token, size, payload)
        else:
            named = self._named.get(topic) or self._named_of(topic)
            frame = named % (token, self._block_bytes + size, token, payload)
        frames = self._frames
        if not frames:
            self._call_soon(self._write)
        frames.append(frame)
        if len(frames) >= _WRITE_AT_FRAMES:
            self._write()

    def _send_in_parts(self, pending: Outgoing, size: int) -> None:
        """The same for what is large, so that its payload is copied once only, or has headers or an id of its own."""
        if size > self.unchecked_bytes:  # it was accepted when the server took more
            self._refuse_too_large(pending, size)
            return
        _, headers, own_id = pending.extras or (None, None, None)
        head = f"{pending.topic} {self._inbox}{pending.token}"
        if headers is None and own_id is None and pending.route.topic.allow_duplicates:
            self._gather(f"PUB {head} {size}\r\n".encode(), pending.payload)
        else:
            block = header_block(pending.message_id, headers)
            self._gather(f"HPUB {head} {len(block)} {len(block) + size}\r\n".encode() + block, pending.payload)

    # Frames of the usual messages are made from one template per topic. Ids made by the bus have all the same length,
    # so that the size of the headers, which a frame begins with, is the same for all.

    def _named_of(self, topic: str) -> bytes:
        """The template of a topic's frames with ids; takes token, size in all, token, payload."""
        head = f"HPUB {topic} {self._inbox}".replace("%", "%%")
        id_line = f"Nats-Msg-Id: {self._id_prefix}".replace("%", "%%")
        template = f"{head}%d {self._block_bytes} %d\r\nNATS/1.0\r\n{id_line}%0{ID_DIGITS}d\r\n\r\n%b\r\n".encode()
        return _keep(self._named, topic, template)

    def _plain_of(self, topic: str) -> bytes:
        """The template of a topic's frames without ids; takes token, size, payload."""
        head = f"PUB {topic} {self._inbox}".replace("%", "%%")
        return _keep(self._plain, topic, f"{head}%d %d\r\n%b\r\n".encode())

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

    def _gather(self, control: bytes, payload: bytes) -> None:
        frames = self._frames
        if not frames:
            self._call_soon(self._write)
        frames += (control, payload, b"\r\n")
        self._large_bytes += len(payload)
        if self._large_bytes >= _WRITE_AT_BYTES or len(frames) >= _WRITE_AT_FRAMES:
            self._write()

    def _write(self) -> None:
        if self._frames and self._ready and self._transport is not None:
            frames, self._frames, self._large_bytes = self._frames, [], 0
            self._transport.write(b"".join(frames))
            if self._relief is None and self._transport.backlog_bytes > self._max_backlog_bytes:
                self._relief = asyncio.create_task(self._resume(self._transport), name="eventbus backlog")
                if self._sink is not None:
                    self._sink.sending_paused(True)

    async def _resume(self, transport: AckTransport) -> None:
        """Go on sending once the backlog is gone; a lost connection ends this."""
        with contextlib.suppress(OSError):  # then the connection is lost, which is told apart
            await transport.drain()
        self._relief = None
        if self._ready and self._sink is not None:
            self._sink.sending_paused(False)

    def _end_relief(self) -> None:
        if self._relief is not None:
            self._relief.cancel()
            self._relief = None

    def withdraw(self, tokens: Sequence[int]) -> Collection[int]:
        """None: what was handed over is in the connection's buffer at once."""
        return ()

    @property
    def backlog_bytes(self) -> int:
        """Bytes of gathered sends without acks and large payloads, and what the operating system has not taken."""
        return self._large_bytes + (0 if self._transport is None else self._transport.backlog_bytes)

    async def flush(self) -> None:
        """Wait until the server has taken all that was handed over; tries again after a reconnect."""
        await self._connection.ping(self._write)

    async def ping(self) -> float:
        """PING and PONG. nats-server answers beside its streams, so this says nothing of how fast they are."""
        return await self._connection.ping()

    @property
    def broker(self) -> str:
        """As the server greeted us."""
        return self._connection.broker

    async def close(self, timeout_s: float) -> None:
        """End the connection within ``timeout_s``; the sink hears nothing more."""
        self._write()
        self._sink = None
        self._ready = False
        self._end_relief()
        await self._connection.close(timeout_s)
        self._transport = None


def _keep(templates: dict[str, bytes], topic: str, template: bytes) -> bytes:
    if len(templates) >= _CACHED_SUBJECTS:
        templates.clear()
    templates[topic] = template
    return template
