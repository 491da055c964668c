"""WorkerProcess: one run in a process of its own, seen from the dashboard.

The load must not share a process with the pages, since there all threads now and then stop for a tenth of a second.
Commands go down the worker's standard input as JSON lines, short replies come back on its standard output, and
everything else comes through the store. The worker ends when its input closes, so it cannot outlive us; it has a
session of its own so that a terminal's Ctrl-C reaches only us and its drain is not cut short.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eventbus.alerts import AlertNow, SinkStatus
from eventbus.telemetry.status import ExportStatus

KILL_TIMEOUT_S = 3.0
"""Longest wait for a worker to obey SIGTERM before it gets SIGKILL."""
ROOT = Path(__file__).resolve().parent.parent


class LoadRefused(Exception):
    """A command that could not be carried out. The text says what happened and what to do."""


@dataclass(frozen=True, slots=True)
class WorkerNews:
    """What a worker has told so far. over: its run has ended, or it never can begin.

    telemetry: as told last, which is after the end of the run; empty where it goes nowhere.
    alerts, sinks: of the run, as told last; empty before its first sample, and where it has none.
    """

    run_id: str | None = None
    error: str | None = None
    over: bool = False
    telemetry: tuple[ExportStatus, ...] = ()
    alerts: tuple[AlertNow, ...] = ()
    sinks: tuple[SinkStatus, ...] = ()


class WorkerProcess:
    """One worker process: two daemon threads read what it says; whoever wants to know looks at ``news``."""

    def __init__(self, command: Sequence[str]) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                cwd=ROOT,
                start_new_session=True,
            )
        except OSError as error:
            raise LoadRefused(f"The worker process did not start: {error}") from error
        self._changed = threading.Condition()
        self._input = threading.Lock()
        self._last_words: deque[str] = deque(maxlen=5)
        self.news = WorkerNews()
        self.stopping = False
        self._threads = [
            threading.Thread(target=self._read_replies, name="worker-replies", daemon=True),
            threading.Thread(target=self._read_stderr, name="worker-stderr", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def send(self, command: Mapping[str, Any]) -> None:
        """Send one command. Raises LoadRefused if the worker is gone."""
        with self._input:
            stdin = self._process.stdin
            assert stdin is not None
            try:
                stdin.write(json.dumps(command) + "\n")
                stdin.flush()
            except (OSError, ValueError) as error:  # ValueError: the pipe is closed already
                raise LoadRefused(self._obituary()) from error

    def stop(self) -> None:
        self.stopping = True
        with contextlib.suppress(LoadRefused):  # gone already: there is nothing left to stop
            self.send({"cmd": "stop"})

    def wait_started(self, timeout_s: float) -> str:
        """Wait for the run's id. Raises LoadRefused with what the worker said instead."""
        with self._changed:
            done = self._changed.wait_for(lambda: self.news.run_id is not None or self.news.over, timeout_s)
            news = self.news
        if news.run_id is not None:
            return news.run_id
        if done:
            raise LoadRefused(news.error or self._obituary())
        raise LoadRefused(
            f"The worker did not begin within {timeout_s:.0f} s. Is the broker reachable at the given URL?"
        )

    def close(self, timeout_s: float) -> None:
        """End the process: its input closes, which makes it drain; after ``timeout_s`` SIGTERM, then SIGKILL."""
        self.stopping = True
        self._close_input()
        for grace_s, force in ((timeout_s, self._process.terminate), (KILL_TIMEOUT_S, self._process.kill)):
            try:
                self._process.wait(grace_s)
                break
            except subprocess.TimeoutExpired:
                force()
        self._process.wait()
        for thread in self._threads:
            thread.join(1.0)

    def _close_input(self) -> None:
        with self._input, contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()

    def _read_replies(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        with stdout:
            for line in stdout:
                with contextlib.suppress(ValueError, TypeError, KeyError):  # not a reply: a stray print
                    self._take(json.loads(line))
        # The process has closed its output: it is ending, but for a moment it may still be there.
        code = self._process.wait()
        if not self.news.over:
            self._threads[1].join(1.0)
            self._tell(error=self.news.error or self._obituary(code), over=True)
        self._close_input()

    def _take(self, reply: Mapping[str, Any]) -> None:
        match reply["event"]:
            case "started":
                self._tell(run_id=str(reply["run_id"]), error=None)
            case "error":
                # Before a run has begun, an error is the end of it; later the worker tells the end itself.
                self._tell(error=str(reply["text"]), over=self.news.run_id is None)
            case "telemetry":
                self._tell(telemetry=tuple(ExportStatus.from_dict(target) for target in reply["targets"]))
            case "alerts":
                alerts = tuple(AlertNow.from_dict(alert) for alert in reply["alerts"])
                self._tell(alerts=alerts, sinks=_sinks(reply))
            case "ended":
                self._tell(over=True, sinks=_sinks(reply) or self.news.sinks)
                self._close_input()  # one run a process

    def _tell(self, **changes: Any) -> None:
        with self._changed:
            self.news = replace(self.news, **changes)
            self._changed.notify_all()

    def _read_stderr(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        with stderr:
            for line in stderr:
                if line.strip():
                    self._last_words.append(line.strip())

    def _obituary(self, code: int | None = None) -> str:
        deadline = time.monotonic() + 1.0
        while code is None and time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(0.1)
        if code is None:
            how = "closed its input"
        else:
            how = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
        said = f" It said: {self._last_words[-1].rstrip('.')}." if self._last_words else ""
        advice = "" if self.news.run_id is None else " Start again; what it had measured until then is kept."
        return f"The worker process {how}.{said}{advice}"


def _sinks(reply: Mapping[str, Any]) -> tuple[SinkStatus, ...]:
    return tuple(SinkStatus.from_dict(sink) for sink in reply.get("sinks", ()))
