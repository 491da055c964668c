"""Arena: a broker, something fresh on it for every round of a contestant, and a process for each."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.catalog import Kind

PROCESS_TIMEOUT_S = 180.0
_ROOT = Path(__file__).parents[1]

Deed = Callable[[], Awaitable[None]]


class ContestantFailed(Exception):
    """A contestant ended without a result; the text is the end of what it wrote to standard error."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A contestant's name and the event loop that it runs on."""

    name: str
    loop: str


class Arena(Protocol):
    """See above. broker, version: what it is, for people. setup: how topics are made, in words for the title.

    can_weigh: whether memory can be measured here.
    """

    @property
    def broker(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def setup(self) -> str: ...

    @property
    def can_weigh(self) -> bool: ...

    async def race(self, entry: Entry, messages: int, window: int, *, paced: int, rate: float) -> dict[str, Any]:
        """One round. Adds ``stored``, what the broker holds afterwards. Raises ContestantFailed."""

    async def weigh(self, entry: Entry, messages: int, window: int) -> dict[str, Any]:
        """Memory per pending message, at a broker that never acknowledges. Raises ContestantFailed."""

    async def clear(self) -> None:
        """Remove what the last round left."""


async def run_contestant(
    kind: Kind, entry: Entry, url: str, window: int, *arguments: str, deeds: Mapping[str, Deed] | None = None
) -> dict[str, Any]:
    """Run one in a process of its own and return its result. Raises ContestantFailed.

    deeds: what to do when it asks for ``freeze`` or ``thaw``; it is answered afterwards.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.contestant", kind, entry.name, "--url", url, "--loop", entry.loop,
        "--window", str(window), *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=_ROOT,
    )  # fmt: skip
    assert process.stderr is not None
    complaints = asyncio.ensure_future(process.stderr.read())
    try:
        async with asyncio.timeout(PROCESS_TIMEOUT_S):
            answer = await _attend(process, deeds or {})
            await process.wait()
    except TimeoutError:
        raise ContestantFailed(f"no result within {PROCESS_TIMEOUT_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        words = (await complaints).decode(errors="replace").strip().splitlines()
    if process.returncode or not answer:
        raise ContestantFailed("\n".join(words[-3:]) or f"exit code {process.returncode}")
    result: dict[str, Any] = json.loads(answer)
    return result


async def _attend(process: asyncio.subprocess.Process, deeds: Mapping[str, Deed]) -> bytes:
    """Do what is asked for; the line that is none of it is the result."""
    assert process.stdout is not None
    assert process.stdin is not None
    while line := await process.stdout.readline():
        deed = deeds.get(line.decode(errors="replace").strip())
        if deed is None:
            return line
        await deed()
        process.stdin.write(b"\n")
        await process.stdin.drain()
    return b""
