"""PartProcess: a part in a child process of this one, which cannot outlive it.

Lines go down its standard input and come up its standard output. It ends when its input closes, so also when this
process is gone, however that happened. A process of its own, and not a thread, whatever runs in this one: the load has
an interpreter lock and an event loop to itself, and can be ended by force.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eventbus.errors import ConnectFailed

PART = ("-m", "eventbus.part_command")
"""What this Python is to run for a part."""
KILL_TIMEOUT_S = 2.0
"""Longest wait for a part to obey SIGTERM before it gets SIGKILL."""
_LAST_WORDS = 3


class PartProcess:
    """One child; its methods may be called from any thread.

    arguments: of this Python. heard: takes each line that the child says; gone: called once, after the last line, with
    how it ended, as in "was killed by signal 9"; both by a thread of this object, and they must not raise.
    Raises ConnectFailed where no process can be started.
    """

    def __init__(
        self, heard: Callable[[bytes], None], gone: Callable[[str], None], arguments: Sequence[str] = PART
    ) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a terminal's Ctrl-C is for the coordinator, which then has them all drain
            )
        except OSError as error:
            raise ConnectFailed(f"a process for a part of the load did not start: {error}") from error
        self._heard = heard
        self._gone = gone
        self._said: deque[str] = deque(maxlen=_LAST_WORDS)
        self._commands: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=run, name=f"ackscope-part-{run.__name__.strip('_')}", daemon=True)
            for run in (self._read_errors, self._write, self._read)  # the last one joins the first
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._process.pid

    def send(self, command: Mapping[str, Any]) -> None:
        """Send one command. Never waits, never raises; where the child is gone, it is lost."""
        self._commands.put(json.dumps(command).encode() + b"\n")

    def close_input(self) -> None:
        """Say that no command will follow, which makes it end. Idempotent, as what follows; none of them waits."""
        self._commands.put(None)

    def terminate(self) -> None:
        """SIGTERM: as the end of its input, and more certain to be noticed."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def _write(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError), stdin:  # it may be gone before us
            while (line := self._commands.get()) is not None:
                stdin.write(line)
                stdin.flush()

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        with stdout:
            for line in stdout:
                self._heard(line)
        self._commands.put(None)
        self._threads[0].join(KILL_TIMEOUT_S)
        self._gone(self._how(self._process.wait()))

    def _read_errors(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        with stderr:
            for line in stderr:
                if line.strip():
                    self._said.append(line.decode(errors="replace").strip())

    def _how(self, code: int) -> str:
        how = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
        return how + (f"; it said: {self._said[-1].rstrip('.')}" if self._said else "")
