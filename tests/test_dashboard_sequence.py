"""The sequence of runs behind the Compare page: one after the other, the fault of each, and what the broker stored."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.broker import NATS_URL, BrokerState, BrokerStatus, embedded_nats
from dashboard.comparison import BROKERS, STRATEGIES, ComparisonPlan, strategy_runs
from dashboard.control import LoadControl, LoadSettings, LoadStatus, Phase
from dashboard.faults import FaultDesk, Made, Offer
from dashboard.process import LoadRefused
from dashboard.run_sequence import GRACE_S, Planned, RunSequence, SequenceStatus, StepState
from dashboard.sequence_fault import FaultStage, PlannedFault
from dashboard.stored_count import Mark, StoredCount, grown, look_at_kafka, look_at_nats, note_of, stored_in
from eventbus import EventKind, connect
from eventbus.embedded.kafka import EmbeddedKafka
from eventbus.faults import FaultState, FaultStatus
from eventbus.observe import RunInfo, StoreError, StoreReader
from tests.dashboard_fakes import run_info
from tests.sequence_fakes import ScriptedControl, ended, planned, sequence_of, states
from tests.stored_runs import keep

posix = pytest.mark.skipif(sys.platform == "win32", reason="embedded brokers need Linux or macOS")


def until(condition: Callable[[], bool], what: str) -> None:
    deadline, pause = time.monotonic() + 60, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited 60 s in vain: {what}"
        pause.wait(0.02)


# ---- one after the other ----------------------------------------------------------------------------------------


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


# ---- a fault in each run ----------------------------------------------------------------------------------------

FREEZE = PlannedFault("freeze", "Freeze the broker", 4.0, 3.0)


class ScriptedDesk:
    """A desk whose fault lasts until it is undone; it notes when it was asked for what, in the control's time."""

    def __init__(self, control: ScriptedControl, *, refusal: str | None = None, failure: str | None = None) -> None:
        self._control, self._refusal, self._failure = control, refusal, failure
        self.log: list[tuple[str, str, float]] = []
        self._active: Made | None = None
        self._made: list[Made] = []

    def offers(self, run: RunInfo | None) -> Sequence[Offer]:
        return FaultDesk({}, running=lambda: None).offers(run)

    def apply(self, run: RunInfo, name: str, duration_s: float) -> FaultStatus:
        if self._refusal is not None:
            raise LoadRefused(self._refusal)
        status = FaultStatus(name, "Freeze the broker", "", 0.0, duration_s)
        self._active = Made(run.run_id, status)
        self.log.append(("broken", run.run_id, self._control.now_s))
        return status

    def undo(self) -> None:
        if self._active is None:
            return
        run_id, status = self._active.run_id, self._active.status
        state = FaultState.UNDONE if self._failure is None else FaultState.FAILED
        self._made.append(Made(run_id, replace(status, state=state, error=self._failure)))
        self._active = None
        self.log.append(("healed", run_id, self._control.now_s))

    def active(self) -> Made | None:
        return self._active

    def made(self, run_id: str) -> Sequence[FaultStatus]:
        return [made.status for made in self._made if made.run_id == run_id]


def broken_sequence(control: ScriptedControl, desk: ScriptedDesk | None, **more: Any) -> RunSequence:
    find = more.pop("find", lambda run_id: run_info(run_id=run_id))
    return RunSequence(control, desk=desk, find=find, clock=lambda: control.now_s, wait=control.wait, **more)


def broken(number: int = 3, fault: PlannedFault = FREEZE) -> list[Planned]:
    return [replace(one, fault=fault) for one in planned(number)]


