"""Output: where the result of a race goes: table, JSON, picture."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import plot
from benchmarks.catalog import Race
from benchmarks.machine import Machine, in_words
from benchmarks.result import Record, rows_of, wrong
from benchmarks.table import as_markdown, as_table

_BUSY = 0.5
"""Load average from which the numbers say more about the machine's other work than about a contestant."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where to. plot: its suffix says the format. markdown: a table for a README, None for none."""

    json: Path
    plot: Path
    markdown: Path | None

    def give(
        self, race: Race, machine: Machine, settings: dict[str, Any], records: Sequence[Record],
        skipped: Mapping[str, str], say: Console,
    ) -> list[str]:  # fmt: skip
        """Print the table and write the files; returns what makes the run worthless, in words."""
        rows = rows_of(race, records)
        console = Console()
        if not console.is_terminal:
            console.width = 150
        console.print(as_table(race, rows, settings))
        console.print(in_words(machine), highlight=False, markup=False, soft_wrap=True)
        if float(machine["load"]) > _BUSY:
            say.print(
                f"load was {machine['load']} before the run began: others used the processor, do not trust the numbers"
            )
        write_json(self.json, race.kind, machine=machine, settings=settings, skipped=dict(skipped), contestants=rows)
        if self.markdown is not None:
            self.markdown.write_text(as_markdown(race, rows, settings), encoding="utf-8")
        no_plot = plot.missing() or (None if any(row["messages_per_s"] for row in rows) else "no plot: no result")
        if no_plot:
            say.print(no_plot, markup=False)
        else:
            plot.draw(race, rows, settings, in_words(machine), self.plot)
        written = f"written: {self.json}{'' if no_plot else f', {self.plot}'}"
        say.print(written, highlight=False, markup=False, soft_wrap=True)
        return wrong(rows)


def write_json(path: Path, benchmark: str, **parts: Any) -> None:
    """A benchmark's parts, and when and by what command they were made."""
    data = {
        "benchmark": benchmark,
        "made_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks {' '.join(sys.argv[1:])}",
        **parts,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def complain(say: Console, complaints: Sequence[str]) -> None:
    """Say what is wrong and end the program: exit code 1 if anything is."""
    for complaint in complaints:
        say.print(f"wrong: {complaint}", style="bold red", highlight=False, markup=False)
    sys.exit(1 if complaints else 0)
