"""``accuracy`` on the command line: the runs, one after the other, and their table."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.accuracy import RATES, Measured, Settings, measure_each
from benchmarks.machine import describe, in_words
from benchmarks.output import complain, write_json
from eventbus.embedded.nats import EmbeddedNats


@click.command(name="accuracy")
@click.option("--seconds", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Of each run.")
@click.option("--rates", default=",".join(map(str, RATES)), show_default=True, help="Messages per second, by comma.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures there.")
def accuracy_command(seconds: float, rates: str, json_path: Path | None) -> None:
    """Whether the load driver sends when its schedule says. About a minute, on a nats-server of its own.

    Exit code 1 if a rate was missed by more than 1 %, or something was not acked.
    """
    try:
        asked = [float(rate) for rate in rates.split(",")]
    except ValueError:
        raise click.BadParameter(f"{rates!r}: give numbers by comma", param_hint="--rates") from None
    runs = [Settings(rate, seconds, arrivals) for arrivals in ("constant", "poisson") for rate in asked]
    say, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 130
    machine = describe("nats", "nats-server", "embedded")
    found: list[Measured] = []
    for run in runs:
        with say.status(f"{run.rate:,.0f}/s {run.arrivals}, {seconds:g} s"), EmbeddedNats() as server:
            found += measure_each(server.url, [run])
    console.print(_table(found))
    console.print(in_words(machine), highlight=False, markup=False, soft_wrap=True)
    if json_path is not None:
        write_json(json_path, "accuracy", machine=machine, runs=[measured.as_dict() for measured in found])
    complain(say, [complaint for measured in found for complaint in measured.complaints()])


def _table(found: list[Measured]) -> Table:
    table = Table(
        title="Accuracy of the open-model load driver; times in ms\nlate: sent after the scheduled time. jitter: gap "
        "between two messages against the scheduled gap. from schedule: scheduled time to ack",
        title_justify="left",
    )
    for heading in ("rate", "arrivals", "achieved", "off", "late\np50", "late\np99", "late\nmax", "jitter\np50"):
        table.add_column(heading, justify="right")
    for heading in ("jitter\np99", "ack\np99", "from schedule\np99", "CPU us\nper message"):
        table.add_column(heading, justify="right")
    for each in found:
        times = (*each.late.values(), each.jitter["p50"], each.jitter["p99"], each.ack["p99"], each.scheduled["p99"])
        table.add_row(
            f"{each.settings.rate:,.0f}", each.settings.arrivals, f"{each.achieved:,.1f}", f"{each.off:+.3%}",
            *(f"{seconds * 1e3:.2f}" for seconds in times), f"{each.cpu_us:.1f}",
        )  # fmt: skip
    return table
