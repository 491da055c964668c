"""EmbeddedKafka on librdkafka's mock: it starts fast, breaks as asked, and leaves nothing behind however we end."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidTopicError, TopicAuthorizationFailedError

from eventbus.embedded import kafka as embedded
from eventbus.embedded.kafka import ALL_BROKERS, DISCONNECT, PRODUCE, EmbeddedKafka, find_librdkafka
from eventbus.errors import ConfigError, ConnectFailed

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform == "win32", reason="an embedded Kafka mock needs Linux or macOS"),
]
ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 10.0
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG and pidfd are Linux's")


@pytest.fixture
def mock() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as running:
        yield running


@pytest.fixture
def three() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(3) as running:
        yield running


@contextlib.asynccontextmanager
async def producing(mock: EmbeddedKafka, **settings: Any) -> AsyncIterator[Callable[..., Any]]:
    """A call that sends one message with an idempotent producer and waits for its answer."""
    settings = {"enable_idempotence": True, "acks": "all", "metadata_max_age_ms": 500, **settings}
    producer = AIOKafkaProducer(bootstrap_servers=mock.bootstrap_servers, **settings)

    async def send(topic: str = "t", partition: int = 0, payload: bytes = b"x") -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await producer.send_and_wait(topic, payload, partition=partition)

    async with asyncio.timeout(DEADLINE_S):
        await producer.start()
    try:
        yield send
    finally:
        async with asyncio.timeout(DEADLINE_S):
            await producer.stop()


async def offsets(mock: EmbeddedKafka, topic: str, partition: int = 0) -> tuple[int, int]:
    """Where the partition begins and ends."""
    consumer = AIOKafkaConsumer(bootstrap_servers=mock.bootstrap_servers)
    where = TopicPartition(topic, partition)
    async with asyncio.timeout(DEADLINE_S):
        await consumer.start()
        try:
            begin = await consumer.beginning_offsets([where])
            return begin[where], (await consumer.end_offsets([where]))[where]
        finally:
            await consumer.stop()


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition that another process brings about."""
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s in vain: {what}"
        pause.wait(0.01)


def alive(pid: int) -> bool:
    """Whether the process exists; one that only waits to be reaped does not count."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return sys.platform != "linux"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_start_gives_url_and_stop_leaves_nothing() -> None:
    """One address a broker, on loopback alone; after stop neither a process nor a port is left."""
    with EmbeddedKafka(2) as mock:
        pids, ports = (mock.pid, mock.keeper_pid), mock.ports
        assert mock.url == f"kafka://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}"
        assert mock.is_running()
        assert all(listens(port) for port in ports)
        mock.start()
        assert mock.pid == pids[0]
    assert not any(alive(pid) for pid in pids)
    assert not any(listens(port) for port in ports)
    assert not mock.is_running()
    mock.stop()
    with pytest.raises(ConnectFailed, match="call start"):
        _ = mock.url
    with pytest.raises(ConnectFailed, match="call start"):
        mock.create_topic("t")


@linux_only
def test_listens_on_loopback_only(mock: EmbeddedKafka) -> None:
    """No port of the mock is bound to another address, also not after a restart."""
    for _ in range(2):
        found = Path(f"/proc/{mock.pid}/net/tcp").read_text().splitlines()[1:]
        bound = [line.split()[1] for line in found if line.split()[3] == "0A"]
        assert [address for address in bound if int(address.partition(":")[2], 16) in mock.ports] == [
            f"0100007F:{port:04X}" for port in mock.ports
        ]
        mock.restart()


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_idempotent_batches_on_several_partitions(mock: EmbeddedKafka, compression: str | None) -> None:
    """aiokafka's record batches are acknowledged with consecutive offsets, and come back as they were sent."""
    mock.create_topic("t", 3)
    settings = {"enable_idempotence": True, "acks": "all", "compression_type": compression}
    payloads = [b"%d" % number * 50 for number in range(20)]
    consumer = AIOKafkaConsumer(bootstrap_servers=mock.bootstrap_servers, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=mock.bootstrap_servers, **settings)
    async with asyncio.timeout(DEADLINE_S):
        await producer.start()
        try:
            for expected in (0, len(payloads)):
                answers = []
                for partition in range(3):
                    batch = producer.create_batch()
                    for payload in payloads:
                        assert batch.append(key=b"k", value=payload, timestamp=None, headers=[("h", b"v")])
                    answers.append(await producer.send_batch(batch, "t", partition=partition))
                assert [answer.offset for answer in await asyncio.gather(*answers)] == [expected] * 3
        finally:
            await producer.stop()
        await consumer.start()
        try:
            consumer.assign([TopicPartition("t", 2)])
            read = [await consumer.getone() for _ in range(2 * len(payloads))]
        finally:
            await consumer.stop()
    assert [record.value for record in read] == 2 * payloads
    assert {record.headers for record in read} == {(("h", b"v"),)}


