"""Run: one kept run: what it came to, its course as frames and figures, and the files that hand it on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventbus.errors import ConfigError
from eventbus.event import BusEvent
from eventbus.latency import LatencyHistogram
from eventbus.observe import AlertChange, FailedMessage, FailureGroup, RunInfo, Sample, StoreReader
from eventbus.runs.shown import chosen, html_table
from eventbus.viz import chart, export, figures, frames, report
from eventbus.viz.steps import MAX_STEPS, Step, step_for, steps
from eventbus.viz.summary import FIGURES, RunSummary, figures_of, summarize
from eventbus.viz.words import figure_text, verdict_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

FRAMES = ("series", "outcomes", "errors", "latency", "scheduled", "failures", "failed", "events", "alerts")
"""What ``Run.to_frame`` can give."""
FILES = (".csv", ".parquet", ".json", ".html")
"""Endings of files that a run is written as: the first two hold one of FRAMES, the others all there is."""
ALL = 1_000_000_000
"""More than any run has of anything."""


class Run:
    """One run as the store has it. Figures are read when they are first asked for, and then stay: ``refreshed`` looks

    again at a run that goes on.
    """

    def __init__(self, info: RunInfo, reader: StoreReader) -> None:
        self.info = info
        self._reader = reader

    def __repr__(self) -> str:
        return f"<Run {self.info.run_id} {self.info.status} {self.info.topic} on {self.info.url}>"

    @property
    def run_id(self) -> str:
        """Its id, which sorts by time."""
        return self.info.run_id

    @property
    def title(self) -> str:
        """Its name, or its id where it has none."""
        return self.info.name or self.info.run_id

    @property
    def verdict(self) -> Mapping[str, Any] | None:
        """Of its thresholds; None without any, or before it is over."""
        return self.info.verdict

    def refreshed(self) -> Run:
        """The same run as it is now."""
        info = self._reader.run(self.run_id)
        if info is None:
            raise ConfigError(f"store {self._reader.path} has no run {self.run_id!r} any more")
        return Run(info, self._reader)

    def each_sample(self) -> Iterator[Sample]:
        """All samples in time order, one by one: an hour of them at once would take some 500 MB."""
        return self._reader.each_sample(self.run_id)

    @property
    def samples(self) -> list[Sample]:
        """All samples in time order; see ``each_sample``."""
        return list(self.each_sample())

    @cached_property
    def summary(self) -> RunSummary:
        """What it came to, without its warm-up."""
        return summarize(self.each_sample())

    @property
    def latency(self) -> LatencyHistogram:
        """Ack latency from the last send to the ack, without the warm-up."""
        return self.summary.ack

    @cached_property
    def events(self) -> Sequence[BusEvent]:
        """What happened, in time order."""
        return tuple(self._reader.events(self.run_id, limit=ALL))

    @cached_property
    def failed(self) -> Sequence[FailedMessage]:
        """Messages that were not plainly acked, newest first; the first 10,000 were kept."""
        return tuple(self._reader.failed(self.run_id, limit=ALL))

    @cached_property
    def failure_groups(self) -> Sequence[FailureGroup]:
        """All of those, counted in groups, largest first."""
        return tuple(self._reader.failure_groups(self.run_id))

    @cached_property
    def alerts(self) -> Sequence[AlertChange]:
        """Alerts that went from one state to another, in time order."""
        return tuple(self._reader.alerts(self.run_id))

    def steps(self, step_s: float | None = None) -> Sequence[Step]:
        """The run cut into steps of so many seconds, at least 0.25; None: at most 600 steps."""
        if step_s is None:
            step_s = self.step_s()
        elif not 0.25 <= step_s < math.inf:
            raise ConfigError(f"steps of {step_s} s; samples are 0.25 s apart, give at least that")
        return tuple(steps(self.each_sample(), step_s))

    def step_s(self, most: int = MAX_STEPS) -> float:
        """The finest round step, in seconds, that cuts the run, as long as it is by now, into at most ``most``."""
        latest = self._reader.latest(self.run_id)
        return step_for(0.0 if latest is None else latest.elapsed_s, most)

    def rows(self, what: str = "series", step_s: float | None = None) -> list[frames.Row]:
        """The rows of a frame, as plain dicts; what: one of FRAMES."""
        match what:
            case "series":
                return frames.series_rows(self.steps(step_s))
            case "outcomes":
                return frames.outcome_rows(self.steps(step_s))
            case "errors":
                return frames.error_rows(self.steps(step_s))
            case "latency":
                return frames.latency_rows(self.summary.ack)
            case "scheduled":
                return frames.latency_rows(self.summary.scheduled)
            case "failures":
                return frames.failure_rows(self.failure_groups)
            case "failed":
                return frames.failed_rows(self.failed)
            case "events":
                return frames.event_rows(self.events, self.info.started_wall_s)
            case "alerts":
                return frames.alert_rows(self.alerts, self.info.started_wall_s)
            case _:
                raise ConfigError(f"there is no frame {what!r} of a run; there are {', '.join(FRAMES)}")

    def to_frame(self, what: str = "series", step_s: float | None = None) -> pd.DataFrame:
        """A tidy pandas frame, one row an observation, times in UTC, units in the names, words as categories.

        what: series (a row a step: counts, rates, gauges, percentiles), outcomes (a row a step and outcome), errors
        (a row a step and kind), latency, scheduled (a row a bucket), failures (a row a group), failed (a row a
        message), events, alerts. step_s: seconds of a step; None: at most 600 of them.
        """
        return frames.frame(self.rows(what, step_s), [frames.specimen(what)])

    def charts(self, step_s: float | None = None) -> dict[str, chart.Chart]:
        """Charts by name, as Plotly's JSON; what would show nothing is left out. step_s: as for ``steps``."""
        timeout = self.info.settings.get("ack_timeout_s")
        return figures.run_charts(
            self.steps(step_s),
            ack=self.summary.ack,
            scheduled=self.summary.scheduled,
            events=self.events,
            started_wall_s=self.info.started_wall_s,
            ack_timeout_s=timeout if isinstance(timeout, int | float) else None,
            verdict=self.verdict,
        )

    def figure(self, name: str = "latency", theme: str | None = None) -> go.Figure:
        """One chart as a go.Figure. name: rates, outcomes, latency, percentiles, heatmap, pending, age, errors, lag.

        theme: "light" or "dark"; None for Plotly's own.
        """
        return chart.as_figure(chosen(self.charts(), name), theme)

    def figures(self, theme: str | None = None, step_s: float | None = None) -> dict[str, go.Figure]:
        """All of them by name, from one look at the run."""
        return {name: chart.as_figure(made, theme) for name, made in self.charts(step_s).items()}

    def facts(self) -> report.RunFacts:
        """What a report tells of it."""
        return report.RunFacts(
            self.info, self.summary, self.steps(), self.events, self.alerts, self.failure_groups, version=_version()
        )

    def to_html(self) -> str:
        """The report: one HTML file that needs nothing else, of some 5 MB, most of it Plotly's script."""
        return report.run_page(self.facts())

    def to_dict(self) -> dict[str, Any]:
        """What is known of the run, without its course, as plain values."""
        info = dataclasses.asdict(self.info) | {"status": str(self.info.status)}
        return {"run": info, "figures": figures_of(self.summary), "errors": dict(self.summary.errors)}

    def export(self, path: Path | str, what: str = "series", step_s: float | None = None) -> Path:
        """Write a file, by the ending of its name: .csv or .parquet (one of FRAMES), .json (all of them), .html."""
        path = Path(path)
        ending = path.suffix.lower()
        if ending not in FILES:
            raise ConfigError(f"{path}: what is {ending!r}? A run is written as .csv, .parquet, .json or .html")
        export.write(self.content(ending, what, step_s), path)
        return path

    def content(self, ending: str, what: str = "series", step_s: float | None = None) -> bytes:
        """What ``export`` writes into a file of that ending, one of FILES."""
        match ending:
            case ".csv":
                return export.to_csv(self.rows(what, step_s), frames.specimen(what)).encode()
            case ".parquet":
                return export.to_parquet(self.rows(what, step_s), [frames.specimen(what)])
            case ".json":
                course = {name: self.rows(name, step_s) for name in FRAMES}
                return export.to_json(self.to_dict() | course).encode()
            case ".html":
                return self.to_html().encode()
            case _:
                raise ConfigError(f"a run is not written as {ending!r}; give one of {', '.join(FILES)}")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        rows = figure_words(self)
        title = f"{self.title}: {self.info.status}, {self.info.topic} on {self.info.url}"
        text = "\n".join([title, *(f"  {label:<22} {value}" for label, value in rows)])
        return {"text/plain": text, "text/html": html_table(title, ("figure", "value"), rows)}


def figure_words(run: Run) -> list[tuple[str, str]]:
    """What a run came to: label and value of every figure that it has."""
    return [
        (figure.label, figure_text(value, figure.unit))
        for figure in FIGURES
        if (value := figure.value(run.summary)) is not None
    ]


def threshold_text(row: Mapping[str, Any], name: str) -> str:
    """A figure of a verdict's row, "value" or "threshold", with the unit that its expression says."""
    return verdict_text(str(row.get("text", "")), row.get(name))


def _version() -> str:
    try:
        return metadata.version("ackscope")
    except metadata.PackageNotFoundError:
        return ""
