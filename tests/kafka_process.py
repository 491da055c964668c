"""KafkaProcess: one program of Java's, which a test can signal and which never outlives the test run.

Talks to ``kafka_supervisor.py`` (same folder), which owns the process; that file tells why and how.
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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ANSWER_TIMEOUT_S = 10.0
"""Longest wait for the supervisor, which has nothing else to do."""


class KafkaProcess:
    """At most one process at a time, and what its supervisor says of it.

    directory: where it runs. store: removed at the end. log: where its output is appended.
    pid: None if it does not run. status: how it ended, minus a signal's number. paused: whether it stands still.
    """

    def __init__(self, directory: Path, store: Path, log: Path) -> None:
        self.pid: int | None = None
        self.status: int | None = None
        self.paused = False
        self._received = b""
        self._channel, theirs = socket.socketpair()  # both are closed on exec, as all descriptors of Python are
        with theirs:
            self._supervisor = subprocess.Popen(
                # -I and -S: no environment variables, no site packages; they cost time
                [sys.executable, "-I", "-S", str(Path(__file__).with_name("kafka_supervisor.py"))],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # a terminal's Ctrl-C is for the test run, which then ends it in good order
            )
        names = {"directory": str(directory), "store": str(store), "log": str(log)}
        self._send({"parent_pid": os.getpid(), **names})

    def __str__(self) -> str:
        return f"ended with {self.status}" if self.pid is None else f"is alive ({self.pid})"

    @property
    def supervisor_pid(self) -> int:
        return self._supervisor.pid

    def start(self, command: list[str]) -> None:
        """Run a program and wait until it has its process id."""
        self.pid = self.status = None
        self.paused = False
        self._send({"start": command})
        self.wait(lambda: self.pid is not None or self.status is not None, ANSWER_TIMEOUT_S)

    def signal(self, number: signal.Signals) -> None:
        self._send({"signal": int(number)})

    def look(self) -> None:
        """Take in what was said until now."""
        self.wait(lambda: False, 0)

    def wait_for_end(self, timeout_s: float) -> None:
        if not self.wait(lambda: self.pid is None, timeout_s):
            raise TimeoutError(f"process {self.pid} has not ended after {timeout_s} s")

    def wait(self, done: Callable[[], bool], timeout_s: float, poll_s: float | None = None) -> bool:
        """Take in what is said until it is ``done``, which is asked after each event and every ``poll_s``."""
        deadline = time.monotonic() + timeout_s
        while not done():
            remaining = max(0.0, deadline - time.monotonic())
            self._channel.settimeout(remaining if poll_s is None else min(poll_s, remaining))
            try:
                received = self._channel.recv(65536)
            except (TimeoutError, BlockingIOError):
                if not remaining:
                    return done()
                continue
            if not received:
                raise ConnectionResetError("the supervisor of Kafka is gone")
            *lines, self._received = (self._received + received).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
        return True

    def close(self) -> None:
        """End the process and the supervisor; returns when both are gone and the store is removed."""
        with self._channel, contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
            self._channel.settimeout(ANSWER_TIMEOUT_S)
            while self._channel.recv(65536):
                pass
        try:
            self._supervisor.wait(ANSWER_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()

    def _send(self, line: Mapping[str, Any]) -> None:
        self._channel.settimeout(ANSWER_TIMEOUT_S)
        self._channel.sendall(json.dumps(line).encode() + b"\n")

    def _take(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "started":
                self.pid = event["pid"]
            case "ended":
                self.pid, self.paused, self.status = None, False, event["status"]
            case state:
                self.paused = state == "stopped"
