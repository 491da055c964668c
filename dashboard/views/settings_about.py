"""About: versions, where things are kept and how large they are, licence and documents; to copy for a bug report."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard import about, widgets
from dashboard.source import RunSource
from eventbus.observe.run import StoreError

READER_HEIGHT = 480
"""In pixels."""


def about_tab(source: RunSource, store: Path, rules: Path, profiles: Path) -> None:
    """Draw the tab. It changes only when somebody comes back to it."""
    facts, files = about.versions(), about.kept_files(store, rules, profiles)
    try:
        newest = about.newest(source.runs(1))
    except StoreError as error:
        newest = f"the store cannot be read: {error}"
        st.error(
            f"{widgets.plain(str(error))}\n\nA load that is going on is not disturbed.",
            title="The store of runs cannot be read",
            icon=":material/error:",
        )
    left, right = st.columns([2, 3], gap="medium")
    with left:
        widgets.heading("Versions", "")
        st.table({"Part": [one.what for one in facts], "Version": [one.value for one in facts]}, hide_index=True)
    with right:
        widgets.heading("Kept on this machine", "")
        st.table(
            {
                "What": [one.what for one in files],
                "Where": [f"`{about.short(one.path).replace('`', '')}`" for one in files],
                "Size": [one.size for one in files],
            },
            hide_index=True,
        )
        st.markdown(":small[`ACKSCOPE_HOME` says where, and `ACKSCOPE_CONFIG_HOME` where the profiles are.]")
        st.markdown(
            f":material/license: {about.LICENSE}, in `LICENSE`. :gray[Nothing is sent anywhere but to the "
            "brokers, sinks and collectors that you name.]"
        )
    _documents()
    widgets.heading("For a bug report", "copy it with the button in its corner; nothing secret is in it")
    st.code(about.report(facts, files, newest), language=None, wrap_lines=True)


def _documents() -> None:
    there = about.documents()
    chosen = st.selectbox(
        f"Documents, in {about.short(about.ROOT)}",
        list(there),
        index=None,
        placeholder="Choose one to read it here",
        format_func=lambda name: f"{name}: {there[name]}",
        key="document",
    )
    if chosen is not None:
        with st.container(height=READER_HEIGHT, border=True, key="reader"):
            st.markdown(about.document(chosen))
