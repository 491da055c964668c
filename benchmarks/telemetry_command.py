"""``telemetry`` on the command line: the runs, one after the other, and their table."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import nats
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe, in_words
from benchmarks.output import complain, write_json
from benchmarks.producer import STREAM, SUBJECT
from benchmarks.telemetry import (
    MIB,
    SITUATIONS,
    TELLINGS,
    Measured,
    Row,
    Settings,
    Situation,
    Telling,
    plain,
    row_of,
    too_much,
    wrong_counts,
)
from benchmarks.telemetry_client import missing
from eventbus.embedded.nats import EmbeddedNats

_ROOT = Path(__file__).parents[1]
_PROCESS_TIMEOUT_S = 120.0
_PACED = 20_000
"""Messages whose latency is measured, two seconds of them."""
_SLOW_S = 1.5
_STORED = 200_000
"""Messages that the stream keeps, the newest, so that memory of the server stays bounded."""


class RunFailed(Exception):
    """A process ended without a result; the text is the end of what it wrote to standard error."""


@click.command(name="telemetry")
@click.option("--messages", type=click.IntRange(100), default=400_000, show_default=True, help="Of each run.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Their median ratios count.")
@click.option("--only", help=f"Situations, by comma. Names: {', '.join(SITUATIONS)}.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every run there.")
@click.option("--quick", is_flag=True, help="One small round, whose rates are not judged.")
def telemetry_command(messages: int, rounds: int, only: str | None, json_path: Path | None, quick: bool) -> None:
    """What OpenTelemetry costs, with a good collector, and a dead, a slow and a hanging one. Seven minutes; Linux only.

    Exit code 1 if a count is wrong, or anything costs more than it may.
    """
    if reason := missing():
        raise click.UsageError(reason)
    chosen = [name for name in SITUATIONS if only is None or name in only.split(",")]
    if not chosen or (only is not None and not set(only.split(",")) <= set(SITUATIONS)):
        raise click.BadParameter(f"{only!r}: choose from {', '.join(SITUATIONS)}", param_hint="--only")
    if quick:
        messages, rounds = min(messages, 5_000), 1
    say, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 150
    try:
        machine, found = asyncio.run(_run(chosen, messages, rounds, say))
    except RunFailed as error:
        raise click.ClickException(str(error)) from error
    rows = [row_of(name, telling, found[name]) for name in chosen for telling in TELLINGS]
    console.print(_table(rows, messages, rounds))
    console.print(machine, highlight=False, markup=False, soft_wrap=True)
    runs = [one for name in chosen for in_round in found[name] for one in in_round.values()]
    complaints = [complaint for one in runs for complaint in wrong_counts(one)]
    without = {row.situation: row for row in rows if row.telling == "none"}
    if not quick:
        complaints += [c for row in rows if row.telling != "none" for c in too_much(row, without[row.situation])]
    if json_path is not None:
        parts = {"rows": [plain(row) for row in rows], "runs": [plain(one) for one in runs]}
        write_json(json_path, "telemetry", machine=machine, complaints=complaints, **parts)
    complain(say, complaints)


async def _run(
    chosen: list[Situation], messages: int, rounds: int, say: Console
) -> tuple[str, dict[Situation, list[dict[Telling, Measured]]]]:
    """All runs; in each round every way of telling follows the other, beginning with another one each time."""
    server = EmbeddedNats()
    await asyncio.to_thread(server.start)
    found: dict[Situation, list[dict[Telling, Measured]]] = {name: [] for name in chosen}
    tellings = list(TELLINGS)
    try:
        with _hanging() as hanging, _dead() as dead, _slow() as slow:
            ports = {"dead": dead, "slow": slow, "hanging": hanging}
            version = await _fresh_stream(server.url, no_ack=False)
            machine = in_words(describe("nats", "nats-server", version))
            for number in range(rounds):
                first = number % len(tellings)
                for name in chosen:
                    done: dict[Telling, Measured] = {}
                    for telling in (*tellings[first:], *tellings[:first]):
                        settings = Settings(
                            telling, name, server.url, messages, min(messages // 5, _PACED) if name == "acked" else 0
                        )
                        await _fresh_stream(server.url, no_ack=name == "timeouts")
                        with say.status(f"round {number + 1} of {rounds}: {name}, {TELLINGS[telling]}"):
                            done[telling] = await _process(settings, ports.get(telling))
                    found[name].append(done)
        return machine, found
    finally:
        await asyncio.shield(asyncio.to_thread(server.stop))


async def _fresh_stream(url: str, *, no_ack: bool) -> str:
    """Returns the server's version."""
    client = await nats.connect(url)
    try:
        jetstream = client.jetstream()
        with contextlib.suppress(NotFoundError):
            await jetstream.delete_stream(STREAM)
        await jetstream.add_stream(
            StreamConfig(
                name=STREAM, subjects=[SUBJECT], storage=StorageType.MEMORY, no_ack=no_ack, max_msgs=_STORED,
                discard=DiscardPolicy.OLD, duplicate_window=120.0,
            )
        )  # fmt: skip
        version = client.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"
    finally:
        await client.close()


