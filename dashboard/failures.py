"""Failures of a run as its page shows them: groups with exact counts, single messages, filters, trends. Pure."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from dashboard.chart_frame import Column, Mark, Option, Span, area, framed, say_nothing
from dashboard.failure_words import ACKED_LATE, Attempts
from dashboard.rates import Interval
from dashboard.style import LATE, REJECTED, UNKNOWN
from eventbus.observe.run import FailedMessage, FailureGroup, RunInfo
from eventbus.observe.schema import MAX_FAILED_PER_RUN
from eventbus.viz.export import to_csv
from eventbus.viz.frames import failed_rows, failure_rows, specimen

OUTCOMES = ("rejected", "unknown", ACKED_LATE)
TREND_BINS = 24
TEXT_LENGTH, OTHERS = 200, "(others)"
"""By how much of a text a store groups, and what it calls topic and text of what has no group of its own."""
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


def on_kafka(run: RunInfo) -> bool:
    """Whether a run publishes to Kafka, its mock included: it knows no message ids."""
    return run.settings.get("embedded") == "kafka" or run.url.startswith("kafka")


# ---- what is shown of them --------------------------------------------------------------------------------------

GroupKey = tuple[str, str, str, str]


def key_of(group: FailureGroup) -> GroupKey:
    """What makes a group the same at the next look."""
    return group.kind, group.topic, group.outcome, group.text


def messages_by_group(found: Failures) -> Mapping[GroupKey, list[FailedMessage]]:
    """The messages that are kept, newest first, by the group that counts each."""
    known = {key_of(group) for group in found.groups}
    sorted_out: dict[GroupKey, list[FailedMessage]] = {}
    for message in found.messages:
        kind, outcome = message.error_kind or "", outcome_of(message)
        key = kind, message.topic, outcome, (message.error_text or "")[:TEXT_LENGTH]
        if key not in known:  # one of those that a store counts together, since there were too many groups
            key = kind, OTHERS, outcome, OTHERS
        sorted_out.setdefault(key, []).append(message)
    return sorted_out


def trends(found: Failures, intervals: Sequence[Interval], *, left: bool = False) -> dict[GroupKey, list[int]]:
    """How many messages of each group came in each of at most TREND_BINS parts of the run; exactly, or not at all.

    intervals: of the whole run. left: only what is left of them, as Filter.left.

    Of a group whose messages are all kept it is known by them. Of others a store only knows how many there were from
    first to last; but where one group of an outcome is left over, it is all that the run counted of that outcome
    besides the others. Groups of which neither holds have no trend.
    """
    ends = [chunk[-1].wall_s for chunk in _chunks(intervals)]
    shown = Failures(left_of(found.groups), Filter(left=True).messages(found)) if left else found
    kept = messages_by_group(shown)
    bins: dict[GroupKey, list[int]] = {}
    open_ones: dict[str, list[FailureGroup]] = {}
    for group in shown.groups:
        messages = kept.get(key_of(group), [])
        if ends and len(messages) == group.count:
            bins[key_of(group)] = _binned(messages, ends)
        else:
            open_ones.setdefault(group.outcome, []).append(group)
    for outcome, groups in open_ones.items():
        counted = _COUNTED.get(outcome)
        if counted is not None and len(groups) == 1 and ends and not left:
            others = [counts for key, counts in bins.items() if key[2] == outcome]
            all_of_them = (sum(map(counted, chunk)) for chunk in _chunks(intervals))
            bins[key_of(groups[0])] = [
                max(0, count - sum(other[at] for other in others)) for at, count in enumerate(all_of_them)
            ]
    return bins


_COUNTED: Mapping[str, Callable[[Interval], int]] = {
    "rejected": lambda interval: interval.rejected,
    "unknown": lambda interval: interval.unknown,
    ACKED_LATE: lambda interval: interval.late_acks,
}
"""What a run counts of each of OUTCOMES."""


def _chunks(intervals: Sequence[Interval]) -> list[Sequence[Interval]]:
    """Neighbours together, so that there are at most TREND_BINS."""
    size = -(-len(intervals) // TREND_BINS)
    return [intervals[at : at + size] for at in range(0, len(intervals), size)] if intervals else []


def _binned(messages: Sequence[FailedMessage], ends: Sequence[float]) -> list[int]:
    """How many of them came up to each end, and after the one before; what is newer than all is in the last."""
    counts = [0] * len(ends)
    for message in messages:
        counts[min(bisect_left(ends, message.wall_s), len(ends) - 1)] += 1
    return counts


def attempts_of(kept: Sequence[FailedMessage]) -> Attempts | None:
    """How often the messages of a group were sent, by those that are kept; None where none is."""
    if not kept:
        return None
    classes = Counter(message.error_class for message in kept)
    return Attempts(
        min(message.attempts for message in kept),
        max(message.attempts for message in kept),
        classes.most_common(1)[0][0],
    )


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
