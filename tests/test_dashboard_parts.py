"""The pure parts of the dashboard: rates, chart options, the journal, number formats, and the history that is kept."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import charts, journal, levels, style
from dashboard.rates import FINE_S, MAX_COARSE, MAX_POINTS, Timeline, between, merge
from dashboard.source import RunHistory
from eventbus import BusEvent, ErrorKind, EventKind, LatencyHistogram
from eventbus.observe import AlertChange, RunStatus
from tests.dashboard_fakes import START_S, MemorySource, run_info, sample, steady

PENDING = charts.Threshold(5000, "alert > 5,000", style.UNKNOWN)
SPAN = charts.Span(START_S, START_S + 60)


def timeline(samples: Any) -> Timeline:
    made = Timeline()
    made.extend(samples)
    return made


def light(elapsed_s: float, **counts: Any) -> Any:
    """A sample without latencies, for long runs."""
    return sample(elapsed_s, rate=0.0, **counts)


def timed(elapsed_s: float, latencies_ns: list[int]) -> Any:
    """A sample of so many acks after those times."""
    made = light(elapsed_s, acked=len(latencies_ns), accepted=len(latencies_ns))
    return replace(made, snapshot=replace(made.snapshot, latency=LatencyHistogram.of(latencies_ns)))


# rates


def test_difference_of_samples_is_a_rate() -> None:
    """Counters only grow: a rate is their difference over the time between."""
    step = between(sample(2.0, rate=500), sample(4.0, rate=500))
    assert step.acked == 1000
    assert step.per_second(step.acked) == 500
    assert step.latency.total == 1000


def test_late_ack_does_not_lessen_what_became_unknown() -> None:
    """A late ack takes one from ``unknown``; the rate of newly unknown messages is not lowered by it."""
    before = light(1.0, accepted=10, acked=5, unknown=5)
    after = light(2.0, accepted=20, acked=14, unknown=6, late_acks=2)
    step = between(before, after)
    assert step.unknown == 3
    assert step.late_acks == 2
    assert step.error_ratio == pytest.approx(3 / 10)


def test_ratio_without_settled_messages_is_unknown() -> None:
    """Nothing settled: there is no ratio, rather than a good one."""
    assert between(light(1.0), light(2.0)).error_ratio is None


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9), st.integers(0, 900)), min_size=2, max_size=40))
def test_merged_intervals_equal_the_difference_of_the_ends(steps: list[tuple[int, int, int]]) -> None:
    """Whatever the resolution, counts add up to the difference of first and last sample, and the peak survives."""
    acked = rejected = 0
    samples = [light(0.0)]
    for place, (new_acks, new_rejects, pending) in enumerate(steps, 1):
        acked, rejected = acked + new_acks, rejected + new_rejects
        figures = {"acked": acked, "rejected": rejected, "pending": pending, "accepted": acked + rejected + pending}
        samples.append(light(place / 4, errors={"too_large": rejected}, **figures))
    parts = [between(a, b) for a, b in pairwise(samples)]
    whole, direct = merge(parts), between(samples[0], samples[-1])
    assert (whole.acked, whole.rejected, whole.accepted) == (direct.acked, direct.rejected, direct.accepted)
    assert sum(whole.errors.values()) == rejected
    assert whole.pending == samples[-1].snapshot.pending
    assert whole.pending_max == max(one.snapshot.pending for one in samples[1:])
    assert whole.span_s == direct.span_s


def test_seconds_are_whole_and_the_unfinished_one_waits() -> None:
    """Charts get whole seconds, so that the newest point does not jump; an ended run shows its last part too."""
    run = timeline(steady(3.5))
    assert [row.span_s for row in run.intervals(None)] == [1.0, 1.0, 1.0]
    assert [row.span_s for row in run.intervals(None, whole=True)] == [1.0, 1.0, 1.0, 0.5]


def test_window_takes_the_newest_part() -> None:
    """A window of two seconds has the last two; looking back in time has those before that moment."""
    run = timeline(steady(10))
    assert [row.end_s for row in run.intervals(2.0)] == [9.0, 10.0]
    assert [row.end_s for row in run.intervals(2.0, until_s=5.0)] == [4.0, 5.0]


def test_long_run_stays_small_and_loses_nothing() -> None:
    """Three hours: memory and points are bounded, the counts are exact, the newest quarter of an hour is fine."""
    run = Timeline()
    seconds = 3 * 3600
    for begin in range(0, seconds, 600):
        run.extend([light(second, acked=second, accepted=second) for second in range(begin, begin + 600)])
    rows = run.intervals(None)
    assert len(rows) <= MAX_POINTS
    assert sum(row.acked for row in rows) == seconds - 1
    assert len(run.intervals(300.0)) == 300
    assert len(run._seconds) <= FINE_S + MAX_COARSE + 1


def test_late_beginning_of_the_history_is_one_interval() -> None:
    """Where the first samples are not there any more, the run up to the first one counts as one interval."""
    run = timeline([light(100.0, acked=5000), light(101.0, acked=5100)])
    assert [(row.start_s, row.end_s, row.acked) for row in run.intervals(None)] == [
        (0.0, 100.0, 5000),
        (100.0, 101.0, 100),
    ]
    total = run.total()
    assert total is not None
    assert total.acked == 5100


def test_samples_seen_before_are_left_out() -> None:
    """Reading a sample twice counts it once."""
    run = timeline(steady(3))
    run.extend(steady(3))
    assert sum(row.acked for row in run.intervals(None)) == 3000


def test_history_forgets_runs_not_looked_at() -> None:
    """Only the newest few runs are kept in memory; one that comes back is read anew."""
    source = MemorySource(run_info(), steady(2))
    history = RunHistory(source)
    for name in ("a", "b", "c", "d", "e"):
        history.view(name, None, recent_s=5, over=False)
    history.view("e", None, recent_s=5, over=False)
    assert source.asked[-1][0] == START_S + 2
    history.view("a", None, recent_s=5, over=False)
    assert source.asked[-1][0] is None


def test_scheduled_latency_and_lags_merge_exactly() -> None:
    """Histograms from the scheduled time add up, and the peaks of lags survive, at any resolution."""

    def lagging(elapsed_s: float, lag_s: float, latencies: int) -> Any:
        scheduled = LatencyHistogram.of([2_000_000] * latencies)
        return replace(light(elapsed_s), schedule_lag_s=lag_s, loop_lag_s=lag_s / 2, scheduled=scheduled)

    samples = [lagging(0.0, 0.0, 0), lagging(0.5, 0.4, 10), lagging(1.0, 0.1, 30), lagging(2.0, 0.0, 31)]
    whole = merge([between(a, b) for a, b in pairwise(samples)])
    assert whole.scheduled == LatencyHistogram.of([2_000_000] * 31)
    assert (whole.schedule_lag_max_s, whole.loop_lag_max_s) == (0.4, 0.2)
    assert whole.scheduled_percentile_s(99) == pytest.approx(0.002)
    assert whole.percentile_s(99) is None


def test_merged_intervals_are_used_again_only_while_nothing_joins_them() -> None:
    """A run that is looked at as it grows shows what one shows that is looked at once, at the end."""
    seen, fresh = Timeline(), Timeline()
    samples = [light(second, acked=second, accepted=second) for second in range(2000)]
    for begin in range(0, 2000, 37):
        seen.extend(samples[begin : begin + 37])
        seen.intervals(None, whole=True)
        seen.intervals(900.0)
    fresh.extend(samples)
    assert [(i.start_s, i.end_s, i.acked) for i in seen.intervals(900.0)] == [
        (i.start_s, i.end_s, i.acked) for i in fresh.intervals(900.0)
    ]
    assert sum(i.acked for i in seen.intervals(None)) == 1999


def test_long_run_opens_with_its_end_and_is_read_in_the_background() -> None:
    """The newest samples and a coarse picture of all are there at once; peaks follow, and no sample counts twice."""
    samples = [light(quarter / 4, acked=quarter * 250, accepted=quarter * 250) for quarter in range(441)]
    source = MemorySource(run_info(), samples[:401])
    history = RunHistory(source, first_read=40)
    first = history.view("run-1", None, recent_s=5, over=False)
    assert first.total is not None
    assert first.total.acked == 100_000
    assert sum(interval.acked for interval in first.intervals) == 100_000
    assert first.intervals[-1].span_s == 1.0
    assert first.complete or 19 <= len(first.intervals) <= 20  # ten seconds each, but for the newest ten
    assert history.wait_complete("run-1", 10.0)
    source.kept = samples
    whole = history.view("run-1", None, recent_s=5, over=False)
    assert whole.complete
    assert [i.acked for i in whole.intervals] == [1000] * 110


# charts


def all_charts(rows: Any) -> list[charts.Option]:
    marks = [charts.Mark(START_S + 1, "Rate"), charts.Mark(START_S - 100, "long ago")]
    return [
        charts.outcomes(rows, SPAN, marks),
        charts.errors(rows, SPAN, marks),
        charts.latency(rows, SPAN, marks),
        charts.pending(rows, SPAN, [PENDING], marks),
        charts.oldest(rows, SPAN, 5.0, marks),
        charts.repairs(rows, SPAN, marks),
        charts.failures(rows, SPAN, marks),
        charts.stalled(rows, SPAN, marks),
        charts.traffic(rows, SPAN, marks),
        charts.scheduled(rows, SPAN, marks),
        charts.lags(rows, SPAN, marks),
    ]


@pytest.mark.parametrize("rows", [[], timeline(steady(5)).intervals(None)], ids=["empty", "steady"])
def test_options_are_plain_json_with_their_data_in_the_dataset(rows: Any) -> None:
    """Every option goes to the browser as JSON, does not animate, and every series names a column of the dataset."""
    for option in all_charts(rows):
        json.dumps(option, allow_nan=False)
        assert option["animation"] is False
        columns = option["dataset"]["dimensions"]
        assert all(len(row) == len(columns) for row in option["dataset"]["source"])
        assert all(one["encode"]["y"] in columns for one in option["series"][:-1])


def test_marks_are_drawn_on_every_chart_within_the_window() -> None:
    """What happened stands as an upright line on all charts; what lies outside of the window does not."""
    for option in all_charts(timeline(steady(5)).intervals(None)):
        upright = [line["xAxis"] for line in option["series"][-1]["markLine"]["data"] if "xAxis" in line]
        assert upright == [round((START_S + 1) * 1000)]


def test_each_outcome_has_its_colour_and_only_what_occurred_is_shown() -> None:
    """One outcome, one colour, everywhere; outcomes that did not occur take no place in the legend."""
    rows = timeline([*steady(3), sample(4, rejected=100, duplicates=50, accepted=4100)]).intervals(None)
    series = {one["name"]: one["color"] for one in charts.outcomes(rows, SPAN)["series"][:-1]}
    assert series == {
        "acked": style.ACKED,
        "duplicate": style.DUPLICATE,
        "rejected": style.REJECTED,
        "offered": style.OFFERED,
    }


def test_stack_adds_up_to_what_was_settled() -> None:
    """Plain acks, duplicates and late acks are apart in the stack and together are all acks."""
    rows = timeline([light(0.0), light(1.0, acked=100, duplicates=20, late_acks=5, accepted=100)]).intervals(None)
    (point,) = charts.outcomes(rows, SPAN)["dataset"]["source"]
    assert point[1:4] == [75.0, 20.0, 5.0]


def test_latency_axis_is_logarithmic_in_whole_decades() -> None:
    """Percentiles lie on a log axis that begins and ends at powers of ten, in milliseconds."""
    option = charts.latency(timeline(steady(3)).intervals(None), SPAN)
    assert option["yAxis"]["type"] == "log"
    assert option["yAxis"]["min"] <= option["dataset"]["source"][0][1] <= option["yAxis"]["max"]
    assert [one["lineStyle"]["type"] for one in option["series"][:3]] == ["dotted", "dashed", "solid"]


def test_pending_chart_draws_limit_and_alert() -> None:
    """The window's limit and the alert's threshold are lines of the chart, and inside its axis."""
    option = charts.pending(timeline(steady(3)).intervals(None), SPAN, [PENDING])
    levels = [line["yAxis"] for line in option["series"][-1]["markLine"]["data"]]
    assert levels == [5000, 10_000]
    assert option["yAxis"]["max"] > 10_000


def test_chart_of_nothing_says_so() -> None:
    """No errors is a good thing and is said in words, not left as an empty box."""
    assert charts.errors(timeline(steady(3)).intervals(None), SPAN)["title"]["text"] == "No errors in this window"


def test_time_axis_grows_in_steps_and_then_moves() -> None:
    """A young run is given room, so that the axis holds still; once the window is full it moves; at the end it fits."""
    rows = timeline(steady(40)).intervals(None)
    assert charts.span_of(rows, 60.0, growing=True) == charts.Span(START_S, START_S + 60)
    assert charts.span_of(rows, 60.0, growing=False) == charts.Span(START_S, START_S + 40)
    assert charts.span_of(rows[-30:], 30.0, growing=True) == charts.Span(START_S + 10, START_S + 40)


def test_heatmap_has_every_ack_in_its_place() -> None:
    """A column per part of the window and a row per latency, with the number of acks, coloured by its logarithm."""
    option = charts.heatmap(timeline(steady(5)).intervals(None), SPAN, style.clock)
    json.dumps(option, allow_nan=False)
    (series,) = option["series"]
    assert {row for _, row, _, _ in series["data"]} == {0}
    assert sum(number for *_, number in series["data"]) == 5000
    assert all(level == pytest.approx(math.log10(number + 1), abs=0.05) for _, _, level, number in series["data"])
    assert charts.heatmap([], SPAN, style.clock)["title"]["text"] == "No acks in this window"


def test_tooltip_of_the_heatmap_says_range_time_and_number() -> None:
    """A series is a range of latencies by its name; its cells are named by the time axis, and tell their number."""
    rows = timeline([light(0.0), timed(1, [1_000_000] * 5000 + [40_000_000] * 7)])
    option = charts.heatmap(rows.intervals(None), SPAN, style.clock)
    assert option["tooltip"]["valueFormatter"] == "%,.0f acks"
    assert [
        (one["name"].replace("\N{NARROW NO-BREAK SPACE}", " "), one["encode"]["tooltip"]) for one in option["series"]
    ] == [
        ("1.00 ms to 1.78 ms", 3),
        ("31.6 ms to 56.2 ms", 3),
    ]
    assert [cell[-1] for cell in option["series"][1]["data"]] == [7]
    assert len(option["yAxis"]["data"]) == 7


def test_cell_of_the_heatmap_has_its_share_of_a_longer_interval() -> None:
    """Where intervals are longer than columns, a cell has as many acks as there were in its own time."""
    rows = timeline([light(0.0), replace(sample(10), elapsed_s=10.0)]).intervals(None)
    ((_, _, _, number),) = charts.heatmap(rows, charts.Span(START_S, START_S + 40), style.clock)["series"][0]["data"]
    assert number == 1000


def test_names_of_percentiles_stay_readable_where_lines_meet() -> None:
    """At the ends of lines on the same height the names stand apart, in their order, and none above the chart."""
    for latencies in ([1_000_000] * 100, [1_000_000] * 98 + [99_000_000] * 2, [100_000_000] * 100):
        option = charts.latency(timeline([light(0.0), timed(1, latencies)]).intervals(None), SPAN)
        low, high = option["yAxis"]["min"], option["yAxis"]["max"]
        (point,) = option["dataset"]["source"]
        shown = [
            charts.PLOT_HEIGHT * math.log(end / low) / math.log(high / low) - one["endLabel"]["offset"][1]
            for end, one in zip(point[1:], option["series"][:4], strict=True)
        ]
        assert all(above - below > charts.NAME_HEIGHT - 1.5 for below, above in pairwise(shown))
        assert -1 < shown[0] < shown[-1] < charts.PLOT_HEIGHT + 1


def test_store_delay_is_drawn_where_it_was_told() -> None:
    """The peak survives merging; runs that were kept before it was measured have no line of it."""
    told = [replace(light(second / 4), store_delay_s=0.2 if second == 2 else 0.01) for second in range(9)]
    option = charts.lags(timeline(told).intervals(None), SPAN)
    assert [one["name"] for one in option["series"][:-1]] == ["schedule", "event loop", "store"]
    assert [row[3] for row in option["dataset"]["source"]] == [200.0, 10.0]
    assert len(charts.lags(timeline(steady(3)).intervals(None), SPAN)["series"]) == 3


def test_levels_are_those_of_the_rules_and_of_the_verdict() -> None:
    """Default rules follow the run's window and ack timeout; rules of its own take their place."""
    plain = run_info(settings={"max_pending": 1000, "ack_timeout_s": 2.0, "thresholds": ["max(pending) < 100"]})
    last = sample(1.0, max_pending=1000)
    assert [line.value for line in levels.lines(levels.levels_of(plain), "pending", last)] == [5000, 900, 100]
    assert [line.value for line in levels.lines(levels.levels_of(plain), "oldest_pending_age", last)] == [1.0]
    own = run_info(settings={"rules": [{"name": "many", "when": "pending > 7"}]})
    assert [line.text for line in levels.lines(levels.levels_of(own), "pending", last)] == ["alert > 7"]
    assert levels.levels_of(run_info(settings={"rules": [{"name": "x", "when": "no such thing"}]})) == ()


