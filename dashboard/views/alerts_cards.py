"""Where alerts stand now: a card for each that asks for a look, and a line for every rule beside them.

Both are as high whatever happens, and the lines keep their order: nothing moves when an alert begins or ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard import style, widgets
from dashboard.alert_states import SIGNS, Firing, Standing, active, long
from dashboard.views.alerts_steer import Steering, acknowledge_button
from eventbus.alerts import AlertPhase
from eventbus.observe.run import RunInfo

HEIGHT = 330
"""In pixels, of both: room for the lines of about eight rules, and for two cards."""
LATELY = 5
"""Alerts that are over and are still told of."""
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


def counts(found: Sequence[Standing], note: str) -> None:
    """How many are where, and when that was; each count is always there, so that none moves."""
    asking = active(found)
    told = [one for one in asking if not one.muted]
    badges = []
    for phase in (AlertPhase.FIRING, AlertPhase.PENDING, AlertPhase.RECOVERING):
        colour, icon, _ = PHASES[phase]
        number = sum(one.phase is phase for one in told)
        badges.append(widgets.badge(colour if number else "gray", icon, f"{number} {phase}"))
    badges.append(widgets.badge("gray", "notifications_off", f"{len(asking) - len(told)} muted"))
    st.markdown(f"{' '.join(badges)} &nbsp;:small[:gray[{note}]]")


def cards(run: RunInfo, found: Sequence[Standing], fired: Sequence[Firing], steer: Steering, at_s: float) -> None:
    """What asks for a look, the gravest first; below it what is over."""
    with st.container(height=HEIGHT, border=True, gap="small", key="active_alerts"):
        asking = active(found)
        if not asking:
            _calm(run, len(found), fired)
        for one in asking:
            _card(one, steer, at_s)
        _lately([firing for firing in reversed(fired) if firing.to_s is not None])


def lines(run: RunInfo, found: Sequence[Standing], fired: Sequence[Firing], at_s: float) -> None:
    """Every rule in a line: its state, its value beside its threshold, since when, and how often it fired."""
    if not found:
        with st.container(height=HEIGHT, border=True, vertical_alignment="center"):
            st.markdown(":gray[This run has no alert rules.]", text_alignment="center")
        return
    times: dict[str, int] = {}
    for firing in fired:
        times[firing.rule] = times.get(firing.rule, 0) + 1
    live = any(one.live for one in found)
    st.dataframe(
        [_line(one, times.get(one.rule, 0), at_s) for one in found],
        key="rules_now",
        height=HEIGHT,
        hide_index=True,
        alt="Every alert rule of the run: its state, its value and its threshold",
        column_config=_columns(live, run.status.is_over),
    )


def _card(one: Standing, steer: Steering, at_s: float) -> None:
    with st.container(gap="xxsmall", border=True):
        st.markdown(f"{_phase(one)} {_severity(one.severity)} **{widgets.plain(one.text)}**")
        # Side by side where there is room, else one below the other: that is what width="content" is for.
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", gap="small"):
            st.markdown(
                f"**{widgets.plain(one.value)}** :small[:gray[{' &nbsp;·&nbsp; '.join(_notes(one, at_s))}]]",
                width="content",
            )
            if one.phase.fires:
                acknowledge_button(one.rule, one.since_s, steer)
        st.progress(one.progress(at_s))
        if one.what_to_do:
            st.markdown(f":small[:material/lightbulb: {widgets.plain(one.what_to_do)}]")
        if one.muted:
            st.markdown(f":small[:material/notifications_off: Nobody is told: {widgets.plain(one.muted)}.]")


def _notes(one: Standing, at_s: float) -> list[str]:
    """When the value was so, what it is to be compared with, and how long it has been as it is."""
    when = "now" if one.live else f"at {widgets.clock(one.since_s)}"
    notes = [f"{when}; fires while {one.threshold}", one.told(at_s), one.rule]
    return [widgets.plain(note) for note in notes]


def _calm(run: RunInfo, rules: int, fired: Sequence[Firing]) -> None:
    over = run.status.is_over
    st.markdown(f":material/check_circle: **No alert {'fired at the end' if over else 'is firing'}.**")
    if not fired:
        looked = "was" if over else "is"
        what = f"Each of its {rules} rules {looked} looked at four times a second" if rules else "It has no rules"
        st.markdown(
            f":small[:gray[None has fired in this run. {what}; those of the next run are on the tab **Rules**.]]"
        )


def _lately(over: Sequence[Firing]) -> None:
    if not over:
        return
    told = [
        f":small[{widgets.badge('green', 'check_circle', 'over')} :gray[{widgets.plain(widgets.clock(one.from_s))} to "
        f"{widgets.plain(widgets.clock(one.to_s or one.from_s))}] {widgets.plain(one.text)} "
        f":gray[fired for {widgets.plain(_lasted(one))}]]"
        for one in over[:LATELY]
    ]
    if len(over) > LATELY:
        told.append(f":small[:gray[and {len(over) - LATELY:,} before: see the history]]")
    st.markdown("  \n".join(told))


def _lasted(one: Firing) -> str:
    seconds = (one.to_s or one.from_s) - one.from_s
    return style.duration(seconds) if seconds < 10 else long(seconds)


def _line(one: Standing, times: int, at_s: float) -> Mapping[str, Any]:
    _, _, sign = PHASES[one.phase]
    known = bool(one.since_s) and one.phase is not AlertPhase.INACTIVE
    return {
        "State": f"{sign} {style.words(str(one.phase))}",
        "Rule": one.rule,
        "Value": one.value or style.NOTHING,
        "Threshold": one.threshold or style.NOTHING,
        "For": long(one.held_s(at_s)) if known else style.NOTHING,
        "Fired": times,
        "Severity": f"{SIGNS.get(one.severity, '•')} {one.severity}",
        "Fires while": one.expression,
    }


def _columns(live: bool, over: bool) -> dict[str, Any]:
    text = st.column_config.TextColumn
    value = (
        ("As it was when the run ended." if over else "Now: the run tells it once a second.")
        if live
        else "As it was at its last change. Values of now are told only by a run that this dashboard started last."
    )
    return {
        "State": text(width=88),
        "Rule": text(width=135),
        "Value": text(width=70, help=value),
        "Threshold": text(width=80, help="It fires while the value is so."),
        "For": text(width=75, help="How long it has been in its state."),
        "Fired": st.column_config.NumberColumn(width=55, help="How often it fired in this run."),
        "Severity": text(width=90),
        "Fires while": text(width=320),
    }


def _phase(one: Standing) -> str:
    colour, icon, _ = PHASES[one.phase]
    if one.muted:
        colour, icon = "gray", "notifications_off"
    word = style.words(str(one.phase))
    return widgets.badge(colour, icon, f"{word}, muted" if one.muted else word)


def _severity(severity: str) -> str:
    colour, icon = SEVERITIES.get(severity, ("gray", "label"))
    return widgets.badge(colour, icon, severity)
