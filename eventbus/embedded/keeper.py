"""The small process between a Python program and its mock Kafka cluster, which leaves nothing behind.

Run by ``eventbus.embedded.kafka`` as ``python -I -S keeper.py``; it therefore imports nothing of this package.

    program ──socket, JSON lines──► keeper ──socket, JSON lines──► mock_kafka.py

    program gone (end of file, or its pidfd fires)  ┐
    SIGTERM, SIGINT or SIGHUP to the keeper         ┘─> mock: SIGKILL, which ends a paused one too; then the keeper ends
    keeper killed                                   ──> mock: SIGKILL by the kernel (PR_SET_PDEATHSIG, Linux only);
                                                        elsewhere it ends at the end of file, unless it is paused

It is there because a paused mock (SIGSTOP) cannot notice that the program is gone, and because the kernel's death
signal follows the thread that forked, which in the program may be any; this process has one. It also reads what the
mock writes to its standard error and keeps the last 4 kB, to tell why it ended.

Protocol: the first line carries the settings, each later one ``{"id", "command", "arguments"}``, one at a time. start,
kill, pause, resume and status are carried out here; every other command is passed on. Every reply has the same shape:
``{"id", "pid", "ports", "error", "refused", "log"}``, refused meaning that the mock lives and does not take the
arguments. To stop, the program closes its end and waits for the end of file.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

CHANNEL = 0
"""Descriptor of the socket to the program."""
COMMAND_TIMEOUT_S = 3.0
"""How long the mock may take for a command, and to show a signal's effect. Usually below 1 ms; now and then 1 s, as
its thread misses a command that comes between serving others and emptying its wake-up pipe, until it looks again."""
PORT_TAKEN = 3
"""Exit status of mock_kafka.py for an old port that is taken."""
PORT_RETRY_S = 0.05
"""Pause before another try on a taken port."""
OUTPUT_TAIL = 4096
"""How many bytes of the mock's output are kept."""
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


