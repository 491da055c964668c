"""What the command line shows of runs: tables for a terminal, and a sentence about what is left out of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from eventbus.observe import AlertChange
from eventbus.runs.comparison import Comparison
from eventbus.runs.run import Run, figure_words
from eventbus.viz.words import NOTHING, percent_text, time_text, verdict_text

ROWS = 20
"""Of failures and of alerts: a terminal's height. All of them are in the report and in exports."""


def of_run(run: Run) -> Iterator[Table | Text]:
    """What a run came to: its verdict, its figures, its failures and its alerts, each where there is any."""
    if run.verdict:
        yield _verdict_table(run.verdict)
    yield _figure_table(run)
    if run.failure_groups:
        yield _failure_table(run)
        yield from _left_out(run, len(run.failure_groups), "failures")
    alerts = [change for change in run.alerts if _for_people(change)]
    if alerts:
        yield _alert_table(alerts, run.info.started_wall_s)
        yield from _left_out(run, len(alerts), "alerts")


def of_comparison(comparison: Comparison) -> Iterator[Table | Text]:
    """Which runs they are, and a column for each: names alone can be the same."""
    for label, run in zip(comparison.labels, comparison.runs, strict=True):
        info = run.info
        yield Text(
            f"{label}: {info.topic} on {info.url}, {time_text(info.started_wall_s)}, run {run.run_id}", style="dim"
        )
    made = table("figure", *comparison.labels, right=range(1, len(comparison.runs) + 1))
    for row in comparison.words():
        made.add_row(*map(_judged, row))
    yield made


def table(*head: str, right: Sequence[int] | range = ()) -> Table:
    """An empty one. right: columns of numbers. Cells must be Text: a broker's words may look like rich's markup."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for at, name in enumerate(head):
        made.add_column(Text(name), justify="right" if at in right else "left", overflow="fold")
    return made


def _judged(cell: str) -> Text:
    """A cell of a comparison."""
    return Text(cell, style="green" if "▲" in cell else "red" if "▼" in cell else "")


def _verdict_table(verdict: Mapping[str, Any]) -> Table:
    made = table("", "threshold", "value", "limit", right=(2, 3))
    for row in verdict.get("rows", ()):
        sign, style = {True: ("✓", "green"), False: ("✗", "red")}.get(row.get("passed"), (NOTHING, "dim"))
        text = str(row.get("text", ""))
        figures = [Text(verdict_text(text, row.get(name))) for name in ("value", "threshold")]
        made.add_row(Text(sign, style=style), Text(text), *figures)
    return made


def _figure_table(run: Run) -> Table:
    made = table("figure", "value", right=(1,))
    for label, value in figure_words(run):
        made.add_row(Text(label), Text(value))
    return made


def _failure_table(run: Run) -> Table:
    made = table("failures", "outcome", "kind", "topic", "text", "message id", right=(0,))
    total = sum(group.count for group in run.failure_groups)
    for group in run.failure_groups[:ROWS]:
        count = f"{group.count:,} ({percent_text(group.count / total)})"
        words = (count, group.outcome, group.kind.replace("_", " "), group.topic, group.text, group.message_id)
        made.add_row(*map(Text, words))
    return made


def _alert_table(changes: Sequence[AlertChange], started_wall_s: float) -> Table:
    made = table("alerts", "", "rule", "severity", "text", right=(0,))
    for change in changes[:ROWS]:
        state = Text("▲ firing", style="red") if change.firing else Text("✓ resolved", style="green")
        text = change.text + (f" (muted: {change.muted})" if change.muted else "")
        made.add_row(
            Text(f"+{change.wall_s - started_wall_s:,.1f} s"),
            state,
            *map(Text, (change.rule, change.severity, text)),
        )
    return made


def _for_people(change: AlertChange) -> bool:
    """Began to fire, or ended: not those on their way there. Runs of AckScope 0.1 know no other."""
    return not change.state or (change.state in ("firing", "resolved") and change.state != change.previous)


def _left_out(run: Run, count: int, what: str) -> Iterator[Text]:
    if count > ROWS:
        how = f"ackscope runs export {run.run_id} {what}.csv --what {what}"
        yield Text(f"and {count - ROWS:,} more: {how}", style="dim")
