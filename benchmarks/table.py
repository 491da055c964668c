"""The result as a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

Row = dict[str, Any]


def as_table(rows: Sequence[Row], settings: dict[str, Any]) -> Table:
    """Medians; ``-`` where something was not measured, and why stands in benchmarks/README.md."""
    table = Table(
        title=f"NATS JetStream, {settings['payload_bytes']}-byte messages, window {settings['window']:,}, "
        f"memory storage, median of {settings['rounds']}",
        title_justify="left",
    )
    table.add_column("contestant", no_wrap=True)
    table.add_column("ids")
    for heading in ("msg/s", "of floor", "of async", "CPU us", "of async"):
        table.add_column(heading, justify="right")
    for heading in (f"p50 ms\nat {settings['rate']:,.0f}/s", "p99 ms", "bytes per\npending", "bytes,\nfrozen"):
        table.add_column(heading, justify="right")
    table.add_column("lost", justify="right")
    for row in rows:
        table.add_row(*cells(row, settings))
    return table


def cells(row: Row, settings: dict[str, Any]) -> list[str]:
    """One row in words, a cell for each column."""
    label = row["label"] if row["loop"] == "asyncio" else f"{row['label']}, {row['loop']}"
    kept = row["paced_rate"] is None or row["paced_rate"]["median"] > 0.95 * settings["rate"]
    slow = "" if kept else "!"
    return [
        label,
        "yes" if row["message_ids"] else "no",
        _number(row["messages_per_s"], ",.0f"),
        _ratio(row["to_floor"], "rate", ".2f"),
        _ratio(row["to_publish_async"], "rate", ".1f"),
        _number(row["cpu_us_per_message"], ".1f"),
        _ratio(row["to_publish_async"], "cpu", ".2f"),
        _number(row["p50_ms"], ".2f") + slow,
        _number(row["p99_ms"], ".2f") + slow,
        _number(row["bytes_per_pending"], ",.0f"),
        _number(row["bytes_per_pending_frozen"], ",.0f"),
        "failed" if row["failure"] else f"[bold red]{row['lost']:,}[/]" if row["lost"] else "0",
    ]


def _number(spread: dict[str, float] | None, form: str) -> str:
    return "-" if spread is None else format(spread["median"], form)


def _ratio(ratios: dict[str, float] | None, name: str, form: str) -> str:
    return "-" if ratios is None or name not in ratios else f"{ratios[name]:{form}}x"


def as_markdown(rows: Sequence[Row], settings: dict[str, Any]) -> str:
    """The same for a README."""
    headings = (
        "contestant", "ids", "msg/s", "of floor", "of publish_async", "CPU µs/msg", "of publish_async", "p50 ms",
        "p99 ms", "bytes per pending", "bytes, server frozen", "lost",
    )  # fmt: skip
    lines = [headings, ["---", "---", *["---:"] * (len(headings) - 2)]]
    lines += [[cell.replace("[bold red]", "**").replace("[/]", "**") for cell in cells(row, settings)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
