"""Retention: what a store may hold, and what is given up where it holds more.

The oldest runs are deleted first, but never one that goes on and never a baseline. Where only such are left, those that
go on lose the detail of their older half: one sample in ten seconds stays, and since samples count from the run's
beginning, no count is lost with the others.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eventbus.errors import ConfigError
from eventbus.observe.reader import StoreReader
from eventbus.observe.run import RunInfo
from eventbus.observe.schema import RUN_TABLES, transaction

MAX_BYTES = 1024 * 1024 * 1024
"""Some hundred hours of samples."""
MAX_RUNS = 1000


@dataclass(frozen=True, slots=True)
class Retention:
    """max_bytes: of what the file holds, at least 1 MiB; None for no bound. max_runs: at least 1; None for no bound.

    Raises ConfigError.
    """

    max_bytes: int | None = MAX_BYTES
    max_runs: int | None = MAX_RUNS

    def __post_init__(self) -> None:
        if self.max_bytes is not None and self.max_bytes < 1 << 20:
            raise ConfigError(f"max_bytes is {self.max_bytes}; give at least 1 MiB, {1 << 20:,}, or None for no bound")
        if self.max_runs is not None and self.max_runs < 1:
            raise ConfigError(f"max_runs is {self.max_runs}; give at least 1, or None for no bound")


@dataclass(frozen=True, slots=True)
class Tidied:
    """deleted: run ids. thinned: ids of runs that lost detail. used_bytes: what the file holds now."""

    deleted: tuple[str, ...]
    thinned: tuple[str, ...]
    used_bytes: int


def tidy(connection: sqlite3.Connection, path: Path, retention: Retention, *, running: Collection[str] = ()) -> Tidied:
    """Bring the store at ``path`` within its bounds and give the room back to the file system.

    connection: may write, and is in no transaction. running: ids that go on, besides those that look so.
    One short transaction for each run. Raises sqlite3.Error, OSError, StoreError.
    """
    count = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    too_many = 0 if retention.max_runs is None else max(0, count - retention.max_runs)
    deleted: list[str] = []
    thinned: list[str] = []
    if too_many or not _fits(connection, retention):
        runs = StoreReader(path).runs(limit=count)
        for run in deletable(runs, running):
            if len(deleted) >= too_many and _fits(connection, retention):
                break
            delete(connection, run.run_id)
            deleted.append(run.run_id)
        if not _fits(connection, retention):
            going_on = [run for run in runs if not run.baseline and run.run_id not in deleted]
            thinned = [run.run_id for run in going_on if _thin(connection, run.run_id)]
    if deleted or thinned:
        give_back_room(connection)
    return Tidied(tuple(deleted), tuple(thinned), used_bytes(connection))


def deletable(runs: Sequence[RunInfo], running: Collection[str] = ()) -> Iterable[RunInfo]:
    """Of ``runs``, newest first: those that may be deleted, oldest first."""
    return (run for run in reversed(runs) if run.status.is_over and not run.baseline and run.run_id not in running)


def delete(connection: sqlite3.Connection, run_id: str) -> bool:
    """Delete a run with all its rows; False where there is none of that id."""
    with transaction(connection):
        for table in RUN_TABLES:
            deleted = connection.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,)).rowcount
    return deleted > 0  # the last of them is the table of runs


def used_bytes(connection: sqlite3.Connection) -> int:
    """What the store holds; the file may be larger by what was deleted and not given back yet."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def give_back_room(connection: sqlite3.Connection) -> None:
    """Make the file as small as what it holds. A file of version 1 is written anew once, which takes its size again."""
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0]:
        # A script, because it frees a page with each step, and the module ends other statements without a row at one.
        connection.executescript("PRAGMA incremental_vacuum")
    else:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # cannot where somebody reads: the next one will


def _fits(connection: sqlite3.Connection, retention: Retention) -> bool:
    return retention.max_bytes is None or used_bytes(connection) <= retention.max_bytes


def _thin(connection: sqlite3.Connection, run_id: str) -> bool:
    """Leave of the older half of a run's samples those that can be read alone; False where that is so already."""
    with transaction(connection):
        middle = connection.execute(
            "SELECT (min(wall_s) + max(wall_s)) / 2 FROM samples WHERE run_id = ?", (run_id,)
        ).fetchone()[0]
        cut = connection.execute(
            "SELECT max(id) FROM samples WHERE run_id = ? AND whole AND wall_s <= ?", (run_id, middle)
        ).fetchone()[0]
        gone = connection.execute("DELETE FROM samples WHERE run_id = ? AND NOT whole AND id < ?", (run_id, cut))
    return gone.rowcount > 0
