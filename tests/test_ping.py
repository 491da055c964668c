"""EventBus.ping: one question at a time, bounded for who asks, and harmless to the messages beside it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

import eventbus
from eventbus import (
    AckOutcome,
    AckStrategy,
    BusClosed,
    ConnectionConfig,
    ConnectionState,
    EventBus,
    PingTimeout,
    TopicConfig,
)
from eventbus.embedded.kafka import EmbeddedKafka
from eventbus.embedded.nats import EmbeddedNats
from eventbus.publishers.memory import MemoryPublisher
from eventbus.publishers.nats.publisher import NatsPublisher
from eventbus.publishers.one_ping import OnePing
from tests.fakes import until
from tests.nats_tools import eventually, tasks_besides

SOON = ConnectionConfig(connect_timeout_s=5.0, reconnect_delay_s=0.05)

# ---- one at a time -------------------------------------------------------------------------------------------------


class Asked:
    """Answers when told; counts how many questions there were, and how many at once."""

    def __init__(self) -> None:
        self.questions = 0
        self.under_way = 0
        self.most = 0
        self.answers: asyncio.Queue[float | Exception] = asyncio.Queue()

    async def __call__(self) -> float:
        self.questions += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            answer = await self.answers.get()
        finally:
            self.under_way -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_question_goes_on_when_who_asked_is_cancelled() -> None:
    """Cancelling only stops the waiting; the next asks again once the first has its answer, which is not theirs."""
    asked = Asked()
    pings = OnePing(asked)
    first = asyncio.create_task(pings.answer())
    await until(lambda: asked.questions == 1)
    first.cancel()
    await asyncio.wait([first])
    assert (first.cancelled(), asked.under_way) == (True, 1)
    second = asyncio.create_task(pings.answer())
    await asyncio.sleep(0)
    assert asked.questions == 1
    asked.answers.put_nowait(9.0)
    asked.answers.put_nowait(0.5)
    assert await second == 0.5
    assert (asked.questions, asked.most) == (2, 1)


async def test_those_who_wait_for_the_same_earlier_question_share_the_next() -> None:
    """Three who ask while one is under way cost one question, not three."""
    asked = Asked()
    pings = OnePing(asked)
    first = asyncio.create_task(pings.answer())
    await until(lambda: asked.questions == 1)
    others = [asyncio.create_task(pings.answer()) for _ in range(3)]
    for seconds in (1.0, 2.0):
        asked.answers.put_nowait(seconds)
    assert [await first, *await asyncio.gather(*others)] == [1.0, 2.0, 2.0, 2.0]
    assert (asked.questions, asked.most) == (2, 1)


async def test_question_that_fails_has_no_answer_and_does_not_harm_the_next() -> None:
    """None where the connection is lost on the way, or it was cancelled with it."""
    asked = Asked()
    pings = OnePing(asked)
    asked.answers.put_nowait(OSError("gone"))
    assert await pings.answer() is None
    cut = asyncio.create_task(pings.answer())
    await until(lambda: asked.questions == 2)
    pings.cancel()
    assert await cut is None
    asked.answers.put_nowait(0.25)
    assert await pings.answer() == 0.25


# ---- the bus -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def memory_bus() -> AsyncIterator[tuple[EventBus, MemoryPublisher]]:
    async with eventbus.connect("memory://") as bus:
        publisher = bus._publisher
        assert isinstance(publisher, MemoryPublisher)
        yield bus, publisher


async def test_broker_that_does_not_answer() -> None:
    """PingTimeout, a TimeoutError, after the time that was given; an answer that comes later does for the next."""
    async with memory_bus() as (bus, publisher):
        publisher.disconnect()
        with pytest.raises(PingTimeout, match=r"memory:// did not answer within 0.01 s") as caught:
            await bus.ping(0.01)
        assert isinstance(caught.value, TimeoutError)
        waiting = asyncio.create_task(bus.ping(5.0))
        await asyncio.sleep(0)
        publisher.reconnect()
        assert 0 <= await waiting < 1


async def test_bus_that_is_closed_asks_nobody() -> None:
    """BusClosed, as publish raises it."""
    async with memory_bus() as (bus, _):
        await bus.close()
        with pytest.raises(BusClosed):
            await bus.ping()


async def test_caller_that_is_cancelled() -> None:
    """Its cancellation is its own, and no PingTimeout."""
    async with memory_bus() as (bus, publisher):
        publisher.disconnect()
        waiting = asyncio.create_task(bus.ping(5.0))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()


# ---- NATS ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[EmbeddedNats]:
    with EmbeddedNats() as running:
        yield running


@pytest.mark.integration
async def test_nats_answers_and_names_itself(server: EmbeddedNats) -> None:
    """A round trip on one machine is short, whatever is in flight; the version is the one of the greeting."""
    async with eventbus.connect(server.url, topics=[TopicConfig("ping.>")]) as bus:
        assert re.fullmatch(r"nats-server \d+\.\d+\.\d+", bus.broker)
        receipts = [await bus.publish("ping.x", b"x") for _ in range(500)]
        assert 0 < await bus.ping() < 2
        assert {(await receipt).outcome for receipt in receipts} == {AckOutcome.ACKED}


@pytest.mark.integration
async def test_nats_that_stands_still_is_asked_once_however_many_ask(server: EmbeddedNats) -> None:
    """Pings given up while the server was frozen leave it able to be heard: its acks and later pings arrive."""
    before = set(asyncio.all_tasks())
    async with eventbus.connect(server.url, connection=SOON, topics=[TopicConfig("ping.>")]) as bus:
        assert (await (await bus.publish("ping.x"))).outcome is AckOutcome.ACKED
        await asyncio.to_thread(server.pause)
        for _ in range(5):
            with pytest.raises(PingTimeout):
                await bus.ping(0.02)
        asking = [task for task in asyncio.all_tasks() if task.get_name() == "eventbus ping"]
        assert len(asking) == 1
        receipt = await bus.publish("ping.x")
        await asyncio.to_thread(server.resume)
        assert 0 < await bus.ping(10.0) < 5
        assert (await receipt).outcome is AckOutcome.ACKED
        await bus.flush()
    await eventually(lambda: tasks_besides(before) == [], "every task has ended")


@pytest.mark.integration
async def test_nats_that_was_killed_answers_again_when_it_is_back(server: EmbeddedNats) -> None:
    """A ping that was under way when the connection was lost is put again on the next one."""
    async with eventbus.connect(server.url, connection=SOON) as bus:
        assert 0 < await bus.ping() < 2
        await asyncio.to_thread(server.kill)
        with pytest.raises(PingTimeout):
            await bus.ping(0.05)
        waiting = asyncio.create_task(bus.ping(15.0))
        await asyncio.to_thread(server.restart)
        assert 0 < await waiting < 5


@pytest.mark.integration
async def test_connection_that_is_lost_just_before_the_question(server: EmbeddedNats) -> None:
    """No answer is made up, and no question put that nobody will ever answer: it waits for the next connection."""
    async with eventbus.connect(server.url, connection=SOON, strategy=AckStrategy.IGNORE) as bus:
        assert 0 < await bus.ping() < 2
        publisher = bus._publisher
        assert isinstance(publisher, NatsPublisher)
        assert publisher._transport is not None
        waiting = asyncio.create_task(bus.ping(10.0))
        await asyncio.sleep(0)  # it has seen the connection, and not put its question yet
        publisher._transport.close()
        assert bus.snapshot().connection is ConnectionState.RECONNECTING
        assert 0 < await waiting < 5
        assert bus.snapshot().connection is ConnectionState.CONNECTED
        await bus.publish("ping.x")
        await bus.flush(5.0)


# ---- Kafka ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def mock() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as running:
        yield running


@pytest.mark.integration
async def test_kafka_answers_beside_its_batches(mock: EmbeddedKafka) -> None:
    """No ping waits behind a batch whose answer is slow; what the broker knows is told, since its version is not."""
    before = set(asyncio.all_tasks())
    async with eventbus.connect(f"kafka://{mock.bootstrap_servers}", connection=SOON) as bus:
        assert bus.broker.startswith("Kafka with Produce ")
        assert (await (await bus.publish("ping"))).outcome is AckOutcome.ACKED
        mock.push_request_errors(0, [0], round_trip_s=0.7)
        receipt = await bus.publish("ping")
        await until(lambda: bus.snapshot().pending == 1)
        assert 0 < await bus.ping() < 0.6
        assert not receipt.settled
        assert (await receipt).outcome is AckOutcome.ACKED
    await eventually(lambda: tasks_besides(before) == [], "every task has ended")


@pytest.mark.integration
async def test_kafka_that_stands_still_is_asked_once_however_many_ask(mock: EmbeddedKafka) -> None:
    """Given up by whoever asked, each in its time; once it goes on, it answers."""
    async with eventbus.connect(f"kafka://{mock.bootstrap_servers}", connection=SOON) as bus:
        assert 0 < await bus.ping() < 2
        await asyncio.to_thread(mock.pause)
        for _ in range(5):
            with pytest.raises(PingTimeout):
                await bus.ping(0.02)
        assert len([task for task in asyncio.all_tasks() if task.get_name() == "eventbus ping"]) == 1
        await asyncio.to_thread(mock.resume)
        assert 0 < await bus.ping(10.0) < 5
        assert (await (await bus.publish("ping"))).outcome is AckOutcome.ACKED


@pytest.mark.integration
async def test_kafka_broker_that_is_down_does_not_answer(mock: EmbeddedKafka) -> None:
    """PingTimeout while no broker takes connections; an answer when one does again."""
    async with eventbus.connect(f"kafka://{mock.bootstrap_servers}", connection=SOON) as bus:
        assert 0 < await bus.ping() < 2
        mock.broker_down()
        with pytest.raises(PingTimeout):
            await bus.ping(0.3)
        mock.broker_up()
        assert 0 < await bus.ping(10.0) < 5
