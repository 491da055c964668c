"""The window's bounds and deadlines, and the schedule's times, against slow models of them."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from eventbus.ack.pending import PendingAck
from eventbus.ack.schedule import WakeSchedule
from eventbus.ack.state import AckEvent, AckState
from eventbus.ack.window import InFlightWindow
from eventbus.config import WindowConfig
from eventbus.errors import ConfigError
from tests.fakes import MS, SECOND, pending_ack


class WindowMachine(RuleBasedStateMachine):
    """Everything that AckHandler may do to a window, in any order."""

    inside: Bundle[PendingAck] = Bundle("inside")
    reserved: Bundle[int] = Bundle("reserved")

    @initialize(max_pending=st.integers(1, 6), max_bytes=st.integers(1, 30))
    def begin(self, max_pending: int, max_bytes: int) -> None:
        self.max_pending, self.max_bytes = max_pending, max_bytes
        self.window = InFlightWindow(max_pending, max_bytes)
        self.pending: list[PendingAck] = []
        self.kept: list[int] = []
        self.due: dict[int, int] = {}
        self.now_ns = SECOND
        self.token = 0

    def fits(self, size: int) -> bool:
        used = sum(p.size for p in self.pending) + sum(self.kept)
        return len(self.pending) + len(self.kept) < self.max_pending and used + size <= self.max_bytes

    @rule(target=inside, size=st.integers(0, 12), timeout_ns=st.sampled_from([5 * MS, 20 * MS, SECOND]))
    def admit(self, size: int, timeout_ns: int) -> PendingAck:
        self.token += 1
        pending = pending_ack(self.token, size, timeout_ns)
        if self.window.has_room(size):
            self.window.admit(pending)
            self.pending.append(pending)
        return pending

    @rule(target=reserved, size=st.integers(0, 12))
    def reserve(self, size: int) -> int:
        if not self.window.has_room(size):
            with pytest.raises(AssertionError):
                self.window.reserve(size)
            return -1
        self.window.reserve(size)
        self.kept.append(size)
        return size

    @rule(size=consumes(reserved))
    def unreserve(self, size: int) -> None:
        if size >= 0:
            self.window.unreserve(size)
            self.kept.remove(size)

    @rule(pending=inside)
    def send(self, pending: PendingAck) -> None:
        if pending in self.pending and pending.state in (AckState.QUEUED, AckState.WAITING):
            pending.sent(self.now_ns)
            deadline_ns = self.window.await_ack(pending)
            assert deadline_ns == pending.deadline_ns == self.now_ns + pending.timeout_ns
            self.due[pending.token] = deadline_ns

    @rule(pending=inside)
    def attempt_fails(self, pending: PendingAck) -> None:
        if pending in self.pending and pending.state is AckState.IN_FLIGHT:
            self.window.stop_awaiting(pending)
            pending.advance(AckEvent.RETRY)
            del self.due[pending.token]

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.pending:
            settled = data.draw(st.lists(st.sampled_from(self.pending), unique_by=id))
            self.window.remove(settled)
            for pending in settled:
                self.pending.remove(pending)
                self.due.pop(pending.token, None)

    @rule(ns=st.sampled_from([1, MS, 5 * MS, 40 * MS, 2 * SECOND]))
    def time_passes(self, ns: int) -> None:
        self.now_ns += ns

    @invariant()
    def bounds_hold(self) -> None:
        statistics = self.window.statistics()
        assert statistics.pending == len(self.window) == len(self.pending) <= self.max_pending
        assert statistics.pending_bytes == sum(p.size for p in self.pending) + sum(self.kept) <= self.max_bytes
        for size in (0, 1, 5, self.max_bytes, self.max_bytes + 1):
            assert self.window.has_room(size) == self.fits(size)

    @invariant()
    def oldest_first(self) -> None:
        assert list(self.window) == self.pending
        assert self.window.oldest() is (self.pending[0] if self.pending else None)
        wanted = [*range(self.token + 2)]
        by_token = {p.token: p for p in self.pending}
        assert self.window.find(wanted) == [by_token.get(t) for t in wanted] == [self.window.get(t) for t in wanted]

    @invariant()
    def deadlines_are_found(self) -> None:
        assert self.window.next_deadline_ns() == min(self.due.values(), default=None)
        for now_ns in (self.now_ns, self.now_ns + 10 * MS, self.now_ns + 10 * SECOND):
            overdue = self.window.overdue(now_ns)
            assert sorted(p.token for p in overdue) == sorted(t for t, due in self.due.items() if due <= now_ns)

    @invariant()
    def lanes_do_not_pile_up(self) -> None:
        used = {p.timeout_ns for p in self.pending if p.token in self.due}
        assert len(self.window._lanes) <= max(1, len(used) + 1)


TestWindow = WindowMachine.TestCase
TestWindow.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)


class ScheduleMachine(RuleBasedStateMachine):
    """WakeSchedule against a dict."""

    @initialize()
    def begin(self) -> None:
        self.schedule = WakeSchedule()
        self.times: dict[int, int] = {}
        self.messages = [pending_ack(token) for token in range(8)]

    @rule(index=st.integers(0, 7), at_ns=st.integers(0, 20))
    def put(self, index: int, at_ns: int) -> None:
        self.schedule.put(self.messages[index], at_ns)
        self.times[index] = at_ns

    @rule(index=st.integers(0, 7))
    def drop(self, index: int) -> None:
        self.schedule.drop(self.messages[index])
        self.times.pop(index, None)

    @rule(now_ns=st.integers(0, 20))
    def due(self, now_ns: int) -> None:
        found = [p.token for p in self.schedule.due(now_ns)]
        assert sorted(found) == sorted(t for t, at in self.times.items() if at <= now_ns)
        assert [self.times[t] for t in found] == sorted(self.times[t] for t in found), "in the order of their times"
        for token in found:
            del self.times[token]

    @rule()
    def nearest(self) -> None:  # no invariant, because it sweeps stale entries away
        assert self.schedule.next_ns() == min(self.times.values(), default=None)

    @invariant()
    def counted(self) -> None:
        assert len(self.schedule) == len(self.times)


TestSchedule = ScheduleMachine.TestCase
TestSchedule.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_one_message_put_off_again_and_again():
    """Stale entries are swept: the heap does not grow with the number of retries."""
    schedule, message = WakeSchedule(), pending_ack(1)
    for at_ns in range(10_000):
        schedule.put(message, at_ns)
    assert len(schedule._heap) < 200
    assert schedule.due(10**9) == [message]
    assert schedule.due(10**9) == []


def test_per_message_timeouts_leave_nothing_behind():
    """A thousand different ack timeouts, one after the other, leave at most one empty lane."""
    window = InFlightWindow(10, 100)
    for token in range(1, 1001):
        pending = pending_ack(token, timeout_ns=token * MS)
        window.admit(pending)
        pending.sent(SECOND)
        window.await_ack(pending)
        window.remove([pending])
    assert len(window._lanes) <= 1
    assert window.next_deadline_ns() is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_pending": 0},
        {"max_pending": -1},
        {"max_pending_bytes": 0},
        {"stall_timeout_s": 0},
        {"stall_timeout_s": -1.0},
        {"stall_timeout_s": float("nan")},
        {"stall_timeout_s": float("inf")},
    ],
)
def test_bounds_that_cannot_be(wrong: dict[str, float]):
    """The error names the setting, what was given and what is allowed."""
    (name,) = wrong
    with pytest.raises(ConfigError, match=rf"{name} is {wrong[name]}; use "):
        WindowConfig(**wrong)  # type: ignore[arg-type]  # wrong on purpose
