"""Which of the kept runs is meant: by place in the list, id, the beginning of one, name, "last" or "baseline"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eventbus.errors import ConfigError
from eventbus.observe import StoreReader, default_store_path
from eventbus.runs.comparison import Comparison
from eventbus.runs.listing import Runs
from eventbus.runs.run import ALL, Run


def list(store: Path | str | None = None, limit: int = 50) -> Runs:
    """The newest runs, newest first."""
    reader = _reader(store)
    return Runs(Run(info, reader) for info in reader.runs(limit=limit))


def open(run: str = "last", store: Path | str | None = None) -> Run:
    """One run, by its id, the beginning of its id, "last", or "baseline": the newest that is pinned."""
    return _found(_reader(store), run)


def compare(ids: Sequence[str], store: Path | str | None = None, tolerance: float = 0.05) -> Comparison:
    """Two to four runs, each as for ``open``; the first is what the others are compared with."""
    if not 2 <= len(ids) <= 4:
        raise ConfigError(f"{len(ids)} given; give two to four runs to compare")
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance is {tolerance}; give a share from 0 to below 1, as 0.05")
    reader = _reader(store)
    return Comparison([_found(reader, run) for run in ids], tolerance)


def _reader(store: Path | str | None) -> StoreReader:
    return StoreReader(default_store_path() if store is None else store)


def _found(reader: StoreReader, run: str) -> Run:
    known = reader.run(run)
    if known is not None:
        return Run(known, reader)
    infos = reader.runs(limit=ALL)
    if not infos:
        raise ConfigError(f"no runs are kept in {reader.path}")
    if run == "last":
        return Run(infos[0], reader)
    if run == "baseline":
        pinned = [info for info in infos if info.baseline]
        if not pinned:
            raise ConfigError(f"no run in {reader.path} is pinned as a baseline; `ackscope runs pin RUN` does it")
        return Run(pinned[0], reader)
    matching = [info for info in infos if run and info.run_id.startswith(run)]
    if len(matching) == 1:
        return Run(matching[0], reader)
    if matching:
        raise ConfigError(f"{len(matching)} runs begin with {run!r}, as {matching[0].run_id} and {matching[1].run_id}")
    named = [info for info in infos if run and info.name == run]
    if named:
        return Run(named[0], reader)
    raise ConfigError(f"store {reader.path} has no run {run!r}; give an id, its beginning, a name, last or baseline")
