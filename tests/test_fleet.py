"""One plan by several processes on this machine: exact figures, one beginning, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from eventbus import BusEvent, ConfigError, ConnectFailed, EventKind
from eventbus.alerts import Threshold, parse
from eventbus.clock import SystemClock
from eventbus.embedded.nats import EmbeddedNats
from eventbus.load import fleet_parts
from eventbus.load.executor import LocalExecutor, LocalPart
from eventbus.load.fleet import FleetRun
from eventbus.load.fleet_figures import FleetFigures
from eventbus.load.fleet_part import FleetPart, Listener
from eventbus.load.part_message import sample_to_dict
from eventbus.load.plan import LoadPlan
from eventbus.load.run import RunResult
from eventbus.load.shape import shape_from
from eventbus.observe import RunStatus, Sample, StoreReader, StoreWriter
from eventbus.own_broker import own_broker
from tests import run_samples
from tests.part_recording import begins, recorded

RECORDING = str(Path(__file__).with_name("part_recording.py"))
WAIT_S = 40.0


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with EmbeddedNats() as server:
        yield server.url


class WatchedPart(LocalPart):
    """spoil: changes a command before it is sent."""

    spoil: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None

    def __init__(self, *arguments: Any) -> None:
        self.sent: list[Mapping[str, Any]] = []
        super().__init__(*arguments)

    def send(self, command: Mapping[str, Any]) -> None:
        if self.spoil is not None:
            command = self.spoil(dict(command))
        self.sent.append(command)
        super().send(command)


class WatchedExecutor(LocalExecutor):
    """Keeps its parts, so that a test can harm them. spoiled: the number of one whose commands are changed."""

    def __init__(self, *arguments: str, spoiled: int = -1, spoil: Any = None) -> None:
        super().__init__(arguments) if arguments else super().__init__()
        self.parts: list[WatchedPart] = []
        self.started = asyncio.Event()
        self._spoiled, self._spoil = spoiled, spoil

    async def start(self, index: int, heard: Callable[[bytes], None], gone: Callable[[str], None]) -> WatchedPart:
        part = WatchedPart(self._arguments, heard, gone)
        if index == self._spoiled:
            part.spoil = self._spoil
        self.parts.append(part)
        self.started.set()
        return part

    @property
    def left(self) -> list[int]:
        return [part.pid for part in self.parts if is_there(part.pid)]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Fleet:
    """A run with everything that it told."""

    def __init__(self, plan: LoadPlan, executor: WatchedExecutor, **settings: Any) -> None:
        self.executor = executor
        self.samples: list[Sample] = []
        self.events: list[BusEvent] = []
        self._seen = asyncio.Event()
        self.run = FleetRun(
            plan,
            executor,
            clock=SystemClock(),
            make_broker=own_broker,
            on_sample=self._sampled,
            on_event=self.events.append,
            **settings,
        )

    def _sampled(self, sample: Sample) -> None:
        self.samples.append(sample)
        self._seen.set()

    async def begin(self) -> asyncio.Task[RunResult]:
        await asyncio.wait_for(self.run.open(), WAIT_S)
        return asyncio.create_task(self.run.run())

    async def whole(self) -> RunResult:
        return await asyncio.wait_for(await self.begin(), WAIT_S)

    async def until(self, holds: Callable[[Sample], bool]) -> Sample:
        async with asyncio.timeout(WAIT_S):
            while not (self.samples and holds(self.samples[-1])):
                self._seen.clear()
                await self._seen.wait()
        return self.samples[-1]


@pytest.mark.integration
@pytest.mark.parametrize("processes", [2, 4])
async def test_merged_histograms_are_those_of_all_latencies(broker: str, tmp_path: Path, processes: int) -> None:
    """What is merged of several processes equals, bucket by bucket, what comes of all single latencies together; all
    begin at one instant."""
    fleet = Fleet(
        LoadPlan(url=broker, topic=f"fleet{processes}.events", rate=2000, count=3001, processes=processes),
        WatchedExecutor(RECORDING, str(tmp_path)),
    )
    result = await fleet.whole()
    assert (result.status, result.error, result.clean) == (RunStatus.FINISHED, None, True)
    assert (result.offered, result.snapshot.accepted, result.report.acked) == (3001, 3001, 3001)
    assert result.latency == result.snapshot.latency == recorded(tmp_path, "acked")
    assert result.scheduled == fleet.samples[-1].scheduled == recorded(tmp_path, "scheduled")
    assert result.latency.total == 3001
    times = begins(tmp_path)
    assert len(times) == processes
    assert max(times) - min(times) < 0.5
    assert fleet.executor.left == []


@pytest.mark.integration
async def test_one_embedded_broker_for_all(tmp_path: Path) -> None:
    """An embedded broker is started once, and ends with the run; the store has one run, with merged samples."""
    writer = StoreWriter(tmp_path / "runs.db")
    plan = LoadPlan(url="embedded+nats://", count=400, rate=1000, processes=2)
    fleet = Fleet(plan, WatchedExecutor(), writer=writer)
    result = await fleet.whole()
    assert {part.sent[0]["plan"]["url"] for part in fleet.executor.parts} == {result.url}
    assert (result.snapshot.acked, result.snapshot.max_pending) == (400, plan.max_pending)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*result.url.removeprefix("nats://").split(":"))
    assert writer.close(10)
    (info,) = StoreReader(writer.path).runs()
    assert (info.run_id, info.status, info.settings["processes"]) == (result.run_id, RunStatus.FINISHED, 2)
    latest = StoreReader(writer.path).latest(info.run_id)
    assert latest is not None
    assert latest.snapshot.acked == 400


async def test_killed_part_is_told_and_the_others_go_on() -> None:
    """One process killed in the middle: an event and an error say so, its last figures stand, what was pending there is
    unknown, and the other one sends all of its share."""
    fleet = Fleet(LoadPlan(url="memory://", rate=1000, count=2000, processes=2), WatchedExecutor())
    running = await fleet.begin()
    await fleet.until(lambda sample: sample.snapshot.acked > 200)
    os.kill(fleet.executor.parts[1].pid, signal.SIGKILL)
    result = await asyncio.wait_for(running, WAIT_S)
    assert result.status is RunStatus.FAILED
    assert result.error is not None
    assert result.error.startswith("process 2 of 2 was killed by signal 9; its figures are ")
    assert [event.text for event in fleet.events if event.kind is EventKind.PROCESS_LOST] == [result.error]
    snapshot = result.snapshot
    assert 1000 < snapshot.accepted < 2000
    assert snapshot.accepted == snapshot.acked + snapshot.rejected + snapshot.unknown
    assert result.report.accepted == snapshot.accepted
    assert not result.clean
    assert fleet.executor.left == []


async def test_stop_in_the_middle_ends_all() -> None:
    """After a stop no process sends, all acks are awaited, and the status says that somebody stopped it."""
    fleet = Fleet(LoadPlan(url="memory://", rate=500, processes=3), WatchedExecutor())
    running = await fleet.begin()
    await fleet.until(lambda sample: sample.snapshot.acked > 100)
    fleet.run.stop()
    result = await asyncio.wait_for(running, WAIT_S)
    assert (result.status, result.error) == (RunStatus.STOPPED, None)
    assert result.snapshot.acked == result.snapshot.accepted > 100
    assert fleet.executor.left == []


async def test_stop_before_the_begin_sends_nothing() -> None:
    """Stopped between open and run: all end, and nothing was sent."""
    fleet = Fleet(LoadPlan(url="memory://", rate=500, processes=2), WatchedExecutor())
    await fleet.run.open()
    fleet.run.stop(0.0)
    result = await asyncio.wait_for(fleet.run.run(), WAIT_S)
    assert (result.status, result.snapshot.accepted) == (RunStatus.STOPPED, 0)
    assert fleet.executor.left == []


def elsewhere(command: dict[str, Any]) -> dict[str, Any]:
    if command["cmd"] == "open":
        command["plan"] = {**command["plan"], "url": "nats://127.0.0.1:1"}
    return command


@pytest.mark.integration
async def test_where_one_cannot_connect_none_sends(broker: str) -> None:
    """One process finds no broker: a clear error says which, none gets the word to begin, and all are ended."""
    executor = WatchedExecutor(spoiled=1, spoil=elsewhere)
    fleet = Fleet(LoadPlan(url=broker, topic="none.sends", rate=500, processes=2), executor)
    with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1:1.*\(in process 2 of 2\)"):
        await asyncio.wait_for(fleet.run.open(), WAIT_S)
    assert {command["cmd"] for part in executor.parts for command in part.sent} == {"open"}
    assert executor.left == []
    assert fleet.samples == []


async def test_part_that_cannot_even_start() -> None:
    """A process that ends at once: the error has its last words, and no other is left."""
    executor = WatchedExecutor("-c", "import sys; sys.exit('no such thing')")
    with pytest.raises(ConnectFailed, match=r"ended with exit code 1; it said: no such thing before it was connected"):
        await asyncio.wait_for(Fleet(LoadPlan(url="memory://", count=9, processes=2), executor).run.open(), WAIT_S)
    assert executor.left == []


async def test_fewer_messages_than_processes_are_refused() -> None:
    """What cannot be shared is refused before anything is started."""
    with pytest.raises(ConfigError, match="at least one for each"):
        Fleet(LoadPlan(url="memory://", count=1, processes=2), WatchedExecutor())


async def test_frozen_part_counts_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stands still and says nothing is given up and ended by force; the run comes to its end."""
    monkeypatch.setattr(fleet_parts, "SILENCE_S", 1.5)
    fleet = Fleet(LoadPlan(url="memory://", rate=400, count=800, processes=2), WatchedExecutor())
    running = await fleet.begin()
    await fleet.until(lambda sample: sample.snapshot.acked > 100)
    os.kill(fleet.executor.parts[0].pid, signal.SIGSTOP)
    result = await asyncio.wait_for(running, WAIT_S)
    assert result.error is not None
    assert "process 1 of 2 said nothing for" in result.error
    assert fleet.executor.left == []


