"""The plan of the next run on the Live page: every setting of a load, with its shape drawn and its errors beside it.

The fields' values live in the session, whether the editor is open or not, so that Start always knows them. To fill the
form, its widgets are replaced by others, with new keys: a value that is put into a widget is lost where the browser
asks for the next refresh before it has heard of it, and this page is refreshed each second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from dashboard import plan_form, plan_preview, plan_toml, widgets
from dashboard.broker import KAFKA_URL, NATS_URL
from dashboard.plan_form import DEFAULTS, Content, Pace, Reading
from eventbus.config import AckStrategy
from eventbus.errors import ConfigError
from eventbus.load.presets import PRESETS

OWN = "Own broker"
EMBEDDED = {"Embedded NATS": NATS_URL, "Kafka mock": KAFKA_URL}
KEYS = (
    {"content": "payload", "ack_timeout_s": "ack_timeout", "duration_s": "duration"}
    | {name: name for name in ("broker", "topic", "rate", "records", "size", "max_pending")}
    | {"own_url": "url"}
)
"""Keys of fields; all others are ``plan_`` and the name. Once the form was filled, a number follows."""
_BAR = {"broker": "Embedded NATS", "own_url": ""}
"""Fields of the bar that are no settings of a plan, with their defaults."""
PACES = {
    Pace.RATE: "Constant rate",
    Pace.RAMP: "Ramp",
    Pace.STEP: "Steps",
    Pace.BURST: "Bursts",
    Pace.SINE: "Sine",
    Pace.MAX: "As fast as the window lets",
    Pace.WORKERS: "Workers, each awaits its ack",
    Pace.RECORDED: "As recorded",
}
STRATEGIES = {
    AckStrategy.UNIFIED: "Unified ledger",
    AckStrategy.TASK_PER_MESSAGE: "A task per message",
    AckStrategy.WAIT_EACH: "Wait for each ack",
    AckStrategy.IGNORE: "Ignore acks",
}
NOT_OF_A_PRESET = ("url", "topic", "topics", "headers", "keys", "records", "file", "template", "loop", "rules", "sinks")
PREVIEW_HEIGHT = 190
_UPLOAD, _UPLOAD_ERROR, _PRESET = "plan_upload", "plan_upload_error", "plan_preset"
_VALUES, _FILLED, _OPEN = "plan_values", "plan_filled", "plan_open_next"
LABELS = {
    "url": "URL",
    "topic": "Topic",
    "topics": "Topics",
    "headers": "Headers",
    "thresholds": "Thresholds",
    "stages": "Stages",
    "file": "File",
    "template": "Template",
    "pace": "Pace",
    "name": "Name",
}
BREAKABLE = "breakable_network"
"""Not a part of the plan: it concerns this dashboard's own broker."""


def key(name: str) -> str:
    """Of the widget of a field."""
    filled = st.session_state.get(_FILLED, 0)
    plain = KEYS.get(name, f"plan_{name}")
    return f"{plain}_{filled}" if filled else plain


def default(name: str) -> Any:
    """What a field begins with; it stays the same as long as its key does."""
    value = st.session_state.get(_VALUES, {}).get(name, _BAR.get(name, DEFAULTS.get(name)))
    return float(value) if isinstance(DEFAULTS.get(name), float) else value


def given(name: str) -> Any:
    """What a field says now; its default where it says nothing."""
    value = st.session_state.get(key(name))
    return default(name) if value is None else value


def binding() -> Literal["query-params"] | None:
    """Fields of the bar are bound to the URL, by their keys, until the form is filled."""
    return None if st.session_state.get(_FILLED, 0) else "query-params"


def chosen_url() -> str:
    """The URL of the broker that is chosen."""
    return EMBEDDED.get(given("broker")) or str(given("own_url")).strip()


def reading(records: Sequence[Path]) -> Reading:
    """The plan as the fields stand now."""
    form = {name: given(name) for name in DEFAULTS} | {"url": chosen_url()}
    if form["records"] is None and records:
        form["records"] = records[0]
    found = plan_form.read(form)
    replay = None if found.plan is None else found.plan.replay
    if replay is not None and not replay.is_file():
        return Reading(None, {"file": f"There is no file {replay} on the machine of this dashboard."})
    return found


def trouble(found: Reading) -> str:
    """What keeps the plan from being started, in a line for those who do not see the fields."""
    return "; ".join(f"{LABELS.get(name, name.replace('_', ' '))}: {text}" for name, text in found.problems.items())


def told(found: Reading) -> str:
    """The plan in a line, for Markdown."""
    if found.plan is None:
        return ":red[:material/error: The plan cannot be started yet: see the red lines in it.]"
    return f":material/tune: {widgets.plain(plan_preview.summary(found.plan))}"


def open_next() -> None:
    """Unfold the fields when they are drawn next."""
    st.session_state[_OPEN] = True


def editor(found: Reading, records: Sequence[Path]) -> None:
    """The fields, folded away until somebody wants them; nothing of them costs anything meanwhile."""
    if st.session_state.pop(_OPEN, False):
        st.session_state["plan_open"] = True
    # Its label never changes: Streamlit would take it for another expander, which is closed.
    folded = st.expander("Plan", icon=":material/tune:", key="plan_open", on_change="rerun")
    if not folded.open:
        return
    with folded:
        _files(found)
        with st.grid(4, min_column_width=240, gap="medium") as grid:
            with grid.cell():
                _pace(found)
            with grid.cell():
                _limits(found)
            with grid.cell():
                _content(found, records)
            with grid.cell():
                _acks(found)


