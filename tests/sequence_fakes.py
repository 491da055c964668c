"""A control whose time passes when somebody waits, and sequences of runs on it, for the dashboard's tests."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dashboard.comparison import ComparisonPlan
from dashboard.control import LoadSettings, LoadStatus, Phase
from dashboard.process import LoadRefused
from dashboard.run_sequence import Planned, RunSequence, SequenceStatus, StepState

DEADLINE_S = 20.0


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