def test_fault_begins_at_the_same_moment_of_each_run_and_is_healed_before_the_next() -> None:
    """Also where the desk would let it last longer than its run."""
    control = ScriptedControl()
    desk = ScriptedDesk(control)
    sequence = broken_sequence(control, desk)
    sequence.start(STRATEGIES, broken())
    seen = ended(sequence)
    assert states(seen) == [StepState.DONE] * 3
    assert [(what, run_id) for what, run_id, _ in desk.log] == [
        (what, f"run-{number}") for number in range(3) for what in ("broken", "healed")
    ]
    begun = [at_s for what, _, at_s in desk.log if what == "broken"]
    assert begun == [4.0 + step for step in (0.0, begun[1] - 4.0, begun[2] - 4.0)]
    assert {round(at_s % (begun[1] - begun[0]), 6) for at_s in begun} == {4.0}
    assert [(step.fault, step.stage) for step in seen.steps] == [("Freeze the broker", FaultStage.OVER)] * 3


def test_fault_is_healed_when_the_sequence_is_stopped() -> None:
    """And before the run is: a broker that stands still would hold up its drain."""
    control = ScriptedControl(lambda looks, seen: seen)
    desk = ScriptedDesk(control)
    sequence = broken_sequence(control, desk)
    apply, stop = desk.apply, control.stop

    def applied(run: RunInfo, name: str, duration_s: float) -> FaultStatus:
        sequence.cancel()
        return apply(run, name, duration_s)

    def stopped() -> None:
        desk.log.append(("stopped", "run-0", control.now_s))
        stop()

    desk.apply, control.stop = applied, stopped  # type: ignore[method-assign]
    sequence.start(STRATEGIES, broken())
    seen = ended(sequence)
    assert states(seen) == [StepState.STOPPED, StepState.SKIPPED, StepState.SKIPPED]
    assert [what for what, _, _ in desk.log] == ["broken", "healed", "stopped"]


def test_fault_is_healed_when_a_run_fails() -> None:
    """The next run begins with a broker that works."""

    def after(looks: int, seen: LoadStatus) -> LoadStatus:
        error = "the broker is gone" if seen.run_id == "run-0" else None
        return LoadStatus(run_id=seen.run_id, error=error) if looks > 5 else seen

    control = ScriptedControl(after)
    desk = ScriptedDesk(control)
    sequence = broken_sequence(control, desk)
    sequence.start(STRATEGIES, broken(2))
    assert states(ended(sequence)) == [StepState.FAILED, StepState.DONE]
    assert [(what, run_id) for what, run_id, _ in desk.log][:2] == [("broken", "run-0"), ("healed", "run-0")]


def test_run_whose_fault_cannot_be_made_fails() -> None:
    """It would not be the same as the others; the reason is told."""
    control = ScriptedControl(lambda looks, seen: LoadStatus(run_id=seen.run_id) if looks > 5 else seen)
    sequence = broken_sequence(control, ScriptedDesk(control, refusal="Something is broken already."))
    sequence.start(STRATEGIES, broken(1))
    (step,) = ended(sequence).steps
    assert (step.state, step.error) == (StepState.FAILED, "its fault could not be made: Something is broken already.")
    assert control.stops == 1


@pytest.mark.parametrize("trouble", [None, "the store is locked"])
def test_run_that_the_store_does_not_have_cannot_be_broken(trouble: str | None) -> None:
    """The desk needs to know what it publishes to; a store that fails is told of, and does no harm."""

    def find(run_id: str) -> RunInfo | None:
        if trouble is not None:
            raise StoreError(trouble)
        return None

    control = ScriptedControl()
    sequence = broken_sequence(control, ScriptedDesk(control), find=find)
    sequence.start(STRATEGIES, broken(1))
    (step,) = ended(sequence).steps
    assert step.state is StepState.FAILED
    assert (trouble or "does not have this run") in (step.error or "")


def test_fault_that_cannot_be_undone_ends_the_sequence() -> None:
    """What comes after it would have two causes."""
    control = ScriptedControl()
    sequence = broken_sequence(control, ScriptedDesk(control, failure="no such process"))
    sequence.start(STRATEGIES, broken())
    seen = ended(sequence)
    assert states(seen) == [StepState.FAILED, StepState.SKIPPED, StepState.SKIPPED]
    assert "could not be undone: no such process, so the rest was left out" in (seen.steps[0].error or "")


