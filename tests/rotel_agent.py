"""rotel: a real OTLP collector from a wheel, on loopback, for the length of a ``with``. It prints what it receives."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from tests.kafka_process import KafkaProcess
from tests.telemetry_fakes import free_port

_START_S = 20.0
_END_S = 10.0
_RESOURCE = re.compile(r"^Resource(Metrics|Spans|Logs) #\d+$", re.MULTILINE)
_METRIC = re.compile(r"^Metric #\d+$", re.MULTILINE)
_POINT = re.compile(r"^(?:Number|Histogram)DataPoints #\d+$", re.MULTILINE)
_SPAN = re.compile(r"^Span #\d+$", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^ +-> ([\w.]+): [A-Z]\w*\((.*)\)$", re.MULTILINE)
_VALUE = re.compile(r"^(?:Value|Count): (.+)$", re.MULTILINE)

Attributes = dict[str, str]


@dataclass(frozen=True)
class Rotel:
    """A running agent. output: what it printed, with everything that it received in full."""

    grpc_port: int
    http_port: int
    output: Path
    process: KafkaProcess = field(repr=False)

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

    def end(self) -> None:
        """Have it print all that it received, and end. What is told afterwards is the whole."""
        self.process.signal(signal.SIGTERM)
        self.process.wait_for_end(_END_S)
        assert self.process.status == 0, self.text()[-2000:]

    def points(self, service: str, metric: str) -> list[tuple[Attributes, float]]:
        """The points that a service sent of a metric in its last export: attributes, and value or count."""
        found: list[tuple[Attributes, float]] = []
        for export in self._sections("Metrics", service):
            for told in _METRIC.split(export)[1:]:
                if f"-> Name: {metric}\n" in told:
                    found = [(_attributes(point), _value(point)) for point in _POINT.split(told)[1:]]
        return found

    def spans(self, service: str) -> list[Attributes]:
        """The attributes of all spans that a service sent."""
        return [_attributes(span) for export in self._sections("Spans", service) for span in _SPAN.split(export)[1:]]

    def _sections(self, kind: str, service: str) -> list[str]:
        """What it printed of each resource of that kind and service, oldest first."""
        _, *parts = _RESOURCE.split(self.text())
        of_service = f"-> service.name: Str({service})\n"
        return [text for of, text in zip(parts[::2], parts[1::2], strict=True) if of == kind and of_service in text]


@contextlib.contextmanager
def rotel(folder: Path) -> Iterator[Rotel]:
    """An agent that keeps nothing, until the end of the block; its supervisor ends it where a run dies before that."""
    spec = find_spec("rotel")
    assert spec is not None
    assert spec.origin is not None
    output = folder / "rotel.txt"
    process = KafkaProcess(folder, folder / "store", output)
    agent = Rotel(free_port(), free_port(), output, process)
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


def _attributes(printed: str) -> Attributes:
    return dict(_ATTRIBUTE.findall(printed))


def _value(printed: str) -> float:
    found = _VALUE.search(printed)
    assert found is not None, printed
    return float(found[1])


def _answers(port: int, process: KafkaProcess) -> bool:
    """Also true where nothing will ever answer."""
    if process.pid is None:
        return True
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
