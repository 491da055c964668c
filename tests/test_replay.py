"""Files of records: read and checked as a whole, at their own pace or another, and through a real server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eventbus.embedded.nats import EmbeddedNats
from eventbus.errors import ConfigError
from eventbus.load import replay
from eventbus.load.message import Messages
from eventbus.load.payload import open_messages
from eventbus.load.plan import LoadPlan
from tests.nats_tools import read_back


@pytest.mark.integration
def test_replayed_file_arrives_byte_for_byte(root: Path, flights: Path, tmp_path: Path) -> None:
    """Every line of the file is in the stream once, in order and unchanged, and all of them were acked."""
    result = tmp_path / "result.json"
    with EmbeddedNats() as server:
        command = [sys.executable, "-m", "eventbus", "load", "--url", server.url, "--topic", "flights.departed"]
        command += ["--replay", str(flights), "--json", str(result)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        stored = asyncio.run(read_back(server.url, "FLIGHTS"))
    lines = flights.read_bytes().splitlines()
    assert [message.payload for message in stored] == lines
    assert len({message.message_id for message in stored}) == len(lines)
    totals = json.loads(result.read_text())
    assert totals["accepted"] == totals["acked"] == len(lines)
    assert totals["duplicates"] == 0


def opened(path: Path, **settings: Any) -> Messages:
    return open_messages(LoadPlan(replay=path, **settings))


def payloads(messages: Messages) -> list[bytes]:
    return [message.payload for message in messages.source]


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


# ---- JSONL ----------------------------------------------------------------------------------------------------------


def test_lines_keep_every_byte(tmp_path: Path) -> None:
    """Lines are sent as they stand: spaces, escapes, non-ASCII, big numbers; only the line end goes."""
    lines = [b'{"a": 1.50}', b"  [ 1,2 ]\t", '"žluťoučký"'.encode(), b"1" * 5000, b'"\\ud800"', b"null"]
    for content in (b"\n".join(lines), b"\r\n".join(lines) + b"\r\n"):
        messages = opened(written(tmp_path / "rows.jsonl", content))
        assert messages.total == len(lines)
        assert payloads(messages) == lines


def test_loop_begins_again(tmp_path: Path) -> None:
    """With ``loop`` the file begins again at its end, and then there is no total."""
    path = written(tmp_path / "rows.jsonl", b"1\n2\n")
    messages = opened(path, loop=True)
    assert [message.payload for message in islice(messages.source, 5)] == [b"1", b"2", b"1", b"2", b"1"]
    assert messages.total is None
    assert messages.times is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", ": the file is empty"),
        (b"\n", ":1: the line is empty"),
        (b'{"a":1}\n\n{"a":2}\n', ":2: the line is empty"),
        (b'{"a":1}\n{"a":\n', ":2: not JSON: Expecting value at column 6"),
        (b'"\xff"\n', ":1: not UTF-8: byte 0xff at column 2"),
        (b'{"a": NaN}\n', ":1: not JSON: NaN"),
        (b"[" * 200_000 + b"\n", ":1: nested too deeply"),
    ],
)
def test_malformed_lines(tmp_path: Path, content: bytes, said: str) -> None:
    """A file with a bad line is refused as a whole, with file and line."""
    path = written(tmp_path / "rows.jsonl", content)
    with pytest.raises(ConfigError) as caught:
        opened(path)
    assert f"{path}{said}" in str(caught.value)


@pytest.mark.parametrize("name", ["none.jsonl", "none.csv", "none.parquet", "folder"])
def test_unreadable_file(tmp_path: Path, name: str) -> None:
    """A missing file and a directory are refused with their path."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        opened(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_file_that_memory_has_no_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What a replay holds is bounded, whatever the file's form; the message says so."""
    path = tmp_path / name
    if name.endswith("parquet"):
        parquet(path, {"a": [1] * 1000})
    else:
        written(path, "1\n" * 1000)
    monkeypatch.setattr(replay, "MAX_REPLAY_BYTES", 20_000)
    with pytest.raises(ConfigError, match=r"more than 20,000 bytes until here; split the file"):
        opened(path)
    assert opened(path, share=(0, 10)).total == (99 if name.endswith("csv") else 100) + (name.endswith("csv"))


def test_shares_take_records_in_turns(tmp_path: Path) -> None:
    """Of a load that several processes share, each record is sent once, also with its own time."""
    lines = [f'{{"timestamp": {second}}}' for second in range(10, 20)]
    path = written(tmp_path / "rows.jsonl", "\n".join(lines))
    plan = LoadPlan(replay=path, replay_at="recorded")
    shares = [open_messages(plan.with_share(index, 3)) for index in range(3)]
    assert [share.total for share in shares] == [4, 3, 3]
    assert [list(share.times or ()) for share in shares] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    assert sorted(payload.decode() for share in shares for payload in payloads(share)) == lines


