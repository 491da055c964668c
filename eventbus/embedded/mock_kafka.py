"""librdkafka's mock cluster as a process of its own: the child program behind ``EmbeddedKafka``.

Run by ``keeper.py`` (same folder) as ``python -I -S mock_kafka.py``; it therefore imports nothing of this package.
Its standard input is one end of a socket pair; at the end of file it ends. First line: the settings ``{"library",
"brokers", "ports", "topics"}``, answered by ``{"id": 0, "ports"}`` once it listens. Each later one is a command
``{"id", "command", "arguments"}``, answered by ``{"id", "error"}``, error being why librdkafka refuses it, or null.
What goes wrong otherwise ends the program, with the reason on its standard error.

Only the shared library is loaded, not the module ``confluent_kafka``. The calls are those of rdkafka_mock.h, which
librdkafka does not count among its stable interfaces: ``_FUNCTIONS`` has all that is used of it.

Ports: the library binds port 0 of 127.0.0.1 and cannot be told another (``rd_kafka_mock_broker_new``). To come back
on the old ports after a kill, its listening sockets are exchanged, by dup2, for ones bound there; these are advertised.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

CHANNEL = 0
"""Descriptor of the socket to the keeper."""
PORT_TAKEN = 3
"""Exit status where an old port is taken, by a client's own socket for instance. Worth another try."""
LISTEN_BACKLOG = 128

_HANDLE, _TEXT, _INT16, _INT32, _SIZE = (
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes.c_int16,
    ctypes.c_int32,
    ctypes.c_size_t,
)
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    # name: (result, arguments before any variable ones), from rdkafka.h and rdkafka_mock.h
    "rd_kafka_conf_new": (_HANDLE, []),
    "rd_kafka_conf_set": (ctypes.c_int, [_HANDLE, _TEXT, _TEXT, _TEXT, _SIZE]),
    "rd_kafka_new": (_HANDLE, [ctypes.c_int, _HANDLE, _TEXT, _SIZE]),
    "rd_kafka_err2str": (_TEXT, [ctypes.c_int]),
    "rd_kafka_mock_cluster_new": (_HANDLE, [_HANDLE, ctypes.c_int]),
    "rd_kafka_mock_cluster_bootstraps": (_TEXT, [_HANDLE]),
    "rd_kafka_mock_topic_create": (ctypes.c_int, [_HANDLE, _TEXT, ctypes.c_int, ctypes.c_int]),
    "rd_kafka_mock_topic_set_error": (None, [_HANDLE, _TEXT, ctypes.c_int]),
    "rd_kafka_mock_partition_set_leader": (ctypes.c_int, [_HANDLE, _TEXT, _INT32, _INT32]),
    "rd_kafka_mock_partition_push_request_errors": (ctypes.c_int, [_HANDLE, _TEXT, _INT32, _INT16, _SIZE]),
    "rd_kafka_mock_push_request_errors_array": (None, [_HANDLE, _INT16, _SIZE, _HANDLE]),
    "rd_kafka_mock_broker_push_request_error_rtts": (ctypes.c_int, [_HANDLE, _INT32, _INT16, _SIZE]),
    "rd_kafka_mock_clear_request_errors": (None, [_HANDLE, _INT16]),
    "rd_kafka_mock_broker_set_down": (ctypes.c_int, [_HANDLE, _INT32]),
    "rd_kafka_mock_broker_set_up": (ctypes.c_int, [_HANDLE, _INT32]),
    "rd_kafka_mock_broker_set_rtt": (ctypes.c_int, [_HANDLE, _INT32, ctypes.c_int]),
    "rd_kafka_mock_broker_set_host_port": (None, [_HANDLE, _INT32, _TEXT, ctypes.c_int]),
}


