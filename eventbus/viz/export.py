"""Rows of a run to files: CSV and JSON without any further package, Parquet by pandas."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

from eventbus.errors import ConfigError
from eventbus.viz.frames import Row, frame


def to_csv(rows: Sequence[Row], names: Iterable[str]) -> str:
    """A line of names and a line a row; times as ISO 8601 in UTC, empty where there is no value.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    out = StringIO()
    writer = csv.DictWriter(out, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def to_json(values: Mapping[str, Any]) -> str:
    """JSON with one top-level name a line; times as ISO 8601 in UTC, NaN as null."""
    lines = (f"{json.dumps(name)}: {json.dumps(_plain(value), allow_nan=False)}" for name, value in values.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def to_parquet(rows: Sequence[Row], like: Sequence[Row] = ()) -> bytes:
    """Parquet; types, categories and times keep their kind. ConfigError where a package is missing."""
    made = frame(rows, like)
    try:
        return made.to_parquet(index=False, engine="pyarrow")
    except ImportError:
        raise ConfigError('Parquet needs pyarrow; pip install "ackscope[runs]"') from None


def write_text(text: str, path: Path) -> None:
    """Write a file; ConfigError where that cannot be done."""
    write(text.encode(), path)


def write(content: bytes, path: Path) -> None:
    """Write a file; ConfigError where that cannot be done."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)