async def test_rate_and_shape_are_shared() -> None:
    """A new rate or shape is that of all processes together."""
    fleet = Fleet(LoadPlan(url="memory://", rate=300, processes=3), WatchedExecutor())
    running = await fleet.begin()
    assert (await fleet.until(lambda _: True)).target_rate == pytest.approx(300)
    fleet.run.set_rate(900)
    await fleet.until(lambda sample: sample.target_rate == pytest.approx(900))
    fleet.run.set_shape(shape_from({"kind": "constant", "rate": 30}))
    await fleet.until(lambda sample: sample.target_rate == pytest.approx(30))
    fleet.run.set_rate(None)
    await fleet.until(lambda sample: sample.target_rate is None)
    fleet.run.stop(1.0)
    await asyncio.wait_for(running, WAIT_S)


async def test_closed_model_has_no_rate() -> None:
    """Workers are shared among the processes, and a rate cannot be set."""
    fleet = Fleet(LoadPlan(url="memory://", workers=5, count=500, processes=2), WatchedExecutor())
    running = await fleet.begin()
    with pytest.raises(ConfigError, match="workers"):
        fleet.run.set_rate(5)
    result = await asyncio.wait_for(running, WAIT_S)
    assert (result.snapshot.acked, result.scheduled.total) == (500, 0)
    assert [part.sent[0]["plan"]["workers"] for part in fleet.executor.parts] == [3, 2]


