"""Drain: who waits until everything accepted before a certain message is settled.

Tokens grow in the order of acceptance, so that has happened once the oldest pending message has a later token.
Any number may wait; only AckHandler changes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus.ack.pending import PendingAck

if TYPE_CHECKING:
    from asyncio import Future


class Drain:
    """``waiting`` is read by the ledger (does anybody wait?) after every batch; it changes only through the methods."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Future[None]]] = []  # (last token waited for, who waits)

    async def wait(self, last_token: int, future: Future[None]) -> None:
        """Until all up to ``last_token`` is settled. Cancelling only stops the waiting."""
        entry = (last_token, future)
        self.waiting.append(entry)
        try:
            await future
        finally:
            self.waiting.remove(entry)

    def wake(self, oldest: PendingAck | None) -> None:
        """Something was settled, and ``oldest`` is what is pending for the longest time: wake whom that concerns."""
        for last_token, future in self.waiting:
            if (oldest is None or oldest.token > last_token) and not future.done():
                future.set_result(None)
