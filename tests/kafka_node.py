"""KafkaNode: one real Apache Kafka on loopback, broker and controller in one process (KRaft), for a test to break.

A program of Java's own would outlive a test run that is killed; kafka_supervisor.py (same folder) prevents that.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kafka_artifacts import resolve
from tests.kafka_process import KafkaProcess
from tests.kafka_security import LISTENERS, KafkaSecurity

START_TIMEOUT_S = 60.0
"""Longest wait for a node. Measured on two cores: 2 to 3 s for one, 5 to 7 s for three at once."""
TERMINATE_TIMEOUT_S = 20.0
"""Longest wait for an orderly end, which hands leadership over first. A single node takes 1 s."""
SIGNAL_TIMEOUT_S = 10.0
READY = "Kafka Server started"
"""What KafkaRaftServer logs once its broker is in the cluster and serves clients."""
CLUSTER_ID = "YWNrc2NvcGUtdGVzdHMwMA"
"""Any 16 bytes in URL-safe Base64. Nodes of two test runs never meet: their voters have other ports."""
POLL_S = 0.02

JAVA_OPTIONS = (
    "-Xms64m",
    "-Xmx384m",
    "-XX:+UseSerialGC",  # fewer threads, less memory; pauses do not matter here
    "-XX:TieredStopAtLevel=1",  # a test is over before the second compiler has paid off
    "-XX:-UsePerfData",  # no files outside the node's directory
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",  # hundreds of lines of defaults
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.utils.AppInfoParser=warn",
)

DEFAULTS: Mapping[str, str] = {
    "auto.create.topics.enable": "false",  # a topic that is not there is a situation to test
    "unclean.leader.election.enable": "false",
    "num.partitions": "1",
    # A leader that is gone or frozen is replaced after this time, 9 s by default; heartbeats come every 2 s then.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # The same for the active controller, 2 s and 1 s by default. Less would depose one that only lacks a core.
    "controller.quorum.fetch.timeout.ms": "2000",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.election.backoff.max.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # Small in memory and on disk.
    "num.network.threads": "2",
    "num.io.threads": "2",
    "log.index.size.max.bytes": "1048576",
    "log.cleaner.dedupe.buffer.size": "4194304",
}
"""Beside what says who the node is; the settings of a node win over them."""


class StartFailed(Exception):
    """The node did not become ready; the text has the end of its log."""


@dataclass(frozen=True, slots=True)
class Place:
    """Who a node is in its cluster: its id, and the controllers' ports by id. Default: alone."""

    node_id: int
    controllers: Mapping[int, int]


