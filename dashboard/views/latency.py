"""Latency: how long did acks take, from the send and from the schedule, and where did the time go?"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import charts, journal, latency_charts, latency_parts, levels, style, widgets
from dashboard.chart_frame import Mark, Span, Threshold, span_of
from dashboard.latency_charts import Measure
from dashboard.latency_parts import Finding, LatencyParts
from dashboard.rates import Interval
from dashboard.source import RunHistory, RunSource, RunView
from dashboard.views import passes, run_choice
from eventbus.observe.run import RunInfo, RunStatus, StoreError

REFRESH_S = 2.0
IDLE_S = 5.0
"""Of a run that is over nothing new comes; but a new run may begin, which the page then shows."""
WINDOWS: dict[str, float | None] = {"1m": 60.0, "5m": 300.0, "15m": 900.0, "Run": None}
WEIGHTS = {"fine": ("green", "check_circle"), "notable": ("orange", "info"), "large": ("red", "warning")}
HEAT_HEIGHT = 300
SPLIT_HEIGHT = 60
_PACE = "latency_pace"


def page(source: RunSource, history: RunHistory, control: run_choice.Control) -> None:
    """Draw the page. All of it is one fragment, drawn again each 2 s while the run goes on."""
    pace_s = passes.NEXT_S if passes.done() == 0 else float(st.session_state.get(_PACE, REFRESH_S))
    st.fragment(_page, run_every=pace_s)(source, history, control, pace_s)


def _page(source: RunSource, history: RunHistory, control: run_choice.Control, pace_s: float) -> None:
    if pace_s == passes.NEXT_S and passes.done():
        st.rerun()  # the figures are there: now all of it, at its usual pace
    whole = passes.count() > 0
    run = None
    try:
        with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
            run = run_choice.choose(source, control)
            window = None if run is None else _window()
        if run is not None:
            _watch(source, history, run, WINDOWS[window or "Run"], whole=whole)
    except StoreError as error:
        run_choice.store_trouble(error)
    if pace_s == passes.NEXT_S:
        return
    wanted_s = IDLE_S if run is not None and run.status.is_over else REFRESH_S
    if wanted_s != pace_s:
        st.session_state[_PACE] = wanted_s
        st.rerun()  # the timer of this fragment can only be changed from outside of it


def _window() -> str | None:
    return st.segmented_control(
        "Window",
        list(WINDOWS),
        default="Run",
        required=True,
        key="latency_window",
        bind="query-params",
        help="The newest part of the run, or all of it. Figures and words are of the same time as the charts.",
    )


def _watch(source: RunSource, history: RunHistory, run: RunInfo, window_s: float | None, *, whole: bool) -> None:
    view = history.view(run.run_id, window_s, recent_s=1.0, over=run.status.is_over)
    story = journal.entries(run, source.events(run.run_id), source.alerts(run.run_id))
    _notes(run, view)
    rows = view.intervals
    if not rows:
        if not run.status.is_over:
            st.info("The run has begun; the first figures come within a second.", icon=":material/hourglass_top:")
        else:
            st.info("This run ended before its first second was measured.", icon=":material/timer_off:")
        return
    closed = bool(run.settings.get("workers"))
    parts = latency_parts.parts_of(rows)
    span = span_of(rows, window_s, growing=not run.status.is_over)
    marks = [entry.mark() for entry in story]
    _figures(rows if whole else (), parts, closed=closed)
    if not whole:
        return
    _over_time(run, view, parts, span, marks)
    _where(run, rows, parts, span, marks, closed=closed)


def _notes(run: RunInfo, view: RunView) -> None:
    """What has to be known before the figures are believed."""
    if run.status is RunStatus.INTERRUPTED:
        st.warning(
            "**The run was interrupted:** its process is gone without an end. What it measured until then is shown.",
            icon=":material/heart_broken:",
        )
    elif run.status is RunStatus.FAILED:
        st.error(f"**The run failed:** {widgets.plain(run.error or 'no reason told')}", icon=":material/error:")
    if not view.complete:
        st.caption(":material/hourglass_top: The beginning of this run is still being read.")


# ---- figures ----------------------------------------------------------------------------------------------------


def _figures(rows: Sequence[Interval], parts: LatencyParts, *, closed: bool) -> None:
    """Five figures: both latencies, and what stood between them. rows: of their courses."""
    ack_s, scheduled_s = parts.ack.percentile_s(99), parts.scheduled.percentile_s(99)
    stalled, late = parts.stalled_share >= latency_parts.NOTICEABLE, parts.schedule_lag_max_s
    with st.grid(5, min_column_width=165):
        widgets.trend(
            "Ack latency p99",
            style.duration(ack_s),
            f"p50 {style.duration(parts.ack.percentile_s(50))}",
            [(row.percentile_s(99) or 0.0) * 1e3 for row in rows],
            colour="blue",
            icon="timer",
            explain="From an attempt's send to its ack: 99 of 100 acks came faster.",
        )
        widgets.trend(
            "Scheduled p99",
            style.duration(scheduled_s),
            "no schedule" if closed else f"p50 {style.duration(parts.scheduled.percentile_s(50))}",
            [(row.scheduled_percentile_s(99) or 0.0) * 1e3 for row in rows],
            colour="gray" if closed else "blue",
            icon="schedule",
            explain="From the time that the schedule had for a message to its ack. A message that had to wait before "
            "it was sent shows it here, and only here.",
        )
        widgets.trend(
            "Stalled",
            style.percent(parts.stalled_share),
            f"{style.duration(parts.stalled_s)} without room",
            [row.stalled_share * 100 for row in rows],
            colour="orange" if stalled else "gray",
            icon="warning" if stalled else "check_circle",
            explain="Share of the time in which a publisher waited for room in the window of pending messages.",
        )
        widgets.trend(
            "Sent late",
            style.duration(late),
            "at most",
            [row.schedule_lag_max_s * 1e3 for row in rows],
            colour="gray",
            icon="hourglass_bottom",
            explain="The longest that a message was sent after the time that the schedule had for it.",
        )
        widgets.trend(
            "Retries",
            style.count(parts.retries),
            f"{style.percent(parts.retry_ratio)} of accepted",
            [row.per_second(row.retries) for row in rows],
            colour="orange" if parts.retries else "gray",
            icon="replay" if parts.retries else "check_circle",
            explain="Attempts that were repeated. Each costs its pause, and often an ack timeout before it.",
        )


# ---- over time --------------------------------------------------------------------------------------------------


def _over_time(run: RunInfo, view: RunView, parts: LatencyParts, span: Span, marks: Sequence[Mark]) -> None:
    """Percentiles of both latencies on the same axis, and the heatmap of one of them."""
    rows, axis = view.intervals, latency_charts.axis_ms(view.intervals)
    known = levels.levels_of(run)
    with st.grid(2, min_column_width=320):
        for measure, metric, title in (
            (Measure.ACK, "ack_latency", "Ack latency"),
            (Measure.SCHEDULED, "scheduled_latency", "Scheduled latency"),
        ):
            drawn: Sequence[Threshold] = levels.lines(known, f"p99({metric})", view.sample)
            widgets.panel(
                title,
                f"{measure.value} to the ack, log scale",
                latency_charts.percentiles(
                    rows, span, measure, axis, marks=marks, levels=drawn, nothing=_nothing(run, parts, measure)
                ),
                key=f"percentiles_{metric}",
                alt=f"{title}: percentiles 50, 95, 99 and 99.9 over time in milliseconds",
            )
    with st.container(border=True, gap="xxsmall"):
        # Not at the right: there Streamlit lays a chart's tools over it.
        with st.container(horizontal=True, vertical_alignment="center"):
            with st.container(width="content"):
                widgets.heading("Heatmap", "acks by their latency over time; stronger is more, by powers of ten")
            chosen = st.segmented_control(
                "Latency of the heatmap",
                list(Measure),
                default=Measure.ACK,
                required=True,
                format_func=lambda measure: measure.value,
                key="heatmap_of",
                label_visibility="collapsed",
            )
        measure = Measure(chosen or Measure.ACK)
        st.echarts_chart(
            latency_charts.heatmap(rows, span, measure, widgets.clock, _nothing(run, parts, measure)),
            key="latency_heatmap",
            height=HEAT_HEIGHT,
            alt=f"Heatmap of the latency {measure.value}, over time",
        )


def _nothing(run: RunInfo, parts: LatencyParts, measure: Measure) -> str:
    """Why a chart is empty."""
    if not parts.ack.total and parts.unacknowledged:
        return "This run sends without acks"
    if measure is Measure.SCHEDULED and run.settings.get("workers"):
        return "A closed model has no schedule"
    return "No acks in this time"


# ---- where the time goes ----------------------------------------------------------------------------------------


def _where(
    run: RunInfo,
    rows: Sequence[Interval],
    parts: LatencyParts,
    span: Span,
    marks: Sequence[Mark],
    *,
    closed: bool,
) -> None:
    """As one bar, in words, in a table of percentiles, and over time."""
    st.subheader("Where the time goes")
    st.markdown(f"**{widgets.plain(latency_parts.verdict(parts, closed=closed))}**")
    ack_timeout_s = float(run.settings.get("ack_timeout_s") or 5.0)
    max_pending = int(run.settings.get("max_pending") or 10_000)
    mean = latency_charts.split(parts)
    if mean is not None:
        st.echarts_chart(
            mean,
            key="latency_split",
            height=SPLIT_HEIGHT,
            alt="The mean time from the schedule to the ack: before the last send, and to the broker and back",
        )
    with st.grid(4, min_column_width=250):
        for finding in latency_parts.findings(
            parts, closed=closed, max_pending=max_pending, ack_timeout_s=ack_timeout_s
        ):
            _finding(finding)
    with st.grid(2, min_column_width=320):
        with st.container(border=True, gap="xxsmall", height="stretch"):
            widgets.heading("Scheduled against sent", "log scale, over percentiles")
            st.echarts_chart(
                latency_charts.curve(parts.ack, parts.scheduled),
                key="latency_curve",
                height=HEAT_HEIGHT,
                alt="Latency from the send and from the schedule over percentiles, in milliseconds",
            )
        with st.container(border=True, gap="xsmall", height="stretch"):
            _table(parts)
    with st.grid(3, min_column_width=320):
        widgets.panel(
            "Stalled",
            "share of the time",
            charts.stalled(rows, span, marks),
            key="latency_stalled",
            alt="Share of the time in which a publisher waited for room",
        )
        widgets.panel(
            "Lag of the load",
            "ms, peak",
            charts.lags(rows, span, marks),
            key="latency_lags",
            alt="How late messages and the event loop were, in milliseconds",
        )
        widgets.panel(
            "Repairs",
            "per second",
            charts.repairs(rows, span, marks),
            key="latency_repairs",
            alt="Retries, ack timeouts, duplicates and late acks per second",
        )


def _finding(finding: Finding) -> None:
    colour, icon = WEIGHTS[finding.weight]
    with st.container(border=True, gap="xxsmall", height="stretch"):
        st.markdown(f"{finding.title} &nbsp;{widgets.badge(colour, icon, _word(finding))}")
        st.markdown(f"**{widgets.plain(finding.figure)}**")
        st.markdown(f":small[{widgets.plain(finding.text)}]")


def _word(finding: Finding) -> str:
    return {"fine": "fine", "notable": "worth a look", "large": "costs much"}[finding.weight]


def _table(parts: LatencyParts) -> None:
    messages = f"{style.count(parts.ack.total)} acks"
    widgets.heading("Percentiles", f"{messages}{', the warm-up' if parts.warming_up else ', without the warm-up'}")
    rows = latency_parts.percentile_rows(parts)
    st.table(
        {
            "Percentile": [row.name for row in rows],
            "From the send": [row.ack for row in rows],
            "From the schedule": [row.scheduled for row in rows],
            "Difference": [row.difference for row in rows],
        },
        border="horizontal",
        hide_index=True,
        alt="Percentiles of the latency from the send and from the schedule, with their units",
    )
    st.caption("A dash: no message lies above it, or there is none. Buckets make percentiles exact to 0.8 %.")
