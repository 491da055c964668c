"""The form of one alert rule: the fields, filled with what is kept of it, and what they hold now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.alert_drafts import Draft
from dashboard.alert_rules import Listed, Origin
from dashboard.alert_states import SEVERITIES, SIGNS
from eventbus.alerts.rule import NO_DATA

LIVE = "400ms"
"""An expression is checked so long after the last key."""


def rule_form(of: Listed | None, names: Sequence[str], revision: int) -> tuple[Draft, DeltaGenerator]:
    """The fields, filled with what is kept of the rule: what they hold now, and a place below the expression."""
    kept = Draft() if of is None else Draft.of(of.rule, of.on)
    slot = f"rule-{revision}-{kept.name}-"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input(
            "Name",
            kept.name,
            key=f"{slot}name",
            max_chars=64,
            placeholder="slow_acks",
            disabled=of is not None and of.origin is not Origin.OWN,
            help="Short and stable. That of a default rule cannot be changed.",
        )
        on = st.toggle("Enabled", kept.on, key=f"{slot}on", help="Off: no run gets it.")
    when = st.text_input(
        "Fires while",
        kept.when,
        key=f"{slot}when",
        live=LIVE,
        max_chars=400,
        placeholder="p99(ack_latency, 10s) > 250ms",
    )
    below = st.container(gap="xxsmall")
    clear, for_, keep = _times(kept, slot)
    severity = st.segmented_control(
        "Severity",
        SEVERITIES,
        default=kept.severity,
        required=True,
        format_func=lambda word: f"{SIGNS[word]} {word}",
        key=f"{slot}severity",
    )
    summary = st.text_input(
        "Summary", kept.summary, key=f"{slot}summary", max_chars=1000, placeholder="What is wrong, in one sentence"
    )
    description = st.text_area(
        "Description", kept.description, key=f"{slot}description", height=70, max_chars=1000, placeholder="What to do"
    )
    rest = _more(kept, slot, [other for other in names if other != kept.name])
    draft = Draft(
        name=name,
        when=when,
        clear=clear,
        for_=for_,
        keep_firing_for=keep,
        severity=severity or kept.severity,
        summary=summary,
        description=description,
        on=on,
        labels=kept.labels,
        **rest,
    )
    return draft, below


def _times(kept: Draft, slot: str) -> tuple[str, str, str]:
    """Where it is over, how long it must hold, and how long it goes on."""
    with st.container(horizontal=True):
        clear = st.text_input(
            "Over at",
            kept.clear,
            key=f"{slot}clear",
            width=105,
            live=LIVE,
            placeholder="200ms",
            help="`clear`: it is over only when the left side has come back to this value. Empty: as soon as the "
            "expression does not hold.",
        )
        for_ = st.text_input(
            "For",
            kept.for_,
            key=f"{slot}for",
            width=90,
            live=LIVE,
            placeholder="at once",
            help="`for`: it must hold so long before it fires.",
        )
        keep = st.text_input(
            "Keep firing",
            kept.keep_firing_for,
            key=f"{slot}keep",
            width=110,
            live=LIVE,
            placeholder="not at all",
            help="`keep_firing_for`: goes on for so long after it is over.",
        )
    return clear, for_, keep


def _more(kept: Draft, slot: str, others: Sequence[str]) -> dict[str, Any]:
    with st.expander("More", icon=":material/tune:"):
        min_samples = st.number_input(
            "Least number of values",
            1,
            1_000_000_000,
            kept.min_samples,
            key=f"{slot}min",
            help="`min_samples`: with fewer latencies, messages or samples behind it, the expression says nothing.",
        )
        no_data = st.selectbox(
            "When it says nothing",
            NO_DATA,
            NO_DATA.index(kept.no_data),
            key=f"{slot}nodata",
            filter_mode=None,
            help="`ok`: as if it did not hold. `keep`: stays as it is. `no_data`: a state of its own. `firing`: fires.",
        )
        inhibited_by = st.multiselect(
            "Muted while one of these fires",
            others,
            [name for name in kept.inhibited_by if name in others],
            key=f"{slot}inhibited",
        )
        repeat = st.text_input(
            "Told again each",
            kept.repeat,
            key=f"{slot}repeat",
            placeholder="1h",
            help="`repeat`: while it fires and nobody has acknowledged it.",
        )
    return {
        "min_samples": int(min_samples),
        "no_data": no_data,
        "inhibited_by": tuple(inhibited_by),
        "repeat": repeat,
    }
