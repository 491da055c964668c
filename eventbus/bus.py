"""EventBus: publish, flush, ping, close, snapshot. Made by ``eventbus.connect``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from eventbus.ack.handler import AckHandler
from eventbus.bus_figures import BusFigures
from eventbus.config import AckStrategy
from eventbus.errors import BusClosed, ConfigError, FlushTimeout, InvalidMessage, PingTimeout, WindowFull
from eventbus.event import BusEvent, EventKind
from eventbus.message import Message
from eventbus.observe.callbacks import CallbackRunner
from eventbus.observe.counters import BusCounters
from eventbus.ports import Clock, Observer, Publisher, Route
from eventbus.receipt import Receipt
from eventbus.report import CloseReport
from eventbus.routing import Routing
from eventbus.snapshot import BusSnapshot, ConnectionState
from eventbus.stall import stall
from eventbus.unacknowledged import UnacknowledgedSends

if TYPE_CHECKING:
    from eventbus.telemetry.tracing import Begun  # OpenTelemetry is an extra
    from eventbus.telemetry.witness import BusTelemetry

_TURN = 256
"""Messages that ``publish`` accepts before the event loop gets a turn: a caller who never waits would otherwise fill
the whole window before the first byte is read back."""
_LAST_MOMENTS_S = 0.25
"""Part of a close timeout (at most a quarter of it) kept for freeing the connection after the drain."""


class EventBus:
    """A producer that gives every message exactly one outcome. Belongs to the event loop that made it.

    ``url``: where it publishes, without user and password. ``bus_id``: unique to this bus.
    """

    def __init__(
        self,
        url: str,
        bus_id: str,
        *,
        publisher: Publisher,
        handler: AckHandler,
        routing: Routing,
        counters: BusCounters,
        callbacks: CallbackRunner | None,
        observer: Observer,
        strategy: AckStrategy,
        clock: Clock,
        stall_timeout_s: float | None,
        on_closed: Callable[[], Awaitable[None]],
        telemetry: BusTelemetry | None = None,
    ) -> None:
        self._telemetry = telemetry
        self._tracing = None if telemetry is None else telemetry.tracing
        self.url = url
        self.bus_id = bus_id
        self._publisher = publisher
        self._handler = handler
        self._routing = routing
        self._routes = routing.by_name
        self._counters = counters
        self._callbacks = callbacks
        self._strategy = strategy
        self._unified = strategy is AckStrategy.UNIFIED
        self._plain = self._unified and callbacks is None  # nothing but the window can make a publisher wait
        self._clock = clock
        self._stall_timeout_s = stall_timeout_s
        self._on_closed = on_closed
        self._figures = BusFigures(bus_id, handler, routing, counters, clock)
        self._unacknowledged = UnacknowledgedSends(
            publisher,
            routing,
            counters,
            observer,
            telemetry,
            max_backlog_bytes=handler.statistics().max_pending_bytes,
            stall_timeout_s=stall_timeout_s,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[CloseReport] | None = None

    async def publish(
        self,
        topic: str,
        payload: bytes | bytearray | memoryview = b"",
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        message_id: str | None = None,
        ack_timeout_s: float | None = None,
    ) -> Receipt:
        """Accept one message and send it. Returns a receipt; await that for the DeliveryReport, or drop it.

        Waits only for room in the window, in FIFO order, and gives the event loop a turn now and then. Cancelling
        while it waits for room publishes nothing; afterwards the message is in the ledger to its end.
        ack_timeout_s: seconds for the ack of one attempt; None takes the topic's, else the bus's.

        Raises InvalidMessage, StallTimeout, BusClosed: then nothing was accepted.
        """
        if self._closing is not None:
            raise BusClosed("the bus is closed; nothing was accepted")
        begun = None if self._tracing is None or self._tracing.passes() else self._tracing.begin(topic, headers)
        if (
            begun is None
            and key is None
            and headers is None
            and message_id is None
            and ack_timeout_s is None
            and type(payload) is bytes
            and type(topic) is str
            and self._plain
            and (known := self._routes.get(topic)) is not None  # _usual(), inlined, since it is hot
            and known.acknowledged
            and len(payload) <= self._publisher.unchecked_bytes
        ):
            receipt = self._handler.try_accept(topic, payload, None, known, known.timeout_ns)
            if receipt is not None:
                if not receipt.token % _TURN:
                    await asyncio.sleep(0)
                return receipt
        message, begun = self._checked(topic, payload, key, headers, message_id, begun)
        route = self._routing.find(topic)
        timeout_ns = route.timeout_ns if ack_timeout_s is None else _checked_ns(ack_timeout_s)
        if self._callbacks is not None and self._callbacks.full:
            await stall(self._callbacks.wait_for_room, "delivery callbacks to catch up", self._stall_timeout_s)
            route = self._routing.find(topic)  # its preparation may have ended meanwhile
        if not route.acknowledged:
            settled = await self._unacknowledged.send(message)
            if begun is not None:
                begun.unacknowledged()
            return settled
        receipt = self._handler.try_accept(topic, message.payload, message.extras, route, timeout_ns)
        if receipt is None:
            receipt = await self._handler.accept(topic, message.payload, message.extras, route, timeout_ns)
        if begun is not None:
            begun.accepted(receipt.token)
        if not receipt.token % _TURN:
            await asyncio.sleep(0)
        if not self._unified:
            await self._follow(receipt)
        return receipt

    def publish_nowait(
        self,
        topic: str,
        payload: bytes | bytearray | memoryview = b"",
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        message_id: str | None = None,
        ack_timeout_s: float | None = None,
    ) -> Receipt:
        """As ``publish``, but raises WindowFull instead of waiting. Call it on the bus's event loop.

        Give the loop a turn now and then: acks are read only while it runs. Not for AckStrategy.WAIT_EACH.
        """
        if self._strategy is AckStrategy.WAIT_EACH:
            raise ConfigError("publish_nowait cannot wait for each ack: use publish, or another AckStrategy")
        if self._closing is not None:
            raise BusClosed("the bus is closed; nothing was accepted")
        begun = None if self._tracing is None or self._tracing.passes() else self._tracing.begin(topic, headers)
        if (
            begun is None
            and key is None
            and headers is None
            and message_id is None
            and ack_timeout_s is None
            and type(payload) is bytes
            and (known := self._usual(topic, payload)) is not None
        ):
            receipt = self._handler.try_accept(topic, payload, None, known, known.timeout_ns)
            if receipt is not None:
                return receipt
        message, begun = self._checked(topic, payload, key, headers, message_id, begun)
        route = self._routing.find(topic)
        timeout_ns = route.timeout_ns if ack_timeout_s is None else _checked_ns(ack_timeout_s)
        if self._callbacks is not None and self._callbacks.full:
            raise WindowFull("delivery callbacks are behind by a whole window; nothing was accepted")
        if not route.acknowledged:
            settled = self._unacknowledged.send_nowait(message)
            if begun is not None:
                begun.unacknowledged()
            return settled
        receipt = self._handler.try_accept(topic, message.payload, message.extras, route, timeout_ns)
        if receipt is None:
            self._handler.found_no_room()
            statistics = self._handler.statistics()
            raise WindowFull(
                f"{statistics.pending} of {statistics.max_pending} messages and {statistics.pending_bytes} of "
                f"{statistics.max_pending_bytes} bytes are pending, {self._handler.waiting_publishers} others wait; "
                "nothing was accepted"
            )
        if begun is not None:
            begun.accepted(receipt.token)
        if self._strategy is AckStrategy.TASK_PER_MESSAGE:
            self._follow_in_task(receipt)
        return receipt

    def _usual(self, topic: str, payload: bytes) -> Route | None:
        """The route of a message without extras, where nothing about it needs a look (see Publisher); else None.

        A short way for most messages: without it, ``publish`` does the same in more steps.
        """
        if type(topic) is str and self._plain:
            route = self._routes.get(topic)
            if route is not None and route.acknowledged and len(payload) <= self._publisher.unchecked_bytes:
                return route
        return None

    def _checked(
        self,
        topic: str,
        payload: bytes | bytearray | memoryview,
        key: str | None,
        headers: Mapping[str, str] | None,
        message_id: str | None,
        begun: Begun | None,
    ) -> tuple[Message, Begun | None]:
        """The message, with the headers of ``begun`` if there is a trace to go on; or InvalidMessage.

        Where the trace's headers are what is too much, the message goes without them: then there is no trace.
        """
        if begun is not None:
            with contextlib.suppress(InvalidMessage):
                return self._checked(topic, payload, key, begun.headers, message_id, None)[0], begun
        message = Message(topic, payload, key, headers, message_id)
        self._publisher.check(message)
        return message, None

    # ---- the other strategies ----------------------------------------------------------------------------------

    async def _follow(self, receipt: Receipt) -> None:
        if self._strategy is AckStrategy.WAIT_EACH:
            await receipt
        else:
            self._follow_in_task(receipt)

    def _follow_in_task(self, receipt: Receipt) -> None:
        async def follow() -> None:
            await receipt

        task = asyncio.get_running_loop().create_task(follow())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- flush, close, look ------------------------------------------------------------------------------------

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Wait until everything accepted before this call is settled and sends without acks are with the broker.

        Raises FlushTimeout after ``timeout_s`` seconds; nothing is lost by that. Cancelling only stops the waiting.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._handler.drained()
                if self._counters.unacknowledged:
                    await self._publisher.flush()
        except TimeoutError:
            pending = self._handler.statistics().pending
            raise FlushTimeout(f"{pending} messages still pending after {timeout_s:g} s") from None

    async def ping(self, timeout_s: float = 2.0) -> float:
        """How long the broker takes to answer the smallest question, in seconds; of the last message it says nothing.

        Of NATS a PING, of Kafka a question for what it knows, beside the batches. One is under way at a time: another
        waits for its turn. Includes how late this event loop comes to read the answer. Cancelling only stops the
        waiting.

        Raises PingTimeout where there is no answer, or no connection, within ``timeout_s`` seconds; BusClosed.
        """
        if self._closing is not None:
            raise BusClosed("the bus is closed; nobody can be asked")
        try:
            async with asyncio.timeout(timeout_s):
                return await self._publisher.ping()
        except TimeoutError:
            raise PingTimeout(f"{self.url} did not answer within {timeout_s:g} s") from None

    @property
    def broker(self) -> str:
        """What is published to, with its version as far as it tells, for people; empty before it is known."""
        return self._publisher.broker

    def snapshot(self) -> BusSnapshot:
        """The state now. Never waits; costs about 0.1 ms, most of it for the histogram."""
        return self._figures.snapshot()

    async def close(self, timeout_s: float = 30.0) -> CloseReport:
        """Take no more, wait for what is pending, settle the rest by what is known of it, free everything.

        Ends within ``timeout_s`` seconds, also with a dead broker. A second call waits for the first and returns its
        report. Cancelling the wait does not stop the close.
        """
        if not timeout_s >= 0:
            raise ConfigError(f"timeout_s of close is {timeout_s}; use 0 or more seconds")
        if self._closing is None:
            self._unacknowledged.close()
            self._closing = asyncio.get_running_loop().create_task(self._close(timeout_s), name="eventbus close")
        return await asyncio.shield(self._closing)

    async def _close(self, timeout_s: float) -> CloseReport:
        began = time.monotonic()
        reserve_s = min(_LAST_MOMENTS_S, timeout_s / 4)

        def left_s() -> float:
            return max(0.0, timeout_s - (time.monotonic() - began))

        left_unknown, left_unsent, timed_out = await self._handler.close(max(0.0, timeout_s - 2 * reserve_s))
        if self._counters.unacknowledged:
            try:
                async with asyncio.timeout(max(0.0, left_s() - reserve_s)):
                    await self._publisher.flush()
            except TimeoutError:
                timed_out = True
        await self._routing.close()
        if self._callbacks is not None:
            await self._callbacks.close(max(0.0, left_s() - reserve_s))
        await self._publisher.close(max(left_s(), 0.05))
        for task in list(self._tasks):
            task.cancel()
        self._handler.connection_changed(ConnectionState.CLOSED, "the bus was closed")
        self._handler.happened(BusEvent(self._clock.wall_s(), EventKind.CLOSED, "bus closed"))
        if self._telemetry is not None:
            self._telemetry.close()
        await self._on_closed()
        return self._figures.report(left_unknown, left_unsent, time.monotonic() - began, timed_out)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        statistics = self._handler.statistics()
        return f"<EventBus {self.url} {self._handler.connection} pending={statistics.pending}>"


def _checked_ns(ack_timeout_s: float) -> int:
    if not 0 < ack_timeout_s < 1e6:
        raise ConfigError(f"ack_timeout_s is {ack_timeout_s}; use more than 0 and less than 1e6 seconds")
    return int(ack_timeout_s * 1e9)
