"""A bus that tells OpenTelemetry: all three tellings agree, the caller's trace goes on, and nothing harms the bus."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import context, propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

import eventbus
from eventbus import (
    AckOutcome,
    ErrorClass,
    ErrorKind,
    EventBus,
    InvalidMessage,
    RetryPolicy,
    StallTimeout,
    TopicConfig,
    WindowConfig,
    WindowFull,
)
from eventbus.ack.pending import PendingAck
from eventbus.config import TelemetryConfig
from eventbus.embedded.kafka import EmbeddedKafka
from eventbus.embedded.nats import EmbeddedNats
from eventbus.ports import AckBatch, Failure
from eventbus.publishers.memory import MemoryPublisher
from eventbus.snapshot import ConnectionState
from eventbus.telemetry import names, source
from tests import kafka_tools, nats_tools
from tests.fakes import route, until
from tests.telemetry_sdk import Sdk, WitnessedBench, assert_same_totals, attribute, roomy

UNSAMPLED = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(0))
EVERY = TelemetryConfig(success_span_ratio=1)
NONE = TelemetryConfig(success_span_ratio=0)
ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Sdk:
    return Sdk().install(monkeypatch)


@pytest.fixture
def _frequent_switches() -> Iterator[None]:
    """Threads take turns all the time, so that whatever can meet does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def memory_of(bus: EventBus) -> MemoryPublisher:
    publisher = bus._publisher
    assert isinstance(publisher, MemoryPublisher)
    return publisher


def kept(bus: EventBus) -> int:
    """Spans that wait for an outcome."""
    assert bus._telemetry is not None
    return len(bus._telemetry.tracing._spans)


# ---- metrics, spans and snapshot agree --------------------------------------------------------------------------

STEPS = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 60)),
    st.tuples(st.sampled_from(["ack", "duplicate", "refuse", "deny", "doubt", "late"]), st.integers(1, 40)),
    st.tuples(st.sampled_from(["time", "lose", "reconnect"]), st.sampled_from([1, 3, 11])),
)


def play(bench: WitnessedBench, steps: Sequence[tuple[str, int]]) -> None:
    """A life of a bus: what is published, and what the broker, the connection and time do to it."""
    topics = [route(f"topic.{number}") for number in range(4)]
    messages: list[PendingAck] = []
    for word, number in steps:
        sent = [m for m in messages if not m.settled and m.attempts][:number]
        if word == "publish":
            messages += [bench.accepted(via=topics[index % 4]) for index in range(number)]
        elif word == "time":
            bench.pass_time(number / 2, step_s=0.25)
        elif word == "lose":
            bench.handler.connection_changed(ConnectionState.RECONNECTING, "lost")
        elif word == "reconnect":
            bench.handler.connection_changed(ConnectionState.CONNECTED)
        elif word == "late":
            late = [m for m in messages if m.report is not None and m.report.outcome is AckOutcome.UNKNOWN][:number]
            bench.ack(*late, duplicates=[m.token for m in late[::2]])
        elif sent and word in ("ack", "duplicate"):
            bench.ack(*sent, duplicates=[m.token for m in sent] if word == "duplicate" else [])
        elif sent:
            how = {"refuse": ErrorClass.TRANSIENT, "deny": ErrorClass.FATAL, "doubt": ErrorClass.AMBIGUOUS}[word]
            bench.fail(*sent, as_=how, kind=ErrorKind.STREAM_FULL if word == "refuse" else ErrorKind.OTHER)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
@given(st.lists(st.lists(STEPS, max_size=15), min_size=1, max_size=3), st.integers(1, 3), st.sampled_from([0, 3, 1000]))
def test_any_lives_of_buses(lives: list[list[tuple[str, int]]], attempts: int, rate: int) -> None:
    """Failures by metric == failures that spans stand for, and totals by metric == totals by snapshot, whatever
    happens, also with no token left, with buses that come and go and end in the middle; deltas add up to it all."""
    with pytest.MonkeyPatch.context() as patch:
        sdk = Sdk().install(patch)
        telemetry = TelemetryConfig(success_span_ratio=0.1, failure_spans_per_s=rate)
        retry = RetryPolicy(max_attempts=attempts, base_delay_s=0.1, max_delay_s=0.2)
        snapshots, deltas = [], 0
        for life in lives:
            with WitnessedBench(telemetry, window=roomy(), retry=retry) as bench:
                play(bench, life)
                deltas += sum(sdk.counts(sdk.delta).values())
                bench.close()
                snapshots.append(bench.snapshot())
                assert not bench.telemetry.tracing._spans
            deltas += sum(sdk.counts(sdk.delta).values())
        counts = sdk.counts()
        late = sum(s.late_acks for s in snapshots)
        assert counts.get("unknown", 0) == sdk.stood_for("unknown") == sum(s.unknown for s in snapshots) + late
        assert counts.get("rejected", 0) == sdk.stood_for("rejected") == sum(s.rejected for s in snapshots)
        acked = counts.get("acked", 0) + counts.get("duplicate", 0)
        assert acked == sum(s.acked for s in snapshots) - late
        assert sum(counts.values()) == sum(s.accepted for s in snapshots) == deltas
        assert sdk.total(names.LATE_ACKS) == late
        assert sdk.total(names.FAILED_ATTEMPTS) == sum(sum(s.errors.values()) for s in snapshots)


