"""The details of one kept run: what came of it, and what people may change: name, notes, pin; and its end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from dashboard import style, widgets
from dashboard.alert_states import firings
from dashboard.run_history import verdict_words
from dashboard.views.live import STATUSES
from dashboard.views.run_facts import facts
from dashboard.views.run_figures import opened
from dashboard.views.run_files import report
from eventbus import EventBusError, runs
from eventbus.observe import RunEditor, RunInfo, StoreReader

NOTES_HEIGHT = 72
"""The least that Streamlit lets a text area have, which is two lines."""


def details(source: StoreReader, info: RunInfo) -> None:
    """Everything about one run below the list. Raises StoreError."""
    run = opened(source, info)
    editor = RunEditor(source.path)
    with st.container(border=True, key="details"):
        _head(run, editor)
        if info.error:
            st.error(widgets.plain(info.error), title="The run did not go well", icon=":material/error:")
        if info.status == "interrupted":
            st.warning(
                "Its process is gone without an end. What it measured until then is here.",
                icon=":material/heart_broken:",
            )
        _edit(info, editor)
        facts(run)


def _head(run: runs.Run, editor: RunEditor) -> None:
    info = run.info
    colour, icon = STATUSES[info.status]
    badges = [widgets.badge(colour, icon, str(info.status))]
    if verdict := verdict_words(info):
        passed = verdict.startswith("✓")
        badges.append(
            widgets.badge("green" if passed else "red", "verified" if passed else "cancel", "thresholds " + verdict[2:])
        )
    if failed := run.summary.failed:
        badges.append(widgets.badge("red", "report", f"{style.count(failed)} failed"))
    if fired := len(firings(run.alerts)):
        badges.append(widgets.badge("orange", "notifications", f"{fired} alert{'s' * (fired != 1)} fired"))
    if info.baseline:
        badges.append(widgets.badge("blue", "keep", "baseline"))
    badges.append(widgets.badge("gray", "dns", widgets.broker_name(info)))
    badges.append(widgets.badge("gray", "sell", info.topic))
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        with st.container(width="content", gap="xsmall"):
            run_id = f" &nbsp;:small[:gray[{info.run_id}]]" if info.name else ""
            st.markdown(f"**{widgets.plain(info.name or info.run_id)}**{run_id}")
            st.markdown(" ".join(badges))
        with st.container(horizontal=True, width="content"):
            report(run)
            st.button(
                "Take the pin away" if info.baseline else "Pin as baseline",
                icon=":material/keep_off:" if info.baseline else ":material/keep:",
                key=f"pin-{info.run_id}",
                on_click=_changed,
                args=(partial(editor.pin, info.run_id, not info.baseline),),
                help="A baseline is what others are compared with, and is never deleted to make room.",
            )
            _delete(info, editor)
    if info.settings.get("embedded") == "kafka":
        widgets.mock_note()


def _delete(info: RunInfo, editor: RunEditor) -> None:
    """Asked for twice, and never while the run goes on."""
    goes_on = not info.status.is_over
    with st.popover(
        "Delete…",
        icon=":material/delete:",
        disabled=goes_on,
        help="It goes on: stop it on Live first." if goes_on else None,
        key=f"delete-{info.run_id}",
    ):
        pinned = " It is pinned as a baseline." if info.baseline else ""
        name = widgets.plain(info.name or info.run_id)
        st.markdown(f"**{name}** and all that is known of it will be gone for good.{pinned}")
        st.button(
            "Delete for good",
            icon=":material/delete_forever:",
            type="primary",
            key=f"really-{info.run_id}",
            disabled=goes_on,
            on_click=_changed,
            args=(partial(editor.delete, info.run_id), "Run deleted"),
        )


def _edit(info: RunInfo, editor: RunEditor) -> None:
    with (
        st.form(f"edit-{info.run_id}", border=False),
        st.container(horizontal=True, vertical_alignment="bottom"),
    ):
        name = st.text_input("Name", info.name, max_chars=200, key=f"name-{info.run_id}", width=240)
        notes = st.text_area(
            "Notes",
            info.notes,
            max_chars=100_000,
            key=f"notes-{info.run_id}",
            height=NOTES_HEIGHT,
            width="stretch",
            placeholder="What this run was for, and what came of it",
        )
        saved = st.form_submit_button("Save", icon=":material/save:")
    if saved and (name, notes) != (info.name, info.notes):
        if name != info.name:
            _changed(partial(editor.rename, info.run_id, name.strip()), "")
        if notes != info.notes:
            _changed(partial(editor.note, info.run_id, notes))
        st.rerun()


def _changed(change: Callable[[], None], done: str = "Saved") -> None:
    """Do it, and say so; or say why it could not be done."""
    try:
        change()
    except EventBusError as error:
        st.toast(widgets.plain(str(error)), icon=":material/error:")
    else:
        if done:
            st.toast(done, icon=":material/check:")
