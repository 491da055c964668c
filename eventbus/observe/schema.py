"""The tables of the store, their version, and what SQLite's errors mean for a person."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from eventbus.observe.run import StoreError

SCHEMA_VERSION = 1
MAX_FAILED_PER_RUN = 10_000
"""Failed messages kept one by one for each run; the counts in the samples are exact whatever their number."""

_TABLES = """
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


def default_store_path() -> Path:
    """Where runs are kept: ``$ACKSCOPE_HOME/runs.db``, else ``runs.db`` in the user's state folder of this system."""
    home = os.environ.get("ACKSCOPE_HOME")
    if home:
        return Path(home) / "runs.db"
    import platformdirs  # here, so that a bus without a store does not load it

    return platformdirs.user_state_path("ackscope") / "runs.db"


def check_version(connection: sqlite3.Connection, path: Path) -> bool:
    """True where the tables are there, False for an empty file; raises StoreError for any other file."""
    # The tables first: a writer may commit tables and version between these two looks.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version == SCHEMA_VERSION:
        return True
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"store {path} is of schema version {version}, and this AckScope knows {SCHEMA_VERSION}: "
            "update AckScope, or choose another file"
        )
    if tables:
        raise StoreError(f"{path} is a database of another program: choose another file for the store")
    return False


def create_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Make a new file a store, and an existing one fit for one writer beside readers. Raises StoreError."""
    check_version(connection, path)  # before the first change: another program's file stays as it is
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE")  # two programs may find the same file empty
    try:
        if not check_version(connection, path):
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


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