async def test_thresholds_judge_the_whole_and_end_it() -> None:
    """Thresholds are judged over all processes, and one with abort ends them all."""
    crossed = Threshold(parse("rate(acked) > 100000"), abort=True, grace_s=0.0)
    plan = LoadPlan(url="memory://", rate=500, processes=2, thresholds=(crossed,))
    result = await Fleet(plan, WatchedExecutor()).whole()
    assert result.aborted is not None
    assert not result.passed
    assert result.verdict is not None
    assert [row.passed for row in result.verdict.rows] == [False]


async def test_warm_up_is_left_out() -> None:
    """The judged latencies are those after the warm-up of all processes; the totals are of the whole run."""
    plan = LoadPlan(url="memory://", rate=500, duration_s=1.5, warm_up_s=0.7, processes=2)
    result = await Fleet(plan, WatchedExecutor()).whole()
    assert result.snapshot.acked == result.snapshot.latency.total == pytest.approx(750, abs=10)
    assert 100 < result.latency.total < 500
    assert 100 < result.scheduled.total < 500


async def test_cancelled_run_leaves_nothing_behind() -> None:
    """Cancellation ends all processes at once and is passed on."""
    fleet = Fleet(LoadPlan(url="memory://", rate=500, processes=2), WatchedExecutor())
    running = await fleet.begin()
    await fleet.until(lambda sample: sample.snapshot.acked > 0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, WAIT_S)
    assert fleet.executor.left == []


