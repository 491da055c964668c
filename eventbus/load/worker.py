"""Worker: runs loads in a process of its own, on command. ``python -m eventbus worker``.

One JSON object a line. Commands come on standard input (worker_command.py reads them):

    {"cmd": "start", "url": ..., "topic": ..., "rate": ..., ...}   the names of LoadPlan; one run at a time
    {"cmd": "set", "rate": 500}                                    null: as fast as the window lets
    {"cmd": "set", "shape": {"kind": "sine", ...}}                 another shape, from its beginning
    {"cmd": "silence", "alerts": ["pending"], "for_s": 600, "by": ..., "comment": ...}     "*" for all
    {"cmd": "acknowledge", "alert": "pending", "by": ...}
    {"cmd": "note", "kind": "fault_began", "text": ...}            an event of the run; or fault_ended
    {"cmd": "stop"}                                                stop sending, await acks, report
    {"cmd": "quit"}                                                the same, and end

Replies go to standard output:

    {"event": "ready"}
    {"event": "started", "run_id": ..., "url": ...}                url without user and password
    {"event": "error", "text": ...}                                a command that could not be carried out
    {"event": "alerts", "alerts": [{"name": ..., "state": ..., "since_s": ..., "value": ..., "threshold": ...,
        "muted": ..., "acknowledged": ...}, ...], "sinks": [{"name": ..., "delivered": ..., ...}, ...]}
    {"event": "ended", "run_id": ..., "status": ..., "error": ..., "report": {...}, "verdict": ..., "sinks": [...]}
    {"event": "telemetry", "targets": [{"signal": ..., "endpoint": ..., "exports": ..., ...}]}

"alerts" has every rule of the run as AlertNow tells it, and every sink with the names of SinkStatus. It comes with the
first sample, at most once a second where something changed (values to six digits), and before ended; not at all where
there are neither rules nor sinks. At most 200 rules and 20 sinks, their texts cut: below 1 MB; the default rules take
2 KB.

"telemetry" has the names of ExportStatus. It comes after ready, every 2 s where something changed, before ended, and
as the last line of all, since much is exported only at the end; not at all where telemetry goes nowhere.

Nothing but a reply follows a bad command: what runs goes on. Standard input closing, SIGINT and SIGTERM mean quit with
a shorter drain (5 s): whoever started this process is gone, or wants it to be. Figures go into the store.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from eventbus.alerts import AlertNow
from eventbus.errors import ConfigError, EventBusError
from eventbus.load.message import Messages
from eventbus.load.payload import open_messages
from eventbus.load.plan import LoadPlan
from eventbus.load.record import RunRecord
from eventbus.load.run import HURRIED_DRAIN_S, DrivesLoad, MakeRun
from eventbus.load.worker_command import (
    MAX_LINE_BYTES,
    Acknowledge,
    Command,
    Note,
    Quit,
    SetRate,
    SetShape,
    Silence,
    Start,
    Stop,
    read_command,
)
from eventbus.observe import Sample, StoreWriter

TELEMETRY_EVERY_S = 2.0
"""Between two looks at whether telemetry arrives: soon enough for a person, and far more often than it is exported."""
ALERTS_EVERY_S = 1.0
"""As often as a page that shows them draws itself again."""
_PUNCTUAL_S = 0.1
"""A sample that comes so much too soon still counts as a second later: they are taken each 250 ms, more or less."""
QUIT_DRAIN_S = 30.0
"""How long a quit waits for outstanding acks."""

Reply = Callable[[Mapping[str, Any]], None]

Drive = Callable[[LoadPlan, Messages], MakeRun]
Telemetry = Callable[[], Sequence[Mapping[str, Any]]]
"""Where telemetry goes and whether it arrives, as plain values for JSON. Never waits."""


class Worker:
    """Carries out commands; lives on one event loop and is called there only.

    drive: makes what makes the run of a plan (``eventbus.load_bus.driver``). writer: where runs are recorded; stays
    open when the worker ends. reply: takes one reply; it must not raise. telemetry: default goes nowhere.
    telemetry_every_s, alerts_every_s: how often each is looked at, the alerts only when there is a sample.
    """

    def __init__(
        self,
        drive: Drive,
        writer: StoreWriter,
        reply: Reply,
        *,
        telemetry: Telemetry = tuple,
        telemetry_every_s: float = TELEMETRY_EVERY_S,
        alerts_every_s: float = ALERTS_EVERY_S,
    ) -> None:
        self._drive = drive
        self._writer = writer
        self._reply = reply
        self._task: asyncio.Task[None] | None = None
        self._run: DrivesLoad | None = None
        self._leaving = asyncio.Event()
        self._store_error_told = False
        self._telemetry = telemetry
        self._telemetry_every_s = telemetry_every_s
        self._telemetry_told: list[Mapping[str, Any]] = []
        self._telemetry_timer: asyncio.TimerHandle | None = None
        self._alerts_every_s = alerts_every_s
        self._alerts_told: Mapping[str, Any] = {}
        self._alerts_told_s = float("-inf")

    async def work(self) -> None:
        """Say ready, carry out commands until one of them or ``leave`` ends it, and then end what runs."""
        self._reply({"event": "ready"})
        try:
            self._watch_telemetry()
            await self._leaving.wait()
            if self._task is not None:
                await asyncio.wait([self._task])
        finally:
            if self._telemetry_timer is not None:
                self._telemetry_timer.cancel()

    def tell_telemetry(self) -> None:
        """Tell where telemetry goes and whether it arrives, unless nothing changed since it was told last.

        The only method that may be called after the end of ``work`` and without a loop: what was exported last is known
        once telemetry was shut down.
        """
        targets = list(self._telemetry())
        if targets != self._telemetry_told:
            self._telemetry_told = targets
            self._reply({"event": "telemetry", "targets": targets})

    def command(self, line: bytes) -> None:
        """Carry out one line. Never raises and never waits: what is wrong with it becomes a reply."""
        if not line.strip():
            return
        try:
            self._carry_out(read_command(line))
        except ConfigError as error:
            self._error(str(error))

    def leave(self, drain_timeout_s: float = HURRIED_DRAIN_S) -> None:
        """Stop what runs and end. Again with less shortens the wait."""
        self._leaving.set()
        self._stop(drain_timeout_s)

    def _carry_out(self, command: Command) -> None:
        match command:
            case Start(plan):
                self._start(plan)
            case SetRate(rate):
                self._going_on("rate could be changed").set_rate(rate)
            case SetShape(shape):
                self._going_on("shape could be changed").set_shape(shape)
            case Silence(names, for_s, by, comment):
                self._going_on("alerts could be silenced").record.silence(names, for_s, by, comment)
            case Acknowledge(name, by):
                self._going_on("alerts could be acknowledged").record.acknowledge(name, by)
            case Note(kind, text):
                self._going_on("events could be noted").record.note(kind, text)
            case Quit():
                self.leave(QUIT_DRAIN_S)
            case Stop() if self._task is None:
                raise ConfigError("no run is going on that could be stopped")
            case Stop():
                self._stop(None)

    def _start(self, plan: LoadPlan) -> None:
        if self._leaving.is_set():
            raise ConfigError("the worker is ending: start another one")
        if self._task is not None:
            raise ConfigError("a run is going on already: stop it first")
        self._alerts_told, self._alerts_told_s = {}, float("-inf")
        self._task = asyncio.get_running_loop().create_task(self._one_run(plan), name="ackscope-run")

    def _going_on(self, what: str) -> DrivesLoad:
        if self._run is None:
            raise ConfigError(f"no run is going on whose {what}")
        return self._run

    def _stop(self, drain_timeout_s: float | None) -> None:
        if self._run is not None:
            self._run.stop(drain_timeout_s)
        elif self._task is not None:
            self._task.cancel()  # still connecting: nothing was sent

    async def _one_run(self, plan: LoadPlan) -> None:
        # Told of a run that a fault of this program cut short; standard error has the rest.
        end: dict[str, Any] | None = {"status": "failed", "error": "the worker failed", "report": None}
        try:
            messages = await asyncio.to_thread(open_messages, plan)
            opening = self._drive(plan, messages)(writer=self._writer, on_sample=self._sampled)
            await opening.open()
            self._run = opening
            self._reply({"event": "started", "run_id": opening.run_id, "url": opening.url})
            result = await opening.run()
            end = {
                "status": str(result.status),
                "error": result.error or result.aborted,
                "report": asdict(result.report),
                "verdict": None if result.verdict is None else result.verdict.to_dict(),
                "sinks": [sink.to_dict() for sink in result.sinks],
            }
        except EventBusError as error:
            end = None
            self._error(str(error))
        except asyncio.CancelledError:
            end = None
            self._error("stopped while connecting; nothing was sent")
            raise
        finally:
            run, self._run, self._task = self._run, None, None  # what follows "ended" may be a start
            if run is not None and end is not None:
                self._tell_alerts(run.record)
                self.tell_telemetry()
                self._reply({"event": "ended", "run_id": run.run_id, **end})

    def _watch_telemetry(self) -> None:
        self.tell_telemetry()
        if self._telemetry_told:  # where it goes is settled before the worker begins: nowhere stays nowhere
            loop = asyncio.get_running_loop()
            self._telemetry_timer = loop.call_later(self._telemetry_every_s, self._watch_telemetry)

    def _sampled(self, sample: Sample) -> None:
        error = self._writer.error
        if error is not None and not self._store_error_told:
            self._store_error_told = True
            self._error(str(error))
        now_s = asyncio.get_running_loop().time()
        if self._run is not None and now_s - self._alerts_told_s >= self._alerts_every_s - _PUNCTUAL_S:
            self._tell_alerts(self._run.record)

    def _tell_alerts(self, record: RunRecord) -> None:
        """Tell how alerts and sinks stand, unless nothing changed since it was told last."""
        alerts = [AlertNow.of(state).to_dict() for state in record.alerts()]
        sinks = [status.to_dict() for status in record.sinks()]
        told = {"alerts": alerts, "sinks": sinks}
        if told != self._alerts_told and (alerts or sinks):
            self._alerts_told, self._alerts_told_s = told, asyncio.get_running_loop().time()
            self._reply({"event": "alerts", **told})

    def _error(self, text: str) -> None:
        self._reply({"event": "error", "text": " ".join(text.split())})


def read_lines(
    descriptor: int, loop: asyncio.AbstractEventLoop, command: Callable[[bytes], None], closed: Callable[[], None]
) -> threading.Thread:
    """Hand each line of a file descriptor to ``command`` on the loop, and at its end call ``closed`` there.

    A thread, because standard input may be a pipe, a terminal or a file, and asyncio reads only some of them; reading
    the bare descriptor, because a daemon thread inside a buffered reader makes the interpreter abort at its end.
    A line without an end counts at the end of input; one of more than 2 MiB is cut there and will not parse.
    """

    def on_loop(function: Callable[..., None], *values: bytes) -> bool:
        try:
            loop.call_soon_threadsafe(function, *values)
        except RuntimeError:  # the loop has ended before its input
            return False
        return True

    def read() -> None:
        rest = b""
        while True:
            try:
                chunk = os.read(descriptor, 65536)
            except OSError:
                chunk = b""
            *lines, rest = (rest + chunk).split(b"\n")
            if not chunk and rest:
                lines, rest = [*lines, rest], b""
            rest = rest[: MAX_LINE_BYTES + 1]
            for line in lines:
                if not on_loop(command, line):
                    return
            if not chunk:
                on_loop(closed)
                return

    thread = threading.Thread(target=read, name="ackscope-commands", daemon=True)
    thread.start()
    return thread
