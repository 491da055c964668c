"""``dashboard`` on the command line: what the dashboard costs, as tables, judged by what it may cost."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.dashboard import (
    CHROMIUM,
    FLAGS,
    MeasurementFailed,
    PageCost,
    Paint,
    Pair,
    Server,
    measure_cost,
    measure_paints,
    measure_producer,
    missing,
    running,
)
from benchmarks.machine import describe, in_words
from benchmarks.output import complain, write_json
from eventbus.embedded.nats import EmbeddedNats

MAX_CPU = 0.05
"""Share of a core that an open Live page may cost the server."""
MAX_PAINT_S = 2.0
MAX_LOSS = 0.03
"""Of what the producer achieves at RATE without a page."""
RATE = 20_000
_WATCHED_RATE = 1_000
"""Of the run that pages show while their own cost is measured."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured: seconds of a span, rounds of paints, pairs of the producer at RATE and at its most."""

    seconds: float
    rounds: int
    pairs: int
    pairs_at_most: int


FULL, QUICK = Extent(8.0, 3, 4, 2), Extent(3.0, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class Found:
    """All that was measured. producers: by what was asked for, RATE or the most that the window lets."""

    costs: Sequence[PageCost]
    paints: Sequence[Paint]
    producers: Mapping[str, Sequence[Pair]]


@click.command(name="dashboard")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every figure there.")
@click.option("--quick", is_flag=True, help="Short and once, and nothing is judged; about a minute and a half.")
def dashboard_command(json_path: Path | None, quick: bool) -> None:
    """What an open page costs server and producer, and how soon pages are there. Four minutes; Linux and Chromium.

    Exit code 1 if a page costs more than 5 % of a core, is not there within 2 s, or the producer loses 3 % by it.
    """
    if reason := missing():
        click.echo(f"skipped: {reason}")
        return
    say, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = 120
    machine = describe("nats", "nats-server", "embedded")
    try:
        found = _measure(QUICK if quick else FULL, say)
    except MeasurementFailed as error:
        raise click.ClickException(str(error)) from error
    console.print(_cost_table(found.costs), _paint_table(found.paints), _producer_table(found.producers), sep="\n")
    console.print(in_words(machine), highlight=False, markup=False, soft_wrap=True)
    complaints = [] if quick else judged(found)
    if json_path is not None:
        write_json(json_path, "dashboard", machine=machine, complaints=complaints, **asdict(found))
    complain(say, complaints)


def judged(found: Found) -> list[str]:
    """Each rule that was missed, and by how much."""
    without = next(cost for cost in found.costs if not cost.pages)
    complaints = [
        f"{cost.pages} Live pages open: none was refreshed" for cost in found.costs if cost.pages and not cost.refreshes
    ]
    complaints += [
        f"{cost.pages} Live pages open: {each:.1%} of a core each, {each - MAX_CPU:.1%} above {MAX_CPU:.0%}"
        for cost in found.costs
        if cost.pages and (each := cost.each_at_one_hz(without)) > MAX_CPU
    ]
    complaints += [
        f"{paint.page}: first paint after {paint.median_s:.2f} s, {paint.median_s - MAX_PAINT_S:.2f} s above "
        f"{MAX_PAINT_S:g} s"
        for paint in found.paints
        if paint.median_s > MAX_PAINT_S
    ]
    ratio = statistics.median(pair.ratio for pair in found.producers[_asked(RATE)])
    if ratio < 1 - MAX_LOSS:
        complaints.append(
            f"producer at {_asked(RATE)}: {ratio:.3f} of its rate with a page open, {1 - MAX_LOSS - ratio:.3f} below "
            f"{1 - MAX_LOSS:g}"
        )
    return complaints


def _measure(extent: Extent, say: Console) -> Found:
    from playwright.sync_api import Error, sync_playwright

    with (
        tempfile.TemporaryDirectory(prefix="ackscope-") as folder,
        EmbeddedNats() as nats,
        Server(Path(folder)) as server,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS)) as browser,
    ):
        context = browser.new_context(viewport={"width": 1280, "height": 1100})
        try:
            with running(server.store, nats.url, _WATCHED_RATE):
                with say.status("first paints"):
                    paints = measure_paints(context, server, extent.rounds)
                costs = []
                for pages in (0, 1, 3):
                    with say.status(f"{pages} pages open"):
                        costs.append(measure_cost(context, server, pages, extent.seconds))
            producers = {}
            for rate, pairs in ((RATE, extent.pairs), (None, extent.pairs_at_most)):
                with say.status(f"producer, {_asked(rate)}"), running(server.store, nats.url, rate) as run_id:
                    producers[_asked(rate)] = measure_producer(context, server, run_id, pairs, extent.seconds)
        except Error as error:  # playwright's: a page that did not come
            raise MeasurementFailed(f"the browser: {error.message.splitlines()[0]}") from error
    return Found(costs, paints, producers)


def _asked(rate: int | None) -> str:
    return "most" if rate is None else f"{rate:,}/s"


def _cost_table(costs: Sequence[PageCost]) -> Table:
    table = Table(title=f"Server, while a run of {_WATCHED_RATE:,}/s is watched at 1 Hz", title_justify="left")
    for heading in ("Live pages open", "CPU, of a core", "each at 1 Hz", "refreshes", "bytes per refresh"):
        table.add_column(heading, justify="right")
    for cost in costs:
        each = f"{cost.each_at_one_hz(costs[0]):.1%}" if cost.refreshes else ""
        payload = f"{cost.payload:,.0f}" if cost.refreshes else ""
        table.add_row(str(cost.pages), f"{cost.cpu:.1%}", each, str(cost.refreshes), payload)
    return table


def _paint_table(paints: Sequence[Paint]) -> Table:
    table = Table(title="First paint, in seconds from navigation to the first figure or heading", title_justify="left")
    headings = (
        "page",
        "first visit",
        "warm, median",
        "warm, most",
        "of it the shell",
        "server CPU, first",
        "server CPU, warm",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "page" else "right")
    for paint in paints:
        times = (paint.first_s, paint.median_s, max(paint.warm_s), paint.shell_s, paint.first_server_s, paint.server_s)
        table.add_row(paint.page, *(f"{seconds:.2f}" for seconds in times))
    return table


def _producer_table(producers: Mapping[str, Sequence[Pair]]) -> Table:
    table = Table(title="Producer, in acks per second, by turns within one run", title_justify="left")
    for heading in ("asked for", "without a page", "with a Live page", "ratio, median", "least", "most"):
        table.add_column(heading, justify="right")
    for asked, pairs in producers.items():
        ratios = [pair.ratio for pair in pairs]
        without = statistics.median(pair.without for pair in pairs)
        opened = statistics.median(pair.open for pair in pairs)
        shares = (statistics.median(ratios), min(ratios), max(ratios))
        table.add_row(asked, f"{without:,.0f}", f"{opened:,.0f}", *(f"{share:.3f}" for share in shares))
    return table
