"""``eventbus.runs``: kept runs are found, looked into, compared and handed on; what is missing for that is named."""

from __future__ import annotations

import builtins
import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

from eventbus import runs
from eventbus.errors import ConfigError
from eventbus.latency import LatencyHistogram
from eventbus.load.plan import LoadPlan
from eventbus.observe import RunEditor, Sample, StoreReader
from eventbus.viz import figures
from eventbus.viz.steps import step_for, steps
from eventbus.viz.summary import FIGURES, Change, Unit, change, summarize
from eventbus.viz.words import TIMES, duration_text, percent_text, relative_text, verdict_text
from tests.stored_runs import START_S, Stored, course, keep


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return keep(tmp_path_factory.mktemp("runs") / "runs.db")


def test_runs_are_listed_newest_first(stored: Stored) -> None:
    """The list is a sequence of runs, a table in a notebook, and a frame."""
    found = runs.list(stored.path)
    assert [run.run_id for run in found] == [stored.bad, stored.good]
    bundle = found._repr_mimebundle_()
    assert stored.good in bundle["text/plain"]
    assert "before the upgrade (baseline)" in bundle["text/html"]
    frame = found.to_frame()
    assert frame["passed"].tolist() == [False, True]
    assert str(frame["started"].dtype).endswith("UTC]")


def test_store_without_runs(tmp_path: Path) -> None:
    """No store is an empty list; whoever asks for a run is told where was looked."""
    assert runs.list(tmp_path / "none.db") == ()
    assert runs.list(tmp_path / "none.db")._repr_mimebundle_()["text/plain"] == "no runs"
    with pytest.raises(ConfigError, match=r"no runs are kept in .*none\.db"):
        runs.open("last", tmp_path / "none.db")


@pytest.mark.parametrize("name", ["good", "bad"])
def test_run_is_found_by_what_people_call_it(stored: Stored, name: str) -> None:
    """By its id, by a beginning of it that no other has, as the last, as the baseline, by its name."""
    run_id: str = getattr(stored, name)
    words = {"good": ("baseline", "before the upgrade"), "bad": ("last",)}[name]
    for word in (run_id, run_id[:-2], *words):
        assert runs.open(word, stored.path).run_id == run_id


@pytest.mark.parametrize(("word", "text"), [("2023", "2 runs begin with"), ("x", "has no run 'x'"), ("", "has no run")])
def test_run_that_is_not_found(stored: Stored, word: str, text: str) -> None:
    """A word that means none, or several, is refused with what could be given."""
    with pytest.raises(ConfigError, match=text):
        runs.open(word, stored.path)


def test_run_that_is_no_more(tmp_path: Path) -> None:
    """A run that was deleted since cannot be looked at again, and that is said."""
    stored = keep(tmp_path / "runs.db")
    run = runs.open(stored.bad, stored.path)
    assert run.refreshed().info == run.info
    RunEditor(stored.path).delete(stored.bad)
    with pytest.raises(ConfigError, match=f"has no run '{stored.bad}' any more"):
        run.refreshed()


def test_no_baseline(tmp_path: Path) -> None:
    """Where nothing is pinned, the refusal says how to pin."""
    kept = keep(tmp_path / "runs.db")
    RunEditor(kept.path).pin(kept.good, False)
    with pytest.raises(ConfigError, match="runs pin RUN"):
        runs.open("baseline", kept.path)


def test_run_has_all_that_was_kept(stored: Stored) -> None:
    """Samples, events, failures, alerts, verdict and latency are those of the store."""
    run, reader = runs.open(stored.bad, stored.path), StoreReader(stored.path)
    assert run.info == reader.run(stored.bad)
    assert run.samples == reader.samples(stored.bad)
    assert [event.text for event in run.events] == [event.text for event in reader.events(stored.bad)]
    assert list(run.failed) == reader.failed(stored.bad)
    assert list(run.failure_groups) == reader.failure_groups(stored.bad)
    assert [change.rule for change in run.alerts] == ["broker_disconnected", "broker_disconnected"]
    assert run.verdict is not None
    assert run.verdict["passed"] is False
    assert run.latency.total == run.summary.counts["acked"]
    assert run.refreshed().info == run.info


