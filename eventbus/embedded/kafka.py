"""EmbeddedKafka: librdkafka's mock of a Kafka cluster, for this program alone, from the wheel ``confluent-kafka``.

It speaks Kafka's protocol on 127.0.0.1, needs no Java, and is a mock. What it does not do, by librdkafka 2.16's
rdkafka_mock.c and rdkafka_mock_handlers.c ("ran": seen with aiokafka 0.14):

- **Exactly once**: sequence numbers are checked for transactional producers only. A batch that an idempotent producer
  sends again, because the answer was lost, is stored twice (ran). No fencing of idempotent producers either.
- **Durability**: everything is in the memory of one process. Each partition keeps its newest 5 MiB of batches as sent
  (compressed), at most 100,000 batches and at least one, and drops older ones: offsets go on, the earliest one moves.
- **Replication**: one log a partition; replicas and ISR are only named in metadata. ``acks`` and min.insync.replicas
  mean nothing. It answers even a request with acks=0, whereupon aiokafka gives up the connection (ran).
- **Sizes**: no message.max.bytes; 50 MB went through (ran). Above 100 MB (receive.message.max.bytes) it disconnects.
- **Content**: no checksum, no decompression; a batch is believed what its header says of the number of records.
  Timestamps: every answer says "LogAppendTime 1234"; what is read back has the producer's own.
- **Access**: no SASL, no TLS, no ACLs; topic names are not checked.
- **Administration**: no CreateTopics, no configs. A metadata request makes a missing topic, where it allows that (as
  aiokafka's do), with 4 partitions and min(3, brokers) replicas. It names a controller, 0, that does not exist.
- **Failover**: nothing moves by itself; a partition keeps its leader when that broker is down.
- An injected error is answered *instead of* storing, also where a real broker may have stored (7, 20, -1).
- A partition without leader makes it crash when a newer client produces to it (Produce v10: confluent-kafka; not
  aiokafka, which speaks v8).
"""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib.metadata
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from eventbus.embedded.link import Link
from eventbus.errors import ConfigError, ConnectFailed

PRODUCE, FETCH, METADATA, INIT_PRODUCER_ID = 0, 1, 3, 22
"""Kafka's numbers of the requests that a publisher or reader makes (its protocol's ApiKey)."""
DISCONNECT = -195
"""As an error code: the connection is closed instead of an answer. librdkafka's own ``ERR__TRANSPORT``."""
ALL_BROKERS = -1
COMMAND_TIMEOUT_S = 8.0
"""Longest wait for a command, above the keeper's own 3 s; also what is allowed on top of ``start_timeout_s``."""
_T = TypeVar("_T")


