"""What can be known of a message before it is sent to Kafka: that its topic is one, and how large its record is. Pure.

A broker refuses a whole batch for one record, so what it would certainly refuse must not get into one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from eventbus.errors import InvalidMessage
from eventbus.message import Message

BATCH_HEADER_BYTES = 61
"""What a record batch of format 2 has before its records; the broker's limits count it."""
_RECORD_OVERHEAD_BYTES = 21
"""At most: length 5, attributes 1, timestamp 10, offset 5 (aiokafka's ``MAX_RECORD_OVERHEAD``)."""

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")  # Kafka's own (org.apache.kafka.common.internals.Topic)


def check_topic(name: str) -> None:
    """Raise InvalidMessage for a name that no Kafka topic can have."""
    if not _TOPIC.fullmatch(name) or name in (".", ".."):
        shown = repr(name) if len(name) <= 60 else f"{name[:60]!r}... ({len(name)} characters)"
        raise InvalidMessage(
            f"topic {shown} is no name for a Kafka topic: use 1 to 249 of the letters a to z and A to Z, digits, "
            "'.', '_' and '-', and neither '.' nor '..'"
        )


def check_message(
    message: Message, max_request_bytes: int, max_message_bytes: int | None = None, extra_bytes: int = 0
) -> int:
    """Raise InvalidMessage for what cannot be encoded or is too large; else the bytes of its record, at most.

    max_request_bytes: KafkaConfig's. max_message_bytes: the topic's ``max.message.bytes``, where it is known and the
        batch is not compressed (the broker counts compressed bytes). extra_bytes: of headers that the publisher adds.
    The topic's name is not checked; see check_topic.
    """
    topic, payload, key, headers, _ = message
    try:
        size = record_bytes(key, payload, headers) + extra_bytes
    except UnicodeEncodeError as error:
        raise InvalidMessage(
            f"key or headers of a message for {topic!r} hold {error.object[error.start]!r}, half of a surrogate pair, "
            "which UTF-8 cannot encode"
        ) from None
    if headers is not None and "" in headers:
        raise InvalidMessage(f"a header of a message for {topic!r} has an empty name; give it one")
    whole = size + BATCH_HEADER_BYTES
    if whole > max_request_bytes:
        raise InvalidMessage(
            f"message for {topic!r} has {len(payload)} bytes of payload and {whole} as a record batch; "
            f"max_request_bytes of KafkaConfig is {max_request_bytes}: send less or raise it"
        )
    if max_message_bytes is not None and whole > max_message_bytes:
        raise InvalidMessage(
            f"message for {topic!r} has {len(payload)} bytes of payload and {whole} as a record batch; the topic's "
            f"max.message.bytes is {max_message_bytes}: send less, or raise it at the broker"
        )
    return size


def check_partition(topic: str, partition: int, count: int) -> None:
    """Raise InvalidMessage for a partition that the topic does not have. aiokafka would raise a bare AssertionError."""
    if not 0 <= partition < count:
        raise InvalidMessage(f"partition {partition} of topic {topic!r}: it has {count}, from 0 to {count - 1}")


def record_bytes(key: str | None, payload: bytes, headers: Mapping[str, str] | None = None) -> int:
    """Size of the record, at most: it depends a little on its place in the batch. Without BATCH_HEADER_BYTES.

    Raises UnicodeEncodeError where a text holds half of a surrogate pair.
    """
    size = _RECORD_OVERHEAD_BYTES + _field_bytes(len(payload)) + 1
    if key is None:
        size += 1
    else:
        size += _field_bytes(len(key) if key.isascii() else len(key.encode()))
    if headers:
        size += _field_bytes(len(headers)) - len(headers) - 1  # their number, as a varint in place of the 1 above
        for name, value in headers.items():
            size += _field_bytes(len(name) if name.isascii() else len(name.encode()))
            size += _field_bytes(len(value) if value.isascii() else len(value.encode()))
    return size


def _field_bytes(length: int) -> int:
    """A field with its length before it, a zigzag varint: 7 bits a byte, one of them for the sign."""
    if length < 64:
        return length + 1
    if length < 8_192:
        return length + 2
    if length < 1_048_576:
        return length + 3
    return length + (4 if length < 134_217_728 else 5)
