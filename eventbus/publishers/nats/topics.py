"""NatsTopics: routes to streams, and what a person should know about them.

Invariants
- Nothing is asked without a connection, and nobody waits for an answer that a denied permission has made impossible:
  ``denied`` is set when the server says so, and cleared with the next connection.
- A warning about a stream is told once, and again only where it was gone meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import nats.errors

from eventbus.errors import ConnectFailed, ErrorClass, ErrorKind, TopicError
from eventbus.event import EventKind
from eventbus.inspection import Inspection
from eventbus.ports import Clock, Route
from eventbus.publishers.nats import inspector, streams
from eventbus.publishers.nats.connection import NatsConnection, words
from eventbus.publishers.nats.task import hear
from eventbus.topic import TopicConfig

T = TypeVar("T")

_STREAMS_KNOWN = 10_000
"""Of how many streams with warnings it is remembered what was told."""


class NatsTopics:
    """longest_retry_s: see NatsPublisher. tell: for people."""

    def __init__(
        self,
        connection: NatsConnection,
        longest_retry_s: Callable[[TopicConfig], float | None],
        clock: Clock,
        tell: Callable[[EventKind, str], None],
    ) -> None:
        self._connection = connection
        self._longest_retry_s = longest_retry_s
        self._clock = clock
        self._tell = tell
        self._warned: dict[str, tuple[str, ...]] = {}
        self.denied = asyncio.Event()
        """Set while it is known that this user may not ask about streams."""

    async def prepare(self, name: str, config: TopicConfig | None) -> Route:
        """Find or make the stream of a topic. Waits for a few requests of at most 2 s each. Raises TopicError."""
        if config is not None and not config.durable:
            return Route(config, None, deduplicates=False, duplicate_window_s=0.0, acknowledged=False, covers=(name,))
        client = self._connection.client
        if client is None or not self._connection.ready:
            text = f"topic {name!r}: no connection"
            raise TopicError(text, error_class=ErrorClass.TRANSIENT, kind=ErrorKind.UNAVAILABLE)
        longest_retry_s = self._longest_retry_s(config or TopicConfig(name))
        answer = await self._unless_denied(streams.prepare(client, name, config, longest_retry_s))
        if answer is None:
            return self._unasked(name, config)
        route, created = answer
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
            if len(self._warned) >= _STREAMS_KNOWN:
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
        connection = self._connection
        client = connection.client
        assert client is not None
        try:
            server = await inspector.inspect_server(client, connection.scheme, connection.encrypted, self._clock)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise ConnectFailed(f"the connection to {connection.shown} was lost: {words(error)}") from error
        topic = TopicConfig(name)
        longest_retry_s = self._longest_retry_s(topic)
        answer = await self._unless_denied(inspector.inspect_stream(client, topic, longest_retry_s))
        stream, findings = answer or (None, (inspector.MAY_NOT_ASK,))
        return Inspection(url, name, server, stream, findings)

    async def _unless_denied(self, question: Coroutine[Any, Any, T]) -> T | None:
        """The answer to a question about streams, or what it raises; None as soon as it is known that there is none."""
        asking = asyncio.ensure_future(question)
        asking.add_done_callback(hear)
        denied = asyncio.ensure_future(self.denied.wait())
        try:
            await asyncio.wait((asking, denied), return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else None
        finally:
            asking.cancel()
            denied.cancel()
