"""Records: the messages of a file, read and checked as a whole before the first is sent.

JSONL: each line is one message, byte for byte without its line end. CSV: the first row has the names, each further row
becomes a JSON object. Parquet: each row becomes a JSON object. Which it is, is told by the end of the file's name.
"""

from __future__ import annotations

import csv
import json
import math
import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NoReturn

from eventbus.errors import ConfigError

MAX_REPLAY_BYTES = 512 * 1024 * 1024
"""What a replay may hold in memory, with some bytes for each object, so that every record is checked before the first
is sent. Also the largest JSONL or CSV file."""
TIME_FIELD = "timestamp"
"""Where the time of a record is looked for, unless the plan says otherwise."""

_OBJECT_BYTES = 64
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_EPOCH_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (math.inf, 1e9))
"""A number below the first is in units of the second to the second: seconds up to the year 5138, then milli-, micro-
and nanoseconds."""


@dataclass(frozen=True, slots=True)
class Records:
    """Of one file. times: when each was recorded, in seconds from the first of the file, never falling; None where that
    was not asked for. period_s: seconds until the file begins again, where it is repeated at recorded times."""

    payloads: list[bytes]
    times: array[float] | None = None
    period_s: float = 0.0


Row = tuple[str, bytes, Any]
"""Where it stands, for people; the payload; the value of the time's field, None where it is missing."""


def read_records(path: Path, time_field: str | None = None, *, first: int = 0, step: int = 1) -> Records:
    """The records of ``path``: every ``step``-th from the ``first``. Blocks. Raises ConfigError with file and line.

    time_field: where the recorded time is; numbers are seconds, milli-, micro- or nanoseconds since the epoch, by their
    size; text is ISO 8601, in UTC unless it says otherwise. None: no times. An empty file is an error.
    """
    payloads: list[bytes] = []
    times = None if time_field is None else array("d")
    room = MAX_REPLAY_BYTES
    number, begin_s, last_s = 0, 0.0, -math.inf
    for number, (where, payload, time) in enumerate(_rows(path, time_field), 1):
        mine = (number - 1) % step == first
        if time_field is not None and times is not None:
            time_s = _seconds(where, time_field, time)
            if time_s < last_s:
                raise ConfigError(f"{where}: {time_field} goes back by {last_s - time_s:g} s; sort the file by it")
            begin_s, last_s = (time_s if number == 1 else begin_s), time_s
            if mine:
                times.append(time_s - begin_s)
        if mine:
            room -= len(payload) + _OBJECT_BYTES
            if room < 0:
                raise ConfigError(f"{where}: more than {MAX_REPLAY_BYTES:,} bytes until here; split the file")
            payloads.append(payload)
    if not number:
        raise ConfigError(f"{path}: there is no record in it")
    # A loop begins again one usual gap after the last record.
    period_s = 0.0 if times is None or number == 1 else (last_s - begin_s) * number / (number - 1)
    return Records(payloads, times, period_s)


def replay_lines(path: Path) -> list[bytes]:
    """The lines of a JSONL file, byte for byte without their line ends (``\\n`` or ``\\r\\n``).

    Every line must be one JSON value in UTF-8. Raises ConfigError with file and line; an empty line is an error, an
    empty file too.
    """
    return [payload for _, payload, _ in _jsonl(path, None)]


def check_json(payload: bytes) -> str | None:
    """Why this is not one JSON value in UTF-8; None where it is."""
    try:
        _loads(payload)
    except ValueError as error:
        return str(error)
    return None


def _rows(path: Path, time_field: str | None) -> Iterator[Row]:
    kind = path.suffix.lower()
    if kind == ".csv":
        return _csv(path, time_field)
    if kind in (".parquet", ".pq"):
        return _parquet(path, time_field)
    return _jsonl(path, time_field)


def _lines(path: Path) -> Iterator[bytes]:
    """The file's lines with their ends."""
    try:
        size = path.stat().st_size
        if size > MAX_REPLAY_BYTES:
            raise ConfigError(f"{path}: {size:,} bytes; a replay file may have {MAX_REPLAY_BYTES:,}: split it")
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def _jsonl(path: Path, time_field: str | None) -> Iterator[Row]:
    number = 0
    for number, ended in enumerate(_lines(path), 1):
        line = ended.removesuffix(b"\n").removesuffix(b"\r")
        where = f"{path}:{number}"
        if not line.strip():
            raise ConfigError(f"{where}: the line is empty; each line must be a JSON value")
        try:
            value = _loads(line)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from error
        yield where, line, value.get(time_field) if time_field is not None and isinstance(value, dict) else None
    if not number:
        raise ConfigError(f"{path}: the file is empty; give one with a JSON value on each line")


