"""Live: what is becoming of every message right now? Starts and stops a load, and watches it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from dashboard import journal, style, widgets
from dashboard.broker import KAFKA_URL, SYSTEMS
from dashboard.process import ROOT
from dashboard.source import RunHistory, RunSource, RunView
from dashboard.views.live_controls import Control, chosen_url, controls
from dashboard.views.live_panels import figures, panels, tables, verdict
from eventbus.observe.run import AlertChange, RunInfo, RunStatus, StoreError

WINDOWS: dict[str, float | None] = {"1m": 60.0, "5m": 300.0, "15m": 900.0, "Run": None}
RECENT_S = 5.0
"""Figures are of this many seconds: long enough to be read, short enough to be current."""
REFRESH_S = 1.0
SILENT_S = 3.0
"""A run that goes on and sent no sample for so long is said to be silent; samples come each 0.25 s."""
STRIP_HEIGHT = 58
"""Of the line of alerts; what does not fit is scrolled."""
SEVERITIES = {"critical": ("red", "error"), "warning": ("orange", "warning"), "info": ("blue", "info")}
STATUSES = {
    RunStatus.RUNNING: ("blue", "play_circle"),
    RunStatus.DRAINING: ("orange", "hourglass_bottom"),
    RunStatus.FINISHED: ("green", "check_circle"),
    RunStatus.STOPPED: ("gray", "stop_circle"),
    RunStatus.FAILED: ("red", "error"),
    RunStatus.INTERRUPTED: ("red", "heart_broken"),
}


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
        view = history.view(
            run.run_id, window_s, recent_s=RECENT_S, over=run.status.is_over, until_s=until_s, shaped=_shaped(run)
        )
        alerts = source.alerts(run.run_id)
        story = journal.entries(run, source.events(run.run_id), alerts, view.edits)
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
    _badges(header, control, run, view, alerts)
    _progress(run, view)
    if chosen_url(control) == KAFKA_URL or run.settings.get("embedded") == "kafka":
        widgets.mock_note()
    _strip(run, view, alerts, held_at)
    if run.status.is_over:
        verdict(run)
    figures(run, view)
    panels(run, view, window_s, [entry.mark() for entry in story])
    tables(story, groups)


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


def _shaped(run: RunInfo) -> bool:
    """Whether its rate changes by itself."""
    return run.settings.get("shape") is not None or run.settings.get("replay_at") == "recorded"


def _badges(
    header: st.delta_generator.DeltaGenerator,
    control: Control,
    run: RunInfo,
    view: RunView,
    alerts: Sequence[AlertChange],
) -> None:
    over, sample = run.status.is_over, view.sample
    url = chosen_url(control)
    status = control.broker_status(url)
    if sample is not None and not over:
        badges = [widgets.connection_badge(sample.snapshot.connection, run)]
    elif status is not None and SYSTEMS[url] == run.settings.get("embedded"):
        badges = [widgets.broker_badge(status)]
    else:
        badges = [widgets.badge("gray", "dns", widgets.broker_name(run))]
    colour, icon = STATUSES[run.status]
    badges.append(widgets.badge(colour, icon, f"{run.status} {style.elapsed(view.elapsed_s)}"))
    if sample is not None and not over and (silent_s := time.time() - sample.wall_s) > SILENT_S:
        badges.append(widgets.badge("orange", "hearing_disabled", f"silent for {silent_s:.0f} s"))
    if not over:
        badges += _alert_counts(alerts)
    if run.name:
        badges.append(widgets.badge("gray", "label", run.name))
    badges.append(widgets.badge("gray", "sell", _topics(run)))
    badges.append(widgets.badge("gray", "package_2", _payload(run)))
    with header:
        st.markdown(" ".join(badges))


def _alert_counts(alerts: Sequence[AlertChange]) -> list[str]:
    firing, waiting = len(journal.firing(alerts)), len(journal.waiting(alerts))
    counts = [widgets.badge("red", "notifications_active", f"{firing} firing")] if firing else []
    return counts + ([widgets.badge("orange", "notifications_paused", f"{waiting} pending")] if waiting else [])


def _topics(run: RunInfo) -> str:
    topics = run.settings.get("topics") or ()
    return run.topic if len(topics) < 2 else f"{run.topic} and {len(topics) - 1} more"


def _payload(run: RunInfo) -> str:
    settings = run.settings
    if settings.get("replay"):
        return Path(settings["replay"]).name
    if settings.get("template"):
        return "template"
    least, most = settings.get("payload_size", 0), settings.get("payload_size_max")
    return f"{style.size(least)} each" if most is None else f"{style.size(least)} to {style.size(most)} each"


def _progress(run: RunInfo, view: RunView) -> None:
    """How much of its plan a run has behind it, where it has an end."""
    sample = view.sample
    if run.status.is_over or sample is None:
        return
    if run.status is RunStatus.DRAINING:
        st.progress(1.0, f"Nothing new is sent; {style.count(sample.snapshot.pending)} acks are awaited")
        return
    planned_s, count = _planned_s(run), run.settings.get("count")
    shares = [view.elapsed_s / planned_s] if planned_s else []
    shares += [sample.offered / count] if count else []
    if not shares:
        return
    words = [f"{style.elapsed(view.elapsed_s)} of {style.elapsed(planned_s)}"] if planned_s else []
    words += [f"{style.count(sample.offered)} of {style.count(count)} messages"] if count else []
    words += ["warming up: not judged yet"] if sample.warming_up else []
    st.progress(min(1.0, max(shares)), widgets.plain(", ".join(words)))


def _planned_s(run: RunInfo) -> float | None:
    """Seconds of sending at most, by what the run was started with."""
    shape = run.settings.get("shape") or {}
    ends = [float(run.settings["duration_s"])] if run.settings.get("duration_s") else []
    ends += [sum(float(stage["duration_s"]) for stage in shape["stages"])] if shape.get("stages") else []
    return min(ends, default=None)


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
