"""The figures, charts and tables of the Live page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from dashboard import charts, journal, levels, style, widgets
from dashboard.charts import Mark, Option
from dashboard.source import RunView
from eventbus.alerts import Verdict
from eventbus.alerts.rule import ERROR_RATIO_LIMIT, PENDING_LIMIT
from eventbus.observe.run import FailureGroup, RunInfo

TABLE_HEIGHT = 184
OUTCOMES = {"rejected": "✗ rejected", "unknown": "? unknown", "acked late": "◔ acked late"}


def ack_timeout_s(run: RunInfo) -> float:
    """The run's ack timeout in seconds."""
    return float(run.settings.get("ack_timeout_s", 5.0))


def figures(run: RunInfo, view: RunView, *, courses: bool = True) -> None:
    """Six figures with their courses: of the newest seconds while the run goes on, of all of it afterwards.

    courses: False leaves their place empty, so that the numbers are there sooner.
    """
    over = run.status.is_over
    figure = view.total if over else (view.recent or view.total)
    if figure is None or view.total is None:
        st.info("The run has begun; the first figures come within a second.", icon=":material/hourglass_top:")
        return
    rows = view.intervals if courses else ()
    ratio = figure.left_error_ratio if over else figure.error_ratio
    oldest_s = figure.oldest_pending_age_max_s
    if over:
        oldest_s = max((row.oldest_pending_age_max_s for row in view.intervals), default=oldest_s)
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
            style.duration(figure.percentile_s(99)),
            f"scheduled {style.duration(figure.scheduled_percentile_s(99))}"
            if figure.scheduled.total
            else f"p50 {style.duration(figure.percentile_s(50))}",
            [(row.percentile_s(99) or 0.0) * 1e3 for row in rows],
            colour="blue",
            icon="timer",
            explain="From an attempt's send to its ack: 99 of 100 acks came faster. Below it the same from the time "
            f"that the schedule had for a message. p50 {style.duration(figure.percentile_s(50))}, "
            f"p99.9 {style.duration(figure.percentile_s(99.9))}.",
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
            "Stalled",
            style.percent(figure.stalled_share),
            f"{style.count(timeouts)} timeouts" if timeouts else f"{style.count(view.total.retries)} retries",
            [row.stalled_share * 100 for row in rows],
            colour="red" if timeouts else "gray",
            icon="alarm" if timeouts else "traffic",
            explain="Share of the time in which a publisher waited for room in the window. Below it the attempts whose "
            "ack did not come in time, or those that were repeated, in the whole run.",
        )


def verdict(run: RunInfo) -> None:
    """What became of each threshold of a run that is over: a tick or a cross, the value, and what it had to be."""
    if run.verdict is None:
        return
    judged = Verdict.from_dict(run.verdict)
    with st.container(border=True, gap="xxsmall"):
        whole = ("green", "verified", "passed") if judged.passed else ("red", "gpp_bad", "not passed")
        st.markdown(f"**Thresholds** &nbsp; {widgets.badge(*whole)}")
        for row in judged.rows:
            colour, icon, word = (
                ("green", "check_circle", "holds")
                if row.passed
                else ("red", "cancel", "does not hold")
                if row.passed is False
                else ("gray", "help", "nothing to judge")
            )
            badge = widgets.badge(colour, icon, word)
            st.markdown(f"{badge} `{row.text}` &nbsp; was **{widgets.plain(row.value_text)}**")


