"""What tests put in the place of time, of a broker and of whoever looks on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

from eventbus.ack.handler import AckHandler
from eventbus.ack.pending import PendingAck
from eventbus.ack.retry import RetryPolicy
from eventbus.config import WindowConfig
from eventbus.errors import ErrorClass, ErrorKind
from eventbus.event import BusEvent
from eventbus.message import Extras, Message
from eventbus.observe.counters import BusCounters
from eventbus.ports import AckBatch, AckSink, Capabilities, Failure, Outgoing, Route
from eventbus.report import DeliveryReport
from eventbus.snapshot import ConnectionState
from eventbus.topic import TopicConfig

T = TypeVar("T")

MS = 1_000_000
SECOND = 1_000_000_000


class FakeClock:
    """Implements ports.Clock; moves only when told to. Starts above 0, so that 0 never looks like a time."""

    def __init__(self, now_ns: int = 1000 * SECOND) -> None:
        self.now_ns = now_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_s(self) -> float:
        return self.now_ns / 1e9

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a FakeClock, driven turn by turn: a timer fires in the first turn after its time has come."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        super().__init__()

    def time(self) -> float:
        return self._clock.now_ns / 1e9

    def turns(self, number: int = 1) -> None:
        """Run what is ready, that many times; never blocks."""
        for _ in range(number):
            self.call_soon(self.stop)
            self.run_forever()

    def pass_time(self, seconds: float, turns: int = 6) -> None:
        """Advance the clock, then let timers and tasks run."""
        self._clock.advance(seconds)
        self.turns(turns)

    def finish(self) -> None:
        """Cancel what still runs, and close."""
        left = asyncio.all_tasks(self)
        for task in left:
            task.cancel()
        self.turns(3)
        for task in left:
            if task.done() and not task.cancelled():
                task.exception()  # seen, so that the loop does not complain of it
        self.close()


async def _answers_at_once() -> float:
    return 0.001


class ScriptedPublisher:
    """Implements ports.Publisher without a broker: keeps what was sent; the test plays the answers by the sink."""

    capabilities = Capabilities(system="scripted")
    backlog_bytes = 0
    unchecked_bytes = 1024
    broker = "scripted 1"

    def __init__(self) -> None:
        self.sink: AckSink | None = None
        self.sent: list[int] = []
        """Tokens in the order in which they were sent, one entry per attempt."""
        self.unsent: set[int] = set()
        """Tokens that were handed over and are still here."""
        self.on_send: Callable[[Outgoing], None] = lambda pending: None
        self.on_ping: Callable[[], Awaitable[float]] = _answers_at_once

    async def open(self, sink: AckSink) -> None:
        self.sink = sink

    async def prepare(self, name: str, config: TopicConfig | None) -> Route:
        return route(name) if config is None else Route(config, "S", True, config.duplicate_window_s)

    def check(self, message: Message) -> None:
        """Everything is fine."""

    def send(self, pending: Outgoing) -> None:
        self.sent.append(pending.token)
        self.on_send(pending)

    def withdraw(self, tokens: Sequence[int]) -> Collection[int]:
        """Those that ``unsent`` says, as a publisher that gathers messages before it sends them."""
        return self.unsent.intersection(tokens)

    def send_unacknowledged(self, message: Message) -> bool:
        return True

    async def flush(self) -> None:
        """Nothing is ever on its way."""

    async def ping(self) -> float:
        return await self.on_ping()

    async def close(self, timeout_s: float) -> None:
        self.sink = None


class Recorder:
    """Implements ports.Observer; keeps everything."""

    def __init__(self, every_outcome: bool = True) -> None:
        self.every_outcome = every_outcome
        self.reports: list[DeliveryReport] = []
        self.events: list[BusEvent] = []

    def settled(self, reports: Sequence[DeliveryReport]) -> None:
        self.reports.extend(reports)

    def happened(self, event: BusEvent) -> None:
        self.events.append(event)


def _nobody_awaits() -> asyncio.Future[None]:
    raise AssertionError("nobody awaits here")


class FakeLedger:
    """What a PendingAck needs of its ledger, where nobody awaits it."""

    def __init__(self) -> None:
        self.id_prefix = "bus-"
        self.make_future: Callable[[], asyncio.Future[None]] = _nobody_awaits


def pending_ack(token: int = 1, size: int = 1, timeout_ns: int = SECOND, accepted_ns: int = 1000) -> PendingAck:
    """A message as AckHandler makes it, outside of any ledger."""
    return PendingAck(token, "orders", b"x" * size, None, route(), size, timeout_ns, accepted_ns, FakeLedger())


class FixedChance:
    """Implements ports.Random with one value."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def route(
    name: str = "orders.created",
    *,
    deduplicates: bool = True,
    window_s: float = 120.0,
    ready: bool = True,
    allow_duplicates: bool = False,
) -> Route:
    """A route to the stream ``S``."""
    topic = TopicConfig(name, allow_duplicates=allow_duplicates)
    return Route(topic, "S", deduplicates, window_s, ready=ready, covers=(name,))


