"""``dead-server`` on the command line: memory of a bus whose server is dead, as a table over time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.dead_server import MIB, SCENARIOS, Outcome, RunFailed, Settings, measure
from benchmarks.output import complain, write_json


@click.command(name="dead-server")
@click.option("--seconds", type=click.FloatRange(2), default=15.0, show_default=True, help="Dead time, each scenario.")
@click.option("--only", help=f"Run only these, by comma. Names: {', '.join(SCENARIOS)}.")
@click.option("--publishers", type=click.IntRange(1), default=2_000, show_default=True)
@click.option("--payload", type=click.IntRange(8), default=1024, show_default=True, help="Bytes of a message.")
@click.option("--window", type=click.IntRange(1), default=10_000, show_default=True, help="Messages of the window.")
@click.option("--window-bytes", type=click.IntRange(8), default=16 * MIB, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every sample there.")
def dead_server_command(
    seconds: float,
    only: str | None,
    publishers: int,
    payload: int,
    window: int,
    window_bytes: int,
    json_path: Path | None,
) -> None:
    """Memory of a bus whose server is dead while publishers go on for ever. Takes about a minute; Linux only.

    Exit code 1 if memory is not flat at the window's bound, or the bus does not recover.
    """
    names = [name for name in SCENARIOS if only is None or name in only.split(",")]
    if not names or (only is not None and not set(only.split(",")) <= set(SCENARIOS)):
        raise click.BadParameter(f"{only!r}: choose from {', '.join(SCENARIOS)}", param_hint="--only")
    say, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 120
    outcomes: list[Outcome] = []
    complaints: list[str] = []
    for name in names:
        with say.status(f"{name}: {seconds:g} s without a server"):
            try:
                outcome = asyncio.run(measure(Settings(name, seconds, publishers, payload, window, window_bytes)))
            except RunFailed as error:
                complaints.append(str(error))
                continue
        outcomes.append(outcome)
        complaints += outcome.complaints()
        console.print(_memory_table(outcome), Text(outcome.in_words()), "", sep="\n")
    if json_path is not None:
        scenarios = [outcome.as_dict() for outcome in outcomes]
        write_json(json_path, "dead-server", scenarios=scenarios, complaints=complaints)
    complain(say, complaints)


def _memory_table(outcome: Outcome) -> Table:
    """Memory over time, about a dozen rows; a rule where the server came back."""
    settings, bound = outcome.settings, sum(outcome.settings.bound().values()) / MIB
    table = Table(
        title=f"{settings.scenario}: nats-server {SCENARIOS[settings.scenario]}\n{settings.publishers:,} publishers, "
        f"{settings.payload_bytes:,}-byte messages, window {settings.window:,} or {settings.window_bytes / MIB:g} MiB",
        title_justify="left",
    )
    for heading in ("s", "MiB above\nthe start", "bound", "pending", "waiting", "windows\nended", "acked"):
        table.add_column(heading, justify="right")
    for heading in ("unknown", "rejected"):
        table.add_column(heading, justify="right")
    table.add_column("connection")
    dead, back = outcome.dead[:: max(1, len(outcome.dead) // 10)], outcome.back[:: max(1, len(outcome.back) // 3)]
    for sample in (*dead, *back):
        table.add_row(
            f"{sample.at_s:.1f}", f"{(sample.rss - outcome.start) / MIB:.1f}", f"{bound:.1f}", f"{sample.pending:,}",
            f"{sample.waiting:,}", f"{sample.ended / settings.window:.1f}", f"{sample.acked:,}", f"{sample.unknown:,}",
            f"{sample.rejected:,}", sample.connection, end_section=sample is dead[-1],
        )  # fmt: skip
    return table
