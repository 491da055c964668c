"""The dashboard's entry: page setup and navigation. Run it with ``streamlit run dashboard``."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

FOLDER = Path(__file__).resolve().parent
if str(FOLDER.parent) not in sys.path:
    sys.path.insert(0, str(FOLDER.parent))  # Streamlit adds only this file's own folder

from dashboard import widgets  # noqa: E402  (needs the path above)
from dashboard.views import (  # noqa: E402
    alerts,
    compare,
    explore,
    failures,
    faults,
    latency,
    live,
    runs,
    telemetry,
)

st.set_page_config(page_title="AckScope", page_icon=str(FOLDER / "favicon.svg"), layout="wide")

st.logo(str(FOLDER / "logo.svg"), size="large")


def live_page() -> None:
    live.page(widgets.shared_source(), widgets.shared_history(), widgets.shared_control(), live.example_files())


def failures_page() -> None:
    source = widgets.shared_source()
    found = failures.shared_failures(source, str(source.path))
    failures.page(source, widgets.shared_history(), widgets.shared_control(), found)


def latency_page() -> None:
    latency.page(widgets.shared_source(), widgets.shared_history(), widgets.shared_control())


def alerts_page() -> None:
    alerts.page(widgets.shared_source(), widgets.shared_control(), alerts.shared_desk())


def faults_page() -> None:
    control = widgets.shared_control()
    faults.page(widgets.shared_source(), widgets.shared_history(), control, control.faults, widgets.viewer()[0])


def compare_page() -> None:
    control = widgets.shared_control()
    compare.page(widgets.shared_source(), control, compare.shared_sequence(control))


def runs_page() -> None:
    runs.page(widgets.shared_source(), widgets.shared_control())


def explore_page() -> None:
    explore.page(widgets.shared_source(), widgets.shared_control())


def telemetry_page() -> None:
    telemetry.page(widgets.shared_control())


st.navigation(
    [
        st.Page(live_page, title="Live", icon=":material/monitor_heart:", default=True),
        st.Page(failures_page, title="Failures", icon=":material/report:", url_path="failures"),
        st.Page(latency_page, title="Latency", icon=":material/timer:", url_path="latency"),
        st.Page(alerts_page, title="Alerts", icon=":material/notifications:", url_path="alerts"),
        st.Page(faults_page, title="Faults", icon=":material/bolt:", url_path="faults"),
        st.Page(compare_page, title="Compare", icon=":material/compare_arrows:", url_path="compare"),
        st.Page(runs_page, title="Runs", icon=":material/history:", url_path="runs"),
        st.Page(explore_page, title="Explore", icon=":material/query_stats:", url_path="explore"),
        st.Page(telemetry_page, title="Telemetry", icon=":material/sensors:", url_path="telemetry"),
    ],
    position="top",
).run()
