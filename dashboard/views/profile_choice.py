"""The connection profiles where a broker is chosen: their names, and what is known of the one that is. No secrets, but
for the URL that a start is given."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.broker_choice import RESERVED
from dashboard.profile import Listed
from dashboard.profile_trials import Trials
from dashboard.profiles import Profiles, profiles_path
from eventbus.errors import ConfigError
from eventbus.url import BrokerUrl


@st.cache_resource(show_spinner=False)
def _profiles_at(path: str) -> Profiles:
    return Profiles(Path(path))


def shared_profiles() -> Profiles:
    """Those of this dashboard, for all sessions."""
    return _profiles_at(str(profiles_path()))


@st.cache_resource(show_spinner=False)
def shared_trials() -> Trials:
    """What was tried of them, for all sessions."""
    return Trials()


def listed() -> tuple[Listed, ...]:
    """All that can be chosen; none where their file cannot be used, of which ``file_trouble`` tells."""
    try:
        return shared_profiles().list()
    except ConfigError:
        return ()


def file_trouble() -> str:
    """Why the file of profiles cannot be used, or empty."""
    try:
        shared_profiles().list()
    except ConfigError as error:
        return str(error)
    return ""


def find(choice: str) -> Listed | None:
    """The profile that is chosen; None where something else is, and where it is gone."""
    return next((profile for profile in listed() if profile.name == choice), None)


def is_gone(choice: str) -> bool:
    """True where what is chosen was a profile, and is none any more."""
    return choice not in RESERVED and find(choice) is None


def name_of(url: str) -> str | None:
    """The profile of this URL, which has no login; None where there is none."""
    try:
        wanted = BrokerUrl.parse(url).redacted
    except ConfigError:
        return None
    return next((profile.name for profile in listed() if profile.shown == wanted), None)


def full_url(choice: str, url: str) -> str:
    """``url``, or that of the profile that is chosen, with its secret: only for a start. Raises ConfigError."""
    return url if choice in RESERVED else shared_profiles().full_url(choice)