class Bench:
    """A ledger in virtual time with a scripted publisher: all that a test of AckHandler needs; ``finish`` it."""

    def __init__(
        self,
        *,
        window: WindowConfig | None = None,
        retry: RetryPolicy | None = None,
        chance: float = 0.0,
        connected: bool = True,
        every_outcome: bool = True,
    ) -> None:
        self.clock = FakeClock()
        self.loop = VirtualLoop(self.clock)
        self.publisher = ScriptedPublisher()
        self.counters = BusCounters()
        self.observer = Recorder(every_outcome)
        self.retry = retry or RetryPolicy()
        self._window_config = window or WindowConfig()
        self._chance = FixedChance(chance)
        self.handler = self.run(self._build())
        self._serial = 0
        if connected:
            self.handler.connection_changed(ConnectionState.CONNECTED)

    async def _build(self) -> AckHandler:
        return AckHandler(
            self.publisher,
            window=self._window_config,
            retry=self.retry,
            tally=self.counters,
            observer=self.observer,
            clock=self.clock,
            random=self._chance,
            id_prefix="bus-",
        )

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Make a task of it and let it take its first step."""
        task = self.loop.create_task(coroutine)
        self.loop.turns(1)
        return task

    def run(self, coroutine: Coroutine[Any, Any, T], turns: int = 3) -> T:
        """Its result; it must end within a few turns."""
        task = self.loop.create_task(coroutine)
        self.loop.turns(turns)
        return task.result()

    def accept(self, size: int = 1, via: Route | None = None, timeout_s: float = 5.0) -> PendingAck | None:
        """try_accept of a new message."""
        chosen = via or route()
        return self.handler.try_accept(*self._fields(size, chosen), chosen, int(timeout_s * 1e9))

    def accepted(self, size: int = 1, via: Route | None = None, timeout_s: float = 5.0) -> PendingAck:
        """The same where there must be room."""
        pending = self.accept(size, via, timeout_s)
        assert pending is not None
        return pending

    def wait_for_room(
        self, size: int = 1, via: Route | None = None, timeout_s: float = 5.0
    ) -> asyncio.Task[PendingAck]:
        """A task in ``accept``, as a publish that found no room."""
        return self.start(self.wait_for_room_here(size, via, timeout_s))

    async def wait_for_room_here(self, size: int = 1, via: Route | None = None, timeout_s: float = 5.0) -> PendingAck:
        """The same inside of the calling task."""
        chosen = via or route()
        return await self.handler.accept(*self._fields(size, chosen), chosen, int(timeout_s * 1e9))

    def _fields(self, size: int, via: Route) -> tuple[str, bytes, Extras | None]:
        self._serial += 1
        return via.topic.name, b"x" * size, (None, None, f"m{self._serial}")

    def ack(self, *pending: PendingAck, duplicates: Collection[int] = ()) -> None:
        """One batch of acks, at offsets of 1000 and more."""
        tokens = [p.token for p in pending]
        self.handler.replied([AckBatch("S", tokens, [t + 1000 for t in tokens], frozenset(duplicates))])

    def fail(
        self,
        *pending: PendingAck,
        as_: ErrorClass = ErrorClass.TRANSIENT,
        kind: ErrorKind = ErrorKind.OTHER,
        min_delay_s: float = 0.0,
    ) -> None:
        """One failure of these messages."""
        tokens = [p.token for p in pending]
        self.handler.replied([Failure(as_, kind, "refused", tokens, min_delay_s=min_delay_s)])

    def pass_time(self, seconds: float, step_s: float = 0.01) -> None:
        """Time passes, timers get their turn every ``step_s``."""
        left = round(seconds / step_s)
        for _ in range(left):
            self.loop.pass_time(step_s, turns=3)

    def finish(self) -> None:
        self.loop.finish()


async def until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Wait, on a real event loop, until ``condition`` is true; fails after ``timeout_s``."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # any condition at all; none of them has an event
            await asyncio.sleep(0.001)
