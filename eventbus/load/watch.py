"""RunWatch: looks at a run in this process each quarter of a second: bus, schedule, event loop, memory, round trip."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from eventbus.load.pinger import Pinger
from eventbus.load.runner import LoadRunner
from eventbus.load.scheduled_latency import ScheduledLatency
from eventbus.observe import LagProbe, ProcessMemory, Sample, Sampler
from eventbus.ports import Clock
from eventbus.snapshot import BusSnapshot


class Watched(Protocol):
    """The part of a bus that is looked at."""

    def snapshot(self) -> BusSnapshot:
        """How it stands."""

    async def ping(self, timeout_s: float = 2.0) -> float:
        """Seconds that the broker takes to answer, or PingTimeout."""


class RunWatch:
    """Begins when it is made, on the run's event loop; ``end`` ends it, whatever happened.

    warm_up_s: what is counted until then is marked. started_ns: when the run began. took: gets every sample, on the
    loop; it must not wait or raise.
    """

    def __init__(
        self,
        bus: Watched,
        runner: LoadRunner,
        latency: ScheduledLatency,
        *,
        warm_up_s: float,
        started_ns: int,
        clock: Clock,
        took: Callable[[Sample], None],
    ) -> None:
        self._runner = runner
        self._latency = latency
        self._warm_up_s = warm_up_s
        self._warming_up = warm_up_s > 0
        self._took = took
        self.most_lag_s = 0.0
        """The longest that a message was sent after its time, after the warm-up."""
        loop = asyncio.get_running_loop()
        self._memory = ProcessMemory(clock)
        self._pinger = Pinger(bus.ping)
        self._probe = LagProbe(loop)
        self._sampler = Sampler(
            snapshot=bus.snapshot,
            load=lambda: (runner.offered, runner.target_rate),
            lag=self._probe.take,
            took=lambda sample: took(self._whole(sample)),
            clock=clock,
            started_ns=started_ns,
        )
        self._pinging = loop.create_task(self._pinger.run(), name="ackscope-pinger")
        self._sampling = loop.create_task(self._sampler.run(), name="ackscope-sampler")

    def closing(self) -> None:
        """The bus is about to close, and answers no ping any more: the last round trip stays."""
        self._pinging.cancel()

    async def end(self) -> Sample:
        """Look once more, and never again; what was seen, which was handed on too."""
        self._probe.stop()
        for task in (self._pinging, self._sampling):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        last = self._whole(self._sampler.look())
        self._took(last)
        return last

    def _whole(self, sample: Sample) -> Sample:
        """With what the sampler does not know: the schedule, this process and the way to the broker."""
        lag_s = self._runner.schedule_lag_s()
        # The first sample after the warm-up still belongs to it: what it has counted was sent in it, or partly so.
        warming_up = self._warming_up
        self._warming_up = self._runner.sending_s < self._warm_up_s
        if not warming_up:
            self.most_lag_s = max(self.most_lag_s, lag_s)
        return replace(
            sample,
            schedule_lag_s=lag_s,
            scheduled=self._latency.histogram(),
            warming_up=warming_up,
            resident_bytes=self._memory.take(),
            round_trip_s=self._pinger.round_trip_s,
        )
