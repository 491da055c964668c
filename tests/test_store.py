"""The store of runs: what was written is read back, a bad file harms nobody, and readers cannot write."""

from __future__ import annotations

import math
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from eventbus.errors import ConfigError, ErrorClass, ErrorKind
from eventbus.event import BusEvent, EventKind
from eventbus.latency import LatencyCounter, LatencyHistogram
from eventbus.observe import (
    AlertChange,
    FailedMessage,
    FailureGroup,
    Retention,
    RunEditor,
    RunStatus,
    Sample,
    StoreError,
    StoreReader,
    StoreWriter,
    describe_environment,
)
from eventbus.observe.failures import MAX_GROUPS_PER_RUN
from eventbus.observe.retention import tidy
from eventbus.observe.schema import MAX_FAILED_PER_RUN, default_store_path, open_store
from eventbus.report import AckOutcome, DeliveryReport
from eventbus.snapshot import BusSnapshot, ConnectionState

START_S = 1_700_000_000.0


@dataclass
class FixedClock:
    """A wall clock that stands where it is put."""

    now_s: float = START_S

    def wall_s(self) -> float:
        return self.now_s

    def monotonic_ns(self) -> int:
        return int(self.now_s * 1e9)


def snapshot(acked: int = 0, **values: object) -> BusSnapshot:
    latency = LatencyHistogram.of([1_000_000 + n for n in range(acked)])
    base = BusSnapshot("bus", 1.0, START_S, ConnectionState.CONNECTED, accepted=acked, acked=acked, latency=latency)
    return replace(base, **values)  # type: ignore[arg-type]


def sample(at_s: float, acked: int = 0) -> Sample:
    return Sample(START_S + at_s, at_s, acked, 100.0, snapshot(acked, errors={"timeout": 2}), 0.001)


def failure(number: int) -> FailedMessage:
    return FailedMessage(START_S, f"id-{number}", "t", "unknown", False, 3, "ambiguous", "timeout", "no reply")


def wait_until(is_so: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "did not come about in time"
        threading.Event().wait(0.005)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "runs.db"


@pytest.fixture
def writer(path: Path) -> Iterator[StoreWriter]:
    store = StoreWriter(path, busy_timeout_s=0.05)
    yield store
    assert store.close(10)


def begin(writer: StoreWriter, at_s: float = 0.0, pid: int | None = None) -> str:
    settings = {"rate": 100.0, "replay": None}
    return writer.begin_run(url="nats://h:4222", topic="a.b", settings=settings, started_wall_s=START_S + at_s, pid=pid)


def test_what_was_written_is_read_back(path: Path, writer: StoreWriter) -> None:
    """Every kind of row comes back equal, histogram included, in the promised order."""
    run_id = begin(writer)
    samples = [sample(n * 0.25, acked=n * 10) for n in range(8)]
    events = [BusEvent(START_S + n, EventKind.CONNECTED, f"number {n}") for n in range(3)]
    change = AlertChange(START_S + 1, "pending", True, 6000.0, 5000.0, "too many")
    for each in samples:
        writer.sample(run_id, each)
    for event in events:
        writer.event(run_id, event)
    writer.failed(run_id, [failure(1), failure(2)])
    writer.alert(run_id, change)
    writer.end_run(run_id, status=RunStatus.FINISHED, ended_wall_s=START_S + 2, report={"accepted": 70})
    assert writer.close(10)
    reader = StoreReader(path)
    info = reader.run(run_id)
    assert info is not None
    assert (info.status, info.url, info.topic, info.pid) == (RunStatus.FINISHED, "nats://h:4222", "a.b", os.getpid())
    assert (info.started_wall_s, info.ended_wall_s) == (START_S, START_S + 2)
    assert (info.settings, info.report) == ({"rate": 100.0, "replay": None}, {"accepted": 70})
    assert reader.samples(run_id) == samples
    assert reader.samples(run_id, limit=3) == samples[-3:]
    assert reader.samples(run_id, since_wall_s=samples[4].wall_s) == samples[5:]
    assert reader.latest(run_id) == samples[-1]
    assert reader.events(run_id) == events
    assert reader.events(run_id, limit=2) == events[1:]
    assert [f.message_id for f in reader.failed(run_id)] == ["id-2", "id-1"]
    assert reader.failed(run_id, limit=1) == [failure(2)]
    assert reader.alerts(run_id) == [change]
    assert writer.dropped == 0
    assert writer.error is None


def test_store_that_is_not_there_is_empty(path: Path) -> None:
    """A reader of a missing file sees no runs, and does not make the file."""
    reader = StoreReader(path)
    assert (reader.runs(), reader.run("x"), reader.samples("x"), reader.latest("x")) == ([], None, [], None)
    assert (reader.events("x"), reader.failed("x"), reader.alerts("x")) == ([], [], [])
    assert not path.exists()


def test_file_that_is_still_empty_is_an_empty_store(tmp_path: Path) -> None:
    """Between the writer's making of a file and its tables a reader sees no runs, and no error."""
    (tmp_path / "runs.db").touch()
    assert StoreReader(tmp_path / "runs.db").runs() == []


def test_runs_come_newest_first(path: Path, writer: StoreWriter) -> None:
    """``runs`` sorts by start and honours its limit; ids sort the same way."""
    ids = [begin(writer, at_s) for at_s in (0.0, 10.0, 20.0)]
    assert writer.close(10)
    assert [run.run_id for run in StoreReader(path).runs()] == ids[::-1]
    assert [run.run_id for run in StoreReader(path).runs(limit=1)] == ids[2:]
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    ("silent_s", "alive", "status"),
    [(1.0, True, RunStatus.DRAINING), (1.0, False, RunStatus.INTERRUPTED), (6.0, True, RunStatus.INTERRUPTED)],
)
def test_run_without_an_end(path: Path, writer: StoreWriter, silent_s: float, alive: bool, status: RunStatus) -> None:
    """A run without an end counts as interrupted once its process is gone or has been silent for 5 s."""
    run_id = begin(writer, pid=4321)
    writer.set_status(run_id, RunStatus.DRAINING)
    writer.sample(run_id, sample(3.0))
    assert writer.close(10)
    asked: list[int] = []

    def is_alive(pid: int) -> bool:
        asked.append(pid)
        return alive

    reader = StoreReader(path, clock=FixedClock(START_S + 3.0 + silent_s), is_alive=is_alive)
    info = reader.run(run_id)
    assert info is not None
    assert (info.status, info.ended_wall_s) == (status, None)
    assert set(asked) <= {4321}


