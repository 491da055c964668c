"""Entrance: where publishers wait for room in the window, and how they learn that they must.

Invariants
- Free room goes to those who wait, in their order; it is reserved until they run, so nobody else can take it, and
  cancelling one of them in between gives it back.
- While anybody waits and a stall timeout is set, the timer is armed for the first of them, or earlier.
- PAUSED and RESUMED are told in turn, beginning with PAUSED: each once for a full window, however many publishers meet
  it, and RESUMED only once nobody waits and the low mark is reached.

Everything but ``passed`` is synchronous. A part of the ledger: only AckHandler calls it.
"""

from __future__ import annotations

from collections.abc import Callable

from eventbus.ack.room import Place, WaitingRoom
from eventbus.ack.window import InFlightWindow
from eventbus.config import WindowConfig
from eventbus.errors import BusClosed, StallTimeout
from eventbus.event import EventKind


class Entrance:
    """room: who waits. arm: asks for a call of ``refuse_stalled`` at a time. tell: for people."""

    def __init__(
        self,
        room: WaitingRoom,
        window: InFlightWindow,
        config: WindowConfig,
        now_ns: Callable[[], int],
        arm: Callable[[int], None],
        tell: Callable[[EventKind, str], None],
    ) -> None:
        self._room = room
        self._window = window
        self._stall_timeout_ns = None if config.stall_timeout_s is None else int(config.stall_timeout_s * 1e9)
        self._high_water = config.high_water * config.max_pending
        self._low_water = config.low_water * config.max_pending
        self._now_ns = now_ns
        self._arm = arm
        self._tell = tell
        self._paused = False

    async def passed(self, place: Place) -> None:
        """Wait for a turn. When this returns there is room, and it is for who goes on without giving up control.

        Raises StallTimeout or BusClosed. Cancelling gives the place back.
        """
        self._room.join(place)
        self.found_no_room()
        if self._stall_timeout_ns is not None:
            self._arm(place.joined_ns + self._stall_timeout_ns)
        arrived = False
        try:
            await place.future
            arrived = True
        finally:  # refused, cancelled, or given up by a loop that is torn down
            if place.granted:
                self._window.unreserve(place.size)
            if not arrived:
                self._room.leave(place, self._now_ns())
                if place.future.done() and not place.future.cancelled():
                    place.future.exception()  # of two reasons in one turn, the caller hears of the cancellation only
                self._grant()

    def room_changed(self) -> None:
        """Something was accepted or settled: let in who can be, and tell when a mark is crossed."""
        if self._room.queue:
            self._grant()
        pending = len(self._window)
        if self._paused:
            if pending <= self._low_water and not self._room.queue:
                self._paused = False
                self._tell(EventKind.RESUMED, f"{pending} pending, publishers go on")
        elif pending >= self._high_water:
            self.found_no_room()

    def found_no_room(self) -> None:
        """The window is full, or nearly so: tell it once, until it is down to the low mark again."""
        if not self._paused:
            self._paused = True
            statistics = self._window.statistics()
            self._tell(
                EventKind.PAUSED,
                f"window is full or nearly so: {statistics.pending} of {statistics.max_pending} messages, "
                f"{statistics.pending_bytes} of {statistics.max_pending_bytes} bytes pending",
            )

    def _grant(self) -> None:
        """Hand free room to those who wait, in their order; the place is kept for them until they run."""
        while (place := self._room.first()) is not None and self._window.has_room(place.size):
            self._room.leave(place, self._now_ns())
            if not place.future.done():
                self._window.reserve(place.size)
                place.granted = True
                place.future.set_result(None)

    def next_stall_ns(self) -> int | None:
        """When the first who waits will have waited too long; None where nobody can."""
        place = self._room.first()
        return None if place is None or self._stall_timeout_ns is None else place.joined_ns + self._stall_timeout_ns

    def refuse_stalled(self, now_ns: int) -> None:
        """StallTimeout for all who have waited too long."""
        while (due_ns := self.next_stall_ns()) is not None and due_ns <= now_ns:
            statistics = self._window.statistics()
            self._refuse_first(
                StallTimeout(
                    f"no room for {(now_ns - due_ns + (self._stall_timeout_ns or 0)) / 1e9:.3g} s: "
                    f"{statistics.pending} of {statistics.max_pending} messages and {statistics.pending_bytes} of "
                    f"{statistics.max_pending_bytes} bytes are pending; nothing was accepted"
                ),
                now_ns,
            )
            self._grant()  # a large message may have stood before smaller ones that fit

    def refuse_all(self) -> None:
        """BusClosed for everybody who waits."""
        while self._room:
            self._refuse_first(BusClosed("the bus was closed; nothing was accepted"), self._now_ns())

    def _refuse_first(self, error: Exception, now_ns: int) -> None:
        place = self._room.first()
        assert place is not None
        self._room.leave(place, now_ns)
        if not place.future.done():
            place.future.set_exception(error)