async def test_many_outcomes_at_full_speed(sdk: Sdk) -> None:
    """The same through the public bus, thousands of messages in a burst, most failures above the rate of spans."""
    chance = random.Random(7)
    telemetry = TelemetryConfig(success_span_ratio=0.01, failure_spans_per_s=20)
    async with eventbus.connect(
        "memory://", retry=RetryPolicy(max_attempts=2, base_delay_s=0.001, max_delay_s=0.002), telemetry=telemetry
    ) as bus:
        broker = memory_of(bus)
        for _ in range(60):
            how = chance.choice(["ack", "ack", "deny", "refuse", "mute"])
            kinds = {"deny": ErrorClass.FATAL, "refuse": ErrorClass.TRANSIENT}
            broker.drop_acks = how == "mute"
            broker.refuse_with = Failure(kinds[how], ErrorKind.OTHER, "no") if how in kinds else None
            for number in range(200):
                await bus.publish(f"shop.{number % 3}", b"x", ack_timeout_s=0.02)
            await asyncio.sleep(0)
        await bus.flush(20)
    assert_same_totals(sdk, bus.snapshot())
    assert min(sdk.counts()[word] for word in ("acked", "rejected")) > 100
    assert len(sdk.spans) < 1000


@pytest.mark.usefixtures("_frequent_switches")
async def test_collection_in_another_thread_at_full_speed(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    """An exporter's thread asks the bus while its loop runs: no error, nothing that shrinks, and exact at the end."""
    stop, seen = threading.Event(), list[int]()

    def collect() -> None:
        while not stop.is_set():
            seen.append(sum(sdk.counts().values()))

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        async with eventbus.connect("memory://", retry=ONCE, telemetry=EVERY, window=WindowConfig(500)) as bus:
            broker = memory_of(bus)
            for number in range(3000):
                broker.refuse_with = Failure(ErrorClass.FATAL, ErrorKind.OTHER, "no") if number % 500 < 100 else None
                await bus.publish("shop.a", b"x")
            await bus.flush(20)
    finally:
        stop.set()
        await asyncio.to_thread(thread.join, 20)
    assert_same_totals(sdk, bus.snapshot())
    assert seen == sorted(seen)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


# ---- the trace goes on ------------------------------------------------------------------------------------------


@pytest.mark.integration
async def test_trace_goes_on_in_a_stream(sdk: Sdk) -> None:
    """Who reads the message from JetStream finds the context of the span that ended with the ack, in the caller's
    trace; a caller that is not sampled is passed on as it is."""
    given = {"kind": "order"}
    with EmbeddedNats() as server:
        topics = [TopicConfig("orders.>", stream="ORDERS", storage="memory")]
        async with eventbus.connect(server.url, topics=topics, telemetry=NONE) as bus:
            with sdk.tracers.get_tracer("app").start_as_current_span("caller") as caller:
                report = await (await bus.publish("orders.a", b"1", headers=given))
            token = context.attach(trace.set_span_in_context(NonRecordingSpan(UNSAMPLED)))
            await (await bus.publish("orders.a", b"2"))
            context.detach(token)
            await (await bus.publish("orders.a", b"3"))
        first, second, third = await nats_tools.read_back(server.url, "ORDERS")
    span = next(s for s in sdk.spans if s.name == "publish orders.a")
    assert span.context is not None
    assert first.headers["traceparent"].split("-")[1:3] == [
        f"{caller.get_span_context().trace_id:032x}", f"{span.context.span_id:016x}",
    ]  # fmt: skip
    assert first.headers["kind"] == "order"
    assert given == {"kind": "order"}
    assert report.position is not None
    assert attribute(span, names.NATS_SEQUENCE) == first.offset
    assert second.headers["traceparent"].split("-")[1:3] == [f"{UNSAMPLED.trace_id:032x}", f"{UNSAMPLED.span_id:016x}"]
    assert third.headers == {}
    assert len([s for s in sdk.spans if s.kind is SpanKind.PRODUCER]) == 1


@pytest.mark.integration
async def test_trace_goes_on_in_a_kafka_topic(sdk: Sdk) -> None:
    """The same by the headers of the record; the span tells partition and offset."""
    topic = kafka_tools.new_topic()
    with EmbeddedKafka() as server:
        async with eventbus.connect(server.url, topics=[TopicConfig(topic)], telemetry=NONE) as bus:
            with sdk.tracers.get_tracer("app").start_as_current_span("caller") as caller:
                await (await bus.publish(topic, b"1", headers={"kind": "order"}))
            await (await bus.publish(topic, b"2"))
        bootstrap = server.url.removeprefix("kafka://")
        first, second = sorted(await kafka_tools.read_back(bootstrap, topic), key=lambda record: record.value or b"")
    span = next(s for s in sdk.spans if s.name == f"send {topic}")
    assert span.context is not None
    assert (first.header("traceparent") or b"").decode().split("-")[1:3] == [
        f"{caller.get_span_context().trace_id:032x}", f"{span.context.span_id:016x}",
    ]  # fmt: skip
    assert (first.header("kind"), second.header("traceparent")) == (b"order", None)
    assert attribute(span, names.MESSAGING_KAFKA_OFFSET) == first.offset
    assert attribute(span, names.MESSAGING_DESTINATION_PARTITION_ID) == str(first.partition)
    assert attribute(span, names.MESSAGING_SYSTEM) == "kafka"


@pytest.mark.integration
async def test_trace_goes_on_in_a_consumer_of_a_real_kafka(sdk: Sdk, kafka: str) -> None:
    """A consumer that takes the context from the record's headers makes its spans in the caller's trace, as children of
    the span that ended with the broker's ack; the messages before it carry none."""
    topic, tracer = kafka_tools.new_topic(), sdk.tracers.get_tracer("app")
    await kafka_tools.create_topic(kafka, topic)
    async with eventbus.connect(f"kafka://{kafka}", topics=[TopicConfig(topic)], telemetry=NONE) as bus:
        for _ in range(20):
            await bus.publish(topic, b"before")
        with tracer.start_as_current_span("caller") as caller:
            report = await (await bus.publish(topic, b"traced", headers={"kind": "order"}))
    records = await kafka_tools.read_back(kafka, topic)
    carrying = [record for record in records if record.header("traceparent") is not None]
    assert [record.value for record in carrying] == [b"traced"]
    headers = {name: value.decode() for name, value in carrying[0].headers}
    with tracer.start_as_current_span("process", propagate.extract(headers), SpanKind.CONSUMER):
        pass
    sent, processed = (next(s for s in sdk.spans if s.name == name) for name in (f"send {topic}", "process"))
    assert processed.parent is not None
    assert sent.context is not None
    assert sent.parent is not None
    assert report.position is not None
    assert (processed.parent.trace_id, processed.parent.span_id) == (sent.context.trace_id, sent.context.span_id)
    assert (sent.parent.trace_id, sent.parent.span_id) == caller.get_span_context()[:2]
    assert attribute(sent, names.MESSAGING_KAFKA_OFFSET) == carrying[0].offset == report.position.offset


# ---- what is told, and what is left behind ----------------------------------------------------------------------


async def test_names_on_spans_and_no_content(sdk: Sdk) -> None:
    """Spans have the attributes that names.py lists and no other; neither payloads nor header values are told."""
    async with eventbus.connect("memory://", retry=ONCE, telemetry=EVERY) as bus:
        await (await bus.publish("shop.a", b"hidden-payload", headers={"token": "hidden-header"}))
        memory_of(bus).refuse_with = Failure(ErrorClass.FATAL, ErrorKind.OTHER, "no")
        await (await bus.publish("shop.a", b"hidden-payload", headers={"token": "hidden-header"}))
    listed = {name for span in names.SPANS for name in span.attributes}
    assert len(sdk.spans) == 2
    for span in sdk.spans:
        assert set(span.attributes or {}) <= listed
        assert attribute(span, names.ACK_OUTCOME) in names.OUTCOMES
        assert (attribute(span, names.ERROR_TYPE) is None) == (attribute(span, names.ACK_OUTCOME) == "acked")
    data = sdk.reader.get_metrics_data()
    assert data is not None
    assert "hidden" not in data.to_json() + "".join(span.to_json() for span in sdk.spans)


async def test_publish_that_raises(sdk: Sdk) -> None:
    """Invalid, no room, stalled, cancelled: nothing was accepted, so there is no span, and nothing is kept."""
    window = WindowConfig(max_pending=1, stall_timeout_s=0.02)
    async with eventbus.connect("memory://", window=window, telemetry=EVERY, ack_timeout_s=60) as bus:
        with pytest.raises(InvalidMessage):
            await bus.publish("shop..a", b"")
        with pytest.raises(InvalidMessage):
            await bus.publish("shop.a", b"", headers={"kind": 7})  # type: ignore[dict-item]
        memory_of(bus).drop_acks = True
        await bus.publish("shop.a", b"the only one that is accepted")
        with pytest.raises(WindowFull):
            bus.publish_nowait("shop.a", b"")
        with pytest.raises(StallTimeout):
            await bus.publish("shop.a", b"")
        waiting = asyncio.create_task(bus.publish("shop.a", b""))
        await until(lambda: bus.snapshot().waiting_publishers == 1)
        waiting.cancel()
        await asyncio.wait([waiting])
        del waiting
        assert kept(bus) == 1
        await bus.close(0.05)
    assert [attribute(span, names.ERROR_TYPE) for span in sdk.spans] == ["closed"]
    assert kept(bus) == 0
    assert bus._telemetry is not None
    gc.collect()
    assert not bus._telemetry.tracing._begun


async def test_hundred_thousand_messages(sdk: Sdk) -> None:
    """Nothing of a message is kept after its end."""
    async with eventbus.connect("memory://", telemetry=TelemetryConfig(success_span_ratio=0.01)) as bus:
        for _ in range(100_000):
            await bus.publish("shop.a", b"x")
        await bus.flush(20)
        assert kept(bus) == 0
    assert sdk.counts() == {"acked": 100_000}
    assert len(sdk.spans) == pytest.approx(1000, rel=0.3)


# ---- what may be missing or broken ------------------------------------------------------------------------------


async def test_no_sdk() -> None:
    """Where the application has set none up, or telemetry is turned off, a bus has nothing that would tell anybody."""
    async with eventbus.connect("memory://") as bus:
        assert bus._telemetry is None
        assert bus._handler._witness is None


async def test_connection_that_fails(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of it is left to be collected, and others are collected as before."""
    config = eventbus.ConnectionConfig(connect_timeout_s=0.2)
    with pytest.raises(eventbus.ConnectFailed):
        await eventbus.connect("nats://127.0.0.1:1", connection=config, telemetry=EVERY)
    assert source.sources() == ()
    async with eventbus.connect("memory://", telemetry=EVERY) as bus:
        await (await bus.publish("shop.a", b"x"))
        assert sdk.counts() == {"acked": 1}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_turned_off(sdk: Sdk) -> None:
    """``enabled=False`` wins over an SDK."""
    async with eventbus.connect("memory://", telemetry=TelemetryConfig(enabled=False)) as bus:
        await (await bus.publish("shop.a", b"x"))
        assert bus._telemetry is None
    assert (sdk.spans, sdk.counts()) == ([], {})


WITHOUT = """
import asyncio, sys
from importlib.abc import MetaPathFinder
class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "opentelemetry" else real(name, *rest)
sys.meta_path.insert(0, Hidden())
import eventbus
from eventbus.config import TelemetryConfig
async def main():
    async with eventbus.connect("memory://") as bus:
        print((await (await bus.publish("a.b", b"x"))).outcome)
    try:
        await eventbus.connect("memory://", telemetry=TelemetryConfig(enabled=True))
    except eventbus.ConfigError as error:
        print(error)
asyncio.run(main())
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


def test_without_the_package() -> None:
    """The library works without OpenTelemetry, loads nothing of it, and says what is missing where it is asked for."""
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    outcome, missing, loaded = done.stdout.strip().splitlines()
    assert (outcome, loaded) == ("acked", "[]")
    assert "pip install" in missing


class Broken(SpanProcessor):
    """Raises at every end of a span."""

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        """Nothing."""

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("processor is broken")


async def test_processor_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger goes on: everything has its outcome, publishers that wait for room are woken, counts are exact."""
    sdk = Sdk(Broken()).install(monkeypatch)
    async with eventbus.connect("memory://", retry=ONCE, window=WindowConfig(5), telemetry=EVERY) as bus:
        for number in range(200):
            refusal = Failure(ErrorClass.FATAL, ErrorKind.OTHER, "no")
            memory_of(bus).refuse_with = refusal if number % 2 else None
            await bus.publish("shop.a", b"x")
        await bus.flush(5)
        snapshot = bus.snapshot()
    assert (snapshot.accepted, snapshot.pending) == (200, 0)
    assert sum(sdk.counts().values()) == 200
    assert kept(bus) == 0


class Hanging(SpanExporter):
    """Hangs in its first export until it is let go."""

    def __init__(self) -> None:
        self.entered, self.let_go = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.let_go.wait(30)
        return SpanExportResult.SUCCESS


async def test_exporter_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing, acks and close go on beside it: spans wait in the SDK's queue, which drops what is too much."""
    exporter = Hanging()
    queue = BatchSpanProcessor(exporter, max_queue_size=64, max_export_batch_size=8, schedule_delay_millis=1)
    sdk = Sdk(queue).install(monkeypatch)
    try:
        async with eventbus.connect("memory://", telemetry=EVERY) as bus:
            await (await bus.publish("shop.a", b"x"))
            await until(exporter.entered.is_set)
            began = time.monotonic()
            for _ in range(500):
                await bus.publish("shop.a", b"x")
            await bus.flush(5)
            report = await bus.close(5)
            assert time.monotonic() - began < 3
        assert (report.acked, report.timed_out) == (501, False)
        assert sdk.counts() == {"acked": 501}
    finally:
        exporter.let_go.set()
        await asyncio.to_thread(queue.shutdown)


async def test_late_ack_through_the_bus(sdk: Sdk) -> None:
    """It is counted as a late ack, linked to its unknown span, and takes nothing back that was counted before."""
    async with eventbus.connect("memory://", retry=ONCE, telemetry=NONE) as bus:
        broker = memory_of(bus)
        broker.drop_acks = True
        receipt = await bus.publish("shop.a", b"x", ack_timeout_s=0.01)
        assert (await receipt).outcome is AckOutcome.UNKNOWN
        bus._handler.replied([AckBatch("SHOP", [1], [1])])
        assert bus.snapshot().late_acks == 1
    assert_same_totals(sdk, bus.snapshot())
    unknown, late = sdk.spans
    assert [link.context for link in late.links] == [unknown.context]


# ---- what only the bus can see to -------------------------------------------------------------------------------


async def test_unknown_in_the_trace_of_its_headers(sdk: Sdk) -> None:
    """A failure is in the trace that the message carries, also where the ledger lets headers go at its end."""
    headers: dict[str, str] = {}
    caller = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1))
    propagate.inject(headers, trace.set_span_in_context(NonRecordingSpan(caller)))
    async with eventbus.connect("memory://", retry=ONCE, telemetry=NONE) as bus:
        memory_of(bus).drop_acks = True
        report = await (await bus.publish("shop.a", b"x", headers=headers, ack_timeout_s=0.01))
    assert report.outcome is AckOutcome.UNKNOWN
    (span,) = sdk.spans
    assert span.parent is not None
    assert span.parent.trace_id == caller.trace_id