class Keeper:
    """Owns the process of the mock and passes commands on to it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._ports: list[int] = []
        self._topics: list[list[Any]] = []  # to be made again in the next mock
        self._pid: int | None = None
        self._mock: socket.socket | None = None
        self._answers = b""
        self._asked = 0
        self._output = b""
        self._exit_status = 0
        self._ended = "it was not started"
        self._paused = False
        self._ending = False
        self._die_with_me = _death_signal()
        self._output_pipe, self._output_end = os.pipe()
        self._wake, wake_end = os.pipe()
        for descriptor in (self._output_pipe, self._wake, wake_end):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # being woken is all that is needed
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end_soon)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a mask is inherited from the thread that started us
        self._parent_watch = _watch_parent(settings["parent_pid"])

    def serve(self) -> None:
        """Answer commands until the program is gone or a signal comes."""
        buffer = b""
        while not self._ending:
            ready, _, _ = select.select([CHANNEL, self._wake, self._output_pipe, *self._parent_watch], [], [])
            self._reap()
            if not self._parent_watch.isdisjoint(ready):
                return
            if CHANNEL not in ready:
                continue
            try:
                received = os.read(CHANNEL, 65536)
            except ConnectionResetError:
                return
            if not received:
                return
            *lines, buffer = (buffer + received).split(b"\n")
            for line in lines:
                request = json.loads(line)
                _send(CHANNEL, {"id": request["id"], **self.handle(request["command"], request["arguments"])})

    def handle(self, command: str, arguments: list[Any]) -> dict[str, Any]:
        """Carry out one command; what goes wrong is told in the answer."""
        error: str | None = None
        refused = False
        try:
            if command == "start":
                self._start()
            elif command == "kill":
                self._kill()
            elif command == "pause":
                self._signal(signal.SIGSTOP)
                self._wait(lambda: self._paused or self._pid is None, COMMAND_TIMEOUT_S)
            elif command == "resume":
                self._signal(signal.SIGCONT)
                self._wait(lambda: not self._paused, COMMAND_TIMEOUT_S)
            elif command != "status":
                error = self._ask(command, arguments)
                refused = error is not None
                if command == "create_topic" and not refused:
                    self._topics.append(arguments)
        except OSError as failure:
            error = str(failure)
        self._reap()
        log = self._output.decode(errors="replace").splitlines() if error and not refused else []
        return {"pid": self._pid, "ports": self._ports, "error": error, "refused": refused, "log": log}

    def end(self) -> None:
        """SIGKILL the mock, also a stopped one: there is nothing that it could save."""
        self._ending = True
        with contextlib.suppress(OSError):
            self._kill()

    def _start(self) -> None:
        deadline = time.monotonic() + self._settings["start_timeout_s"]
        self._reap()
        while self._pid is None:
            self._output = b""
            self._spawn()
            ready = self._answer(0, deadline - time.monotonic())
            if ready is not None:
                self._ports = ready["ports"]
                return
            if self._pid is not None:
                self._kill()
                raise TimeoutError("the mock cluster was not ready in time")
            if self._exit_status != PORT_TAKEN or time.monotonic() + PORT_RETRY_S > deadline:
                raise ChildProcessError(self._ended)
            self._wait(lambda: False, PORT_RETRY_S)

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()  # like all descriptors of Python, closed on exec
        keeper = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._die_with_me()
                if os.getppid() == keeper:  # else it died before the kernel was told to watch it
                    os.dup2(theirs.fileno(), 0)
                    os.dup2(self._output_end, 1)
                    os.dup2(self._output_end, 2)
                    os.execv(sys.executable, [sys.executable, "-I", "-S", self._settings["mock"]])
            except OSError as error:
                os.write(self._output_end, f"cannot execute {sys.executable}: {error}\n".encode())
            finally:
                os._exit(127)
        theirs.close()
        ours.setblocking(False)
        self._pid, self._mock, self._paused, self._answers = pid, ours, False, b""
        with contextlib.suppress(BrokenPipeError):  # it ended already, which the wait for its answer finds out
            settings = {"library": self._settings["library"], "brokers": self._settings["brokers"]}
            _send(ours.fileno(), {**settings, "ports": self._ports, "topics": self._topics})

    def _ask(self, command: str, arguments: list[Any]) -> str | None:
        """Let the mock carry out a command; why it refuses, or None. Raises OSError if there is no answer."""
        if self._mock is None:
            raise ProcessLookupError(f"it is not running: {self._ended}")
        if self._paused:
            raise ProcessLookupError("it is paused")
        self._asked += 1
        _send(self._mock.fileno(), {"id": self._asked, "command": command, "arguments": arguments})
        answer = self._answer(self._asked, COMMAND_TIMEOUT_S)
        if answer is None:
            raise ChildProcessError("it did not answer" if self._pid else self._ended)
        error: str | None = answer["error"]
        return error

    def _answer(self, request_id: int, timeout_s: float) -> dict[str, Any] | None:
        """The mock's answer with that id; None if it ended or the time is over."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            *lines, self._answers = self._answers.split(b"\n")
            found.extend(answer for answer in map(json.loads, lines) if answer["id"] == request_id)
            return bool(found) or self._pid is None

        self._wait(look, timeout_s)
        return found[0] if found else None

    def _kill(self) -> None:
        self._reap()
        if self._pid is None:
            return
        os.kill(self._pid, signal.SIGKILL)
        if not self._wait(lambda: self._pid is None, COMMAND_TIMEOUT_S):
            raise TimeoutError(f"the mock cluster {self._pid} does not die of SIGKILL")
        self._ended = "it was killed"

    def _signal(self, number: signal.Signals) -> None:
        self._reap()
        if self._pid is None:
            raise ProcessLookupError(f"it is not running: {self._ended}")
        os.kill(self._pid, number)

    def _reap(self) -> None:
        """Read what came and learn what became of the mock. The only place where its pid is given up."""
        _drain(self._wake)
        self._output = (self._output + _drain(self._output_pipe))[-OUTPUT_TAIL:]
        if self._mock is not None:
            self._answers += _drain(self._mock.fileno())
        while self._pid is not None:
            found, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if not found:
                return
            if os.WIFSTOPPED(status):
                self._paused = True
            elif os.WIFCONTINUED(status):
                self._paused = False
            else:
                self._exit_status = os.waitstatus_to_exitcode(status)
                self._ended = f"it ended by itself with exit status {self._exit_status}"
                self._output = (self._output + _drain(self._output_pipe))[-OUTPUT_TAIL:]
                self._pid, self._paused = None, False
                if self._mock is not None:
                    self._mock.close()
                    self._mock = None

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for a change of the mock; give up at the end of the time, or when the program does."""
        deadline = time.monotonic() + timeout_s
        given_up = {CHANNEL, *self._parent_watch}
        while True:
            self._reap()
            if done():
                return True
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            watched = [self._wake, self._output_pipe, *([] if self._mock is None else [self._mock.fileno()])]
            if not self._ending:
                watched += given_up
            ready, _, _ = select.select(watched, [], [], remaining)
            if not given_up.isdisjoint(ready) or (self._ending and self._pid is None):
                return False

    def _end_soon(self, number: int, frame: object) -> None:
        self._ending = True


def _drain(descriptor: int) -> bytes:
    """What can be read without waiting."""
    received = b""
    with contextlib.suppress(BlockingIOError, ConnectionResetError):
        while data := os.read(descriptor, 65536):
            received += data
    return received


def _send(descriptor: int, value: dict[str, Any]) -> None:
    data = json.dumps(value).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def _death_signal() -> Callable[[], object]:
    """A call that, in a forked child, asks the kernel to kill it when this process dies. Nothing outside Linux."""
    if sys.platform != "linux":
        return lambda: None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _watch_parent(pid: int) -> set[int]:
    """A descriptor that becomes readable when the program dies, even if a copy of its socket lives on in a fork."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a kernel before 5.3, or a sandbox: the socket's end has to do
            return {os.pidfd_open(pid)}
    return set()


def main() -> None:
    """Read the settings, serve, and leave no mock behind in any case."""
    with os.fdopen(os.dup(CHANNEL), "rb", buffering=0) as channel:
        first = channel.readline()
    if not first.endswith(b"\n"):
        return
    keeper = Keeper(json.loads(first))
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the program no longer listens
            keeper.serve()
    finally:
        keeper.end()


if __name__ == "__main__":
    main()
