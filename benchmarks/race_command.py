"""``nats`` and ``kafka`` on the command line: one race each, with the same options."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.arena import Arena, Entry
from benchmarks.catalog import Kind, Race, find_race, has_uvloop
from benchmarks.machine import describe
from benchmarks.output import Output, complain
from benchmarks.producer import PAYLOAD
from benchmarks.rounds import Programme, run_rounds

_RESULTS = Path(__file__).with_name("results")


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that all races have."""
    options = [
        click.option("--messages", type=click.IntRange(100), help="Messages of a fast run. Default 100,000."),
        click.option("--rounds", type=click.IntRange(1), help="Interleaved rounds; their median counts. Default 3."),
        click.option("--only", help="Run only these contestants, by comma; a wrong name lists them."),
        click.option("--loop", type=click.Choice(["asyncio", "uvloop", "both"]), default="asyncio", show_default=True),
        click.option("--json", "json_path", type=click.Path(path_type=Path), help="Default: in benchmarks/results."),
        click.option("--plot", "plot_path", type=click.Path(path_type=Path), help="Default: in benchmarks/results."),
        click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="The table for a README."),
        click.option("--quick", is_flag=True, help="One small round: shows that it works, the numbers mean little."),
    ]
    return reduce(lambda wrapped, option: option(wrapped), reversed(options), function)


@click.command(name="nats")
@_with_options
def nats_command(**options: Any) -> None:
    """JetStream publishers against one embedded nats-server. Takes about three minutes, --quick about twenty seconds.

    Exit code 1 if a contestant failed, or its acks do not agree with what the stream holds.
    """
    from benchmarks.nats_arena import open_nats_arena

    _run("nats", "nats", open_nats_arena, {}, **options)


@click.command(name="kafka")
@click.option(
    "--server", default="mock", show_default=True, metavar="mock|real|HOST:PORT,...",
    help="librdkafka's mock; one Apache Kafka that is started, with Java and Maven; or a running one.",
)  # fmt: skip
@click.option("--partitions", type=click.IntRange(1, 100), default=4, show_default=True, help="Of the topic.")
@_with_options
def kafka_command(server: str, partitions: int, **options: Any) -> None:
    """Idempotent Kafka publishers against one broker. Takes about three minutes, --quick about half a minute.

    Exit code 1 if a contestant failed, or its acks do not agree with the topic's end offsets.
    """
    from aiokafka.errors import KafkaError

    from benchmarks.kafka_arena import open_kafka_arena
    from benchmarks.kafka_broker import MOCK, REAL, missing
    from benchmarks.kafka_race import IGNORE

    if server not in (MOCK, REAL) and ":" not in server:
        raise click.BadParameter(f"{server!r}: use mock, real or HOST:PORT", param_hint="--server")
    if reason := missing(server):
        raise click.UsageError(f"--server real: {reason}")
    barred = {IGNORE: "the mock answers also to acks=0, which no client understands"} if server == MOCK else {}
    place = server if server in (MOCK, REAL) else "given"
    try:
        _run("kafka", f"kafka-{place}", lambda: open_kafka_arena(server, partitions), barred, **options)
    except KafkaError as error:
        raise click.ClickException(f"--server {server}: {error}") from error


def _run(
    kind: Kind, stem: str, open_arena: Callable[[], AbstractAsyncContextManager[Arena]], barred: Mapping[str, str], *,
    messages: int | None, rounds: int | None, only: str | None, loop: str, json_path: Path | None,
    plot_path: Path | None, markdown_path: Path | None, quick: bool,
) -> None:  # fmt: skip
    """stem: of the default files' names. barred: who cannot take part on this broker, and why."""
    race, say = find_race(kind), Console(stderr=True)
    entries, skipped = _entries(race, only, loop, barred)
    for name, reason in skipped.items():
        say.print(f"{name}: skipped: {reason}", highlight=False, markup=False)
    programme = Programme.of(messages, rounds, quick=quick)
    settings = {**asdict(programme), "payload_bytes": len(PAYLOAD), "quick": quick}
    output = Output(json_path or _RESULTS / f"{stem}.json", plot_path or _RESULTS / f"{stem}.svg", markdown_path)

    async def run() -> list[str]:
        async with open_arena() as arena:
            settings["setup"] = arena.setup
            machine = describe(kind, arena.broker, arena.version)
            records = await run_rounds(race, arena, programme, entries, say.status)
        return output.give(race, machine, settings, records, skipped, say)

    complain(say, asyncio.run(run()))


def _entries(race: Race, only: str | None, loop: str, barred: Mapping[str, str]) -> tuple[list[Entry], dict[str, str]]:
    """Who runs, and who does not and why."""
    by_name = race.by_name
    names = [name.strip() for name in only.split(",")] if only else list(by_name)
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(by_name)}", param_hint="--only")
    loops = ["asyncio", "uvloop"] if loop == "both" else [loop]
    skipped = {name: reason for name in names if (reason := barred.get(name) or by_name[name].missing())}
    if "uvloop" in loops and not has_uvloop():
        loops.remove("uvloop")
        skipped["uvloop"] = "uvloop is not installed: `pip install uvloop`"
    # Where both loops run, they run side by side: the more a comparison is wanted, the nearer in time it is made.
    entries = [Entry(name, kind) for name in by_name if name in names and name not in skipped for kind in loops]
    if not entries:
        raise click.UsageError("nobody is left to run: " + "; ".join(f"{n}: {r}" for n, r in skipped.items()))
    return entries, skipped
