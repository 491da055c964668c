"""The application's callbacks: in order, off the ack path, contained and bounded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from eventbus.event import BusEvent, EventKind
from eventbus.observe.callbacks import CallbackRunner
from eventbus.observe.counters import BusCounters
from eventbus.observe.fanout import Fanout
from eventbus.report import AckOutcome, DeliveryReport
from tests.fakes import Recorder, until

ACKED, REJECTED, UNKNOWN = AckOutcome.ACKED, AckOutcome.REJECTED, AckOutcome.UNKNOWN


def reports(*outcomes: AckOutcome, late: bool = False) -> list[DeliveryReport]:
    return [DeliveryReport(f"m{n}", "orders", outcome, late=late) for n, outcome in enumerate(outcomes)]


async def test_every_report_in_order_of_settlement():
    """on_delivery hears all, one at a time, whether it is sync or async."""
    heard: list[DeliveryReport] = []
    running = 0

    async def slowly(report: DeliveryReport) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        heard.append(report)
        running -= 1

    for callback in (heard.append, slowly):
        heard.clear()
        runner = CallbackRunner(callback, None, 1000, BusCounters())
        some = reports(*[ACKED] * 150, REJECTED)
        runner.settled(some[:100])
        runner.settled(some[100:])
        assert heard == [], "never inside the ack path"
        await until(lambda: len(heard) == len(some))  # noqa: B023  # awaited within the turn
        assert heard == some


async def test_errors_only():
    """on_error hears what was not acked, and asks the ledger for nothing else; a late ack is no error."""
    heard: list[DeliveryReport] = []
    runner = CallbackRunner(None, heard.append, 10, BusCounters())
    assert not runner.every_outcome
    some = reports(REJECTED, ACKED, UNKNOWN)
    runner.settled([*some, *reports(ACKED, late=True)])
    await runner.close(1.0)
    assert heard == [some[0], some[2]]


async def test_callback_that_raises(caplog: pytest.LogCaptureFixture):
    """It is counted and logged with the message's id, and the next report is told all the same."""
    heard: list[DeliveryReport] = []
    counters = BusCounters()

    def raises(report: DeliveryReport) -> None:
        raise ValueError("of the application")

    async def raises_later(report: DeliveryReport) -> None:
        await asyncio.sleep(0)
        raise ValueError("of the application")

    for on_delivery in (raises, raises_later):
        runner = CallbackRunner(on_delivery, heard.append, 10, counters)
        with caplog.at_level(logging.ERROR, "eventbus"):
            runner.settled(reports(REJECTED, UNKNOWN))
            await runner.close(1.0)
    assert counters.callback_errors == 4
    assert len(heard) == 4
    assert "raised for m1" in caplog.text


async def test_callback_that_awaits_something_cancelled():
    """A CancelledError out of it is its own: counted, and the next report is told all the same."""
    heard: list[DeliveryReport] = []

    async def awaits_cancelled(report: DeliveryReport) -> None:
        heard.append(report)
        task = asyncio.ensure_future(asyncio.Event().wait())
        await asyncio.sleep(0)
        task.cancel()
        await task

    counters = BusCounters()
    runner = CallbackRunner(awaits_cancelled, None, 10, counters)
    runner.settled(reports(ACKED, ACKED, ACKED))
    await runner.close(1.0)
    assert (len(heard), counters.callback_errors) == (3, 3)


async def test_close_lets_go_who_waits_for_room():
    """Whoever waits for callbacks to catch up must not wait for ever for one that hangs."""

    async def hangs(report: DeliveryReport) -> None:
        await asyncio.Event().wait()

    runner = CallbackRunner(hangs, None, 1, BusCounters())
    runner.settled(reports(ACKED, ACKED, ACKED))
    waiting = asyncio.create_task(runner.wait_for_room())
    await asyncio.sleep(0)
    assert runner.full
    await runner.close(0.02)
    await asyncio.wait_for(waiting, 1.0)
    assert not runner.full


async def test_sync_callbacks_leave_the_loop_its_turns():
    """A long queue of quick callbacks does not keep the loop from reading acks."""
    heard: list[DeliveryReport] = []
    runner = CallbackRunner(heard.append, None, 10_000, BusCounters())
    runner.settled(reports(*[ACKED] * 1000))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < len(heard) < 1000
    await runner.close(1.0)
    assert len(heard) == 1000


async def test_publishers_wait_while_callbacks_are_behind():
    """``limit`` reports are full; whoever waits goes on when there is room; the callback itself never waits."""
    gate, seen_inside = asyncio.Event(), []

    async def waits(report: DeliveryReport) -> None:
        seen_inside.append(runner.full)
        await gate.wait()

    runner = CallbackRunner(waits, None, 3, BusCounters())
    runner.settled(reports(*[ACKED] * 2))
    assert not runner.full
    runner.settled(reports(*[ACKED] * 3))
    assert runner.full
    waiting = asyncio.create_task(runner.wait_for_room())
    await until(lambda: seen_inside)
    assert seen_inside == [False]
    assert runner.full
    assert not waiting.done()
    gate.set()
    await asyncio.wait_for(waiting, 1.0)
    assert not runner.full
    await runner.close(1.0)
    assert len(seen_inside) == 5


async def test_close_waits_for_the_queue():
    """Within its timeout."""
    heard: list[DeliveryReport] = []

    async def slowly(report: DeliveryReport) -> None:
        await asyncio.sleep(0)
        heard.append(report)

    runner = CallbackRunner(slowly, None, 10, BusCounters())
    await runner.close(1.0)  # nothing to do yet
    runner.settled(reports(ACKED, ACKED))
    await runner.close(1.0)
    assert len(heard) == 2


async def test_close_does_not_wait_for_a_callback_that_hangs(caplog: pytest.LogCaptureFixture):
    """After the timeout it is cancelled, and the log says how many were not told."""
    ended = []

    async def hangs(report: DeliveryReport) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(report)

    runner = CallbackRunner(hangs, None, 10, BusCounters())
    runner.settled(reports(ACKED, ACKED, ACKED))
    async with asyncio.timeout(2.0):
        await runner.close(0.02)
    assert len(ended) == 1
    assert "2 delivery callbacks were not called" in caplog.text


class Raises(Recorder):
    def settled(self, reports: Sequence[DeliveryReport]) -> None:
        raise RuntimeError("of the observer")

    def happened(self, event: BusEvent) -> None:
        raise RuntimeError("of the observer")


def test_observers_get_what_they_asked_for():
    """All reports, or only those that are not a plain ack; one batch each."""
    everything, uncommon = Recorder(), Recorder(every_outcome=False)
    fanout = Fanout([uncommon, everything], BusCounters())
    assert fanout.every_outcome
    assert not Fanout([uncommon], BusCounters()).every_outcome
    batch = [*reports(ACKED, REJECTED, UNKNOWN), *reports(ACKED, late=True)]
    fanout.settled(batch)
    assert everything.reports == batch
    assert uncommon.reports == batch[1:]


def test_observer_that_raises():
    """The others hear all the same, and it is counted."""
    counters, other = BusCounters(), Recorder()
    fanout = Fanout([Raises(), other], counters)
    event = BusEvent(1.0, EventKind.CONNECTED, "hello")
    fanout.settled(reports(ACKED))
    fanout.happened(event)
    assert (len(other.reports), other.events) == (1, [event])
    assert counters.callback_errors == 2
