"""Network: the way to a server on this machine, through a proxy that can make it bad."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from eventbus.embedded import Link
from eventbus.errors import ConnectFailed
from eventbus.faults.proxy import Disturbance

START_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """connections: open now. passed, lost: bytes since the start, by way ("up" to the server, "down" from it)."""

    connections: int
    passed: Mapping[str, int]
    lost: Mapping[str, int]


class Network:
    """A proxy in a process of its own, on a free port of 127.0.0.1, in front of ``server_port`` there.

    It ends together with this program, however that ends, and all connections with it. All calls block, each within
    some seconds, and may be made from any thread. Raises ConnectFailed where the proxy is gone or not started,
    ValueError for a disturbance that cannot be meant.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._turn = threading.RLock()
        self._link: Link | None = None
        self._port: int | None = None

    @property
    def port(self) -> int:
        """Where clients connect; the same until ``stop``."""
        if self._port is None:
            raise ConnectFailed("the proxy in front of the embedded broker is not running; call start")
        return self._port

    @property
    def pid(self) -> int:
        """Process id of the proxy."""
        return self._opened().pid

    def start(self) -> None:
        """Start it and wait until it accepts connections. Does nothing if it was started."""
        with self._turn:
            if self._link is not None:
                return
            link = Link(
                Path(__file__).with_name("proxy.py"),
                {"server_port": self._server_port},
                "the proxy in front of the embedded broker",
            )
            try:
                self._port = int(link.greeting(START_TIMEOUT_S)["port"])
            except BaseException:
                link.close()
                raise
            self._link = link

    def stop(self) -> None:
        """End it, and all connections. Idempotent; bounded by the link's 10 s, usually some milliseconds."""
        with self._turn:
            link, self._link, self._port = self._link, None, None
            if link is not None:
                link.close()

    def disturb(self, disturbance: Disturbance) -> NetworkStatus:
        """From now on do this to what passes, instead of what was done before."""
        values = asdict(disturbance)
        return self._command("disturb", {**values, "blackhole": sorted(disturbance.blackhole)})

    def reset(self, every_s: float = 0.0) -> NetworkStatus:
        """Reset every connection, now and then each ``every_s`` (0: only now) until ``reset_no_more``."""
        return self._command("reset", {"every_s": every_s})

    def reset_no_more(self) -> NetworkStatus:
        """End the repetition. Idempotent."""
        return self._command("reset_no_more", {})

    def half_close(self, way: str) -> NetworkStatus:
        """End this way ("up" or "down") of every connection for good; the other goes on."""
        return self._command("half_close", {"way": way})

    def status(self) -> NetworkStatus:
        """How it is now."""
        return self._command("status", {})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _opened(self) -> Link:
        if self._link is None or self._link.closed:
            raise ConnectFailed("the proxy in front of the embedded broker is not running; call start")
        return self._link

    def _command(self, command: str, arguments: Mapping[str, Any]) -> NetworkStatus:
        with self._turn:
            answer = self._opened().ask(command, arguments, COMMAND_TIMEOUT_S)
        if answer["error"]:
            raise ValueError(f"{command} {json.dumps(arguments)}: {answer['error']}")
        return NetworkStatus(answer["connections"], answer["passed"], answer["lost"])
