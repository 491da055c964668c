"""Load: plans and files are checked before anything is sent, and the schedule is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventbus
from eventbus.clock import SystemClock
from eventbus.errors import BusClosed, ConfigError, InvalidMessage, WindowFull
from eventbus.load.payload import open_payloads, random_payloads, replay_lines
from eventbus.load.plan import LoadPlan, parse_duration
from eventbus.load.run import LoadRun
from eventbus.load.runner import BATCH, CATCH_UP_S, EndReason, LoadRunner
from eventbus.load.schedule import Schedule
from eventbus.load.summary import latency_text, to_json, to_rows, verdict
from eventbus.observe import LagProbe, RunStatus, Sample, Sampler, StoreReader, StoreWriter
from eventbus.snapshot import BusSnapshot, ConnectionState


class VirtualTime:
    """A clock that moves only when somebody sleeps: no test waits."""

    def __init__(self) -> None:
        self.now_ns = 10**9
        self.sleeps = 0
        self.on_sleep: Callable[[], None] = lambda: None

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_s(self) -> float:
        return self.now_ns / 1e9

    async def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)
        self.sleeps += 1
        self.on_sleep()
        await asyncio.sleep(0)


class FakeBus:
    """Takes messages as long as there is room."""

    def __init__(self, room: int = 10**9, error: Exception | None = None) -> None:
        self.room = room
        self.error = error
        self.sent: list[tuple[str, bytes]] = []
        self.largest_burst = 0
        self._burst = 0
        self.has_room = asyncio.Event()
        self.stalled = asyncio.Event()

    def publish_nowait(self, topic: str, payload: bytes) -> None:
        if self.error is not None:
            raise self.error
        if len(payload) > 1000:
            raise InvalidMessage("too large")
        if len(self.sent) >= self.room:
            raise WindowFull("full")
        self.sent.append((topic, payload))
        self._burst += 1
        self.largest_burst = max(self.largest_burst, self._burst)

    async def publish(self, topic: str, payload: bytes) -> None:
        while len(self.sent) >= self.room:
            self.has_room.clear()
            self.stalled.set()
            await self.has_room.wait()
        self.publish_nowait(topic, payload)

    def more_room(self, number: int) -> None:
        self.room += number
        self.has_room.set()

    def turn(self) -> None:
        self._burst = 0


def runner_of(
    bus: FakeBus, time: VirtualTime, payloads: Iterator[bytes] | None = None, total: int | None = None, **plan: Any
) -> LoadRunner:
    source = repeat(b"x") if payloads is None else payloads
    time.on_sleep = bus.turn
    return LoadRunner(bus, LoadPlan(**plan), source, total, clock=time, sleep=time.sleep)


# ---- plan -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("rate", 0, "more than 0"),
        ("rate", -5, "more than 0"),
        ("rate", float("nan"), "number of messages per second"),
        ("rate", float("inf"), "number of messages per second"),
        ("rate", "fast", "number of messages per second"),
        ("rate", True, "number of messages per second"),
        ("rate", 1e12, "at most 10,000,000"),
        ("duration_s", 0, "more than 0"),
        ("count", 0, "1 or more"),
        ("count", 1.5, "whole number"),
        ("payload_size", -1, "0 to 67,108,864"),
        ("max_pending", 0, "1 or more"),
        ("max_pending", None, "whole number"),
        ("ack_timeout_s", 0, "more than 0"),
        ("ack_timeout_s", None, "number of seconds"),
        ("seed", "x", "whole number"),
        ("topic", "", "non-empty"),
        ("topic", "a b", "without spaces"),
        ("topic", "orders.>", "wildcard"),
        ("url", "", "nats://"),
        ("url", 5, "nats://"),
        ("replay", 7, "path of a JSONL file"),
        ("loop", "yes", "true or false"),
        ("embedded", "redis", "'nats' or 'kafka'"),
    ],
)
def test_plan_refuses(setting: str, value: Any, said: str) -> None:
    """A plan that cannot be is refused, with what was given and what is allowed."""
    with pytest.raises(ConfigError, match=said):
        LoadPlan.from_dict({setting: value})


def test_plan_refuses_unknown_names() -> None:
    """A misspelt setting is told, with those that exist."""
    with pytest.raises(ConfigError, match=r"'ratte'; known are url, topic, rate"):
        LoadPlan.from_dict({"ratte": 5})


@pytest.mark.parametrize(
    ("given", "embedded"),
    [
        ({}, "nats"),
        ({"url": "embedded+kafka://"}, "kafka"),
        ({"url": "kafka://127.0.0.1:9092"}, None),
        ({"url": "kafka://127.0.0.1:9092", "embedded": "kafka"}, "kafka"),
        ({"url": "embedded+redis://"}, None),
    ],
)
def test_plan_knows_an_embedded_broker(given: dict[str, Any], embedded: str | None) -> None:
    """What was measured against a mock is recorded as such, also where the URL is by now that of any broker."""
    plan = LoadPlan.from_dict(given)
    assert plan.settings()["embedded"] == embedded
    assert plan.on_mock is (embedded == "kafka")


def test_plan_hides_its_url() -> None:
    """A password in the URL shows neither in repr nor in the recorded settings; these are plain JSON."""
    plan = LoadPlan(url="nats://me:secret@h", replay=Path("a.jsonl"), rate=5)
    assert "secret" not in repr(plan) + json.dumps(plan.settings())
    assert plan.settings()["replay"] == "a.jsonl"
    assert LoadPlan.from_dict({"url": plan.url, **plan.settings()}) == plan


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("10s", 10), ("2m", 120), ("1h", 3600), ("1.5s", 1.5), (" 3s ", 3)]
)
def test_duration(text: str, seconds: float) -> None:
    """Durations are a number and a unit."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "0s", "-1s", "s", "1d", "1 s", "1e3s", "ten"])
