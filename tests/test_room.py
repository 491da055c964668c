"""Publishers that wait for room: first come, first served, and no place is ever lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from eventbus.ack.retry import RetryPolicy
from eventbus.ack.state import AckState
from eventbus.config import WindowConfig
from eventbus.errors import BusClosed, InvalidMessage, StallTimeout
from eventbus.event import EventKind
from tests.fakes import Bench

Make = Callable[..., Bench]


@pytest.fixture
def make() -> Iterator[Make]:
    benches: list[Bench] = []

    def build(max_pending: int = 1, max_bytes: int = 100, stall_s: float | None = None, attempts: int = 1) -> Bench:
        window = WindowConfig(max_pending, max_bytes, stall_s)
        benches.append(Bench(window=window, retry=RetryPolicy(max_attempts=attempts)))
        return benches[-1]

    yield build
    for bench in benches:
        bench.finish()


def test_waiters_are_served_in_their_order(make: Make):
    """One place comes free at a time: the longest wait gets it."""
    bench = make()
    holder = bench.accepted()
    waiting = [bench.wait_for_room() for _ in range(5)]
    for position, task in enumerate(waiting):
        bench.ack(holder)
        bench.loop.turns(2)
        assert [t.done() for t in waiting] == [n <= position for n in range(5)]
        holder = task.result()
    assert bench.handler.waiting_publishers == 0


def test_many_places_come_free_at_once(make: Make):
    """One batch of acks wakes as many as fit, and they are sent in the order in which they began to wait."""
    bench = make(max_pending=3)
    holders = [bench.accepted() for _ in range(3)]
    waiting = [bench.wait_for_room() for _ in range(5)]
    bench.ack(*holders)
    bench.loop.turns(2)
    assert [t.done() for t in waiting] == [True, True, True, False, False]
    assert bench.publisher.sent[3:] == [t.result().token for t in waiting[:3]]
    assert bench.publisher.sent == sorted(bench.publisher.sent)


def test_nobody_overtakes(make: Make):
    """A small message that would fit finds no room while a larger one waits before it."""
    bench = make(max_pending=10, max_bytes=10)
    bench.accepted(size=6)
    large = bench.wait_for_room(size=8)
    assert bench.accept(size=1) is None
    small = bench.wait_for_room(size=1)
    bench.loop.turns(3)
    assert not large.done()
    assert not small.done()


def test_small_one_behind_a_large_one_that_gives_up(make: Make):
    """Cancelling the first in the queue lets in whoever fits after it, without any other event."""
    bench = make(max_pending=10, max_bytes=10)
    bench.accepted(size=6)
    large = bench.wait_for_room(size=8)
    small = bench.wait_for_room(size=1)
    large.cancel()
    bench.loop.turns(3)
    assert large.cancelled()
    assert small.result().state is AckState.IN_FLIGHT


def test_cancelled_wait_publishes_nothing(make: Make):
    """The place goes to the next; the cancelled message is never sent nor counted."""
    bench = make()
    holder = bench.accepted()
    first, second = bench.wait_for_room(), bench.wait_for_room()
    first.cancel()
    bench.loop.turns(2)
    bench.ack(holder)
    bench.loop.turns(2)
    assert first.cancelled()
    assert second.result().token == 2
    assert bench.counters.accepted == 2


def test_cancelled_in_the_turn_in_which_the_place_was_granted(make: Make):
    """The place was kept for it already: it goes to the next, and nothing leaks."""
    bench = make()
    holder = bench.accepted()
    first, second, third = (bench.wait_for_room() for _ in range(3))
    bench.ack(holder)  # grants to the first, which has not run yet
    assert bench.handler.statistics().pending_bytes == 1
    first.cancel()
    bench.loop.turns(3)
    assert first.cancelled()
    assert second.result().state is AckState.IN_FLIGHT
    assert not third.done()
    assert bench.counters.accepted == 2


def test_all_cancelled_in_the_turn_in_which_places_were_granted(make: Make):
    """Every kept place is given back: the window is as empty as it says."""
    bench = make(max_pending=3)
    holders = [bench.accepted() for _ in range(3)]
    waiting = [bench.wait_for_room() for _ in range(3)]
    bench.ack(*holders)
    for task in waiting:
        task.cancel()
    bench.loop.turns(3)
    statistics = bench.handler.statistics()
    assert (statistics.pending, statistics.pending_bytes) == (0, 0)
    assert all(bench.accept() is not None for _ in range(3))
    assert bench.accept() is None


def test_kept_place_cannot_be_had_by_others(make: Make):
    """Between the grant and the waiter's next step, try_accept finds no room."""
    bench = make()
    holder = bench.accepted()
    waiting = bench.wait_for_room()
    bench.ack(holder)
    assert bench.accept() is None
    bench.loop.turns(2)
    assert waiting.result().state is AckState.IN_FLIGHT


def test_wait_longer_than_the_stall_timeout(make: Make):
    """StallTimeout tells how full the window is; nothing was accepted; later waits have their own time."""
    bench = make(stall_s=1.0)
    bench.accepted(size=7, timeout_s=60)
    first = bench.wait_for_room()
    bench.pass_time(0.6)
    second = bench.wait_for_room()
    bench.pass_time(0.6)
    with pytest.raises(StallTimeout, match=r"no room for 1.*1 of 1 messages and 7 of 100 bytes.*nothing was accepted"):
        first.result()
    assert not second.done()
    bench.pass_time(0.5)
    assert isinstance(second.exception(), StallTimeout)
    assert bench.counters.accepted == 1
    assert bench.handler.waiting_publishers == 0


