"""The Compare page, what it advises, and the sequence of runs behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dashboard import comparison
from dashboard.comparison import BROKERS, STRATEGIES, ComparisonPlan, broker_runs, findings, kept, strategy_runs
from dashboard.control import LoadSettings, LoadStatus, Phase
from dashboard.process import LoadRefused
from dashboard.run_sequence import GRACE_S, Planned, RunSequence, SequenceStatus, StepState
from eventbus import AckStrategy, LatencyHistogram, runs
from eventbus.load.plan import LoadPlan
from eventbus.observe import RunStatus, Sample, StoreReader, StoreWriter
from tests.dashboard_fakes import START_S, StubControl, run_info
from tests.stored_runs import Stored, course, keep

pytest.importorskip("streamlit", reason="the dashboard's tests need: pip install -r requirements-dev.txt")

from streamlit.testing.v1 import AppTest

DEADLINE_S = 20.0
WHEN = "2026-01-02 03:04:05"


# ---- the sequence -----------------------------------------------------------------------------------------------


class ScriptedControl:
    """A control whose runs end by what ``after`` says of the number of looks at one, in a time that looks pass."""

    def __init__(self, after: Callable[[int, LoadStatus], LoadStatus] | None = None) -> None:
        self.now_s = 0.0
        self.started: list[LoadSettings] = []
        self.stops = 0
        self.refusals: dict[int, str] = {}
        self._after = after or (lambda looks, seen: LoadStatus(run_id=seen.run_id) if looks > 5 else seen)
        self._seen = LoadStatus()
        self._looks = 0
        self.gate: threading.Event | None = None

    def status(self) -> LoadStatus:
        if self._seen.active:
            self._looks += 1
            self._seen = self._after(self._looks, self._seen)
        return self._seen

    def start(self, settings: LoadSettings) -> str:
        number = len(self.started)
        if number in self.refusals:
            self.started.append(settings)
            raise LoadRefused(self.refusals[number])
        if self.gate is not None:
            assert self.gate.wait(DEADLINE_S)
        self.started.append(settings)
        self._looks = 0
        self._seen = LoadStatus(Phase.RUNNING, f"run-{number}")
        return f"run-{number}"

    def stop(self) -> None:
        self.stops += 1
        self._seen = LoadStatus(run_id=self._seen.run_id)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Time passes when somebody waits: two seconds a look."""
        self.now_s += 2.0
        return event.is_set()


def sequence_of(control: ScriptedControl) -> RunSequence:
    return RunSequence(control, clock=lambda: control.now_s, wait=control.wait)


def planned(number: int = 3) -> list[Planned]:
    plan = ComparisonPlan(duration_s=10.0)
    return [Planned(f"run {place}", plan.settings(f"name {place}")) for place in range(number)]


def ended(sequence: RunSequence) -> SequenceStatus:
    sequence._thread.join(DEADLINE_S)  # type: ignore[union-attr]  # it was started
    seen = sequence.status()
    assert not seen.active
    return seen


def states(seen: SequenceStatus) -> list[StepState]:
    return [step.state for step in seen.steps]


def test_runs_follow_each_other() -> None:
    """Each begins when the one before it is over; what was done is told with the ids."""
    control = ScriptedControl()
    sequence = sequence_of(control)
    assert sequence.status() == SequenceStatus()
    sequence.start(STRATEGIES, planned())
    seen = ended(sequence)
    assert states(seen) == [StepState.DONE] * 3
    assert seen.run_ids == ("run-0", "run-1", "run-2")
    assert [settings.more["name"] for settings in control.started] == ["name 0", "name 1", "name 2"]
    assert (seen.kind, seen.share, seen.cancelled) == (STRATEGIES, 1.0, False)


def test_second_sequence_is_refused_while_one_goes_on() -> None:
    """Two at once would measure each other; the refusal says what to do."""
    control = ScriptedControl()
    control.gate = threading.Event()
    sequence = sequence_of(control)
    sequence.start(STRATEGIES, planned())
    with pytest.raises(LoadRefused, match="Wait for its end, or stop it"):
        sequence.start(BROKERS, planned())
    control.gate.set()
    assert states(ended(sequence)) == [StepState.DONE] * 3
    sequence.start(BROKERS, planned(1))
    assert ended(sequence).kind == BROKERS


def test_sequence_is_refused_while_a_run_goes_on() -> None:
    """Somebody else's run is left in peace."""
    control = ScriptedControl(lambda looks, seen: seen)
    control.start(planned()[0].settings)
    with pytest.raises(LoadRefused, match="Stop it on Live"):
        sequence_of(control).start(STRATEGIES, planned())


