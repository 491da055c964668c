"""A store file of an older version goes on being a store: nothing of its runs is lost, and new runs go beside them."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from eventbus.event import BusEvent, EventKind
from eventbus.latency import LatencyHistogram
from eventbus.observe import AlertChange, FailureGroup, RunEditor, RunStatus, Sample, StoreError, StoreReader
from eventbus.observe.schema import SCHEMA_VERSION, open_store
from eventbus.observe.store import StoreWriter
from tests.run_samples import sample

OLD = Path(__file__).parent / "data" / "store-v1.db"
"""Written by AckScope 0.1.0 of version 1: one run that ended, and one whose process was killed."""
ENDED, KILLED = "20231114-221320-aaaaaa", "20231114-221500-bbbbbb"
START_S = 1_700_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(shutil.copy(OLD, tmp_path / "runs.db"))


def version(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def process_figures(of: Sample) -> tuple[int | None, float | None, float | None]:
    return of.resident_bytes, of.store_delay_s, of.round_trip_s


def test_old_file_is_really_old() -> None:
    """The file in the repository is of version 1, or these tests would say nothing."""
    assert (version(OLD), SCHEMA_VERSION) == (1, 3)


def test_reader_brings_an_old_file_up_to_date(path: Path) -> None:
    """Whoever looks first migrates; every run, sample, event, failure and alert is as it was, new fields are empty."""
    reader = StoreReader(path)
    assert [(run.run_id, run.status) for run in reader.runs()] == [
        (KILLED, RunStatus.INTERRUPTED),
        (ENDED, RunStatus.FINISHED),
    ]
    assert version(path) == SCHEMA_VERSION
    run = reader.run(ENDED)
    assert run is not None
    assert (run.settings, run.report) == ({"rate": 100.0, "replay": None}, {"accepted": 203})
    assert (run.name, run.notes, run.baseline, run.verdict, run.environment) == ("", "", False, None, {})
    samples = reader.samples(ENDED)
    assert [sample.elapsed_s for sample in samples] == [n * 0.25 for n in range(9)]
    assert [sample.snapshot.acked for sample in samples] == [n * 25 for n in range(9)]
    assert samples[-1].snapshot.latency == LatencyHistogram.of([1_000_000 + n * 1000 for n in range(200)])
    assert samples[-1].snapshot.warnings == ("a warning",)
    assert all((sample.schedule_lag_s, sample.warming_up) == (0.0, False) for sample in samples)
    assert all(sample.scheduled == LatencyHistogram() for sample in samples)
    assert all(process_figures(sample) == (None, None, None) for sample in samples)
    assert reader.latest(ENDED) == samples[-1]
    assert reader.events(ENDED) == [BusEvent(START_S, EventKind.CONNECTED, "connected to h")]
    assert [message.message_id for message in reader.failed(ENDED)] == [f"id-{n}" for n in (5, 4, 3, 2, 1)]
    assert reader.alerts(ENDED) == [
        AlertChange(START_S + 1, "pending", True, 6000.0, 5000.0, "too many"),
        AlertChange(START_S + 2, "pending", False, 10.0, 5000.0, ""),
    ]


def test_file_of_version_2_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its packed samples are read as they were, without what was not kept then; a run goes on beside them."""
    path = tmp_path / "runs.db"
    writer = StoreWriter(path)
    run_id = writer.begin_run(url="u", topic="t", settings={}, started_wall_s=START_S)
    kept = [sample(n, acked=10 * n, latency=LatencyHistogram.of([1_000_000] * 10 * n)) for n in range(50)]
    for each in kept:
        writer.sample(run_id, each)
    assert writer.close(10)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:  # as version 2 had it
        for name in ("resident_bytes", "store_delay_s", "round_trip_s"):
            connection.execute(f"ALTER TABLE samples DROP COLUMN {name}")
        connection.execute("PRAGMA user_version = 2")
    assert StoreReader(path).samples(run_id) == kept
    assert version(path) == SCHEMA_VERSION == 3
    writer = StoreWriter(path)
    newer = sample(1, acked=1, resident_bytes=5_000_000_000, store_delay_s=0.25, round_trip_s=0.0003)
    second = writer.begin_run(url="u", topic="t", settings={}, started_wall_s=START_S + 100)
    writer.sample(second, newer)
    assert writer.close(10)
    assert StoreReader(path).samples(second) == [newer]


def test_failures_of_an_old_file_are_grouped(path: Path) -> None:
    """The messages that were kept one by one are counted in groups, as the new writer does."""
    assert StoreReader(path).failure_groups(ENDED) == [
        FailureGroup("timeout", "a.b", "unknown", "no reply", 2, START_S + 1, START_S + 2, "id-2"),
        FailureGroup("", "a.b", "rejected", "", 1, START_S + 5, START_S + 5, "id-5"),
        FailureGroup("timeout", "a.b", "acked late", "no reply", 1, START_S + 4, START_S + 4, "id-4"),
        FailureGroup("permission", "a.b", "rejected", ("no " * 150)[:200], 1, START_S + 3, START_S + 3, "id-3"),
    ]


def test_migrated_and_new_file_have_the_same_tables(path: Path, tmp_path: Path) -> None:
    """There is one way to a version: a new file takes the steps of an old one."""

    def tables(of: Path) -> list[tuple[str, ...]]:
        connection = open_store(of, 1.0)
        try:
            return connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()
        finally:
            connection.close()

    assert tables(path) == tables(tmp_path / "new.db")


def test_writer_goes_on_in_an_old_file(path: Path) -> None:
    """A new run goes beside the old ones."""
    writer = StoreWriter(path)
    run_id = writer.begin_run(url="u", topic="t", settings={}, started_wall_s=START_S + 999, name="new")
    last = StoreReader(path).samples(ENDED)[-1]
    writer.sample(run_id, last)
    writer.end_run(run_id, status=RunStatus.FINISHED, ended_wall_s=START_S + 1000, verdict={"passed": True, "rows": []})
    assert writer.close(10)
    assert writer.error is None
    newest, *old = StoreReader(path).runs()
    assert (newest.run_id, newest.name, newest.verdict) == (run_id, "new", {"passed": True, "rows": []})
    assert [run.run_id for run in old] == [KILLED, ENDED]
    assert StoreReader(path).samples(run_id) == [last]


def test_two_who_migrate_at_once(path: Path) -> None:
    """Several readers and an editor that meet an old file migrate it once, and all read it."""
    found: list[int] = []

    def read() -> None:
        found.append(len(StoreReader(path).runs()))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [2] * 8


def test_migration_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that breaks in the middle is undone as a whole, and the error is told."""
    from eventbus.observe import schema

    step = "ALTER TABLE runs ADD COLUMN extra TEXT;\nTHIS IS NO SQL;\n"
    monkeypatch.setattr(schema, "_STEPS", (schema._VERSION_1, step))
    with pytest.raises(StoreError, match="failed"):
        StoreReader(path).runs()
    monkeypatch.undo()
    assert version(path) == 1
    assert len(StoreReader(path).runs()) == 2


def test_old_file_shrinks_when_runs_are_deleted(path: Path) -> None:
    """A file that was made without it learns to give room back."""
    StoreReader(path).runs()
    with contextlib.closing(open_store(path, 1.0)) as connection:
        (before,) = connection.execute("PRAGMA page_count").fetchone()
    RunEditor(path).delete(ENDED)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert connection.execute("PRAGMA page_count").fetchone()[0] < before
    assert os.listdir(path.parent) == ["runs.db"]