# ---- CSV ------------------------------------------------------------------------------------------------------------


def test_csv_rows_become_objects(tmp_path: Path) -> None:
    """Numbers, true and false keep their kind and their digits, nothing is null, and all else is text."""
    content = (
        '\ufeffid,name,price,ok,code,note\r\n1,"Müller, Ann",1.50,true,007,\r\n'
        '-2e3,"two\nlines and ""quotes""",,false,1_0,NaN\r\n'
    )
    first, second = payloads(opened(written(tmp_path / "rows.CSV", content)))
    assert first == '{"id":1,"name":"Müller, Ann","price":1.50,"ok":true,"code":"007","note":null}'.encode()
    assert json.loads(second) == {
        "id": -2000.0,
        "name": 'two\nlines and "quotes"',
        "price": None,
        "ok": False,
        "code": "1_0",
        "note": "NaN",
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ": there is no record in it"),
        ("a,b\n", ": there is no record in it"),
        ("a,\n1,2\n", ":1: a column has no name"),
        ("\n1\n", ":1: a column has no name"),
        ("a,b,a\n1,2,3\n", ":1: two columns are named 'a'"),
        ("a,b\n1,2\n1,2,3\n", ":3: 3 values; the first row has 2 names"),
        ("a,b\n1,2\n\n", ":3: 0 values; the first row has 2 names"),
        ('a,b\n1,"2\n', ":2: not CSV: unexpected end of data"),
        ('a,b\n"x\ny",2\n"1"2,3\n', ":4: not CSV: "),
        (b"a\n1\n\xff\n", ":3: not UTF-8: byte 0xff at column 1"),
        ("a\n" + "x" * 200_000, ":2: not CSV: field larger than field limit"),
    ],
)
def test_malformed_csv(tmp_path: Path, content: str | bytes, said: str) -> None:
    """A bad row is told with the line at which it ends."""
    path = written(tmp_path / "rows.csv", content)
    with pytest.raises(ConfigError) as caught:
        opened(path)
    assert f"{path}{said}" in str(caught.value)


# ---- Parquet --------------------------------------------------------------------------------------------------------


def test_parquet_rows_become_objects(tmp_path: Path) -> None:
    """Every kind of column has a JSON value: times are ISO 8601, decimals text, what JSON has no number for is null."""
    at = datetime(2026, 11, 23, 9, 30, 0, 125_000, tzinfo=UTC)
    path = parquet(
        tmp_path / "rows.parquet",
        {
            "n": [1, 2**62],
            "x": [0.5, float("nan")],
            "s": ["ž", None],
            "b": [b"bytes", b""],
            "at": pa.array([at, None], pa.timestamp("us", "UTC")),
            "day": [date(2026, 11, 23), None],
            "price": [Decimal("1.50"), None],
            "took": pa.array([timedelta(seconds=90), None], pa.duration("us")),
            "list": [[1.0, float("inf")], []],
            "row": [{"a": 1}, {"a": None}],
        },
    )
    messages = opened(path)
    assert messages.total == 2
    assert [json.loads(payload) for payload in payloads(messages)] == [
        {
            "n": 1,
            "x": 0.5,
            "s": "ž",
            "b": "bytes",
            "at": "2026-11-23T09:30:00.125000+00:00",
            "day": "2026-11-23",
            "price": "1.50",
            "took": "0:01:30",
            "list": [1.0, None],
            "row": {"a": 1},
        },
        {
            "n": 2**62,
            "x": None,
            "s": None,
            "b": "",
            "at": None,
            "day": None,
            "price": None,
            "took": None,
            "list": [],
            "row": {"a": None},
        },
    ]


def test_parquet_of_several_batches(tmp_path: Path) -> None:
    """Rows come in their order, also where there are many."""
    path = parquet(tmp_path / "rows.pq", {"n": list(range(5000))})
    assert [json.loads(payload)["n"] for payload in payloads(opened(path))] == list(range(5000))


