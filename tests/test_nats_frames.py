"""Frames that go out are what the NATS protocol says, whatever comes before them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.clock import SystemClock
from eventbus.config import ConnectionConfig
from eventbus.ports import Outgoing, Route
from eventbus.publishers.nats.publisher import NatsPublisher
from eventbus.topic import TopicConfig

INBOX = "_INBOX.100%d.x."
PREFIX = "bus-%s-"

TOPICS = st.sampled_from(["orders.created", "a", "50%d.%b", "übung"])
TOKENS = st.one_of(st.integers(1, 120), st.sampled_from([9, 10, 99, 100, 999, 1000]), st.integers(1, 2**40))
PAYLOADS = st.one_of(st.binary(max_size=40), st.sampled_from([b"%d\r\n", b"x" * 4096, b"x" * 4097]))
EXTRAS = st.sampled_from(
    [None, None, None, (None, {"Trace-Id": "1%d"}, None), ("key", None, None), (None, None, "own-%s")]
)
MESSAGES = st.tuples(TOPICS, TOKENS, PAYLOADS, EXTRAS, st.booleans())


def made_id(token: int) -> str:
    """An id that the bus makes: all have the same length."""
    return f"{PREFIX}{token:015d}"


def outgoing(topic: str, token: int, payload: bytes, extras: Any, plain: bool) -> Outgoing:
    own_id = extras[2] if extras else None
    route = Route(TopicConfig("x", allow_duplicates=plain), "S", True, 120.0)
    return cast(
        Outgoing,
        SimpleNamespace(
            topic=topic,
            token=token,
            payload=payload,
            extras=extras,
            route=route,
            message_id=own_id or made_id(token),
        ),
    )


def parse(stream: bytes) -> list[tuple[str, str, dict[str, str], bytes]]:
    """Subject, reply subject, headers and payload of each frame, by the protocol's own sizes."""
    found = []
    while stream:
        line, _, stream = stream.partition(b"\r\n")
        words = line.decode().split(" ")
        headers: dict[str, str] = {}
        if words[0] == "HPUB":
            _, subject, reply, head, whole = words
            block, payload, rest = stream[: int(head)], stream[int(head) : int(whole)], stream[int(whole) :]
            assert block.startswith(b"NATS/1.0\r\n")
            assert block.endswith(b"\r\n\r\n")
            for entry in block.decode().split("\r\n")[1:-2]:
                name, _, value = entry.partition(": ")
                headers[name] = value
        else:
            verb, subject, reply, size = words
            assert verb == "PUB"
            payload, rest = stream[: int(size)], stream[int(size) :]
        assert rest.startswith(b"\r\n")
        stream = rest[2:]
        found.append((subject, reply, headers, payload))
    return found


@settings(max_examples=200, deadline=None)
@given(messages=st.lists(MESSAGES, max_size=12))
def test_any_messages_in_any_order(messages: list[tuple[str, int, bytes, Any, bool]]) -> None:
    """Every frame parses to its message: tokens of more and fewer digits, percent signs, large payloads, headers."""

    async def send() -> bytes:
        publisher = NatsPublisher(("nats://127.0.0.1:1",), ConnectionConfig(), SystemClock())
        publisher._id_prefix = PREFIX
        publisher._block_bytes = len("NATS/1.0\r\nNats-Msg-Id: \r\n\r\n") + len(made_id(0))
        publisher._inbox = INBOX
        for message in messages:
            publisher.send(outgoing(*message))
        return b"".join(publisher._frames)

    expected = []
    for topic, token, payload, extras, plain in messages:
        _, headers, own_id = extras or (None, None, None)
        values = dict(headers or {})
        if own_id or values or not plain:
            values["Nats-Msg-Id"] = own_id or made_id(token)
        expected.append((topic, f"{INBOX}{token}", values, payload))
    assert parse(asyncio.run(send())) == expected
