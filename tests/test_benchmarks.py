"""The benchmark measures what it says: acks are counted rightly, nothing is lost unseen, ratios compare like with like.

No test looks at a timing.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import natsio_client, plot
from benchmarks.__main__ import main
from benchmarks.arena import Entry
from benchmarks.bare_socket import AckCounter
from benchmarks.catalog import BY_NAME, NATS
from benchmarks.measurement import WARM_UP
from benchmarks.producer import MessageIds, ticks
from benchmarks.result import Record, rows_of, wrong

ACK = b'MSG _INBOX.MSGMS.%d 1 32\r\n{"stream":"BENCHMARK","seq":%d}\r\n'


class WrittenDown(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data


def one_round(messages: int = 1000, elapsed_s: float = 1.0, **changes: Any) -> dict[str, Any]:
    return {
        "published": messages,
        "stored": messages,
        "throughput": {"messages": messages, "acked": messages, "elapsed_s": elapsed_s, "cpu_s": 0.01},
        "paced": None,
        "pending": None,
    } | changes


# ---- the whole of it, for real ----------------------------------------------------------------------------------


@pytest.mark.integration
def test_quick_run_of_two_contestants(root: Path, tmp_path: Path) -> None:
    """One command races contestants against a real server: table, JSON and picture, and all counts agree."""
    json_path, plot_path, markdown_path = tmp_path / "out.json", tmp_path / "out.svg", tmp_path / "out.md"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "nats", "--quick", "--messages", "1000", "--only", "unified,floor"),
            *("--json", json_path, "--plot", plot_path, "--markdown", markdown_path),
        ],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "AckScope unified" in done.stdout
    assert plot_path.exists() == (plot.missing() is None)
    assert markdown_path.read_text(encoding="utf-8").count("\n") == 4
    found = json.loads(json_path.read_text(encoding="utf-8"))
    assert {"cpu", "cores", "load", "system", "python", "nats-server", "ackscope", "nats-py"} <= set(found["machine"])
    settings = found["settings"]
    assert (settings["messages"], settings["rounds"], settings["payload_bytes"]) == (1000, 1, 128)
    floor, unified = found["contestants"]
    assert (floor["name"], unified["name"]) == ("floor", "unified")  # in the order of the table, not of --only
    for row in (floor, unified):
        (only,) = row["rounds"]
        assert row["failure"] is None
        assert row["published"] == row["stored"] == WARM_UP + settings["messages"] + settings["paced"]
        assert (row["lost"], row["unacked"]) == (0, 0)
        assert only["throughput"]["acked"] == only["throughput"]["messages"] == settings["messages"]
        assert only["paced"]["acked"] == only["paced"]["messages"] == settings["paced"]
        for figure in ("messages_per_s", "cpu_us_per_message", "paced_rate", "p50_ms", "p99_ms"):
            assert row[figure]["median"] > 0
    assert floor["to_floor"] == {"rate": 1, "cpu": 1, "p50": 1, "p99": 1}
    assert unified["to_publish_async"] is None  # it did not run
    assert floor["bytes_per_pending"] is None
    assert unified["bytes_per_pending"]["median"] > 0
    assert unified["rounds"][0]["pending"]["messages"] == settings["pending"]


def test_unknown_contestant_is_refused_with_those_there_are() -> None:
    """A mistyped name runs nothing and lists the names to choose from."""
    done = CliRunner().invoke(main, ["nats", "--only", "floor,unifed"])
    assert done.exit_code == 2
    assert "unifed" in done.output
    assert all(contestant.name in done.output for contestant in NATS)


def test_contestant_that_cannot_take_part_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not installed is skipped with the reason; where nobody is left, that is an error."""
    monkeypatch.setattr(natsio_client, "missing", lambda: "natsio is not here: get it")
    done = CliRunner().invoke(main, ["nats", "--only", "natsio-publish-async"])
    assert done.exit_code == 2
    assert "nobody is left to run: natsio-publish-async: natsio is not here: get it" in done.output


# ---- the floor --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 61, 64, 1000])
async def test_acks_split_over_reads_are_counted_once(size: int) -> None:
    """However a stream of acks is cut into reads, each counts once; a PING in between is answered, and is none."""
    stream = b"".join(ACK % (n, n) for n in range(1, 30)) + b"PING\r\n" + b"".join(ACK % (n, n) for n in range(30, 51))
    counter, transport = AckCounter(window=100), WrittenDown()
    counter.connection_made(transport)
    done = counter.send([b"frame"] * 50)
    for start in range(0, len(stream), size):
        counter.data_received(stream[start : start + size])
    assert counter.counted == 50
    assert done.done()
    assert transport.written.startswith(b"frame" * 50)
    assert transport.written.count(b"PONG\r\n") == 1


