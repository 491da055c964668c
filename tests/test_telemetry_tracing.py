"""A span for a share of what was acked, and one that represents each message that was not: what is in it, and when.

No global provider: each test gives the tracer its own.
"""

from __future__ import annotations

import gc
import random
import re
from collections.abc import Iterator, Mapping

import pytest
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from eventbus.ack.pending import PendingAck
from eventbus.config import TelemetryConfig
from eventbus.errors import ErrorClass, ErrorKind
from eventbus.ports import Failure
from eventbus.report import AckOutcome
from eventbus.telemetry import names
from eventbus.telemetry.tracing import OutcomeTracer
from tests.fakes import MS, SECOND, FakeClock, FakeLedger, route
from tests.telemetry_sdk import ATTRIBUTES, Sdk, Timers, attribute, count_of

UNSAMPLED = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(0))
SAMPLED = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1))


class Scene:
    """A tracer with all around it."""

    def __init__(self, *processors: SpanProcessor, ratio: float = 0.0, rate: int = 200) -> None:
        self.sdk = Sdk(*processors)
        self.clock = FakeClock()
        self.timers = Timers()
        self.tracer = OutcomeTracer(
            self.sdk.tracers.get_tracer("test"),
            TelemetryConfig(success_span_ratio=ratio, failure_spans_per_s=rate),
            ATTRIBUTES,
            self.clock,
            self.timers,
            random.Random(5).random,
        )
        self._token = 0

    def publish(self, topic: str = "orders", headers: Mapping[str, str] | None = None) -> PendingAck:
        """As the bus does, up to the ledger."""
        begun = None if self.tracer.passes() else self.tracer.begin(topic, headers)
        self._token += 1
        carried = headers if begun is None else begun.headers
        pending = PendingAck(
            self._token, topic, b"secret", None if carried is None else (None, carried, None), route(topic), 6, SECOND,
            self.clock.monotonic_ns(), FakeLedger(),
        )  # fmt: skip
        pending.attempts = 1
        if begun is not None:
            begun.accepted(pending.token)
        return pending

    def ack(self, *pending: PendingAck) -> None:
        for one in pending:
            one.place, one.offset = ("ORDERS", None), 7
        self.tracer.ended(AckOutcome.ACKED, pending, self.clock.monotonic_ns())

    def fail(
        self, *pending: PendingAck, outcome: AckOutcome = AckOutcome.UNKNOWN, kind: ErrorKind | None = None
    ) -> None:
        for one in pending:
            one.failure = Failure(ErrorClass.AMBIGUOUS, kind or ErrorKind.TIMEOUT, "no ack in time")
        self.tracer.ended(outcome, pending, self.clock.monotonic_ns())


@pytest.fixture
def unsampled_caller() -> Iterator[None]:
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(UNSAMPLED)))
    yield
    context.detach(token)


def only(scene: Scene) -> ReadableSpan:
    (span,) = scene.sdk.spans
    return span


# ---- at the publish ---------------------------------------------------------------------------------------------


def test_sampled_success_lasts_from_publish_to_ack() -> None:
    """The broker's ack is the end of the span, not the hand-over; name, kind and attributes are the conventions'."""
    scene = Scene(ratio=1)
    pending = scene.publish()
    assert scene.sdk.spans == []
    scene.ack(pending)
    span = only(scene)
    assert (span.name, span.kind, span.status.status_code) == ("publish orders", SpanKind.PRODUCER, StatusCode.UNSET)
    assert dict(span.attributes or {}) == ATTRIBUTES | {
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "orders",
        "messaging.message.id": pending.message_id,
        "eventbus.ack.outcome": "acked",
        "eventbus.ack.attempts": 1,
        "eventbus.nats.stream": "ORDERS",
        "eventbus.nats.sequence": 7,
    }
    assert span.end_time == scene.clock.now_ns