async def test_missing_topic_is_made_by_metadata_request(mock: EmbeddedKafka) -> None:
    """A producer that asks for an unknown topic gets one with four partitions."""
    async with producing(mock) as send:
        assert (await send("new", partition=3)).offset == 0
        with pytest.raises(AssertionError, match="Unrecognized partition"):
            await send("new", partition=4)


async def test_request_errors_are_answered_instead_of_storing(mock: EmbeddedKafka) -> None:
    """Each code answers one request, nothing is stored by it, and what was cleared does not come."""
    mock.create_topic("t")
    mock.push_request_errors(PRODUCE, [17, 17])
    async with producing(mock) as send:
        with pytest.raises(InvalidTopicError):
            await send()
    mock.clear_request_errors(PRODUCE)
    async with producing(mock) as send:
        mock.push_request_errors(PRODUCE, [5, DISCONNECT])  # both are retried by the client
        assert (await send()).offset == 0
    assert await offsets(mock, "t") == (0, 1)


async def test_partition_errors_leave_neighbours_alone(mock: EmbeddedKafka) -> None:
    """An error pushed for a partition meets requests for that one only."""
    mock.create_topic("t", 2)
    mock.push_partition_errors("t", 1, [17])
    async with producing(mock) as send:
        assert (await send(partition=0)).offset == 0
        with pytest.raises(InvalidTopicError):
            await send(partition=1)


async def test_lost_answer_is_stored_twice(mock: EmbeddedKafka) -> None:
    """Stored, then disconnected before the answer: the client's own retry is stored again, which Kafka would not do."""
    mock.create_topic("t")
    async with producing(mock, retry_backoff_ms=50) as send:
        mock.push_request_errors(PRODUCE, [0], round_trip_s=30)
        sending = asyncio.create_task(send())
        async with asyncio.timeout(DEADLINE_S):
            while await offsets(mock, "t") != (0, 1):
                assert not sending.done()
        mock.broker_down()
        mock.broker_up()
        assert (await sending).offset == 1


async def test_round_trip_delays_answers(three: EmbeddedKafka) -> None:
    """A round trip of one broker delays what that broker answers; for a single request it needs a broker too."""
    three.create_topic("t")
    three.partition_set_leader("t", 0, 2)
    async with producing(three) as send:
        three.set_round_trip(2, 0.2)
        began = time.monotonic()
        await send()
        assert time.monotonic() - began >= 0.2
        three.set_round_trip(ALL_BROKERS, 0)
        three.push_request_errors(PRODUCE, [0], round_trip_s=0.2, broker=2)
        began = time.monotonic()
        await send()
        assert time.monotonic() - began >= 0.2
    with pytest.raises(ConfigError, match="broker=ID"):
        three.push_request_errors(PRODUCE, [0], round_trip_s=0.2)


async def test_leader_moves_and_client_follows(three: EmbeddedKafka) -> None:
    """After a change of leader the old one refuses, and the client finds the new one."""
    three.create_topic("t", 1, 3)
    async with producing(three) as send:
        for number, broker in enumerate((1, 2, 3)):
            three.partition_set_leader("t", 0, broker)
            assert (await send()).offset == number


async def test_topic_error_in_metadata(mock: EmbeddedKafka) -> None:
    """A topic's error reaches whoever asks for its metadata, until it is taken back."""
    mock.create_topic("t")
    mock.topic_set_error("t", 29)
    async with producing(mock) as send:
        with pytest.raises(TopicAuthorizationFailedError):
            await send()
        mock.topic_set_error("t", 0)
        assert (await send()).offset == 0


