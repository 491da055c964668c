"""The Latency page: its parts and words, its charts, and the page over a run source in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from dashboard import latency_charts, latency_parts
from dashboard.chart_frame import Span
from dashboard.latency_charts import HEAT_COLUMNS, HEAT_ROWS, LABEL_PX, PLOT_PX, Measure
from dashboard.latency_parts import LatencyParts, findings, parts_of, percentile_s, together, verdict
from dashboard.rates import Interval
from dashboard.style import NOTHING
from eventbus import LatencyHistogram
from eventbus.observe import FailureGroup, RunStatus, Sample
from tests.dashboard_fakes import START_S, MemorySource, StubControl, run_info, sample

pytest.importorskip("streamlit", reason="the dashboard's tests need: pip install -r requirements-dev.txt")

from streamlit.testing.v1 import AppTest

from dashboard.source import RunHistory
from dashboard.widgets import CHART_HEIGHT

MS = 1_000_000


def interval(second: int, acks_ns: Sequence[int], scheduled_ns: Sequence[int] | None = None, **more: Any) -> Interval:
    """The second that ends at ``second``."""
    values: dict[str, Any] = {
        "latency": LatencyHistogram.of(acks_ns),
        "scheduled": LatencyHistogram.of(acks_ns if scheduled_ns is None else scheduled_ns),
        "acked": len(acks_ns),
        "accepted": len(acks_ns),
    }
    return Interval(float(second - 1), float(second), START_S + second, **values | more)


# ---- parts and words --------------------------------------------------------------------------------------------


def test_warm_up_is_left_out() -> None:
    """Figures and table are of what is judged; of a run that only warmed up they are of that, and it is said."""
    warm, judged = interval(1, [900 * MS] * 10, warming_up=True), interval(2, [MS] * 10, retries=3)
    parts = parts_of([warm, judged])
    assert parts.ack.total == 10
    assert parts.ack.max_s == pytest.approx(0.001)
    assert (parts.retries, parts.span_s, parts.warming_up) == (3, 1.0, False)
    only = parts_of([warm])
    assert only.warming_up
    assert only.ack.total == 10
    assert parts_of([]) == LatencyParts()


def test_histograms_together_are_those_merged() -> None:
    """Adding all at once gives exactly what merging one after another does."""
    some = [LatencyHistogram.of([at, at * 1000, at * MS]) for at in range(1, 9)]
    merged = some[0]
    for other in some[1:]:
        merged = merged.merged(other)
    assert together(some) == merged


def test_time_before_the_send_is_the_difference_of_the_means() -> None:
    """Means add up: what is not between the last send and the ack was before it."""
    parts = parts_of([interval(1, [MS] * 100, [4 * MS] * 100)])
    assert parts.before_s == pytest.approx(0.003)
    assert parts.before_share == pytest.approx(0.75)
    assert parts_of([interval(1, [], [])]).before_s is None


def test_percentile_that_no_message_lies_above_is_left_out() -> None:
    """With 100 acks p99 has one above it; p99.9 would only be the maximum under another name."""
    histogram = LatencyHistogram.of([MS] * 100)
    assert percentile_s(histogram, 99) == pytest.approx(0.001, rel=0.01)
    assert percentile_s(histogram, 99.9) is None
    rows = {row.name: row for row in latency_parts.percentile_rows(parts_of([interval(1, [MS] * 100, [3 * MS] * 100)]))}
    assert rows["p99.9"].ack == rows["p99.9"].difference == NOTHING
    assert rows["max"].ack.replace("\N{NARROW NO-BREAK SPACE}", " ") == "1.00 ms"
    assert rows["mean"].difference.replace("\N{NARROW NO-BREAK SPACE}", " ") == "+2.00 ms"


@pytest.mark.parametrize(
    ("more", "closed", "words"),
    [
        ({"scheduled_ns": [MS] * 100}, False, "Most of the time is the broker's"),
        ({"scheduled_ns": [9 * MS] * 100, "stalled_s": 0.5}, False, "The window was full"),
        ({"scheduled_ns": [9 * MS] * 100, "retries": 9}, False, "Attempts were repeated"),
        ({"scheduled_ns": [9 * MS] * 100, "schedule_lag_max_s": 0.2}, False, "The load itself sent late"),
        ({"scheduled_ns": [9 * MS] * 100}, False, "a turn of the event loop"),
        ({"scheduled_ns": []}, True, "There is no schedule to be late for"),
    ],
)
def test_verdict_names_where_most_of_the_time_went(more: dict[str, Any], closed: bool, words: str) -> None:
    """By what can be seen: room that was waited for, repeated attempts, a load that was late itself."""
    assert words in verdict(parts_of([interval(1, [MS] * 100, **more)]), closed=closed)


def test_without_acks_there_is_no_latency() -> None:
    """Nothing is made up."""
    assert "no latency to tell of" in verdict(LatencyParts(), closed=False)
    told = findings(LatencyParts(), closed=False, max_pending=10, ack_timeout_s=1.0)
    assert [finding.weight for finding in told] == ["fine"] * 4
    assert "No ack came" in told[-1].text
    assert told[-1].figure == NOTHING


def test_findings_weigh_what_they_tell() -> None:
    """Each of the four parts says how much there was of it, in words with units."""
    row = interval(
        1, [MS] * 99 + [900 * MS], stalled_s=0.2, retries=20, ack_timeouts=5, late_acks=4, schedule_lag_max_s=0.2
    )
    told = {one.title: one for one in findings(parts_of([row]), closed=False, max_pending=50, ack_timeout_s=0.6)}
    assert {title: one.weight for title, one in told.items()} == {
        "Schedule": "large", "Window wait": "large", "Retries": "large", "Broker": "fine",
    }  # fmt: skip
    assert told["Window wait"].figure.replace("\N{NARROW NO-BREAK SPACE}", " ") == "200 ms, 20.0 % of the time"
    assert "50 pending messages" in told["Window wait"].text
    assert told["Retries"].figure.startswith("20, ")
    assert "4 messages were acked after they had been given up" in told["Retries"].text
    closed = findings(parts_of([row]), closed=True, max_pending=50, ack_timeout_s=0.6)[0]
    assert "closed model" in closed.text


# ---- charts -----------------------------------------------------------------------------------------------------


def test_both_latencies_share_an_axis() -> None:
    """Side by side they can only be compared on one scale: it holds the smallest and the largest of both."""
    rows = [interval(1, [2 * MS] * 100, [3_000 * MS] * 100)]
    assert latency_charts.axis_ms(rows) == (1.0, 10_000.0)
    assert latency_charts.axis_ms([]) == (0.1, 100.0)
    option = latency_charts.percentiles(rows, Span(START_S, START_S + 1), Measure.SCHEDULED, (1.0, 10_000.0))
    assert (option["yAxis"]["min"], option["yAxis"]["max"], option["yAxis"]["type"]) == (1.0, 10_000.0, "log")
    (row,) = option["dataset"]["source"]
    assert row[1:] == pytest.approx([3_000] * 4, rel=0.01)
    assert len({one["lineStyle"]["type"] + str(one["lineStyle"]["width"]) for one in option["series"][:4]}) == 4


def test_chart_of_no_acks_says_so() -> None:
    """An empty chart is a sentence, not an empty frame."""
    option = latency_charts.percentiles([], Span(0, 1), Measure.ACK, (1.0, 10.0), nothing="This run sends without acks")
    assert option["title"]["text"] == "This run sends without acks"
    assert latency_charts.heatmap([], Span(0, 1), Measure.ACK, str, "none")["title"]["text"] == "none"
    assert "Too few" in latency_charts.curve(LatencyHistogram(), LatencyHistogram())["title"]["text"]


def test_heatmap_is_bounded_and_loses_no_ack() -> None:
    """At most 300 by 40 cells, however long the run and however wide its latencies, and every ack is in one."""
    wide = [2**power for power in range(10, 36)]
    rows = [interval(second, wide) for second in range(1, HEAT_COLUMNS + 1)]
    option = latency_charts.heatmap(rows, Span(START_S, START_S + HEAT_COLUMNS), Measure.ACK, lambda s: f"{s:.0f}")
    data = option["series"][0]["data"]
    assert len(option["xAxis"]["data"]) == HEAT_COLUMNS
    assert len(option["yAxis"]["data"]) <= HEAT_ROWS
    assert sum(cell[3] for cell in data) == len(wide) * HEAT_COLUMNS
    assert {cell[0] for cell in data} == set(range(HEAT_COLUMNS))
    assert min(cell[1] for cell in data) == 0
    assert max(cell[1] for cell in data) == len(option["yAxis"]["data"]) - 1


def test_heatmap_cell_tells_when_how_long_and_how_many() -> None:
    """Time, the two ends of the row in milliseconds, and acks; where a column is longer than a second, how long."""
    option = latency_charts.heatmap([interval(1, [5 * MS] * 7)], Span(START_S, START_S + 1), Measure.ACK, str)
    ((column, row, depth, acks, low, high),) = option["series"][0]["data"]
    assert (column, row, acks) == (0, 0, 7)
    assert depth == pytest.approx(0.8)
    assert low <= 5 <= high
    assert high / low < 1.13
    assert option["tooltip"]["formatter"] == "{b}<br/><b>{@[4]} to {@[5]} ms</b><br/>{@[3]} acks"
    long = [replace(interval(end_s, [5 * MS]), start_s=end_s - 12.0) for end_s in (12, 24, 36)]
    told = latency_charts.heatmap(long, Span(START_S, START_S + 36), Measure.ACK, str)["tooltip"]["formatter"]
    assert told.replace("\N{NARROW NO-BREAK SPACE}", " ").startswith("{b}, 12 s<br/>")


@pytest.mark.parametrize("milliseconds", [[1.0] * 100, [0.1] * 100, [100.0] * 100, [1.0] * 98 + [1.1, 90.0]])
def test_names_of_percentiles_keep_apart(milliseconds: list[float]) -> None:
    """Lines that end close together would write their names over each other; none leaves the plot."""
    rows = [interval(1, [round(one * MS) for one in milliseconds]), interval(2, [])]
    option = latency_charts.percentiles(rows, Span(START_S, START_S + 2), Measure.ACK, (0.1, 100.0))
    ends = option["dataset"]["source"][0][1:]
    places = [
        PLOT_PX * (1 - (math.log10(end) + 1) / 3) + one["endLabel"]["offset"][1]
        for end, one in zip(ends, option["series"], strict=False)
    ]
    assert [one["endLabel"]["formatter"] for one in option["series"][:4]] == ["{a}"] * 4
    assert all(lower - upper >= LABEL_PX - 0.2 for lower, upper in pairwise(places))
    assert min(places) >= -0.2


def test_panel_has_the_height_that_names_are_placed_in() -> None:
    """Margins and height are set in two places."""
    option = latency_charts.percentiles([interval(1, [MS])], Span(START_S, START_S + 1), Measure.ACK, (0.1, 100.0))
    assert CHART_HEIGHT - option["grid"]["top"] - option["grid"]["bottom"] == PLOT_PX


def test_mean_is_one_bar_of_two_parts() -> None:
    """They add up to the mean from the schedule; a closed model has no such bar."""
    bar = latency_charts.split(parts_of([interval(1, [MS] * 100, scheduled_ns=[9 * MS] * 100)]))
    assert bar is not None
    assert [one["data"][0] for one in bar["series"]] == pytest.approx([0.008, 0.001])
    assert bar["xAxis"]["max"] == pytest.approx(0.009)
    assert "1.00" in bar["series"][1]["name"]
    assert latency_charts.split(parts_of([interval(1, [MS] * 100, scheduled_ns=[])])) is None


def test_curve_parts_where_messages_waited() -> None:
    """Both latencies over percentiles; a closed model has only one."""
    both = latency_charts.curve(LatencyHistogram.of([MS] * 1000), LatencyHistogram.of([9 * MS] * 1000))
    assert both["xAxis"]["data"][-1] == "p99.9"
    assert [one["name"] for one in both["series"]] == ["from the send", "from the schedule"]
    assert both["series"][1]["data"][-1] == pytest.approx(9, rel=0.01)
    assert len(latency_charts.curve(LatencyHistogram.of([MS] * 1000), LatencyHistogram())["series"]) == 1


# ---- the page ---------------------------------------------------------------------------------------------------


class LatencySource(MemorySource):
    """Its samples one by one as well."""

    def each_sample(self, run_id: str, since_wall_s: float | None = None, limit: int | None = None) -> Iterator[Sample]:
        yield from self.samples(run_id, since_wall_s, limit or len(self.kept))

    def failure_groups(self, run_id: str) -> Sequence[FailureGroup]:
        return []


def scheduled(one: Sample) -> Sample:
    """The same with a schedule: each message waited 9 ms before it was sent."""
    return replace(one, scheduled=LatencyHistogram.of([10 * MS] * one.snapshot.acked), schedule_lag_s=0.02)


def samples(seconds: int = 4, rate: float = 200.0) -> list[Sample]:
    return [scheduled(sample(quarter / 4, rate=rate)) for quarter in range(seconds * 4 + 1)]


def app(source, history, control):  # its source is copied: no name of this file is known there
    from dashboard.views import latency

    latency.page(source, history, control)


def shown(source: LatencySource) -> AppTest:
    at = AppTest.from_function(app, args=(source, RunHistory(source), StubControl()), default_timeout=30)
    return at.run()


def text_of(at: AppTest) -> str:
    return " ".join(one.value for one in at.markdown).replace("\\", "").replace("\N{NARROW NO-BREAK SPACE}", " ")


def metric(at: AppTest, label: str) -> str:
    value: str = next(one for one in at.metric if one.label == label).value
    return value.replace("\N{NARROW NO-BREAK SPACE}", " ")


def charts(at: AppTest) -> list[dict[str, Any]]:
    return [json.loads(one.proto.spec) for one in at.get("echarts_chart")]


def test_without_any_run_the_page_says_what_to_do() -> None:
    """An empty store is the normal first sight."""
    at = shown(LatencySource())
    assert not at.exception
    assert "Start" in at.info[0].value
    assert not at.metric
    assert not at.get("echarts_chart")


def test_running_load_shows_both_latencies_and_where_the_time_went() -> None:
    """Percentiles side by side, the heatmap, the curve, three courses; figures and words of the same time."""
    at = shown(LatencySource(run_info(), samples()))
    assert not at.exception
    assert metric(at, "Ack latency p99") == "1.00 ms"
    assert metric(at, "Scheduled p99") == "10.0 ms"
    assert metric(at, "Sent late") == "20.0 ms"
    assert "Most of the time passes before the send: of 10.0 ms on average, 9.00 ms (90.0 %)" in text_of(at)
    drawn = charts(at)
    assert len(drawn) == 8
    assert drawn[0]["yAxis"]["min"] == drawn[1]["yAxis"]["min"]
    assert drawn[0]["yAxis"]["max"] == drawn[1]["yAxis"]["max"]
    assert drawn[2]["series"][0]["type"] == "heatmap"
    table = at.table[0].value
    assert list(table["Percentile"]) == ["p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99", "max", "mean"]
    assert all("ms" in cell or cell == NOTHING for cell in table["From the schedule"])


def test_chosen_window_bounds_what_is_shown() -> None:
    """One minute of a longer run; figures and charts follow."""
    at = shown(LatencySource(run_info(), samples(90, rate=20.0)))
    assert len(charts(at)[0]["dataset"]["source"]) == 90
    at.segmented_control(key="latency_window").set_value("1m").run()
    assert not at.exception
    assert len(charts(at)[0]["dataset"]["source"]) == 60


def test_heatmap_can_show_the_latency_from_the_schedule() -> None:
    """The same cells, of the other latency."""
    at = shown(LatencySource(run_info(), samples()))
    before = charts(at)[2]["series"][0]["data"]
    at.segmented_control(key="heatmap_of").set_value(Measure.SCHEDULED).run()
    after = charts(at)[2]["series"][0]["data"]
    assert before[0][4] <= 1 <= before[0][5]
    assert after[0][4] <= 10 <= after[0][5]


def test_closed_model_has_no_schedule() -> None:
    """The chart of scheduled latency says why it is empty, and the words do not speak of lateness."""
    run = run_info(settings={"workers": 4, "ack_timeout_s": 5.0})
    source = LatencySource(run, [sample(quarter / 4) for quarter in range(17)])
    at = shown(source)
    assert not at.exception
    assert metric(at, "Scheduled p99") == NOTHING
    assert charts(at)[1]["title"]["text"] == "A closed model has no schedule"
    assert "There is no schedule to be late for" in text_of(at)


def test_run_without_acks_says_so() -> None:
    """Sent without acks, nothing can be measured, and that is not an empty page."""
    bare = [sample(quarter / 4, rate=0.0, unacknowledged=quarter * 10) for quarter in range(17)]
    at = shown(LatencySource(run_info(), bare))
    assert not at.exception
    assert charts(at)[0]["title"]["text"] == "This run sends without acks"
    assert "No message was acked in this time" in text_of(at)


def test_page_that_was_just_opened_has_its_figures_first() -> None:
    """Numbers before charts; the next pass has all of it."""
    source = LatencySource(run_info(), samples())
    at = AppTest.from_function(app, args=(source, RunHistory(source), StubControl()), default_timeout=30)
    at.session_state["passes"] = 0
    first, then = [(len(at.run().metric), len(charts(at))) for _ in range(2)]
    assert not at.exception
    assert first == (5, 0)
    assert then[0] == 5
    assert then[1] > 2


def test_interrupted_run_is_told() -> None:
    """What was measured until then is shown, with the reason why it ends there."""
    at = shown(LatencySource(run_info(RunStatus.INTERRUPTED), samples()))
    assert not at.exception
    assert "interrupted" in at.warning[0].value
    assert metric(at, "Ack latency p99") == "1.00 ms"


def test_run_without_a_whole_second_waits_or_says_so() -> None:
    """At its beginning the figures are about to come; after its end none will."""
    assert "within a second" in shown(LatencySource(run_info())).info[0].value
    assert "before its first second" in shown(LatencySource(run_info(RunStatus.FAILED, error="no"))).info[0].value


def test_unreadable_store_is_told_without_a_traceback() -> None:
    """What happened and what to do, and the page keeps trying."""
    at = shown(LatencySource(trouble="store /x/runs.db is locked by another program: close it"))
    assert not at.exception
    assert "locked by another program" in at.error[0].value.replace("\\", "")