async def _process(settings: Settings, port: int | None) -> Measured:
    """One run. port: of the collector, None for none. Raises RunFailed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    if port is not None:
        environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.telemetry_process", json.dumps(plain(settings)),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=_ROOT, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    words = asyncio.ensure_future(process.stderr.read())
    answer = b""
    exit_s = 0.0
    try:
        async with asyncio.timeout(_PROCESS_TIMEOUT_S):
            answer = await process.stdout.readline()
            told = time.monotonic()
            await process.wait()
            exit_s = time.monotonic() - told
    except TimeoutError:
        raise RunFailed(f"{settings.situation}, {settings.telling}: not over in {_PROCESS_TIMEOUT_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        complaints = (await words).decode(errors="replace").strip().splitlines()
    if process.returncode or not answer:
        raise RunFailed(f"{settings.situation}, {settings.telling}: " + "\n".join(complaints[-3:]))
    return replace(Measured(**json.loads(answer)), exit_s=exit_s)


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
            thread.join(5)
            for connection in accepted:
                connection.close()


class _SlowAnswer(BaseHTTPRequestHandler):
    """Takes everything, and says so late."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(_SLOW_S)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        with contextlib.suppress(OSError):  # whoever asked has given up
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: its lines would break the progress."""


@contextlib.contextmanager
def _slow() -> Iterator[int]:
    """The port of a collector that answers each export after ``_SLOW_S``."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _SlowAnswer) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join(5)


@contextlib.contextmanager
def _dead() -> Iterator[int]:
    """A port at which nobody listens; it stays taken, so that nobody will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def _table(rows: list[Row], messages: int, rounds: int) -> Table:
    table = Table(
        title=f"NATS JetStream, one bus, {messages:,} messages, median of {rounds}; ratios within each round",
        title_justify="left",
    )
    table.add_column("telemetry")
    headings = ("msg/s", "of none", "CPU us", "of none", "p50 ms\nat 10,000/s", "p99 ms", "MiB\ngrown", "close s")
    for heading in (*headings, "shutdown\ns", "exit s"):
        table.add_column(heading, justify="right")
    for number, row in enumerate(rows):
        first = number == 0 or rows[number - 1].situation != row.situation
        last = number + 1 == len(rows) or rows[number + 1].situation != row.situation
        if first:
            table.add_row(f"[bold]{SITUATIONS[row.situation]}")
        table.add_row(
            TELLINGS[row.telling], f"{row.rate:,.0f}", f"{row.share:.2f}x", f"{row.cpu_us:.1f}",
            f"{row.cpu_share:.2f}x", "-" if row.p50_ms is None else f"{row.p50_ms:.2f}",
            "-" if row.p99_ms is None else f"{row.p99_ms:.2f}", f"{row.grown / MIB:.1f}", f"{row.close_s:.2f}",
            f"{row.shutdown_s:.2f}", f"{row.exit_s:.2f}", end_section=last,
        )  # fmt: skip
    return table
