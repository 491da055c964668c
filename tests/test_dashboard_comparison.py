"""What Compare runs and tells: plans, verdicts, the faults there can be, and how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import comparison
from dashboard.broker import KAFKA_URL, NATS_URL
from dashboard.comparison import (
    BROKERS,
    STRATEGIES,
    ComparisonPlan,
    broker_runs,
    fault_choices,
    kept,
    label_of,
    strategy_runs,
)
from dashboard.comparison_figures import (
    ALIKE_S,
    FaultMark,
    FaultSpan,
    Memory,
    Side,
    draw_faults,
    fault_marks,
    fault_spans,
    memory_of,
    show_lost,
)
from dashboard.comparison_findings import Finding, findings
from dashboard.faults import FaultDesk, Offer
from dashboard.run_sequence import Planned
from dashboard.sequence_fault import PlannedFault
from eventbus import AckStrategy, BusEvent, ConfigError, EventKind, runs
from eventbus.load.plan import LoadPlan
from eventbus.observe import RunInfo, RunStatus
from tests.compared_runs import WHEN, measured
from tests.dashboard_fakes import START_S, run_info, sample

FREEZE = PlannedFault("freeze", "Freeze the broker", 4.0, 3.0)

# ---- what is run ---------------------------------------------------------------------------


def plans(found: Sequence[Planned]) -> list[LoadPlan]:
    """As a worker reads them."""
    commands = [one.settings.command(one.settings.url) for one in found]
    return [LoadPlan.from_dict({n: v for n, v in command.items() if n != "cmd"}) for command in commands]


def test_strategies_are_run_under_the_same_plan() -> None:
    """They differ in the strategy alone; the one that waits for each ack has workers instead of a rate."""
    made = plans(strategy_runs(ComparisonPlan(rate=700.0, workers=3), WHEN))
    assert [plan.strategy for plan in made] == list(AckStrategy)
    assert [(plan.rate, plan.workers) for plan in made] == [(700.0, None), (700.0, None), (None, 3), (700.0, None)]
    assert [plan.name for plan in made] == [f"{label}, {WHEN}" for label in comparison.LABELS[STRATEGIES]]
    same = {(plan.duration_s, plan.payload_size, plan.max_pending, plan.warm_up_s, plan.embedded) for plan in made}
    assert same == {(10.0, 128, 10_000, 1.0, "nats")}


def test_brokers_are_run_under_the_same_plan() -> None:
    """They differ in the broker alone, and the mock is called one."""
    made = broker_runs(ComparisonPlan(), WHEN)
    assert [plan.embedded for plan in plans(made)] == ["nats", "kafka"]
    assert [one.label for one in made] == ["embedded NATS", "embedded Kafka mock"]


def test_comparison_is_found_again_by_the_names_of_its_runs() -> None:
    """After a restart of the dashboard: the newest one of which two runs are kept and over, in its order."""
    labels = comparison.LABELS[STRATEGIES]
    older = [run_info(RunStatus.FINISHED, run_id=f"a{n}", name=f"{label}, 1") for n, label in enumerate(labels)]
    newer = [run_info(RunStatus.FINISHED, run_id=f"b{n}", name=f"{label}, 2") for n, label in enumerate(labels[:2])]
    alone = run_info(RunStatus.FINISHED, run_id="c", name=f"{labels[3]}, 3")
    going = run_info(RunStatus.RUNNING, run_id="d", name=f"{labels[0]}, 3")
    other = run_info(RunStatus.FINISHED, run_id="e", name="smoke, 2")
    found = [going, alone, other, *reversed(newer), *reversed(older)]
    assert [run.run_id for run in kept(found, STRATEGIES)] == ["b0", "b1"]
    assert [run.run_id for run in kept(found[5:], STRATEGIES)] == ["a0", "a1", "a2", "a3"]
    assert kept(found, BROKERS) == []


def test_every_run_has_the_same_fault_and_way_to_the_broker() -> None:
    """Else they would differ in more than one thing."""
    for made in (strategy_runs, broker_runs):
        found = made(ComparisonPlan(fault=FREEZE, network=True), WHEN)
        assert {one.fault for one in found} == {FREEZE}
        assert all(one.settings.breakable_network for one in found)
    assert not any(one.settings.breakable_network for one in strategy_runs(ComparisonPlan(), WHEN))


def test_brokers_may_be_given_by_their_urls() -> None:
    """They are called by them, without user and password, and are found again so."""
    urls = ["nats://anna:secret@broker.example:4222", KAFKA_URL]
    made = broker_runs(ComparisonPlan(), WHEN, urls)
    assert [one.label for one in made] == ["nats://broker.example:4222", "embedded Kafka mock"]
    assert [one.settings.url for one in made] == urls
    assert "secret" not in str([one.settings.more for one in made])
    infos = [
        run_info(RunStatus.FINISHED, run_id=f"r{at}", name=str(one.settings.more["name"]), started_wall_s=START_S + at)
        for at, one in enumerate(made)
    ]
    assert [run.run_id for run in kept(infos[::-1], BROKERS)] == ["r0", "r1"]
    with pytest.raises(ConfigError):
        broker_runs(ComparisonPlan(), WHEN, ["what is this"])


# ---- what it teaches --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured(tmp_path_factory.mktemp("compare") / "runs.db")


def verdicts(path: Path) -> dict[AckStrategy, Finding]:
    sides = [Side(run, memory_of(run.each_sample(), 0.25)) for run in reversed(runs.list(path))]
    return {finding.strategy: finding for finding in findings(sides)}


def test_figures_advise_for_the_unified_strategy(compared: Path) -> None:
    """Each finding is told in the figures of these very runs."""
    found = verdicts(compared)
    assert list(found) == list(AckStrategy)
    assert "18 of 3,000 messages failed, and each is told" in found[AckStrategy.UNIFIED].text
    assert found[AckStrategy.UNIFIED].title == "Every failure is known"
    assert found[AckStrategy.TASK_PER_MESSAGE].title == "A task a message costs memory"
    assert "by 20\N{NARROW NO-BREAK SPACE}MiB while up to 580 tasks" in found[AckStrategy.TASK_PER_MESSAGE].text
    assert found[AckStrategy.WAIT_EACH].title == "Waiting for each ack is slow"
    assert "with 2 workers, 40.0" in found[AckStrategy.WAIT_EACH].text
    assert found[AckStrategy.IGNORE].title == "100 messages lost unseen"
    assert "3,000 messages were sent" in found[AckStrategy.IGNORE].text
    assert "unified run of the same plan saw 18 messages fail" in found[AckStrategy.IGNORE].text
    assert [finding.good for finding in found.values()] == [True, False, False, False]


def test_what_figures_do_not_show_is_not_claimed(tmp_path: Path) -> None:
    """No more memory, no loss, no lower rate: each verdict says so, and none is for or against."""
    path = measured(tmp_path / "runs.db", stored=(3_000,) * 4, memory_mib=(4, 4.5, 1, 1), rate_of_waiting=200)
    found = verdicts(path)
    assert found[AckStrategy.TASK_PER_MESSAGE].title == "Its memory does not show here"
    assert found[AckStrategy.WAIT_EACH].title == "Waiting was not slower here"
    assert found[AckStrategy.IGNORE].title == "Nothing was lost this time"
    assert [finding.good for finding in found.values()] == [True, None, None, None]


def test_what_was_not_measured_is_said_so(tmp_path: Path) -> None:
    """As of runs that an older version kept."""
    found = verdicts(measured(tmp_path / "runs.db", stored=(None,) * 4, memory_mib=(None,) * 4))
    assert found[AckStrategy.TASK_PER_MESSAGE].title == "Its memory is not known"
    assert found[AckStrategy.IGNORE].title == "Nobody knows what was lost"
    assert "was not counted" in found[AckStrategy.IGNORE].text


def test_unified_run_is_not_praised_where_it_did_worse(tmp_path: Path) -> None:
    """A lower rate than another run's, and acked messages that the broker does not have."""
    slower = verdicts(measured(tmp_path / "slower.db", rate_of_waiting=400))[AckStrategy.UNIFIED]
    assert (slower.title, slower.good) == ("Every failure is known, but it is slower", None)
    gone = verdicts(measured(tmp_path / "gone.db", stored=(2_900, 3_000, 1_200, 3_000)))[AckStrategy.UNIFIED]
    assert (gone.title, gone.good) == ("82 acked messages are gone", False)


