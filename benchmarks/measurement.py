"""What is measured of a producer: throughput and CPU, latency at a fixed rate, memory of what is pending."""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import gc
import resource
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
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
    pending, or it was not measured.
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


async def measure_python_memory(
    producer: Producer, messages: int, freeze: Callable[[], Awaitable[None]], thaw: Callable[[], Awaitable[None]]
) -> Pending:
    """Let ``messages`` be pending at a server that never answers, and ask tracemalloc what Python keeps of them.

    ``freeze`` stops the server, ``thaw`` continues it and waits until it has taken everything.
    """
    payloads = _payloads(messages)
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
    _check(pending, messages)
    return Pending(messages, (frozen - before) / messages, (awaiting - before) / messages if left == messages else None)


async def measure_resident_memory(
    producer: Producer, messages: int, freeze: Callable[[], Awaitable[None]], thaw: Callable[[], Awaitable[None]]
) -> Pending:
    """The same by the growth of the process, for a client that keeps its messages outside of Python. Linux only.

    Coarser than tracemalloc: what was free in the process before is used first, and pages are counted whole.
    """
    await producer.publish_all(1)  # what is loaded and made with the first message is no memory of the others
    payloads = _payloads(messages)
    await freeze()
    gc.collect()
    _trim()
    before = _resident_bytes()
    pending = await producer.publish_unanswered(payloads)
    await asyncio.sleep(_STEADY_S)  # until what can be sent is sent
    gc.collect()
    frozen = _resident_bytes()
    await thaw()
    _check(pending, messages)
    return Pending(messages, (frozen - before) / messages, None)


def can_measure_resident_memory() -> bool:
    """Whether this system tells it."""
    return sys.platform == "linux"


def _payloads(messages: int) -> list[bytes]:
    """Of its own each, and there before the count."""
    return [bytes(bytearray(PAYLOAD)) for _ in range(messages)]


def _check(pending: int, messages: int) -> None:
    if pending != messages:
        raise RuntimeError(f"{pending} messages pending instead of {messages}: a memory per message would mean nothing")


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _trim() -> None:
    """Give free memory of C's heap back, where the C library can: else the messages would hide in it."""
    library = ctypes.CDLL(ctypes.util.find_library("c"))
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


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
