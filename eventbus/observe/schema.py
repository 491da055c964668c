"""The tables of the store, how an older file is brought up to date, and what SQLite's errors mean for a person.

A new file is made by the same steps that bring an old one up to date, so both have the same tables.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from eventbus.observe.run import StoreError

MAX_FAILED_PER_RUN = 10_000
"""Failed messages kept one by one for each run; the counts in samples and failure groups are exact whatever their
number."""

_VERSION_1 = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, started_wall_s REAL NOT NULL, ended_wall_s REAL, status TEXT NOT NULL,
    url TEXT NOT NULL, topic TEXT NOT NULL, settings TEXT NOT NULL, pid INTEGER NOT NULL, error TEXT, report TEXT);
CREATE INDEX runs_by_start ON runs (started_wall_s);
CREATE TABLE samples (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, wall_s REAL NOT NULL, elapsed_s REAL NOT NULL,
    offered INTEGER NOT NULL, target_rate REAL, loop_lag_s REAL NOT NULL, snapshot TEXT NOT NULL);
CREATE INDEX samples_of_run ON samples (run_id, wall_s);
CREATE TABLE events (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, wall_s REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX events_of_run ON events (run_id);
CREATE TABLE failed (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, wall_s REAL NOT NULL, message_id TEXT NOT NULL, topic TEXT NOT NULL,
    outcome TEXT NOT NULL, late INTEGER NOT NULL, attempts INTEGER NOT NULL,
    error_class TEXT, error_kind TEXT, error_text TEXT);
CREATE INDEX failed_of_run ON failed (run_id);
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, wall_s REAL NOT NULL, rule TEXT NOT NULL, firing INTEGER NOT NULL,
    value REAL NOT NULL, threshold REAL NOT NULL, text TEXT NOT NULL);
CREATE INDEX alerts_of_run ON alerts (run_id);
"""
_VERSION_2 = """
ALTER TABLE runs ADD COLUMN environment TEXT NOT NULL DEFAULT '{}';
ALTER TABLE runs ADD COLUMN verdict TEXT;
ALTER TABLE runs ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN notes TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN baseline INTEGER NOT NULL DEFAULT 0;
ALTER TABLE samples ADD COLUMN schedule_lag_s REAL NOT NULL DEFAULT 0;
ALTER TABLE samples ADD COLUMN warming_up INTEGER NOT NULL DEFAULT 0;
ALTER TABLE samples ADD COLUMN whole INTEGER NOT NULL DEFAULT 1;
CREATE INDEX whole_samples_of_run ON samples (run_id, whole);
ALTER TABLE failed ADD COLUMN trace_id TEXT;
CREATE TABLE failure_groups (
    run_id TEXT NOT NULL, kind TEXT NOT NULL, topic TEXT NOT NULL, outcome TEXT NOT NULL, text TEXT NOT NULL,
    count INTEGER NOT NULL, first_wall_s REAL NOT NULL, last_wall_s REAL NOT NULL,
    message_id TEXT NOT NULL, trace_id TEXT,
    PRIMARY KEY (run_id, kind, topic, outcome, text)) WITHOUT ROWID;
INSERT INTO failure_groups
    SELECT run_id, coalesce(error_kind, ''), topic, CASE WHEN late THEN 'acked late' ELSE outcome END,
        substr(coalesce(error_text, ''), 1, 200), count(*), min(wall_s), max(wall_s), max(message_id), NULL
    FROM failed GROUP BY 1, 2, 3, 4, 5;
CREATE TABLE alerts_now (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, wall_s REAL NOT NULL, rule TEXT NOT NULL, firing INTEGER NOT NULL,
    value REAL, threshold REAL, text TEXT NOT NULL, state TEXT NOT NULL DEFAULT '', previous TEXT NOT NULL DEFAULT '',
    severity TEXT NOT NULL DEFAULT 'warning', muted TEXT NOT NULL DEFAULT '', labels TEXT NOT NULL DEFAULT '{}');
INSERT INTO alerts_now (id, run_id, wall_s, rule, firing, value, threshold, text)
    SELECT id, run_id, wall_s, rule, firing, value, threshold, text FROM alerts;
DROP TABLE alerts;
ALTER TABLE alerts_now RENAME TO alerts;
CREATE INDEX alerts_of_run ON alerts (run_id);
"""
_VERSION_3 = """
ALTER TABLE samples ADD COLUMN resident_bytes INTEGER;
ALTER TABLE samples ADD COLUMN store_delay_s REAL;
ALTER TABLE samples ADD COLUMN round_trip_s REAL;
"""
# samples.snapshot: as version 1 wrote it, the whole snapshot as JSON text; since version 2 a blob of packed.py, where
# ``whole`` says whether it can be read without those before it. alerts: a value that is not a number becomes NULL.
# failure_groups of a file of version 1 know the failed messages that were kept, at most 10,000 of each run.
_STEPS = (_VERSION_1, _VERSION_2, _VERSION_3)

SCHEMA_VERSION = len(_STEPS)
JOURNAL_BYTES = 16 * 1024 * 1024
"""What is left of the file beside the store that SQLite writes first, once its content is in the store."""
RUN_TABLES = ("samples", "events", "failed", "failure_groups", "alerts", "runs")
"""Every table that has rows of a run."""


def default_store_path() -> Path:
    """Where runs are kept: ``$ACKSCOPE_HOME/runs.db``, else ``runs.db`` in the user's state folder of this system."""
    home = os.environ.get("ACKSCOPE_HOME")
    if home:
        return Path(home) / "runs.db"
    import platformdirs  # here, so that a bus without a store does not load it

    return platformdirs.user_state_path("ackscope") / "runs.db"


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """The file's schema version, 0 for an empty one; StoreError for a newer one and for another program's file."""
    # The tables first: a writer may commit tables and version between these two looks.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"store {path} is of schema version {version}, and this AckScope knows {SCHEMA_VERSION}: "
            "update AckScope, or choose another file"
        )
    if tables and version < 1:
        raise StoreError(f"{path} is a database of another program: choose another file for the store")
    return version


def open_store(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """A connection that may write, to a file fit for one writer beside readers: made if missing, brought up to date if

    old. In autocommit; may be used from any one thread at a time. Raises sqlite3.Error, OSError, StoreError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    try:
        if not version_of(connection, path):  # before the first change: another program's file stays as it is
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only heeded before there are tables
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
        _bring_up_to_date(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything or nothing of what is written inside. Waits for other writers as long as the connection does."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # the file is gone: what is under way tells of that
                connection.execute("ROLLBACK")


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    if version_of(connection, path) == SCHEMA_VERSION:
        return
    with transaction(connection):  # two programs may find the same file empty or old
        for step in _STEPS[version_of(connection, path) :]:
            for statement in step.split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def as_store_error(path: Path, error: sqlite3.Error | OSError) -> StoreError:
    """``error`` in one clear sentence with the file and what to do."""
    if isinstance(error, OSError):
        reason = error.strerror or error
        return StoreError(f"store {path} cannot be used ({reason}): check the path and its permissions")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code, without its extension
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"store {path} is locked by another program: close it, or choose another file")
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"no space left for store {path}: free some, or choose another file")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreError(f"store {path} is damaged or not a store ({error}): move it away, a new one will be made")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreError(f"store {path} cannot be written ({error}): check the path and its permissions")
    return StoreError(f"store {path} failed ({error}): choose another file")


def is_hopeless(error: Exception) -> bool:
    """Another program's file, a newer version, a damaged file: no use in trying again."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, StoreError) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
