"""FakeBus: a MetricSource that counts what it is told to; and a collector that never answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence

from eventbus.latency import LatencyHistogram
from eventbus.snapshot import BusSnapshot, ConnectionState
from eventbus.telemetry.source import Outcome

ACKED = Outcome("orders", "acked")
UNKNOWN = Outcome("orders", "unknown", "timeout")


class FakeBus:
    """Durations in nanoseconds, by outcome, as they were added."""

    def __init__(self, port: int = 4222, started_ns: int = 1, address: str = "127.0.0.1") -> None:
        self.attributes: Mapping[str, str | int] = {
            "messaging.system": "nats",
            "server.address": address,
            "server.port": port,
        }
        self.started_ns = started_ns
        self._ns: dict[Outcome, list[int]] = {}

    def add(self, outcome: Outcome, durations_ns: Sequence[int]) -> None:
        self._ns.setdefault(outcome, []).extend(durations_ns)

    def durations(self) -> Mapping[Outcome, LatencyHistogram]:
        return {outcome: LatencyHistogram.of(ns) for outcome, ns in self._ns.items()}

    def snapshot(self) -> BusSnapshot:
        return BusSnapshot("fake", 0.0, 0.0, ConnectionState.CONNECTED)


@contextlib.contextmanager
def hanging_collector() -> Iterator[int]:
    """The port of a socket that accepts connections, and never reads nor answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(server.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
            thread.join(5)
            for connection in accepted:
                connection.close()


def free_port() -> int:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
