"""A stream of three replicas loses its leader under load: outcomes stay true and the bus goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import eventbus
from eventbus import (
    AckOutcome,
    ConnectionConfig,
    ConnectionState,
    ErrorKind,
    EventBus,
    Receipt,
    RetryPolicy,
    TopicConfig,
    WindowConfig,
)
from tests.nats_cluster import NAMES, NatsCluster, running_cluster
from tests.nats_tools import assert_conserved, copies, eventually, read_back

pytestmark = pytest.mark.integration

STREAM = "RUN"
ACK_TIMEOUT_S = 1.0
POLICY = RetryPolicy(max_attempts=15, base_delay_s=0.1, max_delay_s=0.5)
"""Lives for some 20 s, so that messages outlast an election."""
LONGEST_S = POLICY.lifetime_ns(int(ACK_TIMEOUT_S * 1e9)) / 1e9 + ACK_TIMEOUT_S
NOTICE_SOON = ConnectionConfig(ping_interval_s=0.5, reconnect_delay_s=0.05, connect_timeout_s=2)
PHASE = 1_500
"""Acks to see before the fault, during it and after it."""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[NatsCluster]:
    async with running_cluster(tmp_path) as running:
        yield running


class Load:
    """Publishes until told to end, and looks at the bus all the while."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._ending = False
        self.receipts: list[Receipt] = []
        self.samples = 0

    async def publish(self) -> None:
        while not self._ending:
            self.receipts.append(await self._bus.publish("run.record", b"record %d" % len(self.receipts)))

    async def look(self) -> None:
        while not (self._ending and self._bus.snapshot().pending == 0):
            snapshot = self._bus.snapshot()
            assert_conserved(snapshot)
            assert snapshot.oldest_pending_age_s <= LONGEST_S + 1.0  # a busy machine
            self.samples += 1
            await asyncio.sleep(0.01)

    async def more_acks(self, number: int, what: str) -> None:
        wanted = self._bus.snapshot().acked + number
        await eventually(lambda: self._bus.snapshot().acked >= wanted, f"{number} acks {what}", LONGEST_S)

    def end(self) -> None:
        self._ending = True


def node_of(bus: EventBus, cluster: NatsCluster) -> str:
    """The node that the bus is connected to."""
    url = bus._publisher._connection.client.connected_url  # type: ignore[attr-defined]  # no public name tells it
    return next(name for name in NAMES if urlsplit(cluster.url_of(name)).port == url.port)


async def run(
    cluster: NatsCluster,
    break_it: Callable[[str], Awaitable[None]],
    mend_it: Callable[[str], Awaitable[None]],
    *,
    on_leader: bool,
) -> None:
    """Load; break the stream's leader; a new one is elected and acks; mend the old one; then the verdict."""
    async with eventbus.connect(
        cluster.url,
        topics=[TopicConfig("run.>", replicas=3)],
        window=WindowConfig(max_pending=200),
        retry=POLICY,
        ack_timeout_s=ACK_TIMEOUT_S,
        connection=NOTICE_SOON,
    ) as bus:
        connected_to = node_of(bus, cluster)
        leader = connected_to if on_leader else cluster.others(connected_to)[0]
        await cluster.lead(STREAM, leader)
        load = Load(bus)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.look())
            tasks.create_task(load.publish())
            try:
                await load.more_acks(PHASE, "before the fault")
                await break_it(leader)
                successor = await cluster.leader_of(STREAM, cluster.others(leader), besides=leader)
                await load.more_acks(PHASE, f"from the new leader {successor}")
                await mend_it(leader)
                await load.more_acks(PHASE, "after the fault")
            finally:
                load.end()
        await bus.flush(LONGEST_S)
        fresh = await (await bus.publish("run.record", b"fresh"))
        assert (fresh.outcome, fresh.error_kind) == (AckOutcome.ACKED, None)
        await cluster.until_current(STREAM)

        snapshot = bus.snapshot()
        assert_conserved(snapshot)
        assert (snapshot.accepted, snapshot.pending) == (len(load.receipts) + 1, 0)
        assert snapshot.connection is ConnectionState.CONNECTED
        assert sum(snapshot.errors.values()) > 0, "the fault was not felt"
        assert load.samples > 100
        reports = [fresh, *[await receipt for receipt in load.receipts]]
        assert snapshot.acked == sum(report.outcome is AckOutcome.ACKED for report in reports) > 3 * PHASE
        stored = await read_back(cluster.url_of(await cluster.leader_of(STREAM)), STREAM)
        there = copies(stored)
        for report in reports:
            allowed = {AckOutcome.ACKED: (1,), AckOutcome.REJECTED: (0,), AckOutcome.UNKNOWN: (0, 1)}[report.outcome]
            assert there[report.message_id] in allowed, report
        assert set(there) <= {report.message_id for report in reports}, "something is stored that was never attempted"
        where = {message.message_id: message.offset for message in stored}
        for report in reports:
            if report.position is not None:
                assert where[report.message_id] == report.position.offset, report


async def test_leader_is_killed(cluster: NatsCluster) -> None:
    """SIGKILL of the stream's leader, to which the bus is connected as well; later it is started again."""
    await run(cluster, cluster.kill, cluster.restart, on_leader=True)


@pytest.mark.parametrize("on_leader", [True, False], ids=["bus-on-leader", "bus-on-another-node"])
async def test_leader_is_frozen(cluster: NatsCluster, on_leader: bool) -> None:
    """SIGSTOP until another leads, then SIGCONT: what the old leader still has to say does no harm."""
    await run(cluster, cluster.pause, cluster.resume, on_leader=on_leader)


async def test_answers_that_only_replicas_give(cluster: NatsCluster) -> None:
    """While a message is being agreed upon, its id is refused for now (10158) and its expectations for good (10164).

    Once it is stored, replicas look for the id before the expectation, other than a stream without them.
    """
    expects = {"Nats-Expected-Last-Subject-Sequence": "0"}
    pairs = 20  # one would do, were both of it certain to reach the leader before the others agree to the first
    async with eventbus.connect(cluster.url, topics=[TopicConfig("run.>", replicas=3)], retry=POLICY) as bus:
        receipts = [bus.publish_nowait("run.id", message_id=f"id {n // 2}") for n in range(2 * pairs)]
        reports = [await receipt for receipt in receipts]
        assert {report.outcome for report in reports} == {AckOutcome.ACKED}
        for stored, again in zip(reports[::2], reports[1::2], strict=True):
            assert (stored.duplicate, again.duplicate) == (False, True)
            assert again.position == stored.position
        refused = [report for report in reports if report.error_text is not None]
        assert refused
        for report in refused:
            assert report.error_text is not None
            assert report.error_text.endswith("(10158)")
            assert report.attempts > 1

        receipts = [bus.publish_nowait("run.expects", headers=expects) for _ in range(2 * pairs)]
        stored, *others = [await receipt for receipt in receipts]
        assert stored.outcome is AckOutcome.ACKED
        assert {(report.outcome, report.error_kind) for report in others} == {(AckOutcome.REJECTED, ErrorKind.CONFLICT)}
        assert any(report.error_text == "wrong last sequence (10164)" for report in others)

        again = await (await bus.publish("run.expects", headers=expects, message_id=stored.message_id))
        assert (again.outcome, again.duplicate) == (AckOutcome.ACKED, True)
