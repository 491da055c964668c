"""The load driver: what is sent when, what is offered, how it ends, and what can be changed on the way."""

from __future__ import annotations

import asyncio
import math
from itertools import count, repeat
from pathlib import Path
from typing import Any

import pytest

from eventbus.clock import SystemClock
from eventbus.errors import BusClosed, ConfigError
from eventbus.load.message import LoadMessage, Messages
from eventbus.load.plan import LoadPlan
from eventbus.load.runner import BATCH, CATCH_UP_S, EndReason, LoadRunner
from eventbus.load.scheduled_latency import ScheduledLatency
from eventbus.load.shape import Burst, Constant, Ramp, Stage
from tests.fakes import until
from tests.load_fakes import FakeBus, FakeReceipt, VirtualTime, runner_of


@pytest.mark.parametrize(("rate", "duration_s"), [(20_000, 10.0), (333.3, 10.0), (7, 3.0), (0.5, 4.0)])
async def test_constant_rate(rate: float, duration_s: float) -> None:
    """A duration at a rate sends exactly their product, in batches, and takes that long."""
    bus, time = FakeBus(), VirtualTime()
    runner = runner_of(bus, time, rate=rate, duration_s=duration_s)
    assert await runner.run() is EndReason.PLAN
    assert len(bus.sent) == runner.accepted == runner.offered == int(rate * duration_s)
    assert runner.sending_s == pytest.approx(duration_s, abs=0.03)
    assert bus.largest_burst <= BATCH
    assert time.sleeps < 2 * 500 * duration_s + 10


async def test_messages_are_spread_over_time() -> None:
    """A slow rate sends no burst: after each second, that many messages are out."""
    bus, time = FakeBus(), VirtualTime()
    runner = runner_of(bus, time, rate=50, duration_s=3.0)
    at: list[tuple[float, int]] = []
    time.on_sleep = lambda: at.append((runner.sending_s, len(bus.sent)))
    await runner.run()
    assert all(abs(sent - seconds * 50) <= 2 for seconds, sent in at)


async def test_no_rate_sends_until_count() -> None:
    """Without a rate everything goes out at once, batch by batch, and not one more than the count."""
    bus, time = FakeBus(), VirtualTime()
    runner = runner_of(bus, time, count=1000)
    assert await runner.run() is EndReason.PLAN
    assert (len(bus.sent), runner.offered, runner.target_rate) == (1000, 1000, None)
    assert runner.sending_s == 0
    assert bus.largest_burst <= BATCH


@pytest.mark.parametrize("plan", [{}, {"rate": 1000.0}, {"rate": 1000.0, "duration_s": 60.0}])
async def test_end_of_file_ends_the_run(plan: dict[str, Any]) -> None:
    """Every line is sent once, in order, and then the run is over."""
    bus, time = FakeBus(), VirtualTime()
    lines = [b"%d" % n for n in range(700)]
    runner = runner_of(bus, time, iter(lines), len(lines), replay=Path("x"), **plan)
    assert await runner.run() is EndReason.PLAN
    assert [payload for _, payload in bus.sent] == lines
    assert runner.offered == 700
    assert {topic for topic, _ in bus.sent} == {"demo.events"}


async def test_first_limit_ends_the_run() -> None:
    """Count, duration and file end: the first one decides."""
    bus, time = FakeBus(), VirtualTime()
    runner = runner_of(bus, time, iter([b"x"] * 100), 100, replay=Path("x"), rate=10, count=50, duration_s=2.0)
    await runner.run()
    assert len(bus.sent) == runner.offered == 20


async def test_rate_is_changed_on_the_way() -> None:
    """A new rate holds from now on; what was due before stays due."""
    bus, time = FakeBus(), VirtualTime()
    runner = runner_of(bus, time, rate=100, duration_s=4.0)
    changed: list[float] = []

    def change() -> None:
        if runner.sending_s >= 2.0 and not changed:
            changed.append(runner.sending_s)
            runner.set_rate(1000)

    time.on_sleep = change
    await runner.run()
    expected = changed[0] * 100 + (4.0 - changed[0]) * 1000
    assert runner.accepted == pytest.approx(expected, abs=1)
    assert runner.target_rate == 1000


