"""The bar of the Live page that starts a run, changes its rate and stops it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

import streamlit as st

from dashboard import widgets
from dashboard.broker import KAFKA_URL, NATS_URL, BrokerStatus
from dashboard.control import LoadSettings, LoadStatus, Phase
from dashboard.process import LoadRefused

SIZE, RECORDS = "Random", "Real records"
DEFAULT_RATE = 2_000
OWN = "Own broker"
EMBEDDED = {"Embedded NATS": NATS_URL, "Kafka mock": KAFKA_URL}


class Control(Protocol):
    """What the page asks of LoadControl."""

    def status(self) -> LoadStatus: ...

    def broker_status(self, url: str) -> BrokerStatus | None: ...

    def start(self, settings: LoadSettings) -> str: ...

    def set_rate(self, rate: float) -> None: ...

    def stop(self) -> None: ...


def chosen_url(control: Control) -> str:
    """The URL that the form stands for; nothing while there is no form, since a run goes on."""
    state = st.session_state
    if control.status().active:
        return ""
    return EMBEDDED.get(state.get("broker", "")) or str(state.get("url", "")).strip()


def controls(control: Control, records: Sequence[Path]) -> None:
    """The bar for what can be done now."""
    seen = control.status()
    if seen.active:
        _of_run(control, seen)
        return
    settings = _of_start(records, seen.rate)
    if settings is not None:
        _start(control, settings)
    if seen.error:
        st.error(widgets.plain(seen.error), title="The run did not go well", icon=":material/error:")


def _of_start(records: Sequence[Path], last_rate: float | None) -> LoadSettings | None:
    """The form; what it asks for once Start is pressed. It begins with the rate of the run before."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="load"):
        url = _url_input()
        topic = st.text_input("Topic", "demo.events", key="topic", width=120, bind="query-params")
        rate = _rate_input(last_rate)
        payload = st.segmented_control(
            "Payload",
            [SIZE, RECORDS] if records else [SIZE],
            default=SIZE,
            required=True,
            key="payload",
            bind="query-params",
            help="Random bytes of one size, or the lines of a file of real records, over and over.",
        )
        replay, size = None, 128
        if payload == RECORDS:
            replay = st.selectbox("Records", records, format_func=lambda path: path.name, key="records", width=120)
        else:
            size = st.number_input(
                "Bytes each", 0, 1_000_000, 128, step=64, key="size", width=108, persist_state="session"
            )
        with st.popover("Advanced", icon=":material/tune:"):
            max_pending = st.number_input(
                "Max pending (messages)",
                1,
                1_000_000,
                10_000,
                step=1_000,
                key="max_pending",
                persist_state="session",
                help="The bound of the window: with so many acks outstanding, publishing waits.",
            )
            ack_timeout_s = st.number_input(
                "Ack timeout (s)",
                0.1,
                120.0,
                5.0,
                step=0.5,
                key="ack_timeout",
                persist_state="session",
                help="For one attempt.",
            )
            duration_s = st.number_input(
                "Duration (s)",
                0,
                86_400,
                0,
                step=10,
                key="duration",
                persist_state="session",
                help="0 runs until stopped.",
            )
        pressed = st.button("Start", type="primary", icon=":material/play_arrow:", key="start")
    if not pressed:
        return None
    return LoadSettings(
        url=url,
        topic=topic.strip(),
        rate=rate,
        payload_size=int(size),
        replay=replay,
        duration_s=float(duration_s) or None,
        max_pending=int(max_pending),
        ack_timeout_s=float(ack_timeout_s),
    )


def _url_input() -> str:
    """The broker: one that comes along, or the URL of another. A URL is typed in a field of its own, since a list that
    takes new entries forgets what was typed where Enter was not pressed."""
    broker = st.selectbox(
        "Broker",
        [*EMBEDDED, OWN],
        key="broker",
        width=140,
        filter_mode=None,
        bind="query-params",
        help=f"Two come along and need no set-up: `{NATS_URL}`, a nats-server, and `{KAFKA_URL}`, a mock of a Kafka. "
        f"With **{OWN}** you give the URL of yours.",
    )
    if broker in EMBEDDED:
        return EMBEDDED[broker]
    url = st.text_input(
        "URL",
        key="url",
        width=155,
        placeholder="kafka://host:9092",
        persist_state="session",
        help="`nats://host:4222`, `tls://host:4222`, `kafka://host:9092` or `kafka+ssl://host:9093`; several servers "
        "by comma, user and password as `kafka://USER:PASSWORD@host:9092`.",
    )
    return url.strip()


def _start(control: Control, settings: LoadSettings) -> None:
    with st.spinner("Starting: connecting to the broker…"):
        try:
            control.start(settings)
        except LoadRefused as refusal:
            if control.status().active:  # another session was faster; other refusals are kept in the status
                st.toast(str(refusal), icon=":material/info:")
    st.rerun()


def _of_run(control: Control, seen: LoadStatus) -> None:
    stopping = seen.phase is Phase.STOPPING
    with st.container(horizontal=True, vertical_alignment="bottom", key="load"):
        _rate_input(seen.rate, disabled=stopping, on_change=_set_rate, args=(control,))
        st.button(
            "Stopping…" if stopping else "Stop",
            key="stop",
            type="primary",
            icon=":material/stop:",
            disabled=stopping,
            on_click=_stop,
            args=(control,),
        )
        st.caption(
            "Nothing new is sent; outstanding acks are awaited."
            if stopping
            else "A new rate takes effect at once. Stop ends the sending and waits for outstanding acks.",
            width="stretch",
        )


def _stop(control: Control) -> None:
    control.stop()
    st.session_state["paused"] = False  # a page that stands still would not show the end


def _rate_input(
    of_run: float | None = None,
    *,
    disabled: bool = False,
    on_change: Callable[[Control], None] | None = None,
    args: tuple[Control] | None = None,
) -> float:
    """The rate field. It shows the rate ``of_run`` whenever that changed, in whatever session it was changed."""
    value: int | Literal["min"] = DEFAULT_RATE if of_run is None else max(1, round(of_run))
    if of_run is not None and st.session_state.get("rate_of_run") != of_run:
        st.session_state["rate_of_run"] = of_run
        if "rate" in st.session_state:
            st.session_state["rate"] = value
            value = "min"  # Streamlit wants either a first value or one in its state, not both
    return float(
        st.number_input(
            "Rate (messages/s)",
            1,
            1_000_000,
            value,
            step=500,
            key="rate",
            width=125,
            disabled=disabled,
            on_change=on_change,
            args=args,
            bind="query-params",
        )
    )


def _set_rate(control: Control) -> None:
    try:
        control.set_rate(float(st.session_state["rate"]))
    except LoadRefused as refusal:
        st.toast(str(refusal), icon=":material/info:")
