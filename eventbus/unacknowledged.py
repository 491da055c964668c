"""UnacknowledgedSends: messages that no broker acknowledges, by core NATS or AckStrategy.IGNORE: sent, and no more.

They never come into the ledger. What bounds them is the backlog of bytes that the network has not taken.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from eventbus.errors import BusClosed, ErrorClass, ErrorKind, WindowFull
from eventbus.message import Message
from eventbus.observe.counters import BusCounters
from eventbus.ports import Failure, Observer, Publisher
from eventbus.receipt import Receipt, SettledReceipt
from eventbus.report import AckOutcome, DeliveryReport
from eventbus.routing import Routing
from eventbus.stall import stall

if TYPE_CHECKING:
    from eventbus.telemetry.witness import BusTelemetry  # OpenTelemetry is an extra

_TURN = 256
"""Messages that are sent before the event loop gets a turn."""


class UnacknowledgedSends:
    """max_backlog_bytes: beyond, sends wait, or are refused. After ``close`` each raises BusClosed."""

    def __init__(
        self,
        publisher: Publisher,
        routing: Routing,
        counters: BusCounters,
        observer: Observer,
        telemetry: BusTelemetry | None,
        *,
        max_backlog_bytes: int,
        stall_timeout_s: float | None,
    ) -> None:
        self._publisher = publisher
        self._routing = routing
        self._counters = counters
        self._observer = observer
        self._telemetry = telemetry
        self._max_backlog_bytes = max_backlog_bytes
        self._stall_timeout_s = stall_timeout_s
        self._burst = 0
        self._closed = False

    async def send(self, message: Message) -> Receipt:
        """Send it once its topic is ready and the network has room. Raises StallTimeout, BusClosed."""
        if not self._routing.find(message.topic).ready:
            await self._routing.settled(message.topic)
        if self._publisher.backlog_bytes > self._max_backlog_bytes:
            await stall(self._publisher.flush, "the network", self._stall_timeout_s)
        self._burst += 1
        if self._burst >= _TURN:
            self._burst = 0
            await asyncio.sleep(0)
        return self._send(message)

    def send_nowait(self, message: Message) -> Receipt:
        """The same without waiting. Raises WindowFull where the network has no room."""
        if self._publisher.backlog_bytes > self._max_backlog_bytes:
            raise WindowFull(f"{self._publisher.backlog_bytes} bytes wait for the network; nothing was accepted")
        return self._send(message)

    def close(self) -> None:
        """Take no more, also of those that wait for the network."""
        self._closed = True

    def _send(self, message: Message) -> Receipt:
        """Counted as ``unacknowledged`` once handed over; else as accepted and rejected: certainly not sent."""
        if self._closed:
            raise BusClosed("the bus was closed meanwhile; nothing was accepted")
        if self._publisher.send_unacknowledged(message):
            self._counters.unacknowledged += 1
            return SettledReceipt(_sent(message))
        self._counters.accepted += 1
        self._counters.rejected += 1
        self._counters.error_seen(ErrorKind.DISCONNECTED)
        report = _not_sent(message)
        if self._telemetry is not None:
            text = report.error_text or ""
            self._telemetry.not_sent(message, Failure(ErrorClass.TRANSIENT, ErrorKind.DISCONNECTED, text))
        self._observer.settled([report])
        return SettledReceipt(report)


def _sent(message: Message) -> DeliveryReport:
    return DeliveryReport(
        message_id=message.message_id or "",
        topic=message.topic,
        outcome=AckOutcome.UNKNOWN,
        attempts=1,
        error_class=ErrorClass.AMBIGUOUS,
        error_kind=ErrorKind.UNACKNOWLEDGED,
        error_text="sent in a way that has no acknowledgement",
    )


def _not_sent(message: Message) -> DeliveryReport:
    return DeliveryReport(
        message_id=message.message_id or "",
        topic=message.topic,
        outcome=AckOutcome.REJECTED,
        attempts=0,
        error_class=ErrorClass.TRANSIENT,
        error_kind=ErrorKind.DISCONNECTED,
        error_text="there is no connection, and a send without acks is not repeated",
    )
