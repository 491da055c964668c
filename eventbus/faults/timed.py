"""TimedFault: a fault that ends, whatever happens.

It is undone at the first of: its time is over, ``undo`` is called, what it was for is over, this program ends. A
program that is killed cannot undo; then the processes that keep the embedded broker and its proxy end these, so that
nothing stays frozen, down or in the way.

State: ``_status`` is replaced under ``_lock``; the thread that heals is the only one that ends it.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from eventbus.errors import EventBusError
from eventbus.faults.fault import Fault, FaultError

MAX_DURATION_S = 600.0
POLL_S = 0.1
"""How often it is looked whether what the fault was for is over."""
TRIES = 3
"""How often undoing is tried, TRY_PAUSE_S apart."""
TRY_PAUSE_S = 0.5
UNDO_TIMEOUT_S = 40.0
"""Longest wait for an undo by hand: three tries of a broker's start."""


class FaultState(StrEnum):
    """Where a fault stands."""

    ACTIVE = "active"
    UNDONE = "undone"
    FAILED = "failed"
    """It could not be undone; the error says why."""


class EndedBy(StrEnum):
    """Why it was undone."""

    TIME = "time over"
    HAND = "by hand"
    RUN = "run over"


@dataclass(frozen=True, slots=True)
class FaultStatus:
    """One fault that was made. Times are seconds since the epoch; ended_wall_s None while it lasts."""

    name: str
    title: str
    expect: str
    began_wall_s: float
    duration_s: float
    state: FaultState = FaultState.ACTIVE
    ended_wall_s: float | None = None
    ended_by: EndedBy | None = None
    error: str | None = None

    @property
    def ends_wall_s(self) -> float:
        """When its time is over, or was."""
        return self.began_wall_s + self.duration_s


class TimedFault:
    """duration_s: more than 0, at most MAX_DURATION_S. over: whether what it is for has ended; asked each 0.1 s in a

    thread, and must not wait. told: called in that thread with the status when it has ended; it must not raise.
    wall_s: the time of day.
    """

    def __init__(
        self,
        fault: Fault,
        duration_s: float,
        *,
        over: Callable[[], bool] = lambda: False,
        told: Callable[[FaultStatus], None] = lambda status: None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        if not 0 < duration_s <= MAX_DURATION_S:
            raise FaultError(f"the duration is {duration_s} s; use more than 0 and at most {MAX_DURATION_S:.0f} s")
        self.fault = fault
        self._duration_s, self._over, self._told, self._wall_s = duration_s, over, told, wall_s
        self._by_hand = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._status: FaultStatus | None = None

    @property
    def status(self) -> FaultStatus | None:
        """How it is; None before ``begin``. Never waits."""
        return self._status

    def begin(self) -> FaultStatus:
        """Make the fault; once. Raises EventBusError, and then nothing was changed that lasts."""
        with self._lock:
            if self._status is not None:
                raise FaultError(f"{self.fault.title}: was made already; make another one")
            try:
                self.fault.apply()
            except EventBusError:
                self._undone()  # of what it may have done of several steps
                raise
            self._status = FaultStatus(
                self.fault.name, self.fault.title, self.fault.expect, self._wall_s(), self._duration_s
            )
            atexit.register(self.undo)
            # A daemon: what it waits for is no reason for a program to stay; at its end ``undo`` is called.
            self._thread = threading.Thread(target=self._await_end, name=f"fault-{self.fault.name}", daemon=True)
            self._thread.start()
            return self._status

    def undo(self) -> FaultStatus | None:
        """End it now, and wait until it has been undone. Idempotent; returns how it is then."""
        self._by_hand.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(UNDO_TIMEOUT_S)
        return self._status

    def _await_end(self) -> None:
        deadline = time.monotonic() + self._duration_s
        reason = EndedBy.TIME
        while (remaining := deadline - time.monotonic()) > 0:
            if self._by_hand.wait(min(POLL_S, remaining)):
                reason = EndedBy.HAND
                break
            if self._over():
                reason = EndedBy.RUN
                break
        error = self._undone()
        assert self._status is not None
        self._status = replace(
            self._status,
            state=FaultState.UNDONE if error is None else FaultState.FAILED,
            ended_wall_s=self._wall_s(),
            ended_by=reason,
            error=error,
        )
        atexit.unregister(self.undo)
        self._told(self._status)

    def _undone(self) -> str | None:
        """Undo, with a few tries; what went wrong, or None."""
        error: EventBusError | None = None
        for attempt in range(TRIES):
            if attempt:
                threading.Event().wait(TRY_PAUSE_S)
            try:
                self.fault.undo()
                return None
            except EventBusError as failure:
                error = failure
        return str(error)
