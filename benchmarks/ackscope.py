"""AckScope: our own bus with one of its strategies, through its public names alone."""

from __future__ import annotations

from collections.abc import Sequence

import eventbus
from benchmarks.producer import FINISH_TIMEOUT_S, PAYLOAD, STREAM, Settings, ticks
from eventbus import AckStrategy, ConnectionConfig, LatencyHistogram, TopicConfig, WindowConfig
from eventbus.config import KafkaConfig

_NEVER_S = 3600.0


class AckScope:
    """Counters and latency histogram are on; they cannot be turned off. Receipts are dropped.

    linger_s: on Kafka, how long a batch waits for more; None is our default.
    """

    def __init__(self, settings: Settings, strategy: AckStrategy, linger_s: float | None = None) -> None:
        if settings.url.startswith("kafka"):
            # Without allow_duplicates, as on NATS with ids: nothing is ever stored twice.
            topic = TopicConfig(settings.topic, create=False)
        else:
            topic = TopicConfig(
                settings.topic, stream=STREAM, create=False, storage="memory", allow_duplicates=not settings.message_ids
            )
        self._topic = settings.topic
        self._connecting = eventbus.connect(
            settings.url,
            topics=[topic],
            window=WindowConfig(max_pending=settings.window),
            ack_timeout_s=_NEVER_S if settings.unanswered else 5.0,
            strategy=strategy,
            connection=ConnectionConfig(kafka=KafkaConfig() if linger_s is None else KafkaConfig(linger_s=linger_s)),
        )
        self._bus: eventbus.EventBus | None = None

    async def open(self) -> None:
        self._bus = await self._connecting

    def prepare(self, count: int) -> None:
        pass

    async def publish_all(self, count: int) -> int:
        bus, topic = self._open_bus(), self._topic
        publish = bus.publish
        before = bus.snapshot().acked
        for _ in range(count):
            await publish(topic, PAYLOAD)
        await bus.flush(FINISH_TIMEOUT_S)
        return bus.snapshot().acked - before

    async def publish_paced(self, count: int, rate: float) -> LatencyHistogram:
        """By the bus's own histogram: from the hand-over to the connection until the ack is settled."""
        bus, topic = self._open_bus(), self._topic
        publish = bus.publish
        before = bus.snapshot().latency
        async for due in ticks(count, rate):
            for _ in range(due):
                await publish(topic, PAYLOAD)
        await bus.flush(FINISH_TIMEOUT_S)
        return bus.snapshot().latency.since(before)

    async def publish_unanswered(self, payloads: Sequence[bytes]) -> int:
        bus, topic = self._open_bus(), self._topic
        publish = bus.publish
        for payload in payloads:
            await publish(topic, payload)
        return bus.snapshot().pending

    async def close(self) -> None:
        await self._open_bus().close(timeout_s=1.0)

    def _open_bus(self) -> eventbus.EventBus:
        assert self._bus is not None, "open() comes first"
        return self._bus
