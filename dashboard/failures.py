"""Failures of a run as its page shows them: groups with exact counts, single messages, filters, trends. Pure."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from dashboard.chart_frame import Column, Mark, Option, Span, area, framed, say_nothing
from dashboard.failure_words import ACKED_LATE, Attempts
from dashboard.rates import Interval
from dashboard.style import LATE, REJECTED, UNKNOWN
from eventbus.observe.run import FailedMessage, FailureGroup
from eventbus.observe.schema import MAX_FAILED_PER_RUN
from eventbus.viz.export import to_csv
from eventbus.viz.frames import failed_rows, failure_rows, specimen

OUTCOMES = ("rejected", "unknown", ACKED_LATE)
TREND_BINS = 24
KEPT_RUNS = 4


def outcome_of(message: FailedMessage) -> str:
    """One of OUTCOMES; a late ack is told as such."""
    return ACKED_LATE if message.late else message.outcome


@dataclass(frozen=True, slots=True)
class Failures:
    """What is known of a run's failures, all of one moment.

    groups: all of them, exact. messages: newest first, at most the first MAX_FAILED_PER_RUN of the run.
    """

    groups: Sequence[FailureGroup] = ()
    messages: Sequence[FailedMessage] = ()

    @property
    def total(self) -> int:
        """How often a failure was told: a message acked late was told twice."""
        return sum(group.count for group in self.groups)

    @property
    def truncated(self) -> bool:
        """There were more messages than are kept one by one."""
        return len(self.messages) >= MAX_FAILED_PER_RUN and self.total > len(self.messages)


class Source(Protocol):
    """What is asked of RunSource. Either may raise StoreError."""

    def failed(self, run_id: str, limit: int = 500) -> Sequence[FailedMessage]: ...

    def failure_groups(self, run_id: str) -> Sequence[FailureGroup]: ...


class FailureHistory:
    """What was read of the runs last looked at: messages are read again only where there are more. For any thread."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._known: OrderedDict[str, Failures] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, run_id: str) -> Failures:
        """As they are now. 10,000 messages are read in some 45 ms. Raises StoreError."""
        with self._lock:
            groups = tuple(self._source.failure_groups(run_id))
            found = replace(self._known.get(run_id, Failures()), groups=groups)
            if len(found.messages) < min(found.total, MAX_FAILED_PER_RUN):
                messages = tuple(self._source.failed(run_id, limit=MAX_FAILED_PER_RUN))
                found = Failures(groups, messages)
            self._known[run_id] = found
            self._known.move_to_end(run_id)
            while len(self._known) > KEPT_RUNS:
                self._known.popitem(last=False)
            return found


