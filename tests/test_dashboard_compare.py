"""The Compare page: runs that are kept, strategies and brokers at a press, what is broken meanwhile, what is shown."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dashboard import style
from dashboard.broker import NAMES, BrokerState, BrokerStatus
from dashboard.comparison import BROKERS, STRATEGIES
from dashboard.control import LoadStatus, Phase
from dashboard.faults import FaultDesk
from dashboard.process import LoadRefused
from dashboard.run_sequence import Planned, SequenceStatus, StepState
from dashboard.sequence_fault import FaultStage, PlannedFault
from eventbus.observe import StoreReader, StoreWriter
from tests.compared_runs import measured
from tests.dashboard_fakes import START_S, StubControl
from tests.sequence_fakes import ScriptedControl, ended, planned, sequence_of
from tests.stored_runs import Stored, course, keep

pytest.importorskip("streamlit", reason="the dashboard's tests need: pip install -r requirements-dev.txt")

from streamlit.testing.v1 import AppTest


def app(source, control, sequence):  # its source is copied: no name of this file is known there
    from dashboard.views import compare

    compare.page(source, control, sequence)


class StubSequence:
    """A sequence that stands where it is told to, and notes what it was asked for."""

    def __init__(self, status: SequenceStatus | None = None, refusal: str | None = None) -> None:
        self.desk = FaultDesk({}, running=lambda: None)
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


def plots(at: AppTest) -> dict[str, dict[str, Any]]:
    """What Plotly was given, by the name of the chart."""
    return {one.proto.id.rpartition("compared-")[2]: json.loads(one.proto.spec) for one in at.get("plotly_chart")}


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
    assert list(at.table[0].value.columns) == ["Figure", "Baseline"]


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
    assert at.toast[0].value.replace("\\", "") == "A run is going on already."


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


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured(tmp_path_factory.mktemp("strategies") / "runs.db")


def test_strategies_are_compared_with_advice(compared: Path) -> None:
    """What the figures teach stands first, each with a sign and a title; then curves and the table."""
    at = shown(compared, "Strategies")
    said = text_of(at)
    for title in (
        "Every failure is known",
        "A task a message costs memory",
        "Waiting for each ack is slow",
        "100 messages lost unseen",
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
    assert unasked["x"][:3] == [0.0, 0.0, 0.0]
    lost = next(trace for trace in fates["data"] if trace["name"] == "lost unseen")
    assert lost["customdata"] == [0, 0, 0, 100]


def test_fault_of_the_runs_is_marked_in_the_curves(compared: Path) -> None:
    """In words above them and as a band in each that is over time."""
    at = shown(compared, "Strategies")
    assert "Freeze the broker: in each run from 10.0 s to 13.3 s" in text_of(at)
    shapes = {name: chart["layout"].get("shapes", ()) for name, chart in plots(at).items()}
    banded = {name for name, found in shapes.items() if any(one["type"] == "rect" for one in found)}
    assert set(shapes) - banded == {"fates", "percentiles"}
    assert {"sent", "acked", "p99", "pending", "memory"} <= banded


def test_memory_is_a_curve_and_two_rows(compared: Path, tmp_path: Path) -> None:
    """A dash and the reason where it is not known, as in runs that an older version kept."""
    at = shown(compared, "Strategies")
    assert [max(trace["y"]) for trace in plots(at)["memory"]["data"]] == [54.0, 70.0, 51.0, 51.0]
    rows = {row.iloc[0]: list(row.iloc[1:]) for _, row in at.table[0].value.iterrows()}
    assert "▼ worse" in rows["memory, peak"][1]
    assert rows["stored by the broker"] == ["3,000", "3,000", "1,200", "2,900"]
    old = shown(measured(tmp_path / "old.db", stored=(None,) * 4, memory_mib=(None,) * 4), "Strategies")
    rows = {row.iloc[0]: list(row.iloc[1:]) for _, row in old.table[0].value.iterrows()}
    assert rows["memory, peak"] == rows["stored by the broker"] == [style.NOTHING] * 4
    assert "older AckScope" in " ".join(one.value for one in old.caption)
    assert "memory" not in plots(old)


def test_interrupted_comparison_is_shown_with_what_there_is(tmp_path: Path) -> None:
    """Its runs have no end and no report: what was stored cannot be set against what was sent."""
    at = shown(measured(tmp_path / "runs.db", status=None), "Strategies")
    assert "**Nobody knows what was lost.**" in text_of(at)
    assert plots(at)


# ---- a fault, and brokers ---------------------------------------------------------------------------------------


def test_fault_of_choice_is_in_each_run(tmp_path: Path) -> None:
    """With its moment and how long it lasts; without one its fields are off."""
    sequence = StubSequence()
    at = shown(tmp_path / "none.db", "Strategies", sequence=sequence)
    assert at.number_input(key="compare_fault_begin").disabled
    at.selectbox(key="compare_fault").set_value("freeze").run()
    at.number_input(key="compare_fault_begin").set_value(4)
    at.number_input(key="compare_fault_lasts").set_value(20).run()
    assert "Broken in each after 4" in at.caption[0].value
    assert "healed when the run stops sending" in at.caption[0].value
    at.button(key="run_all").click().run()
    assert not at.exception
    ((_, made),) = sequence.started
    assert {one.fault for one in made} == {PlannedFault("freeze", "Freeze the broker", 4.0, 20.0)}
    assert not any(one.settings.breakable_network for one in made)


def test_fault_on_the_network_sends_every_run_through_the_proxy(tmp_path: Path) -> None:
    """All of them, so that they differ in the strategy alone."""
    sequence = StubSequence()
    at = shown(tmp_path / "none.db", "Strategies", sequence=sequence)
    at.selectbox(key="compare_fault").set_value("blackhole").run()
    at.button(key="run_all").click().run()
    assert all(one.settings.breakable_network for one in sequence.started[0][1])


def test_fault_that_the_broker_cannot_have_is_refused_with_the_reason(tmp_path: Path) -> None:
    """It is there and locked, and nothing can be begun with it."""
    at = shown(tmp_path / "none.db", "Strategies")
    at.selectbox(key="compare_broker").set_value("embedded Kafka mock").run()
    labels = at.selectbox(key="compare_fault").options
    assert "🔒 Delete the stream" in labels
    assert "Freeze the broker" in labels
    at.selectbox(key="compare_fault").set_value("delete_stream").run()
    assert at.button(key="run_all").disabled
    assert "Delete the stream: The embedded Kafka mock has no such fault" in text_of(at)
    at.selectbox(key="compare_broker").set_value("embedded NATS").run()
    assert not at.button(key="run_all").disabled


def test_fault_after_the_end_of_its_run_is_refused(tmp_path: Path) -> None:
    """It would never begin."""
    at = shown(tmp_path / "none.db", "Strategies")
    at.selectbox(key="compare_fault").set_value("kill").run()
    at.number_input(key="compare_fault_begin").set_value(10).run()
    assert at.button(key="run_all").disabled
    assert "would begin after 10 s" in text_of(at)


class FailedControl(StubControl):
    """A control whose embedded brokers did not start."""

    def broker_status(self, url: str) -> BrokerStatus | None:
        return BrokerStatus(BrokerState.FAILED, NAMES["nats"], error="no nats-server here")


def test_broker_that_did_not_start_cannot_be_broken(tmp_path: Path) -> None:
    """The reason is the broker's own."""
    at = shown(tmp_path / "none.db", "Strategies", control=FailedControl())
    at.selectbox(key="compare_fault").set_value("kill").run()
    assert at.button(key="run_all").disabled
    assert "no nats-server here" in text_of(at)