def test_summary_leaves_the_warm_up_out() -> None:
    """Counts, peaks and histograms begin with the end of the warm-up; without one, with the run."""
    samples = course(seconds=20, warm_up_s=5.0)
    summary, whole = summarize(samples), summarize([replace(sample, warming_up=False) for sample in samples])
    before = max((sample for sample in samples if sample.warming_up), key=lambda sample: sample.elapsed_s)
    assert summary.warm_up_s == before.elapsed_s
    assert summary.duration_s == samples[-1].elapsed_s - before.elapsed_s
    for name in ("accepted", "acked", "retries"):
        assert summary.counts[name] == whole.counts[name] - getattr(before.snapshot, name)
    assert summary.ack.total == whole.ack.total - before.snapshot.latency.total
    assert summary.scheduled.total == whole.scheduled.total - before.scheduled.total
    assert summarize([]).duration_s == 0.0
    assert all(figure.value(summarize([])) in (None, 0) for figure in FIGURES)


@pytest.mark.parametrize("step_s", [0.25, 1.0, 2.0, 7.0, 1000.0])
def test_steps_add_up_to_the_run(step_s: float) -> None:
    """However a run is cut, its steps' counts and histograms are those of the whole, and no peak is lost."""
    samples = course(seconds=20, outage=True)
    cut = list(steps(samples, step_s))
    last = samples[-1].snapshot
    assert sum(step.counts["acked"] for step in cut) == last.acked
    assert sum(step.counts["unknown"] for step in cut) == last.unknown + last.late_acks
    assert sum(step.offered for step in cut) == samples[-1].offered
    assert sum(step.ack.total for step in cut) == last.latency.total
    assert sum(step.scheduled.total for step in cut) == samples[-1].scheduled.total
    assert max(step.pending_max for step in cut) == max(sample.snapshot.pending for sample in samples)
    assert max(step.loop_lag_max_s for step in cut) == max(sample.loop_lag_s for sample in samples)
    assert [step.start_s for step in cut[1:]] == [step.end_s for step in cut[:-1]]


@pytest.mark.parametrize(
    ("duration_s", "step_s"), [(0, 0.25), (15, 0.25), (60, 1), (601, 2), (86_400, 300), (1e9, 86_400)]
)
def test_step_is_round(duration_s: float, step_s: float) -> None:
    """A run gets at most 600 steps of a round length; a short one quarters of a second."""
    assert step_for(duration_s) == step_s


@pytest.mark.parametrize("what", runs.FRAMES)
def test_frames_are_tidy(stored: Stored, what: str) -> None:
    """Times are UTC, words are categories, and an empty frame has the columns of a full one."""
    full = runs.open(stored.bad, stored.path).to_frame(what)
    empty = runs.open(stored.empty_store_run, stored.empty_store).to_frame(what)
    assert list(full.columns) == list(empty.columns)
    assert (len(full) > 0, len(empty)) == (True, 0)
    for column in ("time", "first", "last"):
        if column in full:
            assert isinstance(full[column].dtype, pd.DatetimeTZDtype)
            assert str(full[column].dt.tz) == "UTC"
    for column in ("outcome", "kind", "connection", "severity"):
        if column in full:
            assert isinstance(full[column].dtype, pd.CategoricalDtype)


def test_series_has_units_in_its_names(stored: Stored) -> None:
    """Seconds end in _s, rates in _per_s; one row a step."""
    frame = runs.open(stored.bad, stored.path).to_frame(step_s=5.0)
    assert len(frame) == 8
    assert {"elapsed_s", "acked_per_s", "ack_latency_p999_s", "pending_bytes", "failed_ratio"} <= set(frame.columns)
    outcomes = runs.open(stored.bad, stored.path).to_frame("outcomes", step_s=5.0)
    assert outcomes["outcome"].cat.categories.tolist()[0] == "acked"
    by_outcome = outcomes.groupby("outcome", observed=False)["messages"].sum()
    assert by_outcome["unknown"] == frame["unknown"].sum()