def test_strategies_without_a_unified_run_are_not_measured_by_one(compared: Path) -> None:
    """Nothing is made up for what is not there."""
    sides = [side for side in map(Side, runs.list(compared)) if side.strategy is not AckStrategy.UNIFIED]
    titles = [finding.title for finding in findings(sides)]
    assert titles == ["Nothing to compare it with"] * 2 + ["100 messages lost unseen"]


def test_runs_of_one_strategy_teach_nothing_about_strategies(compared: Path) -> None:
    """Advice is only given where there is something to see it in."""
    assert findings([Side(runs.list(compared)[0])] * 2) == []


def test_run_is_called_as_its_comparison_called_it(compared: Path) -> None:
    """Without the time that its name has."""
    assert {label_of(run) for run in runs.list(compared)} == set(comparison.LABELS[STRATEGIES])


# ---- which faults there can be, and how they are drawn ----------------------------------------------------------


def offers(run: RunInfo | None) -> Sequence[Offer]:
    return FaultDesk({}, running=lambda: None).offers(run)


def available(*urls: str) -> set[str]:
    return {one.fault.name for one in fault_choices(offers, urls) if one.why_not is None}


def test_faults_are_those_that_each_chosen_broker_has() -> None:
    """All others are there too, each with the reason why not."""
    nats, kafka = available(NATS_URL), available(KAFKA_URL)
    assert {"freeze", "kill", "delete_stream", "delay", "blackhole"} <= nats
    assert {"freeze", "kill", "kafka_down"} <= kafka
    assert available(NATS_URL, KAFKA_URL) == nats & kafka == {"freeze", "kill"}
    assert available(NATS_URL, "nats://127.0.0.1:4222") == set()
    choices = fault_choices(offers, [KAFKA_URL])
    assert sorted(one.fault.name for one in choices) == sorted(nats | kafka)
    reasons = {one.fault.name: one.why_not or "" for one in choices}
    assert "past the proxy" in reasons["delay"]
    assert "has no such fault" in reasons["delete_stream"]


