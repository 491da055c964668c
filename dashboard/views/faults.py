"""Faults: break the embedded broker on purpose, and watch what becomes of every message."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import streamlit as st

from dashboard import faults, widgets
from dashboard.control import LoadStatus
from dashboard.faults import DEFAULT_S, MAX_S, MIN_S, Made, Offer
from dashboard.process import LoadRefused
from dashboard.rates import Interval
from dashboard.source import RunHistory, RunSource
from dashboard.views import run_choice
from dashboard.views.faults_seen import figures, table, told
from eventbus.faults import FaultStatus
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
        found, lately = None, {}
        if run is not None and made:
            rows = _intervals(history, run, made)
            found = faults.seen(made[0], run, rows, source.alerts(run.run_id), source.events(run.run_id))
            lately = {one.name: (one, faults.in_short(one, run, rows)) for one in reversed(made)}
        figures(made[0] if made else None, found)
        _cards(desk, run, active, why_not, lately)
        if found is not None:
            told(found)
            table(made)
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


Lately = Mapping[str, tuple[FaultStatus, str]]
"""By the name of a fault: when it was made last in this run, and what was seen then, in short."""


def _cards(desk: Desk, run: RunInfo | None, active: Made | None, why_not: str | None, lately: Lately) -> None:
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
        reasons = {offer.why_not for offer in group}
        apart = next(iter(reasons)) if why_not is None and len(reasons) == 1 else None
        st.markdown(f"**{title}**" + (f" &nbsp;:gray[:material/lock: {apart}]" if apart else ""))
        with st.grid(3 if len(group) % 3 == 0 else 4, min_column_width=CARD_WIDTH):
            for offer in group:
                _card(desk, run, offer, active, why_not, float(duration_s), lately)


def _card(
    desk: Desk,
    run: RunInfo | None,
    offer: Offer,
    active: Made | None,
    why_not: str | None,
    duration_s: float,
    lately: Lately,
) -> None:
    """One fault. Its button is at the foot, so that those of a row stand on one line."""
    fault = offer.fault
    lasting = active is not None and active.status.name == fault.name
    blocked = why_not or offer.why_not
    with st.container(border=True, gap="xsmall", height="stretch", vertical_alignment="distribute"):
        with st.container(gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
                icon = ICONS.get(fault.name, "bolt")
                st.markdown(f":material/{icon}: **{widgets.plain(fault.title)}**", width="content")
                _badge(lasting, blocked)
            st.markdown(f":small[{widgets.plain(fault.breaks)}]")
            st.markdown(f":small[**Expect:** {widgets.plain(fault.expect)}]")
            st.markdown(f":small[:gray[**Seen:** {widgets.plain(_lately(lately.get(fault.name)))}]]")
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


def _lately(seen: tuple[FaultStatus, str] | None) -> str:
    if seen is None:
        return "not made in this run."
    return f"{widgets.clock(seen[0].began_wall_s)}, {seen[1]}."


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


def _intervals(history: RunHistory, run: RunInfo, made: Sequence[FaultStatus]) -> Sequence[Interval]:
    """The run from the first of these faults on."""
    first_s = min(one.began_wall_s for one in made)
    age_s = max(1.0, (run.ended_wall_s or time.time()) - first_s)
    return history.view(run.run_id, age_s + 2.0, recent_s=5.0, over=run.status.is_over).intervals
