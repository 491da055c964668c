"""ResetConnections: connections break off, again and again."""

from __future__ import annotations

from eventbus.faults.fault import Fault
from eventbus.faults.network import Network


class ResetConnections(Fault):
    """every_s: between two resets (RST, on both sides), the first at once."""

    name = "reset"
    title = "Reset connections"

    def __init__(self, network: Network, *, every_s: float = 1.0) -> None:
        if not every_s > 0:
            raise ValueError(f"every_s is {every_s}; use more than 0 seconds")
        self._network, self._every_s = network, every_s
        self._applied = False
        self.breaks = f"Every connection to the server is reset, at once and then every {every_s:g} s."
        self.expect = (
            "Each reset puts what is in flight in doubt; the bus reconnects and sends it again with the same message "
            "id, so that it is acked, some of it as duplicates."
        )

    def apply(self) -> None:
        """Reset, and begin to do so again and again."""
        self._applied = True
        self._network.reset(self._every_s)

    def undo(self) -> None:
        """Reset no more."""
        if self._applied:
            self._network.reset_no_more()
            self._applied = False
