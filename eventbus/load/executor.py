"""Executor: where the parts of a load run. On this machine by default; others are adapters to engines that exist."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from eventbus.load.part_process import KILL_TIMEOUT_S, PART, PartProcess


class PartLink(Protocol):
    """The line to one part."""

    @property
    def place(self) -> str:
        """Where it runs, for people; empty for this machine."""

    def send(self, command: Mapping[str, Any]) -> None:
        """Send one command. Never waits, never raises; where the part is gone, it is lost."""

    async def close(self, timeout_s: float) -> None:
        """See that it ends: asked for ``timeout_s``, then by force. Bounded; idempotent; never raises."""


class Executor(Protocol):
    """Starts parts. One fleet uses it, on one event loop; ``close`` once at the end, whatever happened."""

    @property
    def delivery_s(self) -> float:
        """How long a command may take to all parts: "go" is given so much ahead."""

    async def places(self, wanted: int) -> int:
        """Get ready; returns how many parts there will be where ``wanted`` are. Raises ConfigError, ConnectFailed."""

    async def start(self, index: int, heard: Callable[[bytes], None], gone: Callable[[str], None]) -> PartLink:
        """Start one part, from 0. heard: takes each line that it says; gone: called once when it is no more, with how
        it ended, in words that follow "it"; both on the loop. Raises ConnectFailed."""

    async def close(self) -> None:
        """Free what ``places`` made. Bounded; never raises."""


class LocalExecutor:
    """Parts are child processes on this machine.

    arguments: of this Python, for one part.
    """

    delivery_s = 0.1

    def __init__(self, arguments: Sequence[str] = PART) -> None:
        self._arguments = arguments

    async def places(self, wanted: int) -> int:
        """As many as are wanted."""
        return wanted

    async def start(self, index: int, heard: Callable[[bytes], None], gone: Callable[[str], None]) -> PartLink:
        """See Executor."""
        return LocalPart(self._arguments, heard, gone)

    async def close(self) -> None:
        """Nothing is left: each part ends with its link."""


class LocalPart:
    """A PartProcess, heard on the event loop that made it."""

    place = ""

    def __init__(self, arguments: Sequence[str], heard: Callable[[bytes], None], gone: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._heard = heard
        self._gone = gone
        self._ended = asyncio.Event()
        self._process = PartProcess(self._hear, self._end, arguments)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, command: Mapping[str, Any]) -> None:
        """See PartLink."""
        self._process.send(command)

    async def close(self, timeout_s: float) -> None:
        """See PartLink; at most 4 s longer."""
        self._process.close_input()
        for grace_s, force in (
            (timeout_s, self._process.terminate),
            (KILL_TIMEOUT_S, self._process.kill),
            (KILL_TIMEOUT_S, lambda: None),
        ):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), grace_s)
                return
            force()

    def _hear(self, line: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended before its part
            self._loop.call_soon_threadsafe(self._heard, line)

    def _end(self, how: str) -> None:
        def end() -> None:
            self._ended.set()
            self._gone(how)

        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(end)
