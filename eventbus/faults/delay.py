"""Delay: the network between clients and server is slow and uneven."""

from __future__ import annotations

from eventbus.faults.fault import Fault
from eventbus.faults.network import Network
from eventbus.faults.proxy import Disturbance


class Delay(Fault):
    """delay_s: added to each way. jitter_s: up to this more, at random; the order stays, as TCP keeps it."""

    name = "delay"
    title = "Delay and jitter"

    def __init__(self, network: Network, *, delay_s: float = 0.1, jitter_s: float = 0.1) -> None:
        self._network = network
        self._disturbance = Disturbance(delay_s=delay_s, jitter_s=jitter_s)
        self._applied = False
        self.breaks = (
            f"Each way takes {delay_s * 1000:.0f} ms longer, and up to {jitter_s * 1000:.0f} ms more at random."
        )
        self.expect = (
            f"Ack latency rises by {2 * delay_s * 1000:.0f} to {2 * (delay_s + jitter_s) * 1000:.0f} ms and pending "
            "to the rate times that latency; no message is lost."
        )

    def apply(self) -> None:
        """Begin to delay."""
        self._applied = True
        self._network.disturb(self._disturbance)

    def undo(self) -> None:
        """Delay no more; what is on its way arrives in its time."""
        if self._applied:
            self._network.disturb(Disturbance())
            self._applied = False
