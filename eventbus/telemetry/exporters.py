"""The exporter of each target, wrapped to tell what became of each export; and queues that count what they drop.

The SDK's exporters say of a failure only that it was one; the reason goes to their loggers, so that is where it is
taken from. Waits in the thread of the SDK that exports, never in a caller's.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, TypeVar

from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    ConsoleLogRecordExporter,
    LogRecordExporter,
    LogRecordExportResult,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)

from eventbus.errors import ConfigError
from eventbus.telemetry.environment import OtlpProtocol, Signal, Target
from eventbus.telemetry.status import ExportLog

_LOGGERS = "opentelemetry.exporter."
_MESSAGES = 2
"""The last of an export: why the last attempt failed, and that it was given up."""
_GIVEN_UP = "given up, because telemetry was shut down"
_MODULES = {
    OtlpProtocol.GRPC: "opentelemetry.exporter.otlp.proto.grpc",
    OtlpProtocol.HTTP: "opentelemetry.exporter.otlp.proto.http",
}
_CLASSES = {
    Signal.TRACES: ("trace_exporter", "OTLPSpanExporter"),
    Signal.METRICS: ("metric_exporter", "OTLPMetricExporter"),
    Signal.LOGS: ("_log_exporter", "OTLPLogExporter"),
}
_CONSOLE: dict[Signal, Callable[..., Any]] = {
    Signal.TRACES: ConsoleSpanExporter,
    Signal.METRICS: ConsoleMetricExporter,
    Signal.LOGS: ConsoleLogRecordExporter,
}

_ResultT = TypeVar("_ResultT")


class LastWords(logging.Filter):
    """Remembers what an exporter logs, by thread, until it is asked; lets every record pass.

    It is put before the loggers' other filters: those of the SDK leave out what differs only in its values from
    something logged in the last 20 s, by whichever exporter.
    """

    def __init__(self) -> None:
        super().__init__()
        self._words: dict[int, list[str]] = {}
        self._loggers: set[logging.Logger] = set()

    def listen(self, exporter: object) -> None:
        """To the loggers of the modules that its classes are defined in; ``stop`` ends it."""
        for kind in type(exporter).__mro__:
            logger = logging.getLogger(kind.__module__)
            if kind.__module__.startswith(_LOGGERS) and logger not in self._loggers:
                self._loggers.add(logger)
                logger.filters.insert(0, self)

    def stop(self) -> None:
        """Hear no more."""
        for logger in self._loggers:
            logger.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Called by logging, in the thread that exports."""
        words = self._words.setdefault(threading.get_ident(), [])
        words.append(record.getMessage())
        del words[:-_MESSAGES]
        return True

    def take(self) -> str:
        """What was logged in this thread since the last call."""
        return "; ".join(self._words.pop(threading.get_ident(), ()))


class Exports:
    """What the wrappers of all signals share: one export at a time becomes one line of its log.

    taken: items handed to the exporter until now. abandon: every further export fails at once, and the one that is
    under way where the exporter can be interrupted (gRPC, and every pause between attempts).
    """

    def __init__(self, inner: Any, log: ExportLog, words: LastWords) -> None:
        self.inner = inner
        self.log = log
        self.taken = 0
        self._words = words
        words.listen(inner)
        self._abandoned = False
        self._shut_down = False

    def run(self, items: int, export: Callable[[], _ResultT], failure: _ResultT) -> _ResultT:
        """Export and note what became of it."""
        self.taken += items
        if self._abandoned:
            self.log.failed(items, _GIVEN_UP)
            return failure
        self._words.take()
        try:
            result = export()
        except Exception as error:  # an exporter is foreign code: what it raises must not end the SDK's thread
            self.log.failed(items, f"{type(error).__name__}: {error}")
            return failure
        if result is failure:
            self.log.failed(items, _GIVEN_UP if self._abandoned else self._words.take() or "no reason was given")
        else:
            self.log.succeeded(items)
        return result

    def shutdown(self, *args: Any, **kwargs: Any) -> None:
        """Idempotent, unlike the SDK's."""
        if not self._shut_down:
            self._shut_down = True
            self.inner.shutdown(*args, **kwargs)

    def abandon(self) -> None:
        """Give up. May wait where the exporter's own shutdown does."""
        self._abandoned = True
        self.shutdown()


