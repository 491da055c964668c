"""Faults: break the embedded broker on purpose, and watch what becomes of every message."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import streamlit as st

from dashboard import faults, journal, style, widgets
from dashboard.control import LoadStatus
from dashboard.faults import AFTERMATH_S, DEFAULT_S, MAX_S, MIN_S, Made, Offer, Seen
from dashboard.process import LoadRefused
from dashboard.rates import Interval
from dashboard.source import RunHistory, RunSource
from dashboard.views import run_choice
from eventbus.faults import FaultState, FaultStatus
from eventbus.observe.run import RunInfo, StoreError

REFRESH_S = 1.0
CARD_WIDTH = 250
ICONS = {
    "freeze": "ac_unit",
    "kill": "power_off",
    "delete_stream": "delete",
    "fill_stream": "database_off",
    "limit_size": "compress",
    "deny_subject": "block",
    "delay": "schedule",
    "throttle": "speed",
    "blackhole": "visibility_off",
    "reset": "link_off",
    "kafka_down": "cloud_off",
    "kafka_delay": "schedule",
    "kafka_replicas": "content_copy",
    "kafka_denied": "block",
    "kafka_too_large": "compress",
}
_CHOSEN_S, _REFUSED = "fault_duration", "fault_refused"


class Control(Protocol):
    """What the page asks of LoadControl."""

    def status(self) -> LoadStatus: ...


class Desk(Protocol):
    """What the page asks of FaultDesk."""

    def offers(self, run: RunInfo | None) -> Sequence[Offer]: ...

    def why_not(self, run: RunInfo | None) -> str | None: ...

    def apply(self, run: RunInfo, name: str, duration_s: float) -> FaultStatus: ...

    def undo(self) -> None: ...

    def active(self) -> Made | None: ...

    def made(self, run_id: str) -> Sequence[FaultStatus]: ...


def page(source: RunSource, history: RunHistory, control: Control, desk: Desk, by: str = "") -> None:
    """Draw the page; all of it is one fragment, drawn again each second. by: this browser, as holders of the controls

    are known.
    """
    st.fragment(_page, run_every=REFRESH_S)(source, history, control, desk, by)


def _page(source: RunSource, history: RunHistory, control: Control, desk: Desk, by: str) -> None:
    if refused := st.session_state.pop(_REFUSED, None):
        st.toast(widgets.plain(refused), icon=":material/error:")
    try:
        run = run_choice.choose(source, control)
        active = desk.active()
        why_not = _why_not(desk, control, run, by)
        _strip(run, active, why_not, desk)
        made = [] if run is None else desk.made(run.run_id)
        found = None if run is None or not made else _found(source, history, run, made[0])
        _figures(made[0] if made else None, found)
        _cards(desk, run, active, why_not)
        if found is not None:
            _told(found)
            _table(made)
    except StoreError as error:
        _strip(None, desk.active(), None, desk)  # what is broken can be healed, whatever the store is like
        run_choice.store_trouble(error)


def _why_not(desk: Desk, control: Control, run: RunInfo | None, by: str) -> str | None:
    """Why this browser can break nothing now; None where it can."""
    why_not = desk.why_not(run)
    holder = control.status()
    if why_not is None and by and holder.by and holder.by != by:
        name = f" ({widgets.plain(holder.by_name)})" if holder.by_name else ""
        return f"Another browser{name} holds the controls of this run. Take them on **Live** first."
    return why_not


# ---- what is broken now ------------------------------------------------------------------------------------------


def _strip(run: RunInfo | None, active: Made | None, why_not: str | None, desk: Desk) -> None:
    """One line that is always there, so that nothing below it moves when a fault begins or ends."""
    with st.container(horizontal=True, vertical_alignment="center", key="fault_strip"):
        if active is not None:
            status = active.status
            left_s = max(0.0, status.ends_wall_s - time.time())
            other = "" if run is None or run.run_id == active.run_id else " in another run"
            st.error(
                f"**{widgets.plain(status.title)}**{other}: undone by itself in {left_s:.0f} s.",
                icon=":material/bolt:",
            )
        elif why_not is not None:
            st.info(why_not, icon=":material/info:")
        else:
            st.success("**Nothing is broken.** Choose a fault below.", icon=":material/healing:")
        st.button(
            "Undo",
            key="fault_undo",
            icon=":material/healing:",
            disabled=active is None,
            on_click=desk.undo,
            help="Heal what is broken now.",
        )


# ---- what can be broken ------------------------------------------------------------------------------------------


def _cards(desk: Desk, run: RunInfo | None, active: Made | None, why_not: str | None) -> None:
    duration_s = st.slider(
        "Duration (s)",
        MIN_S,
        MAX_S,
        DEFAULT_S,
        key=_CHOSEN_S,
        width=300,
        help="How long a fault lasts. It is undone by itself then, and when the run or the dashboard ends.",
    )
    if active is not None:
        why_not = "Something is broken already. Undo it first, so that what is seen has one cause."
    offers = desk.offers(run)
    for title, network in ((":material/dns: Broker and what it stores", False), (":material/lan: Network", True)):
        group = [offer for offer in offers if offer.network is network]
        if not group:
            continue
        st.markdown(f"**{title}**")
        with st.grid(3 if len(group) % 3 == 0 else 4, min_column_width=CARD_WIDTH):
            for offer in group:
                _card(desk, run, offer, active, why_not, float(duration_s))


def _card(
    desk: Desk, run: RunInfo | None, offer: Offer, active: Made | None, why_not: str | None, duration_s: float
) -> None:
    fault = offer.fault
    lasting = active is not None and active.status.name == fault.name
    blocked = why_not or offer.why_not
    with st.container(border=True, gap="xsmall", height="stretch"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            icon = ICONS.get(fault.name, "bolt")
            st.markdown(f":material/{icon}: **{widgets.plain(fault.title)}**", width="content")
            _badge(lasting, blocked)
        st.markdown(f":small[{widgets.plain(fault.breaks)}]")
        st.markdown(f":small[:gray[Expect: {widgets.plain(fault.expect)}]]")
        st.button(
            "Apply once" if fault.momentary else f"Apply for {duration_s:.0f} s",
            key=f"apply_{fault.name}",
            icon=":material/bolt:",
            disabled=run is None or blocked is not None,
            help=blocked,
            on_click=_apply,
            args=(desk, run, fault.name, duration_s),
            width="stretch",
        )


def _badge(lasting: bool, blocked: str | None) -> None:
    if lasting:
        text = widgets.badge("red", "bolt", "broken now")
    elif blocked is not None:
        text = widgets.badge("gray", "lock", "not now")
    else:
        text = widgets.badge("green", "check", "ready")
    st.markdown(text, width="content", help=blocked if blocked is not None and not lasting else None)


def _apply(desk: Desk, run: RunInfo, name: str, duration_s: float) -> None:
    """A callback may draw nothing in a fragment: a refusal is kept for the page, which comes next."""
    try:
        desk.apply(run, name, duration_s)
    except LoadRefused as refusal:
        st.session_state[_REFUSED] = str(refusal)


# ---- what was seen -----------------------------------------------------------------------------------------------


def _found(source: RunSource, history: RunHistory, run: RunInfo, status: FaultStatus) -> Seen:
    age_s = max(1.0, (run.ended_wall_s or time.time()) - status.began_wall_s)
    view = history.view(run.run_id, age_s + 2.0, recent_s=5.0, over=run.status.is_over)
    return faults.seen(status, run, view.intervals, source.alerts(run.run_id), source.events(run.run_id))


def _span(status: FaultStatus) -> str:
    began = f"{status.title}, since {widgets.clock(status.began_wall_s)}"
    if status.state is FaultState.ACTIVE:
        return began
    return f"{faults.ending(status)}; up to {AFTERMATH_S:.0f} s after its end"


def _figures(status: FaultStatus | None, found: Seen | None) -> None:
    """What became of messages: always there, so that nothing below it moves."""
    if status is None:
        st.markdown("**What was seen** &nbsp;:gray[nothing yet: no fault was made in this run]")
    else:
        expected = f"Expected: {status.expect}"
        st.markdown(f"**What was seen** &nbsp;:gray[{widgets.plain(_span(status))}]", help=widgets.plain(expected))
    whole = None if found is None else found.whole
    with st.grid(7, min_column_width=130):
        for label, number, note in _numbers(whole):
            shown = style.NOTHING if number is None else style.count(number)
            st.metric(label, shown, note, delta_color="off", delta_arrow="off")
        silent = None if found is None or whole is None else found.silent_s
        st.metric(
            "Longest without acks", style.duration(silent), "in whole seconds", delta_color="off", delta_arrow="off"
        )


def _numbers(whole: Interval | None) -> list[tuple[str, int | None, str]]:
    """Label, figure and note; the same ones whether or not anything was seen."""
    seen = whole or Interval(0.0, 0.0, 0.0)
    numbers = [
        ("Accepted", seen.accepted, "messages"),
        ("Acked", seen.acked, f"{style.count(seen.duplicates)} duplicates, {style.count(seen.late_acks)} late"),
        ("Rejected", seen.rejected, "certainly not stored"),
        ("Unknown", seen.unknown, "may be stored"),
        ("Ack timeouts", seen.ack_timeouts, f"{style.count(seen.retries)} tried again"),
        ("Pending, peak", seen.pending_max, "messages" if whole is None else f"of {style.count(seen.max_pending)}"),
    ]
    return [(label, None if whole is None else number, note) for label, number, note in numbers]


def _told(found: Seen) -> None:
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


def _table(made: Sequence[FaultStatus]) -> None:
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
