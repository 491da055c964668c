"""``python -m benchmarks nats``: race all contestants, print the table, write JSON and a picture.

``python -m benchmarks dead-server``: memory while nobody answers.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks import plot
from benchmarks.arena import Arena, ContestantFailed, Entry, open_arena
from benchmarks.catalog import BY_NAME, has_uvloop
from benchmarks.dead_server import MIB, SCENARIOS, Outcome, RunFailed, Settings, measure
from benchmarks.machine import describe, in_words
from benchmarks.producer import PAYLOAD
from benchmarks.result import Record, rows_of, wrong
from benchmarks.table import as_markdown, as_table

_RESULTS = Path(__file__).with_name("results")
_BUSY = 0.5
"""Load average from which the numbers say more about the machine's other work than about a contestant."""


@dataclass(frozen=True, slots=True)
class Programme:
    """How much of what is run.

    messages: as fast as possible. paced: at ``rate`` a second. pending: for the measurement of memory; the window is
    opened that far for it.
    """

    messages: int
    rounds: int
    window: int
    paced: int
    rate: float
    pending: int


@click.group()
def main() -> None:
    """What a publisher's way of treating acks costs."""


@main.command(name="nats")
@click.option("--messages", type=click.IntRange(100), help="Messages of a fast contestant's run. Default 100,000.")
@click.option("--rounds", type=click.IntRange(1), help="Interleaved rounds; their median counts. Default 3.")
@click.option("--only", help=f"Run only these, by comma. Names: {', '.join(BY_NAME)}.")
@click.option("--loop", type=click.Choice(["asyncio", "uvloop", "both"]), default="asyncio", show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=_RESULTS / "nats.json")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), default=_RESULTS / "nats.svg")
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="Write the table as Markdown too.")
@click.option("--quick", is_flag=True, help="One small round: shows that it works, the numbers mean little.")
def nats_command(
    messages: int | None,
    rounds: int | None,
    only: str | None,
    loop: str,
    json_path: Path,
    plot_path: Path,
    markdown_path: Path | None,
    quick: bool,
) -> None:
    """JetStream publishers against one embedded nats-server. Takes about three minutes, --quick about twenty seconds.

    Exit code 1 if a contestant failed, or its acks do not agree with what the stream holds.
    """
    programme = Programme(
        messages=messages or (5_000 if quick else 100_000),
        rounds=rounds or (1 if quick else 3),
        window=10_000,
        paced=2_000 if quick else 20_000,
        rate=10_000.0,
        pending=2_000 if quick else 20_000,
    )
    say = Console(stderr=True)
    entries, skipped = _entries(only, loop)
    for name, reason in skipped.items():
        say.print(f"{name}: skipped: {reason}", highlight=False, markup=False)
    settings = {**asdict(programme), "payload_bytes": len(PAYLOAD), "storage": "memory", "quick": quick}
    machine, records = asyncio.run(_run(programme, entries, say))
    rows = rows_of(records)
    console = Console()
    if not console.is_terminal:
        console.width = 150
    console.print(as_table(rows, settings))
    console.print(in_words(machine), highlight=False, markup=False, soft_wrap=True)
    if float(machine["load"]) > _BUSY:
        say.print(
            f"load was {machine['load']} before the run began: others used the processor, do not trust the numbers"
        )
    _write_json(json_path, {
        "benchmark": "nats",
        "made_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks {' '.join(sys.argv[1:])}",
        "machine": machine,
        "settings": settings,
        "skipped": skipped,
        "contestants": rows,
    })  # fmt: skip
    if markdown_path is not None:
        markdown_path.write_text(as_markdown(rows, settings), encoding="utf-8")
    no_plot = plot.missing() or (None if any(row["messages_per_s"] for row in rows) else "no plot: no result")
    if no_plot:
        say.print(no_plot, markup=False)
    else:
        plot.draw(rows, settings, in_words(machine), plot_path)
    say.print(
        f"written: {json_path}{'' if no_plot else f', {plot_path}'}", highlight=False, markup=False, soft_wrap=True
    )
    complaints = wrong(rows)
    for complaint in complaints:
        say.print(f"wrong: {complaint}", style="bold red", highlight=False, markup=False)
    sys.exit(1 if complaints else 0)


def _entries(only: str | None, loop: str) -> tuple[list[Entry], dict[str, str]]:
    """Who runs, and who does not and why."""
    names = [name.strip() for name in only.split(",")] if only else list(BY_NAME)
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(BY_NAME)}", param_hint="--only")
    loops = ["asyncio", "uvloop"] if loop == "both" else [loop]
    skipped = {name: reason for name in names if (reason := BY_NAME[name].missing())}
    if "uvloop" in loops and not has_uvloop():
        loops.remove("uvloop")
        skipped["uvloop"] = "uvloop is not installed: `pip install uvloop`"
    # Where both loops run, they run side by side: the more a comparison is wanted, the nearer in time it is made.
    entries = [Entry(name, kind) for name in BY_NAME if name in names and name not in skipped for kind in loops]
    if not entries:
        raise click.UsageError("nobody is left to run: " + "; ".join(f"{n}: {r}" for n, r in skipped.items()))
    return entries, skipped


async def _run(
    programme: Programme, entries: Sequence[Entry], say: Console
) -> tuple[dict[str, str | int | float], list[Record]]:
    records = [Record(entry) for entry in entries]
    async with open_arena() as arena:
        machine = describe(arena.server_version)
        for number in range(1, programme.rounds + 1):
            # Each round begins with somebody else, so that nobody always runs after the same one.
            first = len(records) * (number - 1) // programme.rounds
            for record in [*records[first:], *records[:first]]:
                if record.failure is None:
                    with say.status(f"round {number} of {programme.rounds}: {record.entry.name} ({record.entry.loop})"):
                        await _round(arena, programme, record)
        await arena.clear()
    return machine, records


async def _round(arena: Arena, programme: Programme, record: Record) -> None:
    """One round of one entry; what goes wrong is written down, and the others go on."""
    contestant = BY_NAME[record.entry.name]
    messages = max(100, int(programme.messages * contestant.share))
    try:
        found: dict[str, Any] = await arena.race(
            record.entry,
            messages,
            programme.window,
            paced=programme.paced if contestant.paced else 0,
            rate=programme.rate,
        )
        found["pending"] = None
        if contestant.keeps:
            window = max(programme.window, programme.pending)
            found |= await arena.weigh(record.entry, programme.pending, window)
    except ContestantFailed as error:
        record.failure = str(error)
    else:
        record.rounds.append(found)


@main.command(name="dead-server")
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
        _write_json(json_path, {
            "benchmark": "dead-server",
            "made_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": f"python -m benchmarks {' '.join(sys.argv[1:])}",
            "scenarios": [outcome.as_dict() for outcome in outcomes],
            "complaints": complaints,
        })  # fmt: skip
    for complaint in complaints:
        say.print(f"wrong: {complaint}", style="bold red", highlight=False, markup=False)
    sys.exit(1 if complaints else 0)


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


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
