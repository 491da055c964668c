"""Inspector: asks a server and its streams what they are like, and changes nothing there."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from enum import Enum

from nats.aio.client import Client
from nats.js import api

from eventbus.errors import TopicError
from eventbus.event import BusEvent
from eventbus.inspection import Finding, Level, ServerFacts, StreamFacts
from eventbus.ports import Clock, Reply
from eventbus.publishers.nats import preflight, streams
from eventbus.snapshot import ConnectionState
from eventbus.topic import TopicConfig, subject_matches

_PINGS = 9
_PING_TIMEOUT_S = 2

MAY_NOT_ASK = Finding(
    Level.WARNING,
    "this user may not ask JetStream about streams",
    "no duplicate window is known, so a message in doubt is not sent again and ends as unknown",
    "Allow this user to publish to $JS.API.STREAM.NAMES and $JS.API.STREAM.INFO.*",
)


class Unheard:
    """An AckSink for a connection that publishes nothing."""

    id_prefix = ""

    def replied(self, replies: Sequence[Reply]) -> None:
        """Nothing was sent."""

    def connection_changed(self, state: ConnectionState, reason: str = "", *, in_flight_lost: bool = True) -> None:
        """Nothing waits for it."""

    def sending_paused(self, paused: bool) -> None:
        """Nothing is sent."""

    def happened(self, event: BusEvent) -> None:
        """Whoever opens the connection is told by an exception."""


async def inspect_server(client: Client, transport: str, tls: bool, clock: Clock) -> ServerFacts:
    """Facts from the server's greeting, and some pings. Raises nats.errors.Error where a ping has no answer in 2 s."""
    round_trips_ns = []
    for _ in range(_PINGS):
        began_ns = clock.monotonic_ns()
        await client.flush(timeout=_PING_TIMEOUT_S)
        round_trips_ns.append(clock.monotonic_ns() - began_ns)
    greeting = client._server_info  # has no public name: pinned by tests/test_nats_private.py
    return ServerFacts(
        name=str(greeting.get("server_name", "")),
        version=str(greeting.get("version", "")),
        jetstream=bool(greeting.get("jetstream", False)),
        max_payload_bytes=client.max_payload,
        round_trip_s=statistics.median(round_trips_ns) / 1e9,
        transport=transport,
        tls=tls,
        cluster=greeting.get("cluster"),
    )


async def inspect_stream(
    client: Client, topic: TopicConfig, longest_retry_s: float | None
) -> tuple[StreamFacts | None, tuple[Finding, ...]]:
    """The stream of a topic, or the one that would be made; None with a finding where that is not possible.

    Waits for at most a few requests of 2 s.
    """
    try:
        info = await streams.find(client, topic.name)
        wanted = streams.wanted_for(topic.name, topic, configured=topic.is_pattern)
        if info is not None and any(subject_matches(pattern, topic.name) for pattern in info.config.subjects or ()):
            return _facts(info.config, info.state), preflight.examine(info, topic, longest_retry_s)
        in_the_way = await streams.in_the_way(client, wanted)
    except TopicError as error:
        return None, (_unanswered(error),)
    if in_the_way is not None:
        return None, (_in_the_way(topic.name, wanted, in_the_way),)
    nothing = api.StreamState(messages=0, bytes=0, first_seq=0, last_seq=0, consumer_count=0)
    cluster = api.ClusterInfo(name=client._server_info.get("cluster"))
    to_be = api.StreamInfo(config=wanted, state=nothing, cluster=cluster)
    return _facts(wanted, None), preflight.examine(to_be, topic, longest_retry_s)


def _facts(config: api.StreamConfig, state: api.StreamState | None) -> StreamFacts:
    return StreamFacts(
        name=config.name or "",
        exists=state is not None,
        subjects=tuple(config.subjects or ()),
        storage=_word(config.storage or api.StorageType.FILE),
        replicas=config.num_replicas or 1,
        duplicate_window_s=config.duplicate_window or 0.0,
        retention=_word(config.retention or api.RetentionPolicy.LIMITS),
        discard=_word(config.discard or api.DiscardPolicy.OLD),
        limits=preflight.limits_of(config),
        messages=0 if state is None else state.messages,
        stored_bytes=0 if state is None else state.bytes,
        consumers=0 if state is None else state.consumer_count,
    )


def _word(value: str) -> str:
    """nats-py declares enums and returns plain text where the server spoke."""
    return str(value.value if isinstance(value, Enum) else value)


def _unanswered(error: TopicError) -> Finding:
    return Finding(
        Level.WARNING,
        str(error),
        "without JetStream there are no acks",
        "Start nats-server with --jetstream, enable it for this account, or wait for the cluster to elect a leader",
    )


def _in_the_way(topic: str, wanted: api.StreamConfig, stream: str) -> Finding:
    return Finding(
        Level.WARNING,
        f"no stream takes {topic}, and stream {stream} is in the way of making {wanted.name} for "
        f"{', '.join(wanted.subjects or ())}",
        "publishing fails, because names and subjects of streams must not overlap",
        f"Add {topic} to the subjects of {stream}, or give a TopicConfig for the topic with a stream of its own",
    )
