"""What can be known of a message before it is sent to Kafka."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.errors import InvalidMessage
from eventbus.message import Message
from eventbus.publishers.kafka.check import (
    BATCH_HEADER_BYTES,
    check_message,
    check_partition,
    check_topic,
    record_bytes,
)

MIB = 1024 * 1024


@pytest.mark.parametrize("name", ["a", "orders.created", "A-Z_0.9", "...", "x" * 249])
def test_topic(name: str):
    """Letters, digits and three signs."""
    check_topic(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "x" * 250, "orders created", "orders>", "a/b", "bestellung.größe", "a\n"]
)
def test_topic_that_cannot_be(name: str):
    """Refused, and told what is allowed."""
    with pytest.raises(InvalidMessage, match=r"no name for a Kafka topic: use 1 to 249 of the letters"):
        check_topic(name)


def real_bytes(key: str | None, payload: bytes, headers: dict[str, str], offset: int, later_ms: int) -> int:
    """The size of the same record as aiokafka writes it, at some place of a batch."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=0,
        batch_size=64 * MIB,
    )
    builder.append(0, timestamp=1_700_000_000_000, key=None, value=b"", headers=[])
    before = builder.size()
    encoded: list[tuple[str, bytes | None]] = [(name, value.encode()) for name, value in headers.items()]
    builder.append(
        offset,
        timestamp=1_700_000_000_000 + later_ms,
        key=None if key is None else key.encode(),
        value=payload,
        headers=encoded,
    )
    size: int = builder.size() - before
    return size


TEXT = st.text(st.characters(codec="utf-8"), max_size=200)


@settings(max_examples=300, deadline=None)
@given(
    key=st.none() | TEXT,
    length=st.sampled_from([0, 1, 63, 64, 8_191, 8_192]) | st.integers(0, 20_000),
    headers=st.dictionaries(TEXT, TEXT, max_size=80),
    offset=st.integers(1, 2**31 - 1),
    later_ms=st.integers(-(2**40), 2**40),
)
def test_size_of_any_record(key: str | None, length: int, headers: dict[str, str], offset: int, later_ms: int):
    """Never less than the record takes, and at most 18 bytes more."""
    real = real_bytes(key, b"x" * length, headers, offset, later_ms)
    assert real <= record_bytes(key, b"x" * length, headers) <= real + 18


def test_size_of_a_large_record():
    """Where lengths take three bytes and four."""
    for length in (MIB - 1, MIB, 5 * MIB):
        real = real_bytes("k", b"x" * length, {"n": "v" * length}, 1, 0)
        assert real <= record_bytes("k", b"x" * length, {"n": "v" * length}) <= real + 18


def test_batch_header():
    """It counts against the broker's limits too."""
    assert DefaultRecordBatchBuilder.estimate_size_in_bytes(None, b"abc", []) == BATCH_HEADER_BYTES + record_bytes(
        None, b"abc"
    )


def test_message_that_fits():
    """Its size is told, with what the publisher adds."""
    message = Message("orders", b"x" * 100, "key", {"a": "b"})
    size = check_message(message, MIB)
    assert size == record_bytes("key", b"x" * 100, {"a": "b"})
    assert check_message(message, MIB, MIB, extra_bytes=7) == size + 7
    whole = size + BATCH_HEADER_BYTES
    check_message(message, whole, whole)


def test_message_too_large():
    """The setting and the limit are named: ours, or the topic's."""
    message = Message("orders", b"x" * 1000)
    whole = record_bytes(None, message.payload) + BATCH_HEADER_BYTES
    with pytest.raises(
        InvalidMessage, match=rf"1000 bytes .* {whole} .* max_request_bytes .* is {whole - 1}: send less"
    ):
        check_message(message, whole - 1)
    with pytest.raises(InvalidMessage, match=rf"1000 bytes .* {whole} .* max.message.bytes is {whole - 1}: send less"):
        check_message(message, MIB, whole - 1)
    with pytest.raises(InvalidMessage, match="max_request_bytes"):
        check_message(message, whole, extra_bytes=1)


@pytest.mark.parametrize(
    "fields", [{"key": "\ud800"}, {"headers": {"a": "\udfff"}}, {"headers": {"\udc80": "a"}}], ids=str
)
def test_text_that_has_no_bytes(fields: dict[str, Any]):
    """Refused here, since nothing else would tell which message it was."""
    with pytest.raises(InvalidMessage, match=r"key or headers of a message for 'orders' hold .* UTF-8 cannot encode"):
        check_message(Message("orders", b"", **fields), MIB)


def test_header_without_a_name():
    """Refused, though Kafka would store it: nobody could read it back by name."""
    with pytest.raises(InvalidMessage, match="header of a message for 'orders' has an empty name"):
        check_message(Message("orders", b"", headers={"": "x"}), MIB)


@pytest.mark.parametrize("partition", [-1, 3, 1_000])
def test_partition_that_is_not_there(partition: int):
    """The range is named."""
    with pytest.raises(InvalidMessage, match=rf"partition {partition} of topic 'orders': it has 3, from 0 to 2"):
        check_partition("orders", partition, 3)


def test_partition_that_is_there():
    """The first and the last."""
    check_partition("orders", 0, 3)
    check_partition("orders", 2, 3)
