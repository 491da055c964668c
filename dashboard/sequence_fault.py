"""FaultOfRun: one fault in one run of a sequence, begun at its moment and healed before the next. Pure: no streamlit.

The desk makes and heals it (dashboard/faults.py), and keeps both among the events of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dashboard.faults import Made, Offer
from dashboard.process import LoadRefused
from eventbus.faults import FaultState, FaultStatus
from eventbus.observe import RunInfo, StoreError


class FaultStage(StrEnum):
    """Where the fault of a run stands."""

    NONE = ""
    TO_COME = "to come"
    LASTS = "lasts"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """name, title: of a Fault. begin_s: seconds after the run began, the same in each run of a sequence.

    duration_s: as the desk takes it; the end of the run ends it sooner.
    """

    name: str
    title: str
    begin_s: float
    duration_s: float


class Desk(Protocol):
    """What is asked of FaultDesk."""

    def offers(self, run: RunInfo | None) -> Sequence[Offer]: ...

    def apply(self, run: RunInfo, name: str, duration_s: float) -> FaultStatus: ...

    def undo(self) -> None: ...

    def active(self) -> Made | None: ...

    def made(self, run_id: str) -> Sequence[FaultStatus]: ...


Find = Callable[[str], RunInfo | None]
"""A run of the store by its id; may raise StoreError."""


class FaultOfRun:
    """find: looks the run up when the fault begins, since the desk asks for what it publishes to, and where."""

    def __init__(self, desk: Desk, find: Find, run_id: str, planned: PlannedFault) -> None:
        self._desk, self._find = desk, find
        self._run_id, self._planned = run_id, planned
        self._begun = False

    def due_in_s(self, elapsed_s: float) -> float | None:
        """Seconds until it is to begin, 0 where that is past; None once it was begun. elapsed_s: of the run."""
        return None if self._begun else max(0.0, self._planned.begin_s - elapsed_s)

    def begin(self) -> None:
        """Make it; waits some seconds at most. Raises LoadRefused, with the reason, and then nothing is broken."""
        try:
            run = self._find(self._run_id)
        except StoreError as error:
            raise LoadRefused(str(error)) from error
        if run is None:
            raise LoadRefused("The store of runs does not have this run.")
        self._desk.apply(run, self._planned.name, self._planned.duration_s)
        self._begun = True

    @property
    def stage(self) -> FaultStage:
        """Where it stands. Never waits."""
        if not self._begun:
            return FaultStage.TO_COME
        return FaultStage.OVER if self._ours() is None else FaultStage.LASTS

    def end(self) -> str | None:
        """Heal what is left of it and wait for that; why it could not be healed, or None. Idempotent.

        Waits for what the desk's undo waits. Somebody else's fault, in another run, is left alone.
        """
        active = self._desk.active()
        if not self._begun or (active is not None and active.run_id != self._run_id):
            return None
        self._desk.undo()  # also where its time is over: then it may be healing just now
        if self._ours() is not None:
            return f"{self._planned.title}: is not healed yet"
        failed = next((one for one in self._desk.made(self._run_id) if one.state is FaultState.FAILED), None)
        return None if failed is None else f"{failed.title}: could not be undone: {failed.error}"

    def _ours(self) -> Made | None:
        active = self._desk.active()
        return active if active is not None and active.run_id == self._run_id else None