async def test_stall_lets_offered_grow() -> None:
    """Where the window is full, the schedule goes on: offered grows, accepted does not; with room it catches up."""
    bus, time = FakeBus(room=100), VirtualTime()
    runner = runner_of(bus, time, rate=1000, count=5000)
    running = asyncio.create_task(runner.run())
    await asyncio.wait_for(bus.stalled.wait(), 10)
    before = runner.offered
    time.now_ns += 2 * 10**9
    assert (runner.accepted, runner.offered) == (100, before + 2000)
    bus.more_room(10**6)
    assert await running is EndReason.PLAN
    assert (runner.accepted, runner.offered) == (5000, 5000)
    assert len(bus.sent) == 5000


async def test_backlog_at_the_end_of_the_duration_is_bounded() -> None:
    """After the duration a stalled load tries on for some seconds only; the rest stays offered and never sent."""
    bus, time = FakeBus(room=10), VirtualTime()
    runner = runner_of(bus, time, rate=1000, duration_s=1.0)
    running = asyncio.create_task(runner.run())
    await asyncio.wait_for(bus.stalled.wait(), 10)
    time.now_ns += round((1.0 + CATCH_UP_S) * 1e9)
    bus.more_room(1)
    assert await asyncio.wait_for(running, 10) is EndReason.PLAN
    assert (runner.accepted, runner.offered) == (11, 1000)


async def test_stop_while_waiting_for_room() -> None:
    """A stop ends a stalled run at once; the message that waited is not sent."""
    bus, time = FakeBus(room=10), VirtualTime()
    runner = runner_of(bus, time, rate=None)
    running = asyncio.create_task(runner.run())
    await asyncio.wait_for(bus.stalled.wait(), 10)
    runner.stop()
    assert await asyncio.wait_for(running, 10) is EndReason.STOPPED
    bus.more_room(5)
    assert len(bus.sent) == runner.accepted == 10


async def test_stop_ends_an_endless_run() -> None:
    """Without any limit a run goes on until it is stopped; what was offered then stands still."""
    bus, time = FakeBus(), VirtualTime()
    runner = runner_of(bus, time, rate=100)
    time.on_sleep = lambda: runner.stop() if runner.sending_s > 5 else None
    assert await runner.run() is EndReason.STOPPED
    offered = runner.offered
    time.now_ns += 10**10
    assert runner.offered == offered == pytest.approx(500, abs=5)


async def test_refused_messages_are_counted() -> None:
    """One line that no broker takes harms only itself."""
    bus, time = FakeBus(), VirtualTime()
    lines = [b"1", b"x" * 2000, b"3", b"y" * 3000, b"5"]
    runner = runner_of(bus, time, iter(lines), 5, replay=Path("x"))
    assert await runner.run() is EndReason.PLAN
    assert [payload for _, payload in bus.sent] == [b"1", b"3", b"5"]
    assert (runner.accepted, runner.refused, runner.refusal, runner.offered) == (3, 2, "too large", 5)


async def test_random_payloads_that_are_all_too_large() -> None:
    """Where the first random payload is refused all would be: the run ends as wrongly configured."""
    runner = runner_of(FakeBus(), VirtualTime(), repeat(b"x" * 2000), rate=100, duration_s=5.0)
    with pytest.raises(ConfigError, match="too large"):
        await runner.run()
    assert runner.accepted == 0


async def test_bus_that_closes_on_the_way() -> None:
    """What the bus raises ends the run, and the counts stand."""
    bus, time = FakeBus(), VirtualTime()
    runner = runner_of(bus, time, rate=100, duration_s=50.0)

    def close() -> None:
        if len(bus.sent) >= 100:
            bus.error = BusClosed("closed")

    time.on_sleep = close
    with pytest.raises(BusClosed):
        await runner.run()
    assert len(bus.sent) == runner.accepted >= 100


# ---- shapes, arrivals, recorded times -------------------------------------------------------------------------------