def test_partition_and_offset_where_the_place_has_a_partition() -> None:
    """On Kafka the place is a partition, whose convention's attribute is text, and an offset."""
    scene = Scene(ratio=1)
    pending = scene.publish()
    pending.place, pending.offset = ("orders", 3), 0
    scene.tracer.ended(AckOutcome.ACKED, [pending], scene.clock.monotonic_ns())
    found = only(scene).attributes or {}
    assert (found["messaging.destination.partition.id"], found["messaging.kafka.offset"]) == ("3", 0)


def test_error_that_a_retry_cured() -> None:
    """It is no error of the span; the number of attempts tells of it."""
    scene = Scene(ratio=1)
    pending = scene.publish()
    pending.attempts = 2
    pending.failure = Failure(ErrorClass.TRANSIENT, ErrorKind.STREAM_FULL, "full")
    scene.ack(pending)
    assert only(scene).status.status_code is StatusCode.UNSET
    assert attribute(only(scene), names.ERROR_TYPE) is None
    assert attribute(only(scene), names.ACK_ATTEMPTS) == 2


@pytest.mark.parametrize("ratio", [0.5, 0.1, 0.9])
def test_share_of_sampled_messages(ratio: float) -> None:
    """It is the share that was asked for, also where that is large."""
    scene = Scene(ratio=ratio)
    number = 4000
    for _ in range(number):
        scene.ack(scene.publish())
    assert len(scene.sdk.spans) / number == pytest.approx(ratio, rel=0.1)


@pytest.mark.parametrize(("ratio", "spans"), [(0.0, 0), (1.0, 100)])
def test_no_message_and_every_message(ratio: float, spans: int) -> None:
    """0 and 1 mean exactly that."""
    scene = Scene(ratio=ratio)
    scene.ack(*[scene.publish() for _ in range(100)])
    assert len(scene.sdk.spans) == spans


def test_trace_of_the_caller() -> None:
    """Every message of a sampled caller has a span in its trace, and carries that span's context in a copy of its
    headers: the caller's mapping is never written to."""
    scene, given = Scene(), {"kind": "order"}
    with scene.sdk.tracers.get_tracer("app").start_as_current_span("caller") as caller:
        pending = scene.publish(headers=given)
    scene.ack(pending)
    span = next(s for s in scene.sdk.spans if s.name == "publish orders")
    assert span.parent is not None
    assert (span.parent.span_id, span.context and span.context.trace_id) == (
        caller.get_span_context().span_id, caller.get_span_context().trace_id,
    )  # fmt: skip
    assert given == {"kind": "order"}
    headers = pending.headers or {}
    assert headers["kind"] == "order"
    assert span.context is not None
    assert re.fullmatch(
        f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-[0-9a-f]{{2}}", headers["traceparent"]
    )


@pytest.mark.usefixtures("unsampled_caller")
def test_caller_that_is_not_sampled() -> None:
    """Its context is passed on, and success has no span, not even where it is our sample's turn."""
    scene = Scene(ratio=1)
    pending = scene.publish()
    carried = (pending.headers or {})["traceparent"]
    assert carried.split("-")[1:3] == [f"{UNSAMPLED.trace_id:032x}", f"{UNSAMPLED.span_id:016x}"]
    scene.ack(pending)
    assert scene.sdk.spans == []


@pytest.mark.usefixtures("unsampled_caller")
def test_failure_of_a_caller_that_is_not_sampled() -> None:
    """It is represented all the same: by a span in a trace of its own, linked to the caller's."""
    scene = Scene()
    scene.fail(scene.publish(), outcome=AckOutcome.REJECTED)
    assert [link.context.span_id for link in only(scene).links] == [UNSAMPLED.span_id]
    assert only(scene).parent is None


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_context_in_the_headers_of_the_caller(ratio: float) -> None:
    """What a caller forwards in the headers is the parent, of a sampled success and of a failure: it is not replaced by
    a trace of our own."""
    scene, headers = Scene(ratio=ratio), dict[str, str]()
    propagate.inject(headers, trace.set_span_in_context(NonRecordingSpan(SAMPLED)))
    scene.fail(scene.publish(headers=headers), outcome=AckOutcome.REJECTED)
    parent = only(scene).parent
    assert parent is not None
    assert (parent.trace_id, parent.span_id) == (SAMPLED.trace_id, SAMPLED.span_id)


