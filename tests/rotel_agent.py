"""rotel: a real OTLP collector from a wheel, on loopback, for the length of a ``with``. It prints what it receives."""

from __future__ import annotations

import contextlib
import socket
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from tests.kafka_process import KafkaProcess
from tests.telemetry_fakes import free_port

_START_S = 20.0


@dataclass(frozen=True)
class Rotel:
    """A running agent. output: what it printed, with everything that it received in full."""

    grpc_port: int
    http_port: int
    output: Path

    def endpoint(self, protocol: str) -> str:
        return f"http://127.0.0.1:{self.grpc_port if protocol == 'grpc' else self.http_port}"

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def wait(self, done: Callable[[str], bool], timeout_s: float = 10.0) -> str:
        """What it has printed, as soon as that is ``done``."""
        deadline = time.monotonic() + timeout_s
        while not done(text := self.text()):
            assert time.monotonic() < deadline, text[-2000:]
            time.sleep(0.02)  # between two looks at a file that another process writes
        return text


@contextlib.contextmanager
def rotel(folder: Path) -> Iterator[Rotel]:
    """An agent that keeps nothing, until the end of the block; its supervisor ends it where a run dies before that."""
    spec = find_spec("rotel")
    assert spec is not None
    assert spec.origin is not None
    agent = Rotel(free_port(), free_port(), folder / "rotel.txt")
    process = KafkaProcess(folder, folder / "store", agent.output)
    try:
        process.start(
            [
                "/usr/bin/env",
                # it is linked with this Python's shared library, which the system does not find in every installation
                f"LD_LIBRARY_PATH={sysconfig.get_config_var('LIBDIR')}",
                str(Path(spec.origin).with_name("rotel-agent")),
                *("start", "--exporter", "blackhole", "--debug-log", "traces", "--debug-log", "metrics"),
                *("--debug-log-verbosity", "detailed"),
                *("--otlp-grpc-endpoint", f"127.0.0.1:{agent.grpc_port}"),
                *("--otlp-http-endpoint", f"127.0.0.1:{agent.http_port}"),
            ]
        )
        for port in (agent.grpc_port, agent.http_port):
            answers = partial(_answers, port, process)
            assert process.wait(answers, _START_S, 0.05), agent.text()
            assert process.pid is not None, agent.text()
        yield agent
    finally:
        process.close()


def _answers(port: int, process: KafkaProcess) -> bool:
    """Also true where nothing will ever answer."""
    if process.pid is None:
        return True
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
