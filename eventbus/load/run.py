"""LoadRun: one run from connect to close, watched all the way. The worker and the command line both drive it.

open() connects; run() sends, drains, closes, and says what was. Whatever happens in between, the bus is closed, an
embedded broker with it, and the end of the run is written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from eventbus.alerts import DEFAULT_RULES, NEEDED_SPAN_S, ThresholdRule, evaluate, transitions
from eventbus.config import WindowConfig
from eventbus.errors import EventBusError, FlushTimeout
from eventbus.event import BusEvent
from eventbus.load.payload import Payloads
from eventbus.load.plan import LoadPlan
from eventbus.load.runner import EndReason, LoadRunner, PublishesMessages
from eventbus.observe import FailedMessage, LagProbe, RunStatus, Sample, Sampler, StoreWriter
from eventbus.ports import Clock, Observer
from eventbus.report import CloseReport, DeliveryReport
from eventbus.snapshot import BusSnapshot
from eventbus.topic import TopicConfig

DRAIN_TIMEOUT_S = 30.0
"""How long acks are awaited after the last message; also the default of ``EventBus.close``."""
HURRIED_DRAIN_S = 5.0
"""The same, where somebody wants the program to end."""
CLOSE_TIMEOUT_S = 2.0
"""For the close itself, after the drain."""


class RunningBus(PublishesMessages, Protocol):
    """The part of a bus that a run needs."""

    @property
    def url(self) -> str:
        """Where it is connected, without user and password."""

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Wait until nothing is pending, or FlushTimeout."""

    async def close(self, timeout_s: float = 30.0) -> CloseReport:
        """End within the timeout."""

    def snapshot(self) -> BusSnapshot:
        """How it stands."""


class Connect(Protocol):
    """What ``eventbus.connect`` does; given from outside, since this layer knows no broker."""

    def __call__(
        self,
        url: str,
        *,
        topics: Sequence[TopicConfig],
        window: WindowConfig,
        ack_timeout_s: float,
        observers: Sequence[Observer],
    ) -> Awaitable[RunningBus]:
        """A connected bus."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What became of a run.

    url: without user and password. offered: messages that the schedule wanted to send. refused: those that no broker
    would take, with the reason of the first; they are not in ``snapshot.accepted``.
    sending_s: how long it sent. elapsed_s: from the connect to the end of the drain. snapshot: after the close.
    error: why it FAILED. run_id: in the store; None without one.
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

    @property
    def clean(self) -> bool:
        """True where every message that was accepted is acked, and none was refused."""
        return self.error is None and not self.refused and self.snapshot.acked == self.snapshot.accepted


class _Watcher:
    """The bus's observer: keeps failed messages and events of one run."""

    every_outcome = False

    def __init__(self, clock: Clock, on_event: Callable[[BusEvent], None] | None) -> None:
        self._clock = clock
        self._on_event = on_event
        self._early: list[BusEvent] = []
        self._writer: StoreWriter | None = None
        self._run_id = ""

    def write_to(self, writer: StoreWriter, run_id: str) -> None:
        """From now on, with what happened while connecting."""
        self._writer, self._run_id = writer, run_id
        for event in self._early:
            writer.event(run_id, event)
        self._early.clear()

    def settled(self, reports: Sequence[DeliveryReport]) -> None:
        if self._writer is None:
            return
        room = self._writer.room_for_failed(self._run_id)
        if room:
            wall_s = self._clock.wall_s()
            self._writer.failed(self._run_id, [FailedMessage.of(report, wall_s) for report in reports[:room]])

    def happened(self, event: BusEvent) -> None:
        if self._writer is None:
            self._early.append(event)
        else:
            self._writer.event(self._run_id, event)
        if self._on_event is not None:
            self._on_event(event)


