"""Throttle: the network between clients and server carries only so many bytes a second."""

from __future__ import annotations

from eventbus.faults.fault import Fault
from eventbus.faults.network import Network
from eventbus.faults.proxy import Disturbance


class Throttle(Fault):
    """bytes_per_s: of each way of each connection."""

    name = "throttle"
    title = "Slow network"

    def __init__(self, network: Network, *, bytes_per_s: float = 100_000.0) -> None:
        self._network = network
        self._disturbance = Disturbance(bytes_per_s=bytes_per_s)
        self._applied = False
        self.breaks = f"Each way of a connection carries only {bytes_per_s / 1000:,.0f} kB/s."
        self.expect = (
            "Where more is offered than fits through, pending grows to its bound and publishing waits for room; what "
            "takes longer than the ack timeout is sent again and acked as a duplicate."
        )

    def apply(self) -> None:
        """Begin to throttle."""
        self._applied = True
        self._network.disturb(self._disturbance)

    def undo(self) -> None:
        """Let everything through again; what is held arrives in its time."""
        if self._applied:
            self._network.disturb(Disturbance())
            self._applied = False