# ---- filters ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show; empty takes all. text: each word of it must be found in text, topic, kind or an id.

    left: without what was acked late after all, and without the doubt that this ended.
    """

    outcomes: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    text: str = ""
    left: bool = False

    def groups(self, found: Failures) -> list[FailureGroup]:
        """Those that it takes, the largest first; with ``left`` each with what is left of it, exactly."""
        groups = left_of(found.groups) if self.left else found.groups
        return [
            group
            for group in groups
            if self._takes(group.outcome, group.kind, group.topic)
            and self._finds(group.text, group.topic, group.kind, group.message_id, group.trace_id)
        ]

    def messages(self, found: Failures) -> list[FailedMessage]:
        """Those that it takes, newest first."""
        late = {message.message_id for message in found.messages if message.late} if self.left else frozenset()
        return [
            one
            for one in found.messages
            if one.message_id not in late
            and self._takes(outcome_of(one), one.error_kind or "", one.topic)
            and self._finds(one.error_text, one.topic, one.error_kind, one.message_id, one.trace_id)
        ]

    def _takes(self, outcome: str, kind: str, topic: str) -> bool:
        return (
            (not self.outcomes or outcome in self.outcomes)
            and (not self.kinds or kind in self.kinds)
            and (not self.topics or topic in self.topics)
        )

    def _finds(self, *places: str | None) -> bool:
        if not self.text.strip():
            return True
        told = " ".join(place for place in places if place).lower()
        return all(word in told for word in self.text.lower().split())


def left_of(groups: Iterable[FailureGroup]) -> list[FailureGroup]:
    """What is left of each group: a late ack ends one doubt of the same kind, topic and text. Largest first."""
    groups = list(groups)
    ended = {(g.kind, g.topic, g.text): g.count for g in groups if g.outcome == ACKED_LATE}
    left = []
    for group in groups:
        late = ended.get((group.kind, group.topic, group.text), 0) if group.outcome == "unknown" else 0
        if group.outcome != ACKED_LATE and group.count > late:
            left.append(replace(group, count=group.count - late))
    return sorted(left, key=lambda group: (-group.count, -group.last_wall_s))


# ---- what is shown of them --------------------------------------------------------------------------------------

GroupKey = tuple[str, str, str, str]


def key_of(group: FailureGroup) -> GroupKey:
    """What makes a group the same at the next look."""
    return group.kind, group.topic, group.outcome, group.text


def _key_of(message: FailedMessage, text_length: int = 200) -> GroupKey:
    text = (message.error_text or "")[:text_length]
    return message.error_kind or "", message.topic, outcome_of(message), text


def trends(found: Failures, from_s: float, to_s: float) -> dict[GroupKey, list[int]]:
    """How many messages of each group came in each of TREND_BINS parts of the time, by the messages that are kept.

    Where not all were kept, the time ends with the last of them.
    """
    if found.truncated:
        to_s = found.messages[0].wall_s
    length_s = max(to_s - from_s, 1e-3)
    bins: dict[GroupKey, list[int]] = {}
    for message in found.messages:
        place = min(TREND_BINS - 1, max(0, int((message.wall_s - from_s) / length_s * TREND_BINS)))
        bins.setdefault(_key_of(message), [0] * TREND_BINS)[place] += 1
    return bins


def attempts_of(found: Failures, group: FailureGroup) -> Attempts | None:
    """How often its messages were sent, by those that are kept; None where none is."""
    key = key_of(group)
    kept = [message for message in found.messages if _key_of(message) == key]
    if not kept:
        return None
    classes = Counter(message.error_class for message in kept)
    return Attempts(
        min(message.attempts for message in kept),
        max(message.attempts for message in kept),
        classes.most_common(1)[0][0],
    )


def newest_of(found: Failures, group: FailureGroup, most: int) -> list[FailedMessage]:
    """The newest of its messages that are kept."""
    key = key_of(group)
    return [message for message in found.messages if _key_of(message) == key][:most]


def groups_csv(groups: Sequence[FailureGroup]) -> str:
    """A line a group; times in UTC."""
    return to_csv(failure_rows(groups), specimen("failures"))


def messages_csv(messages: Sequence[FailedMessage]) -> str:
    """A line a message; times in UTC."""
    return to_csv(failed_rows(messages), specimen("failed"))


def outcomes(intervals: Sequence[Interval], span: Span, marks: Sequence[Mark] = ()) -> Option:
    """Messages in each second that were not plainly acked, stacked: a chart of all outcomes would hide them."""
    rows: list[tuple[str, str, Column]] = [
        ("rejected", REJECTED, lambda i: i.per_second(i.rejected)),
        ("unknown", UNKNOWN, lambda i: i.per_second(i.unknown)),
        (ACKED_LATE, LATE, lambda i: i.per_second(i.late_acks)),
    ]
    present = [row for row in rows if any(row[2](i) for i in intervals)]
    option = framed(
        intervals,
        [(name, column) for name, _, column in present],
        [area(name, colour) for name, colour, _ in present],
        span,
        marks,
        tooltip="%,.1f /s",
        from_zero=True,
    )
    if not present:
        say_nothing(option, "No message failed in this run")
    return option
