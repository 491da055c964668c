"""What the Kafka tests stand on: nodes that start, break and come back as told, and never outlive the tests."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from tests import kafka_artifacts
from tests.kafka_artifacts import ResolveFailed
from tests.kafka_cluster import IDS, NAMES, running_cluster, skip_without_kafka
from tests.kafka_node import KafkaNode, StartFailed
from tests.kafka_process import KafkaProcess
from tests.kafka_security import KafkaSecurity
from tests.kafka_tools import (
    StoredRecord,
    copies,
    create_topic,
    delete_topic,
    new_topic,
    partition_states,
    read_back,
    until_in_sync,
)

GONE_S = 5.0
"""Longest time for a process to go once nobody wants it."""


def alive(pid: int) -> bool:
    """Whether the process exists; one that only waits to be reaped does not count."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until_gone(*pids: int) -> None:
    deadline = time.monotonic() + GONE_S
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < deadline, f"still alive after {GONE_S} s: {left}"
        time.sleep(0.01)


async def produce(bootstrap: str, topic: str, value: bytes, **options: object) -> None:
    """Send one message with a bare client, under the client's own deadlines."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", **options)
    try:
        await producer.start()
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


@pytest.mark.integration
async def test_message_is_read_back(kafka: str) -> None:
    """A message comes back with its key, its headers and its offset, from every partition."""
    topic = new_topic()
    await create_topic(kafka, topic, partitions=2)
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    try:
        await producer.start()
        for number in range(3):
            await producer.send_and_wait(
                topic, b"value %d" % number, key=b"key", partition=number % 2, headers=[("id", b"%d" % number)]
            )
    finally:
        await producer.stop()
    stored = await read_back(kafka, topic)
    assert [(record.partition, record.offset, record.value) for record in stored] == [
        (0, 0, b"value 0"),
        (0, 1, b"value 2"),
        (1, 0, b"value 1"),
    ]
    assert {record.key for record in stored} == {b"key"}
    assert copies(stored, lambda record: record.header("id")) == {b"0": 1, b"1": 1, b"2": 1}
    assert copies(stored, lambda record: record.header("other")) == {}
    await delete_topic(kafka, topic)


@pytest.mark.integration
async def test_empty_topic_reads_back_empty(kafka: str) -> None:
    """Reading ends where the topic ends, also at once."""
    topic = new_topic()
    await create_topic(kafka, topic)
    assert await read_back(kafka, topic) == []
    await delete_topic(kafka, topic)


@pytest.fixture
def secure_node(tmp_path: Path) -> Iterator[tuple[KafkaNode, KafkaSecurity]]:
    skip_without_kafka()
    security = KafkaSecurity.make(tmp_path / "certificates")
    with KafkaNode(tmp_path / "node", security=security) as node:
        yield node, security


@pytest.mark.integration
async def test_node_asks_for_users_and_certificates(secure_node: tuple[KafkaNode, KafkaSecurity]) -> None:
    """Every mechanism on every listener takes who it should; a wrong password or certificate is refused."""
    node, security = secure_node
    topic = new_topic()
    await create_topic(node.bootstrap, topic)
    trusting = ssl.create_default_context(cafile=security.ca)
    known = ssl.create_default_context(cafile=security.ca)
    known.load_cert_chain(security.client)
    wary = ssl.create_default_context(cafile=security.other_ca)

    async def send(listener: str, mechanism: str, password: str, context: ssl.SSLContext | None = None) -> None:
        await produce(
            node.address(listener),
            topic,
            f"{listener} {mechanism}".encode(),
            security_protocol=listener,
            sasl_mechanism=mechanism,
            sasl_plain_username="alice",
            sasl_plain_password=password,
            ssl_context=context,
        )

    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        await send("SASL_PLAINTEXT", mechanism, "alice-secret")
        await send("SASL_SSL", mechanism, "alice-secret", trusting)
        with pytest.raises(KafkaConnectionError):
            await send("SASL_PLAINTEXT", mechanism, "wrong")
    await send("SSL", "PLAIN", "", known)
    with pytest.raises(KafkaConnectionError):
        await send("SSL", "PLAIN", "", trusting)
    with pytest.raises(KafkaConnectionError):
        await send("SASL_SSL", "PLAIN", "alice-secret", wary)
    assert len(await read_back(node.bootstrap, topic)) == 7


@pytest.mark.integration
async def test_cluster_survives_what_a_test_does_to_it(tmp_path: Path) -> None:
    """Killed, frozen and ended in good order, the leader is replaced each time, and what was acked is still there."""
    async with running_cluster(tmp_path) as cluster:
        topic = new_topic()
        await create_topic(cluster.bootstrap, topic, assigned={0: [1, 2, 3]}, config={"min.insync.replicas": "2"})
        assert await cluster.leader_of(topic) == "a"
        await produce(cluster.bootstrap, topic, b"whole")

        await cluster.kill("a")
        leader = await cluster.leader_of(topic, besides="a")
        sound = cluster.bootstrap_of(cluster.sound)
        assert (await partition_states(sound, topic))[0].in_sync == {IDS["b"], IDS["c"]}
        await produce(sound, topic, b"one dead")
        await cluster.restart("a")
        await until_in_sync(cluster.bootstrap, topic)

        await cluster.pause(leader)
        await cluster.leader_of(topic, besides=leader)
        await produce(cluster.bootstrap_of(cluster.sound), topic, b"one frozen")
        await cluster.resume(leader)
        await until_in_sync(cluster.bootstrap, topic)

        leader = await cluster.leader_of(topic)
        await cluster.restart(leader)
        await until_in_sync(cluster.bootstrap, topic)
        stored = await read_back(cluster.bootstrap, topic)
        assert copies(stored, value_of) == {b"whole": 1, b"one dead": 1, b"one frozen": 1}
    for name in NAMES:
        assert (tmp_path / name / "kafka.log").is_file()
        assert not (tmp_path / name / "store").exists()


def value_of(record: StoredRecord) -> bytes | None:
    return record.value


@pytest.mark.integration
def test_refused_setting_is_told_with_the_log(tmp_path: Path) -> None:
    """A node that cannot start says why, and leaves no process and no store."""
    skip_without_kafka()
    node = KafkaNode(tmp_path / "node", settings={"num.io.threads": "0"})
    with pytest.raises(StartFailed, match=r"(?s)num\.io\.threads"):
        node.start()
    assert not node.is_running()
    assert not (tmp_path / "node" / "store").exists()


OUTLIVING = """
import sys
from pathlib import Path
from tests.kafka_process import KafkaProcess

