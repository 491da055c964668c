"""Worker: runs loads in a process of its own, on command. ``python -m eventbus worker``.

One JSON object a line. Commands come on standard input:

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
    {"event": "ended", "run_id": ..., "status": ..., "error": ..., "report": {...}, "verdict": ..., "sinks": [...]}
    {"event": "telemetry", "targets": [{"signal": ..., "endpoint": ..., "exports": ..., ...}]}

The last one has the names of ExportStatus. It comes after ready, every 2 s where something changed, before ended, and
as the last line of all, since much is exported only at the end; not at all where telemetry goes nowhere.

Nothing but a reply follows a bad command: what runs goes on. Standard input closing, SIGINT and SIGTERM mean quit with
a shorter drain (5 s): whoever started this process is gone, or wants it to be. Figures go into the store.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from eventbus.errors import ConfigError, EventBusError
from eventbus.event import EventKind
from eventbus.load.message import Messages
from eventbus.load.payload import open_messages
from eventbus.load.plan import LoadPlan, check_rate
from eventbus.load.run import HURRIED_DRAIN_S, DrivesLoad, MakeRun
from eventbus.load.shape import ShapeError, shape_from
from eventbus.observe import Sample, StoreWriter

MAX_LINE_BYTES = 2 * 1024 * 1024
"""A plan with the largest template has room."""
TELEMETRY_EVERY_S = 2.0
"""Between two looks at whether telemetry arrives: soon enough for a person, and far more often than it is exported."""
QUIT_DRAIN_S = 30.0
"""How long a quit waits for outstanding acks."""
MAX_SILENCE_S = 7 * 86_400.0
MAX_NOTE = 500
"""Characters of a noted event."""
_NOTED = (EventKind.FAULT_BEGAN, EventKind.FAULT_ENDED)
_SETTINGS: Mapping[str, frozenset[str]] = {
    "set": frozenset({"rate", "shape"}),
    "silence": frozenset({"alerts", "for_s", "by", "comment"}),
    "acknowledge": frozenset({"alert", "by"}),
    "note": frozenset({"kind", "text"}),
    "stop": frozenset(),
    "quit": frozenset(),
}
"""Commands besides start, and what each takes."""
_SHOWN = 80
_EXAMPLE = '{"cmd": "stop"}'

Reply = Callable[[Mapping[str, Any]], None]
Drive = Callable[[LoadPlan, Messages], MakeRun]
Telemetry = Callable[[], Sequence[Mapping[str, Any]]]
"""Where telemetry goes and whether it arrives, as plain values for JSON. Never waits."""


class Worker:
    """Carries out commands; lives on one event loop and is called there only.

    drive: makes what makes the run of a plan (``eventbus.load_bus.driver``). writer: where runs are recorded; stays
    open when the worker ends. reply: takes one reply; it must not raise. telemetry: default goes nowhere.
    telemetry_every_s: how often it is looked at.
    """

    def __init__(
        self,
        drive: Drive,
        writer: StoreWriter,
        reply: Reply,
        *,
        telemetry: Telemetry = tuple,
        telemetry_every_s: float = TELEMETRY_EVERY_S,
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
            self._carry_out(_parsed(line))
        except ConfigError as error:
            self._error(str(error))

    def leave(self, drain_timeout_s: float = HURRIED_DRAIN_S) -> None:
        """Stop what runs and end. Again with less shortens the wait."""
        self._leaving.set()
        self._stop(drain_timeout_s)

    def _carry_out(self, command: dict[str, Any]) -> None:
        name = command.pop("cmd", None)
        if name == "start":
            self._start(command)
            return
        if not isinstance(name, str) or name not in _SETTINGS:
            raise ConfigError(f"unknown command {_short(name)}; known are start, {', '.join(_SETTINGS)}")
        if unknown := set(command) - _SETTINGS[name]:
            raise ConfigError(f"unknown setting {_short(min(unknown))} of command {name!r}")
        match name:
            case "set":
                self._set(command)
            case "silence":
                self._silence(command)
            case "acknowledge":
                self._going_on("alerts could be acknowledged").acknowledge(
                    _text(command, "alert"), _text(command, "by", "somebody")
                )
            case "note":
                self._note(command)
            case "quit":
                self.leave(QUIT_DRAIN_S)
            case _ if self._task is None:
                raise ConfigError("no run is going on that could be stopped")
            case _:
                self._stop(None)

    def _start(self, settings: dict[str, Any]) -> None:
        if self._leaving.is_set():
            raise ConfigError("the worker is ending: start another one")
        if self._task is not None:
            raise ConfigError("a run is going on already: stop it first")
        plan = LoadPlan.from_dict(settings)
        self._task = asyncio.get_running_loop().create_task(self._one_run(plan), name="ackscope-run")

    def _set(self, command: Mapping[str, Any]) -> None:
        if len(command) != 1:
            raise ConfigError("command 'set' needs a rate in messages per second (null for no limit), or a shape")
        if "rate" in command:
            rate = check_rate(command["rate"])
            self._going_on("rate could be changed").set_rate(rate)
            return
        try:
            shape = shape_from(command["shape"])
        except ShapeError as error:
            raise ConfigError(str(error)) from error
        self._going_on("shape could be changed").set_shape(shape)

    def _silence(self, command: Mapping[str, Any]) -> None:
        names, for_s = command.get("alerts"), command.get("for_s")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise ConfigError("command 'silence' needs alerts, a list of their names, or [\"*\"]")
        if isinstance(for_s, bool) or not isinstance(for_s, (int, float)) or not 0 < for_s <= MAX_SILENCE_S:
            raise ConfigError(f"command 'silence' needs for_s, seconds from more than 0 to {MAX_SILENCE_S:,.0f}")
        by, comment = _text(command, "by", "somebody"), _text(command, "comment", "")
        self._going_on("alerts could be silenced").silence(names, for_s, by, comment)

    def _note(self, command: Mapping[str, Any]) -> None:
        kind, text = _text(command, "kind"), _text(command, "text")
        if kind not in _NOTED:
            raise ConfigError(f"kind is {_short(kind)}; use {' or '.join(_NOTED)}")
        self._going_on("events could be noted").note(EventKind(kind), text[:MAX_NOTE])

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


def _parsed(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise ConfigError(f"a command of more than {MAX_LINE_BYTES:,} bytes; commands are one JSON object a line")
    try:
        command = json.loads(line)
    except (ValueError, RecursionError) as error:  # the line is not repeated: it may hold a password
        raise ConfigError(f"a command is not JSON ({error}); send one object a line, as {_EXAMPLE}") from error
    if not isinstance(command, dict):
        raise ConfigError(f"a command is a JSON object, as {_EXAMPLE}")
    return command


def _text(command: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = command.get(name, default)
    if not isinstance(value, str):
        raise ConfigError(f"{name} is {_short(value)}; give it as text")
    return value


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