@given(st.lists(st.sampled_from([NATS_URL, KAFKA_URL, "nats://127.0.0.1:4222"]), min_size=1, max_size=3))
def test_more_brokers_never_have_more_faults(urls: list[str]) -> None:
    """What several can have, each of them can."""
    assert available(*urls) == set.intersection(*map(available, urls))


SPANS = st.lists(
    st.tuples(
        st.sampled_from(["Freeze the broker", "Kill and restart"]),
        st.floats(0, 60),
        st.one_of(st.none(), st.floats(0, 60)),
    ).map(lambda one: FaultSpan(*one)),
    max_size=4,
)


@given(st.lists(SPANS, min_size=1, max_size=4))
def test_each_fault_lies_within_one_mark_of_its_name(spans: list[list[FaultSpan]]) -> None:
    """Marks are never more than faults, hold no run twice, and join only what began at about the same moment."""
    marks = fault_marks(spans, [60.0] * len(spans))
    assert sum(len(mark.runs) for mark in marks) == sum(map(len, spans))
    assert all(len(set(mark.runs)) == len(mark.runs) and mark.from_s <= mark.until_s for mark in marks)
    for place, found in enumerate(spans):
        for span in found:
            until_s = max(span.from_s, 60.0 if span.until_s is None else span.until_s)
            own = [mark for mark in marks if mark.title == span.title and place in mark.runs]
            assert any(mark.from_s <= span.from_s <= mark.from_s + ALIKE_S and until_s <= mark.until_s for mark in own)


