"""The benchmark measures what it says: acks are counted rightly, nothing is lost unseen, ratios compare like with like.

No test looks at a timing.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient as KafkaAdmin

from benchmarks import aiokafka_client, natsio_client, plot
from benchmarks.__main__ import main
from benchmarks.arena import Entry
from benchmarks.bare_socket import AckCounter
from benchmarks.catalog import KINDS, Kind, find_race
from benchmarks.measurement import WARM_UP, can_measure_resident_memory
from benchmarks.nats_race import NATS
from benchmarks.producer import MessageIds, Settings, ticks
from benchmarks.result import Record, rows_of, wrong
from benchmarks.table import as_markdown, as_table, cells

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


@pytest.mark.integration
def test_quick_run_on_kafkas_mock(root: Path, tmp_path: Path) -> None:
    """Kafka's clients against the mock: all that was acked is in the topic, and memory is told where it is measured."""
    names = ["aiokafka-send", "confluent-produce", "unified"]
    found = run_kafka(root, tmp_path, "mock", *names, "ignore")
    assert list(found["skipped"]) == ["ignore"]  # the mock cannot do it, and it is said
    assert {"librdkafka's mock", "aiokafka", "confluent-kafka"} <= set(found["machine"])
    assert [row["name"] for row in found["contestants"]] == names
    for row in found["contestants"]:
        (only,) = row["rounds"]
        assert only["throughput"]["acked"] == only["throughput"]["messages"] == 500
        assert only["paced"]["acked"] == only["paced"]["messages"]
        assert row["published"] == row["stored"] == WARM_UP + 500 + only["paced"]["messages"]
        assert row["to_aiokafka_send"].keys() == row["to_confluent_produce"].keys() == {"rate", "cpu", "p50", "p99"}
        assert (row["bytes_per_pending_frozen"] is not None) is can_measure_resident_memory()


@pytest.mark.integration
def test_quick_run_on_a_given_kafka(root: Path, tmp_path: Path, kafka: str) -> None:
    """A running Kafka is taken by its address, and the topic of the run is gone afterwards."""
    found = run_kafka(root, tmp_path, kafka, "unified", "ignore")
    assert found["skipped"] == {}
    for row in found["contestants"]:
        assert row["failure"] is None
        assert row["bytes_per_pending_frozen"] is None  # nobody's broker is frozen
    assert found["contestants"][0]["published"] == found["contestants"][0]["stored"]
    looking, deadline = KafkaAdmin({"bootstrap.servers": kafka}), time.monotonic() + 10
    while left := [topic for topic in looking.list_topics(timeout=10).topics if topic.startswith("benchmark.")]:
        assert time.monotonic() < deadline, left


def run_kafka(root: Path, tmp_path: Path, server: str, *names: str) -> dict[str, Any]:
    """What a small run has found."""
    json_path, plot_path = tmp_path / "out.json", tmp_path / "out.svg"
    command = ["kafka", "--server", server, "--quick", "--messages", "500", "--partitions", "2"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", *command, "--only", ",".join(names)),
            *("--json", json_path, "--plot", plot_path),
        ],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(json_path.read_text(encoding="utf-8"))
    return found


def test_kafka_server_that_is_no_address_is_refused() -> None:
    """A mistyped --server runs nothing and says what may be given."""
    done = CliRunner().invoke(main, ["kafka", "--server", "reel"])
    assert done.exit_code == 2
    assert "use mock, real or HOST:PORT" in done.output


def test_unknown_contestant_is_refused_with_those_there_are() -> None:
    """A mistyped name runs nothing and lists the names to choose from."""
    done = CliRunner().invoke(main, ["nats", "--only", "floor,unifed"])
    assert done.exit_code == 2
    assert "unifed" in done.output
    assert all(contestant.name in done.output for contestant in NATS.contestants)


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
    floor, _, unified, without_ids, on_uvloop = rows_of(NATS, records)
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
        NATS,
        [
            Record(Entry("floor", "asyncio"), [one_round()]),
            Record(Entry("unified", "asyncio"), [one_round(), lost]),
            Record(Entry("gather", "asyncio"), [unacked]),
            Record(Entry("publish", "asyncio"), [], failure="nats: no servers"),
            Record(Entry("ignore", "asyncio"), [lost]),
        ],
    )
    assert wrong(rows) == [
        "unified (asyncio): 0 without ack, 2 of 2000 not stored",
        "gather (asyncio): 1 without ack, 0 of 1000 not stored",
        "publish (asyncio): nats: no servers",
    ]
    assert rows[-1]["lost"] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_every_contestant_has_somebody_to_be_compared_with(kind: Kind) -> None:
    """Names are unique, and each reference is there, with and without ids where the race has both."""
    race = find_race(kind)
    assert race.kind == kind
    assert len(race.by_name) == len(race.contestants)
    for reference in race.references:
        for contestant in race.contestants:
            other = race.by_name[reference.of(contestant)]
            assert other.message_ids is contestant.message_ids or not race.has_ids


@pytest.mark.parametrize("kind", KINDS)
def test_table_and_headings_have_the_same_columns(kind: Kind) -> None:
    """Each cell stands below its heading, on the terminal and in Markdown, also where nothing was measured."""
    race = find_race(kind)
    rows = rows_of(race, [Record(Entry(race.contestants[0].name, "asyncio"), [one_round()])])
    settings = {"payload_bytes": 128, "window": 10_000, "setup": "somewhere", "rounds": 1, "rate": 10_000.0}
    width = len(as_table(race, rows, settings).columns)
    assert len(cells(race, rows[0], settings)) == width
    assert {line.count(" | ") for line in as_markdown(race, rows, settings).splitlines()} == {width - 1}


async def test_aiokafka_keeps_its_window() -> None:
    """Never more than the window is in flight: the next message waits until one is acked."""
    producer = Unacked()
    sending = asyncio.ensure_future(producer.publish_all(5))
    for acked in range(5):
        for _ in range(10):
            await asyncio.sleep(0)  # it goes on as far as it can
        assert len(producer.futures) == min(5, acked + 2)
        producer.futures[acked].set_result(None)
    assert await sending == 5


class Unacked(aiokafka_client.Send):
    """Sends nowhere; what is sent is acked by hand. Its window is two messages."""

    def __init__(self) -> None:
        super().__init__(Settings("kafka://nowhere:1", window=2, message_ids=False))
        self.futures: list[asyncio.Future[None]] = []
        self._producer = self

    async def send(self, topic: str, value: bytes) -> asyncio.Future[None]:
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]