def test_baggage_without_a_span() -> None:
    """It is passed on as well."""
    scene = Scene()
    token = context.attach(baggage.set_baggage("tenant", "blue"))
    try:
        assert scene.publish().headers == {"baggage": "tenant=blue"}
    finally:
        context.detach(token)


def test_message_without_context_or_sample() -> None:
    """Nothing is added to it."""
    scene, headers = Scene(), {"kind": "order"}
    assert scene.publish().headers is None
    assert scene.publish(headers=headers).headers is headers


@pytest.mark.parametrize(("topic", "headers"), [(7, None), ("orders", ["kind"]), ("orders", "kind")])
def test_what_the_publish_will_refuse(topic: object, headers: object) -> None:
    """Tracing leaves it to the publish to say what is wrong."""
    scene = Scene(ratio=1)
    assert not scene.tracer.passes()
    assert scene.tracer.begin(topic, headers) is None  # type: ignore[arg-type]


def test_publish_that_raises_again_and_again() -> None:
    """What was begun for it is dropped: nothing is kept, and nothing exported."""
    scene = Scene(ratio=1)
    for _ in range(1000):
        assert not scene.tracer.passes()
        assert scene.tracer.begin("orders", None) is not None
    gc.collect()
    assert (len(scene.tracer._spans), len(scene.tracer._begun), scene.sdk.spans) == (0, 0, [])


def test_message_refused_while_it_is_accepted() -> None:
    """Its outcome comes before the ledger has told its token: one span, the one that was begun, and nothing is kept."""
    scene = Scene(ratio=1)
    assert not scene.tracer.passes()
    begun = scene.tracer.begin("orders", None)
    assert begun is not None
    pending = PendingAck(1, "orders", b"", (None, begun.headers, None), route(), 1, SECOND, 1000, FakeLedger())
    scene.fail(pending, outcome=AckOutcome.REJECTED, kind=ErrorKind.TOO_LARGE)
    begun.accepted(1)
    assert attribute(only(scene), names.ERROR_TYPE) == "too_large"
    assert begun.span is not None
    assert only(scene).context == begun.span.get_span_context()
    assert not scene.tracer._spans


def test_sent_without_an_ack() -> None:
    """The span ends with the sending and claims no outcome, because there is none."""
    scene = Scene(ratio=1)
    assert not scene.tracer.passes()
    begun = scene.tracer.begin("orders", None)
    assert begun is not None
    begun.unacknowledged()
    assert attribute(only(scene), names.ACK_OUTCOME) is None


# ---- failures ---------------------------------------------------------------------------------------------------


def test_failure_has_its_true_times() -> None:
    """A failure that nobody sampled gets its span when it is known, from the publish to then, in wall time."""
    scene = Scene()
    pending = scene.publish()
    began = scene.clock.now_ns
    scene.clock.advance(2.5)
    scene.fail(pending)
    span = only(scene)
    assert (span.start_time, span.end_time) == (began, began + 2_500 * MS)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "no ack in time")
    assert (attribute(span, names.ERROR_TYPE), attribute(span, names.ACK_OUTCOME)) == ("timeout", "unknown")


def test_failures_above_the_rate() -> None:
    """They have one span a second for each destination and error type, which tells their number and all their time."""
    scene = Scene(rate=10)
    early = [scene.publish("a") for _ in range(5)]
    scene.clock.advance(1)
    late = [scene.publish("b") for _ in range(100)]
    scene.clock.advance(1)
    scene.fail(*early, *late)
    assert len(scene.sdk.spans) == 10
    assert [delay for delay, _ in scene.timers.waiting] == [1.0]
    scene.fail(*[scene.publish("b") for _ in range(20)], outcome=AckOutcome.REJECTED, kind=ErrorKind.NO_STREAM)
    scene.timers.fire()
    groups = {
        (attribute(span, names.MESSAGING_DESTINATION_NAME), attribute(span, names.ERROR_TYPE)): count_of(span)
        for span in scene.sdk.spans[10:]
    }
    assert groups == {("b", "timeout"): 95, ("b", "no_stream"): 20}
    assert scene.timers.waiting == []
    first = scene.sdk.spans[10]
    assert (first.end_time or 0) - (first.start_time or 0) == SECOND