@pytest.mark.parametrize("telemetry", [NONE, EVERY])
async def test_send_without_ack_that_was_not_possible(sdk: Sdk, telemetry: TelemetryConfig) -> None:
    """It is rejected in the snapshot, in the metrics and in a span; what was sent without an ack is in none of them."""
    topics = [TopicConfig("core.a", durable=False)]
    async with eventbus.connect("memory://", topics=topics, telemetry=telemetry) as bus:
        await bus.publish("core.a", b"x")
        sent = len(sdk.spans)
        memory_of(bus).disconnect()
        assert (await (await bus.publish("core.a", b"x"))).outcome is AckOutcome.REJECTED
        memory_of(bus).reconnect()
        assert len(sdk.spans) == sent + 1
    assert_same_totals(sdk, bus.snapshot())
    assert attribute(sdk.spans[-1], names.ERROR_TYPE) == "disconnected"
    assert sdk.total(names.UNACKNOWLEDGED) == 1


@pytest.mark.integration
@pytest.mark.parametrize("nowait", [False, True])
async def test_message_as_large_as_the_server_takes(sdk: Sdk, nowait: bool) -> None:
    """Telemetry never makes a message too large: where its header does not fit in, the message goes without it."""
    with EmbeddedNats() as server:
        topics = [TopicConfig("big.a", stream="BIG", storage="memory")]
        async with eventbus.connect(server.url, topics=topics, telemetry=EVERY) as bus:
            payload = bytes(1024 * 1024 - 100)
            receipt = bus.publish_nowait("big.a", payload) if nowait else await bus.publish("big.a", payload)
            assert (await receipt).outcome is AckOutcome.ACKED
    assert sdk.counts() == {"acked": 1}