# journal


def test_journal_tells_all_that_happened_newest_first() -> None:
    """Start, events, edits of the rate, alerts and the end are one list."""
    run = run_info(RunStatus.STOPPED)
    told = journal.entries(
        run,
        [
            BusEvent(START_S + 1, EventKind.DISCONNECTED, "lost"),
            BusEvent(START_S + 5, EventKind.RATE_CHANGED, "50 messages/s from now on"),
        ],
        [
            AlertChange(START_S + 2, "pending", True, 6000, 5000, "too many"),
            AlertChange(START_S + 3, "pending", False, 1, 5000),
        ],
    )
    words = ["Stopped", "Rate changed", "Alert over", "Warning", "Disconnected", "Start"]
    assert [entry.word for entry in told] == words


def test_alert_fires_until_its_rule_says_otherwise() -> None:
    """Each rule counts by its last change."""
    changes = [
        AlertChange(1.0, "pending", True, 6000, 5000),
        AlertChange(2.0, "error_ratio", True, 0.5, 0.01),
        AlertChange(3.0, "pending", False, 10, 5000),
    ]
    assert [alert.rule for alert in journal.firing(changes)] == ["error_ratio"]
    worse = replace(changes[1], rule="no_acks", severity="critical", wall_s=9.0)
    again = replace(worse, wall_s=12.0, state="recovering")
    told = journal.firing([*changes, worse, again])
    assert [(alert.rule, alert.wall_s) for alert in told] == [("no_acks", 9.0), ("error_ratio", 2.0)]
    assert journal.headline(changes[1]) == "Error ratio"
    assert journal.headline(replace(changes[1], text="Too many failed")) == "Too many failed"