def _loads(line: bytes) -> Any:
    """The value of a line, its numbers as text; raises ValueError with a sentence about what is wrong."""
    try:
        # Numbers are only looked at, not made: Python's limit on the digits of an int is not one of JSON.
        return json.loads(line.decode("utf-8"), parse_int=str, parse_float=str, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.pos + 1}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply to be checked") from error


def _no_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not a JSON number", name, 0)


def _csv(path: Path, time_field: str | None) -> Iterator[Row]:
    reader = csv.reader(_decoded(path), strict=True)
    names: list[str] = []
    keys: list[str] = []
    try:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if not names:
                names, keys = row, _csv_keys(where, row, time_field)
                continue
            if len(row) != len(names):
                raise ConfigError(f"{where}: {len(row)} values; the first row has {len(names)} names")
            payload = "{" + ",".join(map(str.__add__, keys, map(_csv_value, row))) + "}"
            yield where, payload.encode(), None if time_field is None else row[names.index(time_field)]
    except csv.Error as error:
        raise ConfigError(f"{path}:{reader.line_num}: not CSV: {error}") from error


def _csv_keys(where: str, names: list[str], time_field: str | None) -> list[str]:
    """The beginnings of an object's members."""
    if not names or not all(names):
        raise ConfigError(f"{where}: a column has no name; the first row must have a name for each")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{where}: two columns are named {twice!r}")
    if time_field is not None and time_field not in names:
        raise ConfigError(f"{where}: no column {time_field!r}; there are {', '.join(names)[:200]}")
    return [json.dumps(name, ensure_ascii=False) + ":" for name in names]


def _csv_value(cell: str) -> str:
    """Numbers, true and false as they stand, nothing as null, all else as text; so ``007`` keeps its zeros."""
    if not cell:
        return "null"
    if cell in ("true", "false") or _JSON_NUMBER.fullmatch(cell):
        return cell
    return json.dumps(cell, ensure_ascii=False)


def _decoded(path: Path) -> Iterator[str]:
    for number, line in enumerate(_lines(path), 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            byte = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
            raise ConfigError(f"{path}:{number}: not UTF-8: {byte}") from error


def _parquet(path: Path, time_field: str | None) -> Iterator[Row]:
    try:
        import pyarrow as arrow  # here: it is an extra, and takes 0.1 s to load
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError(f"{path}: a Parquet file needs pyarrow: pip install 'ackscope[replay]'") from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if time_field is not None and time_field not in names:
                raise ConfigError(f"{path}: no column {time_field!r}; there are {', '.join(names)[:200]}")
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    where = f"{path}, row {number:,}"
                    yield where, _row_payload(where, row), None if time_field is None else row[time_field]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or ' '.join(str(error).split())}") from error
    except arrow.ArrowException as error:
        raise ConfigError(f"{path}: after row {number:,}: not Parquet: {' '.join(str(error).split())}") from error


def _row_payload(where: str, row: Mapping[str, Any]) -> bytes:
    try:
        try:
            return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode()
        except ValueError:  # a float that JSON has not
            finite = _finite(row)
            return json.dumps(finite, ensure_ascii=False, separators=(",", ":"), default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: cannot be written as JSON: {error}") from error


def _finite(value: Any) -> Any:
    """The same with null for NaN and infinity."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode()  # UnicodeDecodeError is a ValueError, and says where
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)  # decimals and durations


def _seconds(where: str, field: str, value: Any) -> float:
    if value is None:
        raise ConfigError(f"{where}: no {field}; a replay at recorded times needs it in each record")
    seconds = _as_seconds(value)
    if seconds is None or not math.isfinite(seconds):
        raise ConfigError(f"{where}: {field} is {str(value)[:40]!r}; use a number since the epoch, or ISO 8601")
    return seconds


def _as_seconds(value: Any) -> float | None:
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            try:
                value = datetime.fromisoformat(value.strip())
            except ValueError:
                return None
    if isinstance(value, datetime):
        return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value / next((unit for limit, unit in _EPOCH_UNITS if abs(value) < limit), 1.0)