class KafkaNode:
    """One Kafka on free ports of 127.0.0.1, which ends together with this process.

    directory: made; holds ``kafka.log``, which is kept, and the store, which ``stop`` removes.
    settings: of server.properties; they win over ``DEFAULTS``.
    security: adds the listeners SASL_PLAINTEXT, SASL_SSL and SSL to the plain one, see there.
    place: who it is among several nodes. Default None: a cluster of its own.

    All calls block, each within a bound: use ``asyncio.to_thread`` in a test. One caller at a time.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        security: KafkaSecurity | None = None,
        place: Place | None = None,
    ) -> None:
        if place is None:
            place = Place(1, {1: free_ports(1)[0]})
        self._place = place
        self._directory = directory
        self._store = directory / "store"
        self._settings = dict(settings or {})
        self._security = security
        listeners = LISTENERS if security else LISTENERS[:1]
        self._ports = dict(zip(listeners, free_ports(len(listeners)), strict=True))
        self._process: KafkaProcess | None = None

    @property
    def log_path(self) -> Path:
        """The node's log over all its lives. Kept."""
        return self._directory / "kafka.log"

    @property
    def pid(self) -> int:
        """Process id of Java. Raises StartFailed if it does not run."""
        if self._process is None or self._process.pid is None:
            raise StartFailed(f"the Kafka in {self._directory} does not run")
        return self._process.pid

    def is_running(self) -> bool:
        """Whether its process lives now; a paused one does."""
        if self._process is None:
            return False
        self._process.look()
        return self._process.pid is not None

    def address(self, listener: str = "PLAINTEXT") -> str:
        """``127.0.0.1:PORT`` of a listener, the same from construction on."""
        return f"127.0.0.1:{self._ports[listener]}"

    @property
    def bootstrap(self) -> str:
        """Where clients without login connect to."""
        return self.address()

    @property
    def url(self) -> str:
        """The same as a URL of this project."""
        return f"kafka://{self.bootstrap}"

    def start(self) -> None:
        """Start it and wait until it serves clients; after ``kill`` or ``terminate`` on the same ports and store.

        Does nothing if it runs. A node with a ``place`` waits for a majority of the others too: start them together.
        Raises StartFailed or kafka_artifacts.ResolveFailed.
        """
        if self.is_running():
            return
        artifacts = resolve()
        java = [str(artifacts.java), *JAVA_OPTIONS, f"-Djava.io.tmpdir={self._store / 'tmp'}"]
        java += ["-cp", artifacts.class_path]
        properties = self._directory / "server.properties"
        fresh = self._process is None
        try:
            process = self._process or self._prepare(java, properties)
            log_start = self.log_path.stat().st_size
            process.start([*java, "kafka.Kafka", str(properties)])
            process.wait(lambda: process.pid is None or READY in self._log_from(log_start), START_TIMEOUT_S, POLL_S)
            if process.pid is None or READY not in self._log_from(log_start):
                raise StartFailed(f"Kafka did not get ready, its process {process}:\n{self._log_tail(log_start)}")
        except BaseException:
            if fresh:
                self.stop()
            raise

    def terminate(self) -> None:
        """End it in good order: it hands leadership over and writes all out. Store and ports stay for ``start``."""
        if self._process is not None and self.is_running():
            self._process.signal(signal.SIGTERM)
            self._process.signal(signal.SIGCONT)  # a stopped process sees SIGTERM only once it runs again
            self._process.wait_for_end(TERMINATE_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL it and wait until it is gone; store and ports stay for ``start``."""
        if self._process is not None and self.is_running():
            self._process.signal(signal.SIGKILL)
            self._process.wait_for_end(SIGNAL_TIMEOUT_S)

    def restart(self) -> None:
        """``terminate`` if it runs, then ``start``."""
        self.terminate()
        self.start()

    def pause(self) -> None:
        """SIGSTOP it and wait until it stands still. Raises StartFailed if it does not run."""
        self._pause(signal.SIGSTOP, True)

    def resume(self) -> None:
        """SIGCONT it. Raises StartFailed if it does not run."""
        self._pause(signal.SIGCONT, False)

    def stop(self) -> None:
        """SIGKILL it and remove the store; the log stays. Idempotent. ``start`` then begins afresh."""
        child, self._process = self._process, None
        if child is not None:
            child.close()
            shutil.rmtree(self._store, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _write_properties(self, path: Path) -> None:
        place, size = self._place, len(self._place.controllers)
        clients = ",".join(f"{name}://127.0.0.1:{port}" for name, port in self._ports.items())
        settings = {
            "process.roles": "broker,controller",
            "node.id": str(place.node_id),
            "controller.quorum.voters": ",".join(f"{id_}@127.0.0.1:{port}" for id_, port in place.controllers.items()),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": f"{clients},CONTROLLER://127.0.0.1:{place.controllers[place.node_id]}",
            "advertised.listeners": clients,
            "listener.security.protocol.map": ",".join(
                ["CONTROLLER:PLAINTEXT", *(f"{name}:{name}" for name in self._ports)]
            ),
            "log.dirs": str(self._store / "data"),
            "default.replication.factor": str(size),
            "offsets.topic.replication.factor": str(size),
            "transaction.state.log.replication.factor": str(size),
            "transaction.state.log.min.isr": str((size + 1) // 2),
            "share.coordinator.state.topic.replication.factor": str(size),
            "share.coordinator.state.topic.min.isr": str((size + 1) // 2),
            **DEFAULTS,
            **(self._security.broker_settings() if self._security else {}),
            **self._settings,
        }
        path.touch(0o600)  # it can hold passwords
        lines = (f"{name}={value}".replace("\\", "\\\\") for name, value in settings.items())
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _prepare(self, java: list[str], properties: Path) -> KafkaProcess:
        """Make the directory, and the store as Kafka wants it; that takes a run of Java of its own, some 0.8 s."""
        (self._store / "tmp").mkdir(parents=True)
        self._write_properties(properties)
        self._process = process = KafkaProcess(self._directory, self._store, self.log_path)
        users = self._security.format_arguments() if self._security else []
        tool = ["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config", str(properties)]
        process.start([*java, *tool, *users])
        process.wait_for_end(START_TIMEOUT_S)
        if process.status:
            raise StartFailed(f"cannot format the store:\n{self._log_tail(0)}")
        return process

    def _pause(self, number: signal.Signals, paused: bool) -> None:
        child = self._process
        if child is None or not self.is_running():
            raise StartFailed(f"the Kafka in {self._directory} does not run")
        child.signal(number)
        if not child.wait(lambda: child.paused is paused, SIGNAL_TIMEOUT_S):
            raise TimeoutError(f"{number.name} had no effect in {SIGNAL_TIMEOUT_S} s")

    def _log_from(self, start: int) -> str:
        with self.log_path.open(encoding="utf-8", errors="replace") as file:
            file.seek(start)
            return file.read()

    def _log_tail(self, start: int) -> str:
        return "\n".join(self._log_from(start).splitlines()[-30:])


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on, never one twice: a Kafka must know its own and the others' before it starts.

    Not the system's choice: its range is also that of clients' sockets, one of which could take the port of a node
    while that is dead. By the system's randomness, because a seeded one would make two test runs choose alike.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(range(20_000, 32_000), 200):
        if port in _handed_out:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            _handed_out.add(port)
            found.append(port)
        if len(found) == number:
            return found
    raise AssertionError("no free ports between 20,000 and 32,000")


_handed_out: set[int] = set()
