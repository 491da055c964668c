"""Where do spans, metrics and log records go, and do they arrive?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import streamlit as st

from dashboard import style, telemetry, widgets
from dashboard.control import LoadStatus
from dashboard.telemetry import Asked, Delivery
from eventbus.telemetry.environment import Signal
from eventbus.telemetry.status import ExportStatus

ITEMS = {"traces": "spans", "metrics": "points", "logs": "records"}
PLACES = {"prometheus": "scraped by Prometheus", "console": "console"}
DELIVERIES = {
    Delivery.ARRIVING: ("green", "check_circle"),
    Delivery.WAITING: ("gray", "hourglass_top"),
    Delivery.FAILING: ("red", "error"),
    Delivery.OFF: ("gray", "do_not_disturb_on"),
}
_PAST = {Delivery.ARRIVING: "arrived", Delivery.FAILING: "failed", Delivery.WAITING: "nothing sent"}


class Control(Protocol):
    """What the page asks of LoadControl."""

    def status(self) -> LoadStatus: ...


def delivery(control: Control) -> None:
    """Draw it. It is meant to draw itself again each second."""
    asked = telemetry.asked()
    seen = control.status()
    targets = seen.telemetry or asked.targets
    _header(seen, targets, asked)
    if asked.error is not None:
        st.error(
            f"{widgets.plain(asked.error)}. Until then no run can begin. Set it right or unset it where the "
            "dashboard was started, and start the dashboard again.",
            title="A variable cannot be used",
            icon=":material/error:",
        )
        return
    if not targets:
        _off(asked)
        return
    if telemetry.packages_missing():
        st.error(
            'Telemetry is asked for, and no run can begin without its packages: `pip install -e ".[otel]"` in the '
            "folder of AckScope, then start the dashboard again.",
            title="OpenTelemetry is not installed",
            icon=":material/error:",
        )
    for doubt in asked.doubts:
        st.warning(widgets.plain(doubt), icon=":material/warning:")
    _cards(seen, targets, asked)


def _header(seen: LoadStatus, targets: Sequence[ExportStatus], asked: Asked) -> None:
    badges = []
    if asked.error is not None:
        badges.append(widgets.badge("red", "error", "misconfigured"))
    else:
        badges.append(_badge(_overall(targets), _over(seen)))
    if seen.telemetry and seen.active:
        badges.append(widgets.badge("blue", "play_circle", "run going on"))
    elif seen.telemetry:
        badges.append(widgets.badge("gray", "history", "last run"))
    elif targets:
        badges.append(widgets.badge("gray", "schedule", "begins with the next run"))
    st.markdown(
        f"{' '.join(badges)} &nbsp;:small[:gray[Each run has a worker process of its own, which sends its telemetry "
        "and counts from its start.]]"
    )


def _overall(targets: Sequence[ExportStatus]) -> Delivery:
    """The worst of what is under way."""
    found = {telemetry.delivery(target) for target in targets}
    order = (Delivery.FAILING, Delivery.ARRIVING, Delivery.WAITING)
    return next((one for one in order if one in found), Delivery.OFF)


def _over(seen: LoadStatus) -> bool:
    """Whether what is shown is of a run that is over."""
    return bool(seen.telemetry) and not seen.active


def _badge(state: Delivery, over: bool) -> str:
    colour, icon = DELIVERIES[state]
    return widgets.badge(colour, icon, _PAST.get(state, state) if over else state)


def _off(asked: Asked) -> None:
    why = (
        "`OTEL_SDK_DISABLED` is `true`, so nothing is sent, whatever else is set. Unset it where the dashboard is "
        "started."
        if asked.disabled
        else "No `OTEL_*` variable asks for it, and without one nothing is sent. To see every ack outcome as spans, "
        "metrics and log records in your own tools, choose below where they go, copy the lines into a terminal, and "
        "start the dashboard there."
    )
    st.info(why, title="Telemetry is off", icon=":material/sensors_off:")


def _cards(seen: LoadStatus, targets: Sequence[ExportStatus], asked: Asked) -> None:
    off = {signal.value for signal in Signal} - {target.signal for target in targets}
    columns = 2 if len(targets) + len(off) == 4 else 3  # no card is left alone in a row
    with st.grid(columns, min_column_width=330):
        for signal in Signal:
            for target in (target for target in targets if target.signal == signal):
                _card(target, over=_over(seen), asked=asked)
            if signal in off:
                _off_card(signal)


def _card(target: ExportStatus, *, over: bool, asked: Asked) -> None:
    how = PLACES.get(target.exporter) or f"OTLP, {target.protocol}"
    with st.container(border=True, gap="xsmall", height="stretch"):
        _title(target.signal, how, _badge(telemetry.delivery(target), over))
        where = f"`{target.endpoint.replace('`', '')}`" if target.endpoint else "standard error of the worker"
        st.markdown(f":material/arrow_forward: {where}")  # as code, or some endpoints would become links
        _figures(target)
        st.markdown(f":small[{_dropped(target)} :gray[{_when(target, asked)}]]")
        if target.last_failure_s is not None:
            _failure(target)


def _off_card(signal: Signal) -> None:
    with st.container(border=True, gap="xsmall", height="stretch"):
        _title(signal, "", _badge(Delivery.OFF, over=False))
        st.markdown(f":gray[Sent nowhere. `OTEL_{signal.upper()}_EXPORTER=otlp` sends them to the collector.]")


def _title(signal: str, how: str, badge: str) -> None:
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        with st.container(width="content"):
            widgets.heading(signal.capitalize(), how)
        with st.container(width="content"):
            st.markdown(badge)


def _figures(target: ExportStatus) -> None:
    scraped = target.exporter == "prometheus"
    last = target.last_success_s
    with st.grid(3, min_column_width=90):
        st.metric(
            "Scrapes" if scraped else "Exports",
            style.count(target.exports),
            f"{style.count(target.items)} {ITEMS[target.signal].removesuffix('s' * (target.items == 1))}",
            delta_color="green" if target.exports else "gray",
            delta_arrow="off",
            help="Those that arrived, and what they held."
            + (
                " A span stands for each failed message, and for a sample of those acked."
                if _is(target, Signal.TRACES)
                else ""
            ),
        )
        st.metric(
            "Last scrape" if scraped else "Last export",
            style.NOTHING if last is None else style.ago(time.time() - last),
            "none arrived yet" if last is None else f"at {widgets.clock(last)}",
            delta_color="gray",
            delta_arrow="off",
        )
        st.metric(
            "Failures",
            style.count(target.failures),
            f"{style.count(target.lost)} lost" if target.lost else "nothing lost",
            delta_color="red" if target.failures else "gray",
            delta_arrow="off",
            help=f"Exports that were given up, and the {ITEMS[target.signal]} they held."
            + (
                " A cumulative metric loses nothing: the next export makes up for it."
                if _is(target, Signal.METRICS)
                else ""
            ),
        )


def _failure(target: ExportStatus) -> None:
    assert target.last_failure_s is not None
    when = f"{style.ago(time.time() - target.last_failure_s)}, at {widgets.clock(target.last_failure_s)}"
    reason = target.last_reason or "no reason was given"
    meaning = telemetry.cause(reason) or widgets.plain(telemetry.shortened(reason))
    if target.failing:
        st.error(meaning, icon=":material/error:")
    st.markdown(
        f":small[:gray[Last failure {widgets.plain(when)}]]", help=f"The exporter said: {widgets.plain(reason)}"
    )


def _is(target: ExportStatus, signal: Signal) -> bool:
    return target.signal == signal


def _dropped(target: ExportStatus) -> str:
    """What found the queue full; metrics have none."""
    if _is(target, Signal.METRICS):
        return ""
    if not target.dropped:
        return ":gray[0 dropped.]"
    return f":red[:material/warning: {style.count(target.dropped)} {ITEMS[target.signal]} dropped: the queue was full.]"


def _when(target: ExportStatus, asked: Asked) -> str:
    if target.exporter == "prometheus":
        return "Served to whoever asks, while a run goes on."
    if _is(target, Signal.METRICS):
        return f"Sent every {asked.metric_interval_s:g} s, and at the end of a run."
    return "Sent within seconds, and at the end of a run."
