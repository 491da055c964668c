"""WaitingRoom: publishers that wait for room in the window, first come, first served.

Invariants
- A place is in the queue until it is granted, refused or left; it is granted at most once.
- ``stalled_ns`` grows while the queue is not empty: wall time during which somebody had to wait.

Synchronous; a place carries a future only so that its publisher can be woken.
Only the ledger (AckHandler and its parts) changes it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Future


class Place:
    """One waiting publisher: the bytes it needs, since when it waits, and how to wake it."""

    __slots__ = ("future", "granted", "joined_ns", "size")

    def __init__(self, future: Future[None], size: int, joined_ns: int) -> None:
        self.future = future
        self.size = size
        self.joined_ns = joined_ns
        self.granted = False


class WaitingRoom:
    """A FIFO queue from which any place can be taken in constant time.

    ``queue`` is read by the ledger (is it empty?) on its hot path; it changes only through the methods.
    """

    __slots__ = ("_stalled_ns", "_stalled_since_ns", "queue")

    def __init__(self) -> None:
        self.queue: OrderedDict[Place, None] = OrderedDict()
        self._stalled_ns = 0
        self._stalled_since_ns = 0

    def __len__(self) -> int:
        return len(self.queue)

    def stalled_ns(self, now_ns: int) -> int:
        """Total time, up to now, during which somebody waited."""
        return self._stalled_ns + (now_ns - self._stalled_since_ns if self.queue else 0)

    def join(self, place: Place) -> None:
        """Queue up at the end."""
        if not self.queue:
            self._stalled_since_ns = place.joined_ns
        self.queue[place] = None

    def first(self) -> Place | None:
        """Who is next; None where nobody waits."""
        return next(iter(self.queue), None)

    def leave(self, place: Place, now_ns: int) -> None:
        """Out of the queue: granted, refused or cancelled. Nothing happens if it is not in it."""
        if place in self.queue:
            del self.queue[place]
            if not self.queue:
                self._stalled_ns += now_ns - self._stalled_since_ns
