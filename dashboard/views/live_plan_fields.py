"""The fields of the plan of the next run, each with what is wrong with it, and its shape drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import plan_form, plan_preview, widgets
from dashboard.plan_form import Content, Pace, Reading
from dashboard.views.live_plan import BREAKABLE, PACES, default, given, key
from eventbus.config import AckStrategy

STRATEGIES = {
    AckStrategy.UNIFIED: "Unified ledger",
    AckStrategy.TASK_PER_MESSAGE: "A task per message",
    AckStrategy.WAIT_EACH: "Wait for each ack",
    AckStrategy.IGNORE: "Ignore acks",
}
PREVIEW_HEIGHT = 190


def pace(found: Reading) -> None:
    """How fast messages are sent, as a form and as a picture."""
    widgets.heading("How fast", "")
    chosen = Pace(_select("pace", "Pace", found, PACES))
    if chosen is Pace.RATE:
        st.caption("Its rate is in the bar above.")
    elif chosen is Pace.WORKERS:
        _whole("workers", "Workers", found, 1, 100_000, 10, help="So many at once publish, await the ack, and go on.")
    elif chosen is Pace.RECORDED:
        text("replay_time", "Field with the time", found, placeholder="timestamp")
        _number("replay_speed", "Times as fast", found, 0.001, 1e6, 1.0)
    for name in plan_form.SHAPES.get(chosen, ()):
        _shape_field(name, found)
    if chosen.is_open:
        _select(
            "arrivals",
            "Arrivals",
            found,
            {"constant": "At equal gaps", "poisson": "At random (Poisson)"},
            help="Random arrivals have the same mean, and bunch as those of independent clients do.",
        )
    if found.plan is not None:
        st.echarts_chart(
            plan_preview.preview(found.plan),
            key="plan_preview",
            height=PREVIEW_HEIGHT,
            alt="The planned load over time",
        )
    else:
        with st.container(height=PREVIEW_HEIGHT, border=False, vertical_alignment="center"):
            st.markdown(":gray[:material/error: Drawn once the plan can be read.]", text_alignment="center")


_SHAPE_LABELS = {
    "start_rate": "From (messages/s)",
    "base": "Between bursts (messages/s)",
    "peak": "In a burst (messages/s)",
    "every_s": "A burst every (s)",
    "length_s": "Length of a burst (s)",
    "mean": "Mean (messages/s)",
    "amplitude": "Up and down by (messages/s)",
    "period_s": "Period (s)",
}


def _shape_field(name: str, found: Reading) -> None:
    if name == "stages":
        _area("stages", "Stages", found, help="One a line: how long, and the rate it comes to. `20s 1000`")
    elif name.endswith("_s"):
        _number(name, _SHAPE_LABELS[name], found, 0.001, 1e6, 1.0)
    else:
        _number(name, _SHAPE_LABELS[name], found, 0.0, 1e7, 100.0)


def limits(found: Reading) -> None:
    """When the run ends, and how it is judged."""
    widgets.heading("How long, and how good", "")
    _number("duration_s", "Duration (s)", found, 0.0, 1e6, 10.0, help="0: no limit.")
    _whole("count", "Messages", found, 0, 10**12, 1000, help="0: no limit.")
    _number("warm_up_s", "Warm-up (s)", found, 0.0, 1e6, 1.0, help="What happens in it is not judged.")
    _number("drain_s", "Wait for acks at the end (s)", found, 0.0, 1e6, 5.0)
    _area(
        "thresholds",
        "Thresholds",
        found,
        placeholder="p99(ack_latency) < 250ms\nratio(failed) < 1%; abort after 30s",
        help="One a line; the run passes where all hold. With `; abort` behind it, a threshold that does not hold "
        "ends the run. What can be said: docs/expressions.md.",
    )


def content(found: Reading, records: Sequence[Path]) -> None:
    """What messages hold."""
    widgets.heading("What", "")
    chosen = Content(given("content"))
    if chosen is Content.RANDOM:
        _whole("size", "Bytes each", found, 0, 64 * 1024 * 1024, 64)
        _whole("size_max", "Up to (bytes)", found, 0, 64 * 1024 * 1024, 64, help="0: all have the same size.")
    elif chosen is Content.TEMPLATE:
        _area("template", "Template", found, height=110, help="JSON with fields of Faker: `{{ name }}`, `{{ now }}`.")
    else:
        if records:
            st.selectbox(
                "Records",
                records,
                records.index(default("records")) if default("records") in records else 0,
                format_func=lambda path: path.name,
                key=key("records"),
                persist_state="session",
            )
        text("file", "or a file on this machine", found, placeholder="/data/records.jsonl")
        st.toggle("Again from its beginning", default("loop"), key=key("loop"), persist_state="session")
    _area("topics", "Several topics, with weights", found, height=80, placeholder="orders.created = 3\norders.paid = 1")
    _whole("keys", "Different keys", found, 0, 1_000_000_000, 100, help="0: messages have no key.")
    _area("headers", "Headers", found, height=80, placeholder="Source: demo")


def acks(found: Reading) -> None:
    """How acks are treated, and by how many processes."""
    widgets.heading("Acks", "")
    _select("strategy", "Strategy", found, STRATEGIES, help="Four ways to treat acks. Compare them under one load.")
    _whole("max_pending", "Max pending (messages)", found, 1, 100_000_000, 1000, help="The bound of the window.")
    _number("ack_timeout_s", "Ack timeout (s)", found, 0.001, 1e6, 0.5, help="Of one attempt.")
    _whole("max_attempts", "Attempts", found, 1, 1000, 1)
    _whole("processes", "Processes", found, 1, 256, 1, help="That share the load.")
    st.toggle(
        "Breakable network",
        key=BREAKABLE,
        persist_state="session",
        help="Reach the embedded server through a proxy, so that the page Faults can delay, throttle, silence and "
        "reset connections. It takes about a tenth of a core at 20,000 messages a second.",
    )
    _whole("seed", "Seed", found, None, None, 1, help="Makes payloads, keys and arrivals repeatable. Empty: random.")


def text(name: str, label: str, found: Reading, **more: Any) -> None:
    """A field for a line of text."""
    st.text_input(label, default(name), key=key(name), persist_state="session", **more)
    _problem(name, found)


def _area(name: str, label: str, found: Reading, *, height: int = 96, **more: Any) -> None:
    st.text_area(label, default(name), key=key(name), height=height, persist_state="session", **more)
    _problem(name, found)


def _number(name: str, label: str, found: Reading, least: float, most: float, step: float, **more: Any) -> None:
    st.number_input(
        label, least, most, default(name), step=step, format="%.10g", key=key(name), persist_state="session", **more
    )
    _problem(name, found)


def _whole(name: str, label: str, found: Reading, least: int | None, most: int | None, step: int, **more: Any) -> None:
    st.number_input(
        label, least, most, default(name), step=step, format="%d", key=key(name), persist_state="session", **more
    )
    _problem(name, found)


def _select(name: str, label: str, found: Reading, options: Mapping[Any, str], **more: Any) -> Any:
    chosen = st.selectbox(
        label,
        list(options),
        list(options).index(default(name)),
        format_func=lambda option: options[option],
        filter_mode=None,
        key=key(name),
        persist_state="session",
        **more,
    )
    _problem(name, found)
    return chosen


def _problem(name: str, found: Reading) -> None:
    if name in found.problems:
        st.markdown(f":small[:red[:material/error: {widgets.plain(found.problems[name])}]]")