def test_duration_that_is_none(text: str) -> None:
    """Anything else is refused with examples."""
    with pytest.raises(ConfigError, match="500ms, 10s, 2m or 1h"):
        parse_duration(text)


# ---- payloads -------------------------------------------------------------------------------------------------------


def test_random_payloads() -> None:
    """They have the size asked for, differ from each other, and repeat with the seed."""
    first = list(islice(random_payloads(64, seed=1), 4000))
    assert {len(payload) for payload in first} == {64}
    assert len(set(first)) == 4000
    assert first == list(islice(random_payloads(64, seed=1), 4000))
    assert first != list(islice(random_payloads(64, seed=2), 4000))
    assert next(random_payloads(0)) == b""


def test_replay_keeps_every_byte(tmp_path: Path) -> None:
    """Lines are sent as they stand: spaces, escapes, non-ASCII, big numbers; only the line end goes."""
    lines = [b'{"a": 1.50}', b"  [ 1,2 ]\t", '"žluťoučký"'.encode(), b"1" * 5000, b'"\\ud800"', b"null"]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(lines))
    assert replay_lines(path) == lines
    path.write_bytes(b"\r\n".join(lines) + b"\r\n")
    assert replay_lines(path) == lines


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\n", ":1: the line is empty"),
        (b'{"a":1}\n\n{"a":2}\n', ":2: the line is empty"),
        (b'{"a":1}\n{"a":\n', ":2: not JSON: Expecting value at column 6"),
        (b'{"a":1}\n{"a":1} x\n', ":2: not JSON: Extra data at column 9"),
        (b'"\xff"\n', ":1: not UTF-8: byte 0xff at column 2"),
        (b'{"a": NaN}\n', ":1: not JSON: NaN"),
        (b"[" * 200_000 + b"\n", ":1: nested too deeply"),
        (b"\xef\xbb\xbf1\n", ":1: not JSON"),
    ],
)
def test_malformed_replay_file(tmp_path: Path, content: bytes, said: str) -> None:
    """A file with a bad line is refused as a whole, with file, line and column."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        open_payloads(LoadPlan(replay=path))
    assert f"{path}" in str(caught.value)
    assert said in str(caught.value)


def test_unreadable_replay_file(tmp_path: Path) -> None:
    """A missing file and a directory are refused with their path."""
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            open_payloads(LoadPlan(replay=path))
        assert str(path) in str(caught.value)


def test_replay_loops(tmp_path: Path) -> None:
    """With ``loop`` the file begins again at its end, and then there is no total."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"1\n2\n")
    payloads = open_payloads(LoadPlan(replay=path, loop=True))
    assert (list(islice(payloads.source, 5)), payloads.total) == ([b"1", b"2", b"1", b"2", b"1"], None)
    assert open_payloads(LoadPlan(replay=path)).total == 2


