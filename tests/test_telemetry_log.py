"""What a bus says through logging: structured, seldom, with the trace of a failed message, and never a payload."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind

import eventbus
from eventbus import AckOutcome, BusEvent, DeliveryReport, ErrorClass, ErrorKind, EventBus, EventKind, RetryPolicy
from eventbus.config import TelemetryConfig
from eventbus.ports import AckBatch, Failure
from eventbus.publishers.memory import MemoryPublisher
from eventbus.telemetry import bus_log, names
from eventbus.telemetry.bus_log import BusLog, no_sample
from eventbus.telemetry.log_records import OtlpLogHandler
from eventbus.telemetry.setup import setup
from eventbus.telemetry.source import OTHER
from tests.fakes import FakeClock
from tests.otlp_receiver import OtlpReceiver
from tests.telemetry_sdk import ATTRIBUTES, Sdk, Timers, attribute

ONCE = RetryPolicy(max_attempts=1)
ALL = {names.BUS_ID: "bus", **ATTRIBUTES}
_somebody: ContextVar[str] = ContextVar("somebody", default="nobody")


class Scene:
    """A log with all around it, and the records that it made."""

    def __init__(
        self, caplog: pytest.LogCaptureFixture, sample: Callable[[str, str, str], Mapping[str, str]] = no_sample
    ) -> None:
        caplog.set_level(logging.INFO, "eventbus")
        self.caplog = caplog
        self.clock, self.timers = FakeClock(), Timers()
        self.log = BusLog(ALL, self.clock, self.timers, sample)

    def fail(self, number: int = 1, topic: str = "orders", *, first: int = 1, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "outcome": AckOutcome.UNKNOWN, "attempts": 1, "error_class": ErrorClass.AMBIGUOUS,
            "error_kind": ErrorKind.TIMEOUT, "error_text": "no ack in time", **changes,
        }  # fmt: skip
        self.log.settled([DeliveryReport(f"m{first + index}", topic, **fields) for index in range(number)])

    def happen(self, kind: EventKind, text: str) -> None:
        self.log.happened(BusEvent(1.0, kind, text))

    def pass_time(self, seconds: float) -> None:
        """Time passes, and the timer fires."""
        self.clock.advance(seconds)
        self.timers.fire()

    def told(self) -> list[str]:
        """All sentences since the last look."""
        messages = self.caplog.messages[:]
        self.caplog.clear()
        return messages


@pytest.fixture
def scene(caplog: pytest.LogCaptureFixture) -> Scene:
    return Scene(caplog)


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Sdk:
    return Sdk().install(monkeypatch)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What the record has beyond Python's own."""
    return {name: value for name, value in vars(record).items() if "." in name or name in ("trace_id", "span_id")}


def memory_of(bus: EventBus) -> MemoryPublisher:
    publisher = bus._publisher
    assert isinstance(publisher, MemoryPublisher)
    return publisher


# ---- what is said, and how often --------------------------------------------------------------------------------


def test_first_failure(scene: Scene) -> None:
    """It is told at once, in a sentence and in fields."""
    scene.fail(3)
    (record,) = scene.caplog.records
    assert (record.name, record.levelname) == ("eventbus.failures", "WARNING")
    assert record.getMessage() == "3 messages to orders unknown (timeout): no ack in time"
    assert fields_of(record) == ALL | {
        "messaging.destination.name": "orders",
        "eventbus.ack.outcome": "unknown",
        "error.type": "timeout",
        "messaging.batch.message_count": 3,
        "messaging.message.id": "m1",
    }
    assert scene.timers.waiting == []


def test_more_of_the_same(scene: Scene) -> None:
    """There is one record a second, with the count and the first message since the last; none is left out."""
    counts = []
    for number in range(40):
        scene.fail(5, first=number * 5)
        scene.pass_time(0.1)
        counts += [vars(record)["messaging.batch.message_count"] for record in scene.caplog.records]
        assert len(scene.told()) <= 1
    scene.pass_time(1)
    counts += [vars(record)["messaging.batch.message_count"] for record in scene.caplog.records]
    assert sum(counts) == 200
    assert 4 <= len(counts) <= 6
    scene.told()
    scene.pass_time(5)
    assert (scene.told(), scene.timers.waiting) == ([], [])