async def test_paused_mock_answers_after_resume(mock: EmbeddedKafka) -> None:
    """While it is paused nothing is answered and commands are refused at once; then it goes on."""
    mock.create_topic("t")
    async with producing(mock) as send:
        await send()
        for _ in range(3):  # an interrupted poll() must not end the library's thread
            mock.pause()
            mock.resume()
        mock.pause()
        sending = asyncio.create_task(send())
        done, _ = await asyncio.wait([sending], timeout=0.2)
        assert not done
        assert mock.is_running()
        with pytest.raises(ConnectFailed, match="paused"):
            mock.create_topic("other")
        mock.resume()
        assert (await sending).offset == 1


async def test_client_finds_restarted_mock_on_its_ports(three: EmbeddedKafka) -> None:
    """Killed and started: same ports, same topics, no records; brokers go down and up there as before."""
    three.create_topic("t", 6, 3)
    ports, pid = three.ports, three.pid
    async with producing(three) as send:
        assert (await send(partition=5)).offset == 0
        three.kill()
        assert not three.is_running()
        with pytest.raises(ConnectFailed, match="it was killed"):
            three.create_topic("other")
        assert not any(listens(port) for port in ports)
        three.start()
        assert three.ports == ports
        assert three.pid != pid
        assert (await send(partition=5)).offset == 0
        for broker in (1, 2, 3, ALL_BROKERS):
            three.broker_down(broker)
            assert [listens(port) for port in ports] == [broker not in (one, ALL_BROKERS) for one in (1, 2, 3)]
            three.broker_up(broker)
            assert all(listens(port) for port in ports)
        three.broker_down(1)
        three.broker_down()
        three.broker_up()
        assert (await send(partition=5)).offset == 1


async def test_old_records_are_dropped(mock: EmbeddedKafka) -> None:
    """A partition keeps its newest 5 MiB: offsets go on and the earliest one moves."""
    mock.create_topic("t")
    async with producing(mock, max_request_size=2**21) as send:
        for _ in range(8):
            await send(payload=bytes(2**20))
    begin, end = await offsets(mock, "t")
    assert end == 8
    assert 3 <= begin <= 4


def test_wrong_arguments_are_config_errors(mock: EmbeddedKafka) -> None:
    """What the mock refuses is told with its reason and the arguments, and harms nothing."""
    mock.create_topic("t")
    with pytest.raises(ConfigError, match=r"already exists.*'t', 1, 1"):
        mock.create_topic("t")
    with pytest.raises(ConfigError, match="at least 1"):
        mock.create_topic("u", partitions=0)
    for broker in (2, -2):
        with pytest.raises(ConfigError, match="Broker not available"):
            mock.broker_down(broker)
        with pytest.raises(ConfigError, match="Broker not available"):
            mock.broker_up(broker)
    with pytest.raises(ConfigError, match="partition"):
        mock.partition_set_leader("t", 7, 1)
    with pytest.raises(ConfigError, match="1 to 16"):
        EmbeddedKafka(0)
    with pytest.raises(ConfigError, match="start_timeout_s"):
        EmbeddedKafka(start_timeout_s=0)
    mock.create_topic("u")


def test_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without confluent-kafka and a librdkafka of the system, start says what to do and leaves nothing behind."""

    def missing(name: str) -> object:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", missing)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    mock = EmbeddedKafka()
    with pytest.raises(ConfigError, match=r'pip install "ackscope\[kafka\]"'):
        mock.start()
    assert not mock.is_running()


def test_library_of_the_wheel_is_found() -> None:
    """It is the file inside the wheel, and importing confluent_kafka is not needed."""
    assert Path(find_librdkafka()).is_file()
    assert "confluent_kafka" in find_librdkafka()


def test_unusable_library_is_told_with_its_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mock that ends by itself while starting is ConnectFailed with what it wrote; nothing is left."""
    broken = tmp_path / "librdkafka.so"
    broken.write_text("no library")
    monkeypatch.setattr(embedded, "find_librdkafka", lambda: str(broken))
    mock = EmbeddedKafka()
    with pytest.raises(ConnectFailed, match=r"exit status 1(.|\n)*librdkafka\.so"):
        mock.start()
    assert not mock.is_running()


def test_mock_that_died_is_told_and_can_be_started(mock: EmbeddedKafka) -> None:
    """An end of its own is told with the status, and start brings it back on its ports."""
    ports = mock.ports
    os.kill(mock.pid, signal.SIGSEGV)
    until(lambda: not mock.is_running(), "its end is noticed")
    with pytest.raises(ConnectFailed, match="ended by itself with exit status -11"):
        mock.create_topic("t")
    mock.start()
    assert mock.ports == ports
    mock.create_topic("t")


