"""The head of the Live page: badges of the broker and the run, and how far the run has come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from dashboard import journal, style, widgets
from dashboard.broker import SYSTEMS
from dashboard.source import RunView
from dashboard.views.live_controls import Control, chosen_url
from eventbus.observe.run import AlertChange, RunInfo, RunStatus

SILENT_S = 3.0
"""A run that goes on and sent no sample for so long is said to be silent; samples come each 0.25 s."""
STATUSES = {
    RunStatus.RUNNING: ("blue", "play_circle"),
    RunStatus.DRAINING: ("orange", "hourglass_bottom"),
    RunStatus.FINISHED: ("green", "check_circle"),
    RunStatus.STOPPED: ("gray", "stop_circle"),
    RunStatus.FAILED: ("red", "error"),
    RunStatus.INTERRUPTED: ("red", "heart_broken"),
}


def badges(
    header: st.delta_generator.DeltaGenerator,
    control: Control,
    run: RunInfo,
    view: RunView,
    alerts: Sequence[AlertChange],
) -> None:
    """The broker, the run and its alerts, what is sent, and last what changes its width, so that nothing else moves."""
    over, sample = run.status.is_over, view.sample
    url = chosen_url(control)
    status = control.broker_status(url)
    if sample is not None and not over:
        told = [widgets.connection_badge(sample.snapshot.connection, run)]
    elif status is not None and SYSTEMS[url] == run.settings.get("embedded"):
        told = [widgets.broker_badge(status)]
    else:
        told = [widgets.badge("gray", "dns", widgets.broker_name(run))]
    colour, icon = STATUSES[run.status]
    told += _version(run)
    told.append(widgets.badge(colour, icon, f"{run.status} {style.elapsed(view.elapsed_s)}"))
    if sample is not None and not over and (silent_s := time.time() - sample.wall_s) > SILENT_S:
        told.append(widgets.badge("orange", "hearing_disabled", f"silent for {silent_s:.0f} s"))
    if not over:
        told += _alert_counts(alerts)
    if run.name:
        told.append(widgets.badge("gray", "label", run.name))
    told.append(widgets.badge("gray", "sell", _topics(run)))
    told.append(widgets.badge("gray", "package_2", _payload(run)))
    if sample is not None and not over and sample.round_trip_s is not None:
        # A clock that counts in milliseconds tells 0 of what took less.
        trip = style.duration(sample.round_trip_s) if sample.round_trip_s else "below 1 ms"
        told.append(widgets.badge("gray", "swap_horiz", f"round trip {trip}"))
    with header:
        st.markdown(" ".join(told))


def _version(run: RunInfo) -> list[str]:
    """What answered there, where the run noted it."""
    broker = run.environment.get("broker")
    return [widgets.badge("gray", "dns", broker)] if isinstance(broker, str) and broker else []


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


def progress(run: RunInfo, view: RunView) -> None:
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
