"""Three real Kafkas under load while one of them dies, stands still or is restarted: every outcome is true.

A topic with three replicas and min.insync.replicas 2, as one that must not lose anything has it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

import pytest

import eventbus
from eventbus import AckOutcome, ConnectionConfig, DeliveryReport, EventBus, Receipt, RetryPolicy, TopicConfig
from eventbus.config import KafkaConfig
from tests.kafka_audit import Heard, audit, outcomes, publish_each
from tests.kafka_cluster import KafkaCluster, skip_without_kafka
from tests.kafka_tools import create_topic, new_topic, until_in_sync, until_in_sync_replicas
from tests.nats_tools import assert_conserved, eventually

pytestmark = pytest.mark.integration

ACKED, REJECTED, UNKNOWN = AckOutcome.ACKED, AckOutcome.REJECTED, AckOutcome.UNKNOWN
PARTITIONS = 3
RATE = 2_000
"""Messages a second, a part of what the bus and three Kafkas on two cores could carry."""
AFTER_S = 3.0
"""How long the load goes on after the last fault."""
ACK_TIMEOUT_S = 4.0
POLICY = RetryPolicy(max_attempts=3, base_delay_s=0.1, max_delay_s=0.5)
SLACK_S = 1.5
"""For deadlines on a machine whose cores are all busy with Java."""


class Settlements:
    """Implements ports.Observer: when each message was settled, by its id."""

    every_outcome = True

    def __init__(self) -> None:
        self.at_s: dict[str, float] = {}

    def settled(self, reports: Sequence[DeliveryReport]) -> None:
        now_s = time.monotonic()
        for report in reports:
            self.at_s.setdefault(report.message_id, now_s)

    def happened(self, event: eventbus.BusEvent) -> None: ...


class Load:
    """Publishes numbered payloads at RATE until it is told to end; looks at the books every time."""

    def __init__(self, bus: EventBus, topic: str) -> None:
        self._bus = bus
        self._topic = topic
        self.receipts: dict[bytes, Receipt] = {}
        self.accepted_s: dict[str, float] = {}
        self.ending = False

    async def run(self) -> None:
        began = time.monotonic()
        while not self.ending:
            due = int((time.monotonic() - began) * RATE)
            while len(self.receipts) < due:
                payload = b"%08d" % len(self.receipts)
                receipt = await self._bus.publish(self._topic, payload, key=f"k{len(self.receipts) % 100}")
                self.receipts[payload] = receipt
                self.accepted_s[receipt.message_id] = time.monotonic()
            assert_conserved(self._bus.snapshot())
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """One for all tests of this module, which break it in turn."""
    skip_without_kafka()
    cluster = KafkaCluster(tmp_path_factory.mktemp("cluster"))
    try:
        asyncio.run(cluster.start())  # it keeps nothing of an event loop
        yield cluster
    finally:
        asyncio.run(cluster.stop())


@pytest.fixture
async def cluster(running: KafkaCluster) -> AsyncIterator[KafkaCluster]:
    """Whole before a test and, whatever that did, after it."""
    yield running
    await running.mend()


async def carry_through(cluster: KafkaCluster, fault: Callable[[str], Awaitable[None]], policy: RetryPolicy) -> Heard:
    """Publish while the fault happens, then compare every outcome with what is stored."""
    topic, heard, settlements = new_topic(), Heard(), Settlements()
    config = TopicConfig(topic, partitions=PARTITIONS, replicas=3, min_insync_replicas=2)
    async with eventbus.connect(
        cluster.url,
        topics=[config],
        retry=policy,
        ack_timeout_s=ACK_TIMEOUT_S,
        connection=ConnectionConfig(ping_interval_s=1.0),
        observers=[heard, settlements],
    ) as bus:
        load = Load(bus, topic)
        loading = asyncio.create_task(load.run())
        await asyncio.sleep(1)  # the load is under way
        await fault(topic)
        await asyncio.sleep(AFTER_S)
        load.ending = True
        await loading
        await bus.flush(60)
        snapshot = bus.snapshot()
        assert_conserved(snapshot)
        assert snapshot.pending == 0
        await until_in_sync(cluster.bootstrap, topic)
        lifetime_s = policy.lifetime_ns(int(ACK_TIMEOUT_S * 1e9)) / 1e9 + ACK_TIMEOUT_S
        slowest = max(settlements.at_s[name] - accepted for name, accepted in load.accepted_s.items())
        assert slowest < lifetime_s + SLACK_S
        for number in range(PARTITIONS * 4):  # fresh ones, to every partition
            payload = b"after %d" % number
            load.receipts[payload] = receipt = await bus.publish(topic, payload, key=str(number))
            assert (await receipt).outcome is ACKED
        print(
            f"{snapshot.accepted} accepted, {snapshot.acked} acked, {snapshot.unknown} unknown, {snapshot.rejected} "
            f"rejected, {snapshot.late_acks} late, {snapshot.retries} retries, slowest {slowest:.2f} s, {heard.events}"
        )
        assert snapshot.accepted > 3 * RATE
        assert snapshot.acked > snapshot.accepted / 2
        await audit(cluster.bootstrap, topic, load.receipts)
    return heard


async def test_leader_is_killed(cluster: KafkaCluster) -> None:
    """SIGKILL of a partition's leader: another takes over, and it comes back to a cluster that went on."""

    async def kill(topic: str) -> None:
        leader = await cluster.leader_of(topic)
        await cluster.kill(leader)
        await cluster.leader_of(topic, besides=leader)
        await asyncio.sleep(1)
        await cluster.restart(leader)

    await carry_through(cluster, kill, POLICY)


