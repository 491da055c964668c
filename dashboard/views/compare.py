"""Compare: runs beside each other. Those that are kept; or strategies, or brokers, run for it at a press."""

from __future__ import annotations

import atexit
from typing import Protocol

import streamlit as st

from dashboard import run_sequence, style, widgets
from dashboard.comparison import BROKERS, STRATEGIES, STRATEGY_NAMES, kept
from dashboard.control import LoadControl
from dashboard.run_sequence import RunSequence, SequenceStatus, StepState
from dashboard.sequence_fault import FaultStage
from dashboard.stored_count import StoredCount
from dashboard.views import compare_form, run_choice
from dashboard.views.compare_shown import shown
from dashboard.views.run_figures import opened
from eventbus import AckStrategy, runs
from eventbus.errors import ConfigError
from eventbus.observe import RunInfo, StoreError, StoreReader

KEPT = "Kept runs"
MODES = {KEPT: "", "Strategies": STRATEGIES, "Brokers": BROKERS}
REFRESH_S = 1.0
MOST_OTHERS = 3
STATES = {
    StepState.WAITING: ("gray", "schedule"),
    StepState.STARTING: ("blue", "hourglass_top"),
    StepState.RUNNING: ("blue", "play_circle"),
    StepState.DONE: ("green", "check_circle"),
    StepState.FAILED: ("red", "error"),
    StepState.STOPPED: ("gray", "stop_circle"),
    StepState.SKIPPED: ("gray", "do_not_disturb_on"),
}


WHAT = {
    AckStrategy.UNIFIED: "One handler takes all acks; a window bounds what is pending.",
    AckStrategy.TASK_PER_MESSAGE: "Each message has a task of its own that waits for its ack.",
    AckStrategy.WAIT_EACH: "Each message is sent when the one before it is acked.",
    AckStrategy.IGNORE: "No ack is asked for, so that nothing is known of any message.",
}
"""What each strategy does, before there is anything to see of it."""
STAGES = {FaultStage.TO_COME: "fault to come", FaultStage.LASTS: "broken now", FaultStage.OVER: "healed"}


class Control(run_sequence.Control, compare_form.Control, Protocol):
    """What is asked of LoadControl."""


class Runs(compare_form.Starter, Protocol):
    """What is asked of RunSequence."""

    def status(self) -> SequenceStatus: ...

    def cancel(self) -> None: ...


@st.cache_resource(show_spinner=False)
def shared_sequence(_control: LoadControl) -> RunSequence:
    """The one sequence of runs of this dashboard; ended with it."""
    source = widgets.shared_source()
    made = RunSequence(_control, desk=_control.faults, find=source.run, counts=StoredCount(_control, source))
    atexit.register(made.close)
    return made


def page(source: StoreReader, control: Control, sequence: Runs) -> None:
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
        _alone(source, found[baseline])
        return
    shown(source, [found[baseline], *(found[run_id] for run_id in others)])


def _alone(source: StoreReader, info: RunInfo) -> None:
    """The figures of the baseline, with which others would be compared."""
    rows = [
        {"Figure": label, "Baseline": widgets.plain(value)} for label, value in runs.figure_words(opened(source, info))
    ]
    if rows:
        st.table(rows, border="horizontal", hide_index=True, width=460, alt="Figures of the baseline")


# ---- runs for a comparison --------------------------------------------------------------------------------------


def _measured(source: StoreReader, control: Control, sequence: Runs, kind: str) -> None:
    now = sequence.status()
    compare_form.form(control, sequence, kind, now, busy=control.status().active or now.active)
    _progress(sequence)
    if now.active and now.kind == kind:
        return
    found = source.runs(limit=run_choice.MAX_RUNS)
    ids = now.run_ids if now.kind == kind else ()
    told = [run for run_id in ids for run in found if run.run_id == run_id] or kept(found, kind)
    if len(told) > 1:
        shown(source, told)
        return
    what = "The four ways to treat acks" if kind == STRATEGIES else "Two brokers"
    st.info(
        f"{what} run one after the other under the same plan, and are then compared here: press **Run them all**. "
        "It goes on when this page is closed, and every run is kept.",
        title="Nothing compared yet",
        icon=":material/compare_arrows:",
    )
    if kind == STRATEGIES:
        with st.grid(len(WHAT), min_column_width=270):
            for strategy, text in WHAT.items():
                with st.container(border=True, gap="xsmall"):
                    st.markdown(widgets.badge("gray", "schedule", STRATEGY_NAMES[strategy]))
                    st.markdown(text)


def _progress(sequence: Runs) -> None:
    """How a comparison stands, drawn again each second while one goes on."""
    now = sequence.status()
    if now.steps:
        st.fragment(_standing, run_every=REFRESH_S if now.active else None)(sequence, now.active)


def _standing(sequence: Runs, was_active: bool) -> None:
    now = sequence.status()
    if was_active and not now.active:
        st.rerun()  # all of the page: there is something to compare
    if not was_active and all(step.state == StepState.DONE for step in now.steps):
        return
    with st.container(border=True, gap="xsmall", key="progress"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            done = sum(step.state == StepState.DONE for step in now.steps)
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
    time = f" {style.elapsed(now.elapsed_s)}" if step.state == StepState.RUNNING else ""
    badge = widgets.badge(colour, icon, f"{step.label}: {step.state}{time}")
    if step.state != StepState.RUNNING or not step.fault:
        return badge
    stage = widgets.badge(
        "red" if step.stage == FaultStage.LASTS else "gray", "bolt", f"{step.fault}: {STAGES[step.stage]}"
    )
    return f"{badge} {stage}"
