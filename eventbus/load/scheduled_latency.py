"""ScheduledLatency: how long messages took from the time that the schedule had for them, not from when they were sent.

A load that cannot send while its broker stands still measures only the few messages that were under way, and leaves
out all that should have gone out meanwhile ("coordinated omission"). From its scheduled time, each of those shows the
wait.
"""

from __future__ import annotations

from collections.abc import Sequence

from eventbus.latency import LatencyCounter, LatencyHistogram
from eventbus.ports import Ended
from eventbus.report import AckOutcome

WINDOWS_REMEMBERED = 4
"""How many full windows of UNKNOWN messages are kept for a late ack; as the ledger does."""


class ScheduledLatency:
    """Implements ports.Witness: counts the latency of acked messages, late acks as well, since its beginning.

    max_pending: of the bus's window; with it memory is bounded, at some 150 bytes for each message that is pending.
    An entry leaves with its message's outcome. Lives on the bus's event loop.
    """

    def __init__(self, max_pending: int) -> None:
        self._counter = LatencyCounter()
        self._max_pending = max_pending
        self._scheduled: dict[int, int] = {}
        self._unknown: dict[int, int] = {}

    def sent(self, tokens: Sequence[int], scheduled_ns: Sequence[int]) -> None:
        """These were accepted in this turn of the loop, with these scheduled times. 0 is no message's token."""
        self._scheduled.update(zip(tokens, scheduled_ns, strict=False))
        self._scheduled.pop(0, None)
        _bound(self._scheduled, self._max_pending)

    def acked(self, latency_ns: int) -> None:
        """One whose outcome came before ``sent`` could be called was acked, so long after its scheduled time."""
        self._counter.add((latency_ns,))

    def ended(self, outcome: AckOutcome, settled: Sequence[Ended], now_ns: int) -> None:
        """See ports.Witness; messages that were never told to ``sent`` are left out."""
        take, nothing = self._scheduled.pop, now_ns + 1
        if outcome is AckOutcome.ACKED:
            latencies_ns = [now_ns - take(pending.token, nothing) for pending in settled]
            if min(latencies_ns) < 0:
                latencies_ns = [ns for ns in latencies_ns if ns >= 0]
            self._counter.add(latencies_ns)
            return
        ended = {pending.token: take(pending.token, nothing) for pending in settled}
        if outcome is AckOutcome.UNKNOWN:
            self._unknown.update((token, ns) for token, ns in ended.items() if ns != nothing)
            _bound(self._unknown, WINDOWS_REMEMBERED * self._max_pending)

    def acked_late(self, pending: Ended, now_ns: int) -> None:
        """See ports.Witness."""
        scheduled_ns = self._unknown.pop(pending.token, None)
        if scheduled_ns is not None:
            self._counter.add((now_ns - scheduled_ns,))

    def histogram(self) -> LatencyHistogram:
        """What was counted so far. Costs about 0.1 ms."""
        return self._counter.histogram()


def _bound(entries: dict[int, int], most: int) -> None:
    """Let the oldest go: what should have left and did not."""
    while len(entries) > most:
        del entries[next(iter(entries))]
