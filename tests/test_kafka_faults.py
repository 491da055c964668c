"""Kafka broken on purpose: every outcome is true, neighbours are unharmed, and the bus recovers by itself.

The mock where an error has to be made; a real broker where it matters what is stored, since the mock deduplicates
nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import pytest

import eventbus
from eventbus import (
    AckOutcome,
    AckStrategy,
    ConnectionConfig,
    ConnectionState,
    ErrorKind,
    EventBus,
    RetryPolicy,
    TopicConfig,
)
from eventbus.config import KafkaConfig
from eventbus.embedded.kafka import EmbeddedKafka
from eventbus.publishers.kafka import producers
from eventbus.publishers.kafka.partitioner import partition_for_key
from eventbus.publishers.kafka.publisher import KafkaPublisher
from tests.kafka_audit import Heard, audit, outcomes, publish_each, reports_within
from tests.kafka_cluster import skip_without_kafka
from tests.kafka_node import KafkaNode
from tests.kafka_tools import alter_topic, create_topic, delete_topic, new_topic, read_back
from tests.nats_tools import assert_conserved, eventually, tasks_besides

pytestmark = pytest.mark.integration

ACKED, REJECTED, UNKNOWN = AckOutcome.ACKED, AckOutcome.REJECTED, AckOutcome.UNKNOWN
QUICK = RetryPolicy(max_attempts=2, base_delay_s=0.01, max_delay_s=0.02)
SOON = ConnectionConfig(connect_timeout_s=2.0, reconnect_delay_s=0.05, ping_interval_s=0.2)
DEADLINE_S = 15.0


def numbered(number: int, start: int = 0) -> list[bytes]:
    return [b"%d" % n for n in range(start, start + number)]


def sender_of(bus: EventBus) -> Any:
    """aiokafka's sender under a bus, which has no public way to it."""
    current = cast(KafkaPublisher, bus._publisher)._producers.current
    assert current is not None
    return current._producer._sender


def raising(error: Exception) -> Callable[..., Any]:
    async def fail(*what: object) -> None:
        raise error

    return fail


@pytest.fixture
def mock() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as running:
        running.create_topic("t", 2)
        yield running


# ---- the client's own end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("written", [True, False])
async def test_sender_dies_with_messages_on_their_way(mock: EmbeddedKafka, idempotent: bool, written: bool) -> None:
    """A defect in aiokafka ends its sender: what may have been written is UNKNOWN, everything else goes through another
    producer, and an event says so."""
    heard, before = Heard(), asyncio.all_tasks()
    config = ConnectionConfig(kafka=KafkaConfig(idempotent=idempotent, max_batch_bytes=200))
    async with eventbus.connect(mock.url, topics=[TopicConfig("t")], observers=[heard], connection=config) as bus:
        sender = sender_of(bus)
        if written:
            sender.client.send = raising(RuntimeError("a defect of the client"))
        else:
            sender._send_produce_req = raising(RuntimeError("a defect of the client"))
        receipts = await publish_each(bus, "t", [payload + bytes(50) for payload in numbered(50)], key="one")
        ended = await outcomes(receipts)
        assert 0 < ended[UNKNOWN] < 10 if written else ended[UNKNOWN] == 0
        assert ended[ACKED] == 50 - ended[UNKNOWN]
        assert heard.count("producer_replaced") == 1
        assert "sender ended" in heard.texts("producer_replaced")[0]
        assert (await outcomes(await publish_each(bus, "t", numbered(20))))[ACKED] == 20
        assert_conserved(bus.snapshot())
    assert tasks_besides(before) == []


async def test_sender_died_while_nothing_was_sent(mock: EmbeddedKafka) -> None:
    """The next message finds it out: it was certainly not sent, so it is acked through another producer."""
    heard = Heard()
    async with eventbus.connect(mock.url, topics=[TopicConfig("t")], observers=[heard]) as bus:
        sender = sender_of(bus)
        sender._message_accumulator.drain_by_nodes = lambda **how: 1 / 0
        sender._message_accumulator.waiter().set_result(None)
        await eventually(sender.sender_task.done, "the sender is dead")
        report = (await reports_within([await bus.publish("t")], DEADLINE_S))[0]
        assert report.outcome is ACKED
        assert heard.count("producer_replaced") == 1


