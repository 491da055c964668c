"""StoreReader: looks at the runs in a store, and cannot change them."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from eventbus.event import BusEvent, EventKind
from eventbus.observe.run import AlertChange, FailedMessage, RunInfo, RunStatus, Sample
from eventbus.observe.schema import as_store_error, check_version
from eventbus.ports import Clock
from eventbus.snapshot import BusSnapshot

SILENCE_S = 5.0
"""A run that wrote no sample for so long, and no end, counts as interrupted. Samples come each 0.25 s."""

_SAMPLE_COLUMNS = "wall_s, elapsed_s, offered, target_rate, loop_lag_s, snapshot"
_RUN_COLUMNS = (
    "run_id, started_wall_s, ended_wall_s, status, url, topic, settings, pid, error, report,"
    " (SELECT max(wall_s) FROM samples WHERE samples.run_id = runs.run_id)"
)


class StoreReader:
    """Reads the store at ``path``; a missing file is an empty store. Every method opens the file read-only for itself,

    so that an instance can be shared by threads, and raises StoreError where the file cannot be read.
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
        """Samples in time order: those later than ``since_wall_s`` (all if None), of these the newest ``limit``."""
        since = -1.0 if since_wall_s is None else since_wall_s
        rows = self._rows(
            f"SELECT {_SAMPLE_COLUMNS} FROM samples WHERE run_id = ? AND wall_s > ?"
            " ORDER BY wall_s DESC, id DESC LIMIT ?",
            (run_id, since, limit),
        )
        return [_sample(row) for row in reversed(rows)]

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
            "SELECT wall_s, message_id, topic, outcome, late, attempts, error_class, error_kind, error_text"
            " FROM failed WHERE run_id = ? ORDER BY id DESC LIMIT ?",
            (run_id, limit),
        )
        return [
            FailedMessage(wall_s, message_id, topic, outcome, bool(late), attempts, error_class, error_kind, error_text)
            for wall_s, message_id, topic, outcome, late, attempts, error_class, error_kind, error_text in rows
        ]

    def alerts(self, run_id: str) -> list[AlertChange]:
        """Every alert that began or ceased to fire, in time order."""
        rows = self._rows(
            "SELECT wall_s, rule, firing, value, threshold, text FROM alerts WHERE run_id = ? ORDER BY id", (run_id,)
        )
        return [AlertChange(wall_s, rule, bool(firing), *rest) for wall_s, rule, firing, *rest in rows]

    def _rows(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if not self.path.exists():
            return []
        try:
            with self._opened() as connection:
                if not check_version(connection, self.path):
                    return []
                return connection.execute(query, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise as_store_error(self.path, error) from error

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0)
        try:
            yield connection
        finally:
            connection.close()

    def _run(self, row: tuple[Any, ...]) -> RunInfo:
        run_id, started, ended, status, url, topic, settings, pid, error, report, last_sample = row
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
        )

    def _status(self, written: RunStatus, pid: int, last_wall_s: float) -> RunStatus:
        if written.is_over or (self._wall_s() - last_wall_s <= SILENCE_S and self._is_alive(pid)):
            return written
        return RunStatus.INTERRUPTED


def _sample(row: tuple[Any, ...]) -> Sample:
    wall_s, elapsed_s, offered, target_rate, loop_lag_s, snapshot = row
    return Sample(wall_s, elapsed_s, offered, target_rate, BusSnapshot.from_dict(json.loads(snapshot)), loop_lag_s)


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
