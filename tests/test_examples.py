"""The file of real records is what its README says, the script that made it does what it says, and what README.md
shows as code runs as it stands."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from examples.make_records import records


def said_in_readme(root: Path, row: str) -> str:
    text = (root / "examples" / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^\| {row} \| `?([^`|]+?)`? \|$", text, re.MULTILINE)
    assert found, f"no row {row!r} in examples/README.md"
    return found[1]


def test_records_agree_with_readme(root: Path, flights: Path) -> None:
    """Count, size and SHA-256 of the records are those in the README."""
    data = flights.read_bytes()
    assert f"{len(data.splitlines()):,}" == said_in_readme(root, "records")
    assert f"{len(data):,}" == said_in_readme(root, "bytes")
    assert hashlib.sha256(data).hexdigest() == said_in_readme(root, "SHA-256")


def test_every_line_is_one_record(flights: Path) -> None:
    """Each line is a JSON object of its own, ends with a line feed, differs from all others and varies in length."""
    lines = flights.read_bytes().split(b"\n")
    assert lines.pop() == b""
    made = [json.loads(line) for line in lines]
    assert all(isinstance(record, dict) and record["time_hour"] and record["carrier"] for record in made)
    assert len(set(lines)) == len(lines)
    assert len({len(line) for line in lines}) > 50
    assert [record["time_hour"] for record in made] == sorted(record["time_hour"] for record in made)


def test_unknown_values_are_left_out(tmp_path: Path) -> None:
    """A cancelled flight has no departure, an unregistered plane no facts; flights come by scheduled departure."""
    (tmp_path / "airlines.csv").write_text("carrier,name\nUA,United Air Lines Inc.\n", encoding="utf-8")
    (tmp_path / "planes.csv").write_text("tailnum,year,model,speed\nN14228,1999,737-824,NA\n", encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "flights.csv.zip", "w") as archive:
        archive.writestr(
            "flights.csv",
            "year,month,day,dep_time,carrier,flight,tailnum,hour,minute,time_hour\n"
            "2013,1,1,NA,UA,9,NA,5,40,2013-01-01T10:00:00Z\n"
            "2013,1,1,517,UA,1545,N14228,5,15,2013-01-01T10:00:00Z\n",
        )
    airline = "United Air Lines Inc."
    assert records(tmp_path) == [
        {
            "time_hour": "2013-01-01T10:00:00Z",
            "dep_time": 517,
            "carrier": "UA",
            "flight": 1545,
            "tailnum": "N14228",
            "minute": 15,
            "airline": airline,
            "plane": {"year": 1999, "model": "737-824"},
        },
        {"time_hour": "2013-01-01T10:00:00Z", "carrier": "UA", "flight": 9, "minute": 40, "airline": airline},
    ]


@pytest.mark.integration
def test_code_of_the_readme_runs(root: Path, tmp_path: Path) -> None:
    """Each Python block of README.md is a whole program; it runs, with warnings as errors."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (root / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", block],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