def test_room_that_comes_free_at_the_last_moment(make: Make):
    """An ack that is due at the same time as the stall timeout frees its room first: nobody is refused beside room."""
    bench = make(stall_s=1.0)
    bench.accepted(timeout_s=1.0)
    waiting = bench.wait_for_room()
    bench.loop.pass_time(1.005)
    assert waiting.result().state is AckState.IN_FLIGHT


def test_long_wait_for_room_costs_no_attempts(make: Make):
    """A message's lifetime begins when it is accepted; what it waited before is told as queued."""
    bench = make(attempts=3)
    holder = bench.accepted(timeout_s=60)
    waiting = bench.wait_for_room(timeout_s=1)
    bench.loop.pass_time(30)
    bench.ack(holder)
    bench.loop.turns(3)
    pending = waiting.result()
    bench.fail(pending)
    assert pending.state is AckState.WAITING
    bench.pass_time(0.3)
    bench.ack(pending)
    report = pending.report
    assert report is not None
    assert report.attempts == 2
    assert report.queued_s == pytest.approx(30)


def test_waiter_that_is_thrown_away(make: Make):
    """A coroutine closed without a cancellation, as by a loop that is torn down, gives its place back as well."""
    bench = make()
    holder = bench.accepted()
    coroutine = bench.wait_for_room_here()
    bench.loop.call_soon(coroutine.send, None)
    bench.loop.turns(1)
    coroutine.close()
    bench.ack(holder)
    bench.loop.turns(2)
    assert bench.accept() is not None


def test_cancelled_in_the_turn_in_which_it_was_refused(make: Make):
    """The caller hears of its cancellation; the refusal is not left behind as an error nobody saw."""
    bench = make(stall_s=1.0)
    bench.accepted(timeout_s=60)
    task = bench.wait_for_room()
    bench.clock.advance(1.5)
    bench.handler.on_time()  # refuses
    task.cancel()
    bench.loop.turns(2)
    assert task.cancelled()


def test_stalled_time_counts_while_somebody_waits(make: Make):
    """Wall time with a queue, not the sum over those who wait."""
    bench = make()
    holder = bench.accepted(timeout_s=60)
    assert bench.handler.stalled_s() == 0.0
    waiting = [bench.wait_for_room(timeout_s=60) for _ in range(3)]
    bench.clock.advance(2.0)
    assert bench.handler.stalled_s() == pytest.approx(2.0)
    for task in waiting[1:]:
        task.cancel()
    bench.ack(holder)
    bench.loop.turns(3)
    bench.clock.advance(5.0)
    assert bench.handler.stalled_s() == pytest.approx(2.0)


def test_message_that_can_never_fit(make: Make):
    """It is refused at once, also while others wait: waiting would not help."""
    bench = make(max_bytes=10)
    bench.accepted(size=10)
    with pytest.raises(InvalidMessage, match=r"11 bytes.*max_pending_bytes \(10\)"):
        bench.accept(size=11)
    bench.wait_for_room()
    with pytest.raises(InvalidMessage):
        bench.accept(size=11)


def test_exactly_full(make: Make):
    """Both bounds can be reached and are not passed."""
    bench = make(max_pending=2, max_bytes=10)
    bench.accepted(size=4)
    bench.accepted(size=6)
    assert bench.accept(size=0) is None
    assert bench.handler.statistics().pending_bytes == 10


def test_close_refuses_who_waits(make: Make):
    """BusClosed for the queue, also for one whose place was granted in the same turn."""
    bench = make()
    holder = bench.accepted()
    granted, waiting = bench.wait_for_room(), bench.wait_for_room()
    closing = bench.loop.create_task(bench.handler.close(0.0))
    bench.ack(holder)  # the close runs before the first of them does
    bench.loop.turns(4)
    for task in (granted, waiting):
        with pytest.raises(BusClosed):
            task.result()
    assert closing.result() == (0, 0, False)
    assert bench.handler.statistics().pending_bytes == 0
    with pytest.raises(BusClosed):
        bench.accept()


def test_timeout_of_the_caller_itself(make: Make):
    """asyncio.timeout around a publish is a cancellation like any other."""
    bench = make()
    bench.accepted(timeout_s=60)

    async def impatient() -> None:
        async with asyncio.timeout(0.5):
            await bench.wait_for_room_here()

    task = bench.start(impatient())
    bench.pass_time(0.6)
    assert isinstance(task.exception(), TimeoutError)
    assert not isinstance(task.exception(), StallTimeout)
    assert bench.handler.waiting_publishers == 0


def test_water_marks_are_told_once_each_way(make: Make):
    """Paused at the high mark, resumed at the low one, and nothing in between however often the window fills."""
    bench = make(max_pending=10)  # paused at 9, resumed at 5

    def told() -> list[EventKind]:
        return [event.kind for event in bench.observer.events]

    held = [bench.accepted() for _ in range(10)]
    assert told() == []
    bench.ack(held.pop())
    assert told() == [EventKind.PAUSED]
    held.append(bench.accepted())
    bench.ack(*[held.pop() for _ in range(4)])
    assert told() == [EventKind.PAUSED]
    bench.ack(held.pop())
    assert told() == [EventKind.PAUSED, EventKind.RESUMED]


def test_publisher_without_room_is_a_pause(make: Make):
    """Where no ack comes at all, the first publisher who has to wait tells that the window is full."""
    bench = make()
    bench.accepted()
    bench.wait_for_room()
    assert [event.kind for event in bench.observer.events] == [EventKind.PAUSED]
