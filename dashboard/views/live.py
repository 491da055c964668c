"""Live: what is becoming of every message right now? Starts and stops a load, and watches it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from dashboard import journal, style, widgets
from dashboard.broker import KAFKA_URL
from dashboard.process import ROOT
from dashboard.source import RunHistory, RunSource, RunView
from dashboard.views import passes
from dashboard.views.live_controls import Control, chosen_url, controls
from dashboard.views.live_header import STATUSES as STATUSES
from dashboard.views.live_header import badges, progress
from dashboard.views.live_panels import figures, panels, tables, verdict
from eventbus.observe.run import AlertChange, RunInfo, RunStatus, StoreError

WINDOWS: dict[str, float | None] = {"1m": 60.0, "5m": 300.0, "15m": 900.0, "Run": None}
RECENT_S = 5.0
"""Figures are of this many seconds: long enough to be read, short enough to be current."""
REFRESH_S = 1.0
FIRST_CHARTS = 6
"""Of the second pass: what is seen first. The third has all of them."""
STRIP_HEIGHT = 58
"""Of the line of alerts; what does not fit is scrolled."""
SEVERITIES = {"critical": ("red", "error"), "warning": ("orange", "warning"), "info": ("blue", "info")}


def example_files(folder: Path = ROOT / "examples") -> list[Path]:
    """The shipped files of real records."""
    return sorted(folder.glob("*.jsonl"))


def page(source: RunSource, history: RunHistory, control: Control, records: Sequence[Path]) -> None:
    """Draw the page. All of it is one fragment that draws itself again each second, unless it is paused."""
    paused = bool(st.session_state.get("paused", False))
    refreshed = st.fragment(_page, run_every=None if paused else REFRESH_S)
    refreshed(source, history, control, records, _held_at(paused))


def _held_at(paused: bool) -> float | None:
    """The moment at which the picture was held; None while it is not."""
    if not paused:
        st.session_state.pop("held_at", None)
        return None
    return float(st.session_state.setdefault("held_at", time.time()))


def _page(
    source: RunSource, history: RunHistory, control: Control, records: Sequence[Path], held_at: float | None
) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        header = st.container(width="content")
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            window = st.segmented_control(
                "Window",
                list(WINDOWS),
                default="1m",
                required=True,
                key="window",
                bind="query-params",
                label_visibility="collapsed",
            )
            paused = st.toggle("Pause", key="paused", help="Hold the picture still. The run goes on.")
    if paused != (held_at is not None):
        st.rerun()  # the timer of this fragment can only be changed from outside of it
    controls(control, records)
    _watch(source, history, control, header, WINDOWS[window or "1m"], held_at)


def _watch(
    source: RunSource,
    history: RunHistory,
    control: Control,
    header: st.delta_generator.DeltaGenerator,
    window_s: float | None,
    held_at: float | None,
) -> None:
    """What is to be seen of the newest run: badges, alerts, figures, charts, tables."""
    try:
        run = next(iter(source.runs(limit=1)), None)
        if run is None:
            _nothing_yet(header, control)
            return
        until_s = None if held_at is None else held_at - run.started_wall_s
        view = history.view(run.run_id, window_s, recent_s=RECENT_S, over=run.status.is_over, until_s=until_s)
        alerts = source.alerts(run.run_id)
        story = journal.entries(run, source.events(run.run_id), alerts)
        groups = source.failure_groups(run.run_id)
    except StoreError as error:
        with header:
            st.markdown(widgets.badge("red", "error", "store unreadable"))
        st.error(
            f"{widgets.plain(str(error))}\n\nA load that is going on is not disturbed. This page keeps trying.",
            title="The store of runs cannot be read",
            icon=":material/error:",
        )
        return
    badges(header, control, run, view, alerts)
    progress(run, view)
    if chosen_url(control) == KAFKA_URL or run.settings.get("embedded") == "kafka":
        widgets.mock_note()
    _strip(run, view, alerts, held_at)
    if run.status.is_over:
        verdict(run)
    before = passes.count() if held_at is None else passes.WHOLE  # a picture that is held has no next pass
    figures(run, view, courses=before > 0)
    if before:
        marks = [entry.mark() for entry in story]
        spans = _dropped_spans(run, control)
        panels(run, view, window_s, marks, dropped_spans=spans, most=FIRST_CHARTS if before == 1 else None)
    if before > 1:
        tables(story, groups)


def _dropped_spans(run: RunInfo, control: Control) -> int | None:
    """Spans that never arrived, as the worker of this run told last; None where it has none to send."""
    seen = control.status()
    told = [one for one in seen.telemetry if one.signal == "traces"] if seen.run_id == run.run_id else []
    return sum(one.dropped + one.lost for one in told) if told else None


def _nothing_yet(header: st.delta_generator.DeltaGenerator, control: Control) -> None:
    url = chosen_url(control)
    status = control.broker_status(url)
    if status is not None:
        with header:
            st.markdown(widgets.broker_badge(status))
    st.info(
        "Press **Start**: it publishes to the chosen broker and this page shows what becomes of every ack. The "
        "embedded NATS and the mock of Kafka need no set-up; or give the URL of your own broker. Choose "
        "**Real records** to send the shipped file of real data.",
        title="No run yet",
        icon=":material/rocket_launch:",
    )
    if url == KAFKA_URL:
        widgets.mock_note()


def _strip(run: RunInfo, view: RunView, alerts: Sequence[AlertChange], held_at: float | None) -> None:
    """How it is, in a line of a fixed height, so that nothing below it moves when an alert begins or ends."""
    if run.status is RunStatus.FAILED:
        st.error(f"**The run failed:** {widgets.plain(run.error or 'no reason told')}", icon=":material/error:")
    elif run.status is RunStatus.INTERRUPTED:
        st.warning(
            "**The run was interrupted:** its process is gone without an end. What it measured until then is shown; "
            "Start begins a new run.",
            icon=":material/heart_broken:",
        )
    elif run.status.is_over:
        _verdict(run, view)
    else:
        with st.container(height=STRIP_HEIGHT, border=True, key="alert_strip", vertical_alignment="center"):
            firing = journal.firing(alerts)
            # With the link the line can be reached, and so scrolled, by keyboard.
            told = [*map(_alert, firing), "[All alerts](alerts)"] if firing else [_calm(held_at)]
            st.markdown(" &nbsp; ".join(told))


def _alert(alert: AlertChange) -> str:
    colour, icon = SEVERITIES.get(alert.severity, SEVERITIES["warning"])
    if alert.muted:
        colour, icon = "gray", "notifications_off"
    badge = widgets.badge(colour, icon, f"{alert.severity}, {alert.muted}" if alert.muted else alert.severity)
    since = widgets.plain(widgets.clock(alert.wall_s))
    return f"{badge} **{widgets.plain(journal.headline(alert))}** since {since}"


def _calm(held_at: float | None) -> str:
    held = "" if held_at is None else f" Picture held at {widgets.plain(widgets.clock(held_at))}."
    badge = widgets.badge("green", "notifications", "calm")
    return f"{badge} **No alert is firing.** Figures show the last {RECENT_S:.0f} s.{held}"


def _verdict(run: RunInfo, view: RunView) -> None:
    """What became of the messages of a run that ended in good order, and of its thresholds."""
    if run.error:
        st.error(f"**It did not go as it should:** {widgets.plain(run.error)}", icon=":material/error:")
    accepted = acked = 0
    if run.report is not None:
        accepted, acked = run.report["accepted"], run.report["acked"]
    elif view.total is not None:
        accepted, acked = view.total.accepted, view.total.acked
    if not accepted:
        st.warning("**No message was accepted.**", icon=":material/warning:")
    elif acked == accepted:
        st.success(
            f"**All {style.count(accepted)} accepted messages were acked.** Figures show the whole run.",
            icon=":material/verified:",
        )
    else:
        st.warning(
            f"**{style.count(accepted - acked)} of {style.count(accepted)} accepted messages were not acked.** "
            "Figures show the whole run.",
            icon=":material/warning:",
        )