def test_cancelled_sequence_stops_its_run_and_leaves_out_the_rest() -> None:
    """Also where it is cancelled while a run is only starting."""
    control = ScriptedControl(lambda looks, seen: seen)
    control.gate = threading.Event()
    sequence = sequence_of(control)
    sequence.start(STRATEGIES, planned())
    sequence.cancel()
    control.gate.set()
    seen = ended(sequence)
    assert states(seen) == [StepState.STOPPED, StepState.SKIPPED, StepState.SKIPPED]
    assert seen.steps[0].error is None
    assert control.stops == 1
    assert seen.cancelled
    assert seen.run_ids == ()


def test_run_that_is_stopped_by_hand_ends_the_sequence() -> None:
    """Whoever presses Stop on Live wants no further run to begin by itself."""

    def after(looks: int, seen: LoadStatus) -> LoadStatus:
        return LoadStatus(run_id=seen.run_id) if looks > 4 else LoadStatus(Phase.STOPPING, seen.run_id)

    control = ScriptedControl(after)
    sequence = sequence_of(control)
    sequence.start(STRATEGIES, planned())
    seen = ended(sequence)
    assert states(seen) == [StepState.STOPPED, StepState.SKIPPED, StepState.SKIPPED]
    assert control.stops == 0


def test_run_that_ends_before_its_time_ends_the_sequence() -> None:
    """A stop can come and go between two looks; the time tells."""
    sequence = sequence_of(ScriptedControl(lambda looks, seen: LoadStatus(run_id=seen.run_id)))
    sequence.start(STRATEGIES, planned())
    seen = ended(sequence)
    assert states(seen) == [StepState.STOPPED, StepState.SKIPPED, StepState.SKIPPED]
    assert "before its time" in (seen.steps[0].error or "")


def test_run_that_fails_does_not_end_the_sequence() -> None:
    """The others still say something; the reason is told."""

    def after(looks: int, seen: LoadStatus) -> LoadStatus:
        if looks <= 5:
            return seen
        return LoadStatus(run_id=seen.run_id, error="the broker is gone" if seen.run_id == "run-1" else None)

    control = ScriptedControl(after)
    control.refusals[0] = "no broker"
    sequence = sequence_of(control)
    sequence.start(STRATEGIES, planned())
    seen = ended(sequence)
    assert states(seen) == [StepState.FAILED, StepState.FAILED, StepState.DONE]
    assert [step.error for step in seen.steps] == ["no broker", "the broker is gone", None]
    assert seen.run_ids == ("run-2",)


def test_run_that_does_not_end_is_stopped() -> None:
    """Every run is bounded: by its duration, and the time that a drain may take."""
    control = ScriptedControl(lambda looks, seen: seen)
    sequence = sequence_of(control)
    sequence.start(STRATEGIES, planned(1))
    seen = ended(sequence)
    assert states(seen) == [StepState.FAILED]
    assert control.stops == 1
    assert 10.0 + GRACE_S <= control.now_s <= 10.0 + GRACE_S + 4.0


def test_sequence_without_bounds_is_not_begun() -> None:
    """A run without a duration, and more runs than anybody waits for, are refused before anything runs."""
    endless = Planned("endless", LoadSettings("memory://", "t", 1.0))
    for wrong in ([], [endless], planned(9)):
        with pytest.raises(ValueError, match=r"give 1 to 8|needs a duration"):
            sequence_of(ScriptedControl()).start(STRATEGIES, wrong)