def test_comparison_judges_by_the_first(stored: Stored) -> None:
    """Each figure is set beside the first run's: better, worse, the same, or merely different."""
    compared = runs.compare(["baseline", "last"], stored.path)
    frame = compared.to_frame()
    assert set(frame["run"]) == {stored.good, stored.bad}
    assert "ack_latency_p99_s" in compared.worse
    assert "offered" not in compared.worse
    assert runs.compare(["baseline", "baseline"], stored.path).worse == []
    assert "▼ worse" in compared._repr_mimebundle_()["text/plain"]
    series = compared.series_frame(5.0)
    assert series.groupby("run")["elapsed_s"].min().nunique() == 1
    for name in ("acked", "p99", "pending", "failed", "percentiles"):
        assert len(compared.figure(name).data) == 2


@pytest.mark.parametrize("ids", [[], ["last"], ["last"] * 5])
def test_comparison_is_of_two_to_four(stored: Stored, ids: list[str]) -> None:
    """One run cannot be compared, and more than four not be told apart."""
    with pytest.raises(ConfigError, match="two to four"):
        runs.compare(ids, stored.path)


@pytest.mark.parametrize(
    ("name", "before", "after", "found"),
    [
        ("ack_latency_p99_s", 1.0, 1.04, Change.SAME),
        ("ack_latency_p99_s", 1.0, 1.2, Change.WORSE),
        ("ack_latency_p99_s", 1.0, 0.5, Change.BETTER),
        ("acked_per_s", 100.0, 50.0, Change.WORSE),
        ("acked_per_s", 100.0, 150.0, Change.BETTER),
        ("rejected", 0.0, 1.0, Change.WORSE),
        ("rejected", 0.0, 0.0, Change.SAME),
        ("duration_s", 10.0, 20.0, Change.DIFFERENT),
        ("ack_latency_p99_s", None, 1.0, Change.NONE),
    ],
)
def test_change_of_a_figure(name: str, before: float | None, after: float | None, found: Change) -> None:
    """A change within the tolerance is none; beyond it, the figure says which direction is good."""
    (figure,) = [figure for figure in FIGURES if figure.name == name]
    assert change(figure, before, after) is found


def test_exports(stored: Stored, tmp_path: Path) -> None:
    """CSV, Parquet and JSON hold the same rows; Parquet keeps types, JSON holds all there is."""
    run = runs.open(stored.bad, stored.path)
    frame = run.to_frame()
    with builtins.open(run.export(tmp_path / "run.csv"), encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert (len(rows), list(rows[0])) == (len(frame), list(frame.columns))
    assert rows[0]["time"].endswith("+00:00")
    pd.testing.assert_frame_equal(pd.read_parquet(run.export(tmp_path / "run.parquet")), frame)
    told = json.loads(run.export(tmp_path / "run.json").read_text())
    assert set(runs.FRAMES) < set(told)
    assert told["run"]["run_id"] == stored.bad
    assert told["figures"]["rejected"] == run.summary.counts["rejected"]
    assert len(told["series"]) == len(frame)


def test_csv_holds_no_formula(stored: Stored, tmp_path: Path) -> None:
    """A text that a spreadsheet would run as a formula is quoted with an apostrophe."""
    text = runs.open(stored.bad, stored.path).export(tmp_path / "failures.csv", "failures").read_text()
    assert "'=cmd" in text
    assert ",=cmd" not in text


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda run: run.to_frame("nonsense"), "there is no frame 'nonsense'.*series, outcomes"),
        (lambda run: run.figure("nonsense"), "there is no figure 'nonsense'.*latency"),
        (lambda run: run.steps(0.1), "at least that"),
        (lambda run: run.export("run.xls"), r"\.csv, \.parquet, \.json or \.html"),
        (lambda run: run.export("/nowhere/run.csv"), "cannot be written"),
    ],
)
def test_what_cannot_be_given(stored: Stored, ask: Callable[[runs.Run], Any], text: str) -> None:
    """Whatever is asked wrongly is refused with what there is."""
    with pytest.raises(ConfigError, match=text):
        ask(runs.open(stored.bad, stored.path))


