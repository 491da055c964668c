"""Runs: what was ever run here, what came of it, and what people say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from zlib import crc32

import streamlit as st

from dashboard import style, widgets
from dashboard.broker import NAMES
from dashboard.run_history import Brief, Briefs, load_words, matching, verdict_words
from dashboard.views import run_choice
from dashboard.views.run_choice import SIGNS, Control
from dashboard.views.run_details import details
from eventbus.observe import RunInfo, StoreError, StoreReader

TABLE_HEIGHT = 318
"""Eight runs and the head; of more, the table scrolls."""


@st.cache_resource(show_spinner=False, max_entries=8)
def shared_briefs(_source: StoreReader, path: str) -> Briefs:
    """What was read of the runs in the store at ``path``."""
    return Briefs(_source)


def page(source: StoreReader, control: Control) -> None:
    """Draw the page. Nothing is drawn again by itself: who writes notes is left in peace."""
    try:
        found = source.runs(limit=run_choice.MAX_RUNS)
        if not found:
            run_choice.choose(source, control)  # says what to do
            return
        shown = _search(found)
        briefs = shared_briefs(source, str(source.path))
        told = [(run, briefs.of(run)) for run in shown]
        run = _table(told, run_choice.chosen(found)) if told else None
        if run is not None:
            details(source, run)
    except StoreError as error:
        run_choice.store_trouble(error)


def _search(found: Sequence[RunInfo]) -> list[RunInfo]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Search",
            key="search",
            placeholder="name, notes, topic, broker, status",
            icon=":material/search:",
            width=320,
            bind="query-params",
        )
        st.button("Read again", icon=":material/refresh:", key="again", help="Look for new runs.")
        shown = matching(found, text)
        newest = f" of the newest {len(found)}" if len(found) == run_choice.MAX_RUNS else ""
        number = f"{len(shown)} of {len(found)}" if text else str(len(found))
        st.caption(f"{number} run{'s' * (len(found) != 1)}{newest}, newest first.")
    if not shown:
        st.info(f"No run has all of these words: {widgets.plain(text)}", icon=":material/search_off:")
    return shown


def _table(told: Sequence[tuple[RunInfo, Brief]], chosen: RunInfo) -> RunInfo:
    """The list; the run whose row is selected, by default the one that pages share, else the first."""
    ids = [run.run_id for run, _ in told]
    at = ids.index(chosen.run_id) if chosen.run_id in ids else 0
    # The selection is by place: where the rows are others, it must not stay. So another list has another key.
    key = f"runs-{crc32(' '.join(ids).encode()):08x}"
    state: Any = st.dataframe(
        [_row(run, brief) for run, brief in told],
        key=key,
        height=min(TABLE_HEIGHT, 40 + 35 * len(told)),
        hide_index=True,
        placeholder=style.NOTHING,
        on_select=_selected(key, ids),
        selection_mode="single-row-required",
        selection_default={"selection": {"rows": [at], "columns": [], "cells": []}},
        alt="Runs, newest first; a selected row shows its details below",
        column_config=_columns(),
    )
    rows = state["selection"]["rows"]
    return told[rows[0] if rows and rows[0] < len(told) else at][0]


def _selected(key: str, ids: Sequence[str]) -> Callable[[], None]:
    def select() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows and rows[0] < len(ids):
            run_choice.select(ids[rows[0]])

    return select


def _row(run: RunInfo, brief: Brief) -> Mapping[str, Any]:
    return {
        "Status": f"{SIGNS[run.status]} {run.status}",
        "Verdict": verdict_words(run),
        "Name": run.name,
        "Started": datetime.fromtimestamp(run.started_wall_s, widgets.viewer_zone()),
        "Acked": brief.acked_ratio,
        "p99": None if brief.p99_s is None else brief.p99_s * 1e3,
        "Sent": brief.sent,
        "Load": load_words(run.settings),
        "Took": brief.elapsed_s,
        "Pinned": "★" if run.baseline else "",
        "Broker": _broker(run),
        "Topic": run.topic,
        "Notes": " ".join(run.notes.split()),
    }


def _broker(run: RunInfo) -> str:
    """As short as it can be: the details have the rest."""
    name = NAMES.get(str(run.settings.get("embedded")))
    return run.url.removeprefix("nats://") if name is None else name.removeprefix("embedded ")


def _columns() -> dict[str, Any]:
    """What tells most comes first, for narrow pages; together they are as wide as a page of 1280 px lets them be."""
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    return {
        "Status": text(width=98),
        "Verdict": text(width=74, help="Of the run's thresholds; empty where it had none."),
        "Name": text(width=140),
        "Started": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", width=124, help="Where you are."),
        "Acked": number(format="percent", width=66, help="Share of the messages sent."),
        "p99": number("p99 (ms)", format="%.2f", width=74, help="Of the ack latency, without the warm-up."),
        "Sent": number(format="localized", width=68, help="Messages."),
        "Load": text(width=70, help="What the run was to send: a rate, a shape, or workers; and how it treats acks."),
        "Took": number("Took (s)", format="%.1f", width=66),
        "Pinned": text("Pin", width=40, help="★ is a baseline: what others are compared with."),
        "Broker": text(width=110),
        "Topic": text(width=94),
        "Notes": text(width=70),
    }
