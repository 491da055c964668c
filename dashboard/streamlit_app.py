"""The dashboard's entry: page setup and navigation. Run it with ``streamlit run dashboard``.

A page is imported when it is opened, so that the first visit waits for no other; ``warm_up`` then loads the rest.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from pathlib import Path

import streamlit as st

FOLDER = Path(__file__).resolve().parent
if str(FOLDER.parent) not in sys.path:
    sys.path.insert(0, str(FOLDER.parent))  # Streamlit adds only this file's own folder

PAGES = ("live", "failures", "latency", "alerts", "faults", "compare", "runs", "explore", "telemetry")
LATER = ("pandas", "pyarrow", *(f"dashboard.views.{page}" for page in PAGES))
"""What some page needs at some time. Streamlit loads pandas with the first table that is drawn, which takes 1.7 s of
processor time, more than all the rest together."""


@st.cache_resource(show_spinner=False)
def warm_up() -> threading.Thread:
    """Load LATER in the background, once in the life of the server. Never waits."""

    def load() -> None:
        for name in LATER:
            with contextlib.suppress(ImportError):  # told where it is needed
                importlib.import_module(name)

    thread = threading.Thread(target=load, name="warm-up", daemon=True)
    thread.start()
    return thread


def live_page() -> None:
    from dashboard import widgets
    from dashboard.views import live

    live.page(widgets.shared_source(), widgets.shared_history(), widgets.shared_control(), live.example_files())


def failures_page() -> None:
    from dashboard import widgets
    from dashboard.views import failures

    source = widgets.shared_source()
    found = failures.shared_failures(source, str(source.path))
    failures.page(source, widgets.shared_history(), widgets.shared_control(), found)


def latency_page() -> None:
    from dashboard import widgets
    from dashboard.views import latency

    latency.page(widgets.shared_source(), widgets.shared_history(), widgets.shared_control())


def alerts_page() -> None:
    from dashboard import widgets
    from dashboard.views import alerts

    alerts.page(widgets.shared_source(), widgets.shared_control(), alerts.shared_desk())


def faults_page() -> None:
    from dashboard import widgets
    from dashboard.views import faults

    control = widgets.shared_control()
    faults.page(widgets.shared_source(), widgets.shared_history(), control, control.faults, widgets.viewer()[0])


def compare_page() -> None:
    from dashboard import widgets
    from dashboard.views import compare

    control = widgets.shared_control()
    compare.page(widgets.shared_source(), control, compare.shared_sequence(control))


def runs_page() -> None:
    from dashboard import widgets
    from dashboard.views import runs

    runs.page(widgets.shared_source(), widgets.shared_control())


def explore_page() -> None:
    from dashboard import widgets
    from dashboard.views import explore

    explore.page(widgets.shared_source(), widgets.shared_control())


def telemetry_page() -> None:
    from dashboard import widgets
    from dashboard.views import telemetry

    telemetry.page(widgets.shared_control())


st.set_page_config(page_title="AckScope", page_icon=str(FOLDER / "favicon.svg"), layout="wide")

st.logo(str(FOLDER / "logo.svg"), size="large")

opened = st.navigation(
    [
        st.Page(live_page, title="Live", icon=":material/monitor_heart:", default=True),
        st.Page(failures_page, title="Failures", icon=":material/report:", url_path="failures"),
        st.Page(latency_page, title="Latency", icon=":material/timer:", url_path="latency"),
        st.Page(alerts_page, title="Alerts", icon=":material/notifications:", url_path="alerts"),
        st.Page(faults_page, title="Faults", icon=":material/bolt:", url_path="faults"),
        st.Page(compare_page, title="Compare", icon=":material/compare_arrows:", url_path="compare"),
        st.Page(runs_page, title="Runs", icon=":material/history:", url_path="runs"),
        st.Page(explore_page, title="Explore", icon=":material/query_stats:", url_path="explore"),
        st.Page(telemetry_page, title="Telemetry & settings", icon=":material/settings:", url_path="telemetry"),
    ],
    position="top",
)
if st.session_state.get("page") != opened.title:
    from dashboard.views import passes

    st.session_state["page"] = opened.title
    passes.begin()
opened.run()

warm_up()  # after the page, which shares one interpreter with it
