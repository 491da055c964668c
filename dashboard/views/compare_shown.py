"""What Compare shows of runs beside each other: verdicts, curves, the table of figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from dashboard import comparison, style, widgets
from dashboard.comparison_figures import (
    FaultMark,
    Side,
    draw_faults,
    fault_marks,
    fault_spans,
    memory_chart,
    memory_of,
    show_lost,
)
from dashboard.comparison_findings import findings
from dashboard.views.run_figures import MOST_POINTS, PLOTLY, Version, compared, theme, version_of
from eventbus import runs
from eventbus.observe import RunInfo, StoreReader
from eventbus.viz import chart
from eventbus.viz.summary import Change, Figure, Unit, change
from eventbus.viz.words import relative_text

CHARTS = {
    "fates": ("What became of the messages", "shares", "What became of the messages of each run, as shares"),
    "sent": ("Sent", "messages/s", "Messages sent per second, a line a run"),
    "acked": ("Ack rate", "messages/s", "Messages acked per second, a line a run"),
    "p99": ("Ack latency p99", "ms, log scale", "99th percentile of the ack latency, a line a run"),
    "pending": ("Pending", "messages, peak", "Messages pending, a line a run"),
    "memory": (
        "Memory",
        "MiB resident, of the process that publishes",
        "Resident memory of the process that publishes, a line a run",
    ),
    "failed": ("Failures", "messages/s, rejected and unknown", "Messages failed per second, a line a run"),
    "percentiles": ("Latency distribution", "ms, log scale", "Distribution of the ack latency, a line a run"),
}
"""Heading, unit and words for those who do not see it. The heading is the page's and not the chart's: it is there while
Plotly still draws, which can take seconds on a busy machine, and it wraps on a narrow page."""
HEIGHT = 270
NO_MEMORY = "kept by an older AckScope, or where the system does not tell"
NOT_COUNTED = "counted only in comparisons that run here, on an embedded broker that kept its store all the time"
_PEAK = Figure("resident_max_bytes", "memory, peak", Unit.MESSAGES, -1, lambda summary: None)
_GROWTH = Figure("resident_growth_bytes", "memory, growth", Unit.MESSAGES, -1, lambda summary: None)


@dataclass(frozen=True, slots=True)
class _Compared:
    """Runs beside each other with all that is shown of them. marks: of the faults in them."""

    sides: Sequence[Side]
    marks: Sequence[FaultMark]
    figures: Mapping[str, Any]


def shown(source: StoreReader, infos: Sequence[RunInfo]) -> None:
    """Draw it all. Raises StoreError, and ConfigError where a package is missing."""
    found = compared(source, infos)
    if any(info.settings.get("embedded") == "kafka" for info in infos):
        widgets.mock_note()
    everything = _everything(found, tuple(version_of(source, run.info) for run in found.runs), theme())
    _plan(found, everything.marks)
    _advice(everything.sides)
    _sentence(found)
    told = [name for name in CHARTS if name in everything.figures and _says_something(everything.figures[name])]
    even = len(told) - len(told) % 2
    with st.grid(2, min_column_width=430):
        for name in told[:even]:
            _chart(everything.figures[name], name)
    for name in told[even:]:  # the odd one takes the whole width, so that no place is empty beside it
        _chart(everything.figures[name], name)
    st.subheader("Figures")
    _table(found, everything.sides)
    st.download_button(
        "Report",
        data=lambda: found.to_html().encode(),
        file_name="comparison.html",
        mime="text/html",
        icon=":material/download:",
        on_click="ignore",
        key="comparison-report",
        help="One HTML page with these charts that needs nothing else, of some 5 MB",
    )


@st.cache_resource(max_entries=16, show_spinner="Reading the runs…")
def _everything(_found: runs.Comparison, versions: tuple[Version, ...], theme: str) -> _Compared:
    sides = [Side(run, memory_of(run.each_sample(), run.step_s(MOST_POINTS))) for run in _found.runs]
    marks = fault_marks(
        [fault_spans(run.events, run.info.started_wall_s) for run in _found.runs],
        [run.summary.warm_up_s + run.summary.duration_s for run in _found.runs],
    )
    charts = _found.charts(MOST_POINTS)
    charts["memory"] = memory_chart({label: s.memory for label, s in zip(_found.labels, sides, strict=True)})
    show_lost(charts["fates"], {label: s.lost_unseen or 0 for label, s in zip(_found.labels, sides, strict=True)})
    draw_faults(charts, marks, len(sides))
    for made in charts.values():
        made["layout"] |= {"title": None, "height": HEIGHT, "margin": made["layout"]["margin"] | {"t": 8}}
    return _Compared(sides, marks, {name: chart.as_figure(made, theme) for name, made in charts.items()})


def _chart(figure: Any, name: str) -> None:
    title, unit, alt = CHARTS[name]
    with st.container(border=True, gap="xxsmall"):
        widgets.heading(title, unit)
        st.plotly_chart(figure, theme=None, key=f"compared-{name}", config=PLOTLY, alt=alt)


def _says_something(figure: Any) -> bool:
    return any(trace.type == "bar" or any(trace.y) for trace in figure.data)


def _plan(found: runs.Comparison, marks: Sequence[FaultMark]) -> None:
    """What the runs did, where that is the same for all of them, and what was broken meanwhile."""
    told = [":material/bolt: " + widgets.plain(_fault_text(mark, len(found.runs))) for mark in marks]
    if told:
        st.markdown(":small[" + "]  \n:small[".join(told) + "]")


def _fault_text(mark: FaultMark, number: int) -> str:
    whose = "each run" if len(mark.runs) == number else f"run {', '.join(str(place + 1) for place in mark.runs)}"
    return f"{mark.title}: in {whose} from {mark.from_s:.1f} s to {mark.until_s:.1f} s"


def _advice(sides: Sequence[Side]) -> None:
    """What the runs teach, where they are of several strategies."""
    told = findings(sides)
    if not told:
        return
    with st.grid(len(told), min_column_width=270):
        for finding in told:
            colour, icon = {True: ("green", "thumb_up"), False: ("red", "warning"), None: ("orange", "info")}[
                finding.good
            ]
            with st.container(border=True, gap="xsmall", height="stretch"):
                st.markdown(widgets.badge(colour, icon, comparison.STRATEGY_NAMES[finding.strategy]))
                st.markdown(f"**{widgets.plain(finding.title)}.** {widgets.plain(finding.text)}")


def _sentence(found: runs.Comparison) -> None:
    """The whole comparison in one line."""
    first = widgets.plain(found.labels[0])
    worse = [row["figure"] for row in found.rows() if row["change"] == "worse"]
    if worse:
        figures = len(set(worse))
        st.markdown(
            f":material/compare_arrows: Compared with **{first}**: {figures} figure{'s' * (figures != 1)} "
            f"worse in some run. Differences up to {found.tolerance:.0%} count as none."
        )
    else:
        st.markdown(
            f":material/compare_arrows: Compared with **{first}**: nothing is worse. Differences up to "
            f"{found.tolerance:.0%} count as none."
        )


# ---- the table --------------------------------------------------------------------------------------------------


def _table(found: runs.Comparison, sides: Sequence[Side]) -> None:
    """A row a figure, a column a run; what is better or worse has a colour, a sign and its word."""
    heads = ["Figure", *map(widgets.plain, found.labels)]
    told = [*found.words(), *_more_words(sides, found.tolerance)]
    rows = [dict(zip(heads, [row[0], *map(_cell, row[1:])], strict=True)) for row in told]
    st.table(rows, border="horizontal", hide_index=True, alt="Figures of the runs beside each other")
    missing = []
    if any(side.memory is None for side in sides):
        missing.append(f"Memory: {NO_MEMORY}")
    if any(side.stored is None for side in sides):
        missing.append(f"Stored by the broker: {NOT_COUNTED}")
    if missing:
        st.caption(f"{style.NOTHING} where it is not known. {'. '.join(missing)}.")


def _more_words(sides: Sequence[Side], tolerance: float) -> list[tuple[str, ...]]:
    """Rows of what is measured here, as those of a run's own figures are."""
    peaks = [None if side.memory is None else side.memory.peak for side in sides]
    growths = [None if side.memory is None else side.memory.growth for side in sides]
    return [
        (_PEAK.label, *_judged(_PEAK, peaks, tolerance)),
        (_GROWTH.label, *_judged(_GROWTH, growths, tolerance)),
        ("stored by the broker", *(style.NOTHING if s.stored is None else style.count(s.stored) for s in sides)),
        ("sent, warm-up too", *(style.NOTHING if s.sent is None else style.count(s.sent) for s in sides)),
    ]


def _judged(figure: Figure, values: Sequence[int | None], tolerance: float) -> list[str]:
    cells = []
    for place, value in enumerate(values):
        text = style.NOTHING if value is None else style.size(value)
        found = Change.NONE if place == 0 else change(figure, values[0], value, tolerance)
        sign = {Change.BETTER: "▲ better", Change.WORSE: "▼ worse"}.get(found, "")
        by = "" if place == 0 else relative_text(values[0], value, figure.unit)
        cells.append(" ".join(filter(None, (text, by, sign))))
    return cells


def _cell(cell: str) -> str:
    for sign, colour in (("▲ better", "green"), ("▼ worse", "red")):
        if cell.endswith(sign):
            return f"{widgets.plain(cell.removesuffix(sign))} :{colour}[{sign}]"
    return widgets.plain(cell)
