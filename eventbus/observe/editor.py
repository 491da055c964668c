"""RunEditor: what people change about runs that are kept: name, notes, the pin of a baseline; and deleting them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from eventbus.errors import ConfigError
from eventbus.observe.reader import StoreReader
from eventbus.observe.retention import Retention, Tidied, delete, give_back_room, tidy
from eventbus.observe.schema import as_store_error, open_store, transaction

MAX_NAME = 200
MAX_NOTES = 100_000


class RunEditor:
    """Edits the store at ``path``; each call opens the file for itself, in one short transaction beside the writer's.

    Raises ConfigError where there is no such run, where it goes on and must be over, and where a text is too long;
    StoreError where the file cannot be used. busy_timeout_s: how long a call waits for another writer. Blocks.
    """

    def __init__(self, path: Path | str, *, busy_timeout_s: float = 5.0) -> None:
        self.path = Path(path)
        self._busy_timeout_s = busy_timeout_s

    def rename(self, run_id: str, name: str) -> None:
        """Another name, of at most 200 characters in one line; empty for none."""
        if len(name) > MAX_NAME or not name.isprintable():
            raise ConfigError(f"a run's name is one line of at most {MAX_NAME} characters, not {name[:40]!r}")
        self._set(run_id, "name", name)

    def note(self, run_id: str, text: str) -> None:
        """Other notes, of at most 100,000 characters; empty for none."""
        if len(text) > MAX_NOTES:
            raise ConfigError(f"notes of {len(text):,} characters; give at most {MAX_NOTES:,}")
        self._set(run_id, "notes", text)

    def pin(self, run_id: str, baseline: bool = True) -> None:
        """Make it a baseline: others are compared with it, and it is never deleted to make room. False takes that back.

        There may be several; where one is asked for, the newest is taken.
        """
        self._set(run_id, "baseline", int(baseline))

    def delete(self, run_id: str) -> None:
        """Delete a run that is over, with all that is known of it; a baseline too."""
        run = StoreReader(self.path).run(run_id)
        if run is None:
            raise self._unknown(run_id)
        if not run.status.is_over:
            raise ConfigError(f"run {run_id} goes on: stop it before it is deleted")
        with self._opened() as connection:
            if not delete(connection, run_id):
                raise self._unknown(run_id)
            give_back_room(connection)

    def prune(self, retention: Retention) -> Tidied:
        """Delete the oldest runs until the store is within these bounds; none that goes on, and no baseline."""
        if not self.path.exists():
            return Tidied((), (), 0)
        with self._opened() as connection:
            return tidy(connection, self.path, retention)

    def _set(self, run_id: str, column: str, value: str | int) -> None:
        if not self.path.exists():
            raise self._unknown(run_id)
        with self._opened() as connection:
            with transaction(connection):
                # ``column`` is one of the names above, never somebody's text
                changed = connection.execute(f"UPDATE runs SET {column} = ? WHERE run_id = ?", (value, run_id)).rowcount
            if not changed:
                raise self._unknown(run_id)

    def _unknown(self, run_id: str) -> ConfigError:
        return ConfigError(f"store {self.path} has no run {run_id!r}; `ackscope runs list` shows those that it has")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(open_store(self.path, self._busy_timeout_s)) as connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise as_store_error(self.path, error) from error
