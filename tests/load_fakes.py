"""A bus and a clock for tests of the load driver: no test waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from itertools import repeat
from types import SimpleNamespace
from typing import Any

from eventbus.errors import InvalidMessage, WindowFull
from eventbus.load.message import LoadMessage, Messages
from eventbus.load.plan import LoadPlan
from eventbus.load.runner import LoadRunner
from eventbus.load.scheduled_latency import ScheduledLatency
from eventbus.report import AckOutcome


class VirtualTime:
    """A clock that moves only when somebody sleeps: no test waits."""

    def __init__(self) -> None:
        self.now_ns = 10**9
        self.sleeps = 0
        self.on_sleep: Callable[[], None] = lambda: None

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_s(self) -> float:
        return self.now_ns / 1e9

    async def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)
        self.sleeps += 1
        self.on_sleep()
        await asyncio.sleep(0)


class FakeReceipt:
    """Implements Receipt as far as a runner looks at one."""

    report = SimpleNamespace(outcome=AckOutcome.ACKED)

    def __init__(self, token: int) -> None:
        self.token = token
        self._acked = asyncio.get_running_loop().create_future()

    @property
    def settled(self) -> bool:
        return self._acked.done()

    def ack(self) -> None:
        self._acked.set_result(None)

    def __await__(self) -> Generator[Any, None, None]:
        yield from self._acked


class FakeBus:
    """Takes messages as long as there is room. ``receipts``: by token, where they are kept."""

    def __init__(self, room: int = 10**9, error: Exception | None = None, keep_receipts: bool = False) -> None:
        self.receipts: dict[int, FakeReceipt] | None = {} if keep_receipts else None
        self.room = room
        self.error = error
        self.sent: list[tuple[str, bytes]] = []
        self.extras: list[dict[str, Any]] = []
        self.largest_burst = 0
        self._burst = 0
        self.has_room = asyncio.Event()
        self.stalled = asyncio.Event()

    def publish_nowait(self, topic: str, payload: bytes, **extras: Any) -> FakeReceipt | None:
        if self.error is not None:
            raise self.error
        if len(payload) > 1000:
            raise InvalidMessage("too large")
        if len(self.sent) >= self.room:
            raise WindowFull("full")
        self.sent.append((topic, payload))
        self.extras.append(extras)
        self._burst += 1
        self.largest_burst = max(self.largest_burst, self._burst)
        if self.receipts is None:
            return None
        token = len(self.sent)
        self.receipts[token] = receipt = FakeReceipt(token)
        return receipt

    async def publish(self, topic: str, payload: bytes, **extras: Any) -> FakeReceipt | None:
        while len(self.sent) >= self.room:
            self.has_room.clear()
            self.stalled.set()
            await self.has_room.wait()
        return self.publish_nowait(topic, payload, **extras)

    def more_room(self, number: int) -> None:
        self.room += number
        self.has_room.set()

    def turn(self) -> None:
        self._burst = 0


def runner_of(
    bus: FakeBus,
    time: VirtualTime,
    payloads: Iterator[bytes] | None = None,
    total: int | None = None,
    *,
    latency: ScheduledLatency | None = None,
    times: Iterator[float] | None = None,
    **plan: Any,
) -> LoadRunner:
    made = LoadPlan(**plan)
    source = repeat(b"x") if payloads is None else payloads
    messages = Messages((LoadMessage(made.topic, payload) for payload in source), total, times)
    time.on_sleep = bus.turn
    return LoadRunner(bus, made, messages, clock=time, sleep=time.sleep, latency=latency)