class CountedSpans(SpanExporter):
    """A span exporter that tells what becomes of its exports."""

    def __init__(self, exports: Exports) -> None:
        self.exports = exports

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """In the processor's thread."""
        inner = self.exports.inner
        return self.exports.run(len(spans), lambda: inner.export(spans), SpanExportResult.FAILURE)

    def shutdown(self) -> None:
        """Once."""
        self.exports.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is buffered here."""
        return bool(self.exports.inner.force_flush(timeout_millis))


class CountedMetrics(MetricExporter):
    """A metric exporter that tells what becomes of its exports; prefers what the one inside prefers."""

    def __init__(self, exports: Exports) -> None:
        inner = (
            exports.inner
        )  # its preferences are private, and pinned by a test; readers of the SDK ask for them so too
        super().__init__(inner._preferred_temporality, inner._preferred_aggregation)
        self.exports = exports

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """In the reader's thread."""
        inner = self.exports.inner
        return self.exports.run(
            points_in(metrics_data),
            lambda: inner.export(metrics_data, timeout_millis, **kwargs),
            MetricExportResult.FAILURE,
        )

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Once."""
        self.exports.shutdown(timeout_millis)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is buffered here."""
        return bool(self.exports.inner.force_flush(timeout_millis))


class CountedRecords(LogRecordExporter):
    """A log exporter that tells what becomes of its exports."""

    def __init__(self, exports: Exports) -> None:
        self.exports = exports

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """In the processor's thread."""
        inner = self.exports.inner
        return self.exports.run(len(batch), lambda: inner.export(batch), LogRecordExportResult.FAILURE)

    def shutdown(self) -> None:
        """Once."""
        self.exports.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is buffered here."""
        return bool(self.exports.inner.force_flush(timeout_millis))


class _Arrivals:
    """How many items came to a queue, and so how many it dropped: neither taken by the exporter nor waiting."""

    def __init__(self, exports: Exports, waiting: Callable[[], int]) -> None:
        self._exports = exports
        self._waiting = waiting
        self._lock = threading.Lock()
        self._arrived = 0

    def one(self) -> None:
        with self._lock:
            self._arrived += 1

    def dropped(self) -> int:
        arrived = self._arrived  # read first: what arrives after it counts as neither
        return max(0, arrived - self._waiting() - self._exports.taken)


class SpanQueue(BatchSpanProcessor):
    """The SDK's queue of spans (OTEL_BSP_*), which also counts those it drops because it is full."""

    def __init__(self, exports: Exports, meters: MeterProvider | None = None) -> None:
        super().__init__(CountedSpans(exports), meter_provider=meters)
        queue = self._batch_processor._queue  # private, and pinned by a test: nothing public tells of drops
        self._arrivals = _Arrivals(exports, lambda: len(queue))
        exports.log.dropped = self._arrivals.dropped

    def on_end(self, span: ReadableSpan) -> None:
        """Never waits."""
        if span.context and span.context.trace_flags.sampled:
            self._arrivals.one()
        super().on_end(span)


class RecordQueue(BatchLogRecordProcessor):
    """The SDK's queue of log records (OTEL_BLRP_*), which also counts those it drops because it is full."""

    def __init__(self, exports: Exports, meters: MeterProvider | None = None) -> None:
        super().__init__(CountedRecords(exports), meter_provider=meters)
        queue = self._batch_processor._queue  # as above
        self._arrivals = _Arrivals(exports, lambda: len(queue))
        exports.log.dropped = self._arrivals.dropped

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Never waits."""
        self._arrivals.one()
        super().on_emit(log_record)


def exporter_of(target: Target) -> Any:
    """The SDK's exporter for an otlp or console target. Console is the standard error: a program's output is its own.

    Connects to nothing yet. Raises ConfigError where its package is missing, or it refuses a variable.
    """
    if target.protocol is None:
        return _CONSOLE[target.signal](out=sys.stderr)
    module, name = _CLASSES[target.signal]
    try:
        exporter = getattr(import_module(f"{_MODULES[target.protocol]}.{module}"), name)
    except ImportError as error:
        raise ConfigError(
            f"to export {target.signal} over {target.protocol}, {error.name or error} is needed; "
            'pip install "ackscope[otel]"'
        ) from None
    settings: dict[str, Any] = {}
    if target.protocol is OtlpProtocol.GRPC and target.compression == "none":  # which it takes for a mistake
        settings["compression"] = import_module("grpc").Compression.NoCompression
    try:
        return exporter(**settings)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{target.signal} cannot be exported over {target.protocol}: {error}") from None


def points_in(data: MetricsData) -> int:
    """How many points a collection has."""
    return sum(
        len(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
