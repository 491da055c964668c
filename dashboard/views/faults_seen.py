"""What was seen of faults: figures since the newest began, what was told in its time, and a list of all."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import faults, journal, style, widgets
from dashboard.faults import AFTERMATH_S, Seen
from dashboard.rates import Interval
from eventbus.faults import FaultState, FaultStatus


def _span(status: FaultStatus) -> str:
    began = f"{status.title}, since {widgets.clock(status.began_wall_s)}"
    if status.state is FaultState.ACTIVE:
        return began
    return f"{faults.ending(status)}; up to {AFTERMATH_S:.0f} s after its end"


def figures(status: FaultStatus | None, found: Seen | None) -> None:
    """What became of messages: always there, so that nothing below it moves."""
    if status is None:
        st.markdown("**What was seen** &nbsp;:gray[nothing yet: no fault was made in this run from this dashboard]")
    else:
        expected = f"Expected: {status.expect}"
        st.markdown(f"**What was seen** &nbsp;:gray[{widgets.plain(_span(status))}]", help=widgets.plain(expected))
    whole = None if found is None else found.whole
    with st.grid(7, min_column_width=130):
        for label, value, note in _numbers(whole, 0.0 if found is None else found.silent_s):
            st.metric(label, value, note, delta_color="off", delta_arrow="off")


def _numbers(seen: Interval | None, silent_s: float) -> list[tuple[str, str, str]]:
    """Label, figure and note; the same labels, with dashes and without figures in the notes, where nothing was seen."""
    if seen is None:
        return [(label, style.NOTHING, note) for label, note in _LABELS.items()]
    figures = (
        (style.count(seen.accepted), ""),
        (style.count(seen.acked), f"{style.count(seen.duplicates)} duplicates, {style.count(seen.late_acks)} late"),
        (style.count(seen.rejected), ""),
        (style.count(seen.unknown), ""),
        (style.count(seen.ack_timeouts), f"{style.count(seen.retries)} tried again"),
        (style.count(seen.pending_max), f"of {style.count(seen.max_pending)}"),
        (style.duration(silent_s), ""),
    )
    return [
        (label, value, note or usual) for (label, usual), (value, note) in zip(_LABELS.items(), figures, strict=True)
    ]


_LABELS = {
    "Accepted": "messages",
    "Acked": "late ones too",
    "Rejected": "certainly not stored",
    "Unknown": "may be stored",
    "Ack timeouts": "no ack in time",
    "Pending, peak": "messages",
    "Longest without acks": "in whole seconds",
}
"""Of the figures, each with its usual note."""


def told(found: Seen) -> None:
    """Errors by kind, alerts and events, in a line each."""
    lines = []
    if found.whole is not None and found.whole.errors:
        errors = sorted(found.whole.errors.items(), key=lambda item: -item[1])
        kinds = ", ".join(f"{style.words(kind)} {style.count(number)}" for kind, number in errors)
        lines.append(f":material/error: Failures of single attempts: {widgets.plain(kinds)}")
    lines += [
        f":material/notifications_active: {widgets.plain(widgets.clock(alert.wall_s))} "
        f"{widgets.plain(journal.headline(alert))}"
        for alert in found.alerts[-5:]
    ]
    lines += [
        f":material/event_note: {widgets.plain(widgets.clock(event.wall_s))} {widgets.plain(event.text)}"
        for event in found.events[-5:]
    ]
    st.markdown("**Alerts and events** &nbsp;:gray[the newest of them]")
    if lines:
        st.markdown(":small[" + "]  \n:small[".join(lines) + "]")


def table(made: Sequence[FaultStatus]) -> None:
    """Every fault of a run, newest first."""
    st.markdown("**Faults of this run** &nbsp;:gray[newest first; they are among the run's events as well]")
    st.dataframe(
        [
            {
                "Began": widgets.clock(one.began_wall_s),
                "Fault": one.title,
                "For (s)": one.duration_s,
                "Lasted (s)": _lasted(one),
                "How it ended": _how(one),
            }
            for one in made
        ],
        hide_index=True,
        key="fault_table",
    )


def _lasted(status: FaultStatus) -> str:
    return style.NOTHING if status.ended_wall_s is None else f"{status.ended_wall_s - status.began_wall_s:.1f}"


def _how(status: FaultStatus) -> str:
    if status.state is FaultState.ACTIVE:
        return "⚡ lasts"
    if status.state is FaultState.FAILED:
        return f"✗ could not be undone: {status.error}"
    return f"✓ {status.ended_by}"
