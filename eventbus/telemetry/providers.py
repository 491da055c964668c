"""Providers: the SDK's three providers as the targets want them, and all that has to be ended with them."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from eventbus.errors import ConfigError
from eventbus.telemetry import names
from eventbus.telemetry.environment import Signal, Target, prometheus_address
from eventbus.telemetry.exporters import CountedMetrics, Exports, LastWords, RecordQueue, SpanQueue, exporter_of
from eventbus.telemetry.log_records import LOGGER, OtlpLogHandler
from eventbus.telemetry.reader import PeriodicReader, Sources, WithDurations
from eventbus.telemetry.source import sources as all_sources
from eventbus.telemetry.status import ExportLog


class HistogramProvider(MeterProvider):
    """A meter provider whose readers make the durations a histogram. eventbus_histogram: tells the instruments, which
    then leave their counters of buckets out: the durations are never under two names."""

    eventbus_histogram = True


class Providers:
    """Built from at least one target. tracers, meters, records: None where no target wants that signal.

    Connects to nothing by itself: exporters do, in threads of the SDK, all of them daemons. sources: what is asked for
    durations. prometheus_ports: see PrometheusEndpoint. Raises ConfigError, and has then started nothing.
    """

    def __init__(
        self, targets: Sequence[Target], service_name: str, sources: Sources | None, prometheus_ports: int = 1
    ) -> None:
        self.logs = [ExportLog(target, time.time) for target in targets]
        self.tracers: TracerProvider | None = None
        self.meters: MeterProvider | None = None
        self.records: LoggerProvider | None = None
        self._words = LastWords()
        self._handler: OtlpLogHandler | None = None
        self._exports = [
            Exports(exporter_of(log.target), log, self._words)
            for log in self.logs
            if log.target.exporter != "prometheus"
        ]
        self._closing: list[Callable[[], None]] = []
        self._resource = resource(service_name)
        self._prometheus_ports = prometheus_ports
        self._build(sources or all_sources)

    def _build(self, sources: Sources) -> None:
        signals = {log.target.signal for log in self.logs}
        if Signal.METRICS in signals:  # first: it is the only one that can fail, and the SDK's own metrics go there
            self.meters = HistogramProvider(self._readers(sources), self._resource, shutdown_on_exit=False)
            self._count_exports(self.meters)
        if Signal.TRACES in signals:
            self.tracers = TracerProvider(resource=self._resource, shutdown_on_exit=False, meter_provider=self.meters)
            for exports in self._of(Signal.TRACES):
                self.tracers.add_span_processor(SpanQueue(exports, self.meters))
        if Signal.LOGS in signals:
            self.records = LoggerProvider(self._resource, shutdown_on_exit=False, meter_provider=self.meters)
            for exports in self._of(Signal.LOGS):
                self.records.add_log_record_processor(RecordQueue(exports, self.meters))
            self._handler = OtlpLogHandler(self.records)
            logging.getLogger(LOGGER).addHandler(self._handler)

    def _of(self, signal: Signal) -> list[Exports]:
        return [exports for exports in self._exports if exports.log.target.signal is signal]

    def _readers(self, sources: Sources) -> list[MetricReader]:
        readers: list[MetricReader] = []
        for log in self.logs:
            if log.target.exporter == "prometheus":
                readers.append(self._prometheus(log))
        readers += [PeriodicReader(CountedMetrics(exports)) for exports in self._of(Signal.METRICS)]
        for reader in readers:
            assert isinstance(reader, WithDurations)
            reader.sources = sources
        return readers

    def _prometheus(self, log: ExportLog) -> MetricReader:
        try:
            from eventbus.telemetry.prometheus import PrometheusEndpoint  # here: its packages may be missing
        except ImportError as error:
            raise ConfigError(
                f'to serve metrics to Prometheus, {error.name or error} is needed; pip install "ackscope[otel]"'
            ) from None
        endpoint = PrometheusEndpoint(*prometheus_address(), log, self._prometheus_ports)
        self._closing.append(endpoint.close)
        return endpoint.reader

    def _count_exports(self, meters: MeterProvider) -> None:
        """A metric that always has points: without any, the SDK would not ask the reader for the durations."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for log in self.logs:
                attributes = {
                    names.EXPORT_SIGNAL: log.target.signal.value,
                    names.EXPORT_EXPORTER: log.target.exporter,
                }
                for result, count in zip(("success", "failure"), log.counts, strict=True):
                    yield Observation(count, {**attributes, names.EXPORT_RESULT: result})

        meter = meters.get_meter(names.SCOPE, schema_url=names.SCHEMA_URL)
        metric = names.EXPORTS
        meter.create_observable_counter(metric.name, [observe], metric.unit, metric.text)

    def flush(self) -> list[tuple[str, Callable[[], object]]]:
        """What exports all that waits; each call can wait long, and several may run at once."""
        calls: list[tuple[str, Callable[[], object]]] = []
        if self.tracers is not None:
            calls.append(("traces", self.tracers.force_flush))
        if self.records is not None:
            calls.append(("logs", self.records.force_flush))
        if self.meters is not None:
            calls.append(("metrics", self.meters.force_flush))
        return calls

    def ending(self) -> list[tuple[str, Callable[[], object]]]:
        """What exports all that waits and ends everything; each call can wait long, and several may run at once."""
        if self._handler is not None:
            logging.getLogger(LOGGER).removeHandler(self._handler)
        calls: list[tuple[str, Callable[[], object]]] = []
        if self.tracers is not None:
            calls.append(("traces", self.tracers.shutdown))
        if self.records is not None:
            calls.append(("logs", self.records.shutdown))
        if self.meters is not None:
            calls.append(("metrics", self.meters.shutdown))
        calls += [("the Prometheus endpoint", close) for close in self._closing]
        return calls

    def abandon(self) -> list[tuple[str, Callable[[], object]]]:
        """What gives up every export that is still under way."""
        return [(exports.log.target.signal.value, exports.abandon) for exports in self._exports]

    def ended(self) -> None:
        """Listen to the exporters no more."""
        self._words.stop()


def resource(service_name: str) -> Resource:
    """Who this is. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over ``service_name``."""
    found = Resource.create()
    attributes: dict[str, str] = {}
    if str(found.attributes.get("service.name", "")).startswith("unknown_service"):
        attributes["service.name"] = service_name
    if "service.version" not in found.attributes:
        attributes["service.version"] = version("ackscope")
    if "service.instance.id" not in found.attributes:
        attributes["service.instance.id"] = str(uuid.uuid4())
    return found.merge(Resource(attributes))
