"""Explore: one run at leisure, with charts to zoom into and to hover over, and its rows to read and to take along."""

from __future__ import annotations

import streamlit as st

from dashboard import widgets
from dashboard.views import run_choice
from dashboard.views.live import STATUSES
from dashboard.views.run_choice import Control
from dashboard.views.run_figures import draw, figures_of, opened
from dashboard.views.run_files import FRAMES, downloads
from eventbus import runs
from eventbus.errors import ConfigError
from eventbus.observe import RunInfo, StoreError, StoreReader

CHARTS = {
    "rates": "Rates",
    "outcomes": "Outcomes",
    "latency": "Ack latency",
    "percentiles": "Latency distribution",
    "heatmap": "Latency heatmap",
    "pending": "Pending",
    "age": "Oldest pending",
    "errors": "Errors by kind",
    "lag": "Lag of the load",
}
"""Charts of a run by name, as ``eventbus.runs.Run.figures`` has them, and what people call them."""
FIRST = ("rates", "outcomes", "latency", "percentiles")
STEPS = {"auto": None, "every sample": 0.25, "1 s": 1.0, "5 s": 5.0, "10 s": 10.0, "1 min": 60.0}
PAGE_ROWS = 300
TABLE_HEIGHT = 390


def page(source: StoreReader, control: Control) -> None:
    """Draw the page. Nothing is drawn again by itself, so that a zoom stays."""
    try:
        info = run_choice.choose(source, control)
        if info is None:
            return
        _badges(info)
        run = opened(source, info)
        latest = source.latest(info.run_id)
        if latest is None:
            st.info(
                "No sample was kept of this run, so there is nothing to draw."
                + (" It has only just begun." if not info.status.is_over else ""),
                icon=":material/hourglass_empty:",
            )
            return
        _charts(source, run)
        _table(run)
    except StoreError as error:
        run_choice.store_trouble(error)
    except ConfigError as error:  # a package of the extra ``runs`` is missing
        st.error(widgets.plain(str(error)), title="This cannot be drawn", icon=":material/error:")


def _badges(info: RunInfo) -> None:
    colour, icon = STATUSES[info.status]
    badges = [
        widgets.badge(colour, icon, str(info.status)),
        widgets.badge("gray", "dns", widgets.broker_name(info)),
        widgets.badge("gray", "sell", info.topic),
    ]
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(" ".join(badges), width="content")
        if not info.status.is_over:
            st.button(
                "Read again", icon=":material/refresh:", key="again", help="The run goes on; what is drawn stays still."
            )
    if info.settings.get("embedded") == "kafka":
        widgets.mock_note()


def _charts(source: StoreReader, run: runs.Run) -> None:
    st.subheader("Charts")
    chosen = st.pills(
        "Charts",
        list(CHARTS),
        selection_mode="multi",
        default=list(FIRST),
        format_func=CHARTS.__getitem__,
        key="charts",
        label_visibility="collapsed",
        persist_state="session",
    )
    figures = figures_of(source, run)
    shown = [name for name in CHARTS if name in (chosen or ()) and name in figures]
    with st.grid(2 if len(shown) > 1 else 1, min_column_width=430):
        for name in shown:
            draw(figures[name], f"chart-{name}", f"{CHARTS[name]} of the run over time")
    missing = [CHARTS[name] for name in chosen or () if name not in figures]
    if missing:
        st.caption(f"Nothing to draw for: {', '.join(missing)}.")


def _table(run: runs.Run) -> None:
    st.subheader("Rows")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        what = st.selectbox("Of", list(FRAMES), format_func=FRAMES.__getitem__, key="frame", width=290)
        step = st.selectbox(
            "Step",
            list(STEPS),
            key="step",
            width=130,
            disabled=what not in ("series", "outcomes", "errors"),
            help="Time of a row. **auto** makes at most 600 of them.",
        )
        step_s = STEPS[step or "auto"]
        rows = run.rows(what or "series", step_s)
        place = st.container(width="content")
        downloads(run, what or "series", step_s)
    if not rows:
        st.caption("There is no such row: nothing of the kind happened.")
        return
    pages = -(-len(rows) // PAGE_ROWS)
    number = 1
    if pages > 1:
        with place:
            number = int(st.number_input("Page", 1, pages, 1, key=f"page-{what}-{step}", width=110))
    first = (number - 1) * PAGE_ROWS
    part = rows[first : first + PAGE_ROWS]
    st.dataframe(
        part,
        hide_index=True,
        height=min(TABLE_HEIGHT, 38 + 35 * len(part)),
        key="raw",
        alt=f"Rows: {FRAMES[what or 'series']}",
        column_config={"time": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss.SSS", timezone="UTC")},
    )
    st.caption(f"Rows {first + 1:,} to {first + len(part):,} of {len(rows):,}. Times in UTC; units are in the names.")
