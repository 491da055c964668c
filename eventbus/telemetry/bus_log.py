"""BusLog: what one bus says through ``logging``: which messages failed, and what happened to its connection and topics.

Records are structured: what their sentence says is also in fields, under the names that spans and metrics use. There
are few of them, however much fails; they carry the trace of one failed message where it has one; no payload and no
header is ever in them. Needs no OpenTelemetry. Acked messages never come here.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass

from eventbus.event import BusEvent, EventKind
from eventbus.ports import Clock
from eventbus.report import AckOutcome, DeliveryReport
from eventbus.telemetry import names
from eventbus.telemetry.source import OTHER

_failures = logging.getLogger(names.FAILURE_RECORD.logger)
_events = logging.getLogger(names.EVENT_RECORD.logger)

_EVERY_NS = 1_000_000_000
_MOST = 20
"""Kinds of failures told apart at a time; the topics of further ones are told together, as OTHER."""
_BURST = 10
"""Events of one kind told each for itself in a second: a bus with many topics has something to say of each."""
_WORRYING = {
    EventKind.DENIED,
    EventKind.DISCONNECTED,
    EventKind.PRODUCER_REPLACED,
    EventKind.TOPIC_FAILED,
    EventKind.TOPIC_WARNING,
}


def no_sample(topic: str, outcome: str, error_type: str) -> Mapping[str, str]:
    """Where nobody traces."""
    return {}


@dataclass(slots=True)
class _Failed:
    """Messages that ended alike and were not told yet. due_ns: when the next record of them may be made."""

    topic: str
    outcome: AckOutcome
    error_type: str
    late: bool
    due_ns: int
    count: int = 0
    message_id: str = ""
    text: str = ""


@dataclass(slots=True)
class _Happened:
    """Events of one kind. told: since begun_ns, each for itself. missed: since then, of which ``last`` is the last."""

    begun_ns: int
    told: int = 0
    missed: int = 0
    last: BusEvent | None = None


class BusLog:
    """Implements ports.Observer. Runs on the bus's loop, never waits, never raises: what a handler of ``logging``
    raises ends here, where nothing is left that could tell of it.

    Failures: one record per topic, outcome and error type, at once for the first, then at most one a second with the
    count since. Events: each, up to 10 of a kind in a second; then the last one, with the count.
    attributes: of the bus, on all records. call_later: of its event loop. sample: the fields of one failed message of
    a topic, outcome and error type: its id and its trace.
    """

    every_outcome = False

    def __init__(
        self,
        attributes: Mapping[str, str | int],
        clock: Clock,
        call_later: Callable[[float, Callable[[], None]], object],
        sample: Callable[[str, str, str], Mapping[str, str]] = no_sample,
    ) -> None:
        self._attributes = attributes
        self._now_ns = clock.monotonic_ns
        self._call_later = call_later
        self._sample = sample
        self._failed: dict[tuple[str, AckOutcome, str, bool], _Failed] = {}
        self._happened: dict[EventKind, _Happened] = {}
        self._armed = False

    def settled(self, reports: Sequence[DeliveryReport]) -> None:
        """These were rejected, are unknown, or were acked after they had been unknown. About 0.1 us each."""
        if not _failures.isEnabledFor(logging.WARNING):
            return
        now_ns = self._now_ns()
        group: _Failed | None = None
        kind = None
        touched: list[_Failed] = []
        for report in reports:
            if (
                group is None
                or report.error_kind is not kind  # most of a batch are alike
                or report.topic != group.topic
                or report.outcome is not group.outcome
                or report.late is not group.late
            ):
                kind = report.error_kind
                group = self._group(report, now_ns)
                touched.append(group)
            if not group.count:
                group.message_id, group.text = report.message_id, report.error_text or ""
            group.count += 1
        for group in touched:
            if group.count and now_ns >= group.due_ns:
                self._tell(group, now_ns)
        self._arm(now_ns)

    def _group(self, report: DeliveryReport, now_ns: int) -> _Failed:
        failed = OTHER if report.error_kind is None else report.error_kind.value
        topic = report.topic
        key = (topic, report.outcome, failed, report.late)
        if key not in self._failed and len(self._failed) >= _MOST:
            self._failed = {k: group for k, group in self._failed.items() if group.count or now_ns < group.due_ns}
            if len(self._failed) >= _MOST:
                topic = OTHER
                key = (topic, report.outcome, failed, report.late)
        group = self._failed.get(key)
        if group is None:
            group = self._failed[key] = _Failed(topic, report.outcome, failed, report.late, now_ns)
        return group

    def _tell(self, group: _Failed, now_ns: int) -> None:
        messages = f"{group.count} message{'s' if group.count > 1 else ''} to {group.topic}"
        fields = {
            names.MESSAGING_DESTINATION_NAME: group.topic,
            names.ACK_OUTCOME: group.outcome.value,
            names.MESSAGING_BATCH_MESSAGE_COUNT: group.count,
            names.MESSAGING_MESSAGE_ID: group.message_id,
        }
        if group.late:
            fields[names.ACK_LATE] = True
            self._log(_failures, logging.INFO, f"{messages} acked after having been unknown", fields)
        else:
            fields[names.ERROR_TYPE] = group.error_type
            fields |= self._sample(group.topic, group.outcome.value, group.error_type)
            text = f"{messages} {group.outcome.value} ({group.error_type}): {group.text}"
            self._log(_failures, logging.WARNING, text, fields)
        group.count, group.due_ns = 0, now_ns + _EVERY_NS

    def happened(self, event: BusEvent) -> None:
        """The connection, a topic or the window changed its state."""
        now_ns = self._now_ns()
        of_kind = self._happened.get(event.kind)
        if of_kind is None or (not of_kind.missed and now_ns >= of_kind.begun_ns + _EVERY_NS):
            of_kind = self._happened[event.kind] = _Happened(now_ns)
        if of_kind.told < _BURST:
            of_kind.told += 1
            self._tell_event(event, 1)
        else:
            of_kind.missed += 1
            of_kind.last = event
            self._arm(now_ns)

    def _tell_event(self, event: BusEvent, count: int) -> None:
        level = logging.WARNING if event.kind in _WORRYING else logging.INFO
        text = f"{event.kind}: {event.text}" + (f" (the last of {count})" if count > 1 else "")
        self._log(_events, level, text, {names.EVENT_KIND: event.kind.value, names.EVENT_COUNT: count})

    def _log(self, logger: logging.Logger, level: int, text: str, fields: Mapping[str, str | int]) -> None:
        """In an empty context: the current one is that of whoever armed a timer or opened the connection, and has the
        trace of something else. Fields are set after the record is made: a factory of the application's may have set
        some of them from that context, which ``extra`` would refuse to correct."""
        if not logger.isEnabledFor(level):
            return
        with contextlib.suppress(Exception):  # handlers and filters are foreign code
            record = logger.makeRecord(logger.name, level, __file__, 0, text, (), None, "BusLog")
            vars(record).update(self._attributes)
            vars(record).update(fields)
            Context().run(logger.handle, record)

    # ---- what was held back --------------------------------------------------------------------------------------

    def _arm(self, now_ns: int) -> None:
        due_ns = [group.due_ns for group in self._failed.values() if group.count]
        due_ns += [of_kind.begun_ns + _EVERY_NS for of_kind in self._happened.values() if of_kind.missed]
        if due_ns and not self._armed:
            self._armed = True
            Context().run(self._call_later, max(min(due_ns) - now_ns, 10_000_000) / 1e9, self._flush)

    def _flush(self) -> None:
        self._armed = False
        now_ns = self._now_ns()
        self._tell_held_back(now_ns, now_ns)
        self._arm(now_ns)

    def _tell_held_back(self, until_ns: int, now_ns: int) -> None:
        for group in self._failed.values():
            if group.count and group.due_ns <= until_ns:
                self._tell(group, now_ns)
        for of_kind in self._happened.values():
            if of_kind.last is not None and of_kind.missed and of_kind.begun_ns + _EVERY_NS <= until_ns:
                self._tell_event(of_kind.last, of_kind.missed)
                of_kind.begun_ns, of_kind.told, of_kind.missed, of_kind.last = now_ns, 1, 0, None

    def close(self) -> None:
        """Tell what was held back. Never waits."""
        self._tell_held_back(1 << 62, self._now_ns())