def test_rate_is_refilled_by_time() -> None:
    """A second gives as many single spans as are allowed per second, never more."""
    scene = Scene(rate=4)
    scene.fail(*[scene.publish() for _ in range(10)])
    assert len(scene.sdk.spans) == 4
    scene.clock.advance(0.5)
    scene.fail(*[scene.publish() for _ in range(10)])
    assert len(scene.sdk.spans) == 6
    scene.clock.advance(60)
    scene.fail(*[scene.publish() for _ in range(10)])
    assert len(scene.sdk.spans) == 10
    scene.tracer.close()
    assert sum(map(count_of, scene.sdk.spans)) == 30


def test_failures_on_very_many_topics() -> None:
    """Spans for groups are bounded, and still stand for every message."""
    scene = Scene(rate=0)
    scene.fail(*[scene.publish(f"topic.{number}") for number in range(1000)])
    scene.timers.fire()
    assert len(scene.sdk.spans) == 201
    assert sum(map(count_of, scene.sdk.spans)) == 1000


def test_late_ack() -> None:
    """It has a span of its own, linked to the one that said unknown; told once."""
    scene = Scene()
    pending = scene.publish()
    scene.fail(pending)
    scene.clock.advance(1)
    for _ in range(2):
        scene.tracer.acked_late(pending, scene.clock.monotonic_ns())
    unknown, late = scene.sdk.spans
    assert [link.context for link in late.links] == [unknown.context]
    assert (attribute(late, names.ACK_LATE), attribute(late, names.ACK_OUTCOME)) == (True, "acked")
    assert late.status.status_code is StatusCode.UNSET


def test_memory_after_a_hundred_thousand_messages() -> None:
    """What is kept is bounded: nothing of what is settled, and some contexts for late acks."""
    scene = Scene(rate=0)
    for _ in range(1000):
        batch = [scene.publish() for _ in range(100)]
        scene.ack(*batch[50:])
        scene.fail(*batch[:50])
    assert (len(scene.tracer._spans), len(scene.tracer._unknown), len(scene.tracer._groups)) == (0, 0, 1)
    many = Scene(rate=1_000_000)
    many.fail(*[many.publish() for _ in range(12_000)])
    assert len(many.tracer._unknown) == 10_000
    many.tracer.close()
    assert not many.tracer._unknown


# ---- what an SDK may do -----------------------------------------------------------------------------------------


class Raising(SpanProcessor):
    """Fails at the start or at the end of each span."""

    def __init__(self, *, at_start: bool) -> None:
        self.at_start = at_start

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        if self.at_start:
            raise RuntimeError("processor is broken")

    def on_end(self, span: ReadableSpan) -> None:
        if not self.at_start:
            raise RuntimeError("processor is broken")


@pytest.mark.parametrize("at_start", [True, False])
def test_processor_that_raises(at_start: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of it reaches the caller or the ledger, and the log says it once."""
    scene = Scene(Raising(at_start=at_start), ratio=1, rate=5)
    pending = [scene.publish() for _ in range(20)]
    scene.ack(*pending[:10])
    scene.fail(*pending[10:])
    scene.tracer.acked_late(pending[10], scene.clock.monotonic_ns())
    assert not scene.tracer.passes()
    if (begun := scene.tracer.begin("orders", None)) is not None:
        begun.unacknowledged()
    scene.tracer.close()
    assert not scene.tracer._spans
    assert len([r for r in caplog.records if "a span could not be made" in r.message]) == 1


def test_api_without_an_sdk() -> None:
    """A tracer of the bare API samples nothing: no header is added, and nothing raised."""
    clock = FakeClock()
    config = TelemetryConfig(success_span_ratio=1)
    tracer = OutcomeTracer(trace.NoOpTracer(), config, ATTRIBUTES, clock, Timers())
    assert not tracer.passes()
    assert tracer.begin("orders", {"kind": "order"}) is None