def test_shipped_records_are_valid(flights: Path) -> None:
    """The file of real records that the project ships can be replayed, byte for byte."""
    lines = replay_lines(flights)
    assert len(lines) > 1000
    assert b"\n".join(lines) + b"\n" == flights.read_bytes()


# ---- schedule -------------------------------------------------------------------------------------------------------


@given(st.floats(0.01, 1e6), st.integers(1, 3600))
def test_schedule_gives_rate_times_seconds(rate: float, seconds: int) -> None:
    """After whole seconds exactly rate times seconds are due (rounded down), never one less by floating point."""
    due = Schedule(rate, 500).due(500 + seconds * 10**9)
    assert due is not None
    assert abs(due - rate * seconds) < 1 + 1e-5
    if rate == int(rate):
        assert due == int(rate) * seconds


@given(st.lists(st.tuples(st.integers(0, 10**10), st.one_of(st.none(), st.floats(0.1, 1e5))), max_size=8))
def test_schedule_never_falls(changes: list[tuple[int, float | None]]) -> None:
    """Whatever the changes of rate, what is due only grows."""
    schedule, now, sent = Schedule(100.0, 0), 0, 0
    for step_ns, rate in changes:
        now += step_ns
        before = schedule.due(now)
        sent = max(sent, before or 0)
        schedule.change(rate, now, sent)
        after = schedule.due(now)
        if before is not None and after is not None:
            assert after == before


def test_next_message_is_due_in() -> None:
    """The pause until the next message follows from the rate."""
    assert Schedule(4.0, 0).next_due_s(0) == pytest.approx(0.25)
    assert Schedule(4.0, 0).next_due_s(100_000_000) == pytest.approx(0.15)
    assert Schedule(None, 0).next_due_s(5) == 0.0


# ---- runner ---------------------------------------------------------------------------------------------------------


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


# ---- sampler --------------------------------------------------------------------------------------------------------


async def test_samples_come_each_quarter_of_a_second() -> None:
    """The first at once, then at each interval since the start of the run, until cancelled."""
    time = VirtualTime()
    taken: list[Sample] = []
    snapshot = BusSnapshot("bus", 0.0, 0.0, ConnectionState.CONNECTED)

    def take(sample: Sample) -> None:
        taken.append(sample)
        if len(taken) == 3:
            time.now_ns += 60_000_000  # a busy moment does not shift those after it
        if len(taken) == 6:
            task.cancel()

    sampler = Sampler(
        snapshot=lambda: snapshot,
        load=lambda: (len(taken), 5.0),
        lag=lambda: 0.5,
        took=take,
        clock=time,
        started_ns=time.monotonic_ns(),
        sleep=time.sleep,
    )
    task = asyncio.create_task(sampler.run())
    await asyncio.wait([task], timeout=10)
    assert [sample.elapsed_s for sample in taken] == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0, 1.25])
    assert [(sample.offered, sample.target_rate, sample.loop_lag_s) for sample in taken][:2] == [
        (0, 5.0, 0.5),
        (1, 5.0, 0.5),
    ]


async def test_lag_of_a_blocked_loop_is_seen() -> None:
    """A callback that blocks the loop shows as lag once, and is gone with the next look."""
    import time as real

    probe = LagProbe(asyncio.get_running_loop())
    until = real.monotonic() + 0.06
    while real.monotonic() < until:
        pass
    lag = probe.take()
    probe.stop()
    assert 0.04 < lag < 5
    assert probe.take() <= lag + 5


# ---- a whole run ----------------------------------------------------------------------------------------------------