def panels(
    run: RunInfo,
    view: RunView,
    window_s: float | None,
    marks: Sequence[Mark],
    *,
    dropped_spans: int | None = None,
    most: int | None = None,
) -> None:
    """The charts over time, symptoms before causes, with events as upright lines and thresholds as level ones.

    dropped_spans: None where spans go nowhere. most: only so many of the charts, the first; None for all.
    """
    rows, sample = view.intervals, view.sample
    span = charts.span_of(rows, window_s, growing=not run.status.is_over)
    known = levels.levels_of(run)

    def lines(metric: str, limited: bool = False) -> list[charts.Threshold]:
        return levels.lines(known, metric, sample, limited=limited)

    spans = "" if dropped_spans is None else f", {style.count(dropped_spans)} spans dropped"
    drawn: list[tuple[str, str, Callable[[], Option], str, str]] = [
        ("Outcomes", "messages/s, stacked", lambda: charts.outcomes(rows, span, marks), "outcomes",
         "Outcomes of messages per second, stacked, with the offered rate"),
        ("Failed attempts", "per second, by kind", lambda: charts.errors(rows, span, marks), "errors",
         "Failed attempts per second by kind of error"),
        ("Ack latency", "log scale", lambda: charts.latency(rows, span, marks, lines("ack_latency")), "latency",
         "Ack latency percentiles 50, 95, 99 and 99.9 in milliseconds"),
        ("Pending", "messages, peak", lambda: charts.pending(rows, span, lines("pending", limited=True), marks),
         "pending", "Pending messages against the window's limit and the alert threshold"),
        ("Oldest pending", "age, peak",
         lambda: charts.oldest(
             rows, span, ack_timeout_s(run), marks, lines("oldest_pending_age", limited=True)
         ),
         "oldest", "Age of the oldest pending message against the ack timeout"),
        ("Stalled", "share of time", lambda: charts.stalled(rows, span, marks, lines("stalled_time")), "stalled",
         "Share of the time in which a publisher waited for room"),
        ("Not acked", "messages/s", lambda: charts.failures(rows, span, marks), "not_acked",
         "Rejected and unknown messages per second"),
        ("Repairs", "per second", lambda: charts.repairs(rows, span, marks), "repairs",
         "Retries, ack timeouts, duplicates and late acks per second"),
        ("Offered, sent, acked", "messages/s", lambda: charts.traffic(rows, span, marks), "traffic",
         "Offered, sent and acked messages per second"),
        ("p99, scheduled and sent", "log scale", lambda: charts.scheduled(rows, span, marks), "scheduled",
         "Latency percentile 99 from the scheduled time and from the send, in milliseconds"),
        ("Ack latency", "heatmap, acks", lambda: charts.heatmap(rows, span, widgets.clock), "heatmap",
         "How many acks had which latency over time"),
        ("Lag of the load", f"peak{spans}", lambda: charts.lags(rows, span, marks), "lags",
         "How late messages were sent, timers came and samples were stored, in milliseconds"),
    ]  # fmt: skip
    with st.grid(3, min_column_width=320):
        for title, unit, option, key, alt in drawn[:most]:
            widgets.panel(title, unit, option(), key=key, alt=alt)
        if not view.complete:
            st.caption(":material/hourglass_top: Peaks further back are still being read.")


def tables(story: Sequence[journal.Entry], groups: Sequence[FailureGroup]) -> None:
    """Which messages failed, and what happened."""
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
            widgets.heading("Failures", "in groups, counted exactly")
            if groups:
                _failures(groups)
                return
            with st.container(height=TABLE_HEIGHT, border=False, vertical_alignment="center"):
                st.markdown(
                    ":material/check_circle: :gray[No message was rejected, left unknown or acked late.]",
                    text_alignment="center",
                )


def _failures(groups: Sequence[FailureGroup]) -> None:
    all_of_them = sum(group.count for group in groups)
    st.dataframe(
        [
            {
                "Count": group.count,
                "Share": group.count / all_of_them,
                "Outcome": OUTCOMES.get(group.outcome, group.outcome),
                "Kind": style.words(group.kind or "none"),
                "Topic": group.topic,
                "First": widgets.clock(group.first_wall_s),
                "Last": widgets.clock(group.last_wall_s),
                "Text": group.text,
                "Message id": group.message_id,
                "Trace id": group.trace_id or "",
            }
            for group in groups
        ],
        key="failures",
        height=TABLE_HEIGHT,
        hide_index=True,
        alt="Failed messages in groups, the largest first",
        column_config={
            "Count": st.column_config.NumberColumn(width=70, format="localized"),
            "Share": st.column_config.NumberColumn(width=60, format="percent"),
            "Outcome": st.column_config.TextColumn(width=95),
            "Kind": st.column_config.TextColumn(width=100),
            "First": st.column_config.TextColumn(width=75),
            "Last": st.column_config.TextColumn(width=75),
        },
    )
