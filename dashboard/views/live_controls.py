"""The bar of the Live page that starts a run, changes its rate and stops it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import streamlit as st

from dashboard import widgets
from dashboard.alert_rules import rules_and_sinks
from dashboard.broker import KAFKA_URL, NATS_URL, BrokerStatus
from dashboard.broker_choice import EMBEDDED, OWN, RESERVED
from dashboard.control import LoadSettings, LoadStatus, Phase
from dashboard.plan_form import Content, Pace, Reading
from dashboard.process import LoadRefused
from dashboard.views import live_plan, live_plan_editor, profile_choice
from eventbus.errors import ConfigError
from eventbus.load.plan import LoadPlan

MAX_RATE = 10_000_000.0
_NOT_TOLD = ("url", "embedded", "share", "topic")
"""Of a plan's values, what the control tells the worker by itself."""


class Control(Protocol):
    """What the page asks of LoadControl."""

    def status(self) -> LoadStatus: ...

    def broker_status(self, url: str) -> BrokerStatus | None: ...

    def start(self, settings: LoadSettings) -> str: ...

    def set_rate(self, rate: float) -> None: ...

    def take(self, by: str, by_name: str = "") -> None: ...

    def stop(self) -> None: ...


def chosen_url(control: Control) -> str:
    """The URL that the form stands for, without the login of a profile; nothing while there is no form, since a run
    goes on."""
    return "" if control.status().active else live_plan.chosen_url()


def controls(control: Control, records: Sequence[Path]) -> None:
    """The bar for what can be done now."""
    seen = control.status()
    if seen.active:
        _of_run(control, seen)
        return
    _of_start(control, records, seen.rate)
    if seen.error:
        st.error(widgets.plain(seen.error), title="The run did not go well", icon=":material/error:")


