"""The dashboard's entry: page setup and navigation. Run it with ``streamlit run dashboard``."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

FOLDER = Path(__file__).resolve().parent
if str(FOLDER.parent) not in sys.path:
    sys.path.insert(0, str(FOLDER.parent))  # Streamlit adds only this file's own folder

from dashboard import widgets  # noqa: E402  (needs the path above)
from dashboard.views import live, telemetry  # noqa: E402

st.set_page_config(page_title="AckScope", page_icon=str(FOLDER / "favicon.svg"), layout="wide")

st.logo(str(FOLDER / "logo.svg"), size="large")


def live_page() -> None:
    live.page(widgets.shared_source(), widgets.shared_history(), widgets.shared_control(), live.example_files())


def telemetry_page() -> None:
    telemetry.page(widgets.shared_control())


st.navigation(
    [
        st.Page(live_page, title="Live", icon=":material/monitor_heart:", default=True),
        st.Page(telemetry_page, title="Telemetry", icon=":material/sensors:", url_path="telemetry"),
    ],
    position="top",
).run()
