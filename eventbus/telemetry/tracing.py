"""OutcomeTracer: a span for a sample of the acked messages, and one that represents every message that was not acked.

A span runs from the publish to the outcome. A real one is begun at the publish for what the caller's trace samples and
for a share of the rest, because starting and ending one costs some 15 us. Every other failure has a span made when it
is known, with its true times: singly up to a rate, above it one a second for each destination and error type, which
tells how many messages it stands for. So failures by metric and failures by spans are the same number.

Uses OpenTelemetry's API only; where no SDK is set up, a bus has no tracer. What an SDK, its samplers and processors
raise ends here: the message goes on without a span, and the log says so once.
"""

from __future__ import annotations

import logging
import math
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from eventbus.config import TelemetryConfig
from eventbus.ports import Clock, Ended
from eventbus.report import AckOutcome
from eventbus.telemetry import names
from eventbus.telemetry.groups import FailureGroup, FailureGroups
from eventbus.telemetry.meter import error_type, operation_attributes
from eventbus.telemetry.samples import FailureSamples

_log = logging.getLogger("eventbus")

_NS = 1_000_000_000
_REMEMBERED = 10_000
"""Spans of messages that ended as UNKNOWN whose context is kept, so that a late ack can be linked to them."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What a publish goes on with. span: None where only the caller's context is passed on.

    A publish that raises drops it, and with it the span, which is never exported.
    """

    headers: Mapping[str, str]
    span: Span | None
    tracer: OutcomeTracer

    def accepted(self, token: int) -> None:
        """The message is in the ledger: its span ends with its outcome."""
        if self.span is not None:
            self.tracer.accepted(token, self.span)

    def unacknowledged(self) -> None:
        """It was sent without asking for an ack: there is no outcome to wait for, nor one to tell of."""
        if self.span is not None:
            self.tracer.sent_without_ack(self.span)


