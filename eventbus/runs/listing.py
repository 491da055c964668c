"""Runs: several of them as a list, and one of its rows, as plain values and in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from eventbus.observe import RunInfo
from eventbus.runs.run import Run
from eventbus.runs.shown import html_table
from eventbus.viz import frames
from eventbus.viz.words import duration_text, time_text

if TYPE_CHECKING:
    import pandas as pd


class Runs(tuple[Run, ...]):
    """Runs, newest first; in a notebook a table."""

    __slots__ = ()

    def rows(self) -> list[frames.Row]:
        """A row a run."""
        return [run_row(run.info) for run in self]

    def to_frame(self) -> pd.DataFrame:
        """A pandas frame, a row a run."""
        return frames.frame(self.rows())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        told = [run_words(run.info) for run in self]
        rows = [tuple(words.values()) for words in told]
        text = "\n".join("  ".join(row) for row in rows) or "no runs"
        return {"text/plain": text, "text/html": html_table(f"{len(self)} runs", tuple(told[0]) if told else (), rows)}


def run_row(info: RunInfo) -> frames.Row:
    """A run as a row of plain values."""
    return {
        "run": info.run_id,
        "name": info.name,
        "status": str(info.status),
        "passed": None if info.verdict is None else info.verdict.get("passed"),
        "baseline": info.baseline,
        "started": datetime.fromtimestamp(info.started_wall_s, UTC),
        "duration_s": None if info.ended_wall_s is None else info.ended_wall_s - info.started_wall_s,
        "topic": info.topic,
        "url": info.url,
        "error": info.error,
        "notes": info.notes,
    }


def run_words(info: RunInfo) -> dict[str, str]:
    """A run in words, by what they are."""
    return {
        "run": info.run_id,
        "name": (info.name + (" (baseline)" if info.baseline else "")).strip(),
        "status": str(info.status),
        "verdict": "" if info.verdict is None else "✓ passed" if info.verdict.get("passed") else "✗ failed",
        "took": "" if info.ended_wall_s is None else duration_text(info.ended_wall_s - info.started_wall_s),
        "topic": info.topic,
        "started": time_text(info.started_wall_s),
        "broker": info.url,
    }
