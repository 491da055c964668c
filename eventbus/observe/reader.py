"""StoreReader: looks at the runs in a store, and cannot change them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from eventbus.event import BusEvent, EventKind
from eventbus.observe.packed import Unpacker
from eventbus.observe.run import AlertChange, FailedMessage, FailureGroup, RunInfo, RunStatus, Sample, StoreError
from eventbus.observe.schema import SCHEMA_VERSION, as_store_error, open_store, version_of
from eventbus.ports import Clock

SILENCE_S = 5.0
"""A run that wrote no sample for so long, and no end, counts as interrupted. Samples come each 0.25 s."""

BUSY_TIMEOUT_S = 2.0
"""How long one look waits for somebody who holds the whole file, as a writer does while bringing it up to date."""

_SAMPLE_COLUMNS = (
    "id, wall_s, elapsed_s, offered, target_rate, loop_lag_s, schedule_lag_s, warming_up, snapshot, whole,"
    " resident_bytes, store_delay_s, round_trip_s"
)
_RUN_COLUMNS = (
    "run_id, started_wall_s, ended_wall_s, status, url, topic, settings, pid, error, report, environment, verdict,"
    " name, notes, baseline,"
    " (SELECT max(wall_s) FROM samples WHERE samples.run_id = runs.run_id)"
)


class StoreReader:
    """Reads the store at ``path``; a missing file is an empty store. Every method opens the file read-only for itself,

    so that an instance can be shared by threads, and raises StoreError where the file cannot be read. A file of an
    older version is brought up to date by whoever looks first, which leaves what it says of its runs as it is.
    clock: wall time, to see how long a run has been silent. is_alive: tells whether a process id is in use here.
    """

    def __init__(
        self, path: Path | str, *, clock: Clock | None = None, is_alive: Callable[[int], bool] | None = None
    ) -> None:
        self.path = Path(path)
        self._wall_s = time.time if clock is None else clock.wall_s
        self._is_alive = _is_alive if is_alive is None else is_alive

    def runs(self, limit: int = 50) -> list[RunInfo]:
        """The newest runs, newest first."""
        rows = self._rows(f"SELECT {_RUN_COLUMNS} FROM runs ORDER BY started_wall_s DESC, rowid DESC LIMIT ?", (limit,))
        return [self._run(row) for row in rows]

    def run(self, run_id: str) -> RunInfo | None:
        """One run; None where there is none of that id."""
        rows = self._rows(f"SELECT {_RUN_COLUMNS} FROM runs WHERE run_id = ?", (run_id,))
        return self._run(rows[0]) if rows else None

    def samples(self, run_id: str, since_wall_s: float | None = None, limit: int = 5000) -> list[Sample]:
        """Samples in time order: those later than ``since_wall_s`` (all if None), of these the newest ``limit``.

        An hour has 14,400, of some 35 KB each where both histograms have 450 buckets: who only walks through them takes
        ``each_sample``.
        """
        return list(self.each_sample(run_id, since_wall_s, limit))

    def each_sample(self, run_id: str, since_wall_s: float | None = None, limit: int | None = None) -> Iterator[Sample]:
        """The same one by one; the file is read, and closed again, before the first of them. limit: None for all."""
        since = -1.0 if since_wall_s is None else since_wall_s
        with self._reading() as connection:
            if connection is None:
                return
            # No index where it says +run_id: the rows of a run lie close together, in the order of their ids.
            first, last, count = connection.execute(
                "SELECT min(id), max(id), count(*) FROM samples WHERE run_id = ? AND wall_s > ?", (run_id, since)
            ).fetchone()
            if limit is not None and count > limit:
                first = connection.execute(
                    "SELECT min(id) FROM (SELECT id FROM samples WHERE id BETWEEN ? AND ? AND +run_id = ?"
                    " AND +wall_s > ? ORDER BY id DESC LIMIT ?)",
                    (first, last, run_id, since, limit),
                ).fetchone()[0]
            (whole,) = connection.execute(
                "SELECT max(id) FROM samples WHERE run_id = ? AND whole = 1 AND id <= ?", (run_id, first)
            ).fetchone()
            rows = connection.execute(
                f"SELECT {_SAMPLE_COLUMNS} FROM samples WHERE id BETWEEN ? AND ? AND +run_id = ? ORDER BY id",
                (whole, last, run_id),
            ).fetchall()
        yield from self._unpacked(rows, first, since)

    def coarse_samples(self, run_id: str, most: int = 360, until_wall_s: float | None = None) -> list[Sample]:
        """A run in few samples, evenly apart, from its first one on, in time order: what can be read without all that

        was kept. Ten seconds apart, or more where that would be more than ``most``: an hour takes as long as 360
        samples. Counts and histograms go on growing from one to the next, so that nothing is lost of them; of peaks in
        between nothing is told. until_wall_s: none later than that.
        """
        with self._reading() as connection:
            if connection is None:
                return []
            ids = [
                number
                for (number,) in connection.execute(
                    "SELECT id FROM samples WHERE run_id = ? AND whole = 1 AND wall_s <= ? ORDER BY id",
                    (run_id, math.inf if until_wall_s is None else until_wall_s),
                )
            ]
            step = max(1, math.ceil(len(ids) / most))
            # One look-up each: those in between are far more, and lie on the same pages only where there are few.
            rows = [
                connection.execute(f"SELECT {_SAMPLE_COLUMNS} FROM samples WHERE id = ?", (number,)).fetchone()
                for number in ids[::step]
            ]
        return list(self._unpacked(rows, 0, -1.0))

    def _unpacked(self, rows: Sequence[tuple[Any, ...]], first: int, since_wall_s: float) -> Iterator[Sample]:
        unpacker = Unpacker()
        for row in rows:
            number, wall_s, elapsed_s, offered, rate, loop_lag_s, schedule_lag_s, warming_up, packed, whole, *own = row
            try:
                snapshot, scheduled = unpacker.unpack(packed, whole)
            except (zlib.error, ValueError, LookupError, TypeError, AttributeError) as error:
                raise StoreError(
                    f"store {self.path} is damaged (sample {number}: {error}): move it away, a new one will be made"
                ) from error
            if number >= first and wall_s > since_wall_s:
                yield Sample(
                    wall_s, elapsed_s, offered, rate, snapshot, loop_lag_s, schedule_lag_s, scheduled, bool(warming_up),
                    *own,
                )  # fmt: skip

    def latest(self, run_id: str) -> Sample | None:
        """The last sample; None where there is none yet."""
        samples = self.samples(run_id, limit=1)
        return samples[0] if samples else None

    def events(self, run_id: str, limit: int = 500) -> list[BusEvent]:
        """The newest ``limit`` events in time order; kinds of a newer version are left out."""
        rows = self._rows(
            "SELECT wall_s, kind, text FROM events WHERE run_id = ? ORDER BY id DESC LIMIT ?", (run_id, limit)
        )
        known = {str(kind) for kind in EventKind}
        return [BusEvent(wall_s, EventKind(kind), text) for wall_s, kind, text in reversed(rows) if kind in known]

    def failed(self, run_id: str, limit: int = 500) -> list[FailedMessage]:
        """Messages that were not plainly acked, newest first. A store keeps the first 10,000 of a run."""
        rows = self._rows(
            "SELECT wall_s, message_id, topic, outcome, late, attempts, error_class, error_kind, error_text, trace_id"
            " FROM failed WHERE run_id = ? ORDER BY id DESC LIMIT ?",
            (run_id, limit),
        )
        return [
            FailedMessage(wall_s, message_id, topic, outcome, bool(late), *rest)
            for wall_s, message_id, topic, outcome, late, *rest in rows
        ]

    def failure_groups(self, run_id: str) -> list[FailureGroup]:
        """All messages that were not plainly acked, in groups of the same kind, topic, outcome and text; largest first.

        Exact, however many there were, but for runs that AckScope 0.1 kept: there it is the first 10,000.
        """
        rows = self._rows(
            "SELECT kind, topic, outcome, text, count, first_wall_s, last_wall_s, message_id, trace_id"
            " FROM failure_groups WHERE run_id = ? ORDER BY count DESC, last_wall_s DESC, kind, topic, outcome, text",
            (run_id,),
        )
        return [FailureGroup(*row) for row in rows]

    def alerts(self, run_id: str) -> list[AlertChange]:
        """Every alert that went from one state to another, in time order."""
        rows = self._rows(
            "SELECT wall_s, rule, firing, value, threshold, text, state, previous, severity, muted, labels"
            " FROM alerts WHERE run_id = ? ORDER BY id",
            (run_id,),
        )
        return [
            AlertChange(
                wall_s, rule, bool(firing), _number(value), _number(limit), text, state, previous, severity, muted,
                json.loads(labels),
            )
            for wall_s, rule, firing, value, limit, text, state, previous, severity, muted, labels in rows
        ]  # fmt: skip

    def _rows(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._reading() as connection:
            return [] if connection is None else connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection that sees the store as it is at one instant; None where it is empty. Raises StoreError."""
        if not self.path.exists():
            yield None
            return
        try:
            with self._opened() as connection:
                version = version_of(connection, self.path)
                if 0 < version < SCHEMA_VERSION:
                    open_store(self.path, BUSY_TIMEOUT_S).close()
                connection.execute("BEGIN")
                yield connection if version else None
        except (sqlite3.Error, OSError) as error:
            raise as_store_error(self.path, error) from error

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        uri = f"{self.path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()

    def _run(self, row: tuple[Any, ...]) -> RunInfo:
        run_id, started, ended, status, url, topic, settings, pid, error, report, *rest = row
        environment, verdict, name, notes, baseline, last_sample = rest
        return RunInfo(
            run_id=run_id,
            started_wall_s=started,
            ended_wall_s=ended,
            status=self._status(RunStatus(status), pid, max(started, last_sample or started)),
            url=url,
            topic=topic,
            settings=json.loads(settings),
            pid=pid,
            error=error,
            report=None if report is None else json.loads(report),
            environment=json.loads(environment),
            verdict=None if verdict is None else json.loads(verdict),
            name=name,
            notes=notes,
            baseline=bool(baseline),
        )

    def _status(self, written: RunStatus, pid: int, last_wall_s: float) -> RunStatus:
        if written.is_over or (self._wall_s() - last_wall_s <= SILENCE_S and self._is_alive(pid)):
            return written
        return RunStatus.INTERRUPTED


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # signal 0 would end the process there; silence alone decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is there, and another user's
    return True
