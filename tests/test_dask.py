"""One plan on the workers of a Dask cluster: exact figures, and nothing left behind. A cluster of two on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from eventbus import BusEvent, ConfigError, ConnectFailed, EventKind
from eventbus.clock import SystemClock
from eventbus.embedded.nats import EmbeddedNats
from eventbus.load import dask_executor, dask_part
from eventbus.load.dask_executor import DaskExecutor
from eventbus.load.dask_part import ALIVE, END
from eventbus.load.fleet import FleetRun, executor_of
from eventbus.load.plan import LoadPlan
from eventbus.load.run import RunResult
from eventbus.observe import RunStatus, Sample
from tests.part_recording import recorded

RECORDING = str(Path(__file__).with_name("part_recording.py"))
WAIT_S = 60.0


def local_cluster(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address=None,
        scheduler_kwargs={"dashboard": False},
        silence_logs=50,
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster(2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with EmbeddedNats() as server:
        yield server.url


class Fleet:
    """A run with everything that it told."""

    def __init__(self, plan: LoadPlan, executor: DaskExecutor) -> None:
        self.events: list[BusEvent] = []
        self.last: Sample | None = None
        self._seen = asyncio.Event()
        self.run = FleetRun(plan, executor, clock=SystemClock(), on_sample=self._sampled, on_event=self.events.append)

    def _sampled(self, sample: Sample) -> None:
        self.last = sample
        self._seen.set()

    async def begin(self) -> asyncio.Task[RunResult]:
        await asyncio.wait_for(self.run.open(), WAIT_S)
        return asyncio.create_task(self.run.run())

    async def until(self, holds: Callable[[Sample], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.last is None or not holds(self.last):
                self._seen.clear()
                await self._seen.wait()


@pytest.mark.integration
async def test_merged_histogram_is_that_of_all_latencies(cluster: LocalCluster, broker: str, tmp_path: Path) -> None:
    """One part on each of two workers; what is merged equals what comes of all single latencies together."""
    executor = DaskExecutor(cluster.scheduler_address, (RECORDING, str(tmp_path)))
    fleet = Fleet(LoadPlan(url=broker, topic="dask.events", rate=2000, count=3001), executor)
    running = await fleet.begin()
    assert fleet.run.processes == 2
    result = await asyncio.wait_for(running, WAIT_S)
    assert (result.status, result.error, result.clean) == (RunStatus.FINISHED, None, True)
    assert (result.offered, result.snapshot.acked, result.latency.total) == (3001, 3001, 3001)
    assert result.latency == recorded(tmp_path, "acked")
    assert result.scheduled == recorded(tmp_path, "scheduled")
    places = {event.text.split(" at ")[1].split(": ")[0] for event in fleet.events}
    assert places == {worker.worker_address for worker in cluster.workers.values()}


async def test_more_parts_than_workers_have_threads(cluster: LocalCluster) -> None:
    """Parts do not wait for each other's end: four run at once on two workers of one thread each; a stop ends all."""
    fleet = Fleet(LoadPlan(url="memory://", rate=400, processes=4), DaskExecutor(cluster.scheduler_address))
    running = await fleet.begin()
    await fleet.until(lambda sample: sample.snapshot.acked > 100)
    fleet.run.stop()
    result = await asyncio.wait_for(running, WAIT_S)
    assert (result.status, result.error) == (RunStatus.STOPPED, None)
    assert result.snapshot.acked == result.snapshot.accepted > 100


async def test_nothing_is_left_at_the_scheduler(cluster: LocalCluster) -> None:
    """After a run the scheduler has neither a task nor a queue of it."""
    fleet = Fleet(LoadPlan(url="memory://", count=20, rate=100), DaskExecutor(cluster.scheduler_address))
    await asyncio.wait_for(await fleet.begin(), WAIT_S)
    scheduler: Any = cluster.scheduler
    async with asyncio.timeout(WAIT_S):
        while scheduler.tasks or scheduler.extensions["queues"].queues:  # noqa: ASYNC110 - they are another loop's
            await asyncio.sleep(0.05)


async def test_killed_worker_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    """A Dask worker killed in the middle takes its part with it; the run says so, and the other part ends its share.

    The part is not begun again, although its task would be.
    """
    with local_cluster(2) as cluster:
        plan = LoadPlan(url="memory://", rate=300, count=1200)
        fleet = Fleet(plan, DaskExecutor(cluster.scheduler_address, (RECORDING, str(tmp_path))))
        running = await fleet.begin()
        await fleet.until(lambda sample: sample.snapshot.acked > 100)
        victim = next(iter(cluster.workers.values()))
        os.kill(victim.process.pid, signal.SIGKILL)
        result = await asyncio.wait_for(running, WAIT_S)
        assert result.status is RunStatus.FAILED
        assert result.error is not None
        assert "was on a Dask worker that is gone" in result.error
        assert [event.text for event in fleet.events if event.kind is EventKind.PROCESS_LOST] == [result.error]
        assert 600 < result.snapshot.accepted < 1200
        assert result.snapshot.accepted == result.snapshot.acked + result.snapshot.unknown
        assert len(os.listdir(tmp_path)) == 2


