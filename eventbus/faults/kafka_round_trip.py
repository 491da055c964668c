"""KafkaRoundTrip: every answer comes late."""

from __future__ import annotations

from eventbus.faults.fault import DelaysAnswers, Fault

ALL_BROKERS = -1


class KafkaRoundTrip(Fault):
    """delay_s: how much later each answer comes."""

    name = "kafka_delay"
    title = "Slow answers"

    def __init__(self, mock: DelaysAnswers, *, delay_s: float = 0.5) -> None:
        if not 0 < delay_s <= 30:
            raise ValueError(f"delay_s is {delay_s}; use more than 0 and at most 30 seconds")
        self._mock, self._delay_s = mock, delay_s
        self._applied = False
        self.breaks = f"Every answer of the broker comes {delay_s * 1000:.0f} ms later."
        self.expect = (
            f"Ack latency rises by {delay_s * 1000:.0f} ms or a few times that; batches and pending grow, and no "
            "message is lost."
        )

    def apply(self) -> None:
        """Begin to delay."""
        self._applied = True
        self._mock.set_round_trip(ALL_BROKERS, self._delay_s)

    def undo(self) -> None:
        """Delay no more."""
        if self._applied:
            self._mock.set_round_trip(ALL_BROKERS, 0.0)
            self._applied = False
