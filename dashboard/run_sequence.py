"""RunSequence: runs one after the other, each begun when the one before it is over. Pure: no streamlit.

Each may have a fault, begun at its moment and healed before the next run begins, however the run ended.

It is shared by all sessions of the dashboard, outlives their pages, and uses the control as a person would. State
changes on its own thread only, and under the lock; whoever looks gets a frozen copy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from dashboard.control import LoadSettings, LoadStatus, Phase
from dashboard.process import LoadRefused
from dashboard.sequence_fault import Desk, FaultOfRun, FaultStage, Find, PlannedFault

LOOK_S = 0.2
"""Between two looks at the run that goes on."""
GRACE_S = 45.0
"""How much longer than it was to send a run may take, its drain included, before it is stopped."""
STOP_S = 45.0
"""Longest wait for a run that was stopped: a worker's drain ends after 30 s."""
EARLY_S = 1.0
"""A run that is over so much before its time has not ended by its plan. It began a moment before we knew."""
MAX_RUNS = 8


class StepState(StrEnum):
    """How one run of a sequence is."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    """By hand."""
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Planned:
    """A run to do. label: what tells it from the others. ``settings.duration_s`` must be given: all is bounded.

    fault: what is broken while it goes on; it begins before the run's duration is over.
    """

    label: str
    settings: LoadSettings
    fault: PlannedFault | None = None


@dataclass(frozen=True, slots=True)
class SequenceStep:
    """A run of a sequence. run_id: None until it has begun. error: why it failed or was skipped.

    fault: the title of what is broken in it, or empty. stage: where that stands.
    """

    label: str
    duration_s: float
    state: StepState = StepState.WAITING
    run_id: str | None = None
    error: str | None = None
    began_s: float | None = None
    fault: str = ""
    stage: FaultStage = FaultStage.NONE


@dataclass(frozen=True, slots=True)
class SequenceStatus:
    """A sequence at one moment. kind: which comparison it is for. active: some run of it goes on or is to come.

    elapsed_s: of the run that goes on; 0 where none does.
    """

    kind: str = ""
    steps: tuple[SequenceStep, ...] = ()
    active: bool = False
    cancelled: bool = False
    elapsed_s: float = 0.0

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Of the runs that were done to their end, in their order."""
        return tuple(s.run_id for s in self.steps if s.run_id is not None and s.state is StepState.DONE)

    @property
    def share(self) -> float:
        """How much of the whole is past, from 0 to 1."""
        whole = sum(step.duration_s for step in self.steps)
        over = (StepState.DONE, StepState.FAILED, StepState.STOPPED, StepState.SKIPPED)
        past = sum(
            step.duration_s
            if step.state in over
            else min(self.elapsed_s, step.duration_s)
            if step.state is StepState.RUNNING
            else 0.0
            for step in self.steps
        )
        return past / whole if whole else 0.0


class Control(Protocol):
    """What is asked of LoadControl."""

    def status(self) -> LoadStatus: ...

    def start(self, settings: LoadSettings) -> str: ...

    def stop(self) -> None: ...


class Counts(Protocol):
    """What is asked of StoredCount. Both wait, some seconds at most, and raise nothing."""

    def begin(self, settings: LoadSettings) -> object:
        """Where the broker's store stands before a run."""

    def end(self, mark: object, settings: LoadSettings, run_id: str) -> None:
        """Keep with the run how many messages came into the store since ``mark``."""


