"""The result as a table, for a terminal and for a README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from benchmarks.catalog import Race

Row = dict[str, Any]


def as_table(race: Race, rows: Sequence[Row], settings: dict[str, Any]) -> Table:
    """Medians; ``-`` where something was not measured, and why stands in benchmarks/README.md."""
    table = Table(
        title=f"{race.title}, {settings['payload_bytes']}-byte messages, window {settings['window']:,}, "
        f"{settings['setup']}, median of {settings['rounds']}",
        title_justify="left",
    )
    table.add_column("contestant", no_wrap=True)
    if race.has_ids:
        table.add_column("ids")
    for heading in (
        "msg/s", *(comparison.heading for comparison in race.rates),
        "CPU us", *(comparison.heading for comparison in race.cpus),
        f"p50 ms\nat {settings['rate']:,.0f}/s", "p99 ms", *(heading for _, heading, _ in race.memory), "lost",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*cells(race, row, settings))
    return table


def cells(race: Race, row: Row, settings: dict[str, Any]) -> list[str]:
    """One row in words, a cell for each column."""
    label = row["label"] if row["loop"] == "asyncio" else f"{row['label']}, {row['loop']}"
    kept = row["paced_rate"] is None or row["paced_rate"]["median"] > 0.95 * settings["rate"]
    slow = "" if kept else "!"
    return [
        label,
        *(["yes" if row["message_ids"] else "no"] if race.has_ids else []),
        _number(row["messages_per_s"], ",.0f"),
        *(_ratio(row[comparison.reference.key], "rate", comparison.form) for comparison in race.rates),
        _number(row["cpu_us_per_message"], ".1f"),
        *(_ratio(row[comparison.reference.key], "cpu", comparison.form) for comparison in race.cpus),
        _number(row["p50_ms"], ".2f") + slow,
        _number(row["p99_ms"], ".2f") + slow,
        *(_number(row[figure], ",.0f") for figure, _, _ in race.memory),
        "failed" if row["failure"] else f"[bold red]{row['lost']:,}[/]" if row["lost"] else "0",
    ]


def _number(spread: dict[str, float] | None, form: str) -> str:
    return "-" if spread is None else format(spread["median"], form)


def _ratio(ratios: dict[str, float] | None, name: str, form: str) -> str:
    return "-" if ratios is None or name not in ratios else f"{ratios[name]:{form}}x"


def as_markdown(race: Race, rows: Sequence[Row], settings: dict[str, Any]) -> str:
    """The same for a README."""
    headings = [
        "contestant", *(["ids"] if race.has_ids else []),
        "msg/s", *(comparison.long_heading for comparison in race.rates),
        "CPU µs/msg", *(comparison.long_heading for comparison in race.cpus),
        "p50 ms", "p99 ms", *(heading for _, _, heading in race.memory), "lost",
    ]  # fmt: skip
    words = 2 if race.has_ids else 1
    lines = [headings, [*["---"] * words, *["---:"] * (len(headings) - words)]]
    for row in rows:
        lines.append([cell.replace("[bold red]", "**").replace("[/]", "**") for cell in cells(race, row, settings)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