@pytest.mark.parametrize("paused", [False, pytest.param(True, marks=linux_only)])
def test_dead_keeper_is_told(mock: EmbeddedKafka, paused: bool) -> None:
    """Without its keeper the mock ends, also a paused one; commands say so, and after stop a start works."""
    pid = mock.pid
    if paused:
        mock.pause()
    os.kill(mock.keeper_pid, signal.SIGKILL)
    until(lambda: not alive(pid), "the mock ends")
    with pytest.raises(ConnectFailed, match="keeper"):
        mock.create_topic("t")
    assert not mock.is_running()
    mock.stop()
    mock.start()
    mock.create_topic("t")


def test_commands_from_several_threads(mock: EmbeddedKafka) -> None:
    """Calls take turns: every one gets its own answer."""
    outcomes: list[bool] = []

    def create(number: int) -> None:
        for name in (f"own-{number}", "shared"):
            try:
                mock.create_topic(name)
                outcomes.append(True)
            except ConfigError:
                outcomes.append(False)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sorted(outcomes) == [False] * 3 + [True] * 5


def test_start_in_a_thread_that_ends(mock: EmbeddedKafka) -> None:
    """The mock outlives the thread that started it (the kernel's death signal follows threads)."""
    other = EmbeddedKafka()
    thread = threading.Thread(target=other.start)
    thread.start()
    thread.join(DEADLINE_S)
    try:
        other.create_topic("t")
        assert other.is_running()
        assert mock.is_running()
    finally:
        other.stop()


@contextlib.contextmanager
def program(body: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
    """Run a script that starts ``mock`` and tells the process ids, then the given lines."""
    script = """
        import json, os, signal, sys
        from eventbus.embedded.kafka import EmbeddedKafka
        mock = EmbeddedKafka()
        mock.start()
        told = json.dumps({"pid": mock.pid, "keeper_pid": mock.keeper_pid, "port": mock.ports[0]})
    """
    source = textwrap.dedent(script) + textwrap.dedent(body)
    process = subprocess.Popen(
        [sys.executable, "-c", source], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            assert select.select([process.stdout], [], [], DEADLINE_S)[0], "the program told nothing"
            yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait(DEADLINE_S)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("paused", [False, True])
def test_nothing_outlives_a_killed_program(number: signal.Signals, paused: bool) -> None:
    """However the program ends, mock and keeper go, also while the mock is paused."""
    body = f"""
        if {paused}:
            mock.pause()
        print(told, flush=True)
        sys.stdin.readline()
    """
    with program(body) as (process, told):
        process.send_signal(number)
        until(lambda: not alive(told["pid"]), "the mock ends")
        until(lambda: not alive(told["keeper_pid"]), "the keeper ends")
        assert not listens(told["port"])


@linux_only
@pytest.mark.parametrize("fork", ["os.fork()", "ctypes.CDLL(None).fork()"])
def test_forked_child_does_not_keep_the_mock_alive(fork: str) -> None:
    """A child that lives on, also one that Python knows nothing of, does not stand in for the program."""
    body = f"""
        import ctypes
        child = {fork}
        if child == 0:
            os.close(1)
            signal.pause()
        print(json.dumps({{**json.loads(told), "child": child}}), flush=True)
        sys.stdin.readline()
    """
    with program(body) as (process, told):
        try:
            process.kill()
            until(lambda: not alive(told["pid"]), "the mock ends")
            until(lambda: not alive(told["keeper_pid"]), "the keeper ends")
            assert alive(told["child"])
        finally:
            os.kill(told["child"], signal.SIGKILL)


@linux_only
def test_forked_child_has_no_share() -> None:
    """In a forked child it counts as stopped and can be started anew; the parent's mock is not touched by that."""
    body = """
        reading, writing = os.pipe()
        if os.fork() == 0:
            theirs = json.loads(told)["pid"]
            fine = not mock.is_running()
            mock.start()
            fine = fine and mock.pid != theirs
            mock.stop()
            os.write(writing, b"fine" if fine else b"not")
            os._exit(0)
        os.close(writing)
        assert os.read(reading, 4) == b"fine"
        os.wait()
        mock.create_topic("t")
        print(told, flush=True)
        sys.stdin.readline()
    """
    with program(body) as (_, told):
        assert alive(told["pid"])