def test_kinds_of_failures(scene: Scene) -> None:
    """Topic, outcome and error type are told apart, also within a batch; each has a second of its own."""
    scene.fail(2)
    scene.fail(1, "payments")
    scene.fail(1, outcome=AckOutcome.REJECTED, error_kind=ErrorKind.STREAM_FULL, error_text="full")
    scene.clock.advance(0.5)
    scene.fail(1, "refunds")
    assert scene.told() == [
        "2 messages to orders unknown (timeout): no ack in time",
        "1 message to payments unknown (timeout): no ack in time",
        "1 message to orders rejected (stream_full): full",
        "1 message to refunds unknown (timeout): no ack in time",
    ]


def test_very_many_topics(scene: Scene) -> None:
    """Beyond 20 at a time they are told together; once those are a second old, others are told apart again."""
    for number in range(100):
        scene.fail(1, f"topic.{number}")
    scene.pass_time(1)
    counts = {vars(record)["messaging.destination.name"]: 0 for record in scene.caplog.records}
    for record in scene.caplog.records:
        counts[vars(record)["messaging.destination.name"]] += vars(record)["messaging.batch.message_count"]
    assert counts == {**{f"topic.{number}": 1 for number in range(20)}, OTHER: 80}
    assert len(scene.told()) == 22
    scene.clock.advance(2)
    scene.fail(1, "topic.77")
    assert scene.told() == ["1 message to topic.77 unknown (timeout): no ack in time"]


def test_late_ack(scene: Scene) -> None:
    """It is told as what it is, no warning, with its flag."""
    scene.fail(2, outcome=AckOutcome.ACKED, late=True, error_kind=ErrorKind.TIMEOUT)
    (record,) = scene.caplog.records
    assert (record.levelname, record.getMessage()) == ("INFO", "2 messages to orders acked after having been unknown")
    assert vars(record)["eventbus.ack.late"] is True
    assert names.ERROR_TYPE not in vars(record)


def test_events(scene: Scene) -> None:
    """A loss is a warning, a return is none; both say which bus and server."""
    scene.happen(EventKind.DISCONNECTED, "connection lost")
    scene.happen(EventKind.CONNECTED, "connected again")
    first, second = scene.caplog.records
    assert (first.name, first.levelname, second.levelname) == ("eventbus.events", "WARNING", "INFO")
    assert first.getMessage() == "disconnected: connection lost"
    assert fields_of(first) == ALL | {"eventbus.event.kind": "disconnected", "eventbus.event.count": 1}


def test_very_many_events(scene: Scene) -> None:
    """Ten of a kind in a second are told each for itself; of the others the last, with their number."""
    for number in range(1000):
        scene.happen(EventKind.PAUSED, f"{number} pending")
    scene.happen(EventKind.RESUMED, "goes on")
    assert len(scene.told()) == 11
    scene.pass_time(1)
    (record,) = scene.caplog.records
    assert record.getMessage() == "paused: 999 pending (the last of 990)"
    assert vars(record)["eventbus.event.count"] == 990
    scene.told()
    scene.pass_time(3)
    scene.happen(EventKind.PAUSED, "again")
    assert scene.told() == ["paused: again"]


def test_end(scene: Scene) -> None:
    """What was held back is told when the bus is closed, and the timer that still waits then tells nothing."""
    for _ in range(3):
        scene.fail()
    for _ in range(12):
        scene.happen(EventKind.PAUSED, "full")
    scene.told()
    scene.log.close()
    assert scene.told() == ["2 messages to orders unknown (timeout): no ack in time", "paused: full (the last of 2)"]
    scene.pass_time(2)
    assert scene.told() == []


def test_level_that_hides_them(scene: Scene) -> None:
    """A logger that takes no warnings costs nothing but the question."""
    scene.caplog.set_level(logging.CRITICAL, "eventbus.failures")
    scene.fail(3)
    assert (scene.told(), scene.log._failed) == ([], {})


