"""LoadRun: one run from connect to close, watched all the way. The worker and the command line both drive it.

open() connects; run() sends, drains, closes, and says what was. Whatever happens in between, the bus is closed, an
embedded broker with it, and the end of the run is written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from eventbus.alerts import Notifier, SinkStatus, Verdict, sinks_from_plain
from eventbus.errors import EventBusError, FlushTimeout
from eventbus.event import BusEvent
from eventbus.latency import LatencyHistogram
from eventbus.load.message import Messages
from eventbus.load.plan import LoadPlan
from eventbus.load.record import RunRecord
from eventbus.load.runner import EndReason, LoadRunner, PublishesMessages
from eventbus.load.scheduled_latency import ScheduledLatency
from eventbus.load.shape import Shape
from eventbus.load.watch import RunWatch, Watched
from eventbus.observe import AlertChange, RunStatus, Sample, StoreWriter
from eventbus.ports import Clock, Observer, Witness
from eventbus.report import CloseReport
from eventbus.snapshot import BusSnapshot

HURRIED_DRAIN_S = 5.0
"""How long acks are awaited after the last message, where somebody wants the program to end."""
CLOSE_TIMEOUT_S = 2.0
"""For the close itself, after the drain."""
NOTIFY_TIMEOUT_S = 3.0
"""For notifications that still wait at the end of a run."""


class RunningBus(PublishesMessages, Watched, Protocol):
    """The part of a bus that a run needs."""

    @property
    def url(self) -> str:
        """Where it is connected, without user and password."""

    @property
    def broker(self) -> str:
        """What answers, with its version."""

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Wait until nothing is pending, or FlushTimeout."""

    async def close(self, timeout_s: float = 30.0) -> CloseReport:
        """End within the timeout."""


class ConnectPlan(Protocol):
    """What ``eventbus.load_bus.connect_plan`` does; given from outside, since this layer knows no broker."""

    def __call__(
        self, plan: LoadPlan, *, observers: Sequence[Observer], witness: Witness | None
    ) -> Awaitable[RunningBus]:
        """A connected bus, as the plan wants it."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What became of a run.

    url: without user and password. offered: messages that the schedule wanted to send. refused: those that no broker
    would take, with the reason of the first; they are not in ``snapshot.accepted``.
    sending_s: how long it sent. elapsed_s: from the connect to the end of the drain. snapshot: after the close, of the
    whole run. error: why it FAILED. run_id: in the store; None without one.
    latency, scheduled: of acked messages after the warm-up, from the last attempt and from the scheduled time.
    schedule_lag_s: the longest that a message was sent after its time. verdict: of the thresholds, None without any.
    aborted: why it ended before its time, by a threshold. sinks: what became of what was to be told of alerts.
    """

    status: RunStatus
    url: str
    offered: int
    refused: int
    refusal: str | None
    sending_s: float
    elapsed_s: float
    snapshot: BusSnapshot
    report: CloseReport
    error: str | None
    run_id: str | None
    latency: LatencyHistogram
    scheduled: LatencyHistogram
    schedule_lag_s: float = 0.0
    verdict: Verdict | None = None
    aborted: str | None = None
    sinks: tuple[SinkStatus, ...] = ()

    @property
    def clean(self) -> bool:
        """True where every message that was accepted is acked, and none was refused."""
        return self.error is None and not self.refused and self.snapshot.acked == self.snapshot.accepted

    @property
    def passed(self) -> bool:
        """False where a threshold did not hold at the end, or ended the run."""
        return self.aborted is None and (self.verdict is None or self.verdict.passed)


class DrivesLoad(Protocol):
    """A run, in this process (LoadRun) or spread over several (FleetRun)."""

    @property
    def run_id(self) -> str | None:
        """In the store; None without one, or before ``open`` returned."""

    @property
    def url(self) -> str:
        """Of the broker, without user and password; empty before ``open`` returned."""

    async def open(self) -> None:
        """Connect; nothing is sent. Raises ConfigError, ConnectFailed, TopicError."""

    async def run(self) -> RunResult:
        """Send, drain, close."""

    def stop(self, drain_timeout_s: float | None = None) -> None:
        """Send nothing more."""

    def set_rate(self, rate: float | None) -> None:
        """Go on with another rate."""

    def set_shape(self, shape: Shape) -> None:
        """Go on with another shape."""

    @property
    def record(self) -> RunRecord:
        """What is made of it: its alerts, to be looked at and steered, and its events, to be added to."""


class MakeRun(Protocol):
    """Makes the run of a plan."""

    def __call__(
        self,
        *,
        writer: StoreWriter | None = None,
        on_sample: Callable[[Sample], None] | None = None,
        on_event: Callable[[BusEvent], None] | None = None,
        on_alert: Callable[[AlertChange], None] | None = None,
    ) -> DrivesLoad:
        """A run that is not open yet."""