async def test_floor_keeps_its_window() -> None:
    """Never more than the window is unanswered, and everything is sent once in the end."""
    counter, transport = AckCounter(window=10), WrittenDown()
    counter.connection_made(transport)
    done = counter.send([b"%03d" % n for n in range(35)])
    acked = 0
    while not done.done():
        out = len(transport.written) // 3
        assert 0 < out - acked <= 10
        counter.data_received(ACK % (acked, acked + 1))
        acked += 1
    assert transport.written == b"".join(b"%03d" % n for n in range(35))
    assert acked == 35


async def test_floor_waits_while_the_socket_takes_no_more() -> None:
    """A full socket buffer stops the writing, and it goes on where it stopped."""
    counter, transport = AckCounter(window=10), WrittenDown()
    counter.connection_made(transport)
    counter.pause_writing()
    done = counter.send([b"a", b"b", b"c"])
    assert transport.written == b""
    counter.resume_writing()
    assert transport.written == b"abc"
    counter.data_received(b"".join(ACK % (n, n) for n in (1, 2, 3)))
    assert done.done()


async def test_floor_fails_when_the_server_goes() -> None:
    """A lost connection ends the wait for acks at once."""
    counter = AckCounter(window=10)
    counter.connection_made(WrittenDown())
    done = counter.send([b"a"])
    counter.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await done


# ---- workload and result ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "rate"), [(1, 10.0), (25, 10_000.0), (300, 1e9)])
async def test_paced_messages_add_up(count: int, rate: float) -> None:
    """The ticks hand out exactly the messages asked for, at whatever rate, and none of them is empty."""
    assert await _sizes(count, rate) == count


async def _sizes(count: int, rate: float) -> int:
    sizes = [due async for due in ticks(count, rate)]
    assert all(size > 0 for size in sizes)
    return sum(sizes)


def test_message_ids_are_never_the_same() -> None:
    """Two contestants never give the same id, or the server would take one's message for a copy of the other's."""
    first, second = MessageIds(), MessageIds()
    given = [ids.next() for ids in (first, second) for _ in range(1000)]
    assert len(set(given)) == 2000


def test_figures_are_medians_and_ratios_compare_like_with_like() -> None:
    """Without ids is compared with without ids, one event loop with the same one."""
    records = [
        Record(Entry("floor", "asyncio"), [one_round(elapsed_s=s) for s in (0.1, 0.01, 0.2)]),
        Record(Entry("floor-no-ids", "asyncio"), [one_round(elapsed_s=0.05)]),
        Record(Entry("unified", "asyncio"), [one_round(elapsed_s=0.2)]),
        Record(Entry("unified-no-ids", "asyncio"), [one_round(elapsed_s=0.2)]),
        Record(Entry("unified", "uvloop"), [one_round(elapsed_s=0.2)]),
    ]
    floor, _, unified, without_ids, on_uvloop = rows_of(records)
    assert floor["messages_per_s"] == {"median": 10_000, "min": 5_000, "max": 100_000}
    assert unified["to_floor"]["rate"] == pytest.approx(0.5)
    assert without_ids["to_floor"]["rate"] == pytest.approx(0.25)
    assert on_uvloop["to_floor"] is None
    assert unified["p50_ms"] is None
    assert "p50" not in unified["to_floor"]


def test_loss_and_failure_make_a_run_wrong() -> None:
    """An acknowledged contestant that lost messages or acks, or failed, is told; one that ignores acks may lose."""
    lost = one_round(stored=998)
    unacked = one_round(throughput={"messages": 1000, "acked": 999, "elapsed_s": 1.0, "cpu_s": 1.0})
    rows = rows_of(
        [
            Record(Entry("floor", "asyncio"), [one_round()]),
            Record(Entry("unified", "asyncio"), [one_round(), lost]),
            Record(Entry("gather", "asyncio"), [unacked]),
            Record(Entry("publish", "asyncio"), [], failure="nats: no servers"),
            Record(Entry("ignore", "asyncio"), [lost]),
        ]
    )
    assert wrong(rows) == [
        "unified (asyncio): 0 without ack, 2 of 2000 not stored",
        "gather (asyncio): 1 without ack, 0 of 1000 not stored",
        "publish (asyncio): nats: no servers",
    ]
    assert rows[-1]["lost"] == 2


def test_every_contestant_has_somebody_to_be_compared_with() -> None:
    """Floor and publish_async are there with and without ids, and names are unique."""
    assert len(BY_NAME) == len(NATS)
    assert all(BY_NAME[contestant.reference].message_ids is contestant.message_ids for contestant in NATS)
    assert all(BY_NAME[contestant.rival].message_ids is contestant.message_ids for contestant in NATS)
