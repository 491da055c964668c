"""Who is told of a run's alerts, and whether it arrives, while the run goes on and after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard import style, widgets
from dashboard.control import LoadStatus
from eventbus.alerts import SinkStatus
from eventbus.observe.run import RunInfo


def delivery(run: RunInfo, seen: LoadStatus, sinks: Sequence[SinkStatus]) -> None:
    """A line for each sink of ``run``, or why there is none. sinks: of the newest run of this dashboard."""
    widgets.heading("Who is told", "counts of notifications, by sink")
    if seen.run_id != run.run_id:
        st.caption("What was delivered is known only of the last run that this dashboard started.")
        return
    if not sinks:
        st.caption(
            "Nobody but this page: the run has no sink. Add one on the tab **Sinks**; the next run tells it. "
            "Changes are kept with the run all the same."
        )
        return
    st.dataframe(
        [_row(sink) for sink in sinks],
        key="sinks_now",
        height="auto",  # all of up to ten
        hide_index=True,
        alt="Sinks of the run, and what became of what they were to be told",
        column_config=_columns(),
    )


def _row(sink: SinkStatus) -> dict[str, Any]:
    return {
        "Sink": sink.name,
        "State": _state(sink),
        "Delivered": sink.delivered,
        "Waiting": sink.waiting,
        "Failed": sink.failed,
        "Dropped": sink.dropped,
        "Last delivery": _clock(sink.last_success_s),
        "Took": style.duration(sink.last_duration_s),
        "Last failure": " ".join(
            filter(None, [_clock(sink.last_failure_s) if sink.last_error else "", sink.last_error])
        )
        or style.NOTHING,
        "Where": sink.where,
    }


def _state(sink: SinkStatus) -> str:
    if sink.failing:
        return "◔ trying again" if sink.waiting else "✖ fails"
    if sink.waiting:
        return "◔ sending"
    return "✓ arrives" if sink.delivered else "○ nothing yet"


def _clock(wall_s: float | None) -> str:
    return style.NOTHING if wall_s is None else widgets.clock(wall_s)


def _columns() -> dict[str, Any]:
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    return {
        "Sink": text(width=120),
        "State": text(width=105),
        "Delivered": number(width=75, help="Notifications that the sink took."),
        "Waiting": number(width=65, help="In its queue, or being tried now."),
        "Failed": number(width=60, help="Given up: the sink refused, or did not answer five times."),
        "Dropped": number(width=70, help="Never tried: the queue was full, or the run ended."),
        "Last delivery": text(width=95),
        "Took": text(width=75),
        "Last failure": text(width=260),
        "Where": text(width=200, help="Scheme, host and port. Login and path can be secret and are not shown."),
    }
