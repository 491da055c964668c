"""KafkaArena: a Kafka, mock or real, and a fresh topic for every round of a contestant."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.arena import Entry, run_contestant
from benchmarks.kafka_broker import REAL, KafkaBroker, MockBroker, open_kafka_broker
from benchmarks.measurement import can_measure_resident_memory

_STORED_TIMEOUT_S = 5.0
"""Without acks a contestant ends before the broker has stored what it was sent."""
_WARM_UP, _WARM_UP_MESSAGES = Entry("confluent-produce", "asyncio"), 100_000
"""For a Kafka that has just begun: else the first contestants wait for what Java has not compiled yet."""


class KafkaArena:
    """An ``Arena``. partitions: of each topic; every contestant chooses among them as it does by default."""

    def __init__(self, broker: KafkaBroker, partitions: int) -> None:
        self._broker = broker
        self._partitions = partitions
        self._topic = ""

    @property
    def broker(self) -> str:
        return self._broker.name

    @property
    def version(self) -> str:
        return self._broker.version

    @property
    def setup(self) -> str:
        partitions = "1 partition" if self._partitions == 1 else f"{self._partitions} partitions"
        return f"idempotent, acks=all, {partitions}, {self._broker.name}"

    @property
    def can_weigh(self) -> bool:
        """On the mock alone: a given broker cannot be frozen, and what a client keeps does not depend on the broker."""
        return isinstance(self._broker, MockBroker) and can_measure_resident_memory()

    async def race(self, entry: Entry, messages: int, window: int, *, paced: int, rate: float) -> dict[str, Any]:
        await self._fresh_topic()
        result = await run_contestant(
            "kafka", entry, f"kafka://{self._broker.bootstrap}", window, "--topic", self._topic,
            "--messages", str(messages), "--paced", str(paced), "--rate", str(rate),
        )  # fmt: skip
        result["stored"] = await self._stored(result["published"])
        return result

    async def weigh(self, entry: Entry, messages: int, window: int) -> dict[str, Any]:
        """With a mock that stands still."""
        mock = self._broker
        assert isinstance(mock, MockBroker), "can_weigh says so"
        await self._fresh_topic()
        try:
            return await run_contestant(
                "kafka", entry, f"kafka://{mock.bootstrap}", window, "--topic", self._topic, "--memory", str(messages),
                deeds={"freeze": mock.freeze, "thaw": mock.thaw},
            )  # fmt: skip
        finally:
            await mock.thaw()  # it may have died while the mock stood still

    async def clear(self) -> None:
        """Delete the topic: what one round has stored is no burden on the next."""
        topic, self._topic = self._topic, ""
        if topic:
            await self._broker.delete_topic(topic)

    async def _fresh_topic(self) -> None:
        await self.clear()
        topic = f"benchmark.{secrets.token_hex(4)}"
        await self._broker.create_topic(topic, self._partitions)
        self._topic = topic

    async def _stored(self, expected: int) -> int:
        """Messages in the topic by its end offsets, once there are ``expected`` or a while has passed.

        Each record batch of an idempotent producer takes as many offsets as it has messages, and nothing else does.
        """
        consumer = AIOKafkaConsumer(bootstrap_servers=self._broker.bootstrap, enable_auto_commit=False)
        partitions = [TopicPartition(self._topic, number) for number in range(self._partitions)]
        await consumer.start()
        try:
            consumer.assign(partitions)
            deadline = time.monotonic() + _STORED_TIMEOUT_S
            while True:
                stored = int(sum((await consumer.end_offsets(partitions)).values()))
                if stored >= expected or time.monotonic() > deadline:
                    return stored
                await asyncio.sleep(0.05)
        finally:
            await consumer.stop()


@contextlib.asynccontextmanager
async def open_kafka_arena(server: str, partitions: int) -> AsyncIterator[KafkaArena]:
    """``server``: as for ``open_kafka_broker``; what it starts ends with everything in it."""
    async with open_kafka_broker(server) as broker:
        arena = KafkaArena(broker, partitions)
        try:
            if server == REAL:
                await arena.race(_WARM_UP, _WARM_UP_MESSAGES, window=10_000, paced=0, rate=1.0)
            yield arena
        finally:
            await arena.clear()