async def test_refused_for_longer_than_a_message_may_wait(mock: EmbeddedKafka) -> None:
    """NOT_ENOUGH_REPLICAS: aiokafka goes on trying with what it was given, which is UNKNOWN at its deadline and acked
    late; what waits behind it is certainly not stored."""
    heard = Heard()
    small = ConnectionConfig(kafka=KafkaConfig(max_batch_bytes=1_000))
    async with eventbus.connect(
        mock.url, topics=[TopicConfig("t")], retry=QUICK, ack_timeout_s=0.3, connection=small, observers=[heard]
    ) as bus:
        partition = partition_for_key(b"one", 2)
        mock.push_partition_errors("t", partition, [19] * 15)  # one try every 100 ms
        receipts = await publish_each(bus, "t", [payload + bytes(100) for payload in numbered(100)], key="one")
        ended = await outcomes(receipts)
        assert set(ended) == {REJECTED, UNKNOWN}
        assert ended[UNKNOWN] < 20  # two batches
        await eventually(lambda: bus.snapshot().unknown == 0, "what was in doubt is acked late")
        assert (await outcomes(receipts)) == {ACKED: ended[UNKNOWN], REJECTED: ended[REJECTED]}
        assert sum(report.late for report in heard.reports) == ended[UNKNOWN]
        assert_conserved(bus.snapshot())
    assert len(await read_back(mock.bootstrap_servers, "t")) == ended[UNKNOWN]


async def test_every_producer_is_refused_for_a_while(mock: EmbeddedKafka) -> None:
    """A replacement that cannot start is tried again; messages wait meanwhile, and are acked."""
    heard = Heard()
    async with eventbus.connect(mock.url, topics=[TopicConfig("t")], observers=[heard], connection=SOON) as bus:
        sender_of(bus).client.send = raising(RuntimeError("a defect of the client"))
        await asyncio.to_thread(mock.broker_down)
        first = await bus.publish("t")
        await eventually(lambda: bus.snapshot().connection is ConnectionState.RECONNECTING, "nobody answers")
        waiting = await publish_each(bus, "t", numbered(100))
        await asyncio.to_thread(mock.broker_up)
        assert (await outcomes(waiting))[ACKED] == 100
        assert (await first).outcome is UNKNOWN
        assert bus.snapshot().connection is ConnectionState.CONNECTED
        assert (heard.count("disconnected"), heard.count("connected")) == (1, 2)


async def test_embedded_mock_takes_sends_without_acks() -> None:
    """The mock answers where no answer was asked for: the sends are made so that it does no harm."""
    async with eventbus.connect("embedded+kafka://", strategy=AckStrategy.IGNORE, topics=[TopicConfig("t")]) as bus:
        for round_ in range(20):
            for n in range(50):
                await bus.publish("t", b"%d" % (round_ * 50 + n))
            await bus.flush(5)
        assert (bus.snapshot().unacknowledged, bus.snapshot().accepted) == (1_000, 0)
        stored = await read_back(cast(KafkaPublisher, bus._publisher)._login.servers[0], "t")
        assert len({record.value for record in stored}) == len(stored) == 1_000


# ---- a real broker -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNode]:
    """One for all tests of this module, which break it in turn."""
    skip_without_kafka()
    with KafkaNode(tmp_path_factory.mktemp("faults") / "node") as node:
        yield node


@pytest.fixture
async def node(running: KafkaNode) -> AsyncIterator[KafkaNode]:
    """Whole before a test and, whatever that did, after it."""
    yield running
    if running.is_running():
        await asyncio.to_thread(running.resume)
    await asyncio.to_thread(running.start)


@pytest.fixture
async def topic(node: KafkaNode) -> str:
    name = new_topic()
    await create_topic(node.bootstrap, name)
    return name


