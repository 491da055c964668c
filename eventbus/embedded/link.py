"""Link: this program's end of the socket to a child program that answers JSON lines, and that child itself.

The child reads requests from its standard input and ends at the end of file, which is how it learns that this program
is gone. A forked child of this program gets no share of it: it would keep the socket open, and the other end alive.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eventbus.errors import ConnectFailed

END_TIMEOUT_S = 5.0
"""How long the child may take to end after the end of file, and again after SIGKILL."""
_OPEN: weakref.WeakSet[Link] = weakref.WeakSet()


class Link:
    """Starts ``program`` (a path, run by this Python) and exchanges lines with it. One request at a time: no lock here.

    settings: the first line that it gets. what: how errors call it. Raises OSError if it cannot be started.
    """

    def __init__(self, program: Path, settings: dict[str, Any], what: str) -> None:
        self._what = what
        self._received = b""
        self._last_id = 0
        self._channel, theirs = socket.socketpair()  # both are closed on exec, as all descriptors of Python are
        try:
            with theirs:
                self._process = subprocess.Popen(
                    # -I and -S: no environment variables, no site packages; they could not be trusted and cost time
                    [sys.executable, "-I", "-S", str(program)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,  # a terminal's Ctrl-C is for us; we then end the child in good order
                )
        except BaseException:
            self._channel.close()
            raise
        _OPEN.add(self)
        with contextlib.suppress(OSError):  # it ended already, which the first request finds out
            self._channel.sendall(json.dumps(settings).encode() + b"\n")

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called, or this process is a fork of the one that owns the link."""
        return self._channel.fileno() == -1

    def ask(self, command: str, arguments: Sequence[Any] | Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a command and wait for its reply. Raises ConnectFailed if the child is gone, or silent for that long."""
        self._last_id += 1
        return self._exchange({"id": self._last_id, "command": command, "arguments": arguments}, timeout_s)

    def greeting(self, timeout_s: float) -> dict[str, Any]:
        """Wait for what the child tells of itself, with id 0, before the first command. Raises as ``ask`` does."""
        return self._exchange(None, timeout_s)

    def _exchange(self, request: dict[str, Any] | None, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        try:
            self._channel.settimeout(timeout_s)
            if request is not None:
                self._channel.sendall(json.dumps(request).encode() + b"\n")
            while True:
                line, newline, rest = self._received.partition(b"\n")
                if not newline:
                    received = self._receive(deadline)
                    if not received:
                        raise ConnectionResetError("it ended")
                    self._received += received
                    continue
                self._received = rest
                answer: dict[str, Any] = json.loads(line)
                if answer["id"] == self._last_id:  # else: the late reply to a request whose wait was interrupted
                    return answer
        except TimeoutError:
            raise ConnectFailed(f"{self._what} was silent for {timeout_s} s") from None
        except OSError as error:
            raise ConnectFailed(f"{self._what} is gone: {error}; call stop") from error

    def close(self) -> None:
        """End the child: end of file, after ``END_TIMEOUT_S`` SIGKILL. Twice that at most. Idempotent."""
        if self.closed:
            return
        _OPEN.discard(self)
        with self._channel:
            deadline = time.monotonic() + END_TIMEOUT_S
            with contextlib.suppress(OSError):  # its own end of file is the answer: it comes when all is cleaned up
                self._channel.shutdown(socket.SHUT_WR)
                while self._receive(deadline):
                    pass
        # The child is not reaped yet, so the number of its group cannot belong to anybody else.
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_TIMEOUT_S)

    def _receive(self, deadline: float) -> bytes:
        """What came, empty at the end of file. Raises TimeoutError past the deadline (``time.monotonic``)."""
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._channel.settimeout(remaining)
        return self._channel.recv(65536)

    def _disown(self) -> None:
        """In a forked child: let go of it without touching it."""
        self._channel.close()
        self._process.returncode = 0  # not our child: nothing to wait for, nothing to warn about


def _disown_all() -> None:
    for link in list(_OPEN):
        link._disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
