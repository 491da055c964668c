"""Runs that were kept: find them, look into them, compare them, hand them on.

    from eventbus import runs

    runs.list()                     the newest first; in a notebook a table
    run = runs.open("last")         or an id, the beginning of one, or "baseline"
    run.summary                     what it came to
    run.to_frame()                  tidy, in UTC, with units in the names
    runs.compare(["baseline", "last"])
    run = await runs.drive("smoke", url="nats://127.0.0.1:4222")        a preset, a plan's file, or a LoadPlan

All but ``drive`` reads; names, notes and pins are changed by ``eventbus.observe.RunEditor``. ``store`` is a file, by
default the one that the dashboard and the command line write. Raises StoreError where it cannot be read, and
ConfigError where there is no such run, or where a package of the extra ``runs`` is missing.
"""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from html import escape
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventbus.errors import ConfigError
from eventbus.event import BusEvent
from eventbus.latency import LatencyHistogram
from eventbus.observe import (
    AlertChange,
    FailedMessage,
    FailureGroup,
    RunInfo,
    Sample,
    StoreReader,
    StoreWriter,
    default_store_path,
)
from eventbus.viz import chart, export, figures, frames, report
from eventbus.viz.steps import MAX_STEPS, Step, step_for, steps
from eventbus.viz.summary import FIGURES, Change, RunSummary, change, figures_of, summarize
from eventbus.viz.words import duration_text, figure_text, relative_text, time_text, verdict_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from eventbus.load.plan import LoadPlan

__all__ = [
    "FILES",
    "FRAMES",
    "Comparison",
    "Run",
    "Runs",
    "compare",
    "drive",
    "figure_words",
    "list",
    "open",
    "summarize",
    "threshold_text",
]

FRAMES = ("series", "outcomes", "errors", "latency", "scheduled", "failures", "failed", "events", "alerts")
"""What ``Run.to_frame`` can give."""
FILES = (".csv", ".parquet", ".json", ".html")
"""Endings of files that a run is written as: the first two hold one of FRAMES, the others all there is."""
ALL = 1_000_000_000


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
        return _found(self._reader, self.run_id)

    def each_sample(self) -> Iterator[Sample]:
        """All samples in time order, one by one: an hour of them at once would take some 500 MB."""
        return self._reader.each_sample(self.run_id)

    @property
    def samples(self) -> builtins.list[Sample]:
        """All samples in time order; see ``each_sample``."""
        return builtins.list(self.each_sample())

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
        elif step_s < 0.25:
            raise ConfigError(f"steps of {step_s} s; samples are 0.25 s apart, give at least that")
        return tuple(steps(self.each_sample(), step_s))

    def step_s(self, most: int = MAX_STEPS) -> float:
        """The finest round step, in seconds, that cuts the run, as long as it is by now, into at most ``most``."""
        latest = self._reader.latest(self.run_id)
        return step_for(0.0 if latest is None else latest.elapsed_s, most)

    def rows(self, what: str = "series", step_s: float | None = None) -> builtins.list[frames.Row]:
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
        return chart.as_figure(_chart(self.charts(), name), theme)

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
        return {"text/plain": text, "text/html": _html(title, ("figure", "value"), rows)}


class Runs(tuple[Run, ...]):
    """Runs, newest first; in a notebook a table."""

    __slots__ = ()

    def rows(self) -> builtins.list[frames.Row]:
        """A row a run."""
        return [run_row(run.info) for run in self]

    def to_frame(self) -> pd.DataFrame:
        """A pandas frame, a row a run."""
        return frames.frame(self.rows())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        told = [run_words(run.info) for run in self]
        rows = [tuple(words.values()) for words in told]
        text = "\n".join("  ".join(row) for row in rows) or "no runs"
        return {"text/plain": text, "text/html": _html(f"{len(self)} runs", tuple(told[0]) if told else (), rows)}


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

    def rows(self) -> builtins.list[frames.Row]:
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
    def worse(self) -> builtins.list[str]:
        """Names of figures that are worse in some run than in the first."""
        return builtins.list(dict.fromkeys(row["figure"] for row in self.rows() if row["change"] == Change.WORSE))

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
        return chart.as_figure(_chart(self.charts(), name), theme)

    def figures(self, theme: str | None = None, most: int = MAX_STEPS) -> dict[str, go.Figure]:
        """All of them by name, from one look at the runs."""
        return {name: chart.as_figure(made, theme) for name, made in self.charts(most).items()}

    def to_html(self) -> str:
        """The report: one HTML file that needs nothing else."""
        return report.comparison_page([run.facts() for run in self.runs])

    def words(self) -> builtins.list[tuple[str, ...]]:
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
        head = ("figure", *(run.title for run in self.runs))
        return {"text/plain": f"{'  '.join(head)}\n{text}", "text/html": _html("Comparison", head, rows)}


