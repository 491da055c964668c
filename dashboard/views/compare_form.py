"""The form of Compare: what the runs of a comparison do, on which brokers, and what is broken meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import streamlit as st

from dashboard import comparison, style, widgets
from dashboard.broker import KAFKA_URL, NAMES, NATS_URL, SYSTEMS, BrokerState, BrokerStatus
from dashboard.comparison import STRATEGIES, ComparisonPlan, FaultChoice, broker_label, fault_choices
from dashboard.faults import MAX_S, MIN_S
from dashboard.process import LoadRefused
from dashboard.run_sequence import Planned, SequenceStatus
from dashboard.sequence_fault import Desk, PlannedFault
from eventbus.errors import ConfigError

OWN = "Another, by its URL"
NO_FAULT = ""
_EMBEDDED = {NAMES[SYSTEMS[url]]: url for url in (NATS_URL, KAFKA_URL)}


class Control(Protocol):
    """What is asked of LoadControl."""

    def broker_status(self, url: str) -> BrokerStatus | None: ...


class Starter(Protocol):
    """What is asked of RunSequence."""

    @property
    def desk(self) -> Desk | None: ...

    def start(self, kind: str, planned: Sequence[Planned]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Broken:
    """What was chosen of faults. why_not: why it cannot be, or None."""

    fault: PlannedFault | None = None
    network: bool = False
    why_not: str | None = None


def form(control: Control, sequence: Starter, kind: str, now: SequenceStatus, busy: bool) -> None:
    """Draw it; a press of its button begins the runs. busy: whether some run goes on, so that it cannot."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="plan"):
        urls, wrong = _brokers(kind)
        topic = ComparisonPlan().topic
        if any(url not in SYSTEMS for url in urls):
            topic = st.text_input("Topic", topic, key="compare_topic", width=150, persist_state="session").strip()
            wrong = wrong or (None if topic else "Give the topic to publish to.")
        rate = _number("Rate (messages/s)", 1, 1_000_000, 5_000, 500, "compare_rate", 150)
        duration_s = _number("Each for (s)", 3, 600, 10, 5, "compare_duration", 120)
        size = _number("Bytes each", 0, 1_000_000, 128, 64, "compare_size", 130)
        workers = 1
        if kind == STRATEGIES:
            workers = _number(
                "Workers that wait", 1, 1_000, 1, 1, "compare_workers", 150,
                help="Of the strategy that waits for each ack: so many publish, wait, and publish again.",
            )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom", key="plan_fault"):
        broken = _fault(control, sequence.desk, urls, float(duration_s))
        wrong = wrong or broken.why_not
        pressed = st.button(
            "Run them all",
            type="primary",
            icon=":material/play_arrow:",
            key="run_all",
            disabled=busy or wrong is not None,
            help=wrong,
        )
    if wrong is not None:
        st.markdown(f":small[:red[:material/error: {widgets.plain(wrong)}]]")
    _told(kind, urls, float(duration_s), broken)
    if busy and not now.active:
        st.info("A run is going on. Stop it on **Live**, or wait for its end, to run these.", icon=":material/info:")
    if not pressed or wrong is not None:
        return
    plan = ComparisonPlan(
        url=urls[0], topic=topic, rate=float(rate), duration_s=float(duration_s), payload_size=size, workers=workers,
        fault=broken.fault, network=broken.network,
    )  # fmt: skip
    when = datetime.now(widgets.viewer_zone()).strftime("%Y-%m-%d %H:%M:%S")
    made = comparison.strategy_runs(plan, when) if kind == STRATEGIES else comparison.broker_runs(plan, when, urls)
    try:
        sequence.start(kind, made)
    except LoadRefused as refusal:
        st.toast(widgets.plain(str(refusal)), icon=":material/info:")
    else:
        st.rerun()