async def test_cancelled_open_leaves_nothing_behind() -> None:
    """Cancelled while processes start: they are ended."""
    fleet = Fleet(LoadPlan(url="memory://", rate=500, processes=2), WatchedExecutor())
    opening = asyncio.create_task(fleet.run.open())
    await asyncio.wait_for(fleet.executor.started.wait(), WAIT_S)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(opening, WAIT_S)
    assert fleet.executor.left == []


COORDINATOR = """
import asyncio
from eventbus.clock import SystemClock
from eventbus.load.executor import LocalExecutor
from eventbus.load.fleet import FleetRun
from eventbus.load.plan import LoadPlan

class Telling(LocalExecutor):
    async def start(self, *arguments):
        part = await super().start(*arguments)
        print(part.pid, flush=True)
        return part

async def main():
    run = FleetRun(LoadPlan(url="memory://", rate=100, processes=2), Telling(), clock=SystemClock())
    await run.open()
    print("open", flush=True)
    await run.run()

asyncio.run(main())
"""


def test_killed_coordinator_leaves_no_part_behind() -> None:
    """SIGKILL to the program that drives the parts: their input closes, and they end by themselves."""
    with subprocess.Popen([sys.executable, "-c", COORDINATOR], stdout=subprocess.PIPE, text=True) as coordinator:
        assert coordinator.stdout is not None
        pids = [int(coordinator.stdout.readline()) for _ in range(2)]
        assert coordinator.stdout.readline() == "open\n"
        coordinator.kill()
    deadline = time.monotonic() + WAIT_S
    while any(map(is_there, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


SCRIPTED = """
import json, sys
from eventbus.load.failure_batch import FailureBatch
from eventbus.load.part import own_version
from eventbus.load.part_message import PartResult, failed_to_dict
from eventbus.observe import FailedMessage, RunStatus
from eventbus.report import CloseReport

def tell(**message):
    print(json.dumps(message), flush=True)

tell(event="ready", version=own_version())
sys.stdin.readline()
tell(event="opened", url="memory://", broker="memory")
sys.stdin.readline()
batch = FailureBatch()
how = ("a.b", "unknown", False, 1, "ambiguous", "timeout", "slow")
batch.add([FailedMessage(float(n), f"m{n}", *how) for n in (1, 2)])
messages, groups = batch.take()
tell(event="failed", **failed_to_dict(messages[:1], groups))
report = CloseReport(3, 1, 0, 0, 0, 2, 0, 0, 0, 0.1, False)
result = PartResult(RunStatus.FINISHED, 3, 1, "too large", 0.5, 0.25, report, None)
tell(event="ended", result=result.to_dict(), sample=None)
"""


async def test_failures_of_parts_are_kept(tmp_path: Path) -> None:
    """Failed messages of all processes are counted together in the store, all of them, also those not told one by one;
    what was refused and how the buses closed is added up."""
    writer = StoreWriter(tmp_path / "runs.db")
    fleet = Fleet(LoadPlan(url="memory://", rate=9, processes=2), WatchedExecutor("-c", SCRIPTED), writer=writer)
    result = await fleet.whole()
    assert (result.status, result.refused, result.refusal) == (RunStatus.FINISHED, 2, "too large")
    assert (result.report.accepted, result.report.unknown, result.schedule_lag_s) == (6, 4, 0.25)
    assert writer.close(10)
    reader, run_id = StoreReader(writer.path), fleet.run.run_id
    assert run_id is not None
    assert [(group.kind, group.outcome, group.count) for group in reader.failure_groups(run_id)] == [
        ("timeout", "unknown", 4)
    ]
    assert [message.message_id for message in reader.failed(run_id)] == ["m1", "m1"]


# ---- figures of processes ------------------------------------------------------------------------------------------


def figures_of(*told: Mapping[str, Any] | None) -> tuple[FleetFigures, list[FleetPart]]:
    """Parts that have told a sample with these fields; None: a part that has told nothing yet."""
    listener = Listener(lambda: None, lambda event: None, lambda messages, groups: None)
    parts = []
    for number, fields in enumerate(told):
        part = FleetPart(LoadPlan(url="memory://", rate=1), f"process {number + 1}", "", listener, 0.0)
        if fields is not None:
            line = {"event": "sample", "sample": sample_to_dict(run_samples.sample(1.0, **fields))}
            part.hear(json.dumps(line).encode(), 1.0)
        parts.append(part)
    return FleetFigures(parts, SystemClock()), parts


def process_figures(figures: FleetFigures) -> tuple[int | None, float | None, float | None]:
    whole = figures.whole(run_samples.sample(1.0))
    return whole.resident_bytes, whole.store_delay_s, whole.round_trip_s


def test_processes_are_told_as_one() -> None:
    """Memory is added up; the longest delay and round trip count, whatever the others do not know."""
    one = {"resident_bytes": 100, "store_delay_s": 0.25, "round_trip_s": 0.001}
    two = {"resident_bytes": 50, "store_delay_s": 0.0, "round_trip_s": 0.004}
    figures, parts = figures_of(one, two, {"resident_bytes": 7}, None)
    assert process_figures(figures) == (157, 0.25, 0.004)
    parts[1].lose("was killed", 2.0)
    assert process_figures(figures) == (107, 0.25, 0.001)


def test_processes_that_know_nothing_are_not_told_as_nought() -> None:
    """None, not 0."""
    figures, _ = figures_of({}, None)
    assert process_figures(figures) == (None, None, None)


async def test_fleet_tells_its_broker_and_memory(tmp_path: Path) -> None:
    """From its parts to the store of whoever coordinates them, who adds how far its own store is behind."""
    writer = StoreWriter(tmp_path / "runs.db")
    fleet = Fleet(LoadPlan(url="memory://", rate=500, duration_s=0.6, processes=2), WatchedExecutor(), writer=writer)
    await fleet.whole()
    assert writer.close(10)
    reader, run_id = StoreReader(writer.path), fleet.run.run_id
    assert run_id is not None
    info, last = reader.run(run_id), reader.latest(run_id)
    assert info is not None
    assert info.environment["broker"] == "memory"
    assert last is not None
    assert last.resident_bytes is not None
    assert last.resident_bytes > 20_000_000
    assert last.store_delay_s is not None
    assert last.round_trip_s is not None