def test_brokers_by_their_urls_are_compared(tmp_path: Path) -> None:
    """What is wrong with one is told before anything is begun; a fault needs both to be embedded."""
    sequence = StubSequence()
    at = shown(tmp_path / "none.db", "Brokers", sequence=sequence)
    at.selectbox(key="compare_first").set_value("Another, by its URL").run()
    assert at.button(key="run_all").disabled
    at.text_input(key="compare_first_url").set_value("what is this").run()
    assert "broker URL" in text_of(at)
    at.text_input(key="compare_first_url").set_value("nats://anna:secret@127.0.0.1:4222").run()
    assert not at.button(key="run_all").disabled
    at.text_input(key="compare_topic").set_value("test.events")
    at.selectbox(key="compare_fault").set_value("freeze").run()
    assert "did not start" in text_of(at)
    at.selectbox(key="compare_fault").set_value("").run()
    at.button(key="run_all").click().run()
    assert not at.exception
    ((kind, made),) = sequence.started
    assert kind == BROKERS
    assert [one.label for one in made] == ["nats://127.0.0.1:4222", "embedded Kafka mock"]
    assert {one.settings.topic for one in made} == {"test.events"}


def test_broker_is_not_compared_with_itself(tmp_path: Path) -> None:
    """That would be said to be a difference of brokers."""
    at = shown(tmp_path / "none.db", "Brokers")
    at.selectbox(key="compare_second").set_value("embedded NATS").run()
    assert at.button(key="run_all").disabled
    assert "Choose two" in text_of(at)


def test_fault_that_lasts_is_seen_in_the_progress(stored: Stored) -> None:
    """Beside the run that it is in."""
    now = going_on()
    step = replace(now.steps[0], state=StepState.RUNNING, fault="Freeze the broker", stage=FaultStage.LASTS)
    at = shown(stored.path, "Strategies", sequence=StubSequence(replace(now, steps=(step, *now.steps[1:]))))
    assert "Freeze the broker: broken now" in text_of(at)
