"""The editor of the plan of the next run: presets, files, and the fields, folded away until somebody wants them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from dashboard import plan_form, plan_toml, widgets
from dashboard.broker_choice import EMBEDDED, OWN
from dashboard.plan_form import DEFAULTS, Reading
from dashboard.views import live_plan, live_plan_fields, profile_choice
from eventbus.errors import ConfigError
from eventbus.load.presets import PRESETS

NOT_OF_A_PRESET = ("url", "topic", "topics", "headers", "keys", "records", "file", "template", "loop", "rules", "sinks")
_UPLOAD, _UPLOAD_ERROR, _PRESET = "plan_upload", "plan_upload_error", "plan_preset"


def editor(found: Reading, records: Sequence[Path]) -> None:
    """The fields, folded away until somebody wants them; nothing of them costs anything meanwhile."""
    live_plan.open_if_asked()
    # Its label never changes: Streamlit would take it for another expander, which is closed.
    folded = st.expander("Plan", icon=":material/tune:", key="plan_open", on_change="rerun")
    if not folded.open:
        return
    with folded:
        _files(found)
        with st.grid(4, min_column_width=240, gap="medium") as grid:
            with grid.cell():
                live_plan_fields.pace(found)
            with grid.cell():
                live_plan_fields.limits(found)
            with grid.cell():
                live_plan_fields.content(found, records)
            with grid.cell():
                live_plan_fields.acks(found)


# ---- presets and files --------------------------------------------------------------------------------------------


def _files(found: Reading) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Begin with",
            list(PRESETS),
            index=None,
            placeholder="A preset",
            key=_PRESET,
            width=150,
            filter_mode=None,
            on_change=_take_preset,
            help="\n".join(f"- **{one.name}**: {one.description}" for one in PRESETS.values()),
        )
        live_plan_fields.text("name", "Name", found, width=170, placeholder="of the run, for people")
        st.download_button(
            "Download",
            data=b"" if found.plan is None else plan_toml.text_of(found.plan),
            file_name="plan.toml" if found.plan is None else plan_toml.file_name(found.plan),
            mime="application/toml",
            key="plan_download",
            icon=":material/download:",
            disabled=found.plan is None,
            on_click="ignore",
            help="A file that `ackscope load FILE` runs as well. Passwords are left out.",
        )
        with st.popover("Upload", icon=":material/upload:"):
            st.file_uploader("A plan file (TOML)", "toml", key=_UPLOAD, on_change=_take_upload, max_upload_size=1)
        st.button("Reset", icon=":material/restart_alt:", key="plan_reset", on_click=_reset)
    if error := st.session_state.get(_UPLOAD_ERROR):
        st.error(widgets.plain(error), title="The file is no plan", icon=":material/error:")
    _kept_of_the_file()


def _kept_of_the_file() -> None:
    rules, sinks = live_plan.given("rules"), live_plan.given("sinks")
    if rules is not None or sinks:
        st.caption(
            f":material/attach_file: The plan brings {len(rules or ())} alert rules and {len(sinks)} sinks of its own. "
            "Reset takes them away."
        )


def _take_preset() -> None:
    name = st.session_state.get(_PRESET)
    if name is not None:
        made = PRESETS[name]
        form = plan_form.form_of(made.plan())
        fixed = {*NOT_OF_A_PRESET} | (set() if "payload_size" in made.values else {"content", "size", "size_max"})
        live_plan.fill({field: value for field, value in form.items() if field not in fixed})


def _take_upload() -> None:
    file = st.session_state.get(_UPLOAD)
    st.session_state[_UPLOAD_ERROR] = None
    if file is None:
        return
    try:
        plan = plan_toml.plan_from_upload(file.getvalue(), file.name)
    except ConfigError as error:
        st.session_state[_UPLOAD_ERROR] = str(error)
        return
    names = [name for name, url in EMBEDDED.items() if url == plan.url]
    name = names[0] if names else None if "@" in plan.url else profile_choice.name_of(plan.url)
    broker = {"broker": OWN, "own_url": plan.url} if name is None else {"broker": name}
    live_plan.fill({**plan_form.form_of(plan), **broker})


def _reset() -> None:
    st.session_state[_UPLOAD_ERROR] = None
    live_plan.fill({name: value for name, value in DEFAULTS.items() if name != "records"})
