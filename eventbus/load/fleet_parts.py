"""FleetParts: all parts of a fleet: started, waited for, commanded, watched, and ended, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from eventbus.errors import ConnectFailed
from eventbus.event import BusEvent
from eventbus.load.executor import Executor, PartLink
from eventbus.load.fleet_part import FleetPart, Listener
from eventbus.load.part import own_version
from eventbus.load.plan import LoadPlan
from eventbus.load.run import CLOSE_TIMEOUT_S
from eventbus.observe.run import FailedMessage, FailureGroup

STARTS_WITHIN_S = 60.0
"""Until a part says its first word: a machine elsewhere may be busy."""
SILENCE_S = 15.0
"""A part says something each second; after so long without a word it counts as lost."""
GRACE_S = 5.0
"""Beyond its drain and close, for a part that was stopped to say how it ended, and then for its process to end."""
WATCH_EACH_S = 0.5


class FleetParts:
    """happened, failed: what parts tell. draining: called when none sends any more. lost: called with one that is gone
    before its end was told.

    All on the loop; they must not raise. State: the lists grow in ``start`` alone.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        happened: Callable[[BusEvent], None],
        failed: Callable[[Sequence[FailedMessage], Sequence[FailureGroup]], None],
        draining: Callable[[], None],
        lost: Callable[[FleetPart], None],
    ) -> None:
        self._executor = executor
        self._listener = Listener(self._changed, happened, failed)
        self._draining = draining
        self._lost = lost
        self.all: list[FleetPart] = []
        self._links: list[PartLink] = []
        self._change = asyncio.Event()
        self._told_lost: set[FleetPart] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._stop_by_s: float | None = None
        self._closing = False

    async def start(self, shares: Sequence[LoadPlan], url: str) -> None:
        """Start a part for each share, and have it connect to ``url``. Raises ConnectFailed."""
        loop = asyncio.get_running_loop()
        for index, share in enumerate(shares):
            name = f"process {index + 1} of {len(shares)}"
            part = FleetPart(share, name, own_version(), self._listener, loop.time())
            self.all.append(part)
            link = await self._executor.start(index, partial(self._hear, part), partial(self._lose, part))
            self._links.append(link)
            if link.place:
                part.name = f"{name} at {link.place}"
            replay = None if share.replay is None else share.replay.absolute()
            link.send({"cmd": "open", "plan": replace(share, url=url, replay=replay).to_dict()})
        self._watching = loop.create_task(self._watch(), name="ackscope-fleet-watch")

    async def opened(self) -> None:
        """Wait until all are connected. Raises what one of them raised, or ConnectFailed where one is gone."""
        await self._until(lambda: all(part.opened for part in self.all) or any(part.over for part in self.all))
        for part in self.all:
            if part.refused is not None:
                raise part.refused
        for part in self.all:
            if part.over:
                raise ConnectFailed(f"{part.name} {part.lost or 'ended'} before it was connected; nothing was sent")

    async def over(self) -> None:
        """Wait until each has ended or is lost."""
        await self._until(lambda: all(part.over for part in self.all))

    def command(self, make: Callable[[int, int], Mapping[str, Any]]) -> None:
        """Send each that goes on its command: of its number among them, and how many they are. Never waits."""
        links = [link for part, link in zip(self.all, self._links, strict=True) if not part.over]
        for index, link in enumerate(links):
            link.send(make(index, len(links)))

    def stop(self, drain_s: float) -> None:
        """Have all send nothing more, and await acks for so long. One that has not ended 7 s after that is lost."""
        self.command(lambda *_: {"cmd": "stop", "drain_s": drain_s})
        by_s = asyncio.get_running_loop().time() + self._executor.delivery_s + drain_s + CLOSE_TIMEOUT_S + GRACE_S
        self._stop_by_s = by_s if self._stop_by_s is None else min(by_s, self._stop_by_s)

    async def close(self) -> None:
        """See that all end, by force where need be. Bounded; never raises."""
        await asyncio.gather(*self._ending, *(link.close(GRACE_S) for link in self._links))
        self._closing = True
        if self._watching is not None:
            self._watching.cancel()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._change.clear()
            await self._change.wait()

    def _hear(self, part: FleetPart, line: bytes) -> None:
        part.hear(line, asyncio.get_running_loop().time())

    def _lose(self, part: FleetPart, how: str) -> None:
        part.lose(how, asyncio.get_running_loop().time())

    def _changed(self) -> None:
        self._change.set()
        if all(part.draining or part.over for part in self.all):
            self._draining()
        for part, link in zip(self.all, self._links, strict=False):
            if part.lost is not None and part not in self._told_lost:
                self._told_lost.add(part)
                self._lost(part)
                if not self._closing:
                    task = asyncio.ensure_future(link.close(0.0))
                    self._ending.add(task)
                    task.add_done_callback(self._ending.discard)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(WATCH_EACH_S)
            now_s = loop.time()
            for part in self.all:
                patience_s = SILENCE_S if part.ready else STARTS_WITHIN_S
                if now_s - part.heard_s > patience_s:
                    part.lose(f"said nothing for {patience_s:.0f} s", now_s)
                elif self._stop_by_s is not None and now_s > self._stop_by_s:
                    part.lose(f"did not end within {GRACE_S:.0f} s of its time", now_s)