def _of_start(control: Control, records: Sequence[Path], last_rate: float | None) -> None:
    """The form, and the start that it asks for. It begins with the rate of the run before."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="load"):
        _broker_input()
        pace = Pace(live_plan.given("pace"))
        bar_for_topic, bar_for_rate = st.container(width=130), st.container(width=150)
        st.segmented_control(
            "Payload",
            list(Content) if records else [Content.RANDOM, Content.TEMPLATE],
            default=live_plan.default("content"),
            required=True,
            format_func=str,
            key=live_plan.key("content"),
            bind=live_plan.binding(),
            help="Random bytes, the lines of a file of real records over and over, or JSON of a template. All of it "
            "is set under Plan.",
        )
        pressed = st.button("Start", type="primary", icon=":material/play_arrow:", key="start")
        bar_for_plan = st.container(width="stretch")
    with bar_for_rate:
        if pace is Pace.RATE:
            _rate_input(last_rate)
    found = live_plan.reading(records)
    with bar_for_topic:
        _topic_input(found)
    if pace is not Pace.RATE:
        with bar_for_rate:
            st.text_input("Load", live_plan.PACES[pace], disabled=True, help="Set under Plan.")
    with bar_for_plan:
        st.caption(live_plan.told(found))
    live_plan_editor.editor(found, records)
    if pressed:
        _start(control, found)
    elif (told := st.session_state.get("plan_refused")) and found.problems:
        st.error(widgets.plain(told), title="The plan cannot be started", icon=":material/error:")


def _topic_input(found: Reading) -> None:
    several = str(live_plan.given("topics")).strip()
    if several:
        st.text_input("Topics", "several", disabled=True, help="Set under Plan.")
    else:
        st.text_input("Topic", live_plan.default("topic"), key=live_plan.key("topic"), bind=live_plan.binding())
    if found.problems.get("topic"):
        st.markdown(f":red[:material/error: {widgets.plain(found.problems['topic'])}]")


def _broker_input() -> None:
    """The broker: one that comes along, a connection profile, or the URL of another. A URL is typed in a field of its
    own, since a list that takes new entries forgets what was typed where Enter was not pressed."""
    names = [*EMBEDDED, *(profile.name for profile in profile_choice.listed()), OWN]
    # A profile that is gone stays chosen, and cannot be started: another broker in its place would be no one's wish.
    names += sorted({str(live_plan.default("broker")), str(live_plan.given("broker"))} - set(names))
    broker = st.selectbox(
        "Broker",
        names,
        names.index(live_plan.default("broker")),
        key=live_plan.key("broker"),
        width=140 if len(names) == len(RESERVED) else 200,  # people's names are longer than ours
        filter_mode=None,
        bind=live_plan.binding(),
        help=f"Two come along and need no set-up: `{NATS_URL}`, a nats-server, and `{KAFKA_URL}`, a mock of a Kafka. "
        f"With **{OWN}** you give the URL of yours. Connection profiles, which know a login too, are made on the page "
        "**Telemetry & settings**.",
    )
    if broker == OWN:
        st.text_input(
            "URL",
            live_plan.default("own_url"),
            key=live_plan.key("own_url"),
            width=155,
            placeholder="kafka://host:9092",
            persist_state="session",
            help="`nats://host:4222`, `tls://host:4222`, `kafka://host:9092` or `kafka+ssl://host:9093`; several "
            "servers by comma, user and password as `kafka://USER:PASSWORD@host:9092`.",
        )


def _start(control: Control, found: Reading) -> None:
    st.session_state["plan_refused"] = live_plan.trouble(found)
    if found.plan is None:
        live_plan.open_next()
        st.rerun()
    try:
        settings = _settings(found.plan)
    except ConfigError as error:
        st.error(widgets.plain(str(error)), title="The run cannot begin", icon=":material/error:")
        return
    with st.spinner("Starting: connecting to the broker…"):
        try:
            control.start(settings)
        except LoadRefused as refusal:
            if control.status().active:  # another session was faster; other refusals are kept in the status
                st.toast(str(refusal), icon=":material/info:")
    st.rerun()


def _settings(plan: LoadPlan) -> LoadSettings:
    """What the control is asked for. Alert rules and sinks are those of the dashboard, unless the plan has its own. The
    secret of a connection profile is in nothing but the URL that the worker is told on its standard input.

    Raises ConfigError where the dashboard's rules or its profiles cannot be used.
    """
    values: dict[str, Any] = {name: value for name, value in plan.to_dict().items() if name not in _NOT_TOLD}
    if plan.rules is None and not plan.sinks:
        values |= rules_and_sinks(max_pending=plan.max_pending * plan.processes, ack_timeout_s=plan.ack_timeout_s)
    by, by_name = widgets.viewer()
    return LoadSettings(
        url=profile_choice.full_url(str(live_plan.given("broker")), plan.url),
        topic=plan.topic,
        rate=plan.rate,
        payload_size=plan.payload_size,
        replay=plan.replay,
        loop=plan.loop,
        duration_s=plan.duration_s,
        max_pending=plan.max_pending,
        ack_timeout_s=plan.ack_timeout_s,
        breakable_network=bool(st.session_state.get(live_plan.BREAKABLE)),
        more=values,
        by=by,
        by_name=by_name,
    )


def _of_run(control: Control, seen: LoadStatus) -> None:
    stopping = seen.phase is Phase.STOPPING
    by, by_name = widgets.viewer()
    others = bool(seen.by) and seen.by != by
    with st.container(horizontal=True, vertical_alignment="bottom", key="load"):
        if seen.steerable:
            _rate_input(
                seen.rate, of_run=True, disabled=stopping or others, on_change=_set_rate, args=(control, by, by_name)
            )
        st.button(
            "Stopping…" if stopping else "Stop",
            key="stop",
            type="primary",
            icon=":material/stop:",
            disabled=stopping,
            on_click=_stop,
            args=(control,),
        )
        if others and seen.steerable and not stopping:
            st.button(
                "Take the controls",
                key="take",
                icon=":material/pan_tool:",
                on_click=control.take,
                args=(by, by_name),
                help="One browser at a time changes the rate. All may stop the run.",
            )
        st.caption(_told(seen, stopping, others), width="stretch")


def _told(seen: LoadStatus, stopping: bool, others: bool) -> str:
    held, steer = "", "A new rate takes effect at once. "
    if others:
        name = f" ({seen.by_name})" if seen.by_name else ""
        at = "" if seen.since_wall_s is None else f" at {widgets.clock(seen.since_wall_s)}"
        held = f":material/group: The controls are held by another browser{name} since{at.removeprefix(' at')}. "
        steer = "Everybody may stop the run. "
    if stopping:
        return f"{held}Nothing new is sent; outstanding acks are awaited."
    if not seen.steerable:
        return f"{held}Workers send as fast as acks come. Stop ends the sending and waits for outstanding acks."
    return f"{held}{steer}Stop ends the sending and waits for outstanding acks."


def _stop(control: Control) -> None:
    control.stop()
    st.session_state["paused"] = False  # a page that stands still would not show the end


def _rate_input(
    last: float | None = None,
    *,
    of_run: bool = False,
    disabled: bool = False,
    on_change: Callable[..., None] | None = None,
    args: tuple[Any, ...] | None = None,
) -> None:
    """The rate field. It shows the rate of the run whenever that changed, in whatever session it was changed; of a run
    without one, nothing."""
    state = st.session_state
    key = "rate" if of_run else live_plan.key("rate")
    value = (None if of_run else live_plan.default("rate")) if last is None else last
    first: dict[str, Any] = {"value": value}
    if (of_run or last is not None) and state.get("rate_of_run", "") != last:
        state["rate_of_run"] = last
        if key in state:  # else it may be in the URL, which goes first
            state[key], first = value, {}
    elif not of_run and key in state and state[key] is None:
        state[key], first = value, {}  # the run before had none
    st.number_input(
        "Rate (messages/s)",
        0.001,
        MAX_RATE,
        step=500.0,
        format="%.10g",
        key=key,
        width=150,
        placeholder="as planned",
        disabled=disabled,
        on_change=on_change,
        args=args,
        bind="query-params" if of_run else live_plan.binding(),
        **first,
    )


def _set_rate(control: Control, by: str, by_name: str) -> None:
    rate, held_by = st.session_state["rate"], control.status().by
    if rate is None or held_by not in ("", by):  # not by hand: what another browser set came here meanwhile
        return
    try:
        control.set_rate(float(rate))
        control.take(by, by_name)
    except LoadRefused as refusal:
        st.toast(str(refusal), icon=":material/info:")