def test_ended_run_is_never_interrupted(path: Path, writer: StoreWriter) -> None:
    """Once its end is written, neither silence nor a dead process changes a run's status."""
    run_id = begin(writer, pid=4321)
    writer.end_run(run_id, status=RunStatus.FAILED, ended_wall_s=START_S + 1, error="no broker")
    assert writer.close(10)
    info = StoreReader(path, clock=FixedClock(START_S + 1e6), is_alive=lambda _: False).run(run_id)
    assert info is not None
    assert (info.status, info.error) == (RunStatus.FAILED, "no broker")


def test_failed_messages_are_bounded(path: Path, writer: StoreWriter) -> None:
    """The first 10,000 failed messages of a run are kept one by one; another run has its own 10,000."""
    run_id, other = begin(writer), begin(writer)
    batch = [failure(n) for n in range(999)]
    for _ in range(12):
        writer.failed(run_id, batch)
    assert writer.room_for_failed(run_id) == 0
    assert writer.room_for_failed(other) == MAX_FAILED_PER_RUN
    assert writer.close(10)
    assert len(StoreReader(path).failed(run_id, limit=100_000)) == MAX_FAILED_PER_RUN


def test_reader_cannot_change_the_store(path: Path, writer: StoreWriter) -> None:
    """Readers open the file read-only, while the writer still has it open."""
    run_id = begin(writer)
    wait_until(lambda: StoreReader(path).run(run_id) is not None)
    with StoreReader(path)._opened() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM runs")


def test_reader_is_shared_by_threads(path: Path, writer: StoreWriter) -> None:
    """One reader serves several threads while the writer writes."""
    run_id = begin(writer)
    reader = StoreReader(path)
    counts: list[int] = []

    def read() -> None:
        last = -1
        for _ in range(20):
            last = len(reader.samples(run_id))
        counts.append(last)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(50):
        writer.sample(run_id, sample(n * 0.25))
    for thread in threads:
        thread.join(10)
    assert len(counts) == 4
    wait_until(lambda: len(reader.samples(run_id)) == 50)