def test_fault_of_another_run_is_left_alone() -> None:
    """Whoever made it for a run of theirs undoes it."""
    control = ScriptedControl()
    desk = ScriptedDesk(control)
    sequence = broken_sequence(control, desk)
    desk.apply(run_info(run_id="theirs"), "freeze", 60.0)
    sequence.start(STRATEGIES, planned(1))
    assert states(ended(sequence)) == [StepState.DONE]
    assert desk.active() is not None


def test_sequence_with_a_fault_that_could_never_begin_is_refused() -> None:
    """Without a desk, or after the end of the run."""
    control = ScriptedControl()
    for sequence, fault in (
        (broken_sequence(control, None), FREEZE),
        (broken_sequence(control, ScriptedDesk(control)), replace(FREEZE, begin_s=10.0)),
    ):
        with pytest.raises(ValueError, match="a moment within its run"):
            sequence.start(STRATEGIES, broken(1, fault))


class ScriptedCounts:
    """Notes between what a count is taken."""

    def __init__(self, control: ScriptedControl, desk: ScriptedDesk) -> None:
        self._control, self._desk = control, desk
        self.log: list[tuple[object, str, bool]] = []

    def begin(self, settings: LoadSettings) -> object:
        return len(self._control.started)

    def end(self, mark: object, settings: LoadSettings, run_id: str) -> None:
        self.log.append((mark, run_id, self._desk.active() is None))


def test_what_the_broker_stored_is_counted_around_each_run() -> None:
    """Before it begins, and when it is over and its fault is healed; not of a run that was not done to its end."""
    control = ScriptedControl()
    desk = ScriptedDesk(control)
    counts = ScriptedCounts(control, desk)
    sequence = broken_sequence(control, desk, counts=counts)
    control.refusals[1] = "no broker"
    sequence.start(STRATEGIES, broken())
    ended(sequence)
    assert counts.log == [(0, "run-0", True), (2, "run-2", True)]


# ---- what the broker stored -------------------------------------------------------------------------------------


@given(st.integers(0, 10**12), st.text(max_size=40))
def test_count_is_read_again_from_the_notes_that_it_was_written_to(count: int, other: str) -> None:
    """Whatever people wrote before it."""
    assert stored_in(f"{other}\n{note_of(count)}") == count or stored_in(other) is not None


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_growth_of_one_store_is_the_difference_and_never_negative(before: int, after: int) -> None:
    """A counter that went back is of another store."""
    told = grown(Mark("nats://a", before, "1"), Mark("nats://a", after, "1"))
    assert told == (after - before if after >= before else None)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (Mark("a", 0, None), Mark("a", 5, "made in between"), 5),
        (Mark("a", 3, "first"), Mark("a", 5, "second"), None),
        (Mark("a", 3, "first"), Mark("another", 5, "first"), None),
        (None, Mark("a", 5, "first"), None),
        (Mark("a", 3, "first"), None, None),
    ],
)
def test_growth_of_a_store_that_is_not_the_same_is_not_known(
    before: Mark | None, after: Mark | None, told: int | None
) -> None:
    """Made afresh, at another address, or not seen: only one that was not there before began at nothing."""
    assert grown(before, after) == told


class ReadyControl:
    """A control whose broker is in that state."""

    def __init__(self, state: BrokerState = BrokerState.READY) -> None:
        self.state = state

    def broker_status(self, url: str) -> BrokerStatus | None:
        return BrokerStatus(
            self.state, "embedded NATS", "nats://127.0.0.1:1" if self.state is BrokerState.READY else None
        )

    def start_broker(self, url: str) -> None:
        """It is there, or will never be."""