# ---- what is run, and what it teaches ---------------------------------------------------------------------------


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


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a comparison of the strategies, in which some messages of the unified run stayed unknown."""
    path = tmp_path_factory.mktemp("compare") / "runs.db"
    writer = StoreWriter(path)
    for place, (strategy, label) in enumerate(comparison.STRATEGY_NAMES.items()):
        start_s = START_S + 100 * place
        run_id = writer.begin_run(
            url="nats://127.0.0.1:4222", topic="t", name=f"{label}, {WHEN}", started_wall_s=start_s, pid=1,
            settings={"strategy": str(strategy), "embedded": "nats", "workers": 2 if place == 2 else None},
        )  # fmt: skip
        rate = 80 if strategy is AckStrategy.WAIT_EACH else 200
        for sample in course(seconds=15, rate=rate, outage=place < 2, start_s=start_s):
            writer.sample(run_id, blind(sample) if strategy is AckStrategy.IGNORE else sample)
        writer.end_run(run_id, status=RunStatus.FINISHED, ended_wall_s=start_s + 15)
    assert writer.close(30)
    return path


def blind(sample: Sample) -> Sample:
    now = sample.snapshot
    unseen = replace(now, accepted=0, acked=0, pending=0, unacknowledged=now.accepted, latency=LatencyHistogram())
    return replace(sample, snapshot=unseen, scheduled=LatencyHistogram())


def test_figures_advise_for_the_unified_strategy(compared: Path) -> None:
    """Each finding is told in the figures of these very runs."""
    found = {finding.strategy: finding for finding in findings(runs.list(compared))}
    assert list(found) == list(AckStrategy)
    assert "18 failed and are told one by one" in found[AckStrategy.UNIFIED].text
    assert "Up to 580 tasks waited at once" in found[AckStrategy.TASK_PER_MESSAGE].text
    assert "with 2 workers, 40.0" in found[AckStrategy.WAIT_EACH].text
    assert "3,000 messages were sent" in found[AckStrategy.IGNORE].text
    assert "unified run of the same plan saw 18 messages fail" in found[AckStrategy.IGNORE].text
    assert [finding.good for finding in found.values()] == [True, None, False, False]


def test_runs_of_one_strategy_teach_nothing_about_strategies(compared: Path) -> None:
    """Advice is only given where there is something to see it in."""
    assert findings(runs.list(compared)[:1] * 2) == []


# ---- the page ---------------------------------------------------------------------------------------------------


def app(source, control, sequence):  # its source is copied: no name of this file is known there
    from dashboard.views import compare

    compare.page(source, control, sequence)


class StubSequence:
    """A sequence that stands where it is told to, and notes what it was asked for."""

    def __init__(self, status: SequenceStatus | None = None, refusal: str | None = None) -> None:
        self.now = status or SequenceStatus()
        self.refusal = refusal
        self.started: list[tuple[str, Sequence[Planned]]] = []
        self.cancels = 0

    def status(self) -> SequenceStatus:
        return self.now

    def start(self, kind: str, planned: Sequence[Planned]) -> None:
        if self.refusal is not None:
            raise LoadRefused(self.refusal)
        self.started.append((kind, planned))

    def cancel(self) -> None:
        self.cancels += 1


def shown(
    path: Path, mode: str | None = None, *, sequence: StubSequence | None = None, control: StubControl | None = None
) -> AppTest:
    arguments = (StoreReader(path), control or StubControl(), sequence or StubSequence())
    at = AppTest.from_function(app, args=arguments, default_timeout=30)
    if mode is not None:
        at.query_params["compare"] = mode
    at.run()
    assert not at.exception
    return at


def text_of(at: AppTest) -> str:
    return " ".join(one.value for one in at.markdown).replace("\\", "")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return keep(tmp_path_factory.mktemp("compared") / "runs.db")


@pytest.mark.parametrize(
    ("mode", "title"),
    [(None, "No run yet"), ("Strategies", "Nothing compared yet"), ("Brokers", "Nothing compared yet")],
)
def test_without_any_run_the_page_says_what_to_do(tmp_path: Path, mode: str | None, title: str) -> None:
    """Each of its three parts in its own words."""
    at = shown(tmp_path / "none.db", mode)
    assert at.info[0].proto.title == title
    assert not at.get("plotly_chart")


@pytest.mark.parametrize("mode", [None, "Strategies", "Brokers"])
def test_store_that_cannot_be_read_is_told(tmp_path: Path, mode: str | None) -> None:
    """What happened and what to do, and no traceback."""
    (tmp_path / "runs.db").write_bytes(b"this is no store" * 100)
    assert shown(tmp_path / "runs.db", mode).error[0].proto.title == "The store of runs cannot be read"


def test_single_run_has_nothing_to_be_compared_with(stored: Stored) -> None:
    """That is said, with what to do."""
    assert shown(stored.empty_store).info[0].proto.title == "Two runs are needed"


def test_kept_runs_are_compared_with_the_baseline(stored: Stored) -> None:
    """The pinned one by default: overlaid curves from t=0, and a table with better and worse in sign and word."""
    at = shown(stored.path)
    assert at.selectbox(key="baseline").value == stored.good
    charts = [json.loads(one.proto.spec) for one in at.get("plotly_chart")]
    assert len(charts) == 7
    names = {trace["name"] for chart in charts[1:] for trace in chart["data"]}
    assert names == {"1. before the upgrade", "2. orders.created"}
    assert all(chart["data"][0]["x"][0] < 1.1 for chart in charts[1:6])
    table = at.table[0].value
    assert ":red[▼ worse]" in " ".join(table.iloc[:, 2])
    assert "worse in some run" in text_of(at)
    at.multiselect[0].set_value([]).run()
    assert not at.exception
    assert "at least one" in at.info[0].value


def test_interrupted_run_can_be_compared(stored: Stored, tmp_path: Path) -> None:
    """With what it measured until then."""
    writer = StoreWriter(tmp_path / "runs.db")
    for place in range(2):
        run_id = writer.begin_run(url="memory://", topic="t", settings={}, started_wall_s=START_S + place, pid=0)
        for sample in course(seconds=3, start_s=START_S + place):
            writer.sample(run_id, sample)
    assert writer.close(30)
    at = shown(tmp_path / "runs.db")
    assert "interrupted" in at.selectbox(key="baseline").options[0]
    assert at.get("plotly_chart")
    assert "nothing is worse" in text_of(at)


def test_one_press_runs_the_four_strategies(tmp_path: Path) -> None:
    """Under the plan of the form, on the chosen broker."""
    sequence = StubSequence()
    at = shown(tmp_path / "none.db", "Strategies", sequence=sequence)
    at.selectbox(key="compare_broker").set_value("embedded Kafka mock")
    at.number_input(key="compare_rate").set_value(900)
    at.number_input(key="compare_duration").set_value(20)
    at.button(key="run_all").click().run()
    assert not at.exception
    ((kind, made),) = sequence.started
    assert kind == STRATEGIES
    assert [one.label for one in made] == ["unified", "task per message", "wait for each", "ignore acks"]
    assert {(one.settings.url, one.settings.rate, one.settings.duration_s) for one in made} == {
        ("embedded+kafka://", 900.0, 20.0)
    }


def test_one_press_runs_both_brokers(tmp_path: Path) -> None:
    """NATS, and Kafka's mock."""
    sequence = StubSequence()
    at = shown(tmp_path / "none.db", "Brokers", sequence=sequence)
    at.button(key="run_all").click().run()
    assert [one.settings.url for one in sequence.started[0][1]] == ["embedded+nats://", "embedded+kafka://"]


