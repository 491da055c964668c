"""What was done, told once after the next drawing: a toast does not outlast the drawing that it belongs to."""

from __future__ import annotations

import streamlit as st

from dashboard import widgets

_NOTICE = "settings_notice"


def note(text: str, icon: str = "check") -> None:
    """Tell it after the next drawing of this session."""
    st.session_state[_NOTICE] = (text, icon)


def tell() -> None:
    """Tell what was noted, once."""
    if _NOTICE in st.session_state:
        text, icon = st.session_state.pop(_NOTICE)
        st.toast(widgets.plain(text), icon=f":material/{icon}:")
