"""Telemetry & settings: where telemetry goes and whether it arrives, connection profiles, and what this AckScope is."""

from __future__ import annotations

import streamlit as st

from dashboard import widgets
from dashboard.alert_rules import rules_path
from dashboard.profile_trials import Trials
from dashboard.profiles import Profiles
from dashboard.source import RunSource
from dashboard.views import profile_choice
from dashboard.views.settings_about import about_tab
from dashboard.views.settings_delivery import Control, delivery
from dashboard.views.settings_profiles import profiles_tab
from dashboard.views.settings_variables import variables
from eventbus.observe.schema import default_store_path

REFRESH_S = 1.0
TABS = ("Telemetry", "Connections", "About")


def page(
    control: Control,
    source: RunSource | None = None,
    profiles: Profiles | None = None,
    trials: Trials | None = None,
) -> None:
    """Draw the page: one tab at a time, and only the upper part of the first draws itself again each second.

    What is not given is that of all sessions.
    """
    sent, connections, about = st.tabs(TABS, key="settings", on_change="rerun", bind="query-params")
    profiles = profiles or profile_choice.shared_profiles()
    if sent.open:
        with sent:
            st.fragment(delivery, run_every=REFRESH_S)(control)
            variables()
    if connections.open:
        with connections:
            profiles_tab(profiles, trials or profile_choice.shared_trials())
    if about.open:
        with about:
            about_tab(source or widgets.shared_source(), default_store_path(), rules_path(), profiles.path)
