"""LateMemory: messages that ended as UNKNOWN, kept so that an ack which comes late still finds them.

Invariants
- Everything in here is UNKNOWN; what turned into ACKED is not in here any more.
- Never more than ``WINDOWS_REMEMBERED`` windows of messages; the oldest go first, and stay UNKNOWN for good.

Counts nothing and tells nobody: that is the ledger's. Only AckHandler changes it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from eventbus.ack.pending import PendingAck
from eventbus.ack.state import AckEvent
from eventbus.ports import AckBatch

WINDOWS_REMEMBERED = 4
"""How many full windows are kept. A dead broker ends one whole window in each lifetime of a message, 33 s by default,
so four last about as long as a broker usually knows a message id (120 s). Where nothing may be tried again, a window
ends with every ack timeout, 5 s by default, and four last 20 s."""


class LateMemory:
    """Keeps the newest 4 * ``max_pending`` messages, about 1 KB each without their payloads: so the window's setting
    bounds this memory too (40,000 messages by default)."""

    __slots__ = ("_bound", "_messages")

    def __init__(self, max_pending: int) -> None:
        self._bound = WINDOWS_REMEMBERED * max_pending
        self._messages: OrderedDict[int, PendingAck] = OrderedDict()

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[PendingAck]:
        """All that is remembered, oldest first."""
        return iter(self._messages.values())

    def remember(self, unknown: Sequence[PendingAck]) -> None:
        """These have just ended as UNKNOWN: keep what a report needs of them, and let the oldest go."""
        for pending in unknown:
            pending.forget_payload()
            self._messages[pending.token] = pending
        while len(self._messages) > self._bound:
            self._messages.popitem(last=False)

    def acked(self, batch: AckBatch, token: int, offset: int, now_ns: int) -> PendingAck | None:
        """The message of that token, ACKED now; None where it is not here.

        Then it is the reply to a second copy of something acked before, or to something of long ago.
        """
        pending = self._messages.pop(token, None)
        if pending is not None:
            pending.advance(AckEvent.ACK)
            pending.place, pending.offset = (batch.log, batch.partition), offset
            pending.duplicate, pending.was_late = token in batch.duplicates, True
            pending.settled_ns = now_ns
        return pending