class OutcomeTracer:
    """attributes: of the bus, the same on all spans, messaging.system among them.

    call_later: of the event loop; the tracer has no task of its own. chance: a number in [0, 1).
    """

    def __init__(
        self,
        tracer: trace.Tracer,
        config: TelemetryConfig,
        attributes: Mapping[str, str | int],
        clock: Clock,
        call_later: Callable[[float, Callable[[], None]], object],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._tracer = tracer
        self._chance = chance
        self._ratio = config.success_span_ratio
        self._attributes = {**attributes, **operation_attributes(str(attributes[names.MESSAGING_SYSTEM]))}
        self._operation = names.OPERATION_NAMES[str(attributes[names.MESSAGING_SYSTEM])]
        self._clock = clock
        self._call_later = call_later
        self._spans: dict[int, Span] = {}
        """Of accepted messages, by token, until their outcome."""
        self._begun: WeakValueDictionary[int, Span] = WeakValueDictionary()
        """By span id, as long as somebody holds them: a message can be refused while it is being accepted."""
        self._unknown: OrderedDict[int, SpanContext] = OrderedDict()
        self._until_sample = self._gap()
        self._rate = config.failure_spans_per_s
        self._allowed = float(self._rate)
        self._refilled_ns = clock.monotonic_ns()
        self._groups = FailureGroups()
        self.samples = FailureSamples()
        """For the log: of each kind of failure a message that has a span of its own."""
        self._armed = False
        self._complained = False

    # ---- at the publish ----------------------------------------------------------------------------------------

    def passes(self) -> bool:
        """True where a message needs neither a span nor the caller's context. Counts the message."""
        self._until_sample -= 1
        return self._until_sample >= 0 and not context.get_current()

    def begin(self, topic: str, headers: Mapping[str, str] | None) -> Begun | None:
        """For a message that did not pass: what to publish it with. None where there is nothing to add after all.

        headers: the caller's, which are copied and never written to.
        """
        sampled = self._until_sample < 0
        if sampled:
            self._until_sample = self._gap()
        if (headers is not None and not isinstance(headers, Mapping)) or not isinstance(topic, str):
            return None  # the publish will say what is wrong with it
        try:
            return self._begin(topic, dict(headers or {}), sampled)
        except Exception as error:
            self._complain(error)
            return None

    def _begin(self, topic: str, carried: dict[str, str], sampled: bool) -> Begun | None:
        """carried: a copy of the caller's headers. What they bring along is the parent where no span is current."""
        caller = trace.get_current_span().get_span_context()
        if caller.is_valid and caller.trace_flags.sampled:
            parent = context.get_current()
        elif sampled and not caller.is_valid:
            parent = propagate.extract(carried, context.get_current())
        else:
            before = len(carried)
            propagate.inject(carried)
            return Begun(carried, None, self) if caller.is_valid or len(carried) > before else None
        span = self._tracer.start_span(
            f"{self._operation} {topic}",
            context=parent,
            kind=SpanKind.PRODUCER,
            attributes={**self._attributes, names.MESSAGING_DESTINATION_NAME: topic},
        )
        if not span.get_span_context().is_valid:
            return None  # nobody traces
        propagate.inject(carried, context=trace.set_span_in_context(span, parent))
        if not span.is_recording():
            return Begun(carried, None, self)
        self._begun[span.get_span_context().span_id] = span
        return Begun(carried, span, self)

    def _gap(self) -> int:
        """Messages until the next sample, so that each has the same chance."""
        if self._ratio <= 0:
            return 1 << 62
        if self._ratio >= 1:
            return 0
        return int(math.log(1 - self._chance()) / math.log1p(-self._ratio))

    def accepted(self, token: int, span: Span) -> None:
        """Keep it until the outcome, unless that came while the message was being accepted."""
        if span.is_recording():
            self._spans[token] = span

    def sent_without_ack(self, span: Span) -> None:
        """It ends here, unless it has an outcome: that it could not be sent."""
        try:
            if span.is_recording():
                span.end()
        except Exception as error:
            self._complain(error)

    # ---- at the outcome ----------------------------------------------------------------------------------------

    def ended(self, outcome: AckOutcome, settled: Sequence[Ended], now_ns: int) -> None:
        """End the spans of these, and see that each failure has one that represents it. Never raises."""
        if outcome is not AckOutcome.ACKED:
            self._allowed = min(self._rate, self._allowed + (now_ns - self._refilled_ns) * self._rate / _NS)
            self._refilled_ns = now_ns
            for pending in settled:
                if self._allowed < 1 and pending.extras is None and pending.token not in self._spans:
                    self._group(pending, outcome, now_ns)
                    continue
                try:
                    self._failed(pending, outcome, now_ns)
                except Exception as error:
                    self._complain(error)
        elif self._spans:
            for pending in settled:
                span = self._spans.pop(pending.token, None)
                if span is not None:
                    try:
                        self._finish(span, pending, "duplicate" if pending.duplicate else "acked", now_ns)
                    except Exception as error:
                        self._complain(error)

    def _failed(self, pending: Ended, outcome: AckOutcome, now_ns: int) -> None:
        span = self._spans.pop(pending.token, None)
        if span is None:
            span = self._made(pending, outcome, now_ns)
        if span is not None:
            self.samples.note(pending, outcome.value, span.get_span_context())
            if outcome is AckOutcome.UNKNOWN:
                self._unknown[pending.token] = span.get_span_context()
                if len(self._unknown) > _REMEMBERED:
                    self._unknown.popitem(last=False)
            self._finish(span, pending, outcome.value, now_ns)

    def _made(self, pending: Ended, outcome: AckOutcome, now_ns: int) -> Span | None:
        """A span for a failure that has none, or None where a group will represent it.

        In the trace that the message carries, if that is sampled; else in one of its own, linked to it: a failure is
        told also where the caller's trace is not.
        """
        headers = None if pending.extras is None else pending.extras[1]
        if self._allowed < 1 and not (headers and self._begun):
            self._group(pending, outcome, now_ns)
            return None
        parent = propagate.extract(headers, context.Context()) if headers else context.Context()
        carried = trace.get_current_span(parent).get_span_context()
        begun = self._begun.get(carried.span_id) if carried.is_valid else None
        if begun is not None and begun.is_recording():
            return begun
        if self._allowed < 1:
            self._group(pending, outcome, now_ns)
            return None
        self._allowed -= 1
        return self._tracer.start_span(
            f"{self._operation} {pending.topic}",
            context=parent if carried.trace_flags.sampled else context.Context(),
            kind=SpanKind.PRODUCER,
            attributes={**self._attributes, names.MESSAGING_DESTINATION_NAME: pending.topic},
            links=[Link(carried)] if carried.is_valid and not carried.trace_flags.sampled else None,
            start_time=self._wall_ns(pending.accepted_ns),
        )

    def _finish(self, span: Span, pending: Ended, outcome: str, now_ns: int) -> None:
        span.set_attribute(names.MESSAGING_MESSAGE_ID, pending.message_id)
        span.set_attribute(names.ACK_OUTCOME, outcome)
        span.set_attribute(names.ACK_ATTEMPTS, pending.attempts)
        if pending.place is not None and pending.offset >= 0:
            log, partition = pending.place
            if partition is None:
                span.set_attribute(names.NATS_STREAM, log)
                span.set_attribute(names.NATS_SEQUENCE, pending.offset)
            else:
                span.set_attribute(names.MESSAGING_DESTINATION_PARTITION_ID, str(partition))
                span.set_attribute(names.MESSAGING_KAFKA_OFFSET, pending.offset)
        if outcome in names.FAILED:
            span.set_attribute(names.ERROR_TYPE, error_type(pending))
            span.set_status(Status(StatusCode.ERROR, None if pending.failure is None else pending.failure.text))
        span.end(end_time=self._wall_ns(now_ns))

    def acked_late(self, pending: Ended, now_ns: int) -> None:
        """What ended as UNKNOWN was acked after all: a span linked to the one that said so. Never raises."""
        earlier = self._unknown.pop(pending.token, None)
        if earlier is None:
            return
        try:
            self._late(pending, earlier, now_ns)
        except Exception as error:
            self._complain(error)

    def _late(self, pending: Ended, earlier: SpanContext, now_ns: int) -> None:
        span = self._tracer.start_span(
            f"{self._operation} {pending.topic}",
            context=context.Context(),
            kind=SpanKind.PRODUCER,
            attributes={**self._attributes, names.MESSAGING_DESTINATION_NAME: pending.topic, names.ACK_LATE: True},
            links=[Link(earlier)],
            start_time=self._wall_ns(pending.accepted_ns),
        )
        self._finish(span, pending, "duplicate" if pending.duplicate else "acked", now_ns)

    # ---- many failures -----------------------------------------------------------------------------------------

    def _group(self, pending: Ended, outcome: AckOutcome, now_ns: int) -> None:
        self._groups.add(pending, outcome, now_ns)
        if not self._armed:
            self._armed = True
            self._call_later(1.0, self.flush)

    def flush(self) -> None:
        """Make the spans of the failures that are gathered: once a second while there are any, and at the end."""
        self._armed = False
        for group in self._groups.take():
            try:
                self._tell(group)
            except Exception as error:
                self._complain(error)

    def _tell(self, group: FailureGroup) -> None:
        span = self._tracer.start_span(
            f"{self._operation} {group.topic}",
            context=context.Context(),
            kind=SpanKind.PRODUCER,
            attributes={
                **self._attributes,
                names.MESSAGING_DESTINATION_NAME: group.topic,
                names.ACK_OUTCOME: group.outcome.value,
                names.MESSAGING_BATCH_MESSAGE_COUNT: group.count,
                names.ERROR_TYPE: group.error_type,
            },
            start_time=self._wall_ns(group.begun_ns),
        )
        span.set_status(Status(StatusCode.ERROR, None if group.failure is None else group.failure.text))
        span.end(end_time=self._wall_ns(group.ended_ns))

    def close(self) -> None:
        """Tell what is gathered, and forget the rest: every message has its outcome. Never waits, never raises."""
        self.flush()
        self._spans.clear()
        self._unknown.clear()

    def _complain(self, error: Exception) -> None:
        """Say once what telemetry raised; the messages are not concerned."""
        if not self._complained:
            self._complained = True
            _log.warning("a span could not be made: %r; messages go on, others like this are not told", error)

    def _wall_ns(self, monotonic_ns: int) -> int:
        return int(self._clock.wall_s() * _NS) - (self._clock.monotonic_ns() - monotonic_ns)
