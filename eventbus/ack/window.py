"""InFlightWindow: what is pending, bounded by count and by bytes, and when each ack is due.

Invariants
- pending + reserved <= max_pending, and likewise in bytes, after every call.
- A message is in ``_pending`` from ``admit`` to ``remove``, in this order: oldest first.
- It is in a lane exactly while its ack is awaited. A lane holds all messages with the same ack timeout, in the order
  in which they were sent, so its first entry has the nearest deadline: no heap, no timer per message.

Synchronous, and without a clock of its own. Only the ledger (AckHandler and its parts) changes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eventbus.ack.pending import PendingAck
from eventbus.snapshot import WindowStatistics


class InFlightWindow:
    """Room for ``max_pending`` messages and ``max_pending_bytes`` bytes of payload and headers."""

    __slots__ = ("_lanes", "_max_bytes", "_max_pending", "_pending", "free", "free_bytes")

    def __init__(self, max_pending: int, max_pending_bytes: int) -> None:
        self._max_pending = max_pending
        self._max_bytes = max_pending_bytes
        self._pending: dict[int, PendingAck] = {}
        self.free = max_pending
        """Messages for which there is room; as ``free_bytes``, less what is reserved. Read only."""
        self.free_bytes = max_pending_bytes
        self._lanes: dict[int, dict[int, PendingAck]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[PendingAck]:
        """All that is pending, oldest first; do not change the window meanwhile."""
        return iter(self._pending.values())

    def get(self, token: int) -> PendingAck | None:
        """The pending message with that token, or None."""
        return self._pending.get(token)

    def find(self, tokens: Sequence[int]) -> list[PendingAck | None]:
        """The same for many tokens at once, in their order."""
        return list(map(self._pending.get, tokens))

    @property
    def max_bytes(self) -> int:
        """The largest message that can ever be admitted."""
        return self._max_bytes

    def has_room(self, size: int) -> bool:
        """True where a message of ``size`` bytes can be admitted or reserved now."""
        return self.free > 0 and size <= self.free_bytes

    def reserve(self, size: int) -> None:
        """Keep a place for a message of ``size`` bytes whose publisher is about to be woken."""
        assert self.has_room(size)
        self.free -= 1
        self.free_bytes -= size

    def unreserve(self, size: int) -> None:
        """Give a kept place back, or turn it into an admission that follows at once."""
        assert self.free + len(self._pending) < self._max_pending
        self.free += 1
        self.free_bytes += size

    def admit(self, pending: PendingAck) -> None:
        """Take a message in. The caller asked ``has_room`` before."""
        self._pending[pending.token] = pending
        self.free -= 1
        self.free_bytes -= pending.size

    def admit_sent(self, pending: PendingAck) -> int:
        """``admit`` and ``await_ack`` in one, for a message that is sent at once."""
        token, timeout_ns = pending.token, pending.timeout_ns
        self._pending[token] = pending
        self.free -= 1
        self.free_bytes -= pending.size
        lane = self._lanes.get(timeout_ns)
        if lane is None:
            lane = self._lanes[timeout_ns] = {}
        lane[token] = pending
        return pending.sent_ns + timeout_ns

    def await_ack(self, pending: PendingAck) -> int:
        """An attempt was sent: its ack is due ``timeout_ns`` after ``sent_ns``. Returns that deadline."""
        timeout_ns = pending.timeout_ns
        lane = self._lanes.get(timeout_ns)
        if lane is None:
            lane = self._lanes[timeout_ns] = {}
        lane[pending.token] = pending
        return pending.sent_ns + timeout_ns

    def stop_awaiting(self, pending: PendingAck) -> None:
        """The attempt ended without an ack; the message stays pending."""
        lane = self._lanes[pending.timeout_ns]
        del lane[pending.token]
        if not lane:
            self._drop_lane(pending.timeout_ns)

    def remove(self, settled: Sequence[PendingAck]) -> None:
        """These are settled: free their places."""
        everything, lanes = self._pending, self._lanes
        freed = 0
        timeout_ns, lane = -1, None
        for pending in settled:
            token = pending.token
            del everything[token]
            freed += pending.size
            if pending.timeout_ns != timeout_ns or not lane:
                timeout_ns = pending.timeout_ns
                lane = lanes.get(timeout_ns)
            if lane is not None and lane.pop(token, None) is not None and not lane:
                self._drop_lane(pending.timeout_ns)
        self.free += len(settled)
        self.free_bytes += freed

    def _drop_lane(self, timeout_ns: int) -> None:
        if len(self._lanes) > 1:  # the usual lane stays; per-message timeouts must not leave theirs behind
            del self._lanes[timeout_ns]

    def overdue(self, now_ns: int) -> list[PendingAck]:
        """Messages whose ack is due at or before ``now_ns``; they stay where they are."""
        found = []
        for lane in self._lanes.values():
            for pending in lane.values():
                if pending.deadline_ns > now_ns:
                    break
                found.append(pending)
        return found

    def next_deadline_ns(self) -> int | None:
        """The nearest ack deadline, or None while no ack is awaited."""
        return min((next(iter(lane.values())).deadline_ns for lane in self._lanes.values() if lane), default=None)

    def oldest(self) -> PendingAck | None:
        """The message that is pending for the longest time, or None."""
        return next(iter(self._pending.values()), None)

    def statistics(self) -> WindowStatistics:
        """A frozen picture. Reserved places count: they cannot be had by anybody else."""
        return WindowStatistics(
            pending=len(self._pending),
            pending_bytes=self._max_bytes - self.free_bytes,
            max_pending=self._max_pending,
            max_pending_bytes=self._max_bytes,
        )