@pytest.mark.parametrize(
    ("missing", "ask"),
    [
        ("pandas", lambda run: run.to_frame()),
        ("plotly.graph_objects", lambda run: run.figure()),
        ("plotly.offline", lambda run: run.to_html()),
    ],
)
def test_missing_package_is_named(
    stored: Stored, missing: str, ask: Callable[[runs.Run], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a package of the extra, the refusal says which to install; figures and rows work without any."""
    run = runs.open(stored.bad, stored.path)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r'pip install "ackscope\[runs\]"'):
        ask(run)
    assert run.rows()
    assert run.charts()
    assert run._repr_mimebundle_()["text/plain"]


def test_figures_are_plotlys(stored: Stored) -> None:
    """Every chart is valid for Plotly, on a light page and on a dark one."""
    run = runs.open(stored.bad, stored.path)
    for name in run.charts():
        for theme in (None, "light", "dark"):
            assert isinstance(run.figure(name, theme), go.Figure)
    assert run.figure("latency", "dark").layout.paper_bgcolor == "#0E141B"


def test_run_shows_itself(stored: Stored) -> None:
    """In a notebook a table, in a terminal text; the same figures."""
    run = runs.open(stored.bad, stored.path)
    bundle = run._repr_mimebundle_()
    assert "ack latency p99" in bundle["text/plain"]
    assert "ack latency p99" in bundle["text/html"]
    assert repr(run) == f"<Run {stored.bad} finished orders.created on nats://127.0.0.1:4222>"
    assert run.samples[0].wall_s == START_S + 100


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (0.00085, "850 µs"), (0.0125, "12.5 ms"), (0.9999, "1.00 s"), (3.2, "3.20 s"),
        (59.96, "1 min 0 s"),
        (125, "2 min 5 s"), (4800, "1 h 20 min"), (99.96e-3, "100 ms"), (9.996, "10.0 s"),
    ],
)  # fmt: skip
def test_durations_in_words(seconds: float, text: str) -> None:
    """Three digits and the unit that suits."""
    assert duration_text(seconds) == text


def test_figures_in_words() -> None:
    """Percentages never hide what is there; changes are told as a factor where percents would be absurd."""
    assert [percent_text(ratio) for ratio in (0, 0.00001, 0.0123, 0.5, 0.9999, 1)] == [
        "0 %", "<0.01 %", "1.23 %", "50.0 %", "99.99 %", "100 %",
    ]  # fmt: skip
    assert [relative_text(2, after, Unit.SECONDS) for after in (2, 2.001, 3, 1, 20, 0.1, 3000, None)] == [
        "", "", "+50%", "-50%", f"{TIMES}10", f"{TIMES}0.05", f"{TIMES}1,500", "",
    ]  # fmt: skip
    assert relative_text(0.01, 0.03, Unit.RATIO) == "+2.00 points"
    assert verdict_text("p99(ack_latency, 1m) < 250ms", 0.25) == "250 ms"
    assert verdict_text("ratio(failed, accepted) < 1%", 0.01) == "1.00 %"
    assert verdict_text("max(pending) < 5000", 5000.0) == "5,000"
    assert verdict_text("max(pending) < 5000", None) == "\N{EN DASH}"


def test_charts_are_as_fine_as_they_are_asked_for(stored: Stored) -> None:
    """Whoever has room for few points gets few, in round steps; all figures come from one look."""
    run = runs.open(stored.bad, stored.path)
    assert run.step_s() == 1.0
    assert run.step_s(most=25) == 2.0
    assert len(run.charts(run.step_s(25))["rates"]["data"][0]["x"]) == 20
    made = run.figures("dark", 5.0)
    assert set(made) == set(run.charts())
    assert all(isinstance(figure, go.Figure) for figure in made.values())
    compared = runs.compare(["baseline", "last"], stored.path)
    assert len(compared.charts(most=10)["p99"]["data"][0]["x"]) == 8
    assert set(compared.figures()) == {"fates", "sent", "acked", "p99", "pending", "failed", "percentiles"}


def test_fates_add_up_to_what_was_sent(stored: Stored) -> None:
    """A bar a run whose parts are shares of one; the counts are those of the last sample."""
    chart = runs.compare(["baseline", "last"], stored.path).charts()["fates"]
    for place, run_id in enumerate((stored.good, stored.bad)):
        last = runs.open(run_id, stored.path).samples[-1].snapshot
        counts = {trace["name"]: trace["customdata"][place] for trace in chart["data"]}
        assert sum(trace["x"][place] for trace in chart["data"]) == pytest.approx(1.0)
        assert counts["acked"] + counts["acked late"] == last.acked
        assert counts["unknown"] == last.unknown


def test_fate_of_messages_without_acks_is_said_to_be_unasked() -> None:
    """Sent and forgotten is neither acked nor failed: the chart gives it a part of its own."""
    sample = course(seconds=1)[-1]
    sent_blind = replace(sample.snapshot, accepted=0, acked=0, pending=0, unacknowledged=150)
    cut = list(steps([replace(sample, snapshot=sent_blind)], 1.0))
    (trace,) = figures.fates({"<b>": cut})["data"]
    assert (trace["name"], trace["customdata"], trace["x"]) == ("no ack asked for", [150], [1.0])
    assert trace["y"] == ["&lt;b&gt;"]


@pytest.mark.parametrize("ending", runs.FILES)
def test_content_is_what_is_written(stored: Stored, tmp_path: Path, ending: str) -> None:
    """A page hands the same bytes on that the command line writes into a file."""
    run = runs.open(stored.good, stored.path)
    assert run.export(tmp_path / f"run{ending}", step_s=5.0).read_bytes() == run.content(ending, step_s=5.0)
    with pytest.raises(ConfigError, match=r"not written as '\.doc'; give one of \.csv"):
        run.content(".doc")


def test_run_that_ignores_acks_has_no_pending_figures(stored: Stored) -> None:
    """Nothing awaits an ack there: that is not better than to await some. What it sent is told as sent."""
    last = course(seconds=2)[-1]
    unseen = replace(last.snapshot, accepted=0, acked=0, pending=0, unacknowledged=400, latency=LatencyHistogram())
    values = {f.name: f.value(summarize([replace(last, snapshot=unseen)])) for f in FIGURES}
    assert values["pending_max"] is None
    assert values["oldest_pending_age_max_s"] is None
    assert values["sent_per_s"] == pytest.approx(400 / 1.75)
    assert values["acked_per_s"] == 0
    assert relative_text(400.0, 0.0, Unit.PER_SECOND) == "-100%"


def test_threshold_far_above_a_log_chart_is_in_sight(stored: Stored) -> None:
    """The axis reaches it with room for its name; over two decades only whole ones have ticks."""
    near = figures.latency(list(steps(course(seconds=5), 1.0)), thresholds=[("p99 10 ms", 0.01)])
    far = figures.latency(list(steps(course(seconds=5), 1.0)), thresholds=[("p99 10 ms", 0.01), ("p99 5 s", 5.0)])
    assert near["layout"]["yaxis"]["dtick"] == "D2"
    assert 10 ** near["layout"]["yaxis"]["range"][1] > 10 * 1.5
    assert far["layout"]["yaxis"]["dtick"] == 1
    assert 10 ** far["layout"]["yaxis"]["range"][1] > 5000 * 1.5


async def test_plan_is_driven_from_a_notebook(tmp_path: Path) -> None:
    """A preset with other values runs on the caller's loop; the run comes back with its samples and its verdict."""
    looked: list[Sample] = []
    run = await runs.drive(
        "smoke", store=tmp_path / "runs.db", on_sample=looked.append, url="memory://", duration_s=0.3, rate=1000.0
    )
    assert run.samples[-1].snapshot.acked == 300
    assert run.verdict is not None
    assert run.verdict["passed"]
    assert len(looked) >= 2
    again = LoadPlan(url="memory://", rate=1000.0, count=50)
    assert (await runs.drive(again, store=tmp_path / "runs.db", name="again")).title == "again"
    with pytest.raises(ConfigError, match="no preset 'smok'; did you mean 'smoke'"):
        await runs.drive("smok", store=tmp_path / "runs.db")
    with pytest.raises(ConfigError, match="cannot be read"):
        await runs.drive("nowhere.toml", store=tmp_path / "runs.db")