directory = Path(sys.argv[1])
process = KafkaProcess(directory, directory / "store", directory / "log")
process.start(["/bin/sleep", "600"])
print(process.pid, process.supervisor_pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG and pidfd are Linux's")
@pytest.mark.parametrize("victim", ["test run", "supervisor"])
def test_killed_test_run_leaves_nothing_behind(tmp_path: Path, root: Path, victim: str) -> None:
    """SIGKILL of the test run ends the program and removes the store; one of its supervisor ends the program."""
    (tmp_path / "store").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", OUTLIVING, str(tmp_path)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        try:
            program, supervisor = map(int, run.stdout.readline().split())
            os.kill(run.pid if victim == "test run" else supervisor, signal.SIGKILL)
            until_gone(program, supervisor)
        finally:
            run.kill()
    assert (tmp_path / "store").exists() == (victim == "supervisor")


def test_process_is_told_of_as_it_is(tmp_path: Path) -> None:
    """Pid, pause and exit status follow the process; its output is in the log, over several lives."""
    process = KafkaProcess(tmp_path, tmp_path / "store", tmp_path / "log")
    try:
        process.start(["/bin/sh", "-c", "echo first; exit 3"])
        process.wait_for_end(GONE_S)
        assert (process.pid, process.status) == (None, 3)
        process.start(["/bin/sleep", "600"])
        process.signal(signal.SIGSTOP)
        assert process.wait(lambda: process.paused, GONE_S)
        process.signal(signal.SIGCONT)
        assert process.wait(lambda: not process.paused, GONE_S)
        process.signal(signal.SIGKILL)
        process.wait_for_end(GONE_S)
        assert process.status == -signal.SIGKILL
        process.start(["/no/such/program"])
        process.wait_for_end(GONE_S)
        assert process.status == 127
    finally:
        process.close()
    assert (
        tmp_path / "log"
    ).read_text() == "first\ncannot execute /no/such/program: [Errno 2] No such file or directory\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """A machine with nothing but the programs that the test gives it, and an empty cache."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    (tmp_path / "bin").mkdir()

    def install(name: str, script: str) -> None:
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o700)
        kafka_artifacts.missing.cache_clear()

    kafka_artifacts.missing.cache_clear()
    yield install
    kafka_artifacts.missing.cache_clear()


def test_what_is_missing_is_said(machine: Callable[[str, str], None]) -> None:
    """No Java, an old one, no Maven: each is told apart, and what would help is named."""
    assert "no Java: install" in (kafka_artifacts.missing() or "")
    machine("java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
    assert "is Java 11, and Apache Kafka 4 needs 17" in (kafka_artifacts.missing() or "")
    machine("java", "echo 'openjdk version \"17.0.15\" 2025-04-15' >&2")
    assert "no Maven" in (kafka_artifacts.missing() or "")
    machine("mvn", "echo 'Could not resolve dependencies'; exit 1")
    assert kafka_artifacts.missing() is None
    with pytest.raises(ResolveFailed, match=r"(?s)exit status 1.*Could not resolve dependencies"):
        kafka_artifacts.resolve()


def test_maven_is_asked_once_a_machine(machine: Callable[[str, str], None], tmp_path: Path) -> None:
    """Runs at the same time wait for the first, later ones read the cache, until a jar is gone."""
    jar = tmp_path / "kafka.jar"
    jar.touch()
    calls = tmp_path / "calls"
    machine("java", "echo 'openjdk version \"21\"' >&2")
    machine("mvn", f'echo called >>{calls}; for last; do :; done; echo {jar} >"${{last#*=}}"')
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(kafka_artifacts.resolve().class_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [str(jar)] * 4
    assert calls.read_text() == "called\n"
    jar.unlink()
    kafka_artifacts.resolve()
    assert calls.read_text() == "called\n" * 2
