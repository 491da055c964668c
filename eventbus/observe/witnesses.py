"""Witnesses: one witness in front of several parts of AckScope that each see every outcome."""

from __future__ import annotations

from collections.abc import Sequence

from eventbus.ports import Ended, Witness
from eventbus.report import AckOutcome


class Witnesses:
    """Implements ports.Witness: tells each of ``witnesses``, in their order."""

    def __init__(self, witnesses: Sequence[Witness]) -> None:
        self._witnesses = tuple(witnesses)

    @classmethod
    def of(cls, *witnesses: Witness | None) -> Witness | None:
        """All that are there: none for none, and the one itself where there is one, which costs nothing."""
        there = [witness for witness in witnesses if witness is not None]
        return cls(there) if len(there) > 1 else next(iter(there), None)

    def ended(self, outcome: AckOutcome, settled: Sequence[Ended], now_ns: int) -> None:
        """Pass it on."""
        for witness in self._witnesses:
            witness.ended(outcome, settled, now_ns)

    def acked_late(self, pending: Ended, now_ns: int) -> None:
        """Pass it on."""
        for witness in self._witnesses:
            witness.acked_late(pending, now_ns)