# style


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0 ms"),
        (0.00085, "850 µs"),
        (0.0125, "12.5 ms"),
        (0.99996, "1.00 s"),
        (3.2, "3.20 s"),
        (125.0, "2 min 5 s"),
    ],
)
def test_duration_has_the_unit_that_suits_it(seconds: float | None, text: str) -> None:
    """Three figures and a unit, always."""
    assert style.duration(seconds).replace(style.THIN_SPACE, " ") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-0.2, "just now"),
        (0.9, "just now"),
        (1.9, "1 s ago"),
        (59.9, "59 s ago"),
        (125, "2 min ago"),
        (7300, "2 h ago"),
    ],
)
def test_what_is_past_is_told_in_whole_units(seconds: float, text: str) -> None:
    """A clock that differs a little from the worker's makes nothing happen in the future."""
    assert style.ago(seconds).replace(style.THIN_SPACE, " ") == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0 %"),
        (0.00001, "< 0.01 %"),
        (0.0042, "0.42 %"),
        (0.99999, "100 %"),
        (0.5, "50.0 %"),
    ],
)
def test_small_ratio_is_never_rounded_to_nothing(ratio: float | None, text: str) -> None:
    """One failure of a million must not read 0 %."""
    assert style.percent(ratio).replace(style.THIN_SPACE, " ") == text


def test_what_is_left_of_errors_after_late_acks() -> None:
    """At the end of a run a message that was acked late is no error; while it goes on it was one."""
    whole = between(None, light(9.0, accepted=100, acked=98, unknown=1, rejected=1, late_acks=4))
    assert whole.error_ratio == pytest.approx(6 / 100)
    assert whole.left_error_ratio == pytest.approx(2 / 100)
    assert between(light(1.0), light(2.0)).left_error_ratio is None


def test_each_kind_of_error_has_a_colour_of_its_own() -> None:
    """Whatever a broker answers, its band in the chart is told from the others."""
    colours = [style.ERROR_KIND_COLOURS[kind] for kind in ErrorKind if kind is not ErrorKind.UNACKNOWLEDGED]
    assert len(set(colours)) == len(colours)


def test_words_of_one_broker_are_not_told_of_the_other() -> None:
    """A missing topic of Kafka is not called a stream, nor is one that was made."""
    assert style.words("no_stream") == "no stream or topic"
    assert style.words("stream_created") == "created"
    assert style.words("ack_timeout") == "ack timeout"
