"""RecordBatch: some messages of one partition on their way together, with one future for all of them.

The encoding is aiokafka's, in C. Its BatchBuilder is filled through the encoder inside it, because one call of
``BatchBuilder.append`` costs 0.31 us and one of the encoder 0.10 (CPython 3.11); tests/test_kafka_private.py pins the
names that are used for that.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder

from eventbus.ports import Clock, Outgoing

MESSAGE_ID_HEADER = "message-id"
"""Carries a message id that the caller gave. One that the bus makes is not sent: no broker would look at it."""


_NO_HEADERS: list[tuple[str, bytes]] = []
"""One for all: aiokafka only reads it."""


class _CountingBuilder(BatchBuilder):  # type: ignore[misc]  # aiokafka has no types
    """Knows how often it was asked for its bytes, which aiokafka does once for each request."""

    requests = 0

    def _build(self) -> Any:
        self.requests += 1
        return super()._build()


class RecordBatch:
    """topic, partition: where it goes. messages: those taken in, by token, in their order. max_bytes: of all records
    before compression; the first is taken whatever its size.
    """

    def __init__(self, topic: str, partition: int, max_bytes: int, compression: int) -> None:
        self.topic = topic
        self.partition = partition
        self.messages: dict[int, Outgoing] = {}
        self.builder = _CountingBuilder(max_bytes, compression)

    @property
    def requests(self) -> int:
        """How often aiokafka has made a request of it. 0: it was certainly not sent."""
        return self.builder.requests

    def take(self, queue: dict[int, Outgoing], clock: Clock) -> None:
        """Move messages from ``queue`` into it, the oldest first, until it is full. Each keeps the time at which it was
        accepted, also when it is sent again."""
        append = self.builder._builder.append
        shift_ns = int(clock.wall_s() * 1e9) - clock.monotonic_ns()
        count = 0
        stamp_ms, from_ns, until_ns = 0, 0, 0
        for pending in queue.values():
            extras, accepted_ns = pending.extras, pending.accepted_ns
            if not from_ns <= accepted_ns < until_ns:  # another millisecond than the one before
                stamp_ms = (accepted_ns + shift_ns) // 1_000_000
                from_ns = stamp_ms * 1_000_000 - shift_ns
                until_ns = from_ns + 1_000_000
            if extras is None:
                taken = append(count, stamp_ms, None, pending.payload, _NO_HEADERS)
            else:
                key = None if extras[0] is None else extras[0].encode()
                taken = append(count, stamp_ms, key, pending.payload, _headers(pending))
            if taken is None:
                break
            count += 1
        self.builder._relative_offset = count
        self.builder.close()
        if count == len(queue):
            self.messages = dict(queue)
            queue.clear()
        else:
            self.messages = dict(islice(queue.items(), count))
            for token in self.messages:
                del queue[token]


def _headers(pending: Outgoing) -> list[tuple[str, bytes]]:
    """The caller's, and the message id where the caller gave one."""
    _, headers, own_id = pending.extras or (None, None, None)
    encoded = [(name, value.encode()) for name, value in (headers or {}).items()]
    if own_id is not None:
        encoded.append((MESSAGE_ID_HEADER, own_id.encode()))
    return encoded
