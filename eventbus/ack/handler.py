"""AckHandler: the ledger of a bus, and the only file of the core that knows asyncio.

Every message goes in by ``try_accept`` or ``accept`` and out by ``_settle``, the only function that removes a pending
ack: it frees its place, resolves whoever awaits, counts and tells observers. Broker replies, refused sends, passed
deadlines, lost connections and a close all come through ``_failed`` or ``_acked`` to it.

Invariants, at every instant between two calls
- accepted == acked + rejected + unknown + len(window)
- a pending message is exactly one of: in a lane of the window (ack awaited), in ``_held`` (no connection, or its
  topic is being prepared), or only in the schedule (waiting for its next attempt)
- the one timer is armed for the nearest of all deadlines, wake times and stall timeouts, or earlier

Everything runs on one event loop, so there are no locks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from eventbus.ack.pending import PendingAck
from eventbus.ack.retry import Attempt, RetryAt, RetryPolicy
from eventbus.ack.room import Place, WaitingRoom
from eventbus.ack.schedule import WakeSchedule
from eventbus.ack.state import NEXT, AckEvent, AckState
from eventbus.ack.window import InFlightWindow
from eventbus.config import WindowConfig
from eventbus.errors import BusClosed, ErrorClass, ErrorKind, InvalidMessage, StallTimeout
from eventbus.event import BusEvent, EventKind
from eventbus.message import MessageFields
from eventbus.ports import AckBatch, Clock, Failure, Observer, Publisher, Random, Reply, Route, Tally
from eventbus.report import AckOutcome, DeliveryReport
from eventbus.snapshot import ConnectionState, WindowStatistics

_log = logging.getLogger("eventbus")

_WORRYING = {EventKind.DENIED, EventKind.DISCONNECTED, EventKind.TOPIC_FAILED, EventKind.TOPIC_WARNING}
_NEVER_NS = 1 << 62
_TIMER_GRAIN_NS = 2_000_000
"""A timer never fires sooner than this after it was armed, so that many deadlines in a row become one batch.
Deadlines are met up to this much late."""
_TOPICS_KNOWN = 10_000
"""How many topics are remembered as acked or refused."""
_REMEMBERED = 100_000
"""How many messages settled as UNKNOWN are kept, so that a late ack still finds them; about 1 KB each."""


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
    ) -> None:
        self._wall_s = clock.wall_s
        self._publisher = publisher
        self._window = InFlightWindow(window.max_pending, window.max_pending_bytes)
        self._stall_timeout_ns = None if window.stall_timeout_s is None else int(window.stall_timeout_s * 1e9)
        self._high_water = window.high_water * window.max_pending
        self._low_water = window.low_water * window.max_pending
        self._paused = False
        self._retry = retry
        self._tally = tally
        self._observer = observer
        self._now_ns = clock.monotonic_ns
        self._random = random.random
        self.id_prefix = id_prefix
        self._loop = asyncio.get_running_loop()
        self.make_future = self._loop.create_future
        self.reroute: Callable[[str, Route], Route] = lambda name, route: route
        """Asked for another route when nobody took a message, or a route was not ready; set by Routing."""
        self._last_token = 0
        self._connection = ConnectionState.CONNECTING
        self._connected = False
        self._closing = False
        self._room = WaitingRoom()
        self._schedule = WakeSchedule()
        self._held: dict[int, PendingAck] = {}
        self._remembered: OrderedDict[int, PendingAck] = OrderedDict()
        self._acked_topics: set[str] = set()  # full: any topic may have been acked
        self._refused_topics: dict[str, int] = {}  # topic -> last token when its refusal was first heard
        self._drains: list[tuple[int, asyncio.Future[None]]] = []  # (last token waited for, who waits)
        self._reports: list[DeliveryReport] = []  # for observers, told at the end of a batch
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ns = _NEVER_NS

    # ---- in ----------------------------------------------------------------------------------------------------

    def try_accept(
        self, message: MessageFields, route: Route, timeout_ns: int, joined_ns: int = 0
    ) -> PendingAck | None:
        """Take a message into the ledger and send it; None where there is no room, or others wait already.

        joined_ns: of a publisher whose turn has come, when it began to wait.
        """
        if self._closing:
            raise BusClosed("the bus is closed; nothing was accepted")
        size = len(message[1]) if message[3] is None else _size(message)
        window = self._window
        if (self._room.queue and not joined_ns) or not window.has_room(size):
            if size > window.max_bytes:
                raise InvalidMessage(
                    f"message for {message[0]!r} has {size} bytes with headers, more than max_pending_bytes "
                    f"({window.max_bytes}) can ever hold: raise that setting or send less"
                )
            return None
        now_ns = self._now_ns()
        self._last_token = token = self._last_token + 1
        waited_ns = now_ns - joined_ns if joined_ns else 0
        pending = PendingAck(token, message, route, size, timeout_ns, now_ns, waited_ns, self)
        self._tally.accepted += 1
        if self._connected and route.ready:
            pending.sent(now_ns)
            due_ns = window.admit_sent(pending)
            if due_ns < self._armed_ns:
                self._arm(due_ns)
            self._publisher.send(pending)
        else:
            window.admit(pending)
            self._hold(pending)
        return pending

    async def accept(self, message: MessageFields, route: Route, timeout_ns: int) -> PendingAck:
        """Wait for room in FIFO order, then as ``try_accept``. Cancelling gives the place back: nothing is sent.

        Raises StallTimeout or BusClosed.
        """
        size = _size(message)
        place = Place(self.make_future(), size, self._now_ns())
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
                self._window.unreserve(size)
            if not arrived:
                self._room.leave(place, self._now_ns())
                if place.future.done() and not place.future.cancelled():
                    place.future.exception()  # of two reasons in one turn, the caller hears of the cancellation only
                self._grant()
        if not route.ready:  # its preparation may have ended meanwhile
            route = self.reroute(message[0], route)
        accepted = self.try_accept(message, route, timeout_ns, place.joined_ns)
        assert accepted is not None  # the place was kept for it
        return accepted

    def _hold(self, pending: PendingAck) -> None:
        self._held[pending.token] = pending
        until_ns = self._retry.last_send_ns(self._attempt(pending))
        self._schedule.put(pending, until_ns)
        self._arm(until_ns)

    def _dispatch(self, pending: PendingAck, now_ns: int) -> None:
        """Its time has come, or its connection or route: end it if that is too late, send it, or hold it (again)."""
        if not pending.route.ready:  # its preparation may have ended while the message waited for its next attempt
            pending.route = self.reroute(pending.topic, pending.route)
        if now_ns >= self._retry.last_send_ns(self._attempt(pending)):
            self._expired(pending, now_ns)
        elif self._connected and pending.route.ready:
            if pending.attempts:
                self._tally.retries += 1
            pending.sent(now_ns)
            self._arm(self._window.await_ack(pending))
            self._publisher.send(pending)
        else:
            self._hold(pending)

    def _release_held(self, now_ns: int) -> None:
        held, self._held = self._held, {}
        for pending in held.values():
            self._schedule.drop(pending)
            self._dispatch(pending, now_ns)

    # ---- back: AckSink -----------------------------------------------------------------------------------------

    def replied(self, replies: Sequence[Reply]) -> None:
        """Settle, or plan a retry of, everything that ``replies`` speak of. One clock read for all of them."""
        now_ns = self._now_ns()
        for reply in replies:
            if isinstance(reply, AckBatch):
                self._acked(reply, now_ns)
            elif reply.topic is not None:
                self._topic_failed(reply, reply.topic, now_ns)
            else:
                self._failed(reply, self._concerned(reply), now_ns)
        self._end_batch()

    def connection_changed(self, state: ConnectionState, reason: str = "") -> None:
        """CONNECTED sends what was held; anything else fails what is in flight as AMBIGUOUS and holds the rest."""
        self._connection = state
        now_ns = self._now_ns()
        was_connected, self._connected = self._connected, state is ConnectionState.CONNECTED
        if self._connected:
            self._release_held(now_ns)
        elif was_connected:
            lost = Failure(ErrorClass.AMBIGUOUS, ErrorKind.DISCONNECTED, reason or "the connection was lost")
            self._failed(lost, self._concerned(lost), now_ns)
        self._end_batch()

    def happened(self, event: BusEvent) -> None:
        """Tell observers and the log."""
        _log.log(logging.WARNING if event.kind in _WORRYING else logging.INFO, "%s: %s", event.kind, event.text)
        self._observer.happened(event)

    def routes_prepared(self, outcomes: Mapping[Route, Route | Failure]) -> None:
        """Messages that wait for a provisional route (a key) go out by the one made, or fail for want of it."""
        now_ns = self._now_ns()
        for pending in [pending for pending in self._window if pending.route in outcomes]:
            outcome = outcomes[pending.route]
            if isinstance(outcome, Failure):
                self._failed(outcome, [pending], now_ns)
                continue
            pending.route = outcome
            if self._held.pop(pending.token, None) is not None:
                self._schedule.drop(pending)
                self._dispatch(pending, now_ns)
        self._end_batch()

    def _concerned(self, failure: Failure) -> list[PendingAck]:
        if failure.tokens is not None:
            found = self._window.find(tuple(dict.fromkeys(failure.tokens)))
            return [p for p in found if p is not None and p.state is AckState.IN_FLIGHT]
        return [p for p in self._window if p.state is AckState.IN_FLIGHT]

    def _topic_failed(self, failure: Failure, topic: str, now_ns: int) -> None:
        """The broker refuses a topic, without saying which message: all that is in flight there is concerned.

        Where the topic was acked before, the right to it was taken away meanwhile, and what was sent before we heard
        of it may be stored: that is in doubt. What is accepted afterwards is refused for certain.
        """
        concerned = [p for p in self._window if p.state is AckState.IN_FLIGHT and p.topic == topic]
        if topic in self._acked_topics or len(self._acked_topics) >= _TOPICS_KNOWN:
            if len(self._refused_topics) >= _TOPICS_KNOWN:
                self._refused_topics.clear()
            heard_at = self._refused_topics.setdefault(topic, self._last_token)
            earlier = [p for p in concerned if p.token <= heard_at]
            concerned = [p for p in concerned if p.token > heard_at]
            self._failed(replace(failure, error_class=ErrorClass.AMBIGUOUS), earlier, now_ns)
        self._failed(failure, concerned, now_ns)

    def _acked(self, batch: AckBatch, now_ns: int) -> None:
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
            self._acked_topics.update([pending.message[0] for pending in settled])
        if batch.duplicates:
            for pending in settled:
                pending.duplicate = pending.token in batch.duplicates
                self._tally.duplicates += pending.duplicate
        self._settle(settled, AckEvent.ACK, now_ns)

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
        pending = self._remembered.pop(token, None)
        if pending is None:  # the reply to a second copy of something acked before, or to something of long ago
            return
        pending.advance(AckEvent.ACK)
        pending.place, pending.offset = (batch.log, batch.partition), offset
        pending.duplicate, pending.was_late = token in batch.duplicates, True
        pending.settled_ns = now_ns
        self._tally.unknown -= 1
        self._tally.acked += 1
        self._tally.late_acks += 1
        self._tally.duplicates += pending.duplicate
        self._reports.append(_report(pending))

    def _failed(self, failure: Failure, concerned: Iterable[PendingAck], now_ns: int) -> None:
        """An attempt of each of these failed: repeat it by the policy, or settle."""
        rejected: list[PendingAck] = []
        given_up: list[PendingAck] = []
        for pending in concerned:
            self._tally.error_seen(failure.kind)
            pending.failure = failure
            if failure.error_class is ErrorClass.AMBIGUOUS:
                pending.doubt = True
            decision = self._retry.decide(
                failure.error_class, self._attempt(pending), now_ns, self._random(), failure.min_delay_s
            )
            if isinstance(decision, RetryAt):
                self._window.stop_awaiting(pending)
                pending.advance(AckEvent.RETRY)
                if failure.kind is ErrorKind.NO_RESPONDERS:
                    pending.route = self.reroute(pending.topic, pending.route)
                self._schedule.put(pending, decision.at_ns)
                self._arm(decision.at_ns)
            elif decision.outcome is AckOutcome.REJECTED:
                rejected.append(pending)
            else:
                given_up.append(pending)
        self._settle(rejected, AckEvent.REJECT, now_ns)
        self._settle(given_up, AckEvent.GIVE_UP, now_ns)

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
            self._tally.acked += len(settled)
        elif event is AckEvent.REJECT:
            self._tally.rejected += len(settled)
        else:
            self._tally.unknown += len(settled)
            for pending in settled:
                pending.forget_payload()
                self._remembered[pending.token] = pending
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)

    def _end_batch(self) -> None:
        """After anything that may have freed room: wake publishers, then flushes, then tell observers."""
        if self._room.queue:
            self._grant()
        pending = len(self._window)
        if self._paused:
            if pending <= self._low_water and not self._room.queue:
                self._paused = False
                self.happened(BusEvent(self._wall_s(), EventKind.RESUMED, f"{pending} pending, publishers go on"))
        elif pending >= self._high_water:
            self.found_no_room()
        if self._drains:
            oldest = self._window.oldest()
            for last_token, waiter in self._drains:
                if (oldest is None or oldest.token > last_token) and not waiter.done():
                    waiter.set_result(None)
        if self._reports:
            reports, self._reports = self._reports, []
            self._observer.settled(reports)

    def found_no_room(self) -> None:
        """The window is full, or nearly so: tell it once, until it is down to the low mark again."""
        if not self._paused:
            self._paused = True
            statistics = self._window.statistics()
            text = (
                f"window is full or nearly so: {statistics.pending} of {statistics.max_pending} messages, "
                f"{statistics.pending_bytes} of {statistics.max_pending_bytes} bytes pending"
            )
            self.happened(BusEvent(self._wall_s(), EventKind.PAUSED, text))

    def _grant(self) -> None:
        """Hand free room to those who wait, in their order; the place is kept for them until they run."""
        while (place := self._room.first()) is not None and self._window.has_room(place.size):
            self._room.leave(place, self._now_ns())
            if not place.future.done():
                self._window.reserve(place.size)
                place.granted = True
                place.future.set_result(None)

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
            self._failed(Failure(ErrorClass.AMBIGUOUS, ErrorKind.TIMEOUT, "no ack in time"), overdue, now_ns)
        for pending in self._schedule.due(now_ns):
            self._held.pop(pending.token, None)
            self._dispatch(pending, now_ns)
        self._end_batch()
        self._refuse_stalled(now_ns)
        for at_ns in (self._window.next_deadline_ns(), self._schedule.next_ns(), self._next_stall_ns()):
            if at_ns is not None:
                self._arm(at_ns)

    def _expired(self, pending: PendingAck, now_ns: int) -> None:
        """No attempt may begin any more: what the earlier ones came to is the outcome."""
        if pending.failure is None:
            if pending.route.ready:
                kind, text = ErrorKind.DISCONNECTED, "no connection until the message's lifetime ended"
            else:
                kind, text = ErrorKind.EXPIRED, "its topic was not ready in the message's lifetime"
            pending.failure = Failure(ErrorClass.FATAL, kind, text)
            self._tally.error_seen(kind)
        self._settle([pending], AckEvent.GIVE_UP if pending.doubt else AckEvent.REJECT, now_ns)

    def _attempt(self, pending: PendingAck) -> Attempt:
        return Attempt(
            attempts=pending.attempts,
            doubt=pending.doubt,
            first_sent_ns=pending.first_sent_ns if pending.attempts else 0,
            timeout_ns=pending.timeout_ns,
            expires_ns=pending.accepted_ns + self._retry.lifetime_ns(pending.timeout_ns),
            route=pending.route,
        )

    def _next_stall_ns(self) -> int | None:
        place = self._room.first()
        return None if place is None or self._stall_timeout_ns is None else place.joined_ns + self._stall_timeout_ns

    def _refuse_stalled(self, now_ns: int) -> None:
        while (due_ns := self._next_stall_ns()) is not None and due_ns <= now_ns:
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

    def _refuse_first(self, error: Exception, now_ns: int) -> None:
        place = self._room.first()
        assert place is not None
        self._room.leave(place, now_ns)
        if not place.future.done():
            place.future.set_exception(error)

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
        oldest = self._window.oldest()
        if oldest is None:
            return
        entry = (self._last_token, self.make_future())
        self._drains.append(entry)
        try:
            await entry[1]
        finally:
            self._drains.remove(entry)

    async def close(self, timeout_s: float) -> tuple[int, int, bool]:
        """Take no more, wait up to ``timeout_s`` for what is pending, then settle the rest by what is known of it.

        Returns how many were left in doubt, how many had never been sent, and whether the time ran out.
        """
        self._closing = True
        while self._room:
            self._refuse_first(BusClosed("the bus was closed; nothing was accepted"), self._now_ns())
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
        for pending in list(self._window):
            in_doubt = pending.doubt or pending.state is AckState.IN_FLIGHT
            pending.doubt = in_doubt
            text = "the bus was closed before " + ("an answer came" if in_doubt else "it could be sent")
            self._failed(Failure(ErrorClass.FATAL, ErrorKind.CLOSED, text), [pending], now_ns)
        self._end_batch()
        return self._tally.unknown - before[0], self._tally.rejected - before[1]


def _size(message: MessageFields) -> int:
    """What counts against the window: bytes of payload, and characters of headers as an estimate of their bytes."""
    _, payload, _, headers, _ = message
    return len(payload) + sum(len(name) + len(value) + 4 for name, value in (headers or {}).items())


def _report(pending: PendingAck) -> DeliveryReport:
    report = pending.report
    assert report is not None
    return report