class LoadRun:
    """One run of ``plan``; ``open`` once, then ``run`` once, on one event loop.

    writer: where it is recorded, if anywhere. on_sample, on_event, on_alert: called on the loop; they must not wait or
    raise.
    """

    def __init__(
        self,
        plan: LoadPlan,
        messages: Messages,
        connect: ConnectPlan,
        *,
        clock: Clock,
        writer: StoreWriter | None = None,
        on_sample: Callable[[Sample], None] | None = None,
        on_event: Callable[[BusEvent], None] | None = None,
        on_alert: Callable[[AlertChange], None] | None = None,
    ) -> None:
        self._plan = plan
        self._messages = messages
        self._connect = connect
        self._clock = clock
        self._latency = ScheduledLatency(plan.max_pending)
        self._notifier = Notifier(sinks_from_plain(list(plan.sinks)), clock=clock) if plan.sinks else None
        self._record = RunRecord(
            plan,
            clock=clock,
            writer=writer,
            notifier=self._notifier,
            on_sample=on_sample,
            on_event=on_event,
            on_alert=on_alert,
            on_abort=lambda _: self.stop(HURRIED_DRAIN_S),
        )
        self._bus: RunningBus | None = None
        self._runner: LoadRunner | None = None
        self._started_ns = 0
        self._stopped = False
        self._drain_s = plan.drain_s
        self._draining: asyncio.Timeout | None = None

    @property
    def run_id(self) -> str | None:
        """In the store; None without one, or before ``open`` returned."""
        return self._record.run_id

    @property
    def url(self) -> str:
        """Of the broker, without user and password; empty before ``open`` returned."""
        return "" if self._bus is None else self._bus.url

    @property
    def broker(self) -> str:
        """What answers there, with its version as far as it tells; empty before ``open`` returned."""
        return "" if self._bus is None else self._bus.broker

    @property
    def record(self) -> RunRecord:
        """See DrivesLoad."""
        return self._record

    async def open(self) -> None:
        """Connect and set the topics up; nothing is sent. Raises ConfigError, ConnectFailed, TopicError."""
        self._bus = bus = await self._connect(self._plan, observers=(self._record,), witness=self._latency)
        self._runner = LoadRunner(bus, self._plan, self._messages, clock=self._clock, latency=self._latency)
        self._started_ns = self._clock.monotonic_ns()
        self._record.begin(bus.url, bus.broker)

    # ---- while it goes on --------------------------------------------------------------------------------------

    def set_rate(self, rate: float | None) -> None:
        """Go on with another rate, checked by the caller."""
        if self._runner is not None:
            self._runner.set_rate(rate)
            self._record.rate_changed(rate)

    def set_shape(self, shape: Shape) -> None:
        """Go on with another shape, from its beginning."""
        if self._runner is not None:
            self._runner.set_shape(shape)
            self._record.shape_changed(shape)

    def stop(self, drain_timeout_s: float | None = None) -> None:
        """Send nothing more, and await acks for at most so long from now; by default as long as the plan says. Again
        with less shortens the wait."""
        drain_timeout_s = self._plan.drain_s if drain_timeout_s is None else drain_timeout_s
        self._stopped = True
        self._drain_s = min(self._drain_s, drain_timeout_s)
        if self._runner is not None:
            self._runner.stop()
        if self._draining is not None:
            until = asyncio.get_running_loop().time() + drain_timeout_s
            with contextlib.suppress(RuntimeError):  # the wait has just ended by itself
                self._draining.reschedule(min(until, self._draining.when() or until))

    # ---- from begin to end -------------------------------------------------------------------------------------

    async def run(self) -> RunResult:
        """Send, drain, close; returns what was, also where the bus failed on the way. Cancellation closes at once."""
        if self._bus is None or self._runner is None:
            raise RuntimeError("open() comes before run()")
        bus, runner, record = self._bus, self._runner, self._record
        watch = RunWatch(
            bus,
            runner,
            self._latency,
            warm_up_s=self._plan.warm_up_s,
            started_ns=self._started_ns,
            clock=self._clock,
            took=record.took,
        )
        status, error = RunStatus.FAILED, "the run was cut short"
        try:
            if self._stopped:
                runner.stop()
            reason = await runner.run()
            record.draining()
            await self._drain(bus)
            status, error = RunStatus.FINISHED if reason is EndReason.PLAN else RunStatus.STOPPED, ""
        except EventBusError as failure:
            error = str(failure)
        finally:
            watch.closing()
            report = await bus.close(timeout_s=min(CLOSE_TIMEOUT_S, self._drain_s))
            last = await watch.end()
            verdict = record.end(status, error or self._trouble(), report)
            if self._notifier is not None:
                await self._notifier.close(NOTIFY_TIMEOUT_S)
        latency, scheduled = record.measured(last)
        return RunResult(
            status=status,
            url=bus.url,
            offered=max(last.offered, last.snapshot.accepted + runner.refused),
            refused=runner.refused,
            refusal=runner.refusal,
            sending_s=runner.sending_s,
            elapsed_s=last.elapsed_s,
            snapshot=last.snapshot,
            report=report,
            error=error or None,
            run_id=record.run_id,
            latency=latency,
            scheduled=scheduled,
            schedule_lag_s=watch.most_lag_s,
            verdict=verdict,
            aborted=record.aborted,
            sinks=record.sinks(),
        )

    async def _drain(self, bus: RunningBus) -> None:
        try:
            async with asyncio.timeout(self._drain_s) as self._draining:
                await bus.flush(timeout_s=self._drain_s + 1.0)
        except (TimeoutError, FlushTimeout):
            pass  # the close settles what is left, and its report tells
        finally:
            self._draining = None

    def _trouble(self) -> str | None:
        """What the store should say of a run that did not fail, and yet did not go as it should."""
        if self._record.aborted is not None:
            return self._record.aborted
        if self._runner is not None and self._runner.refused:
            return f"{self._runner.refused:,} messages were refused before sending: {self._runner.refusal}"
        return None
