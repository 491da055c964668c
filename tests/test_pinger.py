"""What a run tells of its process, its store and the way to its broker; and that looking never holds it up."""

from __future__ import annotations

import asyncio
import mmap
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import eventbus
from eventbus import ConfigError, EventKind, PingTimeout
from eventbus.clock import SystemClock
from eventbus.load.payload import open_messages
from eventbus.load.pinger import Pinger
from eventbus.load.plan import LoadPlan
from eventbus.load.run import LoadRun
from eventbus.load_bus import connect_plan
from eventbus.observe import ProcessMemory, Sample, StoreReader, StoreWriter, memory
from eventbus.publishers.memory import MemoryPublisher
from tests.fakes import FakeClock, until

# ---- the pinger ----------------------------------------------------------------------------------------------------


async def told(answers: Sequence[float | Exception]) -> list[float | None]:
    """What a pinger tells after each of these answers."""
    left = list(answers)
    seen: list[float | None] = []
    pauses: list[float] = []

    async def ping() -> float:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        seen.append(pinger.round_trip_s)
        if not left:
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    pinger = Pinger(ping, sleep=sleep)
    assert pinger.round_trip_s is None
    running = asyncio.create_task(pinger.run())
    await until(lambda: len(seen) == len(answers))
    running.cancel()
    await asyncio.wait([running])
    assert set(pauses) == {5.0}
    return seen


async def test_last_answer_counts_until_one_does_not_come() -> None:
    """A value that is old is not told as if it were of now."""
    gone = PingTimeout("no answer")
    assert await told([0.002, gone, gone, 0.004]) == [0.002, None, None, 0.004]
    assert await told([gone, 0.001, eventbus.BusClosed("closed")]) == [None, 0.001, None]


# ---- memory --------------------------------------------------------------------------------------------------------


def test_memory_is_read_once_a_second() -> None:
    """However often it is asked for."""
    clock, read = FakeClock(), list[int]()

    def count() -> int:
        read.append(len(read))
        return 1000 + len(read)

    watched = ProcessMemory(clock, count)
    seen = []
    for _ in range(9):
        seen.append(watched.take())
        clock.advance(0.25)
    assert (seen, len(read)) == ([1001] * 4 + [1002] * 4 + [1003], 3)


def test_memory_of_this_process_is_what_the_system_says() -> None:
    """More than Python itself needs, and it grows by what is taken."""
    before = memory.resident_bytes()
    with mmap.mmap(-1, 50_000_000) as ballast:  # not from the heap, which may have so much left
        ballast.write(bytes(len(ballast)))
        after = memory.resident_bytes()
    assert before is not None
    assert after is not None
    assert 5_000_000 < before < after
    assert after - before > 25_000_000


def test_memory_that_cannot_be_known_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No /proc, or elsewhere than on Linux no psutil; where that is installed, it is asked."""
    monkeypatch.setattr(memory, "_STATM", tmp_path / "none")
    monkeypatch.setattr(sys, "platform", "linux")
    assert memory.resident_bytes() is None
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert memory.resident_bytes() is None
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=1234))
    monkeypatch.setitem(sys.modules, "psutil", SimpleNamespace(Process=lambda: process))
    assert memory.resident_bytes() == 1234


# ---- a run ---------------------------------------------------------------------------------------------------------


def run_of(plan: LoadPlan, **settings: Any) -> LoadRun:
    return LoadRun(plan, open_messages(plan), settings.pop("connect", connect_plan), clock=SystemClock(), **settings)


async def test_samples_tell_of_process_store_and_broker(tmp_path: Path) -> None:
    """All three are known on a run that is kept, the broker's version stands beside the other versions."""
    writer, seen = StoreWriter(tmp_path / "runs.db"), list[Sample]()
    run = run_of(LoadPlan(url="memory://", rate=500, duration_s=0.6), writer=writer, on_sample=seen.append)
    await run.open()
    result = await run.run()
    assert writer.close(10)
    last = seen[-1]
    assert last.resident_bytes == pytest.approx(memory.resident_bytes(), rel=0.5)
    assert last.store_delay_s is not None
    assert 0 <= last.store_delay_s < 5
    assert last.round_trip_s is not None
    assert 0 <= last.round_trip_s < 1
    reader = StoreReader(tmp_path / "runs.db")
    assert reader.samples(str(result.run_id)) == seen
    info = reader.run(str(result.run_id))
    assert info is not None
    assert info.environment["broker"] == "memory"
    assert info.pid == os.getpid()


async def test_run_without_a_store_knows_no_delay() -> None:
    """None, which is not 0: nothing is written at all."""
    seen: list[Sample] = []
    run = run_of(LoadPlan(url="memory://", rate=500, duration_s=0.3), on_sample=seen.append)
    await run.open()
    await run.run()
    assert {sample.store_delay_s for sample in seen} == {None}
    assert None not in {sample.resident_bytes for sample in seen}


async def test_broker_that_answers_no_ping_does_not_hold_a_run_up() -> None:
    """Messages go out and the run ends in its time while a ping waits; no sample tells a round trip."""

    async def never(self: MemoryPublisher) -> float:
        await asyncio.Event().wait()
        return 0.0

    async def connect(plan: LoadPlan, **settings: Any) -> eventbus.EventBus:
        bus = await connect_plan(plan, **settings)
        assert isinstance(bus._publisher, MemoryPublisher)
        bus._publisher.ping = never.__get__(bus._publisher)  # type: ignore[method-assign]
        return bus

    seen: list[Sample] = []
    run = run_of(LoadPlan(url="memory://", rate=1000, duration_s=0.5), on_sample=seen.append, connect=connect)
    await run.open()
    result = await asyncio.wait_for(run.run(), 10)
    assert (result.clean, result.snapshot.acked, result.offered) == (True, 500, 500)
    assert result.elapsed_s < 2  # which a ping that nobody answers takes to be given up
    assert {sample.round_trip_s for sample in seen} == {None}
    assert [task for task in asyncio.all_tasks() if task.get_name() == "ackscope-pinger"] == []


async def test_record_of_a_run_is_steered_directly() -> None:
    """Alerts are looked at and silenced, and events noted, by the run's record; runs pass nothing on."""
    events: list[eventbus.BusEvent] = []
    run = run_of(LoadPlan(url="memory://", rate=100, duration_s=0.1), on_event=events.append)
    names = [state.rule.name for state in run.record.alerts()]
    assert names
    run.record.silence(names[:1], 60.0, "ana", "deploy")
    with pytest.raises(ConfigError):
        run.record.acknowledge("no such rule", "ana")
    run.record.note(EventKind.PAUSED, "by hand")
    assert [(event.kind, event.text) for event in events] == [(EventKind.PAUSED, "by hand")]