def test_run_that_goes_on_is_told(tmp_path: Path) -> None:
    """Nothing can be begun beside it, and the page says why and what to do."""
    at = shown(tmp_path / "none.db", "Strategies", control=StubControl(LoadStatus(Phase.RUNNING, "run-1", 1.0)))
    assert at.button(key="run_all").disabled
    assert "Stop it on **Live**" in at.info[0].value


def test_refusal_of_a_start_is_told(tmp_path: Path) -> None:
    """Somebody was faster: a word of it, and no traceback."""
    at = shown(tmp_path / "none.db", "Strategies", sequence=StubSequence(refusal="A run is going on already."))
    at.button(key="run_all").click().run()
    assert not at.exception
    assert at.toast[0].value == "A run is going on already."


def going_on() -> SequenceStatus:
    control = ScriptedControl()
    control.gate = threading.Event()
    sequence = sequence_of(control)
    sequence.start(STRATEGIES, planned(2))
    seen = sequence.status()
    control.gate.set()
    ended(sequence)
    return seen


@pytest.mark.parametrize("mode", [None, "Strategies", "Brokers"])
def test_comparison_that_goes_on_is_seen_and_can_be_stopped(stored: Stored, mode: str | None) -> None:
    """Whichever part is open, in every session: how far it is, and a button to end it."""
    sequence = StubSequence(going_on())
    at = shown(stored.path, mode, sequence=sequence)
    assert "Comparing strategies: 0 of 2 runs done" in text_of(at).replace("**", "")
    assert "run 1: waiting" in text_of(at)
    at.button(key="stop_all").click().run()
    assert sequence.cancels == 1


def test_comparison_that_did_not_go_well_says_why(stored: Stored) -> None:
    """Each run with its reason; what was done of it is kept."""
    control = ScriptedControl()
    control.refusals[0] = "The embedded NATS did not start"
    sequence = sequence_of(control)
    sequence.start(STRATEGIES, planned(2))
    at = shown(stored.path, "Strategies", sequence=StubSequence(ended(sequence)))
    assert "run 0: The embedded NATS did not start" in text_of(at)
    assert "1 of 2 runs done" in text_of(at)


def test_strategies_are_compared_with_advice(compared: Path) -> None:
    """What the figures teach stands first, each with a sign and a title; then curves and the table."""
    at = shown(compared, "Strategies")
    said = text_of(at)
    for title in (
        "Use this one",
        "A task a message costs memory",
        "Waiting for each ack is slow",
        "Ignored acks lose messages unseen",
    ):
        assert f"**{title}.**" in said
    assert list(at.table[0].value.columns) == [
        "Figure",
        "1\\. unified",
        "2\\. task per message",
        "3\\. wait for each",
        "4\\. ignore acks",
    ]
    fates = json.loads(at.get("plotly_chart")[0].proto.spec)
    unasked = next(trace for trace in fates["data"] if trace["name"] == "no ack asked for")
    assert unasked["x"] == [0.0, 0.0, 0.0, 1.0]