async def test_one_message_too_large_in_a_batch(node: KafkaNode, topic: str) -> None:
    """The broker refuses the whole batch: it is divided until the others are acked and one is left, which is REJECTED.

    The topic takes less since after it was looked up, and nothing may be retried.
    """
    heard = Heard()
    async with eventbus.connect(
        node.url, topics=[TopicConfig(topic)], retry=RetryPolicy(max_attempts=1), observers=[heard]
    ) as bus:
        await alter_topic(node.bootstrap, topic, max_message_bytes="5000")
        payloads = numbered(300)
        assert (await (await bus.publish(topic, b"first"))).outcome is ACKED  # the broker knows this producer
        payloads[100] = b"large" * 2_000
        receipts = await publish_each(bus, topic, payloads)
        reports = await reports_within(list(receipts.values()), DEADLINE_S)
        assert [n for n, report in enumerate(reports) if report.outcome is not ACKED] == [100]
        assert (reports[100].outcome, reports[100].error_kind) == (REJECTED, ErrorKind.TOO_LARGE)
        assert "max.message.bytes" in str(reports[100].error_text)
        assert heard.count("producer_replaced") >= 1
    stored = [record.value for record in await read_back(node.bootstrap, topic)]
    assert stored == [b"first", *payloads[:100], *payloads[101:]]  # once each, and in their order


async def test_topic_too_large_is_known_beforehand(node: KafkaNode) -> None:
    """Where the limit is known, the message is refused before anything is accepted; the error names the setting."""
    topic = TopicConfig(new_topic(), max_message_bytes=5_000)
    async with eventbus.connect(node.url, topics=[topic]) as bus:
        with pytest.raises(eventbus.InvalidMessage, match=r"max\.message\.bytes"):
            await bus.publish(topic.name, bytes(6_000))
        assert (await (await bus.publish(topic.name, bytes(4_000)))).outcome is ACKED


async def test_message_without_key_for_a_compacted_topic(node: KafkaNode, topic: str) -> None:
    """INVALID_RECORD refuses its whole batch; the others are acked. Known beforehand, it is refused alone."""
    async with eventbus.connect(node.url, topics=[TopicConfig(topic)], retry=RetryPolicy(max_attempts=1)) as bus:
        await alter_topic(node.bootstrap, topic, cleanup_policy="compact")
        receipts = {b"%d" % n: await bus.publish(topic, b"%d" % n, key=str(n)) for n in range(20)}
        receipts[b"bare"] = await bus.publish(topic, b"bare")
        receipts |= {b"%d" % n: await bus.publish(topic, b"%d" % n, key=str(n)) for n in range(20, 40)}
        refused = [payload for payload, receipt in receipts.items() if (await receipt).outcome is not ACKED]
        assert refused == [b"bare"]
        assert (await receipts[b"bare"]).error_kind is ErrorKind.INVALID
        await audit(node.bootstrap, topic, receipts)
    async with eventbus.connect(node.url, topics=[TopicConfig(topic)]) as bus:
        with pytest.raises(eventbus.InvalidMessage, match="compacted"):
            await bus.publish(topic, b"bare")
        assert (await (await bus.publish(topic, b"keyed", key="k"))).outcome is ACKED


async def test_frozen_broker_comes_back(node: KafkaNode, topic: str) -> None:
    """Acks that come after their deadline turn UNKNOWN into ACKED; what still waited was certainly not sent."""
    late: list[eventbus.DeliveryReport] = []
    small = ConnectionConfig(kafka=KafkaConfig(max_batch_bytes=1_000))
    async with eventbus.connect(
        node.url,
        topics=[TopicConfig(topic)],
        retry=QUICK,
        ack_timeout_s=0.3,
        connection=small,
        on_delivery=lambda report: late.append(report) if report.late else None,
    ) as bus:
        await asyncio.to_thread(node.pause)
        receipts = await publish_each(bus, topic, [payload + bytes(100) for payload in numbered(100)])
        patient = await publish_each(bus, topic, [b"patient %d" % n for n in range(100)], ack_timeout_s=30.0)
        ended = await outcomes(receipts)
        assert set(ended) == {REJECTED, UNKNOWN}
        assert ended[UNKNOWN] < 20  # two batches
        await asyncio.to_thread(node.resume)
        assert await outcomes(patient) == {ACKED: 100}
        await eventually(lambda: len(late) == ended[UNKNOWN], "each late ack is told")
        assert (bus.snapshot().unknown, bus.snapshot().late_acks) == (0, ended[UNKNOWN])
        await audit(node.bootstrap, topic, receipts | patient)


