"""KafkaBroker: what a Kafka benchmark runs against: the mock, a real Kafka started for it, or a given one."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code
from confluent_kafka import libversion

from eventbus.embedded.kafka import EmbeddedKafka

MOCK, REAL = "mock", "real"
_LEADER_TIMEOUT_S = 10.0


class KafkaBroker(Protocol):
    """name, version: for people. bootstrap: ``HOST:PORT``, several by comma."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def bootstrap(self) -> str: ...

    async def create_topic(self, topic: str, partitions: int) -> None:
        """Make a topic; returns when all its partitions can be written to."""

    async def delete_topic(self, topic: str) -> None:
        """Remove a topic with what it holds."""


class MockBroker:
    """librdkafka's mock cluster in a process of its own: one node, everything in memory, checks next to nothing."""

    name = "librdkafka's mock"

    def __init__(self, mock: EmbeddedKafka) -> None:
        self._mock = mock
        self.version = str(libversion()[0])

    @property
    def bootstrap(self) -> str:
        return self._mock.bootstrap_servers

    async def create_topic(self, topic: str, partitions: int) -> None:
        await asyncio.to_thread(self._mock.start)
        await asyncio.to_thread(self._mock.create_topic, topic, partitions)

    async def delete_topic(self, topic: str) -> None:
        """The mock has no call for it; the next one is a new mock."""
        await asyncio.to_thread(self._mock.stop)

    async def freeze(self) -> None:
        """Let it stand still, with its connections open."""
        await asyncio.to_thread(self._mock.pause)

    async def thaw(self) -> None:
        """Let it go on."""
        await asyncio.to_thread(self._mock.resume)


class RealBroker:
    """A real Kafka. Topics have one replica: so a run on a cluster measures publishing, not replication."""

    def __init__(self, bootstrap: str, name: str, version: str) -> None:
        self.bootstrap, self.name, self.version = bootstrap, name, version

    async def create_topic(self, topic: str, partitions: int) -> None:
        async with self._admin() as admin:
            answer = await admin.create_topics([NewTopic(topic, partitions, 1)])
            for _, code, text in answer.topic_errors:
                if code:
                    raise for_code(code)(text)
            deadline = time.monotonic() + _LEADER_TIMEOUT_S
            while True:
                (described,) = await admin.describe_topics([topic])
                led = [part for part in described["partitions"] if part["leader"] >= 0]
                if len(led) == partitions:
                    return
                if time.monotonic() > deadline:
                    raise TimeoutError(f"topic {topic} has no leaders after {_LEADER_TIMEOUT_S:g} s: {described}")
                await asyncio.sleep(0.05)

    async def delete_topic(self, topic: str) -> None:
        async with self._admin() as admin:
            await admin.delete_topics([topic])

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


def missing(server: str) -> str | None:
    """Why there is no such broker on this machine, or None if there is."""
    if server != REAL:
        return None
    from tests.kafka_artifacts import missing as missing_kafka

    return missing_kafka()


@contextlib.asynccontextmanager
async def open_kafka_broker(server: str) -> AsyncIterator[KafkaBroker]:
    """``mock``, ``real`` (one node of our own, with the tests' means) or ``HOST:PORT,...`` of a running one."""
    if server == MOCK:
        mock = EmbeddedKafka()
        try:
            yield MockBroker(mock)
        finally:
            await asyncio.shield(asyncio.to_thread(mock.stop))
    elif server == REAL:
        async with _own_node() as broker:
            yield broker
    else:
        yield RealBroker(server.removeprefix("kafka://"), "a given Kafka", "of unknown version")


@contextlib.asynccontextmanager
async def _own_node() -> AsyncIterator[RealBroker]:
    """One Kafka on loopback, from what Maven Central carries; its store is removed afterwards."""
    # Only here, so that all else runs without the tests' packages: starting a real Kafka is a matter of a checkout.
    from tests.kafka_artifacts import resolve
    from tests.kafka_node import KafkaNode

    artifacts = await asyncio.to_thread(resolve)
    version = re.search(r"kafka-clients-([\d.]+)\.jar", artifacts.class_path)
    with tempfile.TemporaryDirectory(prefix="ackscope-kafka-") as directory:
        # Deleted topics leave the disk at once, not after a minute.
        node = KafkaNode(Path(directory, "node"), settings={"log.segment.delete.delay.ms": "0"})
        try:
            await asyncio.to_thread(node.start)
            yield RealBroker(node.bootstrap, "Apache Kafka", version.group(1) if version else "of unknown version")
        finally:
            await asyncio.shield(asyncio.to_thread(node.stop))
