"""FailureGroups: failures that come too fast for a span each, gathered until one span is made for all alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eventbus.ports import Ended, Failure
from eventbus.report import AckOutcome
from eventbus.telemetry.meter import error_type
from eventbus.telemetry.source import MOST_DESTINATIONS, OTHER


@dataclass(slots=True)
class FailureGroup:
    """Failures of one destination, outcome and error type. failure: of the last. Times are monotonic nanoseconds."""

    topic: str
    outcome: AckOutcome
    error_type: str
    failure: Failure | None
    begun_ns: int
    ended_ns: int = 0
    count: int = 0


class FailureGroups:
    """About 0.3 us a failure. From MOST_DESTINATIONS groups on, other topics are gathered together, as OTHER: there is
    at most one group more for each outcome and error type."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, AckOutcome, str], FailureGroup] = {}
        self._last: FailureGroup | None = None

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, pending: Ended, outcome: AckOutcome, now_ns: int) -> None:
        """Gather one more."""
        failure, begun_ns, group = pending.failure, pending.accepted_ns, self._last
        if (
            group is None
            or failure is not group.failure  # most are alike: the messages of a batch fail by the same
            or pending.topic != group.topic
            or outcome is not group.outcome
        ):
            group = self._last = self._group_of(pending, failure, outcome)
        group.count += 1
        if begun_ns < group.begun_ns:
            group.begun_ns = begun_ns
        group.ended_ns = now_ns

    def _group_of(self, pending: Ended, failure: Failure | None, outcome: AckOutcome) -> FailureGroup:
        topic, failed = pending.topic, error_type(pending)
        if len(self._groups) >= MOST_DESTINATIONS and (topic, outcome, failed) not in self._groups:
            topic = OTHER
        key = (topic, outcome, failed)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = FailureGroup(topic, outcome, failed, failure, pending.accepted_ns)
        group.failure = failure
        return group

    def take(self) -> Sequence[FailureGroup]:
        """All that were gathered, and begin anew."""
        groups, self._groups, self._last = self._groups, {}, None
        return list(groups.values())