async def test_frozen_for_longer_than_a_request_may_take(node: KafkaNode, topic: str) -> None:
    """aiokafka repeats the same batch over a new connection; the broker has read the first one too: one copy."""
    async with eventbus.connect(node.url, topics=[TopicConfig(topic)], ack_timeout_s=30.0) as bus:
        await asyncio.to_thread(node.pause)
        receipts = await publish_each(bus, topic, numbered(500))
        frozen = time.monotonic()
        await eventually(lambda: bus.snapshot().connection is ConnectionState.RECONNECTING, "nobody answers")
        held = await publish_each(bus, topic, numbered(500, 500))
        await eventually(lambda: time.monotonic() - frozen > 7, "the client has tried again")
        await asyncio.to_thread(node.resume)
        assert await outcomes(receipts | held) == {ACKED: 1_000}
        await audit(node.bootstrap, topic, receipts | held)


async def test_producer_given_up_for_want_of_a_broker(
    node: KafkaNode, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When none of the known brokers has answered for long, the servers of the URL are asked again; what was under way
    then is acked late, or stays in doubt, and is there at most once."""
    monkeypatch.setattr(producers, "_REBOOTSTRAP_S", 0.5)
    heard = Heard()
    async with eventbus.connect(
        node.url, topics=[TopicConfig(topic)], connection=SOON, observers=[heard], ack_timeout_s=1.0
    ) as bus:
        await asyncio.to_thread(node.pause)
        receipts = await publish_each(bus, topic, numbered(500))
        await eventually(lambda: heard.count("producer_replaced") > 0, "the producer is given up")
        await asyncio.to_thread(node.resume)
        fresh = await publish_each(bus, topic, numbered(500, 500), ack_timeout_s=20.0)
        assert (await outcomes(fresh))[ACKED] == 500
        await bus.flush(20)
        assert_conserved(bus.snapshot())
        await audit(node.bootstrap, topic, receipts | fresh)


@pytest.mark.parametrize("idempotent", [True, False])
async def test_killed_under_load(node: KafkaNode, topic: str, idempotent: bool) -> None:
    """SIGKILL and restart on the same store: all is settled; an idempotent producer has it all acked, once each."""
    config = ConnectionConfig(kafka=KafkaConfig(idempotent=idempotent), reconnect_delay_s=0.05)
    receipts = {}
    async with eventbus.connect(node.url, topics=[TopicConfig(topic)], connection=config) as bus:
        restarting: asyncio.Task[None] | None = None
        for payload in numbered(20_000):
            receipts[payload] = await bus.publish(topic, payload)
            if payload == b"10000":
                await asyncio.to_thread(node.kill)
                restarting = asyncio.create_task(asyncio.to_thread(node.start))
                assert_conserved(bus.snapshot())
        assert restarting is not None
        await restarting
        await bus.flush(30)
        ended = await outcomes(receipts)
        assert_conserved(bus.snapshot())
        if idempotent:
            assert ended == {ACKED: 20_000}
            await audit(node.bootstrap, topic, receipts)
        else:
            assert ended[ACKED] > 9_000
        assert (await (await bus.publish(topic, b"after"))).outcome is ACKED


async def test_broker_that_lost_its_store(node: KafkaNode, topic: str) -> None:
    """It knows neither topic nor producer any more: what was in flight is not acked, and the topic is made again."""
    async with eventbus.connect(
        node.url, topics=[TopicConfig(topic)], retry=QUICK, ack_timeout_s=1.0, connection=SOON
    ) as bus:
        assert (await (await bus.publish(topic, b"lost"))).outcome is ACKED
        await asyncio.to_thread(node.stop)
        receipts = await publish_each(bus, topic, numbered(50))
        assert ACKED not in await outcomes(receipts)
        await asyncio.to_thread(node.start)
        await create_topic(node.bootstrap, topic)
        await eventually(lambda: bus.snapshot().connection is ConnectionState.CONNECTED, "it is connected again")
        fresh = await publish_each(bus, topic, numbered(50, 50), ack_timeout_s=10.0)
        assert (await outcomes(fresh))[ACKED] == 50


async def test_sends_without_acks_after_a_restart(node: KafkaNode, topic: str) -> None:
    """Sends without acks are lost with a broker and nobody is told; the next ones arrive."""

    async def sent_until_it_arrives(bus: EventBus, payload: bytes) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not any(record.value == payload for record in await read_back(node.bootstrap, topic)):
                await bus.publish(topic, payload)
                await bus.flush(5)

    async with eventbus.connect(node.url, strategy=AckStrategy.IGNORE, topics=[TopicConfig(topic)]) as bus:
        await sent_until_it_arrives(bus, b"before")
        await asyncio.to_thread(node.kill)
        await bus.publish(topic, b"lost, perhaps")
        await asyncio.to_thread(node.start)
        await sent_until_it_arrives(bus, b"after")
        assert bus.snapshot().accepted == 0


# ---- topics that go away -------------------------------------------------------------------------------------------


async def test_topic_deleted_while_the_bus_runs(kafka: str) -> None:
    """It is made again where its config allows that; until then messages are told why they do not arrive."""
    topic = new_topic()
    async with eventbus.connect(f"kafka://{kafka}", topics=[TopicConfig(topic)], connection=SOON) as bus:
        assert (await (await bus.publish(topic, b"0"))).outcome is ACKED
        await delete_topic(kafka, topic)
        met = await (await bus.publish(topic, b"1"))
        assert (met.outcome, met.error_kind) in ((UNKNOWN, ErrorKind.NO_STREAM), (ACKED, ErrorKind.NO_RESPONDERS))
        assert (await (await bus.publish(topic, b"2"))).outcome is ACKED
        assert_conserved(bus.snapshot())
    assert b"2" in [record.value for record in await read_back(kafka, topic)]


async def test_topic_deleted_that_may_not_be_made(kafka: str) -> None:
    """Messages are refused with a kind that says so, and not before brokers agree that it is gone."""
    topic = new_topic()
    await create_topic(kafka, topic)
    config = TopicConfig(topic, create=False)
    async with eventbus.connect(f"kafka://{kafka}", topics=[config], connection=SOON, retry=QUICK) as bus:
        assert (await (await bus.publish(topic, b"0"))).outcome is ACKED
        await delete_topic(kafka, topic)
        assert (await (await bus.publish(topic, b"1"))).outcome is not ACKED
        report = await (await bus.publish(topic, b"2"))
        assert report.outcome is REJECTED
        assert report.error_kind in (ErrorKind.NO_STREAM, ErrorKind.NO_RESPONDERS)


async def test_batch_that_waits_behind_one_without_a_leader(mock: EmbeddedKafka) -> None:
    """It was certainly not sent, and so it is REJECTED; only what is with aiokafka is in doubt."""
    small = ConnectionConfig(kafka=KafkaConfig(max_batch_bytes=200), reconnect_delay_s=0.05)
    one = RetryPolicy(max_attempts=1)
    mock.create_topic("alone", 1)
    async with eventbus.connect(mock.url, topics=[TopicConfig("alone")], connection=small, retry=one) as bus:
        assert (await (await bus.publish("alone", b"first"))).outcome is ACKED
        mock.partition_set_leader("alone", 0, -1)
        receipts = [await bus.publish("alone", bytes(150), ack_timeout_s=1.0) for _ in range(6)]
        ended = [(await receipt).outcome for receipt in receipts]
        assert set(ended[2:]) == {REJECTED}, "these never left the lane"
        assert ended.count(UNKNOWN) <= 2
