"""The small process between a Python program and its nats-server, which leaves nothing behind whatever happens.

Run by ``eventbus.embedded.nats`` as ``python -I -S supervisor.py``; it therefore imports nothing of this package.
Its standard input is one end of a socket pair, whose other end only the program that started it holds.

    program gone (end of file, or its pidfd fires)  ┐
    SIGTERM, SIGINT or SIGHUP to this process       ┘─> server: SIGTERM, 2 s, SIGKILL; then its directory is removed
    this process killed                             ──> server: SIGKILL by the kernel (PR_SET_PDEATHSIG, Linux only)

Protocol: JSON lines both ways, one request at a time. The first line carries the settings (never the command line,
where other users could read a password), each later one ``{"id", "command"}``; the command is start, restart, kill,
pause, resume, status or reload, which comes with ``"config"``. To stop, the program closes its end and waits for the
end of file that follows the clean-up: its orderly end is the same path as its sudden one. Every reply has the same
shape: ``{"id", "pid", "port", "directory", "error", "refused", "log"}``, refused meaning that the server ended by
itself while starting, or did not take a configuration. The id lets a program that was interrupted while it waited tell
a late reply from the one it waits for now. A socket pair rather than two pipes: one descriptor to guard, with a timeout
of its own.

The directory is made here and not by the program, so there is no instant at which nobody would remove it.
This process has one thread: PR_SET_PDEATHSIG follows the thread that forked, and here that is the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

CHANNEL = 0
"""Descriptor of the socket to the program."""
TERMINATE_GRACE_S = 2.0
"""Between SIGTERM and SIGKILL: nats-server needs some milliseconds to write out its store."""
REAP_TIMEOUT_S = 2.0
"""How long a killed process may take to disappear, or a signalled one to stop."""
RELOAD_TIMEOUT_S = 2.0
"""How long a server may take to read its configuration again; some 2 ms are usual. A paused one does not."""
READY_POLL_S = 0.003
"""nats-server tells its port by writing a file; this is how often it is looked for while starting."""
BIND_RETRY_S = 0.05
"""Pause before another try on a port that is taken, by a closing connection for instance."""
LOG_TAIL_LINES = 15
"""How much of the log an error carries."""
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


class StartFailed(Exception):
    """The server did not become ready, or did not take a configuration; the text says why. refused: by itself."""

    def __init__(self, text: str, *, refused: bool) -> None:
        super().__init__(text)
        self.refused = refused


class Supervisor:
    """Owns one nats-server process and its directory."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._port: int | None = None
        self._pid: int | None = None
        self._exit_status = 0
        self._paused = False
        self._ending = False
        self._log_start = 0
        self._die_with_me = _death_signal()
        self._wake, wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # being woken is all that is needed
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end_soon)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a mask is inherited from the thread that started us
        self._parent_watch = _watch_parent(settings["parent_pid"])
        self._directory = os.path.join(settings["temporary_root"], f"ackscope-nats-{os.urandom(8).hex()}")
        self._log_path = os.path.join(self._directory, "nats-server.log")
        self._config_path = os.path.join(self._directory, "nats-server.conf")
        self._store = settings["store_dir"] or os.path.join(self._directory, "store")

    def prepare(self) -> None:
        """Make the directory, and lock a store that was given. Raises OSError, BlockingIOError if it is in use."""
        os.mkdir(self._directory, 0o700)
        self._write_config(self._settings["extra_config"])
        os.makedirs(self._store, exist_ok=True)
        # The server inherits the lock, so the store stays locked for as long as either of us lives.
        lock = os.open(self._store, os.O_RDONLY)
        os.set_inheritable(lock, True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another embedded nats-server uses this store", self._store) from None

    def serve(self) -> None:
        """Answer commands until the program is gone or a signal comes."""
        buffer = b""
        while not self._ending:
            ready, _, _ = select.select([CHANNEL, self._wake, *self._parent_watch], [], [])
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
                reply(self.handle(request["command"], request.get("config", "")), request["id"])

    def handle(self, command: str, config: str = "") -> dict[str, Any]:
        """Carry out one command; what goes wrong is told in the answer."""
        error: str | None = None
        refused = False
        log: list[str] = []
        try:
            if command == "start":
                self._start()
            elif command == "restart":
                self._kill()
                self._start()
            elif command == "kill":
                self._kill()
            elif command == "pause":
                self._signal(signal.SIGSTOP)
                self._wait(lambda: self._paused or self._gone(), REAP_TIMEOUT_S)
            elif command == "resume":
                self._signal(signal.SIGCONT)
                self._wait(lambda: not self._paused, REAP_TIMEOUT_S)
            elif command == "reload":
                self._reload(config)
            elif command != "status":
                error = f"unknown command {command}"
        except (OSError, StartFailed) as failure:
            error = str(failure)
            refused = isinstance(failure, StartFailed) and failure.refused
            log = self._log_tail()
        self._reap()
        state = {"pid": self._pid, "port": self._port, "directory": self._directory}
        return {**state, "error": error, "refused": refused, "log": log}

    def end(self) -> None:
        """End the server, also a stopped one, and remove the directory. Takes about 4 s at most, plus the removal."""
        self._ending = True
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
                os.kill(self._pid, signal.SIGCONT)  # a stopped process sees SIGTERM only once it runs again
            if not self._wait(self._gone, TERMINATE_GRACE_S):
                self._kill()
        import shutil  # here, because it would lengthen every start

        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self) -> None:
        deadline = time.monotonic() + self._settings["start_timeout_s"]
        self._reap()
        while self._gone():
            self._spawn()
            decided = self._wait(lambda: self._gone() or self._read_port(), deadline - time.monotonic(), starting=True)
            if not decided:
                self._kill()
                raise StartFailed("nats-server was not ready in time", refused=False)
            if not self._gone():
                return
            # A known port can be taken for a moment, by a client's socket that was given its number. Worth a retry.
            taken = self._port is not None and any("address already in use" in line for line in self._log_tail())
            if not taken or time.monotonic() + BIND_RETRY_S > deadline:
                raise StartFailed(f"nats-server ended with exit status {self._exit_status}", refused=True)
            self._wait(lambda: False, BIND_RETRY_S, starting=True)

    def _reload(self, config: str) -> None:
        """Let the server read another configuration; while it is not running, let the next start read it."""
        self._reap()
        with open(self._config_path, encoding="utf-8") as file:
            before = file.read()
        self._write_config(config)
        if self._pid is None:
            return
        self._log_start = os.path.getsize(self._log_path)
        os.kill(self._pid, signal.SIGHUP)
        # The server tells what became of it in its log only; these are the words of server/signal.go and reload.go.
        done, failed = "Reloaded server configuration", "Failed to reload server configuration"

        def told() -> bool:
            log = self._log()  # not its tail: what is denied from now on is logged as well, line after line
            return self._gone() or done in log or failed in log

        heard = self._wait(told, RELOAD_TIMEOUT_S, starting=True)
        lines = self._log().splitlines()
        if not any(done in line for line in lines):
            self._write_config(before)
            refusals = [line.partition(failed)[2].strip(": ") for line in lines if failed in line]
            text = refusals[0] if refusals else "it ended" if heard else f"no answer within {RELOAD_TIMEOUT_S} s"
            raise StartFailed(f"nats-server did not take the configuration: {text}", refused=bool(refusals))

    def _write_config(self, text: str) -> None:
        """Whole or not at all: a server that starts now must not read half of it."""
        with open(f"{self._config_path}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{self._config_path}.new", self._config_path)

    def _spawn(self) -> None:
        """Fork and execute the server. Flags win over the config file, so no extra config can move or expose it."""
        arguments = ["nats-server", "-c", self._config_path, "-js", "-sd", self._store]
        arguments += ["-a", "127.0.0.1", "-p", str(self._port or -1), "--ports_file_dir", self._directory]
        log = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        self._log_start = os.fstat(log).st_size
        supervisor = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._die_with_me()
                if os.getppid() == supervisor:  # else it died before the kernel was told to watch it
                    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python, and that is inherited
                        signal.signal(number, signal.SIG_DFL)
                    os.dup2(nothing, 0)
                    os.dup2(log, 1)
                    os.dup2(log, 2)
                    os.execv(self._settings["binary"], arguments)
            except OSError as error:
                os.write(log, f"cannot execute {self._settings['binary']}: {error}\n".encode())
            finally:
                os._exit(127)
        os.close(log)
        os.close(nothing)
        self._pid, self._paused = pid, False

    def _ports_file(self) -> str:
        return os.path.join(self._directory, f"nats-server_{self._pid}.ports")

    def _read_port(self) -> bool:
        """Whether the server told where it listens; it does so once it does."""
        try:
            with open(self._ports_file(), encoding="utf-8") as file:
                self._port = int(json.load(file)["nats"][0].rpartition(":")[2])
        except (FileNotFoundError, json.JSONDecodeError):  # not there yet, or half written
            return False
        return True

    def _gone(self) -> bool:
        return self._pid is None

    def _kill(self) -> None:
        self._reap()
        if self._pid is None:
            return
        os.kill(self._pid, signal.SIGKILL)
        if not self._wait(self._gone, REAP_TIMEOUT_S):
            raise TimeoutError(f"nats-server {self._pid} does not die of SIGKILL")

    def _signal(self, number: signal.Signals) -> None:
        self._reap()
        if self._pid is None:
            raise ProcessLookupError("nats-server is not running")
        os.kill(self._pid, number)

    def _reap(self) -> None:
        """Learn what became of the server. The only place where a pid is given up, so none is signalled afterwards."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake, 512):
                pass
        while self._pid is not None:
            found, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if not found:
                return
            if os.WIFSTOPPED(status):
                self._paused = True
            elif os.WIFCONTINUED(status):
                self._paused = False
            else:
                with contextlib.suppress(OSError):  # left there by a server that was killed
                    os.unlink(self._ports_file())
                self._exit_status = os.waitstatus_to_exitcode(status)
                self._pid, self._paused = None, False

    def _wait(self, done: Callable[[], bool], timeout_s: float, *, starting: bool = False) -> bool:
        """Wait for a change of the server; while starting also look for files, and give up if the program does."""
        deadline = time.monotonic() + timeout_s
        given_up = {CHANNEL, *self._parent_watch} if starting else set()
        while True:
            self._reap()
            if done():
                return True
            remaining = deadline - time.monotonic()
            if remaining <= 0 or (starting and self._ending):
                return False
            pause = min(remaining, READY_POLL_S) if starting else remaining
            ready, _, _ = select.select([self._wake, *given_up], [], [], pause)
            if not given_up.isdisjoint(ready):
                return False

    def _log_tail(self) -> list[str]:
        """The last lines that the server wrote since it was last started, or told to read its configuration."""
        return self._log().splitlines()[-LOG_TAIL_LINES:]

    def _log(self) -> str:
        """What the server wrote since then."""
        try:
            with open(self._log_path, encoding="utf-8", errors="replace") as file:
                file.seek(self._log_start)
                return file.read()
        except FileNotFoundError:
            return ""

    def _end_soon(self, number: int, frame: object) -> None:
        self._ending = True


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


def reply(answer: dict[str, Any], request_id: int) -> None:
    """Send one line. A program that no longer listens is found out by the next read."""
    data = json.dumps({"id": request_id, **answer}).encode() + b"\n"
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while data:
            data = data[os.write(CHANNEL, data) :]


def main() -> None:
    """Read the settings, tell that all is prepared (or why not), serve, and clean up in every case."""
    with os.fdopen(os.dup(CHANNEL), "rb", buffering=0) as channel:
        first = channel.readline()
    if not first.endswith(b"\n"):
        return
    supervisor = Supervisor(json.loads(first))
    try:
        try:
            supervisor.prepare()
        except OSError as error:
            reply({**supervisor.handle("status"), "error": str(error)}, 0)
            return
        reply(supervisor.handle("status"), 0)
        supervisor.serve()
    finally:
        supervisor.end()


if __name__ == "__main__":
    main()