class LoadRun:
    """One run of ``plan``; ``open`` once, then ``run`` once, on one event loop.

    writer: where it is recorded, if anywhere. on_sample, on_event: called on the loop; they must not wait or raise.
    """

    def __init__(
        self,
        plan: LoadPlan,
        payloads: Payloads,
        connect: Connect,
        *,
        clock: Clock,
        writer: StoreWriter | None = None,
        on_sample: Callable[[Sample], None] | None = None,
        on_event: Callable[[BusEvent], None] | None = None,
        rules: Sequence[ThresholdRule] = DEFAULT_RULES,
    ) -> None:
        self._plan = plan
        self._payloads = payloads
        self._connect = connect
        self._clock = clock
        self._writer = writer
        self._on_sample = on_sample
        self._rules = rules
        self._watcher = _Watcher(clock, on_event)
        self._bus: RunningBus | None = None
        self._runner: LoadRunner | None = None
        self._run_id: str | None = None
        self._started_ns = 0
        self._recent: deque[Sample] = deque()
        self._firing: frozenset[str] = frozenset()
        self._stopped = False
        self._drain_s = DRAIN_TIMEOUT_S
        self._draining: asyncio.Timeout | None = None

    @property
    def run_id(self) -> str | None:
        """In the store; None without one, or before ``open`` returned."""
        return self._run_id

    @property
    def url(self) -> str:
        """Of the broker, without user and password; empty before ``open`` returned."""
        return "" if self._bus is None else self._bus.url

    async def open(self) -> None:
        """Connect and set the topic up; nothing is sent. Raises ConfigError, ConnectFailed, TopicError."""
        plan = self._plan
        self._bus = bus = await self._connect(
            plan.url,
            topics=[TopicConfig(plan.topic)],
            window=WindowConfig(max_pending=plan.max_pending),
            ack_timeout_s=plan.ack_timeout_s,
            observers=(self._watcher,),
        )
        self._runner = LoadRunner(bus, plan, self._payloads.source, self._payloads.total, clock=self._clock)
        self._started_ns = self._clock.monotonic_ns()
        if self._writer is not None:
            self._run_id = self._writer.begin_run(
                url=bus.url, topic=plan.topic, settings=plan.settings(), started_wall_s=self._clock.wall_s()
            )
            self._watcher.write_to(self._writer, self._run_id)

    def set_rate(self, rate: float | None) -> None:
        """Go on with another rate, checked by the caller."""
        if self._runner is not None:
            self._runner.set_rate(rate)

    def stop(self, drain_timeout_s: float = DRAIN_TIMEOUT_S) -> None:
        """Send nothing more, and await acks for at most so long from now. Again with less shortens the wait."""
        self._stopped = True
        self._drain_s = min(self._drain_s, drain_timeout_s)
        if self._runner is not None:
            self._runner.stop()
        if self._draining is not None:
            until = asyncio.get_running_loop().time() + drain_timeout_s
            with contextlib.suppress(RuntimeError):  # the wait has just ended by itself
                self._draining.reschedule(min(until, self._draining.when() or until))

    async def run(self) -> RunResult:
        """Send, drain, close; returns what was, also where the bus failed on the way. Cancellation closes at once."""
        if self._bus is None or self._runner is None:
            raise RuntimeError("open() comes before run()")
        bus, runner = self._bus, self._runner
        loop = asyncio.get_running_loop()
        probe = LagProbe(loop)
        sampler = Sampler(
            snapshot=bus.snapshot,
            load=lambda: (runner.offered, runner.target_rate),
            lag=probe.take,
            took=self._took,
            clock=self._clock,
            started_ns=self._started_ns,
        )
        sampling = loop.create_task(sampler.run(), name="ackscope-sampler")
        status, error = RunStatus.FAILED, "the run was cut short"
        try:
            if self._stopped:
                runner.stop()
            reason = await runner.run()
            if self._writer is not None and self._run_id is not None:
                self._writer.set_status(self._run_id, RunStatus.DRAINING)
            await self._drain(bus)
            status, error = RunStatus.FINISHED if reason is EndReason.PLAN else RunStatus.STOPPED, ""
        except EventBusError as failure:
            error = str(failure)
        finally:
            report = await bus.close(timeout_s=min(CLOSE_TIMEOUT_S, self._drain_s))
            sampling.cancel()
            probe.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await sampling
            last = sampler.take()
            self._end(status, error or None, report)
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
            run_id=self._run_id,
        )

    async def _drain(self, bus: RunningBus) -> None:
        try:
            async with asyncio.timeout(self._drain_s) as self._draining:
                await bus.flush(timeout_s=self._drain_s + 1.0)
        except (TimeoutError, FlushTimeout):
            pass  # the close settles what is left, and its report tells
        finally:
            self._draining = None

    def _took(self, sample: Sample) -> None:
        self._recent.append(sample)
        # One sample from before the span is kept: it is what the span is measured against.
        while len(self._recent) > 2 and self._recent[1].elapsed_s <= sample.elapsed_s - NEEDED_SPAN_S:
            self._recent.popleft()
        states = evaluate(self._rules, self._recent)
        changes = transitions(states, self._firing, sample.wall_s)
        self._firing = frozenset(state.rule.name for state in states if state.firing)
        if self._writer is not None and self._run_id is not None:
            self._writer.sample(self._run_id, sample)
            for change in changes:
                self._writer.alert(self._run_id, change)
        if self._on_sample is not None:
            self._on_sample(sample)

    def _end(self, status: RunStatus, error: str | None, report: CloseReport) -> None:
        if self._writer is None or self._run_id is None:
            return
        refused = self._runner.refused if self._runner is not None else 0
        if error is None and refused and self._runner is not None:
            error = f"{refused:,} messages were refused before sending: {self._runner.refusal}"
        as_dict: dict[str, Any] = asdict(report)
        self._writer.end_run(
            self._run_id, status=status, ended_wall_s=self._clock.wall_s(), error=error, report=as_dict
        )