def test_locked_store_drops_samples_and_keeps_the_runs_end(
    path: Path, writer: StoreWriter, caplog: pytest.LogCaptureFixture
) -> None:
    """While another program holds the file, samples are dropped, counted and logged once; begin and end survive."""
    first = begin(writer)
    wait_until(lambda: StoreReader(path).run(first) is not None)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    run_id = begin(writer, 1.0)
    for n in range(3):
        writer.sample(run_id, sample(n * 0.25))
        wait_until(lambda n=n: writer.dropped == n + 1)  # type: ignore[misc]
    writer.end_run(run_id, status=RunStatus.STOPPED, ended_wall_s=START_S + 9)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert writer.close(10)
    info = StoreReader(path).run(run_id)
    assert info is not None
    assert info.status is RunStatus.STOPPED
    assert "locked by another program" in str(writer.error)
    assert str(path) in str(writer.error)
    assert len([r for r in caplog.records if "locked" in r.getMessage()]) == 1


@pytest.mark.parametrize("kind", ["not a database", "newer version", "other program", "directory", "no permission"])
def test_unusable_file_harms_nobody(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The writer takes everything without an exception, drops it, and says once what to do; readers raise the same."""
    path = tmp_path / "runs.db"
    expected = {
        "not a database": "move it away",
        "newer version": "update AckScope",
        "other program": "database of another program",
        "directory": "check the path",
        "no permission": "check the path",
    }[kind]
    if kind == "not a database":
        path.write_bytes(b"this is no database, " * 200)
    elif kind == "directory":
        path.mkdir()
    elif kind == "no permission":
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "runs.db"
    else:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99" if kind == "newer version" else "CREATE TABLE t (a)")
        connection.commit()
        connection.close()
    before = path.read_bytes() if path.is_file() else b""
    writer = StoreWriter(path, busy_timeout_s=0.05)
    run_id = begin(writer)
    writer.sample(run_id, sample(0.0))
    writer.end_run(run_id, status=RunStatus.FINISHED, ended_wall_s=START_S)
    assert writer.close(10)
    assert isinstance(writer.error, StoreError)
    assert expected in str(writer.error)
    assert str(path) in str(writer.error)
    assert "\n" not in str(writer.error)
    assert len([r for r in caplog.records if r.name == "eventbus.store"]) == 1
    if path.is_file():
        assert path.read_bytes() == before
    if kind not in ("no permission", "directory"):
        with pytest.raises(StoreError, match=expected):
            StoreReader(path).runs()


def test_full_disk_is_told(path: Path) -> None:
    """Where the file cannot grow, the error says so, and later rows that fit are kept."""
    writer = StoreWriter(path)
    run_id = begin(writer)
    wait_until(lambda: StoreReader(path).run(run_id) is not None)
    connection = writer._connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    writer.event(run_id, BusEvent(START_S, EventKind.PAUSED, "x" * 100_000))
    wait_until(lambda: writer.error is not None)
    assert "no space left" in str(writer.error)
    assert writer.dropped == 1
    writer.end_run(run_id, status=RunStatus.FINISHED, ended_wall_s=START_S)
    assert writer.close(10)
    info = StoreReader(path).run(run_id)
    assert info is not None
    assert info.status is RunStatus.FINISHED


def test_queue_is_bounded(path: Path, writer: StoreWriter) -> None:
    """What the disk cannot keep up with is dropped and counted, never queued without end."""
    run_id = begin(writer)
    wait_until(lambda: StoreReader(path).run(run_id) is not None)
    slow = StoreWriter(path, max_queued=5, busy_timeout_s=30)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    other = begin(slow)
    wait_until(lambda: not slow._queue)  # the thread has it, and waits for the blocker
    for n in range(12):
        slow.sample(other, sample(n * 0.25))
    assert slow.dropped == 7
    blocker.execute("ROLLBACK")
    blocker.close()
    assert slow.close(10)
    assert len(StoreReader(path).samples(other)) == 5


def test_writer_tells_how_far_it_is_behind(path: Path) -> None:
    """The age of the oldest sample that is not in the file; 0 where all are, or where they were given up."""
    writer = StoreWriter(path, busy_timeout_s=0.3)
    run_id = begin(writer)
    wait_until(lambda: StoreReader(path).run(run_id) is not None)
    assert writer.delay_s == 0.0
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    writer.sample(run_id, sample(0.0))
    first = writer.delay_s
    writer.event(run_id, BusEvent(START_S, EventKind.PAUSED, "no sample"))
    wait_until(lambda: writer.delay_s > max(0.05, first))
    writer.sample(run_id, sample(0.25))
    assert writer.delay_s > 0.05, "the oldest counts, not the newest"
    wait_until(lambda: writer.dropped >= 1)
    blocker.execute("ROLLBACK")
    blocker.close()
    wait_until(lambda: writer.delay_s == 0.0)
    assert writer.close(10)


def test_writer_after_close_takes_nothing(path: Path) -> None:
    """A closed writer counts what it is given as dropped; closing again is harmless."""
    writer = StoreWriter(path)
    run_id = begin(writer)
    assert writer.close(10)
    writer.sample(run_id, sample(0.0))
    assert writer.dropped == 1
    assert writer.close(10)


def test_failed_message_of_a_report() -> None:
    """A report's words are kept as plain text; what it does not say stays None."""
    report = DeliveryReport(
        "id", "t", AckOutcome.UNKNOWN, attempts=4, error_class=ErrorClass.AMBIGUOUS, error_kind=ErrorKind.TIMEOUT
    )
    kept = FailedMessage.of(report, 5.0)
    assert (kept.outcome, kept.error_class, kept.error_kind, kept.error_text) == (
        "unknown",
        "ambiguous",
        "timeout",
        None,
    )
    assert type(kept.outcome) is str


def test_path_of_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ACKSCOPE_HOME decides; without it the user's state folder of this system."""
    monkeypatch.setenv("ACKSCOPE_HOME", str(tmp_path))
    assert default_store_path() == tmp_path / "runs.db"
    monkeypatch.delenv("ACKSCOPE_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert default_store_path().name == "runs.db"
    assert "ackscope" in default_store_path().parts


def test_store_is_the_users_own(path: Path, writer: StoreWriter) -> None:
    """The folder that the writer makes is readable by its user alone: it tells of topics and message ids."""
    begin(writer)
    wait_until(path.exists)
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0


def busy(at_s: float, number: int, **changes: object) -> Sample:
    """A sample with all of its fields in use; two histograms that grow."""
    return replace(
        sample(at_s, number),
        schedule_lag_s=at_s / 7,
        scheduled=LatencyHistogram.of([3_000_000 + n * 9_000 for n in range(number)]),
        warming_up=number < 50,
        resident_bytes=5_000_000_000 + number,
        store_delay_s=at_s / 9,
        round_trip_s=at_s / 11 if number % 2 else None,
        **changes,  # type: ignore[arg-type]
    )


def test_samples_are_packed_and_come_back_equal(path: Path, writer: StoreWriter) -> None:
    """Samples are kept as what changed; whatever part is read, each is equal to what was written."""
    run_id, other = begin(writer), begin(writer)
    samples = [busy(n * 0.25, n * 3) for n in range(130)]
    for each in samples:
        writer.sample(run_id, each)
        writer.sample(other, each)
    assert writer.close(10)
    reader = StoreReader(path)
    assert reader.samples(run_id) == samples
    assert list(reader.each_sample(other)) == samples
    for limit in (1, 2, 39, 40, 41, 90):
        assert reader.samples(run_id, limit=limit) == samples[-limit:]
    for since in (0, 38, 39, 40, 79, 128, 129):
        assert reader.samples(run_id, since_wall_s=samples[since].wall_s) == samples[since + 1 :]


def test_histogram_that_lost_a_part_comes_back_equal(path: Path, writer: StoreWriter) -> None:
    """Where a histogram has less than before, as after the loss of a worker, the sample is kept whole."""
    run_id = begin(writer)
    samples = [busy(0.0, 90), busy(0.25, 40), busy(0.5, 0), busy(0.75, 60), busy(1.0, 60)]
    for each in samples:
        writer.sample(run_id, each)
    assert writer.close(10)
    assert StoreReader(path).samples(run_id) == samples


def test_clock_that_is_set_back_does_not_mix_samples(path: Path, writer: StoreWriter) -> None:
    """Samples come in the order in which they were taken, whatever the wall clock says."""
    run_id = begin(writer)
    samples = [replace(busy(n * 0.25, n * 10), wall_s=START_S + (n if n < 5 else n - 3)) for n in range(9)]
    for each in samples:
        writer.sample(run_id, each)
    assert writer.close(10)
    assert StoreReader(path).samples(run_id) == samples


def test_samples_after_a_failed_transaction_can_be_read(path: Path, writer: StoreWriter) -> None:
    """What follows a sample that could not be written does not build upon it."""
    run_id = begin(writer)
    writer.sample(run_id, busy(0.0, 10))
    wait_until(lambda: len(StoreReader(path).samples(run_id)) == 1)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    writer.sample(run_id, busy(0.25, 20))
    wait_until(lambda: writer.dropped == 1)
    blocker.execute("ROLLBACK")
    blocker.close()
    writer.sample(run_id, busy(0.5, 30))
    assert writer.close(10)
    assert StoreReader(path).samples(run_id) == [busy(0.0, 10), busy(0.5, 30)]


def test_damaged_sample_is_told(path: Path, writer: StoreWriter) -> None:
    """A sample that nobody packed is a StoreError that names the file."""
    run_id = begin(writer)
    writer.sample(run_id, busy(0.0, 10))
    assert writer.close(10)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE samples SET snapshot = ?", (b"nonsense",))
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match=r"runs\.db is damaged"):
        StoreReader(path).latest(run_id)


def test_run_has_its_name_environment_and_verdict(path: Path, writer: StoreWriter) -> None:
    """What is given at the beginning and at the end of a run is read back; people's edits come beside it."""
    environment = describe_environment(broker="nats-server 2")
    assert {"python", "system", "machine", "cores", "packages", "broker"} == environment.keys()
    run_id = writer.begin_run(
        url="u", topic="t", settings={}, started_wall_s=START_S, name="first", environment=environment
    )
    verdict = {"passed": False, "rows": [{"text": "max(pending) < 5", "passed": False, "value": 9.0, "threshold": 5.0}]}
    writer.end_run(run_id, status=RunStatus.FINISHED, ended_wall_s=START_S + 1, verdict=verdict)
    assert writer.close(10)
    info = StoreReader(path).run(run_id)
    assert info is not None
    assert (info.name, info.environment, info.verdict) == ("first", environment, verdict)


def test_alert_without_a_value(path: Path, writer: StoreWriter) -> None:
    """A change of an alert without data has no number for a value, and harms no other row."""
    run_id = begin(writer)
    change = AlertChange(
        START_S, "p99", False, math.nan, 0.25, "no data", "no_data", "inactive", "critical", "silenced", {"team": "a"}
    )
    writer.alert(run_id, change)
    assert writer.close(10)
    (read,) = StoreReader(path).alerts(run_id)
    assert math.isnan(read.value)
    assert replace(read, value=0.0) == replace(change, value=0.0)


def report(number: int, **changes: object) -> DeliveryReport:
    base = DeliveryReport(f"id-{number}", "t", AckOutcome.UNKNOWN, error_kind=ErrorKind.TIMEOUT, error_text="no reply")
    return replace(base, **changes)  # type: ignore[arg-type]


def test_failures_are_counted_exactly(path: Path, writer: StoreWriter) -> None:
    """Groups count every failed message, also beyond those that are kept one by one, with first, last and newest."""
    run_id = begin(writer)
    total = 0
    for batch in range(30):
        reports = [report(batch * 1000 + n) for n in range(1000)]
        reports.append(report(batch, topic="u", outcome=AckOutcome.REJECTED, error_kind=None, error_text="x" * 300))
        reports.append(report(batch, late=True, outcome=AckOutcome.ACKED))
        total += len(reports)
        writer.count_failed(run_id, reports, START_S + batch, [f"trace-{n}" for n in range(len(reports))])
    assert writer.close(10)
    groups = StoreReader(path).failure_groups(run_id)
    assert groups == [
        FailureGroup("timeout", "t", "unknown", "no reply", 30_000, START_S, START_S + 29, "id-29999", "trace-999"),
        FailureGroup("", "u", "rejected", "x" * 200, 30, START_S, START_S + 29, "id-29", "trace-1000"),
        FailureGroup("timeout", "t", "acked late", "no reply", 30, START_S, START_S + 29, "id-29", "trace-1001"),
    ]
    assert sum(group.count for group in groups) == total


def test_failures_survive_a_locked_file(path: Path, writer: StoreWriter) -> None:
    """Counts that could not be written wait for the next transaction."""
    run_id = begin(writer)
    wait_until(lambda: StoreReader(path).run(run_id) is not None)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    writer.count_failed(run_id, [report(n) for n in range(7)], START_S)
    wait_until(lambda: writer.error is not None)
    writer.count_failed(run_id, [report(n) for n in range(5)], START_S + 1)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert writer.close(10)
    assert [group.count for group in StoreReader(path).failure_groups(run_id)] == [12]


def test_failure_groups_are_bounded(path: Path, writer: StoreWriter) -> None:
    """Texts that all differ end in one group of others, and the count stays exact."""
    run_id = begin(writer)
    writer.count_failed(run_id, [report(n, error_text=f"offset {n}") for n in range(1500)], START_S)
    writer.count_groups(run_id, [FailureGroup("timeout", "t", "unknown", "offset 1", 9, START_S, START_S, "id")])
    assert writer.close(10)
    groups = StoreReader(path).failure_groups(run_id)
    assert len(groups) == MAX_GROUPS_PER_RUN + 1
    assert (groups[0].text, groups[0].count, groups[1].text, groups[1].count) == ("(others)", 500, "offset 1", 10)


def finished(writer: StoreWriter, at_s: float, samples: int = 1) -> str:
    run_id = begin(writer, at_s)
    for n in range(samples):
        writer.sample(run_id, busy(n * 0.25, n))
    writer.end_run(run_id, status=RunStatus.FINISHED, ended_wall_s=START_S + at_s + 1)
    return run_id


def test_oldest_runs_make_room(path: Path) -> None:
    """Beyond its bound of runs a store loses the oldest: no baseline, and none that goes on."""
    writer = StoreWriter(path)
    first, second, third = (finished(writer, at_s) for at_s in (0.0, 10.0, 20.0))
    wait_until(lambda: len(StoreReader(path).runs()) == 3)
    RunEditor(path).pin(first)
    assert writer.close(10)
    bounded = StoreWriter(path, retention=Retention(max_runs=2))
    going_on = begin(bounded, 30.0)
    wait_until(lambda: [run.run_id for run in StoreReader(path).runs()] == [going_on, first])
    assert StoreReader(path).samples(second) == []
    assert StoreReader(path).run(third) is None
    assert bounded.close(10)


def test_store_stays_within_its_size(path: Path) -> None:
    """Beyond its bound of bytes the oldest runs go, and the file really shrinks."""
    writer = StoreWriter(path)
    ids = [finished(writer, at_s) for at_s in (0.0, 10.0, 20.0)]
    for run_id in ids:
        for _ in range(40):
            writer.event(run_id, BusEvent(START_S, EventKind.PAUSED, os.urandom(10_000).hex()))
    assert writer.close(10)
    assert path.stat().st_size > 2_300_000
    done = RunEditor(path).prune(Retention(max_bytes=1 << 20))
    assert done.deleted == tuple(ids[:2])
    assert done.used_bytes <= 1 << 20
    assert path.stat().st_size <= 1 << 20
    assert StoreReader(path).runs()[0].run_id == ids[2]


def test_run_that_goes_on_is_thinned_and_never_deleted(path: Path) -> None:
    """Where only runs are left that go on, their older half keeps one sample in ten seconds, and every count."""
    writer = StoreWriter(path, retention=Retention(max_bytes=None))
    run_id = begin(writer)
    samples = [busy(n * 0.25, n, snapshot=snapshot(n, warnings=(os.urandom(3000).hex(),))) for n in range(400)]
    for each in samples:
        writer.sample(run_id, each)
    wait_until(lambda: len(StoreReader(path).samples(run_id)) == 400)
    connection = open_store(path, 1.0)
    done = tidy(connection, path, Retention(max_bytes=1 << 20), running={run_id})
    connection.close()
    assert (done.deleted, done.thinned) == ((), (run_id,))
    left = StoreReader(path).samples(run_id)
    assert 200 <= len(left) < 300
    assert all(each in samples for each in left)
    assert left[-150:] == samples[-150:]
    assert left[0] == samples[0]
    writer.sample(run_id, busy(100.0, 400))
    wait_until(lambda: StoreReader(path).latest(run_id) == busy(100.0, 400))
    assert writer.close(10)


def test_bounds_of_a_store_are_checked() -> None:
    """A bound that no store can keep is refused."""
    with pytest.raises(ConfigError, match="at least 1 MiB"):
        Retention(max_bytes=1000)
    with pytest.raises(ConfigError, match="at least 1"):
        Retention(max_runs=0)


def test_people_edit_runs_beside_the_writer(path: Path, writer: StoreWriter) -> None:
    """Name, notes and pin are written while the run goes on; it can be deleted when it is over."""
    run_id = writer.begin_run(url="u", topic="t", settings={}, started_wall_s=time.time())
    writer.sample(run_id, replace(sample(0.0), wall_s=time.time()))
    wait_until(lambda: StoreReader(path).latest(run_id) is not None)
    editor = RunEditor(path)
    editor.rename(run_id, "a name")
    editor.note(run_id, "two\nlines")
    editor.pin(run_id)
    with pytest.raises(ConfigError, match="goes on: stop it"):
        editor.delete(run_id)
    writer.end_run(run_id, status=RunStatus.FINISHED, ended_wall_s=START_S)
    wait_until(lambda: (info := StoreReader(path).run(run_id)) is not None and info.status.is_over)
    info = StoreReader(path).run(run_id)
    assert info is not None
    assert (info.name, info.notes, info.baseline) == ("a name", "two\nlines", True)
    editor.pin(run_id, False)
    editor.delete(run_id)
    assert StoreReader(path).runs() == []
    assert StoreReader(path).samples(run_id) == []


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda editor: editor.rename("x", "name"), "no run 'x'"),
        (lambda editor: editor.pin("x"), "no run 'x'"),
        (lambda editor: editor.delete("x"), "no run 'x'"),
        (lambda editor: editor.rename("x", "two\nlines"), "one line"),
        (lambda editor: editor.note("x", "y" * 100_001), "at most 100,000"),
    ],
)
def test_edit_that_cannot_be_done(path: Path, edit: Callable[[RunEditor], None], text: str) -> None:
    """No such run, and a text that is too long: one line that says what is allowed; no file is made."""
    with pytest.raises(ConfigError, match=text):
        edit(RunEditor(path))
    assert not path.exists()