def _told(kind: str, urls: Sequence[str], duration_s: float, broken: _Broken) -> None:
    """What a press would do, in a line."""
    number = len(comparison.LABELS[kind])
    told = (
        f"{number} runs, one after the other, {style.duration(number * duration_s)} in all and a little more. The "
        "first second of each is not judged."
    )
    if broken.fault is not None and broken.why_not is None:
        fault = broken.fault
        until = f"{style.span(fault.duration_s)} later"
        if fault.begin_s + fault.duration_s > duration_s:
            until = "when the run stops sending"
        told += f" Broken in each after {style.span(fault.begin_s)}, healed {until}, and always before the next run."
    if kind != STRATEGIES and all(url in SYSTEMS for url in urls):
        told += " Both brokers are on this machine, with one node each."
    st.caption(told)


# ---- brokers ----------------------------------------------------------------------------------------------------


def _brokers(kind: str) -> tuple[list[str], str | None]:
    """The URLs that were chosen, and what is wrong with them."""
    if kind == STRATEGIES:
        found = [_broker("Broker", "compare_broker", 0)]
    else:
        found = [_broker("First broker", "compare_first", 0), _broker("Second broker", "compare_second", 1)]
    for url in found:
        if not url:
            return found, "Give the URL of the broker, such as nats://127.0.0.1:4222."
        try:
            broker_label(url)
        except ConfigError as error:
            return found, str(error)
    if len({broker_label(url) for url in found}) < len(found):
        return found, "Both are the same broker. Choose two."
    return found, None


def _broker(label: str, key: str, place: int) -> str:
    names = [*_EMBEDDED, OWN]
    name = st.selectbox(label, names, place, key=key, width=200, persist_state="session", filter_mode=None)
    if name != OWN:
        return _EMBEDDED[name]
    return st.text_input(
        "URL",
        key=f"{key}_url",
        width=210,
        placeholder="nats://127.0.0.1:4222",
        persist_state="session",
        help="As on **Live**: `nats://host:4222`, `kafka://host:9092`, several servers by comma. The topic must be one "
        "that may get messages for a test.",
    ).strip()


# ---- fault ------------------------------------------------------------------------------------------------------


def _fault(control: Control, desk: Desk | None, urls: Sequence[str], duration_s: float) -> _Broken:
    """A fault for each run; one that these brokers cannot have is named with the reason, and nothing can be begun."""
    choices = {} if desk is None else {one.fault.name: one for one in fault_choices(desk.offers, urls)}
    name = st.selectbox(
        "Fault in each run",
        [NO_FAULT, *choices],
        format_func=lambda name: _fault_label(name, choices),
        key="compare_fault",
        width=290,
        persist_state="session",
        help="Broken at the same moment of each run, and healed before the next one begins. The locked ones are not "
        "for the chosen broker: choose one to read why.",
    )
    chosen = choices.get(name)
    off = chosen is None
    begin_s = _number("Begins after (s)", 1, 600, 3, 1, "compare_fault_begin", 130, disabled=off)
    lasts_s = _number("Lasts (s)", MIN_S, MAX_S, 3, 1, "compare_fault_lasts", 120, disabled=off)
    if chosen is None:
        return _Broken()
    fault = PlannedFault(chosen.fault.name, chosen.fault.title, float(begin_s), float(lasts_s))
    return _Broken(fault, chosen.network, _why_not(control, chosen, urls, fault, duration_s))


def _fault_label(name: str, choices: dict[str, FaultChoice]) -> str:
    chosen = choices.get(name)
    if chosen is None:
        return "None"
    return f"🔒 {chosen.fault.title}" if chosen.why_not else chosen.fault.title


def _why_not(
    control: Control, chosen: FaultChoice, urls: Sequence[str], fault: PlannedFault, duration_s: float
) -> str | None:
    if chosen.why_not is not None:
        return f"{fault.title}: {chosen.why_not}"
    for url in urls:
        status = control.broker_status(url)
        if status is not None and status.state is BrokerState.FAILED:
            return f"{fault.title}: the {status.name} did not start: {status.error}"
    if fault.begin_s >= duration_s:
        return f"The fault would begin after {fault.begin_s:g} s, and each run sends for {duration_s:g} s only."
    return None


def _number(
    label: str, least: int, most: int, value: int, step: int, key: str, width: int, *, help: str = "",
    disabled: bool = False,
) -> int:  # fmt: skip
    return int(
        st.number_input(
            label, least, most, value, step=step, key=key, width=width, persist_state="session", help=help or None,
            disabled=disabled,
        )
    )  # fmt: skip
