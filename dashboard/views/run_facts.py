"""What is known of one kept run, in tabs: figures, verdict, failures, alerts, events, settings, files."""

from __future__ import annotations

import streamlit as st

from dashboard import style, widgets
from dashboard.alert_states import SIGNS, Firing, firings
from dashboard.run_history import setting_rows
from dashboard.views.run_files import DEFAULT_FRAME, FRAMES, downloads
from eventbus import runs

VERDICTS = {True: "✓ passed", False: "✗ failed"}
FIGURE_COLUMNS = 3


def facts(run: runs.Run) -> None:
    """Draw the tabs. Raises StoreError."""
    info = run.info
    figures, verdict, failures, alerts, story, settings, files = st.tabs(
        ["Figures", "Verdict", "Failures", "Alerts", "Events", "Settings", "Download"]
    )
    with figures:
        _figures(run)
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
    with alerts:
        _alerts(run)
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


def _figures(run: runs.Run) -> None:
    """Side by side, so that all of them are seen at once."""
    told = runs.figure_words(run) if run.summary.samples else []
    if not told:
        st.caption("No sample was kept of this run, so there are no figures.")
        return
    height = -(-len(told) // FIGURE_COLUMNS)
    with st.grid(FIGURE_COLUMNS, min_column_width=240) as grid:
        for at in range(0, len(told), height):
            with grid.cell():
                part = told[at : at + height]
                st.table(
                    {"Figure": [label for label, _ in part], "Value": [value for _, value in part]},
                    border="horizontal",
                    hide_index=True,
                    hide_header=True,
                    alt="Figures of the run, with their units",
                )


def _alerts(run: runs.Run) -> None:
    """Each time that an alert fired; what else became of alerts is among the events."""
    began_s, over = run.info.started_wall_s, run.info.status.is_over
    rows = [
        {
            "Severity": f"{SIGNS.get(one.severity, '•')} {one.severity}",
            "Alert": one.rule,
            "Fired at": widgets.clock(one.from_s),
            "Into the run": style.elapsed(one.from_s - began_s),
            "For": _lasted(one, over=over),
            "Text": one.text,
        }
        for one in firings(run.alerts)
    ]
    _rows(rows, ":material/check_circle: No alert fired in this run.")


def _lasted(one: Firing, *, over: bool) -> str:
    if one.to_s is None:
        return "until the end" if over else "fires still"
    return style.duration(one.to_s - one.from_s)


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
