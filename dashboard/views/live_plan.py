"""The plan of the next run on the Live page, as its fields stand. live_plan_editor.py draws them.

The fields' values live in the session, whether the editor is open or not, so that Start always knows them. To fill the
form, its widgets are replaced by others, with new keys: a value that is put into a widget is lost where the browser
asks for the next refresh before it has heard of it, and this page is refreshed each second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from dashboard import plan_form, plan_preview, widgets
from dashboard.broker_choice import EMBEDDED, OWN
from dashboard.plan_form import DEFAULTS, Pace, Reading
from dashboard.views import profile_choice

KEYS = (
    {"content": "payload", "ack_timeout_s": "ack_timeout", "duration_s": "duration"}
    | {name: name for name in ("broker", "topic", "rate", "records", "size", "max_pending")}
    | {"own_url": "url"}
)
"""Keys of fields; all others are ``plan_`` and the name. Once the form was filled, a number follows."""
_BAR = {"broker": "Embedded NATS", "own_url": ""}
"""Fields of the bar that are no settings of a plan, with their defaults."""
PACES = {
    Pace.RATE: "Constant rate",
    Pace.RAMP: "Ramp",
    Pace.STEP: "Steps",
    Pace.BURST: "Bursts",
    Pace.SINE: "Sine",
    Pace.MAX: "As fast as the window lets",
    Pace.WORKERS: "Workers, each awaits its ack",
    Pace.RECORDED: "As recorded",
}
_VALUES, _FILLED, _OPEN = "plan_values", "plan_filled", "plan_open_next"
LABELS = {
    "broker": "Broker",
    "url": "URL",
    "topic": "Topic",
    "topics": "Topics",
    "headers": "Headers",
    "thresholds": "Thresholds",
    "stages": "Stages",
    "file": "File",
    "template": "Template",
    "pace": "Pace",
    "name": "Name",
}
BREAKABLE = "breakable_network"
"""Not a part of the plan: it concerns this dashboard's own broker."""


def key(name: str) -> str:
    """Of the widget of a field."""
    filled = st.session_state.get(_FILLED, 0)
    plain = KEYS.get(name, f"plan_{name}")
    return f"{plain}_{filled}" if filled else plain


def default(name: str) -> Any:
    """What a field begins with; it stays the same as long as its key does."""
    value = st.session_state.get(_VALUES, {}).get(name, _BAR.get(name, DEFAULTS.get(name)))
    return float(value) if isinstance(DEFAULTS.get(name), float) else value


def given(name: str) -> Any:
    """What a field says now; its default where it says nothing."""
    value = st.session_state.get(key(name))
    return default(name) if value is None else value


def binding() -> Literal["query-params"] | None:
    """Fields of the bar are bound to the URL, by their keys, until the form is filled."""
    return None if st.session_state.get(_FILLED, 0) else "query-params"


def chosen_url() -> str:
    """The URL of the broker that is chosen, of a profile without its login; empty where the profile is gone."""
    choice = str(given("broker"))
    if choice in EMBEDDED:
        return EMBEDDED[choice]
    if choice == OWN:
        return str(given("own_url")).strip()
    profile = profile_choice.find(choice)
    return "" if profile is None else profile.url


def reading(records: Sequence[Path]) -> Reading:
    """The plan as the fields stand now."""
    choice = str(given("broker"))
    if profile_choice.is_gone(choice):
        return Reading(None, {"broker": f"The profile {choice} cannot be used: {gone()}"})
    form = {name: given(name) for name in DEFAULTS} | {"url": chosen_url()}
    profile = profile_choice.find(choice)
    if profile is not None:
        form["connection"] = profile.connection
    elif choice != OWN:  # that of a file belongs to its URL
        form["connection"] = {}
    if form["records"] is None and records:
        form["records"] = records[0]
    found = plan_form.read(form)
    replay = None if found.plan is None else found.plan.replay
    if replay is not None and not replay.is_file():
        return Reading(None, {"file": f"There is no file {replay} on the machine of this dashboard."})
    return found


def gone() -> str:
    """Why a profile that was chosen is none any more, and what to do."""
    return profile_choice.file_trouble() or "it was deleted or renamed. Choose another broker."


def trouble(found: Reading) -> str:
    """What keeps the plan from being started, in a line for those who do not see the fields."""
    return "; ".join(f"{LABELS.get(name, name.replace('_', ' '))}: {text}" for name, text in found.problems.items())


def told(found: Reading) -> str:
    """The plan in a line, for Markdown."""
    if "broker" in found.problems:
        return f":red[:material/error: {widgets.plain(found.problems['broker'])}]"
    if found.plan is None:
        return ":red[:material/error: The plan cannot be started yet: see the red lines in it.]"
    return f":material/tune: {widgets.plain(plan_preview.summary(found.plan))}"


def open_next() -> None:
    """Unfold the fields when they are drawn next."""
    st.session_state[_OPEN] = True


def open_if_asked() -> None:
    """Do so, before they are."""
    if st.session_state.pop(_OPEN, False):
        st.session_state["plan_open"] = True


def fill(form: Mapping[str, Any]) -> None:
    """Let the form say this; what is not in ``form`` stays, and a ``url`` in it is left to ``broker``."""
    state = st.session_state
    now = {name: given(name) for name in (*DEFAULTS, *_BAR)}
    state[_VALUES] = {**now, **{name: value for name, value in form.items() if name != "url"}}
    state[_FILLED] = state.get(_FILLED, 0) + 1
