"""What arrives at a real Kafka is what was published: in the right partition, with key, headers and time, in order."""

from __future__ import annotations

import time
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

import eventbus
from eventbus import AckOutcome, AckStrategy, ConfigError, ConnectionConfig, InvalidMessage, TopicConfig, TopicError
from eventbus.config import KafkaConfig
from tests.kafka_audit import audit, outcomes, publish_each, reports_within
from tests.kafka_tools import add_partitions, create_topic, new_topic, read_back
from tests.nats_tools import eventually

pytestmark = pytest.mark.integration

ACKED = AckOutcome.ACKED
DEADLINE_S = 15.0
CODECS: list[Any] = ["gzip", "snappy", "lz4", "zstd"]


async def test_partitions_by_key_are_kafkas(kafka: str) -> None:
    """A key is put where another client of Kafka's default partitioner puts it."""
    topic, keys = new_topic(), ["", "a", "ä€😀", *(f"key-{n}" for n in range(60))]
    await create_topic(kafka, topic, partitions=7)
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    try:
        await producer.start()
        theirs = {key: (await producer.send_and_wait(topic, key=key.encode())).partition for key in keys if key}
    finally:
        await producer.stop()
    async with eventbus.connect(f"kafka://{kafka}", topics=[TopicConfig(topic)]) as bus:
        receipts = {key: await bus.publish(topic, b"ours", key=key) for key in theirs}
        for key, receipt in receipts.items():
            position = (await receipt).position
            assert position is not None
            assert position.partition == theirs[key], key
    for record in await read_back(kafka, topic):
        assert record.partition == theirs[(record.key or b"").decode()]
    assert len(set(theirs.values())) == 7


async def test_key_headers_id_and_time_arrive(kafka: str) -> None:
    """As given; the time is when the message was accepted; an id of the caller's is a header, ours is not sent."""
    topic = new_topic()
    await create_topic(kafka, topic)
    headers = {"Trace-Id": "abc", "unicode": "Grüße", "empty": ""}
    before = time.time()
    async with eventbus.connect(f"kafka://{kafka}", topics=[TopicConfig(topic)]) as bus:
        await bus.publish(topic, b"all", key="k", headers=headers, message_id="mine")
        await bus.publish(topic)
        await bus.publish(topic, b"", key="")
        await bus.flush()
    after = time.time()
    first, second, third = await read_back(kafka, topic)
    assert (first.key, first.value) == (b"k", b"all")
    assert first.headers == (
        *((name, value.encode()) for name, value in headers.items()),
        ("message-id", b"mine"),
    )
    assert (second.key, second.value, second.headers) == (None, b"", ())
    assert (third.key, third.value) == (b"", b"")
    for record in (first, second, third):
        assert before - 0.002 <= record.timestamp_ms / 1e3 <= after


@pytest.mark.parametrize("compression", CODECS)
async def test_compressed(kafka: str, compression: Any) -> None:
    """Each codec is understood by the broker and by another client; what was compressed may be larger than the broker
    takes."""
    topic = new_topic()
    await create_topic(kafka, topic, partitions=2, config={"max.message.bytes": "20000"})
    connection = ConnectionConfig(kafka=KafkaConfig(compression=compression))
    async with eventbus.connect(f"kafka://{kafka}", topics=[TopicConfig(topic)], connection=connection) as bus:
        payloads = [b"%06d" % n + bytes(200) for n in range(2_000)]
        receipts = await publish_each(bus, topic, payloads)
        large = b"large" * 10_000
        receipts[large] = await bus.publish(topic, large)
        assert await outcomes(receipts) == {ACKED: 2_001}
        await audit(kafka, topic, receipts)


async def test_order_within_a_key(kafka: str) -> None:
    """Through many batches, and whatever partition they take, messages of one key stay in order."""
    topic = new_topic()
    await create_topic(kafka, topic, partitions=3)
    small = ConnectionConfig(kafka=KafkaConfig(max_batch_bytes=2_000))
    async with eventbus.connect(f"kafka://{kafka}", topics=[TopicConfig(topic)], connection=small) as bus:
        for n in range(5_000):
            await bus.publish(topic, b"%d" % n, key=f"k{n % 10}")
        await bus.flush()
    stored = await read_back(kafka, topic)
    assert len(stored) == 5_000
    for key in range(10):
        numbers = [int(record.value or b"") for record in stored if record.key == b"k%d" % key]
        assert numbers == list(range(key, 5_000, 10))


async def test_messages_without_key_use_all_partitions(kafka: str) -> None:
    """Sticky for a batch, then another partition: in the end all have many."""
    topic = new_topic()
    await create_topic(kafka, topic, partitions=4)
    small = ConnectionConfig(kafka=KafkaConfig(max_batch_bytes=5_000))
    async with eventbus.connect(f"kafka://{kafka}", topics=[TopicConfig(topic)], connection=small) as bus:
        receipts = await publish_each(bus, topic, [b"%06d" % n + bytes(100) for n in range(20_000)])
        await bus.flush()
        await audit(kafka, topic, receipts)
    stored = await read_back(kafka, topic)
    for partition in range(4):
        assert 1_000 < sum(record.partition == partition for record in stored) < 12_000


