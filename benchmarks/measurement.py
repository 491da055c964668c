"""What is measured of a producer: throughput and CPU, latency at a fixed rate, memory of what is pending."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.producer import PAYLOAD, Producer

WARM_UP = 2_000
"""Messages before the clock starts: connections, subscriptions and caches are there then, as in a service that runs."""
_STEADY_S = 0.2
_STEADY_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Throughput:
    """messages published as fast as possible, how many acks were seen, wall and process time from first to last."""

    messages: int
    acked: int
    elapsed_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Paced:
    """Messages at a fixed rate: the rate that was kept (messages / s), and percentiles of the ack latency."""

    messages: int
    acked: int
    rate: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Pending:
    """Memory per pending message beyond its payload, in bytes, of ``messages`` pending ones.

    frozen_bytes: while the server stands still, so unsent frames (with a copy of the payload) are counted too.
    awaiting_bytes: after it has read everything, so only what is kept until the ack; None if some did not stay
    pending.
    """

    messages: int
    frozen_bytes: float
    awaiting_bytes: float | None


async def measure_throughput(producer: Producer, messages: int) -> Throughput:
    """Publish ``messages`` as fast as possible, after a warm-up that is not counted."""
    producer.prepare(WARM_UP)
    await producer.publish_all(WARM_UP)
    producer.prepare(messages)
    gc.collect()
    cpu_ns, start_ns = time.process_time_ns(), time.perf_counter_ns()
    acked = await producer.publish_all(messages)
    elapsed_ns, used_ns = time.perf_counter_ns() - start_ns, time.process_time_ns() - cpu_ns
    return Throughput(messages, acked, elapsed_ns / 1e9, used_ns / 1e9)


async def measure_latency(producer: Producer, messages: int, rate: float) -> Paced:
    """Publish ``messages``, ``rate`` a second."""
    producer.prepare(messages)
    gc.collect()
    start_ns = time.perf_counter_ns()
    latencies = await producer.publish_paced(messages, rate)
    elapsed_s = (time.perf_counter_ns() - start_ns) / 1e9
    p50_s, p99_s = latencies.percentile_s(50), latencies.percentile_s(99)
    if p50_s is None or p99_s is None:
        raise RuntimeError("no ack came")
    return Paced(messages, latencies.total, messages / elapsed_s, p50_s * 1000, p99_s * 1000)


async def measure_memory(
    producer: Producer, messages: int, freeze: Callable[[], Awaitable[None]], thaw: Callable[[], Awaitable[None]]
) -> Pending:
    """Let ``messages`` be pending at a server that never answers.

    ``freeze`` stops the server, ``thaw`` continues it and waits until it has taken everything.
    """
    payloads = [bytes(bytearray(PAYLOAD)) for _ in range(messages)]  # of its own each, and here before the count
    await freeze()
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    pending = await producer.publish_unanswered(payloads)
    frozen = await _steady()
    await thaw()
    awaiting = await _steady()
    left = await producer.publish_unanswered(())
    tracemalloc.stop()
    if pending != messages:
        raise RuntimeError(f"{pending} messages pending instead of {messages}: a memory per message would mean nothing")
    return Pending(messages, (frozen - before) / messages, (awaiting - before) / messages if left == messages else None)


async def _steady() -> int:
    """Traced memory once it has stood still, but for 0.1 %, for 0.2 s; at most 3 s from now."""
    deadline = time.monotonic() + _STEADY_TIMEOUT_S
    value, since = 0, time.monotonic()
    while (now := time.monotonic()) < deadline and now - since < _STEADY_S:
        await asyncio.sleep(0.02)
        gc.collect()
        traced, _ = tracemalloc.get_traced_memory()
        if abs(traced - value) > value / 1000:
            value, since = traced, time.monotonic()
    return value


def as_dict(measured: Throughput | Paced | Pending) -> dict[str, Any]:
    """Plain values for JSON."""
    return asdict(measured)
