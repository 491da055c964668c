"""Alerts: what fires now and what fired, the rules of the next run, and who is told. Rules are evaluated in the run's
worker, never here: the page only shows what the store keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import streamlit as st

from dashboard import style, widgets
from dashboard.alert_rules import rules_of, rules_path
from dashboard.alert_silences import SilenceBook
from dashboard.alert_sinks import SinkTests
from dashboard.alert_states import MAX_HISTORY, SIGNS, Change, Standing, history, standings
from dashboard.control import LoadStatus
from dashboard.source import RunSource
from dashboard.views import alerts_notice, run_choice
from dashboard.views.alerts_rules import rules_tab
from dashboard.views.alerts_sinks import sinks_tab
from dashboard.views.alerts_steer import Steering, acknowledge_button, steering
from eventbus.alerts import AlertPhase
from eventbus.observe.run import AlertChange, RunInfo, RunStatus, StoreError

REFRESH_S = 1.0
ACTIVE_HEIGHT, HISTORY_HEIGHT = 300, 290
"""In pixels, and always the same, so that nothing moves when an alert begins or ends."""
FEW = 50
"""Changes sent with each refresh unless somebody asks for all."""
TABS = ("Now and history", "Rules", "Sinks")
SEVERITIES = {
    "critical": ("red", "error"),
    "warning": ("orange", "warning"),
    "info": ("blue", "info"),
}
PHASES = {
    AlertPhase.FIRING: ("red", "notifications_active", "▲"),
    AlertPhase.PENDING: ("orange", "hourglass_top", "◔"),
    AlertPhase.RECOVERING: ("blue", "healing", "◑"),
    AlertPhase.NO_DATA: ("gray", "help", "?"),
    AlertPhase.RESOLVED: ("green", "check_circle", "✓"),
    AlertPhase.INACTIVE: ("gray", "circle", "○"),
}


class Control(Protocol):
    """What the page asks of LoadControl."""

    def status(self) -> LoadStatus: ...

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
    active = [steer.with_silence(one) for one in standings(changes, rules)]
    _counts(run, active)
    _active(run, active, steer)
    _history(run, changes, history(changes, rules))


def _counts(run: RunInfo, active: Sequence[Standing]) -> None:
    """How many are where; each count is always there, so that none moves."""
    told = [one for one in active if not one.muted]
    badges = []
    for phase in (AlertPhase.FIRING, AlertPhase.PENDING, AlertPhase.RECOVERING):
        colour, icon, _ = PHASES[phase]
        number = sum(one.phase is phase for one in told)
        badges.append(widgets.badge(colour if number else "gray", icon, f"{number} {phase}"))
    badges.append(widgets.badge("gray", "notifications_off", f"{len(active) - len(told)} muted"))
    st.markdown(f"{' '.join(badges)} &nbsp;:small[:gray[{_moment(run)}]]")


def _moment(run: RunInfo) -> str:
    if run.status is RunStatus.INTERRUPTED:
        return "When the run broke off: its process is gone without an end, and nothing more was evaluated."
    if run.status.is_over:
        return "When the run ended. Whoever had been told was told of the end."
    return "Now. Evaluated by the run itself, four times a second, whether this page is open or not."


def _active(run: RunInfo, active: Sequence[Standing], steer: Steering) -> None:
    with st.container(height=ACTIVE_HEIGHT, border=True, gap="small", key="active_alerts"):
        if not active:
            over = run.status.is_over
            st.markdown(
                f":material/check_circle: **No alert {'fired at the end' if over else 'is firing'}.** "
                ":gray[What fired before is in the history below.]"
            )
        for one in active:
            _card(one, steer)


def _card(one: Standing, steer: Steering) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", border=True):
        with st.container(gap="xxsmall", width="stretch"):
            st.markdown(f"{_phase(one)} {_severity(one.severity)} **{widgets.plain(one.text)}**")
            st.markdown(
                f":small[:gray[Since {widgets.plain(widgets.clock(one.since_s))}, at] **{widgets.plain(one.value)}** "
                f":gray[against {widgets.plain(one.threshold)} &nbsp;·&nbsp; {widgets.plain(one.rule)}"
                f"{': ' + widgets.plain(one.expression) if one.expression else ''}]]"
            )
            if one.what_to_do:
                st.markdown(f":small[:material/lightbulb: {widgets.plain(one.what_to_do)}]")
            if one.muted:
                st.markdown(f":small[:material/notifications_off: Nobody is told: {widgets.plain(one.muted)}.]")
        if one.phase.fires:
            acknowledge_button(one.rule, one.since_s, steer)


def _phase(one: Standing) -> str:
    colour, icon, _ = PHASES[one.phase]
    if one.muted:
        colour, icon = "gray", "notifications_off"
    word = style.words(str(one.phase))
    return widgets.badge(colour, icon, f"{word}, muted" if one.muted else word)


def _severity(severity: str) -> str:
    colour, icon = SEVERITIES.get(severity, ("gray", "label"))
    return widgets.badge(colour, icon, severity)


def _history(run: RunInfo, changes: Sequence[AlertChange], told: Sequence[Change]) -> None:
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
    if not shown:
        with st.container(height=HISTORY_HEIGHT, border=True, vertical_alignment="center"):
            st.markdown(":gray[No alert changed its state in this run.]", text_alignment="center")
        return
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
        "Nobody told": text(help="Why nobody was told of it; empty where people were told, or would have been."),
    }