KILLED = """
import sys, threading
from tests.test_store import START_S, busy
from eventbus.observe import StoreWriter
writer = StoreWriter(sys.argv[1])
run_id = writer.begin_run(url="u", topic="t", settings={}, started_wall_s=START_S)
print(run_id, flush=True)
for number in range(100_000):
    writer.sample(run_id, busy(number * 0.05, number % 40 + number))
    print(number * 0.05, flush=True)
    threading.Event().wait(0.05)
"""


def test_killed_process_loses_less_than_a_second(path: Path, root: Path) -> None:
    """After kill -9 the store opens clean, the run reads as interrupted, and the last second at most is missing."""
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], cwd=root, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert child.stdout is not None
        run_id = child.stdout.readline().strip()
        for _ in range(40):
            told_s = float(child.stdout.readline())
    finally:
        child.kill()
        rest, _ = child.communicate(timeout=10)
        told_s = max([told_s, *map(float, rest.split())])
    reader = StoreReader(path)
    info = reader.run(run_id)
    assert info is not None
    assert (info.status, info.ended_wall_s) == (RunStatus.INTERRUPTED, None)
    samples = reader.samples(run_id)
    assert samples[-1].elapsed_s >= told_s - 1.0
    assert samples == [busy(n * 0.05, n % 40 + n) for n in range(len(samples))]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_an_hour_of_samples_is_small(path: Path, writer: StoreWriter) -> None:
    """At 2,000 acks a second over some 450 buckets an hour of samples stays far below 50 MB: 14,400 of 1.5 KB."""
    chance, latency = random.Random(1), LatencyCounter()
    run_id = begin(writer)
    for number in range(400):
        latency.add([round(chance.lognormvariate(14, 0.5)) for _ in range(500)])
        histogram = latency.histogram()
        writer.sample(run_id, replace(sample(number * 0.25), snapshot=snapshot(latency=histogram), scheduled=histogram))
    assert writer.close(20)
    assert len(StoreReader(path).samples(run_id)) == 400
    assert path.stat().st_size / 400 < 1500
