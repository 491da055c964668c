"""Which run a page is about: one choice that pages share, kept in the URL as ``run``.

The URL holds the run's id and not what the list shows of it, since that changes while the run goes on; a list that were
bound to the URL by itself would keep the words. So the choice is kept here, and the list only shows it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import streamlit as st

from dashboard import widgets
from dashboard.control import LoadStatus
from eventbus.observe.run import RunInfo, RunStatus, StoreError

PARAMETER = "run"
NEWEST = ""
"""The choice of whichever run is the newest, so that the page follows the next one."""
MAX_RUNS = 200
"""Runs to choose from, newest first. Of more, the page Runs tells."""
SIGNS = {
    RunStatus.RUNNING: "▶",
    RunStatus.DRAINING: "◔",
    RunStatus.FINISHED: "✓",
    RunStatus.STOPPED: "■",
    RunStatus.FAILED: "✗",
    RunStatus.INTERRUPTED: "↯",
}
"""A list takes no icons, so the status has a sign and its word."""
_CHOSEN, _WRITTEN, _LIST = "chosen_run", "written_run", "run_choice"


class Source(Protocol):
    """What is asked of RunSource."""

    def runs(self, limit: int = 50) -> Sequence[RunInfo]: ...


class Control(Protocol):
    """What is asked of LoadControl."""

    def status(self) -> LoadStatus: ...


def choose(source: Source, control: Control) -> RunInfo | None:
    """Draw the list of runs; the one chosen, as it is now. Without any run: say what to do, and None.

    Until somebody chooses, it is the newest, and a new run takes its place. Raises StoreError, before anything is
    drawn; ``store_trouble`` tells of it.
    """
    runs = source.runs(limit=MAX_RUNS)
    if not runs:
        _nothing_yet(control)
        return None
    known = {run.run_id: run for run in runs}
    now = _chosen(known)
    labels = {run.run_id: label(run) for run in runs} | {NEWEST: f"Newest: {label(runs[0])}"}
    st.session_state[_LIST] = now
    st.selectbox(
        "Run",
        [NEWEST, *known],
        # a value that came from words that are no more is no run: it gets none of the labels
        format_func=lambda run_id: labels.get(run_id, run_id),
        key=_LIST,
        on_change=_take,
        args=(frozenset(known),),
        filter_mode="contains",
        width=460,
        help="**Newest** follows: when a run begins, the page shows it. Any other choice stays.",
    )
    return known.get(now, runs[0])


def chosen(runs: Sequence[RunInfo]) -> RunInfo:
    """The run of ``runs``, which are newest first and not none, that was chosen before; draws nothing."""
    known = {run.run_id: run for run in runs}
    return known.get(_chosen(known), runs[0])


def select(run_id: str) -> None:
    """Choose a run for all pages of this session, as somebody would in the list; NEWEST for whichever is."""
    st.session_state[_CHOSEN] = run_id
    _write(run_id)


def label(run: RunInfo, now_s: float | None = None) -> str:
    """A run in one line: sign and word of its status, its name or topic, and when it began where the viewer is.

    now_s: the present, to leave out the date of a run of today.
    """
    zone = widgets.viewer_zone()
    began = datetime.fromtimestamp(run.started_wall_s, zone)
    today = datetime.fromtimestamp(time.time() if now_s is None else now_s, zone).date()
    when = began.strftime("%H:%M:%S" if began.date() == today else "%Y-%m-%d %H:%M:%S")
    pinned = " · baseline" if run.baseline else ""
    return f"{SIGNS[run.status]} {run.status} · {run.name or run.topic} · {when}{pinned}"


def store_trouble(error: StoreError) -> None:
    """Tell that the store cannot be read, and what to do; a page that refreshes keeps trying by itself."""
    st.error(
        f"{widgets.plain(str(error))}\n\nA load that is going on is not disturbed. Reload the page to try again.",
        title="The store of runs cannot be read",
        icon=":material/error:",
    )


def _chosen(known: Mapping[str, RunInfo]) -> str:
    """The id that was chosen last, in the list or by a URL; NEWEST where there is no such run any more."""
    asked = st.query_params.get(PARAMETER)
    if asked and asked != st.session_state.get(_WRITTEN):
        st.session_state[_CHOSEN] = asked  # a link that somebody opened
    now: str = st.session_state.get(_CHOSEN, NEWEST)
    if now not in known:
        now = st.session_state[_CHOSEN] = NEWEST
    _write(now)
    return now


def _take(known: Collection[str]) -> None:
    taken = st.session_state[_LIST]
    if taken == NEWEST or taken in known:  # else words that the list had a moment ago, and nobody chose anything
        select(taken)


def _write(run_id: str) -> None:
    """Keep it in the URL: a link shows the same run, and so does a reload. A change of pages clears the URL."""
    st.session_state[_WRITTEN] = run_id
    if run_id == NEWEST:
        st.query_params.pop(PARAMETER, None)
    elif st.query_params.get(PARAMETER) != run_id:
        st.query_params[PARAMETER] = run_id


def _nothing_yet(control: Control) -> None:
    if control.status().active:
        st.info("The first run is starting: its figures are here in a moment.", icon=":material/hourglass_top:")
        return
    st.info(
        "Open **Live** and press **Start**: every load is kept as a run by itself, and is then to be found here.",
        title="No run yet",
        icon=":material/rocket_launch:",
    )