@pytest.mark.parametrize("keyed", [True, False])
async def test_topic_given_more_partitions(kafka: str, keyed: bool) -> None:
    """While the bus runs: soon the new ones are used too, by keys as every other client would use them."""
    topic = new_topic()
    await create_topic(kafka, topic, partitions=1)
    connection = ConnectionConfig(ping_interval_s=0.1, kafka=KafkaConfig(max_batch_bytes=1_000))
    async with eventbus.connect(f"kafka://{kafka}", topics=[TopicConfig(topic)], connection=connection) as bus:
        assert (await (await bus.publish(topic, b"x", key="k"))).outcome is ACKED
        await add_partitions(kafka, topic, 4)
        seen: set[int | None] = set()
        deadline = time.monotonic() + DEADLINE_S
        while seen != {0, 1, 2, 3}:
            assert time.monotonic() < deadline, f"only partitions {seen} are used"
            keys = [f"k{n}" if keyed else None for n in range(100)]
            receipts = [await bus.publish(topic, bytes(100), key=key) for key in keys]
            reports = await reports_within(receipts, DEADLINE_S)
            assert {report.outcome for report in reports} == {ACKED}
            seen |= {report.position.partition for report in reports if report.position is not None}


async def test_without_acks(kafka: str) -> None:
    """IGNORE on a real broker: all of it arrives, in order, and nothing is accepted."""
    topic = new_topic()
    await create_topic(kafka, topic)
    async with eventbus.connect(f"kafka://{kafka}", strategy=AckStrategy.IGNORE, topics=[TopicConfig(topic)]) as bus:
        for n in range(20_000):
            await bus.publish(topic, b"%d" % n)
        await bus.flush(10)
        snapshot = bus.snapshot()
        assert (snapshot.unacknowledged, snapshot.accepted) == (20_000, 0)
    assert [record.value for record in await read_back(kafka, topic)] == [b"%d" % n for n in range(20_000)]


# ---- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "payload", "settings", "named"),
    [
        ("no spaces", b"", {}, "a to z"),
        ("ümlaut", b"", {}, "a to z"),
        ("a" * 250, b"", {}, "1 to 249"),
        ("..", b"", {}, "neither"),
        ("demo.*", b"", {}, "a to z"),
        ("t", bytes(2_000_000), {}, "max_request_bytes"),
        ("t", b"", {"headers": {"a": 1}}, "header"),
        ("t", b"", {"headers": {"": "x"}}, "header"),
        ("t", b"", {"headers": {"a": "\ud800"}}, "surrogate"),
        ("t", b"", {"key": "\ud800"}, "surrogate"),
        ("t", b"", {"key": b"bytes"}, "key"),
        ("t", b"", {"message_id": "\ud800"}, "message_id|surrogate"),
        ("t", "text", {}, "payload"),
    ],
)
async def test_what_kafka_does_not_take(
    kafka: str, topic: str, payload: Any, settings: dict[str, Any], named: str
) -> None:
    """InvalidMessage says what is wrong; nothing was accepted, and neighbours in the same batch are acked."""
    mine = new_topic()
    async with eventbus.connect(f"kafka://{kafka}", topics=[TopicConfig(mine)]) as bus:
        before = await publish_each(bus, mine, [b"%d" % n for n in range(10)])
        for publish in (bus.publish, bus.publish_nowait):
            with pytest.raises(InvalidMessage, match=named):
                await publish(mine if topic == "t" else topic, payload, **settings)
        after = await publish_each(bus, mine, [b"%d" % n for n in range(10, 20)])
        assert await outcomes(before | after) == {ACKED: 20}
        assert bus.snapshot().accepted == 20


async def test_largest_message(kafka: str) -> None:
    """Just below max_request_bytes is acked, so what the check takes the broker takes too."""
    topic = new_topic()
    await create_topic(kafka, topic)
    limit = KafkaConfig().max_request_bytes
    async with eventbus.connect(f"kafka://{kafka}", topics=[TopicConfig(topic)]) as bus:
        size = limit
        while True:
            try:
                receipt = await bus.publish(topic, bytes(size), key="k", headers={"a": "b"})
            except InvalidMessage:
                size -= 1
            else:
                break
        assert (await receipt).outcome is ACKED
        assert size > limit - 200


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("kafka://", "HOST:PORT"),
        ("kafka://127.0.0.1:notaport", "HOST:PORT"),
        ("kafka://127.0.0.1:9092/topic", "nothing after it"),
        ("kafka://127.0.0.1:9092?acks=0", "nothing after it"),
        ("kafka://user@127.0.0.1:9092", "user and password"),
        ("kafka://a:b@127.0.0.1:9092,c:d@127.0.0.1:9093", "one login"),
        ("embedded+kafka://x", "nothing may follow"),
        ("kafak://127.0.0.1:9092", "kafka://HOST:PORT"),
    ],
)
async def test_bad_url(url: str, named: str) -> None:
    """ConfigError says what a URL looks like, before anything is dialled."""
    with pytest.raises(ConfigError, match=named):
        await eventbus.connect(url)


@pytest.mark.parametrize(
    ("topic", "named"),
    [
        (TopicConfig("missing.one", create=False), "create=False"),
        (TopicConfig("many.replicas", replicas=3), "replica"),
    ],
)
async def test_topic_that_cannot_be_had(kafka: str, topic: TopicConfig, named: str) -> None:
    """TopicError from connect, which names the setting."""
    with pytest.raises(TopicError, match=named):
        await eventbus.connect(f"kafka://{kafka}", topics=[topic])


async def test_topic_that_cannot_be_had_later(kafka: str) -> None:
    """Not configured by name: its messages are REJECTED with the reason, others are unharmed."""
    other = new_topic()
    async with eventbus.connect(f"kafka://{kafka}", topics=[TopicConfig("missing.>", create=False)]) as bus:
        (report,) = await reports_within([await bus.publish(f"missing.{other}")], DEADLINE_S)
        assert (report.outcome, report.error_kind) == (AckOutcome.REJECTED, eventbus.ErrorKind.NO_STREAM)
        assert "create=False" in str(report.error_text)
        assert (await (await bus.publish(other))).outcome is ACKED
        await eventually(lambda: bus.snapshot().pending == 0, "nothing is left")
