"""``python -m benchmarks.telemetry_process SETTINGS``: one bus, told of or not, in a process of its own.

Prints one line of JSON, then ends; where telemetry is exported the OTEL_* variables say where to. Linux only: it reads
/proc.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import eventbus
from benchmarks.producer import FINISH_TIMEOUT_S, PAYLOAD, STREAM, SUBJECT, ticks
from benchmarks.telemetry import CLOSE_S, SHUTDOWN_S, Measured, Settings, plain
from benchmarks.telemetry_client import DiscardedSpans, set_up
from eventbus import RetryPolicy, TopicConfig, WindowConfig
from eventbus.telemetry.setup import setup

_WARM_UP = 2_000


def begin(settings: Settings, spans: DiscardedSpans) -> Callable[[], None]:
    """Set telemetry up as asked for; returns what ends it."""
    if settings.telling == "none":
        return lambda: None
    if settings.telling == "discarded":
        providers = set_up(spans)

        def end() -> None:
            for provider in providers:
                provider.shutdown()

        return end
    telemetry = setup(service_name="benchmark")
    if not telemetry.targets:
        raise SystemExit("the OTEL_* variables say nothing: telemetry goes nowhere")

    def end_in_time() -> None:
        telemetry.shutdown(SHUTDOWN_S)

    return end_in_time


async def publish(bus: eventbus.EventBus, count: int) -> tuple[float, float]:
    """As fast as possible; wall and process time to the last outcome."""
    gc.collect()
    cpu_ns, start_ns = time.process_time_ns(), time.perf_counter_ns()
    for _ in range(count):
        await bus.publish(SUBJECT, PAYLOAD)
    await bus.flush(FINISH_TIMEOUT_S)
    return (time.perf_counter_ns() - start_ns) / 1e9, (time.process_time_ns() - cpu_ns) / 1e9


async def publish_paced(bus: eventbus.EventBus, count: int, rate: float) -> tuple[float | None, float | None]:
    """At a fixed rate; median and 99th percentile of the ack latency in ms."""
    before = bus.snapshot().latency
    async for due in ticks(count, rate):
        for _ in range(due):
            await bus.publish(SUBJECT, PAYLOAD)
    await bus.flush(FINISH_TIMEOUT_S)
    found = bus.snapshot().latency.since(before)
    p50_s, p99_s = found.percentile_s(50), found.percentile_s(99)
    return (None if p50_s is None else p50_s * 1e3), (None if p99_s is None else p99_s * 1e3)


async def measure(settings: Settings) -> Measured:
    """All of one run."""
    spans = DiscardedSpans()
    end = begin(settings, spans)
    mute = settings.situation == "timeouts"
    bus = await eventbus.connect(
        settings.url,
        topics=[TopicConfig(SUBJECT, stream=STREAM, create=False, storage="memory")],
        window=WindowConfig(max_pending=settings.window),
        ack_timeout_s=settings.ack_timeout_s if mute else 5.0,
        retry=RetryPolicy(max_attempts=1) if mute else RetryPolicy(),
    )
    await publish(bus, _WARM_UP)
    await asyncio.sleep(settings.warm_s)
    p50_ms, p99_ms = await publish_paced(bus, settings.paced, settings.rate) if settings.paced else (None, None)
    before, resident = bus.snapshot(), _resident_bytes()
    elapsed_s, cpu_s = await publish(bus, settings.messages)
    after = bus.snapshot()
    grown = _resident_bytes() - resident
    closing = time.monotonic()
    await bus.close(CLOSE_S)
    unknown = bus.snapshot().unknown
    ending = time.monotonic()
    end()
    return Measured(
        telling=settings.telling,
        situation=settings.situation,
        messages=settings.messages,
        elapsed_s=elapsed_s - (settings.ack_timeout_s if mute else 0.0),
        cpu_s=cpu_s,
        acked=after.acked - before.acked,
        unknown=after.unknown - before.unknown,
        told=spans.failures - (unknown - (after.unknown - before.unknown)) if settings.telling == "discarded" else None,
        p50_ms=p50_ms,
        p99_ms=p99_ms,
        grown=grown,
        close_s=ending - closing,
        shutdown_s=time.monotonic() - ending,
    )


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    print(json.dumps(plain(asyncio.run(measure(Settings(**json.loads(sys.argv[1])))))), flush=True)
