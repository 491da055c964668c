"""WakeSchedule: when something must be done about messages whose ack is not awaited.

For a message that waits for its next attempt, that is the attempt; for one that is held (no connection, topic not
ready), the end of its lifetime. A heap with lazy deletion: an entry counts only while it is the message's newest, and
the heap is rebuilt when most of it is stale, so it never outgrows the window.
"""

from __future__ import annotations

import heapq

from eventbus.ack.pending import PendingAck


class WakeSchedule:
    """At most one live entry per message. Only the ledger (AckHandler and its parts) changes it."""

    __slots__ = ("_heap", "_live")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, PendingAck]] = []
        self._live: dict[int, int] = {}  # token -> the time that counts

    def __len__(self) -> int:
        return len(self._live)

    def put(self, pending: PendingAck, at_ns: int) -> None:
        """Wake at ``at_ns``; replaces an earlier entry of the same message."""
        self._live[pending.token] = at_ns
        heapq.heappush(self._heap, (at_ns, pending.token, pending))
        if len(self._heap) > 2 * len(self._live) + 64:
            self._heap = [entry for entry in self._heap if self._live.get(entry[1]) == entry[0]]
            heapq.heapify(self._heap)

    def drop(self, pending: PendingAck) -> None:
        """Forget a message, if it is here."""
        if self._live.pop(pending.token, None) is not None and not self._live:
            self._heap.clear()

    def due(self, now_ns: int) -> list[PendingAck]:
        """Take out the messages whose time has come, in the order of their times."""
        found = []
        while self._heap and self._heap[0][0] <= now_ns:
            at_ns, token, pending = heapq.heappop(self._heap)
            if self._live.get(token) == at_ns:
                del self._live[token]
                found.append(pending)
        return found

    def next_ns(self) -> int | None:
        """The nearest time, or None."""
        while self._heap:
            at_ns, token, _ = self._heap[0]
            if self._live.get(token) == at_ns:
                return at_ns
            heapq.heappop(self._heap)
        return None
