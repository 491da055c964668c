"""Streamlit pieces that pages share, and the three things that all sessions share: control, store, history."""

from __future__ import annotations

import atexit
import hashlib
import math
import uuid
from collections.abc import Sequence
from datetime import tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from dashboard import charts, style
from dashboard.broker import KAFKA_URL, NAMES, NATS_URL, BrokerState, BrokerStatus, embedded_nats
from dashboard.control import LoadControl
from dashboard.source import RunHistory
from eventbus import ConnectionState
from eventbus.embedded.kafka import EmbeddedKafka
from eventbus.observe.reader import StoreReader
from eventbus.observe.run import RunInfo
from eventbus.observe.schema import default_store_path

CHART_HEIGHT = 176
MAX_BARS = 30
METRIC_HEIGHT = 172
"""Less than 170 px would cut the sparkline."""

COOKIE = "_streamlit_xsrf"
BROWSER_NAMES = (("Edg/", "Edge"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
"""By what they say of themselves; the first that fits, since most claim to be the last ones too."""
CONNECTIONS = {
    ConnectionState.CONNECTED: ("green", "link", "connected"),
    ConnectionState.CONNECTING: ("gray", "sync", "connecting"),
    ConnectionState.RECONNECTING: ("orange", "sync_problem", "reconnecting"),
    ConnectionState.DENIED: ("red", "block", "access denied"),
    ConnectionState.CLOSED: ("gray", "link_off", "closed"),
}
BROKERS = {
    BrokerState.OFF: ("gray", "power_settings_new", "starts when needed"),
    BrokerState.STARTING: ("gray", "hourglass_top", "starting"),
    BrokerState.READY: ("green", "dns", "ready"),
    BrokerState.FAILED: ("red", "error", "failed"),
}


@st.cache_resource(show_spinner=False)
def shared_control() -> LoadControl:
    """The one control of this dashboard; ended with it. The broker that the form begins with is started at once."""
    control = LoadControl(default_store_path(), brokers={NATS_URL: embedded_nats, KAFKA_URL: EmbeddedKafka})
    atexit.register(control.close)  # cache_resource's own on_release is not called at shutdown
    control.start_broker(NATS_URL)
    return control


@st.cache_resource(show_spinner=False)
def shared_source() -> StoreReader:
    """The store that workers write."""
    return StoreReader(default_store_path())


@st.cache_resource(show_spinner=False)
def shared_history() -> RunHistory:
    """What was read of it."""
    return RunHistory(shared_source())


def viewer() -> tuple[str, str]:
    """Which browser this is, as an id that all of its tabs share, and its name for people.

    The id is a digest of the cookie that Streamlit gives to each browser against forged requests; without cookies each
    tab counts as a browser of its own.
    """
    cookie: object = st.context.cookies.get(COOKIE)
    if not isinstance(cookie, str) or not cookie:  # Streamlit's test harness has stand-ins for both
        cookie = str(st.session_state.setdefault("viewer", uuid.uuid4().hex))
    agent = str(st.context.headers.get("User-Agent"))
    name = next((name for sign, name in BROWSER_NAMES if sign in agent), "")
    return hashlib.sha256(unmasked(cookie)).hexdigest()[:16], name


def unmasked(cookie: str) -> bytes:
    """The token of Streamlit's cookie, which stays the same: each load of a page writes it under another mask of four
    bytes, as ``2|mask|masked token|time``. What is written otherwise is taken as it is."""
    parts = cookie.strip("\"'").split("|")
    try:
        mask, token = bytes.fromhex(parts[1]), bytes.fromhex(parts[2])
    except (IndexError, ValueError):
        return cookie.encode()
    return bytes(octet ^ mask[at % len(mask)] for at, octet in enumerate(token)) if mask else cookie.encode()


def viewer_zone() -> tzinfo | None:
    """The time zone of the browser; None, this machine's, where it does not say."""
    try:
        return ZoneInfo(st.context.timezone) if st.context.timezone else None
    except (ZoneInfoNotFoundError, ValueError):
        return None


def plain(text: str) -> str:
    """``text`` for a place that renders Markdown, so that it shows as it is and stays on one line."""
    escaped = "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-.!|$~:^=" else c for c in text)
    return " ".join(escaped.split())


def badge(colour: str, icon: str, text: str) -> str:
    """Markdown of a badge: colour, icon and words."""
    return f":{colour}-badge[:material/{icon}: {plain(text)}]"


def broker_name(run: RunInfo) -> str:
    """Where a run publishes: its broker's URL, or the name and the address of one that was embedded."""
    name = NAMES.get(run.settings.get("embedded", ""))
    return run.url if name is None else f"{name} at {run.url.partition('://')[2]}"


def connection_badge(state: ConnectionState, run: RunInfo) -> str:
    colour, icon, word = CONNECTIONS[state]
    return badge(colour, icon, f"{broker_name(run)} {word}")


def broker_badge(status: BrokerStatus) -> str:
    colour, icon, word = BROKERS[status.state]
    return badge(colour, icon, f"{status.name} {word}")


def mock_note() -> None:
    """What figures of Kafka's mock are worth, in one line."""
    st.markdown(
        f"{badge('orange', 'science', 'mock')} :small[:gray[The embedded Kafka is librdkafka's mock, for a first look: "
        "it checks no sequence numbers, sizes or logins, and keeps the newest 5 MiB a partition, in memory only. "
        "See README.md, Kafka.]]"
    )


def _thinned(values: Sequence[float]) -> list[float]:
    """At most MAX_BARS values, each the highest of its share."""
    step = math.ceil(len(values) / MAX_BARS)
    return [max(values[at : at + step]) for at in range(0, len(values), step)] if values else []


def trend(label: str, value: str, note: str, values: Sequence[float], *, colour: str, icon: str, explain: str) -> None:
    """A figure with its recent course below it, and a note of what it is to be compared with. Without ``values`` the

    place of the course is kept empty.
    """
    st.metric(
        label,
        value,
        note,
        delta_color=colour,  # type: ignore[arg-type]  # one of Streamlit's colour names; a Literal would be a long list
        delta_arrow="off",
        icon=f":material/{icon}:",
        help=explain,
        border=True,
        height=METRIC_HEIGHT,
        chart_data=_thinned(values) or None,
        chart_type="bar",  # its axis begins at zero; a line's would blow up the noise of a steady figure
    )


def heading(title: str, unit: str) -> None:
    """The heading of a panel, with what its numbers are."""
    st.markdown(f"**{title}** &nbsp;:gray[{plain(unit)}]")


def panel(title: str, unit: str, option: charts.Option, *, key: str, alt: str) -> None:
    """A chart with its heading. ``key`` keeps it in place from one refresh to the next."""
    with st.container(border=True, gap="xxsmall"):
        heading(title, unit)
        st.echarts_chart(option, key=key, height=CHART_HEIGHT, alt=alt)


def clock(wall_s: float) -> str:
    """Time of day where the viewer is."""
    return style.clock(wall_s, viewer_zone())
