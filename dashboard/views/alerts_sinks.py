"""Who is told of alerts: the sinks of the next run, a test of them, adding and removing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import alert_edits, alert_rules, alert_sinks, style, widgets
from dashboard.alert_rules import AlertFile
from dashboard.alert_sinks import KINDS, SinkRow, SinkTest, SinkTests
from dashboard.views import alerts_notice
from dashboard.views.alerts_rules import file_trouble
from eventbus.errors import ConfigError

POLL_S = 1.0
_REVISION = "sink_form"
"""Session state: counted up with each change, so that the form is empty again."""


def sinks_tab(path: Path, tests: SinkTests) -> None:
    """Draw the tab. It draws itself again each second while a test is going on."""
    running = tests.newest is not None and tests.newest.running
    st.fragment(_sinks, run_every=POLL_S if running else None)(path, tests, running)


def _sinks(path: Path, tests: SinkTests, was_running: bool) -> None:
    newest = tests.newest
    if (newest is not None and newest.running) != was_running:
        st.rerun()  # the timer of this fragment can only be changed from outside of it
    try:
        file = alert_rules.read(path)
    except ConfigError as error:
        file_trouble(path, error)
        return
    alerts_notice.tell()
    rows = alert_sinks.rows(file.sinks)
    if rows:
        _table(rows, newest)
    else:
        st.info(
            "Alerts are shown here and kept with their run, and nobody else is told. Add a sink below: it is told of "
            "the alerts of every run that begins afterwards.",
            title="No sink yet",
            icon=":material/campaign:",
        )
    _test(file, rows, tests)
    _adding(file)
    st.caption(
        f"Kept in `{str(path).replace('`', '')}`. All that a sink can say: `docs/alerts.md`. What became of what a run "
        "had to tell, while it goes on: tab **Now and history**."
    )


def _table(rows: list[SinkRow], newest: SinkTest | None) -> None:
    st.dataframe(
        [
            {"Sink": row.name, "Kind": row.kind, "Where": row.where or style.NOTHING, **_result(row, newest)}
            for row in rows
        ],
        key="sinks",
        hide_index=True,
        alt="Sinks, and what became of the last test notification",
        column_config=_columns(),
    )
    for row in rows:
        result = _result(row, newest)
        if result["Last test"].startswith("✖"):
            st.error(f"**{widgets.plain(row.name)}:** {widgets.plain(result['Reason'])}", icon=":material/error:")


def _result(row: SinkRow, newest: SinkTest | None) -> dict[str, str]:
    """What is known of a sink: that it cannot be used, or what the last test said."""
    if row.problem:
        return {"Last test": "✖ unusable", "At": "", "Took": "", "Reason": row.problem}
    if newest is None:
        return {"Last test": "not tried", "At": "", "Took": "", "Reason": ""}
    at = widgets.clock(newest.at_s)
    if newest.running:
        return {"Last test": "◔ sending", "At": at, "Took": "", "Reason": ""}
    status = newest.of(row.name)
    if status is None:
        return {"Last test": "not tried", "At": "", "Took": "", "Reason": newest.error}
    reason = status.last_error or ("" if status.delivered else "no answer in time")
    return {
        "Last test": "✓ delivered" if status.delivered else "✖ failed",
        "At": at,
        "Took": style.duration(status.last_duration_s),
        "Reason": reason,
    }


def _columns() -> dict[str, Any]:
    text = st.column_config.TextColumn
    return {
        "Sink": text(width=120),
        "Kind": text(width=85),
        "Where": text(width=220, help="Scheme, host and port. Login and path can be secret and are not shown."),
        "Last test": text(width=110),
        "At": text(width=75),
        "Took": text(width=80),
    }


def _test(file: AlertFile, rows: list[SinkRow], tests: SinkTests) -> None:
    running = tests.newest is not None and tests.newest.running
    broken = next((row for row in rows if row.problem), None)
    problem = alert_sinks.problem(file.sinks) if rows else ""
    why_not = "There is no sink." if not rows else f"{broken.name} cannot be used." if broken else problem or ""
    with st.container(horizontal=True, vertical_alignment="center"):
        pressed = st.button(
            "Sending…" if running else "Send test",
            key="send_test",
            type="primary",
            icon=":material/send:",
            disabled=running or bool(why_not),
            help=why_not or "One notification to each sink, which says that it is a test.",
        )
        with st.popover("Remove", icon=":material/delete:", disabled=not rows):
            for index, row in enumerate(rows):
                if st.button(f"Remove {widgets.plain(row.name)}", key=f"remove-sink-{index}"):
                    _save(file, lambda index=index: alert_edits.without_sink(file.text, index), "Removed.")
    if problem:
        st.error(
            "No run can begin until it is set right, here or in the file."
            + ("" if broken else f" {widgets.plain(problem)}."),
            title="A sink cannot be used",
            icon=":material/error:",
        )
    if pressed:
        tests.begin(file.sinks)
        st.rerun()


def _adding(file: AlertFile) -> None:
    with st.expander("Add a sink", icon=":material/add:", expanded=not file.sinks):
        kind = st.segmented_control(
            "Kind", list(KINDS), default="webhook", required=True, key="sink_kind", help=_kinds_help()
        )
        table: dict[str, Any] = {"kind": kind}
        slot = f"sink-{st.session_state.get(_REVISION, 0)}-"
        name = st.text_input("Name", key=f"{slot}name", placeholder=str(kind), max_chars=64).strip()
        if name:
            table["name"] = name
        if kind == "webhook":
            url = _secret("URL", f"{slot}url", "https://alerts.example.com/hook or env:ALERT_URL")
            if url:
                table["url"] = url
            token = _secret("Bearer token (optional)", f"{slot}token", "env:ALERT_TOKEN")
            if token:
                table["bearer_token"] = token
        elif kind == "apprise":
            table["urls"] = [_secret("URL of apprise", f"{slot}urls", "gotify://gotify.example.com/… or env:ALERT_URL")]
        if kind != "log" and st.toggle(
            "Private networks too", key=f"{slot}private", help="Also to addresses of private networks and this machine."
        ):
            table["allow_private"] = True
        if st.button("Add", key="add_sink", icon=":material/add:"):
            problem = alert_sinks.problem([*file.sinks, table])
            if problem:
                st.error(widgets.plain(problem), icon=":material/error:")
            else:
                _save(file, lambda: alert_edits.with_sink(file.text, table), "Added. The next run tells it.")


def _kinds_help() -> str:
    return " ".join(f"**{kind}**: {what}." for kind, what in KINDS.items())


def _secret(label: str, key: str, placeholder: str) -> str:
    return st.text_input(
        label,
        key=key,
        type="password",
        autocomplete="off",
        placeholder=placeholder,
        help="`env:NAME` stands for the environment variable of that name where the dashboard was started, so that no "
        "secret lies in the file. What is kept is not shown again.",
    ).strip()


def _save(file: AlertFile, change: Any, done: str) -> None:
    try:
        alert_edits.save(file, change())
    except ConfigError as error:
        st.error(widgets.plain(str(error)), icon=":material/error:")
        return
    st.session_state[_REVISION] = st.session_state.get(_REVISION, 0) + 1  # what may be secret leaves the browser too
    alerts_notice.note(done)
    st.rerun()
