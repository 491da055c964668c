"""Freeze: the broker's process stands still, its connections stay open."""

from __future__ import annotations

from eventbus.faults.fault import Fault, Pausable


class Freeze(Fault):
    """SIGSTOP, and SIGCONT as the cure. What keeps the broker's process ends it when this program goes: not even then

    does it stay frozen.
    """

    name = "freeze"
    title = "Freeze the broker"
    breaks = "The broker's process stands still (SIGSTOP); its sockets stay open."
    expect = (
        "No ack comes, pending grows and acks time out; after the thaw most messages are acked late or as duplicates."
    )

    def __init__(self, broker: Pausable) -> None:
        self._broker = broker
        self._applied = False

    def apply(self) -> None:
        """SIGSTOP."""
        self._applied = True
        self._broker.pause()

    def undo(self) -> None:
        """SIGCONT."""
        if self._applied:
            self._broker.resume()
            self._applied = False
