"""AckScope with OpenTelemetry: metrics of every message and spans of a share, to an SDK whose exporters discard them.

The SDK is a real one, with a reader and a span processor in threads of their own; only the network is missing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.ackscope import AckScope
from benchmarks.producer import Settings
from eventbus import AckStrategy

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

EXPORT_EVERY_MS = 1000
"""Metrics are collected that often; the SDK's default is a minute, which no round lasts."""


class DiscardedSpans:
    """A span exporter that counts. Not derived from the SDK's, which may be missing.

    failures: messages that were not acked and that a span stood for.
    """

    def __init__(self) -> None:
        self.failures = 0

    def export(self, spans: Sequence[Any]) -> Any:
        from opentelemetry.sdk.trace.export import SpanExportResult

        for span in spans:
            if "error.type" in span.attributes:
                self.failures += span.attributes.get("messaging.batch.message_count", 1)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def set_up(spans: DiscardedSpans) -> tuple[TracerProvider, MeterProvider]:
    """Make such an SDK the process's; it can be done once."""
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import (
        MetricExporter,
        MetricExportResult,
        MetricsData,
        PeriodicExportingMetricReader,
    )
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    class DiscardedMetrics(MetricExporter):
        def export(
            self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
        ) -> MetricExportResult:
            return MetricExportResult.SUCCESS

        def force_flush(self, timeout_millis: float = 10_000) -> bool:
            return True

        def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
            pass

    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(spans))  # type: ignore[arg-type]  # has all that is called of one
    reader = PeriodicExportingMetricReader(DiscardedMetrics(), export_interval_millis=EXPORT_EVERY_MS)
    meters = MeterProvider([reader], shutdown_on_exit=False)
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    return tracers, meters


def missing() -> str | None:
    """Why it cannot take part, or None if it can."""
    if importlib.util.find_spec("opentelemetry") and importlib.util.find_spec("opentelemetry.sdk"):
        return None
    return "OpenTelemetry's SDK is not installed: `pip install opentelemetry-sdk`"


class ObservedAckScope(AckScope):
    """The bus as ``connect`` makes it where the application has set an SDK up: nothing else is configured."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, AckStrategy.UNIFIED)
        self._providers = set_up(DiscardedSpans())

    async def close(self) -> None:
        await super().close()
        for provider in self._providers:
            provider.shutdown()
