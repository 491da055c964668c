"""The contract suite against each publisher; see contract.py."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import eventbus
from eventbus import ConnectionConfig, EventBus, TopicConfig
from eventbus.embedded.kafka import EmbeddedKafka
from eventbus.embedded.nats import EmbeddedNats
from eventbus.publishers.kafka.batch import MESSAGE_ID_HEADER
from eventbus.publishers.kafka.publisher import KafkaPublisher
from eventbus.publishers.memory import MemoryPublisher
from eventbus.publishers.nats.publisher import NatsPublisher
from tests import kafka_tools
from tests.kafka_cluster import skip_without_kafka
from tests.kafka_node import KafkaNode
from tests.nats_tools import Stored, read_back, stream_names

pytest.register_assert_rewrite("tests.contract")
from tests.contract import Backend, PublisherContract  # noqa: E402  # after its assertions were made readable

STREAM = "DEMO"


class MemoryBackend:
    """``memory://``, broken by the switches of its publisher, which the bus has no public way to reach."""

    capabilities = MemoryPublisher.capabilities
    subjects = 1_000

    def __init__(self) -> None:
        self._publisher: MemoryPublisher | None = None

    @property
    def publisher(self) -> MemoryPublisher:
        assert self._publisher is not None, "connect first"
        return self._publisher

    async def connect(self, **settings: Any) -> EventBus:
        bus = await eventbus.connect("memory://", **settings)
        assert isinstance(bus._publisher, MemoryPublisher)
        self._publisher = bus._publisher
        return bus

    async def stored(self) -> list[Stored]:
        stream = self.publisher.streams.get(STREAM)
        return [
            Stored(offset, message.topic, message.message_id, message.payload, message.headers)
            for offset, message in enumerate(stream.messages if stream else [], 1)
        ]

    async def fall_silent(self) -> None:
        self.publisher.drop_acks = True

    async def speak_again(self) -> None:
        self.publisher.drop_acks = False

    async def disconnect(self) -> None:
        self.publisher.disconnect()

    async def reconnect(self) -> None:
        self.publisher.reconnect()


class NatsBackend:
    """A nats-server of its own, stopped (SIGSTOP) and killed."""

    capabilities = NatsPublisher.capabilities
    subjects = 1_000

    def __init__(self, server: EmbeddedNats) -> None:
        self._server = server
        self._killed = False

    async def connect(self, **settings: Any) -> EventBus:
        settings.setdefault("connection", ConnectionConfig(reconnect_delay_s=0.05))
        return await eventbus.connect(self._server.url, **settings)

    async def stored(self) -> list[Stored]:
        url = self._server.url
        return await read_back(url, STREAM) if STREAM in await stream_names(url) else []

    async def fall_silent(self) -> None:
        await asyncio.to_thread(self._server.pause)

    async def speak_again(self) -> None:
        if not self._killed:
            await asyncio.to_thread(self._server.resume)

    async def disconnect(self) -> None:
        self._killed = True
        await asyncio.to_thread(self._server.kill)

    async def reconnect(self) -> None:
        self._killed = False
        await asyncio.to_thread(self._server.restart)


class KafkaBackend:
    """What the mock and a real Kafka have in common: topics of one partition, read back one after the other.

    A pattern is no topic there, so whoever configures ``demo.>`` also gets ``demo.x`` looked up before a fault.
    """

    capabilities = KafkaPublisher.capabilities
    subjects = 20

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    async def connect(self, **settings: Any) -> EventBus:
        settings.setdefault("connection", ConnectionConfig(reconnect_delay_s=0.05, ping_interval_s=0.2))
        patterns = [topic for topic in settings.pop("topics", ()) if topic.is_pattern]
        names = [TopicConfig(topic.name.replace(">", "x"), topic.durable) for topic in patterns]
        return await eventbus.connect(f"kafka://{self._bootstrap}", topics=[*patterns, *names], **settings)

    async def stored(self) -> list[Stored]:
        names = await kafka_tools.topic_names(self._bootstrap)
        return [_stored(record) for name in names if name.startswith("demo.") for record in await self._read(name)]

    async def _read(self, topic: str) -> list[kafka_tools.StoredRecord]:
        return await kafka_tools.read_back(self._bootstrap, topic)


def _stored(record: kafka_tools.StoredRecord) -> Stored:
    headers = {name: value.decode() for name, value in record.headers}
    return Stored(record.offset, record.topic, headers.pop(MESSAGE_ID_HEADER, None), record.value or b"", headers)


class MockBackend(KafkaBackend):
    """librdkafka's mock, stopped (SIGSTOP), and its broker taken down: what it stores would not survive a kill."""

    def __init__(self, mock: EmbeddedKafka) -> None:
        super().__init__(mock.bootstrap_servers)
        self._mock = mock
        for topic in ("demo.x", "core.x"):
            mock.create_topic(topic)  # one partition; made on demand it would have four

    async def fall_silent(self) -> None:
        await asyncio.to_thread(self._mock.pause)

    async def speak_again(self) -> None:
        await asyncio.to_thread(self._mock.resume)

    async def disconnect(self) -> None:
        await asyncio.to_thread(self._mock.broker_down)

    async def reconnect(self) -> None:
        await asyncio.to_thread(self._mock.broker_up)


class NodeBackend(KafkaBackend):
    """A real Kafka, stopped (SIGSTOP) and killed."""

    def __init__(self, node: KafkaNode) -> None:
        super().__init__(node.bootstrap)
        self._node = node

    async def mend(self) -> None:
        """Undo what a test did to it that failed half way, and remove all topics."""
        if self._node.is_running():
            await self.speak_again()
        else:
            await self.reconnect()
        await kafka_tools.clear(self._bootstrap)

    async def fall_silent(self) -> None:
        await asyncio.to_thread(self._node.pause)

    async def speak_again(self) -> None:
        await asyncio.to_thread(self._node.resume)

    async def disconnect(self) -> None:
        await asyncio.to_thread(self._node.kill)

    async def reconnect(self) -> None:
        await asyncio.to_thread(self._node.start)


class TestMemory(PublisherContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return MemoryBackend()


@pytest.mark.integration
class TestNats(PublisherContract):
    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        with EmbeddedNats() as server:
            yield NatsBackend(server)


@pytest.mark.integration
class TestKafkaMock(PublisherContract):
    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        with EmbeddedKafka() as mock:
            yield MockBackend(mock)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNode]:
    """One for all tests of this module, which break it: 3 s each would be too long."""
    skip_without_kafka()
    with KafkaNode(tmp_path_factory.mktemp("contract") / "node") as running:
        yield running


@pytest.mark.integration
class TestKafka(PublisherContract):
    @pytest.fixture
    async def backend(self, node: KafkaNode) -> Backend:
        backend = NodeBackend(node)
        await backend.mend()
        return backend
