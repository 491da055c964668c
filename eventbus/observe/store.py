"""StoreWriter: the only one who writes the rows of a run.

Callers put plain values into a bounded queue and go on; a thread of its own writes them, one transaction a batch, each
0.1 s where there is something to write: a process that is killed loses no more than that.
Whatever happens to the file (locked, full, damaged), a caller never waits and never sees an exception: what could not
be kept is counted in ``dropped``, and the first error is logged once and told by ``error``.

State: ``_queue``, ``_oldest_s`` and ``_closing`` are changed under ``_wake``, ``_failed_kept`` by the callers' thread;
the connection, the packers and the time of the next tidying belong to the writing thread alone.
Rows that a run cannot do without (its beginning, status and end) are never dropped: after a failed transaction they
wait for the next one. So do counts of failures.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eventbus.event import BusEvent
from eventbus.observe import statements
from eventbus.observe.failures import FailureCounter, Groups
from eventbus.observe.packed import Packer
from eventbus.observe.retention import Retention, tidy
from eventbus.observe.run import AlertChange, FailedMessage, FailureGroup, RunStatus, Sample, StoreError
from eventbus.observe.schema import (
    MAX_FAILED_PER_RUN,
    as_store_error,
    default_store_path,
    is_hopeless,
    open_store,
    transaction,
)
from eventbus.report import DeliveryReport

__all__ = ["StoreWriter", "default_store_path"]

log = logging.getLogger("eventbus.store")

COMMIT_EVERY_S = 0.1
TIDY_EVERY_S = 60.0


class _Rows(NamedTuple):
    statement: str
    values: Sequence[tuple[Any, ...]]
    needed: bool = False


class _Taken(NamedTuple):
    """A sample, packed only when it is written: off the event loop, and by what was written before.

    at_s: when it was handed over, by time.monotonic().
    """

    run_id: str
    sample: Sample
    at_s: float


class StoreWriter:
    """Writes runs into the SQLite file ``path``, which is made (with its folder) if missing, and brought up to date if

    it is of an older version. The constructor starts the thread and does not touch the file: an unusable store shows
    in ``error`` soon after.
    max_queued: entries that may wait for the disk; beyond, entries are dropped and counted.
    busy_timeout_s: how long one transaction waits for another writer.
    retention: what the file may hold; looked after when a run begins or ends, and each minute.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        max_queued: int = 4096,
        busy_timeout_s: float = 5.0,
        retention: Retention = Retention(),  # noqa: B008 - frozen
    ) -> None:
        self.path = Path(path)
        self._retention = retention
        self._max_queued = max_queued
        self._busy_timeout_s = busy_timeout_s
        self._wake = threading.Condition()
        self._queue: deque[_Rows | _Taken] = deque()
        self._oldest_s: float | None = None  # when the oldest sample that is not written yet was handed over
        self._failed_kept: dict[str, int] = {}
        self._failures = FailureCounter()
        self._packers: dict[str, Packer] = {}
        self._tidy_at_s = 0.0
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

    @property
    def delay_s(self) -> float:
        """Age in seconds of the oldest sample that is not written yet; 0 where all are, or were dropped. Never waits.

        Up to 0.1 s is as it should be. A file that is locked shows up to ``busy_timeout_s``.
        """
        oldest_s = self._oldest_s
        return 0.0 if oldest_s is None else time.monotonic() - oldest_s

    def begin_run(
        self,
        *,
        url: str,
        topic: str,
        settings: Mapping[str, Any],
        started_wall_s: float,
        pid: int | None = None,
        name: str = "",
        environment: Mapping[str, Any] | None = None,
    ) -> str:
        """A new run; returns its id, which sorts by time. ``url`` must not hold user or password.

        name: for people; may be changed later. environment: of the machine, as observe.environment tells it.
        """
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(started_wall_s))
        run_id = f"{stamp}-{secrets.token_hex(3)}"
        pid = os.getpid() if pid is None else pid
        self._failed_kept[run_id] = 0
        told = _json(environment or {})
        row = (run_id, started_wall_s, str(RunStatus.RUNNING), url, topic, _json(settings), pid, name, told)
        self._put(_Rows(statements.RUN, [row], needed=True))
        return run_id

    def set_status(self, run_id: str, status: RunStatus) -> None:
        """Where the run stands, as long as it is not over."""
        self._put(_Rows(statements.STATUS, [(str(status), run_id)], needed=True))

    def sample(self, run_id: str, sample: Sample) -> None:
        """One sample; of one run they come in the order of their time."""
        self._put(_Taken(run_id, sample, time.monotonic()))

    def event(self, run_id: str, event: BusEvent) -> None:
        """Something that happened."""
        self._put(_Rows(statements.EVENT, [(run_id, event.wall_s, str(event.kind), event.text)]))

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
             m.error_text, m.trace_id)
            for m in messages
        ]  # fmt: skip
        self._put(_Rows(statements.FAILED, rows))

    def count_failed(
        self,
        run_id: str,
        reports: Sequence[DeliveryReport],
        wall_s: float,
        trace_ids: Sequence[str | None] | None = None,
    ) -> None:
        """Count messages that were not plainly acked, all of them: exact, however many. Beside ``failed``.

        wall_s: when they were told. trace_ids: one for each report, None where none is known. About 1 us a message.
        """
        self._failures.add_reports(run_id, reports, wall_s, trace_ids)
        self._more_failures()

    def count_groups(self, run_id: str, groups: Iterable[FailureGroup]) -> None:
        """The same for what was grouped elsewhere, as by the workers of a fleet: each group since the last time."""
        self._failures.add_groups(run_id, groups)
        self._more_failures()

    def alert(self, run_id: str, change: AlertChange) -> None:
        """An alert that went from one state to another."""
        row = (
            run_id, change.wall_s, change.rule, change.firing, _number(change.value), _number(change.threshold),
            change.text, change.state, change.previous, change.severity, change.muted, _json(change.labels),
        )  # fmt: skip
        self._put(_Rows(statements.ALERT, [row]))

    def end_run(
        self,
        run_id: str,
        *,
        status: RunStatus,
        ended_wall_s: float,
        error: str | None = None,
        report: Mapping[str, Any] | None = None,
        verdict: Mapping[str, Any] | None = None,
    ) -> None:
        """The end of a run, with the verdict of its thresholds if it had any. Nothing else of it is written after."""
        self._failed_kept.pop(run_id, None)
        self._failures.forget(run_id)
        told = [None if values is None else _json(values) for values in (report, verdict)]
        row = (str(status), ended_wall_s, error, *told, run_id)
        self._put(_Rows(statements.END, [row], needed=True))

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write what waits and end, within ``timeout_s`` seconds; False if that was not enough. Blocks; idempotent."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _put(self, entry: _Rows | _Taken) -> None:
        needed = isinstance(entry, _Rows) and entry.needed
        with self._wake:
            if self._closing or (not needed and (self._hopeless or len(self._queue) >= self._max_queued)):
                self._dropped += _size(entry)
                return
            self._queue.append(entry)
            if self._oldest_s is None and isinstance(entry, _Taken):
                self._oldest_s = entry.at_s
            self._wake.notify()

    def _more_failures(self) -> None:
        with self._wake:
            if self._closing or self._hopeless:
                self._drop_failures()
            else:
                self._wake.notify()

    def _drop_failures(self) -> None:
        self._dropped += sum(group.count for group in self._failures.take().values())

    def _write_all(self) -> None:
        left: list[_Rows] = []
        while True:
            with self._wake:
                while not self._queue and not self._failures and not self._closing:
                    self._wake.wait()
                batch = [*left, *self._queue]
                self._queue.clear()
                last = self._closing
            groups = self._failures.take()
            left = self._write(batch, groups)
            with self._wake:
                self._oldest_s = next((entry.at_s for entry in self._queue if isinstance(entry, _Taken)), None)
            if last:
                break
            self._tidy(batch)
            with self._wake:
                self._wake.wait_for(lambda: self._closing, COMMIT_EVERY_S)
        self._drop_failures()
        if self._connection is not None:
            self._connection.close()

    def _write(self, batch: Sequence[_Rows | _Taken], groups: Groups) -> list[_Rows]:
        """Write a batch; returns what of it must be tried again."""
        if self._hopeless:
            self._dropped += sum(map(_size, batch)) + sum(group.count for group in groups.values())
            return []
        try:
            connection = self._connection or self._open()
            with transaction(connection):
                for entry in batch:
                    rows = self._packed(entry) if isinstance(entry, _Taken) else entry
                    connection.executemany(rows.statement, rows.values)
                connection.executemany(statements.GROUP, map(_group_row, groups, groups.values()))
        except (sqlite3.Error, OSError, StoreError) as error:
            self._failure(error)
            self._packers.clear()  # what is packed next must not build upon what was not written
            self._failures.give_back(groups)
            needed = [entry for entry in batch if isinstance(entry, _Rows) and entry.needed]
            self._dropped += sum(map(_size, batch)) - sum(map(_size, needed))
            return needed
        for entry in batch:
            if isinstance(entry, _Rows) and entry.statement == statements.END:
                self._packers.pop(entry.values[0][-1], None)
        return []

    def _packed(self, taken: _Taken) -> _Rows:
        run_id, sample, _ = taken
        blob, whole = self._packers.setdefault(run_id, Packer()).pack(sample)
        row = (
            run_id, sample.wall_s, sample.elapsed_s, sample.offered, sample.target_rate, sample.loop_lag_s,
            sample.schedule_lag_s, sample.warming_up, blob, whole, sample.resident_bytes, sample.store_delay_s,
            sample.round_trip_s,
        )  # fmt: skip
        return _Rows(statements.SAMPLE, [row])

    def _open(self) -> sqlite3.Connection:
        self._connection = open_store(self.path, self._busy_timeout_s)
        return self._connection

    def _tidy(self, batch: Sequence[_Rows | _Taken]) -> None:
        """Keep the file within its bounds: when a run has begun or ended, and now and then."""
        turn = any(isinstance(entry, _Rows) and entry.statement in (statements.RUN, statements.END) for entry in batch)
        if self._connection is None or (not turn and time.monotonic() < self._tidy_at_s):
            return
        self._tidy_at_s = time.monotonic() + TIDY_EVERY_S
        try:
            tidy(self._connection, self.path, self._retention, running=frozenset(self._failed_kept))
        except (sqlite3.Error, OSError, StoreError) as error:  # the next time will do
            self._tell(error)

    def _failure(self, error: sqlite3.Error | OSError | StoreError) -> None:
        self._hopeless = is_hopeless(error)
        self._tell(error)

    def _tell(self, error: sqlite3.Error | OSError | StoreError) -> None:
        if self._error is None:
            self._error = error if isinstance(error, StoreError) else as_store_error(self.path, error)
            log.warning("%s; the run goes on, and what cannot be kept is counted", self._error)


def _size(entry: _Rows | _Taken) -> int:
    return len(entry.values) if isinstance(entry, _Rows) else 1


def _group_row(key: Sequence[str], group: FailureGroup) -> tuple[Any, ...]:
    return (*key, group.count, group.first_wall_s, group.last_wall_s, group.message_id, group.trace_id)


def _number(value: float) -> float | None:
    """SQLite has no NaN."""
    return None if math.isnan(value) else value


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"), default=str)