# ---- which trace ------------------------------------------------------------------------------------------------


def test_context_of_somebody_else(scene: Scene) -> None:
    """A record is made in an empty context, not in that of whoever happened to arm a timer or to open the bus; fields
    that a factory took from there are set right."""
    seen: list[str] = []

    class Look(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(_somebody.get() + vars(record)["trace_id"])

    factory = logging.getLogRecordFactory()

    def stamped(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        record.trace_id = "current"
        return record

    scene.log._sample = lambda *_: {"trace_id": "ours"}
    handler = Look()
    bus_log._failures.addHandler(handler)
    logging.setLogRecordFactory(stamped)
    token = _somebody.set("somebody")
    try:
        scene.fail()
    finally:
        _somebody.reset(token)
        logging.setLogRecordFactory(factory)
        bus_log._failures.removeHandler(handler)
    assert seen == ["nobodyours"]


async def test_span_of_a_failed_message(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    """The record names one message and the span that tells of it, in the trace of whoever published it."""
    async with eventbus.connect("memory://", retry=ONCE, telemetry=TelemetryConfig(success_span_ratio=0)) as bus:
        memory_of(bus).refuse_with = Failure(ErrorClass.FATAL, ErrorKind.PERMISSION, "not you")
        with sdk.tracers.get_tracer("app").start_as_current_span("caller") as caller:
            report = await (await bus.publish("shop.a", b"hidden-payload", headers={"token": "hidden-header"}))
    (record,) = (record for record in caplog.records if record.name == "eventbus.failures")
    (span,) = (span for span in sdk.spans if span.kind is SpanKind.PRODUCER)
    assert span.context is not None
    fields = fields_of(record)
    assert fields["trace_id"] == f"{caller.get_span_context().trace_id:032x}"
    assert fields["span_id"] == f"{span.context.span_id:016x}"
    assert fields[names.MESSAGING_MESSAGE_ID] == report.message_id == attribute(span, names.MESSAGING_MESSAGE_ID)
    assert set(fields) - {"trace_id", "span_id"} <= set(names.FAILURE_RECORD.attributes)
    assert "hidden" not in str([vars(record) for record in caplog.records])


async def test_failures_above_the_rate_of_spans(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    """Every failure is counted in the log too; of each record the span is that of a failure which has one."""
    config = TelemetryConfig(success_span_ratio=0, failure_spans_per_s=3)
    async with eventbus.connect("memory://", retry=ONCE, telemetry=config) as bus:
        memory_of(bus).refuse_with = Failure(ErrorClass.FATAL, ErrorKind.OTHER, "no")
        for _ in range(500):
            await bus.publish("shop.a", b"x")
        await bus.flush()
    records = [record for record in caplog.records if record.name == "eventbus.failures"]
    assert sum(vars(record)["messaging.batch.message_count"] for record in records) == 500
    assert len(records) <= 3
    ids = {f"{span.context.span_id:016x}" for span in sdk.spans if span.context is not None}
    assert vars(records[0])["span_id"] in ids


async def test_without_an_sdk(caplog: pytest.LogCaptureFixture) -> None:
    """Failures, late acks and changes of the connection are logged where nobody traces: with message, without trace."""
    caplog.set_level(logging.INFO, "eventbus")
    async with eventbus.connect("memory://", retry=ONCE) as bus:
        broker = memory_of(bus)
        broker.drop_acks = True
        report = await (await bus.publish("shop.a", b"x", ack_timeout_s=0.01))
        bus._handler.replied([AckBatch("SHOP", [1], [1])])
        broker.drop_acks = False
        await (await bus.publish("shop.a", b"x"))
    failed, late = (record for record in caplog.records if record.name == "eventbus.failures")
    assert fields_of(failed)[names.MESSAGING_MESSAGE_ID] == report.message_id
    assert "trace_id" not in fields_of(failed)
    assert fields_of(failed)[names.BUS_ID] == bus.bus_id
    assert late.levelno == logging.INFO
    events = [vars(record)[names.EVENT_KIND] for record in caplog.records if record.name == "eventbus.events"]
    assert events[-1] == "closed"
    assert not set(fields_of(caplog.records[0])) - set(names.EVENT_RECORD.attributes)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """A handler of the application's that raises on every record of ours."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("handler is broken")

    handler = Broken()
    logging.getLogger("eventbus.failures").addHandler(handler)
    logging.getLogger("eventbus.events").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("eventbus.failures").removeHandler(handler)
        logging.getLogger("eventbus.events").removeHandler(handler)


async def test_handler_that_raises() -> None:
    """The ledger hears nothing of it, nor do other observers, nor the loop."""
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    with raising():
        async with eventbus.connect("memory://", retry=ONCE) as bus:
            memory_of(bus).refuse_with = Failure(ErrorClass.FATAL, ErrorKind.OTHER, "no")
            for _ in range(50):
                assert (await (await bus.publish("shop.a", b"x"))).outcome is AckOutcome.REJECTED
            snapshot = bus.snapshot()
    assert (snapshot.rejected, snapshot.pending, snapshot.callback_errors, problems) == (50, 0, 0, [])


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_records_over_otlp(monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    """A collector gets a failure's record with the trace of its message, as the record's own, and its fields; and a
    change of the connection without any trace, whatever is current."""
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint(protocol))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        telemetry = setup(install=False)
        providers = telemetry.providers
        assert providers is not None
        assert providers.tracers is not None
        Sdk().install(monkeypatch)
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: providers.tracers)
        monkeypatch.setattr(trace, "get_tracer", providers.tracers.get_tracer)
        try:
            with providers.tracers.get_tracer("app").start_as_current_span("caller") as caller:
                async with eventbus.connect("memory://", retry=ONCE) as bus:
                    memory_of(bus).refuse_with = Failure(ErrorClass.FATAL, ErrorKind.STREAM_FULL, "full")
                    report = await (await bus.publish("shop.a", b"hidden"))
                    bus._handler.happened(BusEvent(1.0, EventKind.DISCONNECTED, "lost"))
        finally:
            assert await asyncio.to_thread(telemetry.shutdown)
        records = receiver.records()
        (span,) = (span for span in receiver.spans() if span.name == "publish shop.a")
    failed = next(record for record in records if "rejected" in record.body.string_value)
    lost = next(record for record in records if "disconnected" in record.body.string_value)
    assert (failed.trace_id, failed.span_id, failed.flags & 1) == (span.trace_id, span.span_id, 1)
    assert int.from_bytes(failed.trace_id) == caller.get_span_context().trace_id
    assert (lost.trace_id, lost.span_id) == (b"", b"")
    attributes = {a.key: a.value.string_value or a.value.int_value for a in failed.attributes}
    assert attributes == {
        "eventbus.bus.id": bus.bus_id,
        "messaging.system": "memory",
        "messaging.destination.name": "shop.a",
        "eventbus.ack.outcome": "rejected",
        "error.type": "stream_full",
        "messaging.batch.message_count": 1,
        "messaging.message.id": report.message_id,
    }
    assert failed.severity_text == lost.severity_text == "WARNING"


@pytest.mark.parametrize("odd", [{"trace_id": "not a number", "span_id": "1", "trace_flags": "1"}, {"trace_id": "ab"}])
def test_fields_of_somebody_else(sdk: Sdk, odd: dict[str, str]) -> None:
    """Where a record has such fields for another purpose, they stay what they are, and the current trace counts."""
    emitted: list[Any] = []

    class Provider:
        def get_logger(self, name: str) -> Any:
            return self

        def emit(self, record: Any) -> None:
            emitted.append(record)

    with sdk.tracers.get_tracer("app").start_as_current_span("caller") as caller:
        OtlpLogHandler(Provider()).emit(logging.makeLogRecord({"levelno": logging.INFO, **odd}))  # type: ignore[arg-type]
    assert emitted[0].trace_id == caller.get_span_context().trace_id
    assert emitted[0].attributes == odd
