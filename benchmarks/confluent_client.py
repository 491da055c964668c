"""confluent-kafka: ``produce`` with a delivery callback for each message. librdkafka's threads do the rest.

It is no asyncio client: ``produce`` and ``poll`` are called from the one thread, which has nothing else to do. Its
message's way through the event loop, as a service on asyncio would need it, is not counted against it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from confluent_kafka import Producer

from benchmarks.producer import FINISH_TIMEOUT_S, PAYLOAD, Pace, Settings
from eventbus import LatencyHistogram

_FULL_POLL_S = 1.0
_SELDOM = 100


class Produce:
    """``produce``, and ``poll(0)`` after each, as its documentation has it; a full queue is waited for in ``poll``.

    The window is the bound on its queue, ``queue.buffering.max.messages``, which a message leaves with its callback.
    Default settings otherwise, but that it is idempotent, which includes acks=all.
    linger_s: None is librdkafka's default, 5 ms.
    """

    def __init__(self, settings: Settings, linger_s: float | None = None) -> None:
        self._topic = settings.topic
        self._config: dict[str, object] = {
            "bootstrap.servers": settings.url.removeprefix("kafka://"),
            "enable.idempotence": True,
            "acks": "all",
            "queue.buffering.max.messages": settings.window,
        }
        if linger_s is not None:
            self._config["linger.ms"] = linger_s * 1000
        self._acked = 0
        self._producer: Any = None

    async def open(self) -> None:
        self._producer = Producer(self._config)

    def prepare(self, count: int) -> None:
        pass

    def _delivered(self, error: object, message: object) -> None:
        if error is None:
            self._acked += 1

    async def publish_all(self, count: int) -> int:
        produce, poll, topic, delivered = self._producer.produce, self._producer.poll, self._topic, self._delivered
        acked_before = self._acked
        for _ in range(count):
            while True:
                try:
                    produce(topic, PAYLOAD, on_delivery=delivered)
                    break
                except BufferError:
                    poll(_FULL_POLL_S)
            poll(0)
        self._producer.flush(FINISH_TIMEOUT_S)
        return self._acked - acked_before

    async def publish_paced(self, count: int, rate: float) -> LatencyHistogram:
        """It waits for its next tick in ``poll``, so that callbacks run as soon as there is one."""
        produce, poll, topic = self._producer.produce, self._producer.poll, self._topic
        latencies_ns: list[int] = []

        def delivered(sent_ns: int, error: object, message: object) -> None:
            if error is None:
                latencies_ns.append(time.monotonic_ns() - sent_ns)

        pace = Pace(count, rate)
        while not pace.finished:
            for _ in range(pace.due()):
                callback = partial(delivered, time.monotonic_ns())
                while True:
                    try:
                        produce(topic, PAYLOAD, on_delivery=callback)
                        break
                    except BufferError:
                        poll(_FULL_POLL_S)
            tick = pace.next_tick()
            while (left_s := tick - time.monotonic()) > 0:
                poll(left_s)
            poll(0)
        self._producer.flush(FINISH_TIMEOUT_S)
        return LatencyHistogram.of(latencies_ns)

    async def publish_unanswered(self, payloads: Sequence[bytes]) -> int:
        for payload in payloads:
            self._producer.produce(self._topic, payload, on_delivery=self._delivered)
        return len(self._producer)

    async def close(self) -> None:
        self._producer.flush(1.0)


class ProducePolledSeldom(Produce):
    """The same with ``poll(0)`` after every hundredth message: the least that still lets one hear of acks soon."""

    async def publish_all(self, count: int) -> int:
        produce, poll, topic, delivered = self._producer.produce, self._producer.poll, self._topic, self._delivered
        acked_before = self._acked
        for number in range(count):
            while True:
                try:
                    produce(topic, PAYLOAD, on_delivery=delivered)
                    break
                except BufferError:
                    poll(_FULL_POLL_S)
            if number % _SELDOM == 0:
                poll(0)
        self._producer.flush(FINISH_TIMEOUT_S)
        return self._acked - acked_before
