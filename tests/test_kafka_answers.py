"""Every answer of the reply table end to end: injected into the mock, it becomes the outcome that the table says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiokafka.errors
import pytest

import eventbus
from eventbus import AckOutcome, ConnectionConfig, ErrorClass, ErrorKind, RetryPolicy, TopicConfig
from eventbus.config import KafkaConfig
from eventbus.embedded.kafka import EmbeddedKafka
from eventbus.publishers.kafka.partitioner import partition_for_key
from eventbus.publishers.kafka.replies import BY_CODE, DUPLICATE_SEQUENCE
from tests.kafka_audit import Heard, outcomes, publish_each, reports_within
from tests.kafka_tools import new_topic, read_back
from tests.nats_tools import assert_conserved

pytestmark = pytest.mark.integration

ACKED, REJECTED, UNKNOWN = AckOutcome.ACKED, AckOutcome.REJECTED, AckOutcome.UNKNOWN
QUICK = RetryPolicy(max_attempts=4, base_delay_s=0.01, max_delay_s=0.02)
AT_LEAST_ONCE = ConnectionConfig(kafka=KafkaConfig(idempotent=False))
DEADLINE_S = 10.0


@pytest.fixture(scope="module")
def mock() -> Iterator[EmbeddedKafka]:
    """One for all: each test has a topic of its own, and injects no more than it uses up."""
    with EmbeddedKafka() as running:
        yield running


@pytest.fixture
def topic(mock: EmbeddedKafka) -> str:
    name = new_topic()
    mock.create_topic(name)
    return name


def connecting(mock: EmbeddedKafka, topic: TopicConfig | str, **settings: Any) -> Any:
    wanted = TopicConfig(topic) if isinstance(topic, str) else topic
    return eventbus.connect(mock.url, topics=[wanted], **{"retry": QUICK, **settings})


def repeated_by_client(code: int) -> bool:
    """Whether an idempotent aiokafka sends the same batch again after this answer."""
    return bool(aiokafka.errors.for_code(code).retriable)


@pytest.mark.parametrize("code", sorted(BY_CODE))
async def test_every_answer_has_its_outcome(mock: EmbeddedKafka, topic: str, code: int) -> None:
    """Refused for good: REJECTED with its kind. Not now: acked in the end. In doubt: acked where the client itself may
    repeat the batch, else UNKNOWN. The next message is acked, whatever became of the producer."""
    row, heard = BY_CODE[code], Heard()
    async with connecting(mock, topic, observers=[heard]) as bus:
        mock.push_partition_errors(topic, 0, [code])
        (report,) = await reports_within([await bus.publish(topic, b"first")], DEADLINE_S)
        if repeated_by_client(code):
            assert (report.outcome, report.attempts) == (ACKED, 1)
        elif row.error_class is ErrorClass.TRANSIENT:
            assert (report.outcome, report.attempts) == (ACKED, 2)
        else:
            fatal = row.error_class is ErrorClass.FATAL
            assert (report.outcome, report.error_kind) == (REJECTED if fatal else UNKNOWN, row.kind)
            if code != 47:  # aiokafka makes an exception of its own of it
                assert str(code) in str(report.error_text)
        assert heard.count("producer_replaced") == (not repeated_by_client(code))
        (after,) = await reports_within([await bus.publish(topic, b"after")], DEADLINE_S)
        assert (after.outcome, after.attempts) == (ACKED, 1)
        assert_conserved(bus.snapshot())


@pytest.mark.parametrize("code", [45, 59, -1])
async def test_duplicates_allowed(mock: EmbeddedKafka, topic: str, code: int) -> None:
    """Where the topic allows duplicates, what is in doubt is sent again."""
    async with connecting(mock, TopicConfig(topic, allow_duplicates=True)) as bus:
        mock.push_partition_errors(topic, 0, [code])
        (report,) = await reports_within([await bus.publish(topic, b"again")], DEADLINE_S)
        assert (report.outcome, report.attempts) == (ACKED, 2)


async def test_broker_has_the_batch_already(mock: EmbeddedKafka, topic: str) -> None:
    """46 is an ack: a duplicate whose place nobody remembers."""
    async with connecting(mock, topic) as bus:
        mock.push_partition_errors(topic, 0, [DUPLICATE_SEQUENCE])
        (report,) = await reports_within([await bus.publish(topic, b"twice")], DEADLINE_S)
        assert (report.outcome, report.duplicate, report.position) == (ACKED, True, None)


async def test_refused_for_as_long_as_there_are_attempts(mock: EmbeddedKafka, topic: str) -> None:
    """An answer that promises nothing was stored ends REJECTED after the last attempt, by either kind of producer."""
    for connection in (ConnectionConfig(), AT_LEAST_ONCE):
        async with connecting(mock, topic, connection=connection) as bus:
            mock.push_partition_errors(topic, 0, [8] * QUICK.max_attempts)
            (report,) = await reports_within([await bus.publish(topic, b"never")], DEADLINE_S)
            assert (report.outcome, report.attempts) == (REJECTED, QUICK.max_attempts)
            assert report.error_kind is ErrorKind.UNAVAILABLE
    assert await read_back(mock.bootstrap_servers, topic) == []


async def test_producer_that_is_not_idempotent_is_kept(mock: EmbeddedKafka, topic: str) -> None:
    """Without sequence numbers a refused batch harms none of the others, so the producer stays."""
    heard = Heard()
    async with connecting(mock, topic, connection=AT_LEAST_ONCE, observers=[heard]) as bus:
        mock.push_partition_errors(topic, 0, [17])
        first, second = await reports_within([await bus.publish(topic, b"%d" % n) for n in range(2)], DEADLINE_S)
        assert (first.outcome, second.outcome) == (REJECTED, REJECTED)  # of one batch
        assert (await outcomes(await publish_each(bus, topic, [b"after"])))[ACKED] == 1
        assert heard.count("producer_replaced") == 0


@pytest.mark.parametrize("code", [10, 18, 32, 87])
async def test_batch_refused_for_one_record_is_divided(mock: EmbeddedKafka, topic: str, code: int) -> None:
    """Refused as a whole, the batch is sent again in halves: the other half is acked, though nothing may be retried."""
    async with connecting(mock, topic, retry=RetryPolicy(max_attempts=1)) as bus:
        mock.push_partition_errors(topic, 0, [code] * 2)
        receipts = await publish_each(bus, topic, [b"%d" % n for n in range(2)])
        reports = await reports_within(list(receipts.values()), DEADLINE_S)
        assert [report.outcome for report in reports] == [REJECTED, ACKED]
        assert {report.attempts for report in reports} == {1}
        assert_conserved(bus.snapshot())
    assert [record.value for record in await read_back(mock.bootstrap_servers, topic)] == [b"1"]


async def test_what_waits_behind_a_refused_batch_is_sent(mock: EmbeddedKafka, topic: str) -> None:
    """The gap that a refused batch leaves is no fault of the batches behind it: they go through the new producer, in
    their order, and it counts as no attempt."""
    small = ConnectionConfig(kafka=KafkaConfig(max_batch_bytes=200))
    async with connecting(mock, topic, connection=small, retry=RetryPolicy(max_attempts=1)) as bus:
        mock.push_partition_errors(topic, 0, [17, 45])
        receipts = await publish_each(bus, topic, [b"%d" % n + bytes(100) for n in range(6)])
        first, *others = await reports_within(list(receipts.values()), DEADLINE_S)
        assert first.outcome is REJECTED
        assert {report.outcome for report in others} == {ACKED}
    stored = [record.value for record in await read_back(mock.bootstrap_servers, topic)]
    assert stored == list(receipts)[1:]


async def test_other_partitions_of_a_finished_producer(mock: EmbeddedKafka) -> None:
    """What it has under way on sound partitions is waited for, and acked at its first attempt."""
    topic = new_topic()
    mock.create_topic(topic, 2)
    keys = {partition_for_key(key.encode(), 2): key for key in "abcdef"}
    small, heard = ConnectionConfig(kafka=KafkaConfig(max_batch_bytes=200)), Heard()
    mock.set_round_trip(1, 0.05)
    try:
        async with connecting(mock, topic, connection=small, observers=[heard]) as bus:
            mock.push_partition_errors(topic, 0, [17])
            refused = await bus.publish(topic, b"refused", key=keys[0])
            for _ in range(20):
                await asyncio.sleep(0)  # turns of the loop: its request is on its way, and the broker is busy with it
            receipts = [await bus.publish(topic, b"%d" % n + bytes(100), key=keys[1]) for n in range(20)]
            reports = await reports_within(receipts, DEADLINE_S)
            assert {(report.outcome, report.attempts) for report in reports} == {(ACKED, 1)}
            assert (await refused).outcome is REJECTED
            assert heard.count("producer_replaced") == 1
    finally:
        mock.set_round_trip(1, 0)
    stored = [record.value for record in await read_back(mock.bootstrap_servers, topic)]
    assert sorted(map(bytes, filter(None, stored))) == sorted(b"%d" % n + bytes(100) for n in range(20))