class RunSequence:
    """Does one sequence at a time, on a thread of its own. Methods may be called from any thread.

    desk: makes faults, of runs that find looks up; without them no run may have one. counts: counts what each run
    stored. clock: monotonic seconds. wait: waits so many seconds, or until the event is set; True if it is.
    """

    def __init__(
        self,
        control: Control,
        *,
        desk: Desk | None = None,
        find: Find = lambda run_id: None,
        counts: Counts | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self.desk = desk
        self._control, self._find, self._counts = control, find, counts
        self._clock, self._wait = clock, wait
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._thread: threading.Thread | None = None
        self._status = SequenceStatus()

    def status(self) -> SequenceStatus:
        """Where it stands. Never waits."""
        now = self._status
        running = next((s for s in now.steps if s.state is StepState.RUNNING and s.began_s is not None), None)
        if running is None or running.began_s is None:
            return now
        return replace(now, elapsed_s=max(0.0, self._clock() - running.began_s))

    def start(self, kind: str, planned: Sequence[Planned]) -> None:
        """Begin. Raises LoadRefused where one goes on, or any other run."""
        if not 1 <= len(planned) <= MAX_RUNS:
            raise ValueError(f"{len(planned)} runs in a sequence; give 1 to {MAX_RUNS}")
        if any(one.settings.duration_s is None for one in planned):
            raise ValueError("a run of a sequence needs a duration")
        if any(one.fault is not None and not self._can_begin(one.fault, one.settings) for one in planned):
            raise ValueError("a fault needs somebody who makes it, and a moment within its run")
        with self._lock:
            if self._status.active:
                raise LoadRefused("A comparison is going on already. Wait for its end, or stop it.")
            if self._control.status().active:
                raise LoadRefused("A run is going on already. Stop it on Live first, or wait for its end.")
            self._cancelled.clear()
            steps = tuple(map(_step_of, planned))
            self._status = SequenceStatus(kind, steps, active=True)
            self._thread = threading.Thread(target=self._work, args=(planned,), name="run-sequence", daemon=True)
            self._thread.start()

    def cancel(self) -> None:
        """Stop the run that goes on and leave out those to come. Returns at once; idempotent."""
        self._cancelled.set()

    def close(self, timeout_s: float = 1.0) -> None:
        """The same, and wait for the end at most so long. The control ends what is left."""
        self.cancel()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _work(self, planned: Sequence[Planned]) -> None:
        try:
            for place, one in enumerate(planned):
                if self._cancelled.is_set():
                    self._set(place, state=StepState.SKIPPED)
                    continue
                self._one(place, one)
        finally:
            with self._lock:
                self._status = replace(self._status, active=False, cancelled=self._cancelled.is_set())

    def _can_begin(self, fault: PlannedFault, settings: LoadSettings) -> bool:
        return self.desk is not None and 0 <= fault.begin_s < (settings.duration_s or 0.0)

    def _one(self, place: int, one: Planned) -> None:
        self._set(place, state=StepState.STARTING)
        mark = None if self._counts is None else self._counts.begin(one.settings)
        try:
            run_id = self._control.start(one.settings)
        except LoadRefused as refusal:
            self._set(place, state=StepState.FAILED, error=str(refusal))
            if self._control.status().active:  # somebody else's run: the next ones would not fare better
                self._cancelled.set()
            return
        self._set(place, state=StepState.RUNNING, run_id=run_id, began_s=self._clock())
        fault = None
        if one.fault is not None and self.desk is not None:
            fault = FaultOfRun(self.desk, self._find, run_id, one.fault)
        try:
            state, error = self._watch(place, run_id, one.settings.duration_s or 0.0, fault)
        finally:
            unhealed = None if fault is None else fault.end()
        if unhealed is not None:
            self._cancelled.set()  # the next runs would not have the same fault, but this one
            state, error = StepState.FAILED, f"{unhealed}, so the rest was left out"
        if self._counts is not None and state is StepState.DONE:
            self._counts.end(mark, one.settings, run_id)
        self._set(place, state=state, error=error, **({} if fault is None else {"stage": fault.stage}))

    def _watch(
        self, place: int, run_id: str, duration_s: float, fault: FaultOfRun | None
    ) -> tuple[StepState, str | None]:
        """Until the run is over: how it ended. Whenever it is stopped here, what is broken is healed before."""
        began_s = self._clock()
        deadline_s = began_s + duration_s + GRACE_S
        while (seen := self._control.status()).active and seen.run_id == run_id:
            if seen.phase is Phase.STOPPING:
                self._cancelled.set()  # by hand, on Live: who stops one run of a comparison wants no more of them
                self._end(run_id, fault)
                return StepState.STOPPED, "stopped on another page, so the rest was left out"
            if self._clock() >= deadline_s:
                self._end(run_id, fault)
                return StepState.FAILED, f"not over {GRACE_S:.0f} s after it should have been: stopped"
            try:
                pause_s = min(LOOK_S, self._break(place, fault, self._clock() - began_s))
            except LoadRefused as refusal:
                self._end(run_id, fault)
                return StepState.FAILED, f"its fault could not be made: {refusal}"
            if self._wait(self._cancelled, pause_s):
                self._end(run_id, fault)
                return StepState.STOPPED, None
        if seen.run_id == run_id and seen.error:
            return StepState.FAILED, seen.error
        if self._clock() - began_s < duration_s - EARLY_S:
            self._cancelled.set()  # stopped between two looks
            return StepState.STOPPED, "over before its time, so the rest was left out"
        return StepState.DONE, None

    def _break(self, place: int, fault: FaultOfRun | None, elapsed_s: float) -> float:
        """Begin the fault where it is due; the seconds until then. Raises LoadRefused where it cannot be made."""
        if fault is None:
            return LOOK_S
        due_in_s = fault.due_in_s(elapsed_s)
        if due_in_s == 0:
            fault.begin()
        self._set(place, stage=fault.stage)
        return due_in_s or LOOK_S

    def _end(self, run_id: str, fault: FaultOfRun | None) -> None:
        """Heal, stop, and wait until it is over: a run whose broker stands still could not drain."""
        if fault is not None:
            fault.end()
        if self._control.status().phase is not Phase.STOPPING:
            self._control.stop()
        self._wait_over(run_id)

    def _wait_over(self, run_id: str) -> None:
        deadline_s = self._clock() + STOP_S
        never = threading.Event()
        while (seen := self._control.status()).active and seen.run_id == run_id and self._clock() < deadline_s:
            self._wait(never, LOOK_S)

    def _set(self, place: int, **changes: object) -> None:
        with self._lock:
            steps = list(self._status.steps)
            steps[place] = replace(steps[place], **changes)  # type: ignore[arg-type]  # names of SequenceStep's fields
            self._status = replace(self._status, steps=tuple(steps))


def _step_of(planned: Planned) -> SequenceStep:
    duration_s = planned.settings.duration_s or 0.0
    if planned.fault is None:
        return SequenceStep(planned.label, duration_s)
    return SequenceStep(planned.label, duration_s, fault=planned.fault.title, stage=FaultStage.TO_COME)