# ---- presets and files --------------------------------------------------------------------------------------------


def _files(found: Reading) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Begin with",
            list(PRESETS),
            index=None,
            placeholder="A preset",
            key=_PRESET,
            width=150,
            filter_mode=None,
            on_change=_take_preset,
            help="\n".join(f"- **{one.name}**: {one.description}" for one in PRESETS.values()),
        )
        _text("name", "Name", found, width=170, placeholder="of the run, for people")
        st.download_button(
            "Download",
            data=b"" if found.plan is None else plan_toml.text_of(found.plan),
            file_name="plan.toml" if found.plan is None else plan_toml.file_name(found.plan),
            mime="application/toml",
            key="plan_download",
            icon=":material/download:",
            disabled=found.plan is None,
            on_click="ignore",
            help="A file that `ackscope load FILE` runs as well. Passwords are left out.",
        )
        with st.popover("Upload", icon=":material/upload:"):
            st.file_uploader("A plan file (TOML)", "toml", key=_UPLOAD, on_change=_take_upload, max_upload_size=1)
        st.button("Reset", icon=":material/restart_alt:", key="plan_reset", on_click=_reset)
    if error := st.session_state.get(_UPLOAD_ERROR):
        st.error(widgets.plain(error), title="The file is no plan", icon=":material/error:")
    _kept_of_the_file()


def _kept_of_the_file() -> None:
    rules, sinks = given("rules"), given("sinks")
    if rules is not None or sinks:
        st.caption(
            f":material/attach_file: The plan brings {len(rules or ())} alert rules and {len(sinks)} sinks of its own. "
            "Reset takes them away."
        )


def _take_preset() -> None:
    name = st.session_state.get(_PRESET)
    if name is not None:
        made = PRESETS[name]
        form = plan_form.form_of(made.plan())
        fixed = {*NOT_OF_A_PRESET} | (set() if "payload_size" in made.values else {"content", "size", "size_max"})
        _fill({field: value for field, value in form.items() if field not in fixed})


def _take_upload() -> None:
    file = st.session_state.get(_UPLOAD)
    st.session_state[_UPLOAD_ERROR] = None
    if file is None:
        return
    try:
        plan = plan_toml.plan_from_upload(file.getvalue(), file.name)
    except ConfigError as error:
        st.session_state[_UPLOAD_ERROR] = str(error)
        return
    names = [name for name, url in EMBEDDED.items() if url == plan.url]
    broker = {"broker": names[0]} if names else {"broker": OWN, "own_url": plan.url}
    _fill({**plan_form.form_of(plan), **broker})


def _reset() -> None:
    st.session_state[_UPLOAD_ERROR] = None
    _fill({name: value for name, value in DEFAULTS.items() if name != "records"})


def _fill(form: Mapping[str, Any]) -> None:
    """Let the form say this; what is not in ``form`` stays."""
    state = st.session_state
    now = {name: given(name) for name in (*DEFAULTS, *_BAR)}
    state[_VALUES] = {**now, **{name: value for name, value in form.items() if name != "url"}}
    state[_FILLED] = state.get(_FILLED, 0) + 1


# ---- the fields ---------------------------------------------------------------------------------------------------


def _pace(found: Reading) -> None:
    widgets.heading("How fast", "")
    pace = Pace(_select("pace", "Pace", found, PACES))
    if pace is Pace.RATE:
        st.caption("Its rate is in the bar above.")
    elif pace is Pace.WORKERS:
        _whole("workers", "Workers", found, 1, 100_000, 10, help="So many at once publish, await the ack, and go on.")
    elif pace is Pace.RECORDED:
        _text("replay_time", "Field with the time", found, placeholder="timestamp")
        _number("replay_speed", "Times as fast", found, 0.001, 1e6, 1.0)
    for name in plan_form.SHAPES.get(pace, ()):
        _shape_field(name, found)
    if pace.is_open:
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


def _limits(found: Reading) -> None:
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


def _content(found: Reading, records: Sequence[Path]) -> None:
    widgets.heading("What", "")
    content = Content(given("content"))
    if content is Content.RANDOM:
        _whole("size", "Bytes each", found, 0, 64 * 1024 * 1024, 64)
        _whole("size_max", "Up to (bytes)", found, 0, 64 * 1024 * 1024, 64, help="0: all have the same size.")
    elif content is Content.TEMPLATE:
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
        _text("file", "or a file on this machine", found, placeholder="/data/records.jsonl")
        st.toggle("Again from its beginning", default("loop"), key=key("loop"), persist_state="session")
    _area("topics", "Several topics, with weights", found, height=80, placeholder="orders.created = 3\norders.paid = 1")
    _whole("keys", "Different keys", found, 0, 1_000_000_000, 100, help="0: messages have no key.")
    _area("headers", "Headers", found, height=80, placeholder="Source: demo")


def _acks(found: Reading) -> None:
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


def _text(name: str, label: str, found: Reading, **more: Any) -> None:
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