class Mock:
    """The mock cluster in this process, brokers 1 to ``brokers``. Runs in threads of librdkafka's own.

    ports: where to listen, one a broker; empty for any free ones. Raises OSError if one of them is taken.
    topics: name, partitions and replicas of those to make before any client can ask for them.
    """

    def __init__(self, library: str, brokers: int, ports: list[int], topics: list[tuple[str, int, int]]) -> None:
        self._rdkafka = ctypes.CDLL(library)
        for name, (result, arguments) in _FUNCTIONS.items():
            with contextlib.suppress(AttributeError):  # an older librdkafka: told when it is called
                function = getattr(self._rdkafka, name)
                function.restype, function.argtypes = result, arguments
        reason = ctypes.create_string_buffer(512)
        settings = self._rdkafka.rd_kafka_conf_new()
        # Syslog's "warning": no notice that this client has no servers; it is here only because a mock needs an owner.
        self._rdkafka.rd_kafka_conf_set(settings, b"log_level", b"4", reason, len(reason))
        self._client = self._rdkafka.rd_kafka_new(0, settings, reason, len(reason))  # 0: a producer
        if not self._client:
            raise RuntimeError(f"rd_kafka_new: {reason.value.decode()}")
        self._cluster = self._rdkafka.rd_kafka_mock_cluster_new(self._client, brokers)
        if not self._cluster:
            raise RuntimeError("rd_kafka_mock_cluster_new failed")
        bootstraps = self._rdkafka.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self._bound = [int(server.rpartition(":")[2]) for server in bootstraps.split(",")]
        self.ports = ports or self._bound
        self._reserved: dict[int, int] = {}
        for name, *counts in topics:
            self._call("topic_create", name.encode(), *counts)
        for broker in range(1, brokers + 1):
            self._listen_on_wished_port(broker)
        # The library's thread may wait in poll() for the sockets it bound: any command makes it look again.
        self._call("broker_set_rtt", -1, 0)

    def handle(self, command: str, arguments: list[Any]) -> None:
        """Carry out one command. Raises ValueError if the mock refuses it, or does not know it."""
        function = self._commands().get(command)
        if function is None:
            raise ValueError(f"unknown command {command}")
        try:
            function(*arguments)
        except AttributeError as error:
            raise ValueError(f"this librdkafka lacks it ({error}); update confluent-kafka") from error

    def _commands(self) -> dict[str, Callable[..., None]]:
        return {
            "create_topic": lambda name, *rest: self._call("topic_create", name.encode(), *rest),
            "topic_set_error": lambda name, code: self._call("topic_set_error", name.encode(), code),
            "partition_set_leader": lambda name, *rest: self._call("partition_set_leader", name.encode(), *rest),
            "push_partition_errors": self._push_partition_errors,
            "push_request_errors": self._push_request_errors,
            "push_broker_errors": self._push_broker_errors,
            "clear_request_errors": lambda api_key: self._call("clear_request_errors", api_key),
            "set_round_trip": lambda broker, ms: self._call("broker_set_rtt", broker, ms),
            "broker_down": self._broker_down,
            "broker_up": self._broker_up,
        }

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._rdkafka, f"rd_kafka_mock_{name}")
        code = function(self._cluster, *arguments)
        if code:  # None where the function returns nothing
            raise ValueError(self._rdkafka.rd_kafka_err2str(code).decode())

    def _push_request_errors(self, api_key: int, codes: list[int]) -> None:
        self._call("push_request_errors_array", api_key, len(codes), (ctypes.c_int * len(codes))(*codes))

    def _push_broker_errors(self, broker: int, api_key: int, codes: list[int], round_trip_ms: int) -> None:
        pairs = [ctypes.c_int(number) for code in codes for number in (code, round_trip_ms)]
        self._call("broker_push_request_error_rtts", broker, api_key, len(codes), *pairs)

    def _push_partition_errors(self, topic: str, partition: int, api_key: int, codes: list[int]) -> None:
        values = [ctypes.c_int(code) for code in codes]
        self._call("partition_push_request_errors", topic.encode(), partition, api_key, len(codes), *values)

    def _broker_down(self, broker: int) -> None:
        for one in list(self._reserved) if broker == -1 else [broker]:
            if one in self._reserved:  # the library now binds that port again, and aborts if it cannot
                os.close(self._reserved.pop(one))
        self._call("broker_set_down", broker)

    def _broker_up(self, broker: int) -> None:
        for one in range(1, len(self.ports) + 1) if broker == -1 else [broker]:
            if 1 <= one <= len(self.ports) and one not in self._reserved:
                self._listen_on_wished_port(one)
        self._call("broker_set_up", broker)

    def _listen_on_wished_port(self, broker: int) -> None:
        bound, wished = self._bound[broker - 1], self.ports[broker - 1]
        if bound == wished:
            return
        descriptor = _socket_bound_to(bound)
        with socket.socket() as ours:
            ours.setblocking(False)  # or an event of the old socket would let accept() on the new one wait
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            ours.bind(("127.0.0.1", wished))
            ours.listen(LISTEN_BACKLOG)
            self._reserved[broker] = os.dup(descriptor)
            os.dup2(ours.fileno(), descriptor)
        self._call("broker_set_host_port", broker, b"127.0.0.1", wished)


def _socket_bound_to(port: int) -> int:
    """The descriptor of this process' socket that waits for connections on that port of 127.0.0.1."""
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # no socket, or the descriptor of this very listing
            found = socket.socket(fileno=int(name))
            try:
                if found.getsockname() == ("127.0.0.1", port) and not _connected(found):
                    return int(name)
            finally:
                found.detach()
    raise RuntimeError(f"no socket of the mock cluster is bound to port {port}")


def _connected(connection: socket.socket) -> bool:
    try:
        connection.getpeername()
    except OSError:
        return False
    return True


def _tell(answer: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the next read finds out
        data = json.dumps(answer).encode() + b"\n"
        while data:
            data = data[os.write(CHANNEL, data) :]


def main() -> None:
    """Start the cluster, tell its ports, carry out commands until the end of file."""
    lines = os.fdopen(os.dup(CHANNEL), "rb", buffering=0)
    settings = json.loads(lines.readline() or b"null")
    if settings is None:
        return
    try:
        mock = Mock(settings["library"], settings["brokers"], settings["ports"], settings["topics"])
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(PORT_TAKEN if error.errno == errno.EADDRINUSE else 1)
    _tell({"id": 0, "ports": mock.ports})
    for line in lines:
        request = json.loads(line)
        refused: str | None = None
        try:
            mock.handle(request["command"], request["arguments"])
        except ValueError as error:
            refused = str(error)
        _tell({"id": request["id"], "error": refused})
    os._exit(0)  # at once: nothing is kept, and destroying the cluster would wait for its threads


if __name__ == "__main__":
    main()
