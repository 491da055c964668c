"""The figures, charts and tables of the Live page."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import charts, journal, style, widgets
from dashboard.charts import Mark
from dashboard.source import RunView
from eventbus.alerts.rule import ERROR_RATIO_LIMIT, PENDING_LIMIT
from eventbus.observe.run import RunInfo

TABLE_HEIGHT = 184


def ack_timeout_s(run: RunInfo) -> float:
    """The run's ack timeout in seconds."""
    return float(run.settings.get("ack_timeout_s", 5.0))


def figures(run: RunInfo, view: RunView) -> None:
    """Six figures with their course: of the newest seconds while the run goes on, of all of it afterwards."""
    over = run.status.is_over
    figure = view.total if over else (view.recent or view.total)
    if figure is None or view.total is None:
        st.info("The run has begun; the first figures come within a second.", icon=":material/hourglass_top:")
        return
    rows = view.intervals
    ratio = figure.left_error_ratio if over else figure.error_ratio
    oldest_s = figure.oldest_pending_age_max_s
    if over:
        oldest_s = max((row.oldest_pending_age_max_s for row in rows), default=oldest_s)
    timeout_s = ack_timeout_s(run)
    timeouts = view.total.ack_timeouts
    fullness = figure.pending / figure.max_pending if figure.max_pending else 0.0
    bad_ratio = ratio is not None and ratio > ERROR_RATIO_LIMIT
    bad_pending = figure.pending > PENDING_LIMIT
    bad_oldest = oldest_s > timeout_s / 2
    with st.grid(6, min_column_width=165):
        widgets.trend(
            "Acked",
            style.rate(figure.per_second(figure.acked)),
            f"of {style.rate(figure.per_second(figure.offered))} offered",
            [row.per_second(row.acked) for row in rows],
            colour="blue",
            icon="done_all",
            explain="Messages confirmed by the broker in a second, against those that the load wanted to send.",
        )
        widgets.trend(
            "Error ratio",
            style.percent(ratio),
            f"{style.count(figure.late_acks)} acked late"
            if over and figure.late_acks
            else f"{'above' if bad_ratio else 'alert above'} {style.level(ERROR_RATIO_LIMIT)}",
            [(row.error_ratio or 0.0) * 100 for row in rows],
            colour="red" if bad_ratio else "gray",
            icon="error" if bad_ratio else "check_circle",
            explain="Rejected and unknown messages among all that were settled. After the run those that were acked "
            "late no longer count.",
        )
        widgets.trend(
            "Ack latency p99",
            style.duration(figure.latency.percentile_s(99)),
            f"p50 {style.duration(figure.latency.percentile_s(50))}",
            [(row.latency.percentile_s(99) or 0.0) * 1e3 for row in rows],
            colour="blue",
            icon="timer",
            explain="From an attempt's send to its ack: 99 of 100 acks came faster.",
        )
        widgets.trend(
            "Pending",
            style.count(figure.pending),
            f"{style.percent(fullness)} of {style.count(figure.max_pending)}",
            [float(row.pending_max) for row in rows],
            colour="red" if bad_pending else "gray",
            icon="warning" if bad_pending else "pending",
            explain=f"Accepted and not yet settled. Alert above {style.count(PENDING_LIMIT)}.",
        )
        widgets.trend(
            "Oldest pending",
            style.duration(oldest_s),
            f"ack timeout {style.duration(timeout_s)}",
            [row.oldest_pending_age_max_s for row in rows],
            colour="red" if bad_oldest else "gray",
            icon="warning" if bad_oldest else "hourglass_bottom",
            explain="How long the oldest unsettled message had been waiting, at most.",
        )
        widgets.trend(
            "Ack timeouts",
            style.count(timeouts),
            f"{style.count(view.total.retries)} retries",
            [row.per_second(row.ack_timeouts) for row in rows],
            colour="red" if timeouts else "gray",
            icon="alarm" if timeouts else "check_circle",
            explain="Attempts whose ack did not come in time, and attempts that were repeated, in the whole run.",
        )


def panels(run: RunInfo, view: RunView, window_s: float | None, marks: Sequence[Mark]) -> None:
    """Six charts over time."""
    rows = view.intervals
    span = charts.span_of(rows, window_s, growing=not run.status.is_over)
    with st.grid(3, min_column_width=320):
        widgets.panel(
            "Outcomes",
            "messages/s, stacked",
            charts.outcomes(rows, span, marks),
            key="outcomes",
            alt="Outcomes of messages per second, stacked, with the offered rate",
        )
        widgets.panel(
            "Failed attempts",
            "per second, by kind",
            charts.errors(rows, span, marks),
            key="errors",
            alt="Failed attempts per second by kind of error",
        )
        widgets.panel(
            "Ack latency",
            "log scale",
            charts.latency(rows, span, marks),
            key="latency",
            alt="Ack latency percentiles 50, 95 and 99 in milliseconds",
        )
        widgets.panel(
            "Pending",
            "messages, peak",
            charts.pending(rows, span, PENDING_LIMIT, marks),
            key="pending",
            alt="Pending messages against the window's limit and the alert threshold",
        )
        widgets.panel(
            "Oldest pending",
            "age, peak",
            charts.oldest(rows, span, ack_timeout_s(run), marks),
            key="oldest",
            alt="Age of the oldest pending message against the ack timeout",
        )
        widgets.panel(
            "Repairs",
            "per second",
            charts.repairs(rows, span, marks),
            key="repairs",
            alt="Retries, ack timeouts, duplicates and late acks per second",
        )


def tables(story: Sequence[journal.Entry], groups: Sequence[journal.FailureGroup]) -> None:
    """What happened, and which messages failed."""
    with st.grid(2, min_column_width=420) as grid:
        with grid.cell(), st.container(border=True, gap="xsmall"):
            widgets.heading("Events", "newest first")
            st.dataframe(
                [{"Time": widgets.clock(e.wall_s), "What": f"{e.sign} {e.word}", "Text": e.text} for e in story],
                key="events",
                height=TABLE_HEIGHT,
                hide_index=True,
                alt="Events of the run, newest first",
                column_config={
                    "Time": st.column_config.TextColumn(width=75),
                    "What": st.column_config.TextColumn(width=130),
                },
            )
        with grid.cell(), st.container(border=True, gap="xsmall"):
            widgets.heading("Failures", "in groups, of the newest 500 messages that were not plainly acked")
            if groups:
                _failures(groups)
                return
            with st.container(height=TABLE_HEIGHT, border=False, vertical_alignment="center"):
                st.markdown(
                    ":material/check_circle: :gray[No message was rejected, left unknown or acked late.]",
                    text_alignment="center",
                )


def _failures(groups: Sequence[journal.FailureGroup]) -> None:
    st.dataframe(
        [
            {
                "Count": group.count,
                "Outcome": group.outcome,
                "Kind": group.kind,
                "Last": widgets.clock(group.last_wall_s),
                "Text": group.text,
                "Message id": group.sample_id,
            }
            for group in groups
        ],
        key="failures",
        height=TABLE_HEIGHT,
        hide_index=True,
        alt="Failed messages in groups, the largest first",
        column_config={
            "Count": st.column_config.NumberColumn(width=60),
            "Outcome": st.column_config.TextColumn(width=80),
            "Kind": st.column_config.TextColumn(width=100),
            "Last": st.column_config.TextColumn(width=75),
        },
    )