def test_count_is_kept_with_the_run(tmp_path: Path) -> None:
    """Once it stands still, beside what people noted."""
    stored = keep(tmp_path / "runs.db")
    source, answers = StoreReader(stored.path), iter([100, 8_000, 8_100, 8_100])
    counts = StoredCount(ReadyControl(), source, {NATS_URL: lambda url, topic: Mark(url, next(answers), "1")})
    settings = LoadSettings(NATS_URL, "t", 1.0)
    counts.end(counts.begin(settings), settings, stored.bad)
    told = source.run(stored.bad)
    assert told is not None
    assert told.notes.startswith("two\nlines")
    assert stored_in(told.notes) == 8_000
    counts.end(None, settings, stored.good)
    counts.end(Mark("nats://127.0.0.1:1", 0, "1"), settings, "no such run")


def test_broker_that_does_not_answer_is_not_counted(tmp_path: Path) -> None:
    """Nor one that did not start, or that is not ours: nothing is raised, and nothing is known."""

    def look(url: str, topic: str) -> Mark:
        raise OSError("refused")

    source, looks = StoreReader(tmp_path / "none.db"), {NATS_URL: look}
    assert StoredCount(ReadyControl(), source, looks).begin(LoadSettings(NATS_URL, "t", 1.0)) is None
    assert StoredCount(ReadyControl(), source, looks).begin(LoadSettings("nats://h:1", "t", 1.0)) is None
    failed = StoredCount(ReadyControl(BrokerState.FAILED), source, looks)
    assert failed.begin(LoadSettings(NATS_URL, "t", 1.0)) is None


# ---- with a real broker -----------------------------------------------------------------------------------------


@posix
@pytest.mark.integration
def test_each_run_on_a_real_broker_has_the_fault_and_leaves_it_healed(tmp_path: Path) -> None:
    """The second is cancelled while the broker stands still: it answers again, and every end is among the events."""
    path = tmp_path / "runs.db"
    control, source = LoadControl(path, brokers={NATS_URL: embedded_nats}), StoreReader(path)
    try:
        sequence = RunSequence(control, desk=control.faults, find=source.run, counts=StoredCount(control, source))
        plan = ComparisonPlan(rate=200.0, duration_s=3.0, fault=replace(FREEZE, begin_s=0.5, duration_s=2.0))
        first = strategy_runs(plan, "1")[0]
        second = strategy_runs(replace(plan, duration_s=60.0, fault=replace(FREEZE, duration_s=50.0)), "1")[3]
        sequence.start(STRATEGIES, [first, second])
        until(lambda: sequence.status().steps[1].stage is FaultStage.LASTS, "the fault of the second run")
        sequence.cancel()
        until(lambda: not sequence.status().active, "the end of the sequence")
        seen = sequence.status()
        assert [(step.state, step.stage, step.error) for step in seen.steps] == [
            (StepState.DONE, FaultStage.OVER, None),
            (StepState.STOPPED, FaultStage.OVER, None),
        ]
        assert control.faults.active() is None
        told = [source.events(step.run_id or "") for step in seen.steps]
        kinds = [[event.kind for event in events if "fault" in event.kind] for events in told]
        assert kinds == [[EventKind.FAULT_BEGAN, EventKind.FAULT_ENDED]] * 2
        done = source.run(seen.steps[0].run_id or "")
        assert done is not None
        assert stored_in(done.notes) == (done.report or {})["accepted"] == 600
        assert look_at_nats(control.broker_status(NATS_URL).url, "demo.events").count >= 600  # type: ignore[union-attr, arg-type]
    finally:
        control.close()


@posix
@pytest.mark.integration
def test_what_the_mock_of_kafka_stored_is_counted() -> None:
    """A topic that is not there yet has nothing."""
    mock = EmbeddedKafka()
    mock.start()
    try:
        before = look_at_kafka(mock.url, "counted")
        assert (before.count, before.since) == (0, None)
        asyncio.run(_publish(mock.url, "counted", 7))
        assert grown(before, look_at_kafka(mock.url, "counted")) == 7
    finally:
        mock.stop()


async def _publish(url: str, topic: str, number: int) -> None:
    async with connect(url) as bus:
        for _ in range(number):
            await bus.publish(topic, b"x")
