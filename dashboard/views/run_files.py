"""Files of one run to take along: rows as CSV and Parquet, all there is as JSON, the report as HTML."""

from __future__ import annotations

from functools import partial

import streamlit as st

from eventbus import runs

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
MIME = {
    ".csv": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
    ".json": "application/json",
    ".html": "text/html",
}


REPORT_HELP = "One HTML page with charts that needs nothing else, of some 5 MB"


def report(run: runs.Run) -> None:
    """A button that hands the report on; it is made when the button is pressed."""
    st.download_button(
        "Report",
        data=partial(run.content, ".html", DEFAULT_FRAME, None),
        file_name=f"{run.run_id}.html",
        mime=MIME[".html"],
        icon=":material/description:",
        on_click="ignore",
        key=f"report-{run.run_id}",
        help=REPORT_HELP,
    )


def downloads(run: runs.Run, what: str, step_s: float | None = None) -> None:
    """Buttons that hand the run on: the rows of ``what`` as CSV and Parquet, all there is as JSON, and the report.

    A file is made when its button is pressed, and not before.
    """
    row = f"{run.run_id}-{what}"
    for ending, label, name, about in (
        (".csv", "CSV", row, f"Rows of: {FRAMES[what]}"),
        (".parquet", "Parquet", row, f"Rows of: {FRAMES[what]}"),
        (".json", "JSON", run.run_id, "All there is of the run"),
        (".html", "Report", run.run_id, REPORT_HELP),
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
