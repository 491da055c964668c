"""AckHandler: the ledger of a bus, and the only file of the core that knows asyncio.

Every message goes in by ``try_accept`` or ``accept`` and out by ``_settle``, the only function that removes a pending
ack: it frees its place, resolves whoever awaits, counts and tells observers. Broker replies, refused sends, passed
deadlines, lost connections and a close all come through ``Attempts`` or ``_acked`` to it.

Its parts, which nobody else calls: attempts.py (when to send, and what a failure leads to), entrance.py (who waits for
room), memory.py (what may still be acked late), drain.py (who waits for an end). They settle and count no outcome.

Invariants, at every instant between two calls
- accepted == acked + rejected + unknown + len(window)
- a pending message is exactly one of: in a lane of the window (ack awaited), in ``_held`` (no connection, or its
  topic is being prepared), or only in the schedule (waiting for its next attempt)
- the one timer is armed for the nearest of all deadlines, wake times and stall timeouts, or earlier

Everything runs on one event loop, so there are no locks. The file is longer than others because accepting, settling
and the time between are one story, and its hot part (try_accept, replied, _acked, _settle) takes no detours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from eventbus.ack.attempts import Attempts
from eventbus.ack.drain import Drain
from eventbus.ack.entrance import Entrance
from eventbus.ack.memory import LateMemory
from eventbus.ack.pending import PendingAck
from eventbus.ack.refusals import TOPICS_KNOWN as _TOPICS_KNOWN
from eventbus.ack.retry import RetryPolicy
from eventbus.ack.room import Place, WaitingRoom
from eventbus.ack.spares import Spares
from eventbus.ack.state import NEXT, AckEvent, AckState
from eventbus.ack.window import InFlightWindow
from eventbus.config import WindowConfig
from eventbus.errors import BusClosed, ErrorClass, ErrorKind, InvalidMessage
from eventbus.event import BusEvent, EventKind
from eventbus.message import Extras
from eventbus.ports import AckBatch, Clock, Failure, Observer, Publisher, Random, Reply, Route, Tally, Witness
from eventbus.report import AckOutcome, DeliveryReport
from eventbus.snapshot import ConnectionState, WindowStatistics

_NEVER_NS = 1 << 62
_IN_FLIGHT = AckState.IN_FLIGHT
"""A name of its own: looking a member up in its enum costs 0.09 us on CPython 3.11."""
_TIMER_GRAIN_NS = 2_000_000
"""A timer never fires sooner than this after it was armed, so that many deadlines in a row become one batch.
Deadlines are met up to this much late."""


class AckHandler:
    """See above. Built by ``connect``; ``publisher`` calls it as its AckSink."""

    def __init__(
        self,
        publisher: Publisher,
        *,
        window: WindowConfig,
        retry: RetryPolicy,
        tally: Tally,
        observer: Observer,
        clock: Clock,
        random: Random,
        id_prefix: str,
        witness: Witness | None = None,
    ) -> None:
        self._witness = witness
        self._publisher = publisher
        self._tally = tally
        self._observer = observer
        self._now_ns = clock.monotonic_ns
        self._wall_s = clock.wall_s
        self.id_prefix = id_prefix
        self._loop = asyncio.get_running_loop()
        self.make_future = self._loop.create_future
        self.reroute: Callable[[str, Route], Route] = lambda name, route: route
        """Asked for another route when nobody took a message, or a route was not ready; set by Routing."""
        self._last_token = 0
        self._connection = ConnectionState.CONNECTING
        self._sending = False  # connected, and the connection takes more
        self._closing = False
        self._window = InFlightWindow(window.max_pending, window.max_pending_bytes)
        self._room = WaitingRoom()
        self._entrance = Entrance(self._room, self._window, window, self._now_ns, self._arm, self._tell)
        self._attempts = Attempts(
            publisher,
            self._window,
            retry,
            tally,
            random,
            sending=lambda: self._sending,
            connected=lambda: self._connection is ConnectionState.CONNECTED,
            reroute=lambda name, route: self.reroute(name, route),
            arm=self._arm,
            settle=self._settle,
        )
        # The same objects and methods under names of this one: the hot functions take no detour to them.
        self._held, self._schedule = self._attempts.held, self._attempts.schedule
        self._hold, self._failed, self._concerned = self._attempts.hold, self._attempts.failed, self._attempts.concerned
        self._acked_topics = self._attempts.refusals.acked
        self._remembered = LateMemory(window.max_pending)
        self._spare = Spares(window.max_pending)
        self._spares = self._spare.stack
        self._drain = Drain()
        self._reports: list[DeliveryReport] = []  # for observers, told at the end of a batch
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ns = _NEVER_NS

    # ---- in ----------------------------------------------------------------------------------------------------

    def try_accept(
        self, topic: str, payload: bytes, extras: Extras | None, route: Route, timeout_ns: int, joined_ns: int = 0
    ) -> PendingAck | None:
        """Take a message into the ledger and send it; None where there is no room, or others wait already.

        joined_ns: of a publisher whose turn has come, when it began to wait.
        """
        if self._closing:
            raise BusClosed("the bus is closed; nothing was accepted")
        size = len(payload) if extras is None else _size(payload, extras)
        window = self._window
        if (self._room.queue and not joined_ns) or window.free < 1 or size > window.free_bytes:
            if size > window.max_bytes:
                raise InvalidMessage(
                    f"message for {topic!r} has {size} bytes with headers, more than max_pending_bytes "
                    f"({window.max_bytes}) can ever hold: raise that setting or send less"
                )
            return None
        now_ns = self._now_ns()
        self._last_token = token = self._last_token + 1
        if self._spares:
            pending = self._spares.pop()
            pending.__init__(token, topic, payload, extras, route, size, timeout_ns, now_ns, self)  # type: ignore[misc]
        else:
            pending = PendingAck(token, topic, payload, extras, route, size, timeout_ns, now_ns, self)
        if joined_ns:
            pending.waited_ns = now_ns - joined_ns
        self._tally.accepted += 1
        if self._sending and route.ready:
            pending.state = _IN_FLIGHT  # what sent() does for a first attempt, inlined since it is hot
            pending.first_sent_ns = pending.sent_ns = now_ns
            pending.attempts = 1
            due_ns = window.admit_sent(pending)
            if due_ns < self._armed_ns:
                self._arm(due_ns)
            self._publisher.send(pending)
        else:
            window.admit(pending)
            self._hold(pending)
        return pending

    async def accept(
        self, topic: str, payload: bytes, extras: Extras | None, route: Route, timeout_ns: int
    ) -> PendingAck:
        """Wait for room in FIFO order, then as ``try_accept``. Cancelling gives the place back: nothing is sent.

        Raises StallTimeout or BusClosed.
        """
        size = len(payload) if extras is None else _size(payload, extras)
        place = Place(self.make_future(), size, self._now_ns())
        await self._entrance.passed(place)
        if not route.ready:  # its preparation may have ended meanwhile
            route = self.reroute(topic, route)
        accepted = self.try_accept(topic, payload, extras, route, timeout_ns, place.joined_ns)
        assert accepted is not None  # the place was kept for it
        return accepted

    # ---- back: AckSink -----------------------------------------------------------------------------------------

    def replied(self, replies: Sequence[Reply]) -> None:
        """Settle, or plan a retry of, everything that ``replies`` speak of. One clock read for all of them."""
        now_ns = self._now_ns()
        for reply in replies:
            if isinstance(reply, AckBatch):
                self._spare.keep(self._acked(reply, now_ns))
            elif reply.topic is not None:
                self._topic_failed(reply, reply.topic, now_ns)
            else:
                self._failed(reply, self._concerned(reply), now_ns)
        self._end_batch()

    def connection_changed(self, state: ConnectionState, reason: str = "", *, in_flight_lost: bool = True) -> None:
        """CONNECTED sends what was held; anything else fails what is in flight as AMBIGUOUS and holds the rest."""
        was_connected = self._connection is ConnectionState.CONNECTED
        self._connection = state
        self._sending = state is ConnectionState.CONNECTED
        now_ns = self._now_ns()
        if self._sending:
            self._attempts.release_held(now_ns)
        elif was_connected and in_flight_lost:
            lost = Failure(ErrorClass.AMBIGUOUS, ErrorKind.DISCONNECTED, reason or "the connection was lost")
            self._failed(lost, self._concerned(lost), now_ns)
        self._end_batch()

    def sending_paused(self, paused: bool) -> None:
        """The connection takes no more: what comes is held, what is in flight stays so. False: what was held goes."""
        self._sending = self._connection is ConnectionState.CONNECTED and not paused
        if self._sending:
            self._attempts.release_held(self._now_ns())
            self._end_batch()

    def happened(self, event: BusEvent) -> None:
        """Tell observers; the log is one of them."""
        self._observer.happened(event)

    def routes_prepared(self, outcomes: Mapping[Route, Route | Failure]) -> None:
        """Messages that wait for a provisional route (a key) go out by the one made, or fail for want of it."""
        self._attempts.routes_prepared(outcomes, self._now_ns())
        self._end_batch()

    def _topic_failed(self, failure: Failure, topic: str, now_ns: int) -> None:
        self._attempts.topic_failed(failure, topic, self._last_token, now_ns)

    def _acked(self, batch: AckBatch, now_ns: int) -> Sequence[PendingAck]:
        """Settle these; returns them. No name here may outlive the call, or one more receipt would seem to be kept."""
        found: Sequence[PendingAck | None] = self._window.find(batch.tokens)
        if not all(found) or len(set(batch.tokens)) < len(batch.tokens):
            batch, found = self._sorted_out(batch, found, now_ns)
        settled = cast(Sequence[PendingAck], found)
        place = (batch.log, batch.partition)
        for pending, offset in zip(settled, batch.offsets, strict=True):
            pending.place = place
            pending.offset = offset
        self._tally.acked_after([now_ns - pending.sent_ns for pending in settled])
        if len(self._acked_topics) < _TOPICS_KNOWN:
            self._acked_topics.update([pending.topic for pending in settled])
        if batch.duplicates:
            for pending in settled:
                if pending.token in batch.duplicates:
                    pending.duplicate = True
                    self._tally.duplicates += 1
        self._settle(settled, AckEvent.ACK, now_ns)
        return settled

    def _sorted_out(
        self, batch: AckBatch, found: Sequence[PendingAck | None], now_ns: int
    ) -> tuple[AckBatch, list[PendingAck]]:
        """The rest of a batch in which some acks are late, of nothing that is known, or a second copy's."""
        rest: dict[int, tuple[int, PendingAck]] = {}
        for token, offset, pending in zip(batch.tokens, batch.offsets, found, strict=True):
            if pending is None:
                self._acked_late(batch, token, offset, now_ns)
            else:
                rest.setdefault(token, (offset, pending))
        offsets = [offset for offset, _ in rest.values()]
        return replace(batch, tokens=list(rest), offsets=offsets), [pending for _, pending in rest.values()]

    def _acked_late(self, batch: AckBatch, token: int, offset: int, now_ns: int) -> None:
        pending = self._remembered.acked(batch, token, offset, now_ns)
        if pending is None:
            return
        self._tally.unknown -= 1
        self._tally.acked += 1
        self._tally.late_acks += 1
        self._tally.duplicates += pending.duplicate
        self._reports.append(_report(pending))
        if self._witness is not None:
            self._witness.acked_late(pending, now_ns)

    # ---- out ---------------------------------------------------------------------------------------------------

    def _settle(self, settled: Sequence[PendingAck], event: AckEvent, now_ns: int) -> None:
        """The one door by which messages leave the ledger."""
        if not settled:
            return
        tell_all = event is not AckEvent.ACK or self._observer.every_outcome
        off_lane = bool(self._held or self._schedule)
        following = NEXT[event]
        for pending in settled:
            if off_lane:
                self._held.pop(pending.token, None)
                self._schedule.drop(pending)
            state = following[pending.state]
            if state is None:
                pending.advance(event)  # raises
            pending.state = state  # type: ignore[assignment]  # what advance() does, inlined, since it is hot
            pending.settled_ns = now_ns
            if pending._waiters is not None:
                pending.wake()
            if tell_all:
                self._reports.append(_report(pending))
        self._window.remove(settled)
        if event is AckEvent.ACK:
            outcome = AckOutcome.ACKED
            self._tally.acked += len(settled)
        elif event is AckEvent.REJECT:
            outcome = AckOutcome.REJECTED
            self._tally.rejected += len(settled)
        else:
            outcome = AckOutcome.UNKNOWN
            self._tally.unknown += len(settled)
        if self._witness is not None:
            self._witness.ended(outcome, settled, now_ns)
        if outcome is AckOutcome.UNKNOWN:
            self._remembered.remember(settled)  # last: they lose payload and headers, the trace context among them

    def _end_batch(self) -> None:
        """After anything that may have freed room: wake publishers, then flushes, then tell observers."""
        self._entrance.room_changed()
        if self._drain.waiting:
            self._drain.wake(self._window.oldest())
        if self._reports:
            reports, self._reports = self._reports, []
            self._observer.settled(reports)

    def found_no_room(self) -> None:
        """A publisher met a full window, or one with others before it: tell it once."""
        self._entrance.found_no_room()

    def _tell(self, kind: EventKind, text: str) -> None:
        self.happened(BusEvent(self._wall_s(), kind, text))

    # ---- time --------------------------------------------------------------------------------------------------

    def _arm(self, at_ns: int) -> None:
        if at_ns < self._armed_ns:
            if self._timer is not None:
                self._timer.cancel()
            self._armed_ns = at_ns
            self._timer = self._loop.call_later(max(at_ns - self._now_ns(), _TIMER_GRAIN_NS) / 1e9, self.on_time)

    def on_time(self) -> None:
        """The timer's work, also called by tests: everything that is due now becomes a reply, a send or a refusal."""
        self._timer = None
        self._armed_ns = _NEVER_NS
        now_ns = self._now_ns()
        overdue = self._window.overdue(now_ns)
        if overdue:
            self._tally.ack_timeouts += len(overdue)
            unsent = self._publisher.withdraw([pending.token for pending in overdue])
            if unsent:
                failure = Failure(ErrorClass.TRANSIENT, ErrorKind.TIMEOUT, "could not be sent in time")
                self._failed(failure, [pending for pending in overdue if pending.token in unsent], now_ns)
                overdue = [pending for pending in overdue if pending.token not in unsent]
            self._failed(Failure(ErrorClass.AMBIGUOUS, ErrorKind.TIMEOUT, "no ack in time"), overdue, now_ns)
        self._attempts.due(now_ns)
        self._end_batch()
        self._entrance.refuse_stalled(now_ns)
        for at_ns in (self._window.next_deadline_ns(), self._schedule.next_ns(), self._entrance.next_stall_ns()):
            if at_ns is not None:
                self._arm(at_ns)

    # ---- readers and the end -----------------------------------------------------------------------------------

    @property
    def connection(self) -> ConnectionState:
        """What the publisher last said of its connection."""
        return self._connection

    @property
    def waiting_publishers(self) -> int:
        """How many publishers wait for room."""
        return len(self._room)

    def stalled_s(self) -> float:
        """Seconds, in all, during which somebody waited for room."""
        return self._room.stalled_ns(self._now_ns()) / 1e9

    def oldest_pending_age_s(self) -> float:
        """Seconds since the oldest pending message was accepted; 0 where none is pending."""
        oldest = self._window.oldest()
        return 0.0 if oldest is None else (self._now_ns() - oldest.accepted_ns) / 1e9

    def statistics(self) -> WindowStatistics:
        """How full the window is."""
        return self._window.statistics()

    async def drained(self) -> None:
        """Wait until everything accepted before this call is settled. Cancelling only stops the waiting."""
        if len(self._window):
            await self._drain.wait(self._last_token, self.make_future())

    async def close(self, timeout_s: float) -> tuple[int, int, bool]:
        """Take no more, wait up to ``timeout_s`` for what is pending, then settle the rest by what is known of it.

        Returns how many were left in doubt, how many had never been sent, and whether the time ran out.
        """
        self._closing = True
        self._entrance.refuse_all()
        try:
            async with asyncio.timeout(timeout_s):
                await self.drained()
        except TimeoutError:
            return (*self._abandon(), True)
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer, self._armed_ns = None, _NEVER_NS
        return 0, 0, False

    def _abandon(self) -> tuple[int, int]:
        now_ns = self._now_ns()
        before = self._tally.unknown, self._tally.rejected
        in_flight = [pending.token for pending in self._window if pending.state is AckState.IN_FLIGHT]
        unsent = self._publisher.withdraw(in_flight)
        for pending in list(self._window):
            sent = pending.state is AckState.IN_FLIGHT and pending.token not in unsent
            in_doubt = pending.doubt or sent
            pending.doubt = in_doubt
            text = "the bus was closed before " + ("an answer came" if in_doubt else "it could be sent")
            self._failed(Failure(ErrorClass.FATAL, ErrorKind.CLOSED, text), [pending], now_ns)
        self._end_batch()
        return self._tally.unknown - before[0], self._tally.rejected - before[1]


def _size(payload: bytes, extras: Extras) -> int:
    """What counts against the window: bytes of payload, and characters of headers as an estimate of their bytes."""
    headers = extras[1] or {}
    return len(payload) + sum(len(name) + len(value) + 4 for name, value in headers.items())


def _report(pending: PendingAck) -> DeliveryReport:
    report = pending.report
    assert report is not None
    return report