def find_librdkafka() -> str:
    """The shared library inside the installed ``confluent-kafka``, else the system's librdkafka.

    Raises ConfigError, with what to do, if there is none.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        distribution = importlib.metadata.distribution("confluent-kafka")
        for file in distribution.files or []:
            if file.name.startswith("librdkafka") and (".so" in file.name or file.name.endswith(".dylib")):
                return str(Path(str(distribution.locate_file(file))).resolve())
    if system := ctypes.util.find_library("rdkafka"):
        return system
    raise ConfigError(
        'no librdkafka found for an embedded Kafka mock; install it with `pip install "ackscope[kafka]"`, or connect '
        "to a running Kafka with a kafka:// URL"
    )


class EmbeddedKafka:
    """A mock Kafka cluster on free ports of 127.0.0.1, in a process of its own, that ends together with this program.

    brokers: how many, 1 to 16; default 1. Their ids begin at 1.
    start_timeout_s: how long a start may take, in seconds; default 10.

    All calls block, each within a bound, and may be made from any thread (``asyncio.to_thread`` in async code); calls
    from several threads take turns. A forked child gets no share of it: there the object counts as stopped.
    A wrong argument is a ConfigError, a mock that is killed, paused or gone a ConnectFailed.
    On Windows ``start`` raises ConfigError.
    """

    def __init__(self, brokers: int = 1, *, start_timeout_s: float = 10.0) -> None:
        if not 1 <= brokers <= 16:
            raise ConfigError(f"brokers is {brokers}; use 1 to 16")
        if not start_timeout_s > 0:
            raise ConfigError(f"start_timeout_s is {start_timeout_s}; use more than 0 seconds")
        self._brokers = brokers
        self._start_timeout_s = start_timeout_s
        self._owner, self._lock = os.getpid(), threading.RLock()
        self._link: Link | None = None
        self._ports: tuple[int, ...] = ()
        self._pid: int | None = None

    @property
    def url(self) -> str:
        """``kafka://127.0.0.1:PORT``, several brokers by comma; also while killed. ConnectFailed if never started."""
        return f"kafka://{self.bootstrap_servers}"

    @property
    def bootstrap_servers(self) -> str:
        """``127.0.0.1:PORT,...``, as Kafka clients take it. Raises ConnectFailed if not started."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    @property
    def ports(self) -> tuple[int, ...]:
        """The brokers' ports in the order of their ids, the same until ``stop``. ConnectFailed if not started."""
        with self._turn:
            return self._started(self._ports or None)

    @property
    def pid(self) -> int:
        """Process id of the mock, as last heard of. Raises ConnectFailed if not started, or killed."""
        with self._turn:
            return self._started(self._pid)

    @property
    def keeper_pid(self) -> int:
        """Process id of the keeper. Raises ConnectFailed if not started."""
        with self._turn:
            return self._started(self._link).pid

    def start(self) -> None:
        """Start the mock and wait until it accepts connections; after ``kill``, on the same ports.

        Records, offsets and topics that clients made are then lost; those of ``create_topic`` are there again, empty.
        Does nothing if it runs. After ``stop`` it starts afresh, on other ports. Raises ConfigError (no library,
        Windows) or ConnectFailed (it ended or was not ready in time), with its output; then nothing is left behind.
        """
        with self._turn:
            fresh = self._link is None
            try:
                if fresh:
                    self._link = self._open()
                self._command("start", timeout_s=self._start_timeout_s + COMMAND_TIMEOUT_S)
            except BaseException:
                if fresh:
                    self.stop()
                raise

    def stop(self) -> None:
        """End mock and keeper. Idempotent; at most about 10 s, usually some milliseconds."""
        with self._turn:
            link, self._link = self._link, None
            self._ports, self._pid = (), None
            if link is not None:
                link.close()

    def kill(self) -> None:
        """SIGKILL the mock and wait until it is gone. What it stored is lost; the ports stay for ``start``."""
        self._command("kill")

    def restart(self) -> None:
        """SIGKILL the mock if it runs and start it again, without its records. Raises like ``start``."""
        with self._turn:
            self.kill()
            self.start()

    def pause(self) -> None:
        """SIGSTOP the mock and wait until it stands still. Raises ConnectFailed if it does not run."""
        self._command("pause")

    def resume(self) -> None:
        """SIGCONT the mock. Raises ConnectFailed if it does not run."""
        self._command("resume")

    def is_running(self) -> bool:
        """Whether the mock's process lives now; a paused one does. Asks the keeper."""
        with self._turn:
            if self._link is None:
                return False
            try:
                self._command("status")
            except ConnectFailed:  # the keeper is dead, and its death ends the mock
                self._pid = None
            return self._pid is not None

    def create_topic(self, name: str, partitions: int = 1, replication: int = 1) -> None:
        """Make a topic. More replicas than brokers become as many. Raises ConfigError if there is one of that name."""
        if not name or partitions < 1 or replication < 1:
            raise ConfigError(
                f"topic {name!r}, {partitions} partitions, {replication} replicas: use at least 1 of each"
            )
        self._command("create_topic", name, partitions, replication)

    def push_request_errors(
        self, api_key: int, codes: Sequence[int], *, round_trip_s: float = 0.0, broker: int = ALL_BROKERS
    ) -> None:
        """Answer the next requests of that kind with these error codes, one each, without carrying them out.

        api_key: ``PRODUCE`` and so on. A code of 0 answers well, ``DISCONNECT`` closes the connection.
        round_trip_s: the answers come that much later; a request with code 0 is carried out at once all the same, so
            0 with a delay, and ``broker_down`` before its end, is "stored, but the answer was lost".
        broker: for this broker's requests only; default: whichever is asked. Where there are several, a round trip
            needs one. ``clear_request_errors`` does not clear a broker's own list: librdkafka has no call for it.
        """
        if round_trip_s and self._brokers == 1:
            broker = 1
        if broker != ALL_BROKERS:
            self._command("push_broker_errors", broker, api_key, list(codes), round(round_trip_s * 1000))
        elif round_trip_s:
            raise ConfigError("round_trip_s needs broker=ID: each broker has a list of its own for that")
        else:
            self._command("push_request_errors", api_key, list(codes))

    def push_partition_errors(
        self, topic: str, partition: int, codes: Sequence[int], *, api_key: int = PRODUCE
    ) -> None:
        """As ``push_request_errors``, for one partition: others in the same request are unharmed. librdkafka 2.15."""
        self._command("push_partition_errors", topic, partition, api_key, list(codes))

    def clear_request_errors(self, api_key: int) -> None:
        """Forget what ``push_request_errors`` left for requests of that kind, except with broker or round trip."""
        self._command("clear_request_errors", api_key)

    def broker_down(self, broker: int = ALL_BROKERS) -> None:
        """Close the broker's connections and refuse new ones. Partitions keep their leader; metadata omits it."""
        self._command("broker_down", broker)

    def broker_up(self, broker: int = ALL_BROKERS) -> None:
        """Let the broker accept connections again, on the same port."""
        self._command("broker_up", broker)

    def set_round_trip(self, broker: int, seconds: float) -> None:
        """Delay every answer of the broker (or ``ALL_BROKERS``) by that; 0 for none. In whole milliseconds."""
        self._command("set_round_trip", broker, round(seconds * 1000))

    def partition_set_leader(self, topic: str, partition: int, broker: int) -> None:
        """Move the leadership; -1 for no leader. A topic that is not there is made."""
        self._command("partition_set_leader", topic, partition, broker)

    def topic_set_error(self, topic: str, code: int) -> None:
        """Give the topic that error in metadata; 0 for none. A topic that is not there is made."""
        self._command("topic_set_error", topic, code)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _open(self) -> Link:
        """Start the keeper and give it its settings."""
        if sys.platform == "win32":
            raise ConfigError("an embedded Kafka mock needs Linux or macOS; give the kafka:// URL of a running Kafka")
        folder = Path(__file__).parent
        settings = {
            "parent_pid": os.getpid(),
            "library": find_librdkafka(),
            "mock": str(folder / "mock_kafka.py"),
            "brokers": self._brokers,
            "start_timeout_s": self._start_timeout_s,
        }
        return Link(folder / "keeper.py", settings, "the keeper of the embedded Kafka mock")

    def _command(self, command: str, *arguments: Any, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        with self._turn:
            answer = self._started(self._link).ask(command, arguments, timeout_s)
            self._pid, self._ports = answer["pid"], tuple(answer["ports"])
        if answer["error"]:
            text = "\n  ".join([f"embedded Kafka mock, {command}: {answer['error']}", *answer["log"]])
            if answer["refused"]:
                raise ConfigError(f"{text} (arguments: {', '.join(map(repr, arguments))})")
            raise ConnectFailed(text)

    @property
    def _turn(self) -> contextlib.AbstractContextManager[bool]:
        """The lock. In a forked child it is a new one, and what the parent owns is forgotten."""
        if self._owner != os.getpid():
            self._owner, self._lock = os.getpid(), threading.RLock()  # another thread may have held the old one
            self._link, self._pid, self._ports = None, None, ()
        return self._lock

    def _started(self, value: _T | None) -> _T:
        if value is None:
            raise ConnectFailed("the embedded Kafka mock is not running; call start")
        return value
