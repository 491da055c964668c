"""The ledger under every order of events that hypothesis can think of, in virtual time with a scripted publisher."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from eventbus.ack.handler import AckHandler
from eventbus.ack.pending import PendingAck
from eventbus.ack.retry import RetryPolicy
from eventbus.ack.state import AckState
from eventbus.config import WindowConfig
from eventbus.errors import BusClosed, ErrorClass, ErrorKind, InvalidMessage, StallTimeout
from eventbus.message import Extras
from eventbus.observe.counters import BusCounters
from eventbus.ports import AckBatch, Failure, Outgoing, Reply, Route
from eventbus.report import AckOutcome, DeliveryReport, Position
from eventbus.snapshot import ConnectionState
from tests.fakes import MS, Bench, FakeClock, Recorder, ScriptedPublisher, VirtualLoop, route

GRAIN_NS = 3 * MS  # timers fire up to 2 ms late, see ack/handler.py
STEP_NS = 40 * MS  # how long time passes here between two turns of the loop
FAILURES = [
    (ErrorClass.TRANSIENT, ErrorKind.OVERLOADED, 0.0),
    (ErrorClass.TRANSIENT, ErrorKind.STREAM_FULL, 1.0),
    (ErrorClass.TRANSIENT, ErrorKind.NO_RESPONDERS, 0.25),
    (ErrorClass.AMBIGUOUS, ErrorKind.PROTOCOL, 0.0),
    (ErrorClass.FATAL, ErrorKind.INVALID, 0.0),
]
TIMEOUTS_S = (0.2, 1.0)


@dataclass
class Known:
    """What the test itself knows of a message."""

    pending: PendingAck
    accepted_ns: int
    sends: list[int] = field(default_factory=list)
    outstanding: bool = False  # the last attempt was sent, and no answer to it came
    doubt: bool = False
    acked: bool = False
    reports: list[DeliveryReport] = field(default_factory=list)


class LedgerMachine(RuleBasedStateMachine):
    """Accepts, answers, breaks, waits, cancels and closes; compares the ledger with what must be true."""

    @initialize(
        max_pending=st.integers(1, 5),
        max_bytes=st.integers(8, 40),
        max_attempts=st.integers(1, 4),
        base_s=st.sampled_from([0.0, 0.1, 0.5]),
        stall_s=st.sampled_from([None, 0.7]),
        window_s=st.sampled_from([0.5, 2.0, 120.0]),
        seed=st.integers(0, 1000),
        connected=st.sampled_from([True, True, True, False]),
    )
    def begin(
        self,
        max_pending: int,
        max_bytes: int,
        max_attempts: int,
        base_s: float,
        stall_s: float | None,
        window_s: float,
        seed: int,
        connected: bool,
    ) -> None:
        self.clock = FakeClock()
        self.loop = VirtualLoop(self.clock)
        self.publisher = ScriptedPublisher()
        self.publisher.on_send = self.saw_send
        self.policy = RetryPolicy(max_attempts=max_attempts, base_delay_s=base_s, max_delay_s=1.0)
        self.config = WindowConfig(max_pending, max_bytes, stall_s)
        self.counters = BusCounters()
        self.observer = Recorder()
        self.handler: AckHandler = self.within(self.build(seed))
        self.handler.reroute = self.reroute
        self.window = self.handler._window
        self.duplicate_window_s = window_s
        self.routes = {
            "dedup": route("dedup", window_s=window_s),
            "plain": route("plain", deduplicates=False, window_s=0.0),
            "twice": route("twice", deduplicates=False, window_s=0.0, allow_duplicates=True),
            "new": self.provisional(),
        }
        self.known: dict[int, Known] = {}
        self.read = 0  # reports of the observer that were looked at
        self.serial = 0
        self.waiting: list[tuple[int, asyncio.Task[Exception | None]]] = []  # in the order in which they began to wait
        self.accepted_waiters: list[tuple[int, int]] = []  # (order of waiting, token)
        self.granted_serials: set[int] = set()
        self.awaiting: list[tuple[int, asyncio.Task[DeliveryReport]]] = []
        self.drains: list[tuple[int, asyncio.Task[None]]] = []
        self.refusal: tuple[ErrorClass, ErrorKind, float] | None = None
        self.closed = False
        self.blocked = False
        self.wrong: list[str] = []
        if connected:
            self.connect()

    async def build(self, seed: int) -> AckHandler:
        return AckHandler(
            self.publisher,
            window=self.config,
            retry=self.policy,
            tally=self.counters,
            observer=self.observer,
            clock=self.clock,
            random=random.Random(seed),
            id_prefix="bus-",
        )

    def turns(self, number: int) -> None:
        """Let the loop run; whatever is overdue after a blockage is worked off in the first turn."""
        if number:
            self.blocked = False
            self.loop.turns(number)

    def within(self, coroutine: Any) -> Any:
        task = self.loop.create_task(coroutine)
        self.turns(1)
        return task.result()

    def provisional(self) -> Route:
        return route("new", window_s=self.duplicate_window_s, ready=False)

    def reroute(self, name: str, old: Route) -> Route:
        """As Routing does it: one new preparation for all who ask because of the same route."""
        if name == "new" and self.routes["new"] is old and old.ready:
            self.routes["new"] = self.provisional()
        return self.routes[name]

    # ---- what the publisher sees -------------------------------------------------------------------------------

    def saw_send(self, outgoing: Outgoing) -> None:
        assert isinstance(outgoing, PendingAck)
        known = self.known.setdefault(outgoing.token, Known(outgoing, self.clock.now_ns))
        now_ns = self.clock.now_ns
        self.learn_doubt(known)
        what = f"token {outgoing.token}, attempt {len(known.sends) + 1}"
        if outgoing.state is not AckState.IN_FLIGHT or known.acked or known.reports:
            self.wrong.append(f"{what} sent in state {outgoing.state.name}")
        if not outgoing.route.ready or self.handler.connection is not ConnectionState.CONNECTED:
            self.wrong.append(f"{what} sent without a connection or a route")
        if known.doubt and not outgoing.route.topic.allow_duplicates:
            if not outgoing.route.deduplicates:
                self.wrong.append(f"{what} is in doubt and was sent again to a broker that does not deduplicate")
            elif now_ns > known.sends[0] + outgoing.route.duplicate_window_s * 1e9 - outgoing.timeout_ns:
                self.wrong.append(f"{what} is in doubt and was sent again too late for the duplicate window")
        if now_ns > known.accepted_ns + self.policy.lifetime_ns(outgoing.timeout_ns):
            self.wrong.append(f"{what} was sent after its lifetime")
        known.sends.append(now_ns)
        known.outstanding = True
        if len(known.sends) > self.policy.max_attempts:
            self.wrong.append(f"{what}: more attempts than allowed")
        if self.refusal is not None:
            (error_class, kind, delay_s), self.refusal = self.refusal, None
            known.doubt = known.doubt or error_class is ErrorClass.AMBIGUOUS
            known.outstanding = False
            self.handler.replied(
                [Failure(error_class, kind, "refused at once", (outgoing.token,), min_delay_s=delay_s)]
            )

    # ---- rules: in ---------------------------------------------------------------------------------------------

    def message(self, topic: str, size: int) -> tuple[str, bytes, Extras | None]:
        self.serial += 1
        return topic, b"x" * size, (None, None, f"m{self.serial}")

    def note(self, pending: PendingAck) -> None:
        self.known.setdefault(pending.token, Known(pending, self.clock.now_ns))

    TOPICS = st.sampled_from(["dedup", "dedup", "plain", "twice", "new"])
    SIZES = st.sampled_from([0, 1, 3, 8, 20])
    TIMEOUTS = st.sampled_from(TIMEOUTS_S)

    @rule(topic=TOPICS, size=SIZES, timeout_s=TIMEOUTS)
    def accept_nowait(self, topic: str, size: int, timeout_s: float) -> None:
        others_wait = self.handler.waiting_publishers > 0
        room = self.window.has_room(size)
        try:
            pending = self.handler.try_accept(*self.message(topic, size), self.routes[topic], int(timeout_s * 1e9))
        except BusClosed:
            assert self.closed
            return
        except InvalidMessage:
            assert size > self.config.max_pending_bytes
            return
        assert not self.closed
        assert (pending is not None) == (room and not others_wait), "room is given exactly where nobody else waits"
        if pending is not None:
            self.note(pending)

    @precondition(lambda self: not self.closed and len(self.waiting) < 6)
    @rule(topic=TOPICS, sizes=st.lists(SIZES, min_size=1, max_size=6), timeout_s=TIMEOUTS, turns=st.integers(0, 2))
    def crowd(self, topic: str, sizes: list[int], timeout_s: float, turns: int) -> None:
        """Several publishers at once: some find room, the others wait."""
        for size in sizes:
            self.publish(topic, min(size, self.config.max_pending_bytes), timeout_s)
        self.turns(1)
        self.turns(turns)

    def publish(self, topic: str, size: int, timeout_s: float) -> None:
        message, timeout_ns = self.message(topic, size), int(timeout_s * 1e9)
        serial = self.serial

        async def publish() -> Exception | None:
            """As EventBus does it, without a turn of the loop between the two."""
            try:
                pending = self.handler.try_accept(*message, self.routes[topic], timeout_ns)
                if pending is not None:
                    self.note(pending)
                    return None
                pending = await self.handler.accept(*message, self.routes[topic], timeout_ns)
            except (StallTimeout, BusClosed) as error:
                return error
            self.note(pending)
            self.accepted_waiters.append((serial, pending.token))
            return None

        self.waiting.append((serial, self.loop.create_task(publish())))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), turns=st.integers(0, 2))
    def cancel_waiting(self, data: st.DataObject, turns: int) -> None:
        _, task = data.draw(st.sampled_from(self.waiting))
        task.cancel()
        self.turns(turns)

    @precondition(lambda self: self.waiting and self.tokens(AckState.IN_FLIGHT))
    @rule(data=st.data(), turns=st.integers(0, 2))
    def grant_and_cancel_in_one_turn(self, data: st.DataObject, turns: int) -> None:
        token = data.draw(st.sampled_from(self.tokens(AckState.IN_FLIGHT)))
        _, task = data.draw(st.sampled_from(self.waiting[:2]))
        self.deliver([AckBatch("S", (token,), (token + 1000,))])
        task.cancel()
        self.turns(turns)

    # ---- rules: back -------------------------------------------------------------------------------------------

    def tokens(self, *states: AckState) -> list[int]:
        return [t for t, k in self.known.items() if k.pending.state in states]

    def remembered(self) -> set[str]:
        """Ids of the messages that a late ack must find: of those told as UNKNOWN, the newest four windows."""
        newest: list[str] = []
        for report in self.observer.reports:
            if report.outcome is AckOutcome.UNKNOWN:
                newest = [*newest, report.message_id][-4 * self.config.max_pending :]
            elif report.late:
                newest.remove(report.message_id)
        return set(newest)

    def deliver(self, replies: list[Reply]) -> None:
        """What becomes known by these replies, then the replies."""
        in_flight = set(self.tokens(AckState.IN_FLIGHT))
        remembered = self.remembered()
        for reply in replies:
            if isinstance(reply, AckBatch):
                acked = {t for t in reply.tokens if t in self.known and self.known[t].sends}
                for token in acked:
                    pending = self.known[token].pending
                    found = not pending.settled or pending.message_id in remembered
                    self.known[token].acked |= found
                in_flight -= acked
            else:
                concerned = in_flight if reply.tokens is None else in_flight.intersection(reply.tokens)
                if reply.topic is not None:
                    concerned = {t for t in concerned if self.known[t].pending.topic == reply.topic}
                for token in concerned:
                    self.known[token].doubt |= reply.error_class is ErrorClass.AMBIGUOUS
                    self.known[token].outstanding = False
                in_flight -= concerned
        self.handler.replied(replies)

    @rule(data=st.data(), turns=st.integers(0, 2))
    def acks(self, data: st.DataObject, turns: int) -> None:
        """Acks for any messages that were ever sent: fresh, repeated, late, and of tokens that nobody knows."""
        sent = [t for t, k in self.known.items() if k.sends]
        batches: list[Reply] = []
        for _ in range(data.draw(st.integers(1, 2))):
            tokens = data.draw(st.lists(st.sampled_from([*sent, 0, 10**9]), max_size=6))
            duplicates = data.draw(st.frozensets(st.sampled_from(tokens))) if tokens else frozenset()
            batches.append(AckBatch("S", tokens, [t + 1000 for t in tokens], duplicates))
        self.deliver(batches)
        self.turns(turns)

    @rule(data=st.data(), how=st.sampled_from(FAILURES), turns=st.integers(0, 2))
    def fails(self, data: st.DataObject, how: tuple[ErrorClass, ErrorKind, float], turns: int) -> None:
        """Failures of any messages, also of those that no failure can concern any more."""
        tokens = data.draw(st.lists(st.sampled_from([*self.known, 10**9]), max_size=5, unique=True))
        error_class, kind, delay_s = how
        self.deliver([Failure(error_class, kind, "refused", tokens, min_delay_s=delay_s)])
        self.turns(turns)

    @rule(topic=TOPICS, how=st.sampled_from(FAILURES))
    def whole_topic_fails(self, topic: str, how: tuple[ErrorClass, ErrorKind, float]) -> None:
        self.deliver([Failure(how[0], how[1], "denied", topic=topic, min_delay_s=how[2])])

    @rule(how=st.sampled_from(FAILURES))
    def next_send_is_refused_at_once(self, how: tuple[ErrorClass, ErrorKind, float]) -> None:
        self.refusal = how

    # ---- rules: connection and routes --------------------------------------------------------------------------

    @rule()
    def connect(self) -> None:
        self.handler.connection_changed(ConnectionState.CONNECTED)

    @rule(state=st.sampled_from([ConnectionState.RECONNECTING, ConnectionState.DENIED]), turns=st.integers(0, 1))
    def disconnect(self, state: ConnectionState, turns: int) -> None:
        if self.handler.connection is ConnectionState.CONNECTED:
            for token in self.tokens(AckState.IN_FLIGHT):
                self.known[token].doubt = True
        self.handler.connection_changed(state, "gone")
        self.turns(turns)

    @rule(ready=st.booleans())
    def route_is_prepared(self, ready: bool) -> None:
        provisional = self.routes["new"]
        if provisional.ready:
            self.routes["new"] = self.provisional()
            return
        outcome: Route | Failure = Failure(ErrorClass.FATAL, ErrorKind.NO_STREAM, "not allowed")
        self.routes["new"] = self.provisional()
        if ready:
            self.routes["new"] = outcome = route("new", window_s=self.duplicate_window_s)
        self.handler.routes_prepared({provisional: outcome})

    # ---- rules: time -------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.001, 0.01, 0.19, 0.25, 0.5, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        """In steps in which every timer gets its turn."""
        left_ns = int(seconds * 1e9)
        while left_ns > 0:
            step_ns = min(left_ns, STEP_NS)
            left_ns -= step_ns
            self.clock.now_ns += step_ns
            self.doubt_overdue()
            self.turns(3)

    @rule(seconds=st.sampled_from([0.3, 0.6, 1.7, 3.0, 30.0]))
    def loop_is_blocked(self, seconds: float) -> None:
        """Time passes, and what runs next need not be the timer."""
        self.clock.advance(seconds)
        self.blocked = True

    def doubt_overdue(self) -> None:
        for known in self.known.values():
            pending = known.pending
            if pending.state is AckState.IN_FLIGHT and known.sends[-1] + pending.timeout_ns <= self.clock.now_ns:
                known.doubt = True

    def learn_doubt(self, known: Known) -> None:
        """Doubt that the ledger itself found (a deadline passed); sticky here, whatever the ledger says later."""
        failure = known.pending.failure
        if failure is not None and failure.error_class is ErrorClass.AMBIGUOUS:
            known.doubt = True

    @rule()
    def timer_comes_early(self) -> None:
        self.doubt_overdue()
        self.handler.on_time()

    @rule(turns=st.integers(1, 3))
    def loop_turns(self, turns: int) -> None:
        self.turns(turns)

    # ---- rules: whoever waits for an end -----------------------------------------------------------------------

    @precondition(lambda self: self.known)
    @rule(data=st.data(), cancel=st.booleans())
    def await_receipt(self, data: st.DataObject, cancel: bool) -> None:
        token = data.draw(st.sampled_from(sorted(self.known)))

        async def wait() -> DeliveryReport:
            return await self.known[token].pending

        task = self.loop.create_task(wait())
        self.turns(1)
        if cancel:
            task.cancel()
            self.turns(1)
        else:
            self.awaiting.append((token, task))

    @precondition(lambda self: len(self.drains) < 4)
    @rule(cancel=st.booleans())
    def flush(self, cancel: bool) -> None:
        begun: list[int] = []

        async def drain() -> None:
            begun.append(max(self.known, default=0))  # others may be accepted before it runs
            await self.handler.drained()

        task = self.loop.create_task(drain())
        self.turns(1)
        if cancel:
            task.cancel()
            self.turns(2)
        else:
            self.drains.append((begun[0], task))

    @precondition(lambda self: not self.closed and len(self.known) > 6)
    @rule(timeout_s=st.sampled_from([0.0, 0.0, 0.3]))
    def close(self, timeout_s: float) -> None:
        self.turns(2)
        self.closed = True
        closing = self.loop.create_task(self.handler.close(timeout_s))
        self.turns(1)
        passed_ns, before = 0, Counter(k.pending.state for k in self.known.values())
        while not closing.done() and passed_ns <= timeout_s * 1e9 + GRAIN_NS:
            self.doubt_overdue()
            self.turns(4)
            if not closing.done():
                self.clock.now_ns += 10 * MS
                passed_ns += 10 * MS
        left_unknown, left_unsent, timed_out = closing.result()
        assert len(self.window) == 0, "nothing is pending after a close"
        after = Counter(k.pending.state for k in self.known.values())
        if timed_out and timeout_s == 0.0:
            assert left_unknown == after[AckState.UNKNOWN] - before[AckState.UNKNOWN]
            assert left_unsent == after[AckState.REJECTED] - before[AckState.REJECTED]
        self.turns(3)
        assert all(task.done() for _, task in self.waiting), "a close leaves nobody waiting for room"

    # ---- what must be true -------------------------------------------------------------------------------------

    @invariant()
    def accounts_balance(self) -> None:
        counters = self.counters
        settled = counters.acked + counters.rejected + counters.unknown
        assert counters.accepted == settled + len(self.window)
        assert counters.accepted == len(self.known)

    @invariant()
    def bounds_hold(self) -> None:
        window = self.window
        reserved = self.config.max_pending - window.free - len(window)
        used_bytes = self.config.max_pending_bytes - window.free_bytes
        assert 0 <= len(window) + reserved <= self.config.max_pending
        assert 0 <= used_bytes <= self.config.max_pending_bytes
        assert reserved >= 0
        if reserved == 0:
            assert used_bytes == sum(p.size for p in window)

    @invariant()
    def every_pending_message_is_in_exactly_one_place(self) -> None:
        handler = self.handler
        lanes = [token for lane in self.window._lanes.values() for token in lane]
        scheduled, held = set(handler._schedule._live), set(handler._held)
        assert len(lanes) == len(set(lanes))
        assert len(self.window._lanes) <= 1 + len(TIMEOUTS_S)
        everything = {p.token for p in self.window}
        assert set(lanes) | scheduled | held == everything, "nothing is forgotten and nothing is left over"
        for pending in self.window:
            token = pending.token
            if pending.state is AckState.IN_FLIGHT:
                assert token in lanes
                assert token not in scheduled
                assert token not in held
            else:
                assert pending.state in (AckState.QUEUED, AckState.WAITING)
                assert token in scheduled
                assert token not in lanes
                assert token in held or pending.state is AckState.WAITING
        assert all(p.state is AckState.UNKNOWN for p in handler._remembered)
        assert {p.message_id for p in handler._remembered} == self.remembered()

    @invariant()
    def no_message_waits_for_a_preparation_that_has_ended(self) -> None:
        assert all(pending.route.ready or pending.route is self.routes["new"] for pending in self.window)

    @invariant()
    def timer_is_armed(self) -> None:
        handler = self.handler
        times = (self.window.next_deadline_ns(), handler._schedule.next_ns(), handler._entrance.next_stall_ns())
        nearest = min((t for t in times if t is not None), default=None)
        if nearest is not None:
            assert handler._timer is not None
            assert handler._armed_ns <= nearest
            when_ns = handler._timer.when() * 1e9
            assert when_ns <= max(nearest, self.clock.now_ns) + GRAIN_NS
            assert self.blocked or nearest > self.clock.now_ns - GRAIN_NS, "nothing stays overdue"

    @invariant()
    def every_message_ends_once_and_truly(self) -> None:
        assert not self.wrong
        for report in self.observer.reports[self.read :]:
            known = next(k for k in self.known.values() if k.pending.message_id == report.message_id)
            known.reports.append(report)
        self.read = len(self.observer.reports)
        for known in self.known.values():
            self.learn_doubt(known)
        outcomes: Counter[AckOutcome] = Counter()
        duplicates = late = 0
        for token, known in self.known.items():
            reports, pending = known.reports, known.pending
            assert len(reports) <= 2
            if len(reports) == 2:
                assert reports[0].outcome is AckOutcome.UNKNOWN
                assert reports[1].outcome is AckOutcome.ACKED
                assert reports[1].late
                late += 1
            assert pending.settled == bool(reports)
            if not reports:
                assert not known.acked
                continue
            last = reports[-1]
            assert pending.report == last, "a receipt tells what observers were told"
            outcomes[last.outcome] += 1
            duplicates += last.duplicate
            assert last.attempts == len(known.sends)
            assert (last.outcome is AckOutcome.ACKED) == known.acked
            if last.outcome is AckOutcome.REJECTED:
                assert not known.doubt, "REJECTED only where no attempt was in doubt"
                assert not known.outstanding
            elif last.outcome is AckOutcome.UNKNOWN:
                assert known.doubt or known.outstanding, "UNKNOWN only where some attempt was in doubt"
            else:
                assert last.position is not None
                assert last.position.offset == token + 1000
        counters = self.counters
        assert counters.acked == outcomes[AckOutcome.ACKED]
        assert counters.rejected == outcomes[AckOutcome.REJECTED]
        assert counters.unknown == outcomes[AckOutcome.UNKNOWN]
        assert counters.duplicates == duplicates
        assert counters.late_acks == late
        assert counters.retries == sum(max(0, len(k.sends) - 1) for k in self.known.values())
        assert counters.latency().total == counters.acked - counters.late_acks

    @invariant()
    def nothing_outlives_its_lifetime(self) -> None:
        for pending in () if self.blocked else self.window:
            bound_ns = self.policy.lifetime_ns(pending.timeout_ns) + pending.timeout_ns + 2 * GRAIN_NS
            assert self.clock.now_ns <= self.known[pending.token].accepted_ns + bound_ns

    @invariant()
    def waiting_is_fifo_and_never_in_vain(self) -> None:
        for _, task in self.waiting:
            if task.done() and not task.cancelled() and (refusal := task.result()) is not None:
                assert self.closed if isinstance(refusal, BusClosed) else self.config.stall_timeout_s is not None
        self.waiting = [(serial, task) for serial, task in self.waiting if not task.done()]
        assert self.accepted_waiters == sorted(self.accepted_waiters)
        tokens = [token for _, token in self.accepted_waiters]
        assert tokens == sorted(tokens)
        first = self.handler._room.first()
        if first is not None and not first.future.done():
            assert not self.window.has_room(first.size), "nobody waits while there is room for the first in the queue"

    @invariant()
    def whoever_awaits_is_told(self) -> None:
        self.awaiting = [entry for entry in self.awaiting if not self.told(entry)]
        oldest = self.window.oldest()
        waiting = []
        for last, task in self.drains:
            if oldest is not None and oldest.token <= last:
                assert not task.done(), "a flush waits for everything accepted before it"
                waiting.append((last, task))
            else:
                self.turns(2)
                assert task.done()
        self.drains = waiting

    def told(self, entry: tuple[int, asyncio.Task[DeliveryReport]]) -> bool:
        token, task = entry
        known = self.known[token]
        if not known.reports:
            assert not task.done()
            return False
        self.turns(2)
        assert task.result() in known.reports
        return True

    def teardown(self) -> None:
        """In the end everything settles by itself, without a connection, and nothing is left over."""
        if not hasattr(self, "loop"):
            return
        try:
            lifetime_s = max(self.policy.lifetime_ns(int(t * 1e9)) / 1e9 + t for t in TIMEOUTS_S) + 0.1
            self.turns(4)
            for _ in range(len(self.known) + len(self.waiting) + 1):
                if not len(self.window) and not self.handler.waiting_publishers:
                    break
                self.time_passes(lifetime_s)
            self.turns(4)
            self.every_message_ends_once_and_truly()
            self.accounts_balance()
            handler, window = self.handler, self.window
            assert len(window) == 0
            assert (window.free, window.free_bytes) == (self.config.max_pending, self.config.max_pending_bytes)
            assert not handler._held
            assert not len(handler._schedule)
            assert not handler.waiting_publishers
            assert not handler._drain.waiting
            assert all(not lane for lane in window._lanes.values())
            assert all(task.done() for _, task in self.waiting)
            assert all(known.pending._waiters is None for known in self.known.values())
        finally:
            self.loop.finish()


def test_any_order_of_events_keeps_the_ledger_true():
    """Conservation, both bounds, one true end per message, FIFO and no leak, after every step of every history."""
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=200,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(chance=0.9)
    yield made
    made.finish()


def test_reconnect_after_the_duplicate_window(bench: Bench):
    """The loop was blocked for long and reads the reconnect before its timer: what is in doubt is not sent again."""
    pending = bench.accepted(via=route(window_s=10))
    bench.handler.connection_changed(ConnectionState.RECONNECTING)
    bench.pass_time(0.3)  # its retry is due, and held
    bench.clock.advance(60)
    bench.handler.connection_changed(ConnectionState.CONNECTED)
    bench.loop.turns(5)
    assert bench.publisher.sent == [pending.token]
    assert pending.state is AckState.UNKNOWN


def test_retry_whose_time_came_while_the_loop_was_blocked(bench: Bench):
    """The same for the timer itself."""
    pending = bench.accepted(via=route(window_s=10))
    bench.fail(pending, as_=ErrorClass.AMBIGUOUS)
    assert pending.attempts == 1
    bench.loop.pass_time(60)
    assert bench.publisher.sent == [pending.token]
    assert pending.state is AckState.UNKNOWN


def test_new_route_that_does_not_deduplicate(bench: Bench):
    """A message in doubt waits for a new route: by one that does not deduplicate it is not sent again."""
    provisional = route(ready=False)
    bench.handler.reroute = lambda name, old: provisional
    pending = bench.accepted(via=route(window_s=30), timeout_s=1)
    bench.fail(pending, as_=ErrorClass.AMBIGUOUS)
    bench.pass_time(0.3)
    bench.fail(pending, kind=ErrorKind.NO_RESPONDERS, min_delay_s=0.25)
    bench.pass_time(0.6)  # held, its route is not ready
    sent = len(bench.publisher.sent)
    bench.handler.routes_prepared({provisional: route(deduplicates=False, window_s=0)})
    bench.pass_time(0.1)
    assert len(bench.publisher.sent) == sent == 2
    assert pending.state is AckState.UNKNOWN


def test_failure_that_names_a_message_twice(bench: Bench):
    """It failed once."""
    one, other = bench.accepted(), bench.accepted()
    bench.fail(one, one, as_=ErrorClass.FATAL)
    bench.fail(other, other)
    assert (one.state, other.state) == (AckState.REJECTED, AckState.WAITING)
    assert (bench.counters.rejected, bench.counters.errors()) == (1, {"other": 2})


def test_two_acks_of_one_message_in_one_batch(bench: Bench):
    """As where two streams in different domains take its subject: the first counts, and nothing else is harmed."""
    one, other = bench.accepted(), bench.accepted()
    bench.ack(one, one, other)
    assert (one.state, other.state) == (AckState.ACKED, AckState.ACKED)
    assert bench.counters.acked == bench.counters.latency().total == 2
    assert bench.handler.statistics().pending == 0


def test_ack_of_a_refused_message(bench: Bench):
    """What was told as REJECTED stays so."""
    pending = bench.accepted()
    bench.fail(pending, as_=ErrorClass.FATAL)
    bench.ack(pending)
    assert pending.state is AckState.REJECTED
    assert (bench.counters.acked, bench.counters.late_acks) == (0, 0)


@pytest.mark.parametrize("max_pending", [1, 3])
def test_more_unknown_messages_than_are_remembered(max_pending: int):
    """Four full windows are remembered for a late ack, the newest; older ones stay UNKNOWN."""
    bench = Bench(window=WindowConfig(max_pending))
    messages = []
    for _ in range(6):  # a dead broker: one window after the other ends in doubt
        window = [bench.accepted(via=route(deduplicates=False)) for _ in range(max_pending)]
        bench.fail(*window, as_=ErrorClass.AMBIGUOUS)
        messages += window
        assert len(bench.handler._remembered) <= 4 * max_pending
    assert list(bench.handler._remembered) == messages[2 * max_pending :]
    bench.ack(*messages)
    assert [m.state for m in messages] == [AckState.UNKNOWN] * 2 * max_pending + [AckState.ACKED] * 4 * max_pending
    counters = bench.counters
    assert (counters.unknown, counters.acked, counters.late_acks) == (2 * max_pending, 4 * max_pending, 4 * max_pending)
    assert not len(bench.handler._remembered)
    bench.finish()


def test_close_with_messages_in_every_state(bench: Bench):
    """What is in flight or in doubt ends as UNKNOWN, what certainly is not stored as REJECTED."""
    in_flight = bench.accepted()
    refused, in_doubt = bench.accepted(), bench.accepted()
    bench.fail(refused, as_=ErrorClass.TRANSIENT)
    bench.fail(in_doubt, as_=ErrorClass.AMBIGUOUS)
    held = bench.accepted(via=route("new", ready=False))
    closing = bench.start(bench.handler.close(0.0))
    bench.loop.turns(3)
    assert closing.result() == (2, 2, True)
    assert [p.state for p in (in_flight, in_doubt)] == [AckState.UNKNOWN] * 2
    assert [p.state for p in (refused, held)] == [AckState.REJECTED] * 2
    assert bench.handler._timer is None


def test_what_was_not_sent_in_time_is_no_doubt() -> None:
    """A publisher that gathers messages takes back what it still has: that attempt is repeated, and leaves no doubt."""
    bench = Bench(retry=RetryPolicy(max_attempts=2, base_delay_s=0.01))
    sent, unsent = bench.accepted(timeout_s=1.0), bench.accepted(timeout_s=1.0)
    bench.publisher.unsent = {unsent.token}
    bench.pass_time(1.1)
    assert (sent.doubt, unsent.doubt) == (True, False)
    bench.pass_time(2.0)
    assert sent.report is not None
    assert unsent.report is not None
    assert (sent.report.outcome, unsent.report.outcome) == (AckOutcome.UNKNOWN, AckOutcome.REJECTED)
    assert unsent.report.error_kind is ErrorKind.TIMEOUT
    bench.finish()


def test_close_with_messages_that_were_not_sent() -> None:
    """What the publisher takes back at the end was certainly not stored."""
    bench = Bench()
    sent, unsent = bench.accepted(), bench.accepted()
    bench.publisher.unsent = {unsent.token}
    closing = bench.start(bench.handler.close(0.5))
    bench.pass_time(0.6)
    assert closing.result() == (1, 1, True)
    assert sent.report is not None
    assert unsent.report is not None
    assert (sent.report.outcome, unsent.report.outcome) == (AckOutcome.UNKNOWN, AckOutcome.REJECTED)
    bench.finish()


def test_connection_that_takes_no_more() -> None:
    """New messages are held, what is in flight stays so; once it goes on they are sent, in order."""
    bench = Bench()
    first = bench.accepted()
    bench.handler.sending_paused(True)
    held = [bench.accepted(), bench.accepted()]
    assert bench.publisher.sent == [first.token]
    assert first.state is AckState.IN_FLIGHT
    assert bench.handler.connection is ConnectionState.CONNECTED
    bench.handler.sending_paused(False)
    assert bench.publisher.sent == [first.token, *(pending.token for pending in held)]
    bench.ack(first, *held)
    bench.finish()


def test_connection_that_never_takes_more() -> None:
    """A message that could not be sent in its lifetime is rejected, and told apart from a lost connection."""
    bench = Bench(retry=RetryPolicy(max_attempts=1))
    bench.handler.sending_paused(True)
    held = bench.accepted(timeout_s=1.0)
    bench.pass_time(1.1)
    assert held.report is not None
    assert (held.report.outcome, held.report.error_kind) == (AckOutcome.REJECTED, ErrorKind.UNAVAILABLE)
    bench.finish()


def test_connection_lost_where_the_client_repeats_by_itself() -> None:
    """What is in flight goes on waiting for its ack, new messages are held."""
    bench = Bench()
    first = bench.accepted()
    bench.handler.connection_changed(ConnectionState.RECONNECTING, "no broker answers", in_flight_lost=False)
    second = bench.accepted()
    assert (first.state, first.doubt) == (AckState.IN_FLIGHT, False)
    assert bench.publisher.sent == [first.token]
    bench.ack(first)
    bench.handler.connection_changed(ConnectionState.CONNECTED)
    assert bench.publisher.sent == [first.token, second.token]
    bench.ack(second)
    bench.finish()


def test_lost_stream_met_by_a_last_attempt() -> None:
    """Nothing repeats that message, but the next one needs a stream: it is looked up all the same."""
    bench = Bench(retry=RetryPolicy(max_attempts=1))
    asked: list[str] = []

    def reroute(name: str, route: Route) -> Route:
        asked.append(name)
        return route

    bench.handler.reroute = reroute
    pending = bench.accepted()
    bench.fail(pending, kind=ErrorKind.NO_RESPONDERS)
    assert pending.settled
    assert asked == [pending.topic]
    bench.finish()


@settings(max_examples=100, deadline=None)
@given(rounds=st.lists(st.lists(st.sampled_from(["keep", "drop", "await", "refuse"]), max_size=8), max_size=6))
def test_receipts_that_are_kept_stay_what_they_are(rounds: list[list[str]]) -> None:
    """Objects of dropped receipts are used again; one that anybody holds, in whatever way, never is."""
    bench = Bench()
    kept: list[tuple[int, PendingAck]] = []
    awaited: list[tuple[int, asyncio.Task[DeliveryReport]]] = []

    async def told(pending: PendingAck) -> DeliveryReport:
        return await pending

    try:
        for fates in rounds:
            batch = []
            for fate in fates:
                token = len(bench.publisher.sent) + 1
                if fate == "await":
                    awaited.append((token, bench.start(told(bench.accepted()))))
                elif fate == "drop":
                    assert bench.accepted().token == token
                else:
                    kept.append((token, bench.accepted()))
                    if fate == "refuse":
                        bench.fail(kept[-1][1], as_=ErrorClass.FATAL)
                if fate != "refuse":
                    batch.append(token)
            bench.handler.replied([AckBatch("S", batch, [token + 1000 for token in batch])])
            bench.loop.turns(3)
        for token, pending in kept:
            report = pending.report
            assert report is not None
            assert (pending.token, report.message_id) == (token, f"m{token}")
            assert report.position is None or report.position.offset == token + 1000
        for token, task in awaited:
            assert task.result().message_id == f"m{token}"
            assert task.result().position == Position("S", token + 1000)
        assert len({id(pending) for _, pending in kept}) == len(kept)
    finally:
        bench.finish()


def test_dropped_receipts_are_used_again() -> None:
    """Their objects, and no more of them than the window could need; without what was published."""
    bench = Bench(window=WindowConfig(max_pending=4))
    for _ in range(3):
        tokens = [bench.accepted(size=3).token for _ in range(4)]
        bench.handler.replied([AckBatch("S", tokens, tokens)])
    spares = bench.handler._spares
    assert len(spares) == 4
    assert {spare.payload for spare in spares} == {b""}
    first = id(spares[-1])
    assert id(bench.accepted()) == first
    bench.finish()