def test_faults_are_read_from_the_events_of_a_run() -> None:
    """A beginning with its end; without one it lasted; an end alone says nothing."""
    told = [
        (EventKind.FAULT_ENDED, 1.0, "Kill and restart: undone after 1.0 s, run over"),
        (EventKind.FAULT_BEGAN, 3.0, "Freeze the broker: begun, for 2 s"),
        (EventKind.DISCONNECTED, 4.0, "gone: for now"),
        (EventKind.FAULT_ENDED, 5.0, "Freeze the broker: undone after 2.0 s, time over"),
        (EventKind.FAULT_BEGAN, 8.0, "Kill and restart: begun, for 60 s"),
    ]
    events = [BusEvent(START_S + at_s, kind, text) for kind, at_s, text in told]
    spans = fault_spans(events, START_S)
    assert spans == [FaultSpan("Freeze the broker", 3.0, 5.0), FaultSpan("Kill and restart", 8.0)]
    assert fault_marks([spans, []], [10.0, 10.0])[1] == FaultMark("Kill and restart", 8.0, 10.0, (0,))


def test_fault_of_some_runs_names_them() -> None:
    """And charts that are not over time have no place for it."""
    charts: dict[str, dict[str, Any]] = {name: {"data": [], "layout": {}} for name in ("sent", "fates", "percentiles")}
    draw_faults(charts, [FaultMark("Freeze", 3.0, 6.0, (0, 2)), FaultMark("Kill", 7.0, 8.0, (0, 1, 2))], 3)
    assert charts["fates"] == charts["percentiles"] == {"data": [], "layout": {}}
    assert [one["text"] for one in charts["sent"]["layout"]["annotations"]] == ["Freeze (1, 3)", "Kill"]
    bands = [one for one in charts["sent"]["layout"]["shapes"] if one["type"] == "rect"]
    assert [(band["x0"], band["x1"]) for band in bands] == [(3.0, 6.0), (7.0, 8.0)]


@given(st.lists(st.one_of(st.none(), st.integers(0, 2**40)), max_size=60), st.sampled_from([0.25, 1.0, 2.0]))
def test_memory_keeps_its_peak_however_coarse_its_curve(told: list[int | None], step_s: float) -> None:
    """And is not known where no sample tells it."""
    samples = [replace(sample(at / 4, rate=0.0), resident_bytes=octets) for at, octets in enumerate(told)]
    found, known = memory_of(samples, step_s), [octets for octets in told if octets is not None]
    if not known:
        assert found is None
        return
    assert isinstance(found, Memory)
    assert (found.first, found.peak) == (known[0], max(known))
    assert max(octets for _, octets in found.curve) == found.peak
    assert [at_s for at_s, _ in found.curve] == sorted({at_s for at_s, _ in found.curve})


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_lost_messages_are_parted_from_those_without_an_ack(sent: int, lost: int) -> None:
    """Counts and shares stay what they were together; labels are compared as the chart shows them."""
    bar = {"name": "no ack asked for", "y": ["1. a", "2. b &lt;c&gt;"], "x": [0.0, 1.0], "customdata": [0, sent]}
    chart: dict[str, Any] = {"data": [{**bar, "type": "bar", "marker": {}}], "layout": {}}
    show_lost(chart, {"1. a": 0, "2. b <c>": lost})
    assert sum(trace["customdata"][1] for trace in chart["data"]) == sent
    assert sum(trace["x"][1] for trace in chart["data"]) == pytest.approx(1.0)
    assert len(chart["data"]) == (2 if lost else 1)
    assert chart["data"][-1]["customdata"][1] == (min(lost, sent) if lost else sent)