async def test_leader_stands_still(cluster: KafkaCluster) -> None:
    """SIGSTOP of a partition's leader until another leads; what it still believes when it wakes up harms nothing."""

    async def freeze(topic: str) -> None:
        leader = await cluster.leader_of(topic)
        await cluster.pause(leader)
        await cluster.leader_of(topic, besides=leader)
        await asyncio.sleep(2)
        await cluster.resume(leader)

    await carry_through(cluster, freeze, POLICY)


async def test_rolling_restart(cluster: KafkaCluster) -> None:
    """Each node in its turn ends in good order and comes back: everything is acked."""

    async def roll(topic: str) -> None:
        for name in cluster.sound:
            await cluster.restart(name)
            await until_in_sync(cluster.bootstrap, topic)

    await carry_through(cluster, roll, POLICY)


async def test_too_few_replicas(cluster: KafkaCluster) -> None:
    """One node short of min.insync.replicas nothing is stored: what the client goes on trying with is UNKNOWN and acked
    late, what waits behind it is REJECTED; nothing is there twice, and nothing that was refused."""
    topic, small = new_topic(), KafkaConfig(max_batch_bytes=1_000)
    await create_topic(cluster.bootstrap, topic, assigned={0: [1, 2, 3]}, config={"min.insync.replicas": "3"})
    async with eventbus.connect(
        cluster.url,
        topics=[TopicConfig(topic)],
        retry=RetryPolicy(max_attempts=2, base_delay_s=0.01, max_delay_s=0.02),
        connection=ConnectionConfig(ping_interval_s=0.5, kafka=small),
    ) as bus:
        first = await publish_each(bus, topic, [b"before %d" % n for n in range(50)])
        assert await outcomes(first) == {ACKED: 50}
        await cluster.kill("c")
        await until_in_sync_replicas(cluster.bootstrap_of(cluster.sound), topic, {1, 2})
        refused = await publish_each(bus, topic, [b"%d" % n + bytes(100) for n in range(100)], ack_timeout_s=0.5)
        ended = await outcomes(refused)
        assert set(ended) == {REJECTED, UNKNOWN}
        await cluster.restart("c")
        await until_in_sync(cluster.bootstrap, topic)
        await eventually(lambda: bus.snapshot().unknown == 0, "what was in doubt is acked late")
        after = await publish_each(bus, topic, [b"after %d" % n for n in range(50)])
        assert await outcomes(after) == {ACKED: 50}
        assert_conserved(bus.snapshot())
        await audit(cluster.bootstrap, topic, first | refused | after)
