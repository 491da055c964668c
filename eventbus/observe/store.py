"""StoreWriter: the only one who writes the rows of a run.

Callers put plain values into a bounded queue and go on; a thread of its own writes them, one transaction a batch.
Whatever happens to the file (locked, full, damaged), a caller never waits and never sees an exception: what could not
be kept is counted in ``dropped``, and the first error is logged once and told by ``error``.

State: ``_queue``, ``_kept`` and ``_closing`` are changed under ``_wake``; the connection belongs to the thread alone.
Rows that a run cannot do without (its beginning, status and end) are never dropped: after a failed transaction they
wait for the next one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eventbus.event import BusEvent
from eventbus.observe.run import AlertChange, FailedMessage, RunStatus, Sample, StoreError
from eventbus.observe.schema import MAX_FAILED_PER_RUN, as_store_error, create_tables, default_store_path

__all__ = ["StoreWriter", "default_store_path"]

log = logging.getLogger("eventbus.store")

_RUN = "INSERT INTO runs (run_id, started_wall_s, status, url, topic, settings, pid) VALUES (?, ?, ?, ?, ?, ?, ?)"
_STATUS = "UPDATE runs SET status = ? WHERE run_id = ?"
_END = "UPDATE runs SET status = ?, ended_wall_s = ?, error = ?, report = ? WHERE run_id = ?"
_SAMPLE = (
    "INSERT INTO samples (run_id, wall_s, elapsed_s, offered, target_rate, loop_lag_s, snapshot)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_EVENT = "INSERT INTO events (run_id, wall_s, kind, text) VALUES (?, ?, ?, ?)"
_FAILED = (
    "INSERT INTO failed (run_id, wall_s, message_id, topic, outcome, late, attempts, error_class, error_kind,"
    " error_text) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ALERT = "INSERT INTO alerts (run_id, wall_s, rule, firing, value, threshold, text) VALUES (?, ?, ?, ?, ?, ?, ?)"


class _Rows(NamedTuple):
    statement: str
    values: Sequence[tuple[Any, ...]]
    needed: bool = False


class StoreWriter:
    """Writes runs into the SQLite file ``path``, which is made (with its folder) if missing.

    The constructor starts the thread and does not touch the file: an unusable store shows in ``error`` soon after.
    max_queued: entries that may wait for the disk; beyond, entries are dropped and counted.
    busy_timeout_s: how long one transaction waits for another writer.
    """

    def __init__(self, path: Path | str, *, max_queued: int = 4096, busy_timeout_s: float = 5.0) -> None:
        self.path = Path(path)
        self._max_queued = max_queued
        self._busy_timeout_s = busy_timeout_s
        self._wake = threading.Condition()
        self._queue: deque[_Rows] = deque()
        self._failed_kept: dict[str, int] = {}
        self._dropped = 0
        self._error: StoreError | None = None
        self._hopeless = False
        self._closing = False
        self._connection: sqlite3.Connection | None = None
        # A daemon: a disk that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._write_all, name="ackscope-store", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Entries (samples, events, failed messages, alerts) that could not be kept."""
        return self._dropped

    @property
    def error(self) -> StoreError | None:
        """The first error of the file, None while all is well."""
        return self._error

    def begin_run(
        self, *, url: str, topic: str, settings: Mapping[str, Any], started_wall_s: float, pid: int | None = None
    ) -> str:
        """A new run; returns its id, which sorts by time. ``url`` must not hold user or password."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(started_wall_s))
        run_id = f"{stamp}-{secrets.token_hex(3)}"
        pid = os.getpid() if pid is None else pid
        self._failed_kept[run_id] = 0
        row = (run_id, started_wall_s, str(RunStatus.RUNNING), url, topic, _json(settings), pid)
        self._put(_Rows(_RUN, [row], needed=True))
        return run_id

    def set_status(self, run_id: str, status: RunStatus) -> None:
        """Where the run stands, as long as it is not over."""
        self._put(_Rows(_STATUS, [(str(status), run_id)], needed=True))

    def sample(self, run_id: str, sample: Sample) -> None:
        """One sample."""
        snapshot = _json(sample.snapshot.to_dict())
        row = (run_id, sample.wall_s, sample.elapsed_s, sample.offered, sample.target_rate, sample.loop_lag_s, snapshot)
        self._put(_Rows(_SAMPLE, [row]))

    def event(self, run_id: str, event: BusEvent) -> None:
        """Something that happened."""
        self._put(_Rows(_EVENT, [(run_id, event.wall_s, str(event.kind), event.text)]))

    def room_for_failed(self, run_id: str) -> int:
        """How many failed messages of this run will still be kept, of the first 10,000."""
        return MAX_FAILED_PER_RUN - self._failed_kept.get(run_id, MAX_FAILED_PER_RUN)

    def failed(self, run_id: str, messages: Sequence[FailedMessage]) -> None:
        """Messages that were not plainly acked; the first 10,000 of a run are kept."""
        messages = messages[: self.room_for_failed(run_id)]
        if not messages:
            return
        self._failed_kept[run_id] += len(messages)
        rows = [
            (run_id, m.wall_s, m.message_id, m.topic, m.outcome, m.late, m.attempts, m.error_class, m.error_kind,
             m.error_text)
            for m in messages
        ]  # fmt: skip
        self._put(_Rows(_FAILED, rows))

    def alert(self, run_id: str, change: AlertChange) -> None:
        """An alert that began or ceased to fire."""
        row = (run_id, change.wall_s, change.rule, change.firing, change.value, change.threshold, change.text)
        self._put(_Rows(_ALERT, [row]))

    def end_run(
        self,
        run_id: str,
        *,
        status: RunStatus,
        ended_wall_s: float,
        error: str | None = None,
        report: Mapping[str, Any] | None = None,
    ) -> None:
        """The end of a run. Nothing else of it is written after."""
        self._failed_kept.pop(run_id, None)
        row = (str(status), ended_wall_s, error, None if report is None else _json(report), run_id)
        self._put(_Rows(_END, [row], needed=True))

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write what waits and end, within ``timeout_s`` seconds; False if that was not enough. Blocks; idempotent."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _put(self, rows: _Rows) -> None:
        with self._wake:
            if self._closing or (not rows.needed and (self._hopeless or len(self._queue) >= self._max_queued)):
                self._dropped += len(rows.values)
                return
            self._queue.append(rows)
            self._wake.notify()

    def _write_all(self) -> None:
        needed: list[_Rows] = []
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                batch = [*needed, *self._queue]
                self._queue.clear()
                last = self._closing
            if batch:
                needed = self._write(batch)
            if last:
                break
        if self._connection is not None:
            self._connection.close()

    def _write(self, batch: list[_Rows]) -> list[_Rows]:
        """Write a batch; returns what of it must be tried again."""
        if self._hopeless:
            return []
        try:
            connection = self._connection or self._open()
            connection.execute("BEGIN IMMEDIATE")
            for statement, values, _ in batch:
                connection.executemany(statement, values)
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError, StoreError) as error:
            self._failure(error)
            self._dropped += sum(len(rows.values) for rows in batch if not rows.needed)
            return [rows for rows in batch if rows.needed]
        return []

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            create_tables(connection, self.path)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _failure(self, error: sqlite3.Error | OSError | StoreError) -> None:
        if self._connection is not None and self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        # Another program's file, a newer version, a damaged file: no use in trying again.
        self._hopeless = isinstance(error, StoreError) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        if self._error is None:
            self._error = error if isinstance(error, StoreError) else as_store_error(self.path, error)
            log.warning("%s; the run goes on, and what cannot be kept is counted", self._error)


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"), default=str)
