"""BlackholeAcks: everything that the server says is lost on the way."""

from __future__ import annotations

from eventbus.faults.fault import Fault
from eventbus.faults.network import Network
from eventbus.faults.proxy import DOWN, Disturbance


class BlackholeAcks(Fault):
    """The server receives and stores, and nobody hears of it. A connection that lost bytes is reset at the end."""

    name = "blackhole"
    title = "Lose the acks"
    breaks = "Everything from the server to the client is thrown away; what the client sends arrives."
    expect = (
        "Messages are stored and no ack comes: acks time out; at the end the connection is reset, and they are sent "
        "again and acked as duplicates, so that none is stored twice."
    )

    def __init__(self, network: Network) -> None:
        self._network = network
        self._applied = False

    def apply(self) -> None:
        """Begin to lose what the server says."""
        self._applied = True
        self._network.disturb(Disturbance(blackhole=frozenset({DOWN})))

    def undo(self) -> None:
        """Let it through again, and reset connections that have a hole."""
        if self._applied:
            self._network.disturb(Disturbance())
            self._applied = False
