"""FailureCounter: failed messages by kind, topic, outcome and text. Counts are exact; the number of groups is bounded.

Counted on the event loop, a batch at a time, and taken by the store's thread, which gives back what it could not write.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from eventbus.observe.run import FailureGroup
from eventbus.report import DeliveryReport

TEXT_LENGTH = 200
MAX_GROUPS_PER_RUN = 1000
"""Beyond, failures with a new text or topic are counted together, by kind and outcome."""
OTHERS = "(others)"
"""Topic and text of a group of those."""
ACKED_LATE = "acked late"


class GroupKey(NamedTuple):
    """What makes failures alike."""

    run_id: str
    kind: str
    topic: str
    outcome: str
    text: str


Groups = Mapping[GroupKey, FailureGroup]


class FailureCounter:
    """Adds up until somebody takes. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: dict[GroupKey, FailureGroup] = {}
        self._known: dict[str, set[GroupKey]] = {}

    def add_reports(
        self, run_id: str, reports: Sequence[DeliveryReport], wall_s: float, trace_ids: Sequence[str | None] | None
    ) -> None:
        """Messages that were not plainly acked, told at ``wall_s``; trace_ids: one for each. About 1 us a message."""
        counts: dict[tuple[str | None, str, str, str | None], list[int]] = {}
        for number, report in enumerate(reports):
            outcome = ACKED_LATE if report.late else report.outcome
            found = counts.setdefault((report.error_kind, report.topic, outcome, report.error_text), [0, 0])
            found[0] += 1
            found[1] = number
        self.add_groups(
            run_id,
            (
                FailureGroup(
                    kind=str(kind or ""),
                    topic=topic,
                    outcome=str(outcome),
                    text=text or "",
                    count=count,
                    first_wall_s=wall_s,
                    last_wall_s=wall_s,
                    message_id=reports[newest].message_id,
                    trace_id=None if trace_ids is None else trace_ids[newest],
                )
                for (kind, topic, outcome, text), (count, newest) in counts.items()
            ),
        )

    def add_groups(self, run_id: str, groups: Iterable[FailureGroup]) -> None:
        """Groups that were counted elsewhere, as by the workers of a fleet."""
        with self._lock:
            for group in groups:
                key = self._key(run_id, group)
                known = self._groups.get(key)
                self._groups[key] = group if known is None else known.merged(group)

    def take(self) -> Groups:
        """All that was added since the last time; it is no longer kept here."""
        with self._lock:
            groups, self._groups = self._groups, {}
        return groups

    def give_back(self, groups: Groups) -> None:
        """What was taken and not written."""
        with self._lock:
            for key, group in groups.items():
                added = self._groups.get(key)
                self._groups[key] = group if added is None else group.merged(added)

    def forget(self, run_id: str) -> None:
        """No more will come of this run; what was added can still be taken."""
        with self._lock:
            self._known.pop(run_id, None)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def _key(self, run_id: str, group: FailureGroup) -> GroupKey:
        key = GroupKey(run_id, group.kind, group.topic, group.outcome, group.text[:TEXT_LENGTH])
        known = self._known.setdefault(run_id, set())
        if key not in known:
            if len(known) >= MAX_GROUPS_PER_RUN:
                return key._replace(topic=OTHERS, text=OTHERS)
            known.add(key)
        return key
