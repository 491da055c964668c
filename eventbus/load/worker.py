"""Worker: runs loads in a process of its own, on command. ``python -m eventbus worker``.

One JSON object a line. Commands come on standard input:

    {"cmd": "start", "url": ..., "topic": ..., "rate": ..., ...}   the names of LoadPlan; one run at a time
    {"cmd": "set", "rate": 500}                                    null: as fast as the window lets
    {"cmd": "stop"}                                                stop sending, await acks, report
    {"cmd": "quit"}                                                the same, and end

Replies go to standard output:

    {"event": "ready"}
    {"event": "started", "run_id": ..., "url": ...}                url without user and password
    {"event": "error", "text": ...}                                a command that could not be carried out
    {"event": "ended", "run_id": ..., "status": ..., "error": ..., "report": {...}}
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
from eventbus.load.payload import open_payloads
from eventbus.load.plan import LoadPlan, check_rate
from eventbus.load.run import DRAIN_TIMEOUT_S, HURRIED_DRAIN_S, Connect, LoadRun
from eventbus.observe import Sample, StoreWriter
from eventbus.ports import Clock

MAX_LINE_BYTES = 64 * 1024
TELEMETRY_EVERY_S = 2.0
"""Between two looks at whether telemetry arrives: soon enough for a person, and far more often than it is exported."""
_SHOWN = 80
_EXAMPLE = '{"cmd": "stop"}'

Reply = Callable[[Mapping[str, Any]], None]
Telemetry = Callable[[], Sequence[Mapping[str, Any]]]
"""Where telemetry goes and whether it arrives, as plain values for JSON. Never waits."""


class Worker:
    """Carries out commands; lives on one event loop and is called there only.

    connect: ``eventbus.connect``. writer: where runs are recorded; stays open when the worker ends. reply: takes one
    reply; it must not raise. telemetry: default goes nowhere. telemetry_every_s: how often it is looked at.
    """

    def __init__(
        self,
        connect: Connect,
        writer: StoreWriter,
        reply: Reply,
        *,
        clock: Clock,
        telemetry: Telemetry = tuple,
        telemetry_every_s: float = TELEMETRY_EVERY_S,
    ) -> None:
        self._connect = connect
        self._writer = writer
        self._reply = reply
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._run: LoadRun | None = None
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
        allowed = {"rate"} if name == "set" else set()
        if name not in ("set", "stop", "quit"):
            raise ConfigError(f"unknown command {_short(name)}; known are start, set, stop, quit")
        if set(command) - allowed:
            raise ConfigError(f"unknown setting {_short(min(set(command) - allowed))} of command {name!r}")
        if name == "set":
            self._set(command)
        elif name == "quit":
            self.leave(DRAIN_TIMEOUT_S)
        elif self._task is None:
            raise ConfigError("no run is going on that could be stopped")
        else:
            self._stop(DRAIN_TIMEOUT_S)

    def _start(self, settings: dict[str, Any]) -> None:
        if self._leaving.is_set():
            raise ConfigError("the worker is ending: start another one")
        if self._task is not None:
            raise ConfigError("a run is going on already: stop it first")
        plan = LoadPlan.from_dict(settings)
        self._task = asyncio.get_running_loop().create_task(self._one_run(plan), name="ackscope-run")

    def _set(self, command: Mapping[str, Any]) -> None:
        if "rate" not in command:
            raise ConfigError("command 'set' needs a rate in messages per second, or null for no limit")
        rate = check_rate(command["rate"])
        if self._run is None:
            raise ConfigError("no run is going on whose rate could be changed")
        self._run.set_rate(rate)

    def _stop(self, drain_timeout_s: float) -> None:
        if self._run is not None:
            self._run.stop(drain_timeout_s)
        elif self._task is not None:
            self._task.cancel()  # still connecting: nothing was sent

    async def _one_run(self, plan: LoadPlan) -> None:
        # Told of a run that a fault of this program cut short; standard error has the rest.
        end: dict[str, Any] | None = {"status": "failed", "error": "the worker failed", "report": None}
        try:
            payloads = await asyncio.to_thread(open_payloads, plan)
            opening = LoadRun(
                plan, payloads, self._connect, clock=self._clock, writer=self._writer, on_sample=self._sampled
            )
            await opening.open()
            self._run = opening
            self._reply({"event": "started", "run_id": opening.run_id, "url": opening.url})
            result = await opening.run()
            end = {"status": str(result.status), "error": result.error, "report": asdict(result.report)}
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
    A line without an end counts at the end of input; one of more than 64 KiB is cut there and will not parse.
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


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
