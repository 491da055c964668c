"""Load: plans and files are checked before anything is sent, and a run is recorded from begin to end."""

from __future__ import annotations

import asyncio
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus.clock import SystemClock
from eventbus.errors import ConfigError
from eventbus.load.payload import open_messages, open_payloads, random_payloads, replay_lines
from eventbus.load.plan import LoadPlan, parse_duration
from eventbus.load.run import LoadRun
from eventbus.load.summary import latency_text, to_json, to_rows, verdict
from eventbus.load_bus import connect_plan
from eventbus.observe import LagProbe, RunStatus, Sample, Sampler, StoreReader, StoreWriter
from eventbus.snapshot import BusSnapshot, ConnectionState
from tests.load_fakes import VirtualTime

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
    run = LoadRun(plan, open_messages(plan), connect_plan, clock=SystemClock(), writer=writer, on_sample=seen.append)
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
    assert samples[-1].scheduled.total == result.scheduled.total == 1200
    assert result.schedule_lag_s < 1.0
    for sample in samples:
        snapshot = sample.snapshot
        assert snapshot.accepted == snapshot.acked + snapshot.rejected + snapshot.unknown + snapshot.pending
        assert sample.offered >= snapshot.accepted
    assert reader.events(result.run_id)
    assert verdict(result) == "All 1,200 accepted messages were acked."
    as_json = json.loads(json.dumps(to_json(plan, result)))
    assert BusSnapshot.from_dict(as_json) == result.snapshot
    assert dict((row[0].strip(), row[1]) for row in to_rows(result))["acked"] == "1,200"


async def test_run_of_workers() -> None:
    """In the closed model all is acked, and there is no schedule to be late for."""
    plan = LoadPlan(url="memory://", workers=8, count=1000)
    run = LoadRun(plan, open_messages(plan), connect_plan, clock=SystemClock())
    await run.open()
    result = await asyncio.wait_for(run.run(), 20)
    assert (result.clean, result.snapshot.acked, result.offered) == (True, 1000, 1000)
    assert (result.scheduled.total, result.schedule_lag_s) == (0, 0.0)


async def test_run_that_is_stopped(tmp_path: Path) -> None:
    """A stop from outside ends an endless run; what was accepted is acked, and the status says stopped."""
    writer = StoreWriter(tmp_path / "runs.db")
    plan = LoadPlan(url="memory://", rate=1000)
    run = LoadRun(plan, open_messages(plan), connect_plan, clock=SystemClock(), writer=writer,
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

    async def connect(plan: LoadPlan, **settings: Any) -> eventbus.EventBus:
        buses.append(await connect_plan(plan, **settings))
        return buses[0]

    def sampled(sample: Sample) -> None:
        if sample.snapshot.acked > 50:
            closing.append(asyncio.ensure_future(buses[0].close()))

    closing: list[asyncio.Future[Any]] = []
    writer = StoreWriter(tmp_path / "runs.db")
    plan = LoadPlan(url="memory://", rate=1000)
    run = LoadRun(plan, open_messages(plan), connect, clock=SystemClock(), writer=writer, on_sample=sampled)
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
        plan, open_messages(plan), connect_plan, clock=SystemClock(), writer=writer,
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
