"""BusFigures: how a bus stands, and what it leaves, put together from its parts."""

from __future__ import annotations

from eventbus.ack.handler import AckHandler
from eventbus.observe.counters import BusCounters
from eventbus.ports import Clock
from eventbus.report import CloseReport
from eventbus.routing import Routing
from eventbus.snapshot import BusSnapshot


class BusFigures:
    """Only looks; everything of it belongs to the bus ``bus_id``."""

    def __init__(self, bus_id: str, handler: AckHandler, routing: Routing, counters: BusCounters, clock: Clock) -> None:
        self._bus_id = bus_id
        self._handler = handler
        self._routing = routing
        self._counters = counters
        self._clock = clock

    def snapshot(self) -> BusSnapshot:
        """The state now. Never waits; costs about 0.1 ms, most of it for the histogram."""
        counters, statistics = self._counters, self._handler.statistics()
        return BusSnapshot(
            bus_id=self._bus_id,
            monotonic_s=self._clock.monotonic_ns() / 1e9,
            wall_s=self._clock.wall_s(),
            connection=self._handler.connection,
            accepted=counters.accepted,
            acked=counters.acked,
            duplicates=counters.duplicates,
            late_acks=counters.late_acks,
            rejected=counters.rejected,
            unknown=counters.unknown,
            unacknowledged=counters.unacknowledged,
            ack_timeouts=counters.ack_timeouts,
            retries=counters.retries,
            pending=statistics.pending,
            pending_bytes=statistics.pending_bytes,
            max_pending=statistics.max_pending,
            oldest_pending_age_s=self._handler.oldest_pending_age_s(),
            waiting_publishers=self._handler.waiting_publishers,
            stalled_s_total=self._handler.stalled_s(),
            callback_errors=counters.callback_errors,
            errors=counters.errors(),
            latency=counters.latency(),
            warnings=self._routing.warnings,
        )

    def report(self, left_unknown: int, left_unsent: int, duration_s: float, timed_out: bool) -> CloseReport:
        """What a close leaves; left_unknown, left_unsent: messages that it had to settle itself."""
        counters = self._counters
        return CloseReport(
            accepted=counters.accepted,
            acked=counters.acked,
            duplicates=counters.duplicates,
            late_acks=counters.late_acks,
            rejected=counters.rejected,
            unknown=counters.unknown,
            unacknowledged=counters.unacknowledged,
            left_unknown=min(left_unknown, counters.unknown),  # an ack may have come while the connection was closed
            left_unsent=left_unsent,
            duration_s=duration_s,
            timed_out=timed_out,
        )
