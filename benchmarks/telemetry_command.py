"""``telemetry`` on the command line: the runs, one after the other, and their table."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from dataclasses import replace
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
    WARM_S,
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
from benchmarks.telemetry_collectors import collectors
from eventbus.embedded.nats import EmbeddedNats

_ROOT = Path(__file__).parents[1]
_PROCESS_TIMEOUT_S = 120.0
_PACED = 10_000
"""Messages whose latency is measured, a second of them."""
_STORED = 200_000
"""Messages that the stream keeps, the newest, so that memory of the server stays bounded."""


class RunFailed(Exception):
    """A process ended without a result; the text is the end of what it wrote to standard error."""


@click.command(name="telemetry")
@click.option("--messages", type=click.IntRange(100), default=200_000, show_default=True, help="Of each run.")
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True, help="Their median ratios count.")
@click.option("--only", help=f"Situations, by comma. Names: {', '.join(SITUATIONS)}.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every run there.")
@click.option("--quick", is_flag=True, help="One small round, whose rates are not judged.")
def telemetry_command(messages: int, rounds: int, only: str | None, json_path: Path | None, quick: bool) -> None:
    """What OpenTelemetry costs, with a good collector, and a dead, a slow and a hanging one. 15 minutes; Linux only.

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
        console.width = 170
    try:
        machine, found = asyncio.run(_run(chosen, messages, rounds, 0.0 if quick else WARM_S, say))
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
    chosen: list[Situation], messages: int, rounds: int, warm_s: float, say: Console
) -> tuple[str, dict[Situation, list[dict[Telling, Measured]]]]:
    """All runs; in each round every way of telling follows the other, beginning with another one each time."""
    server = EmbeddedNats()
    await asyncio.to_thread(server.start)
    found: dict[Situation, list[dict[Telling, Measured]]] = {name: [] for name in chosen}
    tellings = list(TELLINGS)
    try:
        with collectors() as ports:
            version = await _fresh_stream(server.url, no_ack=False)
            machine = in_words(describe("nats", "nats-server", version))
            for number in range(rounds):
                first = number % len(tellings)
                for name in chosen:
                    done: dict[Telling, Measured] = {}
                    for telling in (*tellings[first:], *tellings[:first]):
                        paced = min(messages // 5, _PACED) if name == "acked" else 0
                        settings = Settings(telling, name, server.url, messages, paced, warm_s)
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


def _table(rows: list[Row], messages: int, rounds: int) -> Table:
    table = Table(
        title=f"NATS JetStream, one bus, {messages:,} messages, median of {rounds}; ratios within each round",
        title_justify="left",
    )
    table.add_column("telemetry")
    headings = ("msg/s", "of none", "quartiles", "of one that\nanswers", "CPU us", "of none", "p50 ms\nat 10,000/s")
    for heading in (*headings, "p99 ms", "MiB\ngrown", "close s", "shutdown\ns", "exit s"):
        table.add_column(heading, justify="right")
    for number, row in enumerate(rows):
        first = number == 0 or rows[number - 1].situation != row.situation
        last = number + 1 == len(rows) or rows[number + 1].situation != row.situation
        low, high = row.quartiles
        if first:
            table.add_row(f"[bold]{SITUATIONS[row.situation]}")
        table.add_row(
            TELLINGS[row.telling], f"{row.rate:,.0f}", f"{row.share:.2f}x", f"{low:.2f}-{high:.2f}",
            "-" if row.of_answering is None else f"{row.of_answering:.2f}x", f"{row.cpu_us:.1f}",
            f"{row.cpu_share:.2f}x", "-" if row.p50_ms is None else f"{row.p50_ms:.2f}",
            "-" if row.p99_ms is None else f"{row.p99_ms:.2f}", f"{row.grown / MIB:.1f}", f"{row.close_s:.2f}",
            f"{row.shutdown_s:.2f}", f"{row.exit_s:.2f}", end_section=last,
        )  # fmt: skip
    return table
