"""MemoryPublisher: a broker inside the process, for tests and first tries. Passes the same contract suite as NATS.

It keeps real streams (a list of stored messages and a duplicate window), acks on the next turn of the event loop in
one batch, and can be told to misbehave: ``drop_acks``, ``refuse_with``, ``disconnect`` and ``reconnect``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from eventbus.errors import ErrorClass, ErrorKind, InvalidMessage, TopicError
from eventbus.event import BusEvent, EventKind
from eventbus.message import Message
from eventbus.ports import AckBatch, AckSink, Capabilities, Clock, Failure, Outgoing, Reply, Route
from eventbus.snapshot import ConnectionState
from eventbus.topic import TopicConfig, subject_matches

MAX_PAYLOAD = 1024 * 1024
"""Largest payload in bytes, as nats-server's default."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message as the broker has it."""

    topic: str
    payload: bytes
    headers: dict[str, str]
    message_id: str


class MemoryStream:
    """Stored messages, oldest first, and the ids seen within the duplicate window (monotonic nanoseconds)."""

    def __init__(self, name: str, subjects: tuple[str, ...], duplicate_window_s: float) -> None:
        self.name = name
        self.subjects = subjects
        self.duplicate_window_s = duplicate_window_s
        self.messages: list[StoredMessage] = []
        self._seen: dict[str, tuple[int, int]] = {}

    def store(self, message: StoredMessage, now_ns: int) -> tuple[int, bool]:
        """Its sequence (from 1), and whether its id was there already."""
        seen = self._seen.get(message.message_id)
        if seen is not None and now_ns - seen[1] < self.duplicate_window_s * 1e9:
            return seen[0], True
        self.messages.append(message)
        self._seen[message.message_id] = len(self.messages), now_ns
        return len(self.messages), False


class MemoryPublisher:
    """Streams live as long as this object; nothing is bounded but by what is published."""

    capabilities = Capabilities(system="memory")
    backlog_bytes = 0
    unchecked_bytes = MAX_PAYLOAD
    broker = "memory"

    def __init__(self, clock: Clock) -> None:
        self.streams: dict[str, MemoryStream] = {}
        self.core_messages: list[StoredMessage] = []
        self.drop_acks = False
        """True stores messages and never answers."""
        self.refuse_with: Failure | None = None
        """Stores nothing and answers this; its tokens are filled in."""
        self._clock = clock
        self._sink: AckSink | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived: list[Outgoing] = []
        self._connected = False
        self._there = asyncio.Event()

    async def open(self, sink: AckSink) -> None:
        """Connect; returns at once."""
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self.reconnect()

    def disconnect(self) -> None:
        """Lose the connection: what was sent and not yet answered stays stored or not, unanswered."""
        self._connected = False
        self._there.clear()
        self._arrived.clear()
        if self._sink is not None:
            self._sink.connection_changed(ConnectionState.RECONNECTING, "told to disconnect")

    def reconnect(self) -> None:
        """Have the connection back."""
        self._connected = True
        self._there.set()
        if self._sink is not None:
            self._sink.connection_changed(ConnectionState.CONNECTED)

    async def prepare(self, name: str, config: TopicConfig | None) -> Route:
        """Find or make the stream. Raises TopicError where it may not be made."""
        topic = config or TopicConfig(name)
        if not topic.durable:
            return Route(topic, None, deduplicates=False, duplicate_window_s=0, acknowledged=False, covers=(name,))
        stream = next((s for s in self.streams.values() if any(subject_matches(p, name) for p in s.subjects)), None)
        if stream is None:
            if not topic.create:
                raise TopicError(
                    f"no stream takes {name!r} and its TopicConfig has create=False",
                    error_class=ErrorClass.FATAL,
                    kind=ErrorKind.NO_STREAM,
                )
            first = name.split(".")[0]
            subjects = (topic.name,) if config is not None else (first, f"{first}.>")
            stream = MemoryStream(topic.stream or first.upper(), subjects, topic.duplicate_window_s)
            self.streams[stream.name] = stream
            if self._sink is not None:
                text = f"stream {stream.name} created for {', '.join(subjects)}"
                self._sink.happened(BusEvent(self._clock.wall_s(), EventKind.STREAM_CREATED, text))
        return Route(topic, stream.name, True, stream.duplicate_window_s, covers=stream.subjects)

    def check(self, message: Message) -> None:
        """Raise InvalidMessage for a payload above MAX_PAYLOAD."""
        if len(message.payload) > MAX_PAYLOAD:
            raise InvalidMessage(
                f"payload for {message.topic!r} has {len(message.payload)} bytes; the limit here is {MAX_PAYLOAD}"
            )

    def send(self, pending: Outgoing) -> None:
        """Answer on the next turn of the loop, all of this turn's together."""
        assert self._loop is not None
        if not self._arrived:
            self._loop.call_soon(self._answer)
        self._arrived.append(pending)

    def withdraw(self, tokens: Sequence[int]) -> Collection[int]:
        """None: what was handed over counts as sent."""
        return ()

    def send_unacknowledged(self, message: Message) -> bool:
        """Keep it in ``core_messages``; False while disconnected."""
        if self._connected:
            stored = StoredMessage(message.topic, message.payload, dict(message.headers or {}), "")
            self.core_messages.append(stored)
        return self._connected

    def _answer(self) -> None:
        arrived, self._arrived = self._arrived, []
        if self._sink is None or not arrived:
            return
        replies: list[Reply] = []
        if self.refuse_with is not None:
            how = self.refuse_with
            tokens = [p.token for p in arrived]
            replies.append(Failure(how.error_class, how.kind, how.text, tokens, min_delay_s=how.min_delay_s))
        else:
            by_stream: dict[str, tuple[list[int], list[int], set[int]]] = {}
            for pending in arrived:
                token, log, offset, duplicate = self._store(pending)
                tokens_, offsets, duplicates = by_stream.setdefault(log, ([], [], set()))
                tokens_.append(token)
                offsets.append(offset)
                if duplicate:
                    duplicates.add(token)
            if not self.drop_acks:
                replies += [AckBatch(log, t, o, d) for log, (t, o, d) in by_stream.items()]
        if replies:
            self._sink.replied(replies)

    def _store(self, pending: Outgoing) -> tuple[int, str, int, bool]:
        topic, payload, log = pending.topic, pending.payload, pending.route.log
        assert log is not None
        stored = StoredMessage(topic, payload, dict((pending.extras and pending.extras[1]) or {}), pending.message_id)
        offset, duplicate = self.streams[log].store(stored, self._clock.monotonic_ns())
        return pending.token, log, offset, duplicate

    async def flush(self) -> None:
        """Wait until what was sent is stored: one turn of the loop."""
        await asyncio.sleep(0)

    async def ping(self) -> float:
        """One turn of the loop; while disconnected, as long as that lasts."""
        await self._there.wait()
        began_ns = self._clock.monotonic_ns()
        await asyncio.sleep(0)
        return (self._clock.monotonic_ns() - began_ns) / 1e9

    async def close(self, timeout_s: float) -> None:
        """Stop answering."""
        self._sink = None
        self._connected = False
        self._there.clear()