async def test_shape_is_followed_and_ends_the_run() -> None:
    """A ramp up and down sends its area, at its times, and its end is the end of the run."""
    bus, time = FakeBus(), VirtualTime()
    ramp = Ramp((Stage(4, 1000), Stage(4, 0)))
    runner = runner_of(bus, time, shape=ramp)
    seen: list[tuple[float, int, float | None]] = []
    time.on_sleep = lambda: seen.append((runner.sending_s, len(bus.sent), runner.target_rate))
    assert await runner.run() is EndReason.PLAN
    assert len(bus.sent) == runner.offered == 4000
    assert runner.sending_s == pytest.approx(8, abs=0.03)
    assert all(abs(sent - ramp.due(seconds)) <= 25 for seconds, sent, _ in seen)
    assert all(rate == pytest.approx(ramp.rate_at(seconds), abs=1e-6) for seconds, _, rate in seen if seconds < 8)


async def test_duration_ends_a_shape() -> None:
    """The shorter of duration and shape ends the run."""
    bus, time = FakeBus(), VirtualTime()
    runner = runner_of(bus, time, shape=Burst(base=10, peak=1000, every_s=2.0, length_s=0.5), duration_s=4.0)
    await runner.run()
    assert (len(bus.sent), runner.offered) == (2 * (15 + 500), 2 * (15 + 500))


async def test_poisson_arrivals_by_seed() -> None:
    """The same seed sends the same messages at the same times; the number is the rate's within chance."""
    numbers = []
    for seed in (5, 5, 6):
        bus, time = FakeBus(), VirtualTime()
        runner = runner_of(bus, time, rate=2000, arrivals="poisson", seed=seed, duration_s=10.0)
        await runner.run()
        assert runner.accepted == runner.offered == len(bus.sent)
        assert runner.accepted == pytest.approx(20_000, abs=5 * math.sqrt(20_000))
        numbers.append(runner.accepted)
    assert numbers[0] == numbers[1] != numbers[2]


async def test_shape_is_changed_on_the_way() -> None:
    """Another shape begins when it is set, and its end becomes the end of the run."""
    bus, time = FakeBus(), VirtualTime()
    runner = runner_of(bus, time, rate=100)
    changed: list[float] = []

    def change() -> None:
        if runner.sending_s >= 1.0 and not changed:
            changed.append(runner.sending_s)
            runner.set_shape(Ramp((Stage(2, 1000),)))

    time.on_sleep = change
    assert await runner.run() is EndReason.PLAN
    assert runner.sending_s == pytest.approx(changed[0] + 2, abs=0.03)
    assert runner.accepted == pytest.approx(changed[0] * 100 + 1000, abs=1)


async def test_shape_set_on_the_way_does_not_outlast_the_duration() -> None:
    """The plan's duration stands."""
    bus, time = FakeBus(), VirtualTime()
    runner = runner_of(bus, time, rate=100, duration_s=2.0)
    time.on_sleep = lambda: runner.set_shape(Ramp((Stage(100, 1000),))) if runner.sending_s < 0.01 else None
    await runner.run()
    assert runner.sending_s == pytest.approx(2, abs=0.03)


async def test_rate_set_before_the_begin() -> None:
    """A run that has not begun takes it as its own."""
    bus, time = FakeBus(), VirtualTime()
    runner = runner_of(bus, time, shape=Constant(5), duration_s=1.0)
    runner.set_rate(300)
    await runner.run()
    assert len(bus.sent) == 300


async def test_recorded_times_make_the_schedule() -> None:
    """A replay at recorded times sends each record then, in order, and ends with the last."""
    bus, time = FakeBus(), VirtualTime()
    lines = [b"%d" % n for n in range(5)]
    runner = runner_of(bus, time, iter(lines), 5, times=iter([0.0, 0.5, 0.5, 1.0, 4.0]))
    seen: dict[int, float] = {}

    def look() -> None:
        for number in range(len(bus.sent) + 1):
            seen.setdefault(number, runner.sending_s)

    time.on_sleep = look
    assert await runner.run() is EndReason.PLAN
    assert [payload for _, payload in bus.sent] == lines
    assert [seen[n] for n in range(1, 6)] == pytest.approx([0.0, 0.5, 0.5, 1.0, 4.0], abs=0.03)
    assert (runner.offered, runner.target_rate) == (5, None)