def test_malformed_parquet(tmp_path: Path) -> None:
    """What is no Parquet file, is cut off, or has bytes that are no text, is told in one line."""
    whole = parquet(tmp_path / "whole.parquet", {"n": list(range(5000)), "s": ["x" * 50] * 5000}).read_bytes()
    content = bytearray(whole)
    content[100:2000] = b"\0" * 1900
    for bad, said in (
        (b"", "not Parquet"),
        (b'{"a": 1}\n', "not Parquet"),
        (whole[:-100], "not Parquet"),
        (bytes(content), "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            opened(written(tmp_path / "bad.parquet", bad))
        assert "bad.parquet" in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="row 2: cannot be written as JSON: 'utf-8' codec can't decode byte 0xff"):
        opened(parquet(tmp_path / "bytes.parquet", {"b": [b"a", b"\xff"]}))
    with pytest.raises(ConfigError, match="there is no record in it"):
        opened(parquet(tmp_path / "empty.parquet", {"b": []}))


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyarrow is not installed the message says how to get it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'ackscope\[replay\]'"):
        opened(tmp_path / "rows.parquet")


# ---- recorded times -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "times",
    [
        [1_700_000_000, 1_700_000_000.5, 1_700_000_002],
        ["1700000000", "1700000000.5", "1700000002"],
        [1_700_000_000_000, 1_700_000_000_500, 1_700_000_002_000],
        [1_700_000_000_000_000, 1_700_000_000_500_000, 1_700_000_002_000_000],
        [1_700_000_000_000_000_000, 1_700_000_000_500_000_000, 1_700_000_002_000_000_000],
        [0, 0.5, 2],
        ["2023-11-14T22:13:20Z", "2023-11-14T22:13:20.5Z", "2023-11-15T00:13:22+02:00"],
        ["2023-11-14 22:13:20", "2023-11-14 22:13:20.500", "20231114T221322"],
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_recorded_times(tmp_path: Path, form: str, times: Sequence[Any]) -> None:
    """Times are ISO 8601 or numbers since the epoch in any usual unit; the first record is the begin."""
    path = tmp_path / f"rows.{form}"
    if form == "parquet":
        parquet(path, {"t": times})
    elif form == "csv":
        written(path, "t,a\n" + "".join(f"{time},1\n" for time in times))
    else:
        written(path, "".join(json.dumps({"t": time}) + "\n" for time in times))
    messages = opened(path, replay_at="recorded", replay_time="t")
    assert messages.total == 3
    assert list(messages.times or ()) == pytest.approx([0, 0.5, 2], abs=1e-6)
    assert len(payloads(messages)) == 3


def test_parquet_timestamps_are_times(tmp_path: Path) -> None:
    """A column of timestamps or dates needs no text."""
    at = datetime(2026, 11, 23)
    path = parquet(tmp_path / "rows.parquet", {"timestamp": [at, at + timedelta(hours=1)], "day": [at.date()] * 2})
    assert list(opened(path, replay_at="recorded").times or ()) == [0, 3600]
    assert list(opened(path, replay_at="recorded", replay_time="day").times or ()) == [0, 0]


def test_faster_and_in_a_loop(tmp_path: Path) -> None:
    """The speed divides all times; a loop begins again one usual gap after the last record."""
    path = written(tmp_path / "rows.jsonl", "".join(f'{{"timestamp": {t}}}\n' for t in (5, 6, 7)))
    messages = opened(path, replay_at="recorded", replay_speed=2, loop=True)
    assert list(islice(messages.times or (), 7)) == [0, 0.5, 1, 1.5, 2, 2.5, 3]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["1"], ":1: no timestamp; a replay at recorded times needs it in each record"),
        (['{"timestamp": 1}', '{"a": 1}'], ":2: no timestamp"),
        (['{"timestamp": "today"}'], ":1: timestamp is 'today'; use a number since the epoch, or ISO 8601"),
        (['{"timestamp": "nan"}'], ":1: timestamp is 'nan'"),
        (['{"timestamp": 1e999}'], ":1: timestamp is '1e999'"),
        (['{"timestamp": true}'], ":1: timestamp is 'True'"),
        (['{"timestamp": []}'], ":1: timestamp is '[]'"),
        (['{"timestamp": 5}', '{"timestamp": 4}'], ":2: timestamp goes back by 1 s; sort the file by it"),
    ],
)
def test_times_that_cannot_be(tmp_path: Path, lines: list[str], said: str) -> None:
    """Without a time, or with times that fall, there is no such replay: the line is told."""
    path = written(tmp_path / "rows.jsonl", "\n".join(lines))
    with pytest.raises(ConfigError) as caught:
        opened(path, replay_at="recorded")
    assert f"{path}{said}" in str(caught.value)


def test_time_column_that_is_not_there(tmp_path: Path) -> None:
    """A misspelt column is told with those that there are."""
    for path in (written(tmp_path / "r.csv", "a,b\n1,2\n"), parquet(tmp_path / "r.parquet", {"a": [1], "b": [2]})):
        with pytest.raises(ConfigError, match="no column 'timestamp'; there are a, b"):
            opened(path, replay_at="recorded")


def test_loop_of_one_moment(tmp_path: Path) -> None:
    """Records of one moment, repeated at their own times, would never end: refused."""
    path = written(tmp_path / "rows.jsonl", '{"timestamp": 1}\n{"timestamp": 1}\n')
    with pytest.raises(ConfigError, match="in a loop they would have no pace"):
        opened(path, replay_at="recorded", loop=True)


def test_flights_at_their_own_times(flights: Path) -> None:
    """The shipped records, an hour in a second: all of them, over the hours that they span."""
    messages = opened(flights, replay_at="recorded", replay_time="time_hour", replay_speed=3600)
    times = list(messages.times or ())
    assert messages.total == len(times) == 4000
    assert (times[0], times[-1]) == (0, 105)
