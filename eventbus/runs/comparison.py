"""Comparison: two runs or more beside each other, and what is better or worse than in the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eventbus.runs.run import Run
from eventbus.runs.shown import chosen, html_table
from eventbus.viz import chart, figures, frames, report
from eventbus.viz.steps import MAX_STEPS
from eventbus.viz.summary import FIGURES, Change, change
from eventbus.viz.words import figure_text, relative_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


class Comparison:
    """Runs beside each other, aligned at their beginnings; the first is what the others are compared with.

    tolerance: the share by which figures may differ and still be the same. labels: what the runs are called in charts,
    by default their titles.
    """

    def __init__(self, runs: Sequence[Run], tolerance: float, labels: Sequence[str] = ()) -> None:
        self.runs = tuple(runs)
        self.tolerance = tolerance
        names = labels or [run.title for run in runs]
        self.labels = tuple(f"{number}. {name}" for number, name in enumerate(names, 1))

    def rows(self) -> list[frames.Row]:
        """A row a figure and run: its value, the first run's, the relative change, and what became of it."""
        first = self.runs[0]
        return [
            {
                "figure": figure.name,
                "unit": str(figure.unit),
                "run": run.run_id,
                "name": run.title,
                "value": value,
                "first": before,
                "relative_change": None if value is None or not before else value / before - 1,
                "change": str(change(figure, before, value, self.tolerance)),
            }
            for figure in FIGURES
            for run in self.runs
            for before, value in [(figure.value(first.summary), figure.value(run.summary))]
        ]

    @property
    def worse(self) -> list[str]:
        """Names of figures that are worse in some run than in the first."""
        return list(dict.fromkeys(row["figure"] for row in self.rows() if row["change"] == Change.WORSE))

    def to_frame(self) -> pd.DataFrame:
        """A pandas frame, a row a figure and run."""
        return frames.frame(self.rows())

    def series_frame(self, step_s: float | None = None) -> pd.DataFrame:
        """Their courses in one frame: the rows of each, with its id and name in front; ``elapsed_s`` aligns them."""
        return frames.frame(
            [{"run": run.run_id, "name": run.title} | row for run in self.runs for row in run.rows("series", step_s)]
        )

    def charts(self, most: int = MAX_STEPS) -> dict[str, chart.Chart]:
        """Charts by name, as Plotly's JSON, with a line a run of at most ``most`` steps."""
        sides = tuple(zip(self.labels, self.runs, strict=True))
        return figures.comparison_charts(
            {label: run.steps(run.step_s(most)) for label, run in sides},
            {label: run.summary.ack for label, run in sides},
        )

    def figure(self, name: str = "p99", theme: str | None = None) -> go.Figure:
        """A chart with a line a run, as a go.Figure. name: sent, acked, p99, pending, failed, fates, percentiles."""
        return chart.as_figure(chosen(self.charts(), name), theme)

    def figures(self, theme: str | None = None, most: int = MAX_STEPS) -> dict[str, go.Figure]:
        """All of them by name, from one look at the runs."""
        return {name: chart.as_figure(made, theme) for name, made in self.charts(most).items()}

    def to_html(self) -> str:
        """The report: one HTML file that needs nothing else."""
        return report.comparison_page([run.facts() for run in self.runs])

    def words(self) -> list[tuple[str, ...]]:
        """A row a figure that is not nothing everywhere: its name, and for each run value, change and judgement."""
        told = []
        for figure in FIGURES:
            values = [figure.value(run.summary) for run in self.runs]
            if any(values):
                cells = [figure_text(values[0], figure.unit)]
                for value in values[1:]:
                    found = change(figure, values[0], value, self.tolerance)
                    sign = {Change.BETTER: "▲ better", Change.WORSE: "▼ worse"}.get(found, "")
                    by = relative_text(values[0], value, figure.unit)
                    cells.append(" ".join(filter(None, (figure_text(value, figure.unit), by, sign))))
                told.append((figure.label, *cells))
        return told

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        rows = self.words()
        text = "\n".join(f"  {row[0]:<22} " + "  ".join(f"{cell:<28}" for cell in row[1:]) for row in rows)
        head = ("figure", *self.labels)
        return {"text/plain": f"{'  '.join(head)}\n{text}", "text/html": html_table("Comparison", head, rows)}
