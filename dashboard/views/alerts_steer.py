"""Silencing and acknowledging the alerts of the run that goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import streamlit as st

from dashboard import widgets
from dashboard.alert_silences import ALL, DURATIONS_S, SilenceBook
from dashboard.alert_states import Standing
from dashboard.control import LoadStatus, Phase
from dashboard.process import LoadRefused
from dashboard.views import alerts_notice
from eventbus.observe.run import RunInfo

NOBODY = "somebody"
_END_S = 0.001
"""A silence of the same alert takes the place of the one before: so short a one is its end."""


class Control(Protocol):
    """What is asked of LoadControl."""

    def status(self) -> LoadStatus: ...

    def silence(self, alerts: Sequence[str], for_s: float, by: str, comment: str = "") -> None: ...

    def acknowledge(self, alert: str, by: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Steering:
    """What can be done about the alerts of ``run``. why_not: why nothing can be done, or empty."""

    control: Control
    book: SilenceBook
    run: RunInfo
    why_not: str

    @property
    def by(self) -> str:
        """Who this is. Asked when something is done: what was typed just before a press is known only then."""
        return _typed("alerts_by") or NOBODY

    def with_silence(self, one: Standing) -> Standing:
        """``one`` as it is now: a silence since its last change is not in the store."""
        held = self.book.of(self.run.run_id, one.rule)
        if held is not None:
            comment = f": {held.comment}" if held.comment else ""
            return replace(one, muted=f"silenced until {widgets.clock(held.until_s)} by {held.by}{comment}")
        who = self.book.acknowledged(self.run.run_id, one.rule, one.since_s) if one.phase.fires else ""
        return replace(one, muted=one.muted or f"acknowledged by {who}") if who else one


def steering(control: Control, book: SilenceBook, run: RunInfo, names: Sequence[str]) -> Steering:
    """Draw who one is and what can be silenced."""
    st.text_input(
        "Your name",
        key="alerts_by",
        width=140,
        max_chars=60,
        placeholder=NOBODY,
        persist_state="session",
        help="Told to the others with what you silence or acknowledge.",
    )
    steer = Steering(control, book, run, _why_not(control.status(), run))
    held = book.silences(run.run_id)
    with st.popover(
        f"Silence ({len(held)})" if held else "Silence",
        icon=":material/notifications_off:",
        disabled=bool(steer.why_not),
        help=steer.why_not or "Tell nobody of some alerts for a while. The run goes on and keeps their changes.",
    ):
        _form(steer, names)
        for one in held:
            _held(steer, one.rule, one.until_s, one.by)
    return steer


def acknowledge_button(rule: str, since_s: float, steer: Steering) -> None:
    """A button that says that somebody looks after an alert that fires."""
    done = bool(steer.book.acknowledged(steer.run.run_id, rule, since_s))
    st.button(
        "Acknowledged" if done else "Acknowledge",
        key=f"acknowledge-{rule}",
        icon=":material/done_all:" if done else ":material/visibility:",
        disabled=done or bool(steer.why_not),
        help=steer.why_not or "You look after it: nobody is told again until it is over.",
        on_click=_acknowledge,
        args=(steer, rule),
    )


def _why_not(seen: LoadStatus, run: RunInfo) -> str:
    if run.status.is_over:
        return "This run is over: there is nobody to be told any more."
    if seen.run_id != run.run_id or not seen.active:
        return "This run was not started by this dashboard: only whoever started it can silence its alerts."
    if seen.phase is Phase.STOPPING:
        return "The run is stopping."
    return ""


def _form(steer: Steering, names: Sequence[str]) -> None:
    st.multiselect("Alerts", names, key="silence_rules", placeholder="All of them", width=320)
    st.selectbox("For", list(DURATIONS_S), index=2, key="silence_for", filter_mode=None)
    st.text_input("Comment", key="silence_comment", max_chars=200, placeholder="Why, for the others")
    st.button(
        "Silence",
        key="silence",
        type="primary",
        icon=":material/notifications_off:",
        on_click=_silence,
        args=(steer,),
    )


def _held(steer: Steering, rule: str, until_s: float, by: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        what = "All" if rule == ALL else rule
        st.markdown(f":small[**{widgets.plain(what)}** until {widgets.plain(f'{widgets.clock(until_s)} by {by}')}]")
        st.button("End", key=f"unsilence-{rule}", on_click=_end, args=(steer, rule))


def _typed(key: str) -> str:
    return str(st.session_state.get(key) or "").strip()


def _silence(steer: Steering) -> None:
    rules = list(st.session_state["silence_rules"]) or [ALL]
    for_s, comment = DURATIONS_S[st.session_state["silence_for"]], _typed("silence_comment")
    if _told(lambda: steer.control.silence(rules, for_s, steer.by, comment)):
        steer.book.silence(steer.run.run_id, rules, for_s, steer.by, comment)
        alerts_notice.note("Silenced. The run keeps the changes all the same.", "notifications_off")


def _end(steer: Steering, rule: str) -> None:
    if _told(lambda: steer.control.silence([rule], _END_S, steer.by)):
        steer.book.unsilence(steer.run.run_id, rule)


def _acknowledge(steer: Steering, rule: str) -> None:
    if _told(lambda: steer.control.acknowledge(rule, steer.by)):
        steer.book.acknowledge(steer.run.run_id, rule, steer.by)


def _told(command: Callable[[], None]) -> bool:
    try:
        command()
    except LoadRefused as refusal:
        alerts_notice.note(str(refusal), "info")
        return False
    return True
