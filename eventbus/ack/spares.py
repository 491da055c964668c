"""Spares: pending acks whose receipt nobody kept, to be used again.

Most publishers drop the receipt. Making and freeing an object for each message costs some 0.2 us, and twice as much in
the garbage collector, which looks through every new object several times (CPython 3.11). An object that is used again
costs neither.

Invariants
- An object is here only if nothing else refers to it: CPython's reference count says so, and since a PendingAck cannot
  be referred to weakly, nobody can ever see that it was somebody else's.
- At most ``max_pending`` of them, without payloads: as many as the window could need at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from eventbus.ack.pending import PendingAck

_COUNTED = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
"""Only where an object's reference count tells all there is to know."""


def _references(objects: Sequence[object]) -> list[int]:
    return [sys.getrefcount(each) for each in objects]


_UNKEPT = _references([object()])[0] if _COUNTED else 0
"""What ``_references`` says of an object that nothing but the sequence holds. Asked and not written down, since it
depends on how this Python passes arguments."""


class Spares:
    """``stack``: taken from by the ledger on its hot path; the rest changes only here."""

    __slots__ = ("_bound", "stack")

    def __init__(self, max_pending: int) -> None:
        self._bound = max_pending
        self.stack: list[PendingAck] = []

    def keep(self, settled: Sequence[PendingAck]) -> None:
        """Take those of these that nobody else refers to. They are settled, and in no part of the ledger any more."""
        if not _COUNTED or len(self.stack) >= self._bound:
            return
        unkept = [pending for pending, count in zip(settled, _references(settled), strict=True) if count == _UNKEPT]
        for pending in unkept:
            pending.payload = b""
            pending.extras = None
        self.stack += unkept