async def test_rate_set_before_a_replay_begins() -> None:
    """Then recorded times count no more."""
    bus, time = FakeBus(), VirtualTime()
    runner = runner_of(bus, time, repeat(b"x"), 100, times=repeat(0.0))
    runner.set_rate(50)
    await runner.run()
    assert len(bus.sent) == 100
    assert runner.sending_s == pytest.approx(2, abs=0.03)


async def test_no_lag_without_a_rate() -> None:
    """Where the window alone says how fast, nothing is late."""
    bus, time = FakeBus(room=10), VirtualTime()
    runner = runner_of(bus, time)
    running = asyncio.create_task(runner.run())
    await asyncio.wait_for(bus.stalled.wait(), 10)
    time.now_ns += 10**9
    assert runner.schedule_lag_s() == 0
    runner.stop()
    await running


async def test_keys_and_headers_go_along() -> None:
    """A message with a key or headers is published with them, one without takes the short way."""
    bus, time = FakeBus(), VirtualTime()
    messages = [
        LoadMessage("a", b"1"),
        LoadMessage("b", b"2", "key"),
        LoadMessage("c", b"3", None, {"h": "v"}),
    ]
    runner = LoadRunner(bus, LoadPlan(), Messages(iter(messages), 3), clock=time, sleep=time.sleep)
    await runner.run()
    assert bus.sent == [("a", b"1"), ("b", b"2"), ("c", b"3")]
    assert bus.extras == [{}, {"key": "key", "headers": None}, {"key": None, "headers": {"h": "v"}}]


# ---- scheduled times ------------------------------------------------------------------------------------------------


async def test_lag_of_a_stall() -> None:
    """While a message waits for room its lag grows; each look takes the longest since the one before."""
    bus, time = FakeBus(room=100), VirtualTime()
    runner = runner_of(bus, time, rate=1000, count=2000)
    assert runner.schedule_lag_s() == 0
    running = asyncio.create_task(runner.run())
    await asyncio.wait_for(bus.stalled.wait(), 10)
    assert runner.schedule_lag_s() < 0.05
    time.now_ns += 2 * 10**9
    assert runner.schedule_lag_s() == pytest.approx(2, abs=0.05)
    time.now_ns += 10**9
    bus.more_room(10**6)
    await running
    assert runner.schedule_lag_s() == pytest.approx(3, abs=0.05)
    assert runner.schedule_lag_s() == 0


async def test_latency_is_told_of_scheduled_times() -> None:
    """Every token comes with its scheduled time, also where a message waited; one that was refused has none."""
    bus, time = FakeBus(room=5, keep_receipts=True), VirtualTime()
    lines = [b"x" * 2000 if n == 3 else b"%d" % n for n in range(10)]
    latency = ScheduledLatency(100)
    runner = runner_of(bus, time, iter(lines), 10, latency=latency, rate=100, replay=Path("x"))
    begun_ns = time.now_ns
    running = asyncio.create_task(runner.run())
    await asyncio.wait_for(bus.stalled.wait(), 10)
    time.now_ns += 5 * 10**9
    bus.more_room(100)
    await running
    numbers = [n for n in range(10) if n != 3]
    assert latency._scheduled == {
        token: begun_ns + (n + 1) * 10_000_000 for token, n in enumerate(numbers, 1)
    }  # fmt: skip


async def test_message_that_was_acked_before_its_receipt_was_seen() -> None:
    """A publisher that waited for room may come back after the ack: the latency counts all the same."""
    bus, time, latency = FakeBus(room=0, keep_receipts=True), VirtualTime(), ScheduledLatency(100)
    real = bus.publish

    async def publish(topic: str, payload: bytes, **extras: Any) -> Any:
        receipt = await real(topic, payload, **extras)
        assert receipt is not None
        receipt.ack()
        return receipt

    bus.publish = publish  # type: ignore[method-assign]
    runner = runner_of(bus, time, latency=latency, rate=10, count=1)
    running = asyncio.create_task(runner.run())
    await asyncio.wait_for(bus.stalled.wait(), 10)
    time.now_ns += 10**9
    bus.more_room(1)
    await running
    assert (latency.histogram().total, latency._scheduled) == (1, {})
    assert latency.histogram().max_s == pytest.approx(1, abs=0.05)