def list(store: Path | str | None = None, limit: int = 50) -> Runs:
    """The newest runs, newest first."""
    reader = _reader(store)
    return Runs(Run(info, reader) for info in reader.runs(limit=limit))


def open(run: str = "last", store: Path | str | None = None) -> Run:
    """One run, by its id, the beginning of its id, "last", or "baseline": the newest that is pinned."""
    return _found(_reader(store), run)


async def drive(
    plan: LoadPlan | Path | str,
    *,
    store: Path | str | None = None,
    on_sample: Callable[[Sample], None] | None = None,
    **instead: Any,
) -> Run:
    """Run a plan on this loop, as ``ackscope load`` does, keep it, and give it back when it is over.

    plan: a LoadPlan, a TOML file's path, or the name of a preset. instead: other values for its settings, as ``url``.
    on_sample: called four times a second; it must not wait or raise. Other work on the loop adds to the latencies.
    Cancellation ends the run at once and keeps what was. Raises ConfigError, ConnectFailed, TopicError, StoreError.
    """
    from eventbus.clock import SystemClock  # here: whoever only reads needs no broker's client
    from eventbus.load.payload import open_messages
    from eventbus.load_bus import driver

    chosen = await asyncio.to_thread(_plan, plan, instead)
    messages = await asyncio.to_thread(open_messages, chosen)
    path = Path(store) if store is not None else default_store_path()
    writer = StoreWriter(path)
    try:
        run = driver(chosen, messages, clock=SystemClock())(writer=writer, on_sample=on_sample)
        await run.open()
        await run.run()
    finally:
        await asyncio.shield(asyncio.to_thread(writer.close))
    if writer.error is not None:
        raise writer.error
    assert run.run_id is not None
    return open(run.run_id, path)


def _plan(plan: LoadPlan | Path | str, instead: Mapping[str, Any]) -> LoadPlan:
    from eventbus.load.plan import LoadPlan
    from eventbus.load.plan_file import plan_from
    from eventbus.load.presets import PRESETS, preset

    if isinstance(plan, str) and (plan in PRESETS or not plan.endswith(".toml")):
        return preset(plan).plan(**instead)
    found = plan if isinstance(plan, LoadPlan) else plan_from(Path(plan))
    if "url" in instead:
        instead = {"embedded": None, **instead}  # as the url says
    return dataclasses.replace(found, **instead)


def compare(ids: Sequence[str], store: Path | str | None = None, tolerance: float = 0.05) -> Comparison:
    """Two to four runs, each as for ``open``; the first is what the others are compared with."""
    if not 2 <= len(ids) <= 4:
        raise ConfigError(f"{len(ids)} runs cannot be compared; give two to four")
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance is {tolerance}; give a share from 0 to below 1, as 0.05")
    reader = _reader(store)
    return Comparison([_found(reader, run) for run in ids], tolerance)


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


def figure_words(run: Run) -> builtins.list[tuple[str, str]]:
    """What a run came to: label and value of every figure that it has."""
    return [
        (figure.label, figure_text(value, figure.unit))
        for figure in FIGURES
        if (value := figure.value(run.summary)) is not None
    ]


def threshold_text(row: Mapping[str, Any], name: str) -> str:
    """A figure of a verdict's row, "value" or "threshold", with the unit that its expression says."""
    return verdict_text(str(row.get("text", "")), row.get(name))


def _reader(store: Path | str | None) -> StoreReader:
    return StoreReader(default_store_path() if store is None else store)


def _found(reader: StoreReader, run: str) -> Run:
    known = reader.run(run)
    if known is not None:
        return Run(known, reader)
    infos = reader.runs(limit=ALL)
    if not infos:
        raise ConfigError(f"no runs are kept in {reader.path}")
    if run == "last":
        return Run(infos[0], reader)
    if run == "baseline":
        pinned = [info for info in infos if info.baseline]
        if not pinned:
            raise ConfigError(f"no run in {reader.path} is pinned as a baseline; `ackscope runs pin RUN` does it")
        return Run(pinned[0], reader)
    matching = [info for info in infos if run and info.run_id.startswith(run)]
    if len(matching) == 1:
        return Run(matching[0], reader)
    if matching:
        raise ConfigError(f"{len(matching)} runs begin with {run!r}, as {matching[0].run_id} and {matching[1].run_id}")
    named = [info for info in infos if run and info.name == run]
    if named:
        return Run(named[0], reader)
    raise ConfigError(f"store {reader.path} has no run {run!r}; give an id, its beginning, a name, last or baseline")


def _chart(charts: Mapping[str, chart.Chart], name: str) -> chart.Chart:
    if name not in charts:
        raise ConfigError(f"there is no figure {name!r} of this; there are {', '.join(charts) or 'none'}")
    return charts[name]


def _html(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag} style='text-align:left'>{escape(cell)}</{tag}>" for cell in row)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<b>{escape(title)}</b><table><thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"


def _version() -> str:
    try:
        return metadata.version("ackscope")
    except metadata.PackageNotFoundError:
        return ""
