"""``python -m benchmarks.dead_server_process URL SETTINGS``: the bus of one dead-server scenario and its publishers.

It samples itself and asks its parent (dead_server.py), a line each on standard output, to ``freeze`` and to ``thaw``
the server; the line that is neither is the result. Linux only: it reads /proc.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import eventbus
from benchmarks.dead_server import RETURN_TIMEOUT_S, STRETCH, Outcome, Sample, Settings
from eventbus import ConnectionConfig, RetryPolicy, StallTimeout, TopicConfig, WindowConfig

_SAMPLE_S = 0.25
_RUN_WINDOWS = 12
"""On a busy machine windows end slowly: the dead time lasts until so many have, at most STRETCH times ``seconds``."""
_SUBJECT, _STREAM = "dead.events", "DEAD"


class _Publishing:
    """A bus, its endless publishers, and what is counted of them."""

    def __init__(self, bus: eventbus.EventBus, payload_bytes: int) -> None:
        self._bus = bus
        self._filler = bytes(payload_bytes - 8)
        self._began = time.monotonic()
        self.go = asyncio.Event()
        self.stalls = 0

    async def for_ever(self) -> None:
        """Publish, and again after a StallTimeout; anything else that is raised ends the run."""
        await self.go.wait()
        for number in itertools.count():
            try:
                await self._bus.publish(_SUBJECT, number.to_bytes(8, "big") + self._filler)
            except StallTimeout:
                self.stalls += 1

    def start(self) -> None:
        """From now on they publish, and samples count their time."""
        self._began = time.monotonic()
        self.go.set()

    def sample(self) -> Sample:
        now = self._bus.snapshot()
        return Sample(
            at_s=round(time.monotonic() - self._began, 3),
            rss=_resident_bytes(),
            pending=now.pending,
            waiting=now.waiting_publishers,
            accepted=now.accepted,
            acked=now.acked,
            late=now.late_acks,
            rejected=now.rejected,
            unknown=now.unknown,
            stalls=self.stalls,
            connection=now.connection.value,
        )

    async def watch(self, seconds: float, enough: Callable[[Sample], bool] = lambda _: False) -> list[Sample]:
        """Samples for so long, or until one is enough."""
        samples, deadline = [self.sample()], time.monotonic() + seconds
        while not enough(samples[-1]) and time.monotonic() < deadline:
            await asyncio.sleep(_SAMPLE_S)
            samples.append(self.sample())
        return samples


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


async def publish_at_dead_server(url: str, settings: Settings) -> Outcome:
    """What the process of a scenario does: publishes, samples, and asks its parent for the server's end and return."""
    told = 0

    def hear(report: eventbus.DeliveryReport) -> None:
        nonlocal told
        told += 1

    bus = await eventbus.connect(
        url,
        topics=[TopicConfig(_SUBJECT, stream=_STREAM, storage="memory")],
        window=WindowConfig(settings.window, settings.window_bytes, stall_timeout_s=settings.ack_timeout_s),
        retry=RetryPolicy(max_attempts=2, base_delay_s=0.05, max_delay_s=0.05),
        ack_timeout_s=settings.ack_timeout_s,
        connection=ConnectionConfig(ping_interval_s=1.0 if settings.scenario == "noticed" else 3600.0),
        on_error=hear,
    )
    try:
        await (await bus.publish(_SUBJECT, b"what is loaded with the first message is there before the start"))
        publishing = _Publishing(bus, settings.payload_bytes)
        await _ask_parent("freeze")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(publishing.for_ever()) for _ in range(settings.publishers)]
            await asyncio.sleep(0)  # all of them have begun
            gc.collect()
            start = _resident_bytes()
            publishing.start()
            due = _RUN_WINDOWS * settings.window
            dead = await publishing.watch(
                settings.seconds * STRETCH, lambda now: now.at_s >= settings.seconds and now.ended >= due
            )
            await _ask_parent("thaw")
            wanted, since = settings.window + dead[-1].acked - dead[-1].late, time.monotonic()
            back = await publishing.watch(RETURN_TIMEOUT_S, lambda sample: sample.acked - sample.late >= wanted)
            returned_s = time.monotonic() - since if back[-1].acked - back[-1].late >= wanted else None
            for task in tasks:
                task.cancel()
    finally:
        await bus.close(timeout_s=2.0)
    return Outcome(settings, start, tuple(dead), tuple(back), told, returned_s)


async def _ask_parent(word: str) -> None:
    print(word, flush=True)
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(publish_at_dead_server(sys.argv[1], Settings(**json.loads(sys.argv[2])))))))