async def test_run_is_recorded_from_begin_to_end(tmp_path: Path) -> None:
    """A run on the memory broker: all acked, samples from 0 to the end, events, settings, report, status."""
    path = tmp_path / "runs.db"
    writer = StoreWriter(path)
    seen: list[Sample] = []
    plan = LoadPlan(url="memory://", rate=2000, duration_s=0.6, topic="a.b")
    run = LoadRun(
        plan, open_payloads(plan), eventbus.connect, clock=SystemClock(), writer=writer, on_sample=seen.append
    )
    await run.open()
    result = await run.run()
    assert writer.close(10)
    assert result.clean
    assert (result.status, result.offered, result.snapshot.acked) == (RunStatus.FINISHED, 1200, 1200)
    assert result.run_id is not None
    reader = StoreReader(path)
    info = reader.run(result.run_id)
    assert info is not None
    assert (info.status, info.url, info.topic, info.error) == (RunStatus.FINISHED, "memory://", "a.b", None)
    assert info.report is not None
    assert (info.report["accepted"], info.report["acked"]) == (1200, 1200)
    assert info.settings["rate"] == 2000
    samples = reader.samples(result.run_id)
    assert samples == seen
    assert len(samples) >= 3
    assert samples[0].snapshot.accepted == 0
    assert samples[0].elapsed_s < 0.2
    assert samples[-1].snapshot.acked == 1200
    for sample in samples:
        snapshot = sample.snapshot
        assert snapshot.accepted == snapshot.acked + snapshot.rejected + snapshot.unknown + snapshot.pending
        assert sample.offered >= snapshot.accepted
    assert reader.events(result.run_id)
    assert verdict(result) == "All 1,200 accepted messages were acked."
    as_json = json.loads(json.dumps(to_json(plan, result)))
    assert BusSnapshot.from_dict(as_json) == result.snapshot
    assert dict((row[0].strip(), row[1]) for row in to_rows(result))["acked"] == "1,200"


async def test_run_that_is_stopped(tmp_path: Path) -> None:
    """A stop from outside ends an endless run; what was accepted is acked, and the status says stopped."""
    writer = StoreWriter(tmp_path / "runs.db")
    plan = LoadPlan(url="memory://", rate=1000)
    run = LoadRun(plan, open_payloads(plan), eventbus.connect, clock=SystemClock(), writer=writer,
                  on_sample=lambda sample: run.stop() if sample.snapshot.acked > 100 else None)  # fmt: skip
    await run.open()
    result = await asyncio.wait_for(run.run(), 20)
    assert writer.close(10)
    assert (result.status, result.clean, result.report.timed_out) == (RunStatus.STOPPED, True, False)
    assert result.snapshot.acked > 100
    info = StoreReader(tmp_path / "runs.db").run(str(result.run_id))
    assert info is not None
    assert info.status is RunStatus.STOPPED


async def test_run_whose_bus_is_closed_by_another(tmp_path: Path) -> None:
    """A run that fails on the way ends with its error written, the bus closed, and the figures so far."""
    buses: list[eventbus.EventBus] = []

    async def connect(url: str, **settings: Any) -> eventbus.EventBus:
        buses.append(await eventbus.connect(url, **settings))
        return buses[0]

    def sampled(sample: Sample) -> None:
        if sample.snapshot.acked > 50:
            closing.append(asyncio.ensure_future(buses[0].close()))

    closing: list[asyncio.Future[Any]] = []
    writer = StoreWriter(tmp_path / "runs.db")
    plan = LoadPlan(url="memory://", rate=1000)
    run = LoadRun(plan, open_payloads(plan), connect, clock=SystemClock(), writer=writer, on_sample=sampled)
    await run.open()
    result = await asyncio.wait_for(run.run(), 20)
    assert writer.close(10)
    assert result.status is RunStatus.FAILED
    assert not result.clean
    assert result.error is not None
    assert "closed" in result.error
    info = StoreReader(tmp_path / "runs.db").run(str(result.run_id))
    assert info is not None
    assert (info.status, info.error) == (RunStatus.FAILED, result.error)
    assert verdict(result).startswith("The run failed")


async def test_cancelled_run_still_writes_its_end(tmp_path: Path) -> None:
    """Cancellation closes the bus and writes the end of the run before it goes on."""
    writer = StoreWriter(tmp_path / "runs.db")
    plan = LoadPlan(url="memory://", rate=1000)
    sampled = asyncio.Event()
    run = LoadRun(
        plan, open_payloads(plan), eventbus.connect, clock=SystemClock(), writer=writer,
        on_sample=lambda _: sampled.set(),
    )  # fmt: skip
    await run.open()
    task = asyncio.create_task(run.run())
    await asyncio.wait_for(sampled.wait(), 10)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
    assert writer.close(10)
    info = StoreReader(tmp_path / "runs.db").run(str(run.run_id))
    assert info is not None
    assert info.status is RunStatus.FAILED
    assert info.report is not None


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.000065, "65 µs"), (0.0042, "4.20 ms"), (0.25, "250 ms"), (3.0, "3.00 s")]
)
def test_latency_has_the_unit_that_suits_it(seconds: float | None, text: str) -> None:
    """Microseconds, milliseconds or seconds, always with the unit."""
    assert latency_text(seconds) == text
