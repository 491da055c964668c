"""The small process between a test run and a Java program, which never outlives the run however that ends.

Run by kafka_node.py as ``python -I -S kafka_supervisor.py``; it therefore imports nothing of this project.
Its standard input is one end of a socket pair, whose other end only the test run holds.

    run gone (end of file, or its pidfd fires)  ──> program: SIGKILL; then the store is removed
    this process killed                         ──> program: SIGKILL by the kernel (PR_SET_PDEATHSIG, Linux only)

Protocol: JSON lines both ways. In: first the settings ``{"parent_pid", "store", "log", "directory"}``, then commands
``{"start": [program, argument, ...]}`` and ``{"signal": number}``. Out: what became of the program, as it happens:
``{"event": "started", "pid"}``, ``{"event": "stopped"}``, ``{"event": "continued"}``, ``{"event": "ended", "status"}``
(minus the number of the signal that ended it). A signal to a program that has ended is dropped: its end was told.

This process has one thread: PR_SET_PDEATHSIG follows the thread that forked, and here that is the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import sys
from typing import Any

CHANNEL = 0
"""Descriptor of the socket to the test run."""
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


class Supervisor:
    """Owns one process at a time, and the store."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._pid: int | None = None
        self._prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
        self._wake, wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # being woken is all that is needed
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a mask is inherited from the thread that started us
        self._parent_watch: set[int] = set()
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # a kernel before 5.3, or a sandbox: the socket's end has to do
                self._parent_watch = {os.pidfd_open(settings["parent_pid"])}

    def serve(self, buffer: bytes) -> None:
        """Carry out commands and tell what happens, until the test run is gone."""
        while True:
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                self._handle(json.loads(line))
            ready, _, _ = select.select([CHANNEL, self._wake, *self._parent_watch], [], [])
            self._reap()
            if not self._parent_watch.isdisjoint(ready):
                return
            if CHANNEL in ready:
                try:
                    received = os.read(CHANNEL, 65536)
                except ConnectionResetError:
                    return
                if not received:
                    return
                buffer += received

    def end(self) -> None:
        """Leave nothing behind. SIGKILL also ends a stopped process."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        shutil.rmtree(self._settings["store"], ignore_errors=True)

    def _handle(self, command: dict[str, Any]) -> None:
        self._reap()
        if "start" in command:
            self._start(command["start"])
        elif self._pid is not None:
            os.kill(self._pid, command["signal"])

    def _start(self, arguments: list[str]) -> None:
        log = os.open(self._settings["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        supervisor = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                if self._prctl is not None:
                    self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() == supervisor:  # else it died before the kernel was told to watch it
                    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python, and that is inherited
                        signal.signal(number, signal.SIG_DFL)
                    os.dup2(nothing, 0)
                    os.dup2(log, 1)
                    os.dup2(log, 2)
                    os.chdir(self._settings["directory"])
                    os.execv(arguments[0], arguments)
            except OSError as error:
                os.write(log, f"cannot execute {arguments[0]}: {error}\n".encode())
            finally:
                os._exit(127)
        os.close(log)
        os.close(nothing)
        self._pid = pid
        tell("started", pid=pid)

    def _reap(self) -> None:
        """Learn what became of the program. The only place where a pid is given up, so none is signalled afterwards."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake, 512):
                pass
        while self._pid is not None:
            found, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if not found:
                return
            if os.WIFSTOPPED(status):
                tell("stopped")
            elif os.WIFCONTINUED(status):
                tell("continued")
            else:
                self._pid = None
                tell("ended", status=os.waitstatus_to_exitcode(status))


def tell(event: str, **values: int) -> None:
    """Send one line. A run that no longer listens is found out by the next read."""
    data = json.dumps({"event": event, **values}).encode() + b"\n"
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while data:
            data = data[os.write(CHANNEL, data) :]


def main() -> None:
    """Read the settings, serve, and clean up in every case."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    received = b""
    while b"\n" not in received:
        more = os.read(CHANNEL, 65536)
        if not more:
            return
        received += more
    first, _, rest = received.partition(b"\n")
    supervisor = Supervisor(json.loads(first))
    try:
        supervisor.serve(rest)
    finally:
        supervisor.end()


if __name__ == "__main__":
    main()
