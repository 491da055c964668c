"""Part: one share of a plan, run in this process for a coordinator in another: commands in, figures out, no store.

What both say to each other is in part_message.py. Whatever a run is anywhere else, it is here too: LoadRun does it.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from eventbus.errors import ConfigError, EventBusError
from eventbus.event import BusEvent
from eventbus.load.failure_batch import FailureBatch
from eventbus.load.part_message import (
    SPEAKS_EACH_S,
    PartResult,
    error_to_dict,
    event_to_dict,
    failed_to_dict,
    sample_to_dict,
)
from eventbus.load.payload import open_messages
from eventbus.load.plan import LoadPlan, check_rate
from eventbus.load.run import HURRIED_DRAIN_S, ConnectPlan, LoadRun, RunningBus
from eventbus.load.shape import shape_from
from eventbus.observe.run import FailedMessage, Sample
from eventbus.ports import Clock, Observer, Witness
from eventbus.report import CloseReport, DeliveryReport

MAX_WAIT_FOR_START_S = 2.0
"""Between "go" and the begin: where this clock differs from the coordinator's, the part begins early, or late by at
most so much."""

_log = logging.getLogger("eventbus.load")


class TakesMessages(Protocol):
    """Where a part speaks: see Outlet."""

    @property
    def busy(self) -> bool:
        """True while something waits to be written."""

    def tell(self, message: Mapping[str, Any]) -> None:
        """Write it, after what was told before."""

    def sample(self, sample: Sample) -> None:
        """Write it, unless a newer one comes first."""


def own_version() -> str:
    """Of the installed package; parts of different versions do not count alike."""
    try:
        return importlib.metadata.version("ackscope")
    except importlib.metadata.PackageNotFoundError:
        return ""


class Part:
    """``work`` once; ``command`` and ``leave`` meanwhile, on the same loop. An Observer of its bus.

    connect: ``eventbus.load_bus.connect_plan``. outlet: takes what it says.
    """

    every_outcome = False

    def __init__(self, connect: ConnectPlan, outlet: TakesMessages, *, clock: Clock) -> None:
        self._connect_plan = connect
        self._outlet = outlet
        self._clock = clock
        self._failures = FailureBatch()
        self._last: Sample | None = None
        self._begun: asyncio.Task[None] | None = None
        self._asked_to_begin = asyncio.Event()
        self._go = asyncio.Event()
        self._at_wall_s = 0.0
        self._plan: LoadPlan | None = None
        self._run: LoadRun | None = None
        self._left = False

    async def work(self) -> None:
        """Say ready, carry out what is commanded, and return when that has ended. Cancellation closes at once."""
        self._outlet.tell({"event": "ready", "version": own_version()})
        speaking = asyncio.create_task(self._speak(), name="ackscope-part-alive")
        self._begun = asyncio.create_task(self._whole(), name="ackscope-part")
        if self._left:
            self._begun.cancel()
        try:
            await asyncio.wait([self._begun])
        finally:
            speaking.cancel()
            self._begun.cancel()
            await asyncio.wait([speaking, self._begun])
        if not self._begun.cancelled():
            self._begun.result()

    def command(self, line: bytes) -> None:
        """Carry out one line. Never waits, never raises: what cannot be carried out is logged."""
        try:
            command = json.loads(line)
            match command["cmd"]:
                case "open":
                    self._open(command["plan"])
                case "go":
                    self._at_wall_s = float(command["at_wall_s"])
                    self._go.set()
                case "set":
                    self._set(command)
                case "stop":
                    self._stop(float(command["drain_s"]))
                case name:
                    raise ConfigError(f"unknown command {name!r}")
        except (ValueError, KeyError, TypeError) as error:  # a ConfigError is a ValueError
            _log.warning("a command could not be carried out: %s: %s", type(error).__name__, error)

    def leave(self) -> None:
        """Whoever commands is gone, or wants this to end: stop, and await acks for at most 5 s."""
        self._left = True
        self._stop(HURRIED_DRAIN_S)

    # ---- commands ----------------------------------------------------------------------------------------------

    def _open(self, values: Mapping[str, Any]) -> None:
        try:
            self._plan = LoadPlan.from_dict(values)
        except ConfigError as error:
            self._refuse(error)
        self._asked_to_begin.set()

    def _set(self, command: Mapping[str, Any]) -> None:
        if self._run is None:
            return
        if "shape" in command:
            self._run.set_shape(shape_from(command["shape"]))
        else:
            self._run.set_rate(check_rate(command["rate"]))

    def _stop(self, drain_s: float) -> None:
        if self._run is not None:
            self._run.stop(drain_s)
            self._go.set()
        elif self._begun is not None:
            self._begun.cancel()  # not open yet: nothing was sent

    # ---- from begin to end -------------------------------------------------------------------------------------

    async def _whole(self) -> None:
        await self._asked_to_begin.wait()
        if self._plan is None:
            return
        try:
            messages = await asyncio.to_thread(open_messages, self._plan)
            run = LoadRun(
                self._plan,
                messages,
                self._connect,
                clock=self._clock,
                on_sample=self._sampled,
                on_event=self._happened,
            )
            await run.open()
        except EventBusError as error:
            self._refuse(error)
            return
        self._run = run
        self._outlet.tell({"event": "opened", "url": run.url, "broker": run.broker})
        try:
            await self._go.wait()
            await asyncio.sleep(min(max(0.0, self._at_wall_s - self._clock.wall_s()), MAX_WAIT_FOR_START_S))
        except asyncio.CancelledError:
            run.stop(0.0)
            await run.run()  # which closes what is open
            raise
        result = await run.run()
        self._tell_failures()
        sample = None if self._last is None else sample_to_dict(self._last)
        self._outlet.tell({"event": "ended", "result": PartResult.of(result).to_dict(), "sample": sample})

    async def _connect(self, plan: LoadPlan, *, observers: Sequence[Observer], witness: Witness | None) -> RunningBus:
        bus = await self._connect_plan(plan, observers=(*observers, self), witness=witness)
        return _Told(bus, lambda: self._outlet.tell({"event": "draining"}))

    async def _speak(self) -> None:
        while True:
            await asyncio.sleep(SPEAKS_EACH_S)
            self._outlet.tell({"event": "alive"})

    def _refuse(self, error: EventBusError) -> None:
        self._outlet.tell({"event": "refused", "error": error_to_dict(error)})

    # ---- what the run tells ------------------------------------------------------------------------------------

    def settled(self, reports: Sequence[DeliveryReport]) -> None:
        """Implements ports.Observer: messages that were not plainly acked."""
        wall_s = self._clock.wall_s()
        self._failures.add([FailedMessage.of(report, wall_s) for report in reports])

    def happened(self, event: BusEvent) -> None:
        """Implements ports.Observer; the run tells of events, those of connecting as well."""

    def _happened(self, event: BusEvent) -> None:
        self._outlet.tell({"event": "happened", "event_of_bus": event_to_dict(event)})

    def _sampled(self, sample: Sample) -> None:
        self._last = sample
        if not self._outlet.busy:  # else they go on being counted here
            self._tell_failures()
        self._outlet.sample(sample)

    def _tell_failures(self) -> None:
        if self._failures:
            self._outlet.tell({"event": "failed", **failed_to_dict(*self._failures.take())})


class _Told:
    """A bus that tells when its drain begins. What is called for each message is the bus's own."""

    def __init__(self, bus: RunningBus, draining: Callable[[], None]) -> None:
        self._bus = bus
        self._draining = draining
        self.publish_nowait = bus.publish_nowait
        self.publish = bus.publish
        self.snapshot = bus.snapshot
        self.ping = bus.ping

    @property
    def url(self) -> str:
        return self._bus.url

    @property
    def broker(self) -> str:
        return self._bus.broker

    async def flush(self, timeout_s: float = 5.0) -> None:
        self._draining()
        await self._bus.flush(timeout_s)

    async def close(self, timeout_s: float = 30.0) -> CloseReport:
        return await self._bus.close(timeout_s)
