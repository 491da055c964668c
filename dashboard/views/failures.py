"""Failures: which messages were not plainly acked, what does that mean, and what was done about it?"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import charts, failure_words, failures, journal, style, widgets
from dashboard.chart_frame import span_of
from dashboard.failures import FailureHistory, Failures, Filter
from dashboard.rates import Interval
from dashboard.source import RunHistory, RunSource, RunView
from dashboard.views import passes, run_choice
from dashboard.views.failure_tables import groups_table, messages_table
from eventbus.observe.run import RunInfo, RunStatus, StoreError

REFRESH_S = 2.0
IDLE_S = 5.0
"""Of a run that is over nothing new comes; but a new run may begin, which the page then shows."""
GROUPS, MESSAGES = "Groups", "Single messages"
_PACE = "failures_pace"


@st.cache_resource(show_spinner=False, max_entries=4)
def shared_failures(_source: RunSource, name: str) -> FailureHistory:
    """What was read of the failures in the store of this name, for all sessions."""
    return FailureHistory(_source)


def page(source: RunSource, history: RunHistory, control: run_choice.Control, found: FailureHistory) -> None:
    """Draw the page. All of it is one fragment, drawn again each 2 s while the run goes on."""
    pace_s = passes.NEXT_S if passes.done() == 0 else float(st.session_state.get(_PACE, REFRESH_S))
    st.fragment(_page, run_every=pace_s)(source, history, control, found, pace_s)


def _page(
    source: RunSource, history: RunHistory, control: run_choice.Control, found: FailureHistory, pace_s: float
) -> None:
    if pace_s == passes.NEXT_S and passes.done():
        st.rerun()  # the figures are there: now all of it, at its usual pace
    whole = passes.count() > 0
    run = None
    try:
        run = run_choice.choose(source, control)
        if run is not None:
            _watch(source, history, found, run, whole=whole)
    except StoreError as error:
        run_choice.store_trouble(error)
    if pace_s == passes.NEXT_S:
        return
    wanted_s = IDLE_S if run is not None and run.status.is_over else REFRESH_S
    if wanted_s != pace_s:
        st.session_state[_PACE] = wanted_s
        st.rerun()  # the timer of this fragment can only be changed from outside of it


def _watch(source: RunSource, history: RunHistory, read: FailureHistory, run: RunInfo, *, whole: bool) -> None:
    view = history.view(run.run_id, None, recent_s=1.0, over=run.status.is_over)
    story = journal.entries(run, source.events(run.run_id), source.alerts(run.run_id))
    found = read.of(run.run_id)
    _notes(run, view)
    _figures(view, view.intervals if whole else ())
    if not whole:
        return
    _over_time(run, view, story)
    if not found.groups:
        _nothing(run, view)
        return
    st.subheader("Which messages")
    shown, chosen = _filters(found)
    if shown == MESSAGES:
        messages_table(found, chosen, run)
    else:
        groups_table(found, chosen, run, view.intervals)


def _notes(run: RunInfo, view: RunView) -> None:
    """What has to be known before the figures are believed."""
    if run.status is RunStatus.INTERRUPTED:
        st.warning(
            "**The run was interrupted:** its process is gone without an end. What it told until then is shown; what "
            "was pending then has no outcome.",
            icon=":material/heart_broken:",
        )
    elif run.status is RunStatus.FAILED:
        st.error(f"**The run failed:** {widgets.plain(run.error or 'no reason told')}", icon=":material/error:")
    if not view.complete:
        st.caption(":material/hourglass_top: The beginning of this run is still being read.")


# ---- figures and charts -----------------------------------------------------------------------------------------


def _figures(view: RunView, rows: Sequence[Interval]) -> None:
    """Four figures of the whole run. rows: of their courses."""
    total = view.total
    rejected = 0 if total is None else total.rejected
    late = 0 if total is None else total.late_acks
    unknown = 0 if total is None else max(0, total.unknown - late)
    retries = 0 if total is None else total.retries
    errors = 0 if total is None else sum(total.errors.values())
    settled = 0 if total is None else total.acked + rejected + unknown
    with st.grid(4, min_column_width=165):
        widgets.trend(
            "Rejected",
            style.count(rejected),
            f"{style.percent(rejected / settled if settled else None)} of settled",
            [row.per_second(row.rejected) for row in rows],
            colour="violet" if rejected else "gray",
            icon="block" if rejected else "check_circle",
            explain=failure_words.OUTCOMES["rejected"][2],
        )
        widgets.trend(
            "Left unknown",
            style.count(unknown),
            f"{style.percent(unknown / settled if settled else None)} of settled",
            [row.per_second(row.unknown) for row in rows],
            colour="red" if unknown else "gray",
            icon="help" if unknown else "check_circle",
            explain="Sent, and no definite answer came, nor a late ack until now: these may be stored.",
        )
        widgets.trend(
            "Acked late",
            style.count(late),
            "were unknown before",
            [row.per_second(row.late_acks) for row in rows],
            colour="green" if late else "gray",
            icon="done" if late else "check_circle",
            explain=failure_words.OUTCOMES[failure_words.ACKED_LATE][2],
        )
        widgets.trend(
            "Failed attempts",
            style.count(errors),
            f"{style.count(retries)} were repeated",
            [row.per_second(sum(row.errors.values())) for row in rows],
            colour="orange" if errors else "gray",
            icon="replay" if errors else "check_circle",
            explain="Attempts that failed in any way. Those that were repeated and then acked harmed no message.",
        )


def _over_time(run: RunInfo, view: RunView, story: Sequence[journal.Entry]) -> None:
    rows = view.intervals
    span = span_of(rows, None, growing=not run.status.is_over)
    marks = [entry.mark() for entry in story]
    with st.grid(2, min_column_width=320):
        widgets.panel(
            "Messages not plainly acked",
            "per second, stacked",
            failures.outcomes(rows, span, marks),
            key="failed_outcomes",
            alt="Messages per second that were rejected, unknown or acked late",
        )
        widgets.panel(
            "Failed attempts",
            "per second, by kind; repeated ones too",
            charts.errors(rows, span, marks),
            key="failed_attempts",
            alt="Failed attempts per second by kind of error",
        )


def _nothing(run: RunInfo, view: RunView) -> None:
    total = view.total
    if total is not None and total.unacknowledged and not total.acked:
        st.warning(
            f"**{style.count(total.unacknowledged)} messages were sent without acks,** so nothing is known of any of "
            "them. A durable topic with the strategy *unified* tells what became of each.",
            icon=":material/visibility_off:",
        )
        return
    cured = total is not None and total.retries > 0
    until_now = "" if run.status.is_over else " until now"
    st.success(
        f"**No message was rejected, left unknown or acked late{until_now}.**"
        + (" Attempts failed, and were repeated: every message concerned was acked." if cured else ""),
        icon=":material/verified:",
    )


# ---- filters ----------------------------------------------------------------------------------------------------


def _filters(found: Failures) -> tuple[str, Filter]:
    """One row of controls, which wraps on a narrow page; what to show, and of which messages."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        shown = st.segmented_control(
            "Show", [GROUPS, MESSAGES], default=GROUPS, required=True, key="failures_as", bind="query-params"
        )
        outcomes = st.pills(
            "Outcome", list(failures.OUTCOMES), selection_mode="multi", key="failures_outcome", bind="query-params"
        )
        kinds = st.multiselect(
            "Kind",
            sorted({group.kind for group in found.groups}),
            format_func=lambda kind: style.words(kind) or "none",
            placeholder="all kinds",
            key="failures_kind",
            width=230,
        )
        topics = st.multiselect(
            "Topic",
            sorted({group.topic for group in found.groups}),
            placeholder="all topics",
            key="failures_topic",
            width=230,
        )
        text = st.text_input(
            "Search",
            key="failures_text",
            placeholder="words of the error, or an id",
            icon=":material/search:",
            width=250,
            bind="query-params",
        )
        left = st.toggle(
            "Only what is left",
            key="failures_left",
            bind="query-params",
            help="Without messages that were acked late after all, and without the doubt that this ended.",
        )
    chosen = Filter(frozenset(outcomes), frozenset(kinds), frozenset(topics), text or "", left)
    return shown or GROUPS, chosen
