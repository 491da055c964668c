"""``python -m benchmarks dead-server``: memory of a bus whose server has died while publishers go on for ever.

It has to rise to what the window allows and stay there, however many windows of messages come and go, and must not jump
when the server answers again. One fresh server a scenario, and one fresh process (dead_server_process.py) that
publishes, samples itself, and asks for the server's end and return. Here: the values, the judgement, and the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from eventbus.embedded.nats import EmbeddedNats

Scenario = Literal["frozen", "noticed", "killed"]
SCENARIOS: dict[Scenario, str] = {
    "frozen": "stopped by SIGSTOP, and the connection seems to live: no ping is missed during the run",
    "noticed": "stopped by SIGSTOP, and pings tell after 3 s that the connection is dead",
    "killed": "killed by SIGKILL",
}
MIB = 1024 * 1024
FLAT_SHARE, FLAT_BYTES = 0.05, 4 * MIB
"""How far memory may rise above the plateau of the first half, a share of the bound and some bytes, and still be called
flat: the allocator's noise. A bus that keeps one frame a message rises by ten times as much."""
LEAST_WINDOWS = 5
"""Windows of messages that must have ended in the second half, or its flatness would say nothing."""
_PER_MESSAGE_BYTES = 700
_FRAME_BYTES = 256
"""Of a frame beyond its payload: control line, subject, inbox and message id."""
_REMEMBERED_WINDOWS = 4
"""Messages settled as UNKNOWN that the ledger keeps for a late ack, in windows; without their payloads. Reports that
wait for the application's callback are bounded by one window more."""
_PER_PUBLISHER_BYTES = 4096
"""Of one that waits for room: two coroutines, a future, its place, and the payload that it holds is on top."""
RETURN_TIMEOUT_S = 15.0
"""Longest wait for the bus to recover once the server is back."""
STRETCH = 3
"""The dead time may be so many times ``seconds`` long where windows end slowly."""
_PROCESS_SPARE_S = 60.0
_ROOT = Path(__file__).parents[1]


class RunFailed(Exception):
    """The publishing process ended without a result; the text is the end of what it wrote to standard error."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One scenario.

    seconds: how long the server is dead, at least. publishers: tasks that publish in a loop and drop their receipts.
    payload_bytes: of each message, made anew. window, window_bytes: the bounds of WindowConfig.
    ack_timeout_s: of one attempt; a message has two, so it is pending for little more than twice that.
    """

    scenario: Scenario
    seconds: float = 15.0
    publishers: int = 2_000
    payload_bytes: int = 1024
    window: int = 10_000
    window_bytes: int = 16 * MIB
    ack_timeout_s: float = 0.5

    def bound(self) -> dict[str, int]:
        """What memory may rise by, in bytes, part by part."""
        return {
            "payloads": min(self.window_bytes, self.window * self.payload_bytes),
            "pending": self.window * _PER_MESSAGE_BYTES,
            "remembered": _REMEMBERED_WINDOWS * self.window * _PER_MESSAGE_BYTES,
            "reports": self.window * _PER_MESSAGE_BYTES,
            "unsent frames": self.window_bytes + self.window * _FRAME_BYTES,
            "waiting publishers": self.publishers * (_PER_PUBLISHER_BYTES + self.payload_bytes),
        }