async def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens at the address: one clear error, soon."""
    monkeypatch.setattr(dask_executor, "CONNECT_TIMEOUT_S", 0.5)
    fleet = Fleet(LoadPlan(url="memory://", rate=100), DaskExecutor("tcp://127.0.0.1:1"))
    with pytest.raises(ConnectFailed, match=r"scheduler at tcp://127\.0\.0\.1:1 cannot be reached"):
        await asyncio.wait_for(fleet.run.open(), WAIT_S)


async def test_no_address() -> None:
    """What is no address is refused as such."""
    fleet = Fleet(LoadPlan(url="memory://", rate=100), DaskExecutor("nonsense://here"))
    with pytest.raises(ConfigError, match="no address of a Dask scheduler"):
        await asyncio.wait_for(fleet.run.open(), WAIT_S)


async def test_cluster_without_workers() -> None:
    """A scheduler alone runs no load."""
    with local_cluster(0) as cluster:
        fleet = Fleet(LoadPlan(url="memory://", rate=100), DaskExecutor(cluster.scheduler_address))
        with pytest.raises(ConnectFailed, match="has no workers"):
            await asyncio.wait_for(fleet.run.open(), WAIT_S)


async def test_part_that_cannot_start_there(cluster: LocalCluster) -> None:
    """A part that ends at once on its worker: the error says what it said."""
    executor = DaskExecutor(cluster.scheduler_address, ("-c", "import sys; sys.exit('no AckScope here')"))
    with pytest.raises(ConnectFailed, match="no AckScope here"):
        await asyncio.wait_for(Fleet(LoadPlan(url="memory://", rate=9), executor).run.open(), WAIT_S)


# ---- the task on the worker, alone -----------------------------------------------------------------------------


class FakeQueue:
    """What the task uses of a Dask queue."""

    def __init__(self, *commands: dict[str, Any]) -> None:
        self.commands = list(commands)
        self.said: list[Any] = []

    def get(self, batch: bool) -> list[dict[str, Any]]:
        assert batch
        commands, self.commands = self.commands, []
        return commands

    def put(self, value: Any) -> None:
        self.said += [json.loads(line)["event"] for line in value]


ECHO = (
    "-c",
    'import sys\nprint(\'{"event": "ready"}\', flush=True)\n'
    'for line in sys.stdin: print(\'{"event": "heard"}\', flush=True)\nprint(\'{"event": "end"}\')',
)


def carried(commands: Any, lines: Any, arguments: tuple[str, ...] = ECHO) -> str:
    ended: list[str] = []
    carrier = dask_part.Carrier(arguments, commands, lines)
    thread = threading.Thread(target=lambda: ended.append(carrier.run()))
    thread.start()
    thread.join(WAIT_S)
    assert ended
    return ended[0]


def test_commands_and_lines_are_carried() -> None:
    """Commands reach the part in their order, all that it says is put on the queue, and its end ends the task."""
    commands, lines = FakeQueue({"cmd": "open"}, ALIVE, {"cmd": "go"}, END), FakeQueue()
    assert carried(commands, lines) == "ended with exit code 0"
    assert lines.said == ["ready", "heard", "heard", "end"]


def test_coordinator_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word for the length of the lease the part's input is closed: Dask itself would let it run for ever.

    The same ends a task that Dask runs for the second time, for which there is no plan.
    """
    monkeypatch.setattr(dask_part, "LEASE_S", 0.3)
    lines = FakeQueue()
    assert carried(FakeQueue(), lines) == "ended with exit code 0"
    assert lines.said == ["ready", "end"]


def test_scheduler_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the queues cannot be reached, the lease runs out as well, and the task ends within its bounds."""

    class Unreachable(FakeQueue):
        def put(self, value: Any) -> None:
            raise OSError("gone")

    monkeypatch.setattr(dask_part, "LEASE_S", 0.3)
    monkeypatch.setattr(dask_part, "END_S", 0.5)
    begun_s = time.monotonic()
    assert carried(FakeQueue(), Unreachable()) == "ended with exit code 0"
    assert time.monotonic() - begun_s < WAIT_S / 2


def test_part_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that obeys neither the end of its input nor SIGTERM gets SIGKILL."""
    monkeypatch.setattr(dask_part, "LEASE_S", 0.3)
    for name in ("END_S", "KILL_TIMEOUT_S"):
        monkeypatch.setattr(dask_part, name, 0.5)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    assert carried(FakeQueue(), FakeQueue(), ("-c", stubborn)) == "was killed by signal 9"


def test_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, one line says what to install."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "eventbus.load.dask_executor")
    with pytest.raises(ConfigError, match=r"pip install 'ackscope\[cluster\]'"):
        executor_of("tcp://127.0.0.1:8786")