# ---- the closed model -----------------------------------------------------------------------------------------------


def closed(bus: FakeBus, messages: Messages | None = None, **plan: Any) -> LoadRunner:
    source = Messages(LoadMessage("a", b"%d" % n) for n in count())
    return LoadRunner(bus, LoadPlan(**plan), messages or source, clock=SystemClock())


async def test_each_worker_has_one_message_under_way() -> None:
    """A worker publishes its next message when the one before is acked, not earlier."""
    bus = FakeBus(keep_receipts=True)
    runner = closed(bus, workers=3, count=10)
    running = asyncio.create_task(runner.run())
    receipts = bus.receipts
    assert receipts is not None
    for sent in range(3, 10):
        await until(lambda sent=sent: len(bus.sent) >= sent)  # type: ignore[misc]
        await asyncio.sleep(0)
        assert len(bus.sent) == runner.accepted == runner.offered == sent
        receipts[sent - 2].ack()
    assert (runner.target_rate, runner.schedule_lag_s()) == (None, 0)
    await until(lambda: len(bus.sent) == 10)
    for receipt in receipts.values():
        if not receipt.settled:
            receipt.ack()
    assert await asyncio.wait_for(running, 10) is EndReason.PLAN
    assert sorted(bus.sent, key=lambda each: int(each[1])) == [("a", b"%d" % n) for n in range(10)]


async def test_stop_of_workers_that_wait() -> None:
    """A stop ends them at once: those that await an ack, and those that wait for room; nothing more is sent."""
    bus = FakeBus(room=2, keep_receipts=True)
    runner = closed(bus, workers=4)
    running = asyncio.create_task(runner.run())
    await asyncio.wait_for(bus.stalled.wait(), 10)
    runner.stop()
    assert await asyncio.wait_for(running, 10) is EndReason.STOPPED
    bus.more_room(10)
    assert (len(bus.sent), runner.accepted) == (2, 2)


async def test_duration_ends_workers() -> None:
    """Acks that are still out at the end are left to the drain."""
    bus = FakeBus(keep_receipts=True)
    runner = closed(bus, workers=2, duration_s=0.05)
    assert await asyncio.wait_for(runner.run(), 10) is EndReason.PLAN
    assert (runner.accepted, runner.offered) == (2, 2)
    assert 0.04 <= runner.sending_s < 5


async def test_end_of_file_ends_workers() -> None:
    """Every message once; one that no broker takes is counted and harms no other."""
    bus = FakeBus()
    taken = bus.publish_nowait

    def publish_and_ack(topic: str, payload: bytes, **extras: Any) -> Any:
        taken(topic, payload, **extras)
        receipt = FakeReceipt(1)
        receipt.ack()
        return receipt

    bus.publish_nowait = publish_and_ack  # type: ignore[method-assign]
    lines = [b"1", b"x" * 2000, b"3", b"4"]
    runner = closed(bus, Messages(LoadMessage("a", line) for line in lines), workers=2, replay=Path("x"))
    assert await asyncio.wait_for(runner.run(), 10) is EndReason.PLAN
    assert sorted(payload for _, payload in bus.sent) == [b"1", b"3", b"4"]
    assert (runner.accepted, runner.refused, runner.offered) == (3, 1, 4)


async def test_bus_that_closes_under_workers() -> None:
    """What the bus raises ends the run, and no task is left behind."""
    bus = FakeBus(error=BusClosed("closed"))
    with pytest.raises(BusClosed):
        await asyncio.wait_for(closed(bus, workers=5).run(), 10)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelled_workers() -> None:
    """Cancelling a run ends its workers, and no task is left behind."""
    bus = FakeBus(keep_receipts=True)
    running = asyncio.create_task(closed(bus, workers=5, duration_s=60.0).run())
    await until(lambda: len(bus.sent) == 5)
    running.cancel()
    await asyncio.wait([running], timeout=10)
    assert running.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_workers_have_no_rate() -> None:
    """Changing the rate of a closed model is refused."""
    runner = closed(FakeBus(), workers=5)
    with pytest.raises(ConfigError, match="no rate"):
        runner.set_rate(5)
    with pytest.raises(ConfigError, match="no rate"):
        runner.set_shape(Constant(5))
