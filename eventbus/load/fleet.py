"""FleetRun: one plan run by several processes, here or elsewhere, and seen as one run.

open() starts the parts and connects them all; run() lets them begin at one instant, merges their figures, and says what
was. A part that dies is told and counted as far as it was known; the others go on. Whatever happens, no part is left
behind, nor an embedded broker, and the end of the run is written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from eventbus.alerts import Notifier, sinks_from_plain
from eventbus.errors import ConfigError
from eventbus.event import BusEvent, EventKind
from eventbus.load.executor import Executor, LocalExecutor
from eventbus.load.fleet_figures import FleetFigures
from eventbus.load.fleet_part import FleetPart
from eventbus.load.fleet_parts import FleetParts
from eventbus.load.plan import LoadPlan
from eventbus.load.record import RunRecord
from eventbus.load.run import HURRIED_DRAIN_S, NOTIFY_TIMEOUT_S, RunResult
from eventbus.load.shape import Shape
from eventbus.observe import AlertChange, RunStatus, Sample, Sampler, StoreWriter
from eventbus.ports import Clock

_TOLD = 3
"""Troubles of parts that are told one by one."""


class Broker(Protocol):
    """An embedded one."""

    @property
    def url(self) -> str:
        """Where it listens, once it is started."""

    def start(self) -> None:
        """Start it; blocks. Raises ConfigError, ConnectFailed."""

    def stop(self) -> None:
        """End it; blocks, within a bound."""


MakeBroker = Callable[[str], Broker | None]
"""The broker that a URL asks to be started, not started yet; None where it names one that runs. Raises ConfigError."""


def executor_of(dask: str | None) -> Executor:
    """Where the parts of a load run: on this machine, or on the Dask cluster of this address. Raises ConfigError."""
    if dask is None:
        return LocalExecutor()
    from eventbus.load.dask_executor import DaskExecutor

    return DaskExecutor(dask)


class FleetRun:
    """One run of ``plan`` by ``plan.processes`` parts; implements DrivesLoad, as LoadRun does.

    executor: starts the parts. make_broker: for an embedded one, which all parts share. writer: where the run is
    recorded, if anywhere. on_sample, on_event, on_alert: called on the loop; they must not wait or raise.
    """

    def __init__(
        self,
        plan: LoadPlan,
        executor: Executor,
        *,
        clock: Clock,
        make_broker: MakeBroker | None = None,
        writer: StoreWriter | None = None,
        on_sample: Callable[[Sample], None] | None = None,
        on_event: Callable[[BusEvent], None] | None = None,
        on_alert: Callable[[AlertChange], None] | None = None,
    ) -> None:
        self._plan = plan
        self._executor = executor
        self._clock = clock
        self._make_broker = make_broker
        self._broker: Broker | None = None
        self._notifier = Notifier(sinks_from_plain(list(plan.sinks)), clock=clock) if plan.sinks else None
        self._new_record = partial(
            RunRecord,
            clock=clock,
            writer=writer,
            notifier=self._notifier,
            on_sample=on_sample,
            on_event=on_event,
            on_alert=on_alert,
            on_abort=lambda _: self.stop(HURRIED_DRAIN_S),
        )
        self._record = self._new_record(plan)
        self._parts = FleetParts(
            executor,
            happened=lambda event: self._record.happened(event),
            failed=lambda messages, groups: self._record.failed_elsewhere(messages, groups),
            draining=self._drains,
            lost=self._lost,
        )
        self._figures = FleetFigures(self._parts.all, clock)
        self._opened = self._stopped = self._draining = self._over = False
        self._drain_s = plan.drain_s

    @property
    def run_id(self) -> str | None:
        """In the store; None without one, or before ``open`` returned."""
        return self._record.run_id

    @property
    def url(self) -> str:
        """Of the broker, without user and password; empty before ``open`` returned."""
        return self._parts.all[0].url if self._opened else ""

    @property
    def record(self) -> RunRecord:
        """See DrivesLoad. Another one after ``open``, where it found other places than the plan has processes."""
        return self._record

    @property
    def processes(self) -> int:
        """How many parts there are; before ``open``, how many the plan wants."""
        return self._plan.processes

    # ---- begin -------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Start all parts and have them connect; nothing is sent. Raises ConfigError, ConnectFailed, TopicError where
        one of them cannot; then, or cancelled, all are ended."""
        try:
            number = await self._executor.places(self._plan.processes)
            if number != self._plan.processes:
                self._plan = replace(self._plan, processes=number)
                self._record = self._new_record(self._plan)
            shares = [self._plan.with_share(index, number) for index in range(number)]
            await self._parts.start(shares, await self._broker_url())
            await self._parts.opened()
        except BaseException:
            self._over = True
            await asyncio.shield(asyncio.ensure_future(self._free()))
            raise
        self._opened = True
        self._record.begin(self.url, self._parts.all[0].broker)

    async def _broker_url(self) -> str:
        url = self._plan.url
        if not url.startswith("embedded+"):
            return url
        self._broker = None if self._make_broker is None else self._make_broker(url)
        if self._broker is None:
            raise ConfigError(f"{url} cannot be shared by several processes here; give the URL of a running broker")
        await asyncio.to_thread(self._broker.start)
        return self._broker.url

    # ---- while it goes on --------------------------------------------------------------------------------------

    def set_rate(self, rate: float | None) -> None:
        """Go on with another rate, of all parts together; checked by the caller. Raises ConfigError in the closed
        model, which has none."""
        self._change(lambda _, of: {"rate": None if rate is None else rate / of})
        if self._opened:
            self._record.rate_changed(rate)

    def set_shape(self, shape: Shape) -> None:
        """Go on with another shape, of all parts together, from its beginning. Raises as ``set_rate``."""

        def share(index: int, of: int) -> dict[str, Any]:
            shared = LoadPlan(shape=shape).with_share(index, of).shape
            return {"shape": None if shared is None else shared.to_dict()}

        self._change(share)
        if self._opened:
            self._record.shape_changed(shape)

    def _change(self, share: Callable[[int, int], dict[str, Any]]) -> None:
        if self._plan.workers is not None:
            raise ConfigError("this load has workers that wait for acks; it has no rate that could be changed")
        if self._opened:
            self._parts.command(lambda index, of: {"cmd": "set", **share(index, of)})

    def stop(self, drain_timeout_s: float | None = None) -> None:
        """Send nothing more, and await acks for at most so long from now; by default as long as the plan says. Again
        with less shortens the wait."""
        drain_s = self._plan.drain_s if drain_timeout_s is None else drain_timeout_s
        self._stopped = True
        self._drain_s = min(self._drain_s, drain_s)
        if self._opened:
            self._parts.stop(drain_s)
            self._drains()

    # ---- from begin to end -------------------------------------------------------------------------------------

    async def run(self) -> RunResult:
        """Let all parts begin, and wait for their ends; returns what was, also where parts were lost on the way.
        Cancellation ends them at once."""
        if not self._opened:
            raise RuntimeError("open() comes before run()")
        error: str | None = "the run was cut short"
        sampler = sampling = None
        try:
            await self._begin()
            sampler = self._sampler()
            sampling = asyncio.create_task(sampler.run(), name="ackscope-sampler")
            await self._parts.over()
            error = self._trouble()
        finally:
            if any(not part.over for part in self._parts.all):
                self.stop(0.0)
                await self._parts.close()
            if sampling is not None:
                sampling.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sampling
            last = self._figures.whole((self._sampler() if sampler is None else sampler).take())
            result = self._result(last, error)
            self._over = True
            await asyncio.shield(asyncio.ensure_future(self._free()))
        return result

    async def _begin(self) -> None:
        """All at one instant; returns at it."""
        if self._stopped:
            self.stop(self._drain_s)
            return
        at_wall_s = self._clock.wall_s() + self._executor.delivery_s
        self._parts.command(lambda *_: {"cmd": "go", "at_wall_s": at_wall_s})
        await asyncio.sleep(self._executor.delivery_s)

    def _sampler(self) -> Sampler:
        return Sampler(
            snapshot=self._figures.snapshot,
            load=self._figures.load,
            lag=self._figures.take_loop_lag,
            took=lambda sample: self._record.took(self._figures.whole(sample)),
            clock=self._clock,
            started_ns=self._clock.monotonic_ns(),
        )

    def _trouble(self) -> str | None:
        troubles = [part.trouble for part in self._parts.all if part.trouble is not None]
        more = f"; and {len(troubles) - _TOLD} more" if len(troubles) > _TOLD else ""
        return "; ".join(troubles[:_TOLD]) + more if troubles else None

    def _result(self, last: Sample, error: str | None) -> RunResult:
        record, results = self._record, [part.result for part in self._parts.all if part.result is not None]
        refused = sum(result.refused for result in results)
        refusal = next((result.refusal for result in results if result.refusal), None)
        status = RunStatus.FINISHED
        if error is not None:
            status = RunStatus.FAILED
        elif any(result.status is RunStatus.STOPPED for result in results):
            status = RunStatus.STOPPED
        told = f"{refused:,} messages were refused before sending: {refusal}" if refused else None
        report = self._figures.report()
        verdict = record.end(status, error or record.aborted or told, report)
        latency, scheduled = record.measured(last)
        return RunResult(
            status=status,
            url=self.url,
            offered=max(last.offered, last.snapshot.accepted + refused),
            refused=refused,
            refusal=refusal,
            sending_s=max((result.sending_s for result in results), default=last.elapsed_s),
            elapsed_s=last.elapsed_s,
            snapshot=last.snapshot,
            report=report,
            error=error,
            run_id=record.run_id,
            latency=latency,
            scheduled=scheduled,
            schedule_lag_s=max([self._figures.most_lag_s, *(result.schedule_lag_s for result in results)]),
            verdict=verdict,
            aborted=record.aborted,
            sinks=record.sinks(),
        )

    def _lost(self, part: FleetPart) -> None:
        if not self._over and part.trouble is not None:
            self._record.happened(BusEvent(self._clock.wall_s(), EventKind.PROCESS_LOST, part.trouble))

    def _drains(self) -> None:
        if not self._draining:
            self._draining = True
            self._record.draining()

    async def _free(self) -> None:
        """End all that was started: parts, the connection to where they run, broker, notifier. Bounded."""
        await self._parts.close()
        await self._executor.close()
        if self._broker is not None:
            await asyncio.to_thread(self._broker.stop)
        if self._notifier is not None:
            await self._notifier.close(NOTIFY_TIMEOUT_S)