@dataclass(frozen=True, slots=True)
class Sample:
    """The process at one moment: resident memory in bytes, and what the bus's snapshot says. ``stalls``: of publish."""

    at_s: float
    rss: int
    pending: int
    waiting: int
    accepted: int
    acked: int
    late: int
    rejected: int
    unknown: int
    stalls: int
    connection: str

    @property
    def ended(self) -> int:
        """Messages that have their outcome."""
        return self.acked + self.rejected + self.unknown


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen. start: resident bytes with all publishers there and nothing published. dead, back: samples while
    the server was dead, and after it was back until it had acked a window of new messages. told: reports that the
    application's callback got. returned_s: how long that took, None if it did not come to it.
    """

    settings: Settings
    start: int
    dead: tuple[Sample, ...]
    back: tuple[Sample, ...]
    told: int
    returned_s: float | None

    @classmethod
    def read(cls, plain: dict[str, Any]) -> Outcome:
        """From what ``asdict`` and JSON made of it."""
        return cls(
            Settings(**plain["settings"]),
            plain["start"],
            tuple(Sample(**sample) for sample in plain["dead"]),
            tuple(Sample(**sample) for sample in plain["back"]),
            plain["told"],
            plain["returned_s"],
        )

    def halves(self) -> tuple[list[Sample], list[Sample]]:
        """The dead time in two."""
        middle = self.dead[-1].at_s / 2
        return [s for s in self.dead if s.at_s < middle], [s for s in self.dead if s.at_s >= middle]

    @property
    def plateau(self) -> int:
        """The most that memory rose by in the first half of the dead time."""
        return max(sample.rss for sample in self.halves()[0]) - self.start

    @property
    def growth(self) -> int:
        """How much higher it was in the second half."""
        return max(sample.rss for sample in self.halves()[1]) - self.start - self.plateau

    @property
    def jump(self) -> int:
        """How much higher it was after the server was back than ever before."""
        return max(s.rss for s in self.back) - max(s.rss for s in self.dead)

    @property
    def windows(self) -> float:
        """Windows of messages that ended in the second half."""
        second = self.halves()[1]
        return (second[-1].ended - second[0].ended) / self.settings.window

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: every sample, and what they come to."""
        return asdict(self) | {
            "bound": self.settings.bound(),
            "plateau": self.plateau,
            "growth": self.growth,
            "jump": self.jump,
            "windows": self.windows,
        }

    def in_words(self) -> str:
        """What memory did, what it was allowed, and whether the bus came back."""
        bound = self.settings.bound()
        parts = ", ".join(f"{name} {_mib(count)}" for name, count in bound.items())
        returned = "never" if self.returned_s is None else f"in {self.returned_s:.1f} s"
        return (
            f"rose to {_mib(self.plateau)} MiB in the first half, then by {_mib(self.growth)} while {self.windows:.1f} "
            f"windows ended; bound {_mib(sum(bound.values()))} ({parts}); recovered {returned}, "
            f"memory then {'+' if self.jump >= 0 else ''}{_mib(self.jump)}"
        )

    def complaints(self) -> list[str]:
        """What is not as it has to be, in words; empty if all is well."""
        found = []
        bound = sum(self.settings.bound().values())
        allowed = int(FLAT_SHARE * bound) + FLAT_BYTES
        peak = self.plateau + max(self.growth, 0)
        if self.growth > allowed:
            found.append(
                f"memory rose by {_mib(self.growth)} MiB in the second half, {_mib(allowed)} is allowed: not flat"
            )
        if peak > bound + FLAT_BYTES:
            found.append(
                f"memory rose by {_mib(peak)} MiB, the bound is {_mib(bound)} (and {_mib(FLAT_BYTES)} of noise)"
            )
        if self.windows < LEAST_WINDOWS:
            found.append(f"only {self.windows:.1f} windows ended in the second half: too few to say anything")
        if self.returned_s is None:
            found.append(f"no window of new messages was acked within {RETURN_TIMEOUT_S:g} s of the server's return")
        if self.jump > allowed:
            found.append(f"memory jumped by {_mib(self.jump)} MiB when the server was back")
        for sample in (*self.dead, *self.back):
            if sample.accepted != sample.ended + sample.pending or sample.pending > self.settings.window:
                found.append(f"the ledger does not add up: {sample}")
                break
        return [f"{self.settings.scenario}: {complaint}" for complaint in found]


def _mib(count: float) -> str:
    return f"{count / MIB:.1f}"


async def measure(settings: Settings) -> Outcome:
    """Run one scenario, about ``settings.seconds`` and a few more. Raises RunFailed."""
    server = EmbeddedNats()
    await asyncio.to_thread(server.start)
    try:
        return await _run(server, settings)
    finally:
        await asyncio.shield(asyncio.to_thread(server.stop))


async def _run(server: EmbeddedNats, settings: Settings) -> Outcome:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.dead_server_process", server.url, json.dumps(asdict(settings)),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=_ROOT,
        limit=64 * MIB,
    )  # fmt: skip
    assert process.stderr is not None
    words = asyncio.ensure_future(process.stderr.read())
    answer = b""
    with contextlib.suppress(TimeoutError):
        try:
            async with asyncio.timeout(settings.seconds * STRETCH + _PROCESS_SPARE_S):
                answer = await _attend(process, server, killed=settings.scenario == "killed")
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    complaints = (await words).decode(errors="replace").strip().splitlines()
    if process.returncode or not answer:
        raise RunFailed(f"{settings.scenario}: " + ("\n".join(complaints[-3:]) or "no result in time"))
    return Outcome.read(json.loads(answer))


async def _attend(process: asyncio.subprocess.Process, server: EmbeddedNats, *, killed: bool) -> bytes:
    """Stop the server and let it go on when asked to; returns the line that is neither."""
    assert process.stdout is not None
    assert process.stdin is not None
    deeds = {
        b"freeze": server.kill if killed else server.pause,
        b"thaw": server.start if killed else server.resume,
    }
    while line := await process.stdout.readline():
        deed = deeds.get(line.strip())
        if deed is None:
            return line
        await asyncio.to_thread(deed)
        process.stdin.write(b"\n")
        await process.stdin.drain()
    return b""
