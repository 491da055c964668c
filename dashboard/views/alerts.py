"""Alerts: what fires now and what fired, the rules of the next run, and who is told. Rules are evaluated in the run's
worker, never here: the page only shows what that tells and what the store keeps of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import streamlit as st

from dashboard import style, widgets
from dashboard.alert_rules import rules_of, rules_path
from dashboard.alert_silences import SilenceBook
from dashboard.alert_sinks import SinkTests
from dashboard.alert_states import MAX_HISTORY, SIGNS, Change, firings, history, standings
from dashboard.control import LoadStatus
from dashboard.source import RunSource
from dashboard.views import alerts_cards, alerts_notice, run_choice
from dashboard.views.alerts_cards import PHASES
from dashboard.views.alerts_delivery import delivery
from dashboard.views.alerts_rules import rules_tab
from dashboard.views.alerts_sinks import sinks_tab
from dashboard.views.alerts_steer import steering
from eventbus.alerts import AlertNow, SinkStatus
from eventbus.observe.run import AlertChange, RunInfo, RunStatus, StoreError

REFRESH_S = 1.0
HISTORY_HEIGHT = 290
"""In pixels, from the first change on. It is the last thing on the page, so that nothing moves when that comes."""
FEW = 50
"""Changes sent with each refresh unless somebody asks for all."""
TABS = ("Now and history", "Rules", "Sinks")


class Control(Protocol):
    """What the page asks of LoadControl."""

    def status(self) -> LoadStatus: ...

    def alerts_now(self) -> Sequence[AlertNow]: ...

    def sinks_now(self) -> Sequence[SinkStatus]: ...

    def silence(self, alerts: Sequence[str], for_s: float, by: str, comment: str = "") -> None: ...

    def acknowledge(self, alert: str, by: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Desk:
    """What all sessions share: the file of rules and sinks, what was silenced here, the newest test of the sinks."""

    path: Path
    book: SilenceBook
    tests: SinkTests


@st.cache_resource(show_spinner=False)
def shared_desk() -> Desk:
    """The one of this dashboard."""
    return Desk(rules_path(), SilenceBook(), SinkTests())


def page(source: RunSource, control: Control, desk: Desk) -> None:
    """Draw the page: one tab at a time, and only the first draws itself again each second."""
    now, rules, sinks = st.tabs(TABS, key="alerts", bind="query-params")
    if now.open:
        with now:
            st.fragment(_now, run_every=REFRESH_S)(source, control, desk)
    if rules.open:
        with rules:
            st.fragment(rules_tab)(source, control, desk.path)
    if sinks.open:
        with sinks:
            sinks_tab(desk.path, desk.tests)


def _now(source: RunSource, control: Control, desk: Desk) -> None:
    alerts_notice.tell()
    try:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            run = run_choice.choose(source, control)
            if run is None:
                return
            rules = rules_of(run)
            steer = steering(control, desk.book, run, [rule.name for rule in rules])
        changes = source.alerts(run.run_id)
    except StoreError as error:
        run_choice.store_trouble(error)
        return
    seen = control.status()
    live = control.alerts_now() if seen.run_id == run.run_id else ()
    found = [steer.with_silence(one) for one in standings(changes, rules, live)]
    fired, at_s = firings(changes), _at_s(run, changes)
    alerts_cards.counts(found, _moment(run))
    left, right = st.columns([3, 2], gap="small")
    with left:
        alerts_cards.cards(run, found, fired, steer, at_s)
    with right:
        alerts_cards.lines(run, found, fired, at_s)
    delivery(run, seen, control.sinks_now())
    _history(run, changes, history(changes, rules))


def _at_s(run: RunInfo, changes: Sequence[AlertChange]) -> float:
    """Until when a run's alerts stood as they stand: now, or its end; of one that broke off, its last change."""
    if not run.status.is_over:
        return time.time()
    return run.ended_wall_s or max((change.wall_s for change in changes), default=run.started_wall_s)


def _moment(run: RunInfo) -> str:
    if run.status is RunStatus.INTERRUPTED:
        return "When the run broke off: its process is gone without an end, and nothing more was evaluated."
    if run.status.is_over:
        return "When the run ended. Whoever had been told was told of the end."
    return "Now. Evaluated by the run itself, four times a second, whether this page is open or not."


def _history(run: RunInfo, changes: Sequence[AlertChange], told: Sequence[Change]) -> None:
    if not told:
        widgets.heading("History", "newest first")
        st.caption("No alert changed its state in this run.")
        return
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        with st.container(width="content"):
            widgets.heading("History", "newest first")
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            everything = st.toggle(
                "All",
                key="all_changes",
                disabled=len(told) <= FEW,
                help=f"The newest {FEW} changes, or up to {MAX_HISTORY:,}.",
            )
    shown = told if everything or run.status.is_over else told[:FEW]
    st.dataframe(
        [_row(change) for change in shown],
        key="alert_history",
        height=HISTORY_HEIGHT,
        hide_index=True,
        alt="Changes of the run's alerts, newest first",
        column_config=_columns(),
    )
    if len(changes) > len(shown):
        st.caption(f"{len(shown):,} of {len(changes):,} changes. The rest is in the run's export, on the page Runs.")


def _row(change: Change) -> dict[str, str]:
    _, _, sign = PHASES[change.phase]
    mark = SIGNS.get(change.severity, "•")
    word = "still firing" if change.repeat else style.words(str(change.phase))
    return {
        "Time": widgets.clock(change.wall_s),
        "State": f"{sign} {word}",
        "Severity": f"{mark} {change.severity}",
        "Rule": change.rule,
        "Value": change.value,
        "Threshold": change.threshold,
        "What": change.text,
        "Nobody told": change.muted,
    }


def _columns() -> dict[str, Any]:
    text = st.column_config.TextColumn
    return {
        "Time": text(width=75),
        "State": text(width=110),
        "Severity": text(width=95),
        "Rule": text(width=150),
        "Value": text(width=85),
        "Threshold": text(width=85),
        "What": text(width=400),
        "Nobody told": text(
            width=180, help="Why nobody was told of it; empty where people were told, or would have been."
        ),
    }
