"""``python -m benchmarks.telemetry_collectors``: collectors of OTLP over HTTP, good and bad, in a process of their own.

Not threads of whoever measures: what they cost is the machine's, never the measuring process's interpreter. Prints one
line of JSON, the port of each, and serves until its standard input ends.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SLOW_S = 1.5
"""Longer than the time between two exports of metrics."""
_START_S, _END_S = 30.0, 5.0


class _Answer(BaseHTTPRequestHandler):
    """Takes everything, and says so after ``delay_s``."""

    protocol_version = "HTTP/1.1"

    def __init__(self, delay_s: float, *args: object) -> None:
        self._delay_s = delay_s
        super().__init__(*args)  # type: ignore[arg-type]  # what the server gives each of its handlers

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(self._delay_s)
        with contextlib.suppress(OSError):  # whoever asked has given up
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: nobody reads it."""


class _Collector(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Somebody who ended without a farewell is no news; anything else is told as ever."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextlib.contextmanager
def _answering(delay_s: float) -> Iterator[int]:
    """The port of a collector that answers each export after ``delay_s``."""
    with _Collector(("127.0.0.1", 0), partial(_Answer, delay_s)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join(_END_S)


@contextlib.contextmanager
def _hanging() -> Iterator[int]:
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
            thread.join(_END_S)
            for connection in accepted:
                connection.close()


@contextlib.contextmanager
def _dead() -> Iterator[int]:
    """A port at which nobody listens; it stays taken, so that nobody will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextlib.contextmanager
def collectors() -> Iterator[dict[str, int]]:
    """Their ports, by the names of ``benchmarks.telemetry.TELLINGS``. Waits up to half a minute for the process."""
    command = [sys.executable, "-m", "benchmarks.telemetry_collectors"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        watch = threading.Timer(_START_S, process.kill)
        watch.start()
        try:
            line = process.stdout.readline()
            watch.cancel()
            if not line:
                raise RuntimeError(f"the collectors' process ended with exit code {process.wait()}")
            yield json.loads(line)
        finally:
            watch.cancel()
            process.stdin.close()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> None:
    """Serve until standard input ends."""
    with _answering(0.0) as answering, _answering(SLOW_S) as slow, _hanging() as hanging, _dead() as dead:
        print(json.dumps({"answering": answering, "dead": dead, "slow": slow, "hanging": hanging}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
