"""OutcomeMeter: counts every outcome of one bus, by destination and error type, for whoever exports metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from eventbus.latency import LatencyCounter, LatencyHistogram
from eventbus.ports import Ended
from eventbus.report import AckOutcome
from eventbus.snapshot import BusSnapshot
from eventbus.telemetry import names
from eventbus.telemetry.source import MOST_DESTINATIONS, OTHER, Outcome

_LOOKS = 100
"""At the most; a look that fails is over at once, so that one of a few succeeds also beside a loop at full speed."""


class OutcomeMeter:
    """Implements source.MetricSource, and as a part of BusTelemetry sees every outcome.

    A destination costs 18 KB for every outcome it has; from MOST_DESTINATIONS on they are counted together, as OTHER.
    About 0.06 us a message in batches of hundreds. A late ack does not take the ``unknown`` back that was counted
    before: both are true at their time, and the snapshot's ``late_acks`` tells how many.
    """

    def __init__(
        self, attributes: Mapping[str, str | int], started_ns: int, snapshot: Callable[[], BusSnapshot]
    ) -> None:
        self.attributes = attributes
        self.started_ns = started_ns
        self._snapshot = snapshot
        self._last: BusSnapshot | None = None
        self._counters: dict[Outcome, LatencyCounter] = {}
        self._destinations: set[str] = set()

    def ended(self, outcome: AckOutcome, settled: Sequence[Ended], now_ns: int) -> None:
        """Count a batch."""
        first, failure = settled[0].topic, settled[0].failure
        if outcome is AckOutcome.ACKED:
            alike = all([p.topic == first and not p.duplicate for p in settled])
        else:
            alike = all([p.topic == first and p.failure is failure for p in settled])
        if alike:
            failed = None if outcome is AckOutcome.ACKED else error_type(settled[0])
            self._counter(first, outcome.value, failed).add([now_ns - p.accepted_ns for p in settled])
            return
        groups: dict[tuple[str, str, str | None], list[int]] = {}
        for pending in settled:
            word = "duplicate" if pending.duplicate else outcome.value
            failed = None if outcome is AckOutcome.ACKED else error_type(pending)
            groups.setdefault((pending.topic, word, failed), []).append(now_ns - pending.accepted_ns)
        for group, durations_ns in groups.items():
            self._counter(*group).add(durations_ns)

    def _counter(self, topic: str, outcome: str, failed: str | None) -> LatencyCounter:
        if topic not in self._destinations:
            if len(self._destinations) >= MOST_DESTINATIONS:
                topic = OTHER
            else:
                self._destinations.add(topic)
        key = Outcome(topic, outcome, failed)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = LatencyCounter()
        return counter

    def durations(self) -> Mapping[Outcome, LatencyHistogram]:
        """From acceptance to outcome, by outcome; a copy."""
        return {key: counter.histogram() for key, counter in list(self._counters.items())}

    def snapshot(self) -> BusSnapshot:
        """The state now. The bus goes on meanwhile, in its own thread: where it changed what was being looked through,
        it is asked again."""
        for _ in range(_LOOKS):
            try:
                return self._snapshot()
            except RuntimeError:  # dictionary changed size during iteration
                continue
        return self._snapshot()


def error_type(pending: Ended) -> str:
    """Why a message failed, as ``error.type``."""
    return OTHER if pending.failure is None else pending.failure.kind.value


def operation_attributes(system: str) -> dict[str, str]:
    """What spans and outcome points of a messaging system have in common."""
    return {
        names.MESSAGING_OPERATION_NAME: names.OPERATION_NAMES[system],
        names.MESSAGING_OPERATION_TYPE: names.OPERATION_TYPE,
    }


def outcome_attributes(bus: Mapping[str, str | int], outcome: Outcome) -> dict[str, str | int]:
    """All attributes of a point that counts by outcome."""
    attributes: dict[str, str | int] = {**bus, **operation_attributes(str(bus[names.MESSAGING_SYSTEM]))}
    attributes[names.MESSAGING_DESTINATION_NAME] = outcome.destination
    attributes[names.ACK_OUTCOME] = outcome.outcome
    if outcome.error_type is not None:
        attributes[names.ERROR_TYPE] = outcome.error_type
    return attributes
