"""KafkaBrokerDown: no broker accepts connections."""

from __future__ import annotations

from eventbus.faults.fault import Fault, TakesBrokersDown


class KafkaBrokerDown(Fault):
    """Closes the connections of all brokers and refuses new ones. Records stay."""

    name = "kafka_down"
    title = "Take the broker down"
    breaks = "The broker closes every connection and refuses new ones; what it stored stays."
    expect = (
        "The connection is lost; what was sent without an answer becomes unknown, what was not sent waits for its time."
    )

    def __init__(self, mock: TakesBrokersDown) -> None:
        self._mock = mock
        self._applied = False

    def apply(self) -> None:
        """Down."""
        self._applied = True
        self._mock.broker_down()

    def undo(self) -> None:
        """Up."""
        if self._applied:
            self._mock.broker_up()
            self._applied = False
