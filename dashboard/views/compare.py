"""Compare: runs beside each other. Those that are kept; or strategies, or brokers, run for it at a press."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from datetime import datetime

import streamlit as st

from dashboard import comparison, style, widgets
from dashboard.broker import KAFKA_URL, NAMES, NATS_URL, SYSTEMS
from dashboard.comparison import BROKERS, STRATEGIES, ComparisonPlan, findings, kept
from dashboard.process import LoadRefused
from dashboard.run_sequence import Control, Planned, RunSequence, SequenceStatus, StepState
from dashboard.views import run_choice
from dashboard.views.run_figures import compared, comparison_figures, draw
from eventbus import runs
from eventbus.errors import ConfigError
from eventbus.observe import RunInfo, StoreError, StoreReader

KEPT = "Kept runs"
MODES = {KEPT: "", "Strategies": STRATEGIES, "Brokers": BROKERS}
REFRESH_S = 1.0
MOST_OTHERS = 3
CHARTS = {
    "fates": "What became of the messages of each run, as shares",
    "sent": "Messages sent per second, a line a run",
    "acked": "Messages acked per second, a line a run",
    "p99": "99th percentile of the ack latency, a line a run",
    "pending": "Messages pending, a line a run",
    "failed": "Messages failed per second, a line a run",
    "percentiles": "Distribution of the ack latency, a line a run",
}
STATES = {
    StepState.WAITING: ("gray", "schedule"),
    StepState.STARTING: ("blue", "hourglass_top"),
    StepState.RUNNING: ("blue", "play_circle"),
    StepState.DONE: ("green", "check_circle"),
    StepState.FAILED: ("red", "error"),
    StepState.STOPPED: ("gray", "stop_circle"),
    StepState.SKIPPED: ("gray", "do_not_disturb_on"),
}


@st.cache_resource(show_spinner=False)
def shared_sequence(_control: Control) -> RunSequence:
    """The one sequence of runs of this dashboard; ended with it."""
    made = RunSequence(_control)
    atexit.register(made.close)
    return made


def page(source: StoreReader, control: Control, sequence: RunSequence) -> None:
    """Draw the page. Only the progress of a comparison that goes on draws itself again."""
    mode = st.segmented_control(
        "Compare",
        list(MODES),
        default=KEPT,
        required=True,
        key="compare",
        bind="query-params",
        label_visibility="collapsed",
    )
    kind = MODES[mode or KEPT]
    try:
        if kind:
            _measured(source, control, sequence, kind)
        else:
            _progress(sequence)
            _kept(source, control)
    except StoreError as error:
        run_choice.store_trouble(error)
    except ConfigError as error:  # a package of the extra ``runs`` is missing
        st.error(widgets.plain(str(error)), title="This cannot be drawn", icon=":material/error:")


# ---- kept runs --------------------------------------------------------------------------------------------------


def _kept(source: StoreReader, control: Control) -> None:
    found = {run.run_id: run for run in source.runs(limit=run_choice.MAX_RUNS)}
    if not found:
        run_choice.choose(source, control)  # says what to do
        return
    if len(found) == 1:
        st.info(
            "One run is kept so far. Start another on **Live**, or let this page run a comparison: **Strategies** or "
            "**Brokers** above.",
            title="Two runs are needed",
            icon=":material/compare_arrows:",
        )
        return
    first = next((run.run_id for run in found.values() if run.baseline), list(found)[1])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        baseline = st.selectbox(
            "Baseline",
            list(found),
            index=list(found).index(first),
            format_func=lambda run_id: run_choice.label(found[run_id]),
            key="baseline",
            persist_state="session",
            filter_mode="contains",
            width=400,
            help="What the others are compared with: by default the run that is pinned as baseline, on **Runs**.",
        )
        rest = [run_id for run_id in found if run_id != baseline]
        others = st.multiselect(
            f"Compared with it (1 to {MOST_OTHERS})",
            rest,
            default=rest[:1],
            format_func=lambda run_id: run_choice.label(found[run_id]),
            max_selections=MOST_OTHERS,
            key=f"others-{baseline}",
            persist_state="session",
        )
    if not others:
        st.info("Choose at least one run to compare with the baseline.", icon=":material/compare_arrows:")
        return
    _shown(source, [found[baseline], *(found[run_id] for run_id in others)])


# ---- runs for a comparison --------------------------------------------------------------------------------------


def _measured(source: StoreReader, control: Control, sequence: RunSequence, kind: str) -> None:
    now = sequence.status()
    _form(control, sequence, kind, now)
    _progress(sequence)
    if now.active and now.kind == kind:
        return
    found = source.runs(limit=run_choice.MAX_RUNS)
    ids = now.run_ids if now.kind == kind else ()
    told = [run for run_id in ids for run in found if run.run_id == run_id] or kept(found, kind)
    if len(told) > 1:
        _shown(source, told)
        return
    what = "The four ways to treat acks" if kind == STRATEGIES else "Both brokers that come along"
    st.info(
        f"{what} run one after the other under the same plan, and are then compared here: press **Run them all**. "
        "It goes on when this page is closed, and every run is kept.",
        title="Nothing compared yet",
        icon=":material/compare_arrows:",
    )


def _form(control: Control, sequence: RunSequence, kind: str, now: SequenceStatus) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", key="plan"):
        url = NATS_URL
        if kind == STRATEGIES:
            urls = {NAMES[SYSTEMS[url]]: url for url in (NATS_URL, KAFKA_URL)}
            url = urls[st.selectbox("Broker", list(urls), key="compare_broker", width=210, persist_state="session")]
        rate = _number("Rate (messages/s)", 1, 1_000_000, 5_000, 500, "compare_rate", 150)
        duration_s = _number("Each for (s)", 3, 600, 10, 5, "compare_duration", 120)
        size = _number("Bytes each", 0, 1_000_000, 128, 64, "compare_size", 130)
        workers = 1
        if kind == STRATEGIES:
            workers = _number(
                "Workers that wait",
                1,
                1_000,
                1,
                1,
                "compare_workers",
                150,
                help="Of the strategy that waits for each ack: so many publish, wait, and publish again.",
            )
        busy = control.status().active or now.active
        pressed = st.button("Run them all", type="primary", icon=":material/play_arrow:", key="run_all", disabled=busy)
    number = len(comparison.LABELS[kind])
    st.caption(
        f"{number} runs, one after the other, {style.duration(number * duration_s)} in all and a little more. The "
        "first second of each is not judged."
        + ("" if kind == STRATEGIES else " Both brokers are on this machine, with one node each.")
    )
    if busy and not now.active:
        st.info("A run is going on. Stop it on **Live**, or wait for its end, to run these.", icon=":material/info:")
    if pressed:
        plan = ComparisonPlan(
            url=url, rate=float(rate), duration_s=float(duration_s), payload_size=size, workers=workers
        )
        when = datetime.now(widgets.viewer_zone()).strftime("%Y-%m-%d %H:%M:%S")
        make = comparison.strategy_runs if kind == STRATEGIES else comparison.broker_runs
        _start(sequence, kind, make(plan, when))


def _number(label: str, least: int, most: int, value: int, step: int, key: str, width: int, help: str = "") -> int:
    return int(
        st.number_input(
            label, least, most, value, step=step, key=key, width=width, persist_state="session", help=help or None
        )
    )


def _start(sequence: RunSequence, kind: str, planned: Sequence[Planned]) -> None:
    try:
        sequence.start(kind, planned)
    except LoadRefused as refusal:
        st.toast(str(refusal), icon=":material/info:")
    else:
        st.rerun()


def _progress(sequence: RunSequence) -> None:
    """How a comparison stands, drawn again each second while one goes on."""
    now = sequence.status()
    if now.steps:
        st.fragment(_standing, run_every=REFRESH_S if now.active else None)(sequence, now.active)


def _standing(sequence: RunSequence, was_active: bool) -> None:
    now = sequence.status()
    if was_active and not now.active:
        st.rerun()  # all of the page: there is something to compare
    if not was_active and all(step.state is StepState.DONE for step in now.steps):
        return
    with st.container(border=True, gap="xsmall", key="progress"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            done = sum(step.state is StepState.DONE for step in now.steps)
            end = "stopped" if now.cancelled else "over"
            words = f"Comparing {now.kind}" if now.active else f"Comparison of {now.kind} {end}"
            st.markdown(f"**{words}:** {done} of {len(now.steps)} runs done", width="content")
            if now.active:
                st.button(
                    "Stop", icon=":material/stop:", key="stop_all", on_click=sequence.cancel, type="primary",
                    help="Ends the run that goes on, and leaves out those to come.",
                )  # fmt: skip
        if now.active:
            st.progress(min(1.0, now.share))
        st.markdown(" ".join(_step_badge(now, place) for place in range(len(now.steps))))
        if now.active:
            st.caption("The figures are here when all are done. Whatever page you open, it goes on.")
        for step in now.steps:
            if step.error:
                st.markdown(f":small[:red[:material/error: {widgets.plain(f'{step.label}: {step.error}')}]]")


def _step_badge(now: SequenceStatus, place: int) -> str:
    step = now.steps[place]
    colour, icon = STATES[step.state]
    time = f" {style.elapsed(now.elapsed_s)}" if step.state is StepState.RUNNING else ""
    return widgets.badge(colour, icon, f"{step.label}: {step.state}{time}")


# ---- what is compared -------------------------------------------------------------------------------------------


def _shown(source: StoreReader, infos: Sequence[RunInfo]) -> None:
    found = compared(source, infos)
    if any(info.settings.get("embedded") == "kafka" for info in infos):
        widgets.mock_note()
    _advice(found)
    _sentence(found)
    figures = comparison_figures(source, found)
    with st.grid(2, min_column_width=430):
        for name, alt in CHARTS.items():
            if name in figures and _says_something(figures[name]):
                draw(figures[name], f"compared-{name}", alt)
    st.subheader("Figures")
    _table(found)
    st.download_button(
        "Report",
        data=lambda: found.to_html().encode(),
        file_name="comparison.html",
        mime="text/html",
        icon=":material/download:",
        on_click="ignore",
        key="comparison-report",
        help="One HTML page with these charts that needs nothing else, of some 5 MB",
    )


def _says_something(figure: object) -> bool:
    return any(any(trace.y) or trace.type == "bar" for trace in figure.data)  # type: ignore[attr-defined]  # go.Figure


def _advice(found: runs.Comparison) -> None:
    """What the runs teach, where they are of several strategies."""
    told = findings(found.runs)
    if not told:
        return
    with st.grid(len(told), min_column_width=270):
        for finding in told:
            colour, icon = {True: ("green", "thumb_up"), False: ("red", "warning"), None: ("orange", "info")}[
                finding.good
            ]
            with st.container(border=True, gap="xsmall", height="stretch"):
                st.markdown(widgets.badge(colour, icon, comparison.STRATEGY_NAMES[finding.strategy]))
                st.markdown(f"**{finding.title}.** {widgets.plain(finding.text)}")


def _sentence(found: runs.Comparison) -> None:
    """The whole comparison in one line."""
    first = widgets.plain(found.labels[0])
    worse = [row["figure"] for row in found.rows() if row["change"] == "worse"]
    if worse:
        figures = len(set(worse))
        st.markdown(
            f":material/compare_arrows: Compared with **{first}**: {figures} figure{'s' * (figures != 1)} "
            f"worse in some run. Differences up to {found.tolerance:.0%} count as none."
        )
    else:
        st.markdown(
            f":material/compare_arrows: Compared with **{first}**: nothing is worse. Differences up to "
            f"{found.tolerance:.0%} count as none."
        )


def _table(found: runs.Comparison) -> None:
    """A row a figure, a column a run; what is better or worse has a colour, a sign and its word."""
    heads = ["Figure", *map(widgets.plain, found.labels)]
    rows = [dict(zip(heads, [row[0], *map(_cell, row[1:])], strict=True)) for row in found.words()]
    st.table(rows, border="horizontal", hide_index=True, alt="Figures of the runs beside each other")


def _cell(cell: str) -> str:
    for sign, colour in (("▲ better", "green"), ("▼ worse", "red")):
        if cell.endswith(sign):
            return f"{widgets.plain(cell.removesuffix(sign))} :{colour}[{sign}]"
    return widgets.plain(cell)
