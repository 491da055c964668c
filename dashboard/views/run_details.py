"""The details of one kept run: what came of it, and what people may change: name, notes, pin; and its end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from dashboard import style, widgets
from dashboard.run_history import setting_rows, verdict_words
from dashboard.views.live import STATUSES
from dashboard.views.run_figures import opened
from eventbus import EventBusError, runs
from eventbus.observe import RunEditor, RunInfo, StoreReader

DEFAULT_FRAME = "series"
FRAMES = {
    "series": "course: a row a second or so",
    "outcomes": "outcomes over time",
    "errors": "errors over time",
    "latency": "ack latency, by bucket",
    "scheduled": "latency from the schedule, by bucket",
    "failures": "failures, in groups",
    "failed": "failed messages",
    "events": "events",
    "alerts": "alerts",
}
"""What a file of rows can hold, as ``eventbus.runs.FRAMES``, in words."""
VERDICTS = {True: "✓ passed", False: "✗ failed"}
MIME = {
    ".csv": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
    ".json": "application/json",
    ".html": "text/html",
}


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
        _facts(run)


def downloads(run: runs.Run, what: str, step_s: float | None = None) -> None:
    """Buttons that hand the run on: the rows of ``what`` as CSV and Parquet, all there is as JSON, and the report.

    A file is made when its button is pressed, and not before.
    """
    row = f"{run.run_id}-{what}"
    for ending, label, name, about in (
        (".csv", "CSV", row, f"Rows of: {FRAMES[what]}"),
        (".parquet", "Parquet", row, f"Rows of: {FRAMES[what]}"),
        (".json", "JSON", run.run_id, "All there is of the run"),
        (".html", "Report", run.run_id, "One HTML page with charts that needs nothing else, of some 5 MB"),
    ):
        st.download_button(
            label,
            data=partial(run.content, ending, what, step_s),
            file_name=f"{name}{ending}",
            mime=MIME[ending],
            icon=":material/download:",
            on_click="ignore",
            key=f"download-{row}{ending}",
            help=about,
        )


def _head(run: runs.Run, editor: RunEditor) -> None:
    info = run.info
    colour, icon = STATUSES[info.status]
    badges = [widgets.badge(colour, icon, str(info.status))]
    if verdict := verdict_words(info):
        passed = verdict.startswith("✓")
        badges.append(
            widgets.badge("green" if passed else "red", "verified" if passed else "cancel", verdict[2:] + " thresholds")
        )
    if info.baseline:
        badges.append(widgets.badge("blue", "keep", "baseline"))
    badges.append(widgets.badge("gray", "dns", widgets.broker_name(info)))
    badges.append(widgets.badge("gray", "sell", info.topic))
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        with st.container(width="content", gap="xsmall"):
            st.markdown(f"**{widgets.plain(info.name or info.run_id)}** &nbsp;:small[:gray[{info.run_id}]]")
            st.markdown(" ".join(badges))
        with st.container(horizontal=True, width="content"):
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
    with st.form(f"edit-{info.run_id}", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input("Name", info.name, max_chars=200, key=f"name-{info.run_id}", width=240)
        notes = st.text_area(
            "Notes", info.notes, max_chars=100_000, key=f"notes-{info.run_id}", height=68, width="stretch"
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


def _facts(run: runs.Run) -> None:
    info = run.info
    figures, verdict, failures, story, settings, files = st.tabs(
        ["Figures", "Verdict", "Failures", "Alerts & events", "Settings", "Download"]
    )
    with figures:
        told = [{"Figure": label, "Value": value} for label, value in runs.figure_words(run)]
        _rows(told if run.summary.samples else [], "No sample was kept of this run, so there are no figures.")
    with verdict:
        rows = [
            {
                "Verdict": VERDICTS.get(row.get("passed"), "not judged"),
                "Threshold": row.get("text"),
                "Value": runs.threshold_text(row, "value"),
                "Limit": runs.threshold_text(row, "threshold"),
            }
            for row in (info.verdict or {}).get("rows", ())
        ]
        _rows(rows, "The run had no thresholds. Give some on Live, or with `load --threshold`.")
    with failures:
        _failures(run)
    with story:
        _story(run)
    with settings:
        told = setting_rows(info.settings)
        _rows(told, "No settings were kept of this run.")
        st.markdown("**Environment**")
        _rows(setting_rows(info.environment), "Nothing was kept of where it ran.")
    with files, st.container(horizontal=True, vertical_alignment="bottom"):
        what = st.selectbox(
            "Rows for CSV and Parquet", list(FRAMES), format_func=FRAMES.__getitem__, key="rows", width=290
        )
        downloads(run, what or DEFAULT_FRAME)


def _failures(run: runs.Run) -> None:
    rows = [
        {
            "Count": group.count,
            "Outcome": group.outcome,
            "Kind": style.words(group.kind or "none"),
            "Topic": group.topic,
            "First": widgets.clock(group.first_wall_s),
            "Last": widgets.clock(group.last_wall_s),
            "Text": group.text,
            "Message id": group.message_id,
            "Trace id": group.trace_id or "",
        }
        for group in run.failure_groups
    ]
    _rows(rows, ":material/check_circle: No message was rejected, left unknown or acked late.")


def _story(run: runs.Run) -> None:
    """Alerts and events in one list, in the order in which they came."""
    told = [
        (change.wall_s, "alert", f"{change.rule} {change.state}", change.text, change.severity) for change in run.alerts
    ]
    told += [(event.wall_s, "event", style.words(str(event.kind)), event.text, "") for event in run.events]
    rows = [
        {
            "At": f"{style.elapsed(wall_s - run.info.started_wall_s)}",
            "Time": widgets.clock(wall_s),
            "Kind": kind,
            "What": what,
            "Severity": severity,
            "Text": text,
        }
        for wall_s, kind, what, text, severity in sorted(told)
    ]
    _rows(rows, "Nothing was told of this run.")


def _rows(rows: list[dict[str, object]] | list[dict[str, str]], nothing: str) -> None:
    if rows:
        st.dataframe(rows, hide_index=True, height=min(356, 38 + 35 * len(rows)))
    else:
        st.caption(nothing)
