"""Kill: the broker's process is gone, until it is started again on the same port."""

from __future__ import annotations

from eventbus.faults.fault import Fault, Killable


class Kill(Fault):
    """SIGKILL, and a start on the same port and store as the cure. keeps_store: whether what was stored outlives it."""

    name = "kill"
    title = "Kill and restart"

    def __init__(self, broker: Killable, *, keeps_store: bool = True) -> None:
        self._broker = broker
        self._applied = False
        store = "the same store" if keeps_store else "an empty store, since the mock keeps everything in memory"
        self.breaks = f"The broker's process is killed (SIGKILL) and started again at the end, on {store}."
        self.expect = (
            "The connection is lost and what was in flight is in doubt; after the restart it is sent again with the "
            "same message id, and nothing is stored twice."
            if keeps_store
            else "The connection is lost: what was sent and not answered becomes unknown, what was not sent waits."
        )

    def apply(self) -> None:
        """SIGKILL."""
        self._applied = True
        self._broker.kill()

    def undo(self) -> None:
        """Start it again."""
        if self._applied:
            self._broker.start()
            self._applied = False
