"""Runs and their figures as pages look at them, kept for the next look: all sessions share what was read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard.comparison import label_of
from eventbus import runs
from eventbus.observe import RunInfo, StoreReader

MOST_POINTS = 300
"""Of a line: more than there are pixels for it in half a page."""
TOLERANCE = 0.05
PLOTLY: dict[str, Any] = {
    "displaylogo": False,
    "displayModeBar": "hover",
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}

Version = tuple[str, ...]
"""What a run is told apart by from itself at another time."""


def opened(source: StoreReader, info: RunInfo) -> runs.Run:
    """A run whose figures are read once, and again when it has changed. Raises StoreError."""
    return _opened(source, info, version_of(source, info))


def compared(source: StoreReader, infos: Sequence[RunInfo]) -> runs.Comparison:
    """Runs beside each other, the first of them the one that the others are compared with."""
    found = [opened(source, info) for info in infos]
    return runs.Comparison(found, TOLERANCE, [label_of(run) for run in found])


def figures_of(source: StoreReader, run: runs.Run) -> Mapping[str, Any]:
    """Plotly figures of a run by name, in the colours of the viewer's page."""
    return _figures(run, (version_of(source, run.info),), theme())


def version_of(source: StoreReader, info: RunInfo) -> Version:
    """Changes with all that is shown of a run: what people said of it, how it ended, and, while it goes on, time."""
    latest = None if info.status.is_over else source.latest(info.run_id)
    now = "" if latest is None else f"{latest.elapsed_s}"
    said = (info.name, info.notes, str(info.baseline))
    return (str(source.path), info.run_id, info.status, str(info.ended_wall_s), *said, now)


def theme() -> str:
    """Of the viewer's page: light or dark."""
    return "dark" if st.context.theme.type == "dark" else "light"


def draw(figure: Any, key: str, alt: str) -> None:
    """One Plotly chart in a frame, in the colours that it was made with."""
    with st.container(border=True):
        st.plotly_chart(figure, theme=None, key=key, config=PLOTLY, alt=alt)


@st.cache_resource(max_entries=16, show_spinner=False)
def _opened(_source: StoreReader, _info: RunInfo, version: Version) -> runs.Run:
    return runs.Run(_info, _source)


@st.cache_resource(max_entries=16, show_spinner="Reading the run…")
def _figures(_run: runs.Run, versions: tuple[Version, ...], theme: str) -> Mapping[str, Any]:
    return _run.figures(theme, _run.step_s(MOST_POINTS))
