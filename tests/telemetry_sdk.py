"""What tests of telemetry need: an SDK in memory that no other test sees, and a ledger that tells it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import Counter, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from eventbus.ack.handler import AckHandler
from eventbus.ack.retry import RetryPolicy
from eventbus.config import TelemetryConfig, WindowConfig
from eventbus.snapshot import BusSnapshot
from eventbus.telemetry import instruments, names, source
from eventbus.telemetry.witness import BusTelemetry
from tests.fakes import Bench

ATTRIBUTES: dict[str, str | int] = {"messaging.system": "nats", "server.address": "127.0.0.1", "server.port": 4222}
DELTA: dict[type, AggregationTemporality] = {
    Counter: AggregationTemporality.DELTA,
    ObservableCounter: AggregationTemporality.DELTA,
}


class Sdk:
    """Tracer and meter provider of one test, with everything in memory. ``install`` makes them the global ones for it.

    processors: further ones, asked before the exporter's.
    """

    def __init__(self, *processors: SpanProcessor) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        for processor in (*processors, SimpleSpanProcessor(self.exporter)):
            self.tracers.add_span_processor(processor)
        self.reader = InMemoryMetricReader()
        self.delta = InMemoryMetricReader(DELTA)
        self.meters = MeterProvider([self.reader, self.delta], shutdown_on_exit=False)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Sdk:
        """By the API's public functions, and with no bus of other tests."""
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: self.tracers)
        monkeypatch.setattr(trace, "get_tracer", self.tracers.get_tracer)
        monkeypatch.setattr(metrics, "get_meter_provider", lambda: self.meters)
        monkeypatch.setattr(instruments, "_observed", WeakSet())
        monkeypatch.setattr(source, "_live", {})
        monkeypatch.setattr(source, "_retired", {})
        return self

    @property
    def spans(self) -> list[ReadableSpan]:
        """All that ended."""
        return list(self.exporter.get_finished_spans())

    def stood_for(self, *outcomes: str) -> int:
        """How many messages the spans with these outcomes stand for; late acks are told apart."""
        return sum(
            count_of(span)
            for span in self.spans
            if attribute(span, names.ACK_OUTCOME) in outcomes and not attribute(span, names.ACK_LATE)
        )

    def points(self, metric: names.Metric, reader: InMemoryMetricReader | None = None) -> list[Any]:
        """The points of a metric, collected now."""
        data = (reader or self.reader).get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric.name
            for point in found.data.data_points
        ]

    def counts(self, reader: InMemoryMetricReader | None = None) -> dict[str, int]:
        """Sent messages by outcome."""
        found: dict[str, int] = {}
        for point in self.points(names.SENT_MESSAGES, reader):
            word = point.attributes[names.ACK_OUTCOME]
            found[word] = found.get(word, 0) + point.value
        return found

    def total(self, metric: names.Metric) -> float:
        """The sum over all points."""
        return float(sum(point.value for point in self.points(metric)))


def attribute(span: ReadableSpan, name: str) -> Any:
    """Its value; None where there is none."""
    return (span.attributes or {}).get(name)


def count_of(span: ReadableSpan) -> int:
    """How many messages it stands for."""
    count = attribute(span, names.MESSAGING_BATCH_MESSAGE_COUNT)
    return 1 if count is None else int(count)


def assert_same_totals(sdk: Sdk, snapshot: BusSnapshot) -> None:
    """Metrics, spans of failures, and the snapshot tell the same numbers, exactly. Nothing may be pending."""
    counts = sdk.counts()
    acked, duplicates = counts.get("acked", 0), counts.get("duplicate", 0)
    unknown, rejected = counts.get("unknown", 0), counts.get("rejected", 0)
    assert acked + duplicates == snapshot.acked - snapshot.late_acks
    assert unknown == snapshot.unknown + snapshot.late_acks
    assert rejected == snapshot.rejected
    assert acked + duplicates + unknown + rejected == snapshot.accepted - snapshot.pending
    assert sdk.stood_for("unknown") == unknown
    assert sdk.stood_for("rejected") == rejected
    assert sdk.total(names.LATE_ACKS) == snapshot.late_acks
    assert sdk.total(names.RETRIES) == snapshot.retries
    assert sdk.total(names.ACK_TIMEOUTS) == snapshot.ack_timeouts
    assert sdk.total(names.FAILED_ATTEMPTS) == sum(snapshot.errors.values())


class WitnessedBench(Bench):
    """A ledger in virtual time that tells the installed SDK; ``close`` it when the script is over."""

    def __init__(self, config: TelemetryConfig | None = None, **settings: Any) -> None:
        self._telemetry_config = config or TelemetryConfig(success_span_ratio=0.1, failure_spans_per_s=5)
        super().__init__(**settings)

    async def _build(self) -> AckHandler:
        self.telemetry = BusTelemetry(
            self._telemetry_config, ATTRIBUTES, self.clock, self.snapshot, self.loop.call_later
        )
        self.telemetry.begin()
        return AckHandler(
            self.publisher,
            window=self._window_config,
            retry=self.retry,
            tally=self.counters,
            observer=self.observer,
            clock=self.clock,
            random=self._chance,
            id_prefix="bus-",
            witness=self.telemetry,
        )

    def snapshot(self) -> BusSnapshot:
        """As the bus makes it."""
        counters, statistics = self.counters, self.handler.statistics()
        return BusSnapshot(
            "bus", self.clock.monotonic_ns() / 1e9, self.clock.wall_s(), self.handler.connection,
            counters.accepted, counters.acked, counters.duplicates, counters.late_acks, counters.rejected,
            counters.unknown, counters.unacknowledged, counters.ack_timeouts, counters.retries,
            statistics.pending, statistics.pending_bytes, statistics.max_pending,
            errors=counters.errors(), latency=counters.latency(),
        )  # fmt: skip

    def close(self) -> None:
        """As the bus ends: what is pending is settled by what is known of it, then telemetry is told."""
        self.run(self.handler.close(0.0), turns=6)
        self.telemetry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.finish()


def once() -> RetryPolicy:
    """Every message is tried once."""
    return RetryPolicy(max_attempts=1)


def roomy() -> WindowConfig:
    """A window that no script fills."""
    return WindowConfig(max_pending=100_000)


class Timers:
    """Implements call_later by keeping what was asked for; ``fire`` does it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def __call__(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.waiting.append((delay_s, callback))

    def fire(self) -> None:
        waiting, self.waiting = self.waiting, []
        for _, callback in waiting:
            callback()
