"""Metric readers that add the histogram of durations, which no instrument records.

Recording a value in an SDK histogram costs some 9 us (SDK 1.45, CPython 3.11), so buses count in histograms of their
own, and the points are made here when metrics are collected: exact for every message, in the temporality and the
aggregation that the reader prefers.

Leans on three private things of the SDK, pinned by a test: ``MetricReader._receive_metrics``, documented as meant to be
overridden, and the preferences ``_instrument_class_temporality`` and ``_instrument_class_aggregation``. A collection in
which no instrument has a point never gets here; the set-up's own counter of exports always has one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    Histogram,
    Metric,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from eventbus.latency import LatencyHistogram
from eventbus.telemetry import names
from eventbus.telemetry.meter import outcome_attributes
from eventbus.telemetry.points import explicit_point, exponential_point
from eventbus.telemetry.source import MetricSource, sources

Sources = Callable[[], Iterable[MetricSource]]
_Series = tuple[tuple[str, str | int], ...]


class DurationSeries:
    """The durations of all buses as one metric, for one reader.

    Buses with the same attributes are added up. Cumulative points have the begin of the first bus of their series as
    their start; delta points that of the collection before. What a failed export took along is lost to a delta reader,
    as with the SDK's own instruments.
    """

    def __init__(self, sources: Sources, *, delta: bool, exponential: bool) -> None:
        self._sources = sources
        self._delta = delta
        self._exponential = exponential
        self._seen: dict[_Series, LatencyHistogram] = {}
        self._started_ns: dict[_Series, int] = {}

    def collect(self, now_ns: int) -> Metric | None:
        """Points as of now; None where there are none. Call from one thread at a time."""
        totals = self._totals()
        for series in self._seen.keys() - totals.keys():  # a bus that vanished without being retired: begin anew
            del self._seen[series], self._started_ns[series]
        points = []
        for series, total in totals.items():
            before = self._seen.get(series, LatencyHistogram())
            if total.total < before.total:
                self._started_ns[series] = now_ns
            elif total.total > (before.total if self._delta else 0):
                points.append(self._point(series, total.since(before) if self._delta else total, now_ns))
            self._seen[series] = total
            if self._delta:
                self._started_ns[series] = now_ns
        if not points:
            return None
        temporality = AggregationTemporality.DELTA if self._delta else AggregationTemporality.CUMULATIVE
        data = (ExponentialHistogram if self._exponential else Histogram)(points, temporality)
        metric = names.OPERATION_DURATION
        return Metric(name=metric.name, description=metric.text, unit=metric.unit, data=data)

    def _point(self, series: _Series, histogram: LatencyHistogram, now_ns: int) -> Any:
        started_ns = min(self._started_ns[series], now_ns)
        if self._exponential:
            return exponential_point(dict(series), histogram, started_ns, now_ns)
        return explicit_point(dict(series), histogram, names.DURATION_BOUNDS_S, started_ns, now_ns)

    def _totals(self) -> dict[_Series, LatencyHistogram]:
        totals: dict[_Series, LatencyHistogram] = {}
        for source in self._sources():
            for outcome, histogram in source.durations().items():
                series = tuple(sorted(outcome_attributes(source.attributes, outcome).items()))
                known = totals.get(series)
                totals[series] = histogram if known is None else known.merged(histogram)
                self._started_ns.setdefault(series, source.started_ns)
        return totals


if TYPE_CHECKING:
    _Base = MetricReader
else:
    _Base = object


class WithDurations(_Base):
    """Mixin before a MetricReader: adds the durations to each collection.

    sources: may be replaced before the first collection. One collection at a time is handed on, so that the points of
    a delta reader arrive in their order.
    """

    sources: Sources = staticmethod(sources)
    clock_ns: Callable[[], int] = staticmethod(time.time_ns)
    _series: DurationSeries | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._one_at_a_time = threading.Lock()  # first: the SDK's reader starts its thread in its constructor
        super().__init__(*args, **kwargs)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        with self._one_at_a_time:
            if self._series is None:
                self._series = DurationSeries(self.sources, delta=self._is_delta(), exponential=self._is_exponential())
            metric = self._series.collect(self.clock_ns())
            data = metrics_data if metric is None else with_metric(metrics_data, metric)
            super()._receive_metrics(data, timeout_millis, **kwargs)  # type: ignore[safe-super]  # never MetricReader's

    def _is_delta(self) -> bool:
        preferred = self._instrument_class_temporality
        return any(
            issubclass(kind, HistogramInstrument) and temporality is AggregationTemporality.DELTA
            for kind, temporality in preferred.items()
        )

    def _is_exponential(self) -> bool:
        preferred = self._instrument_class_aggregation
        return any(
            issubclass(kind, HistogramInstrument) and isinstance(aggregation, ExponentialBucketHistogramAggregation)
            for kind, aggregation in preferred.items()
        )


def with_metric(data: MetricsData, metric: Metric) -> MetricsData:
    """``data`` with one metric more, in our scope of its first resource."""
    first, *others = data.resource_metrics
    scopes = list(first.scope_metrics)
    for place, found in enumerate(scopes):
        if found.scope.name == names.SCOPE:
            scopes[place] = replace(found, metrics=[*found.metrics, metric])
            break
    else:
        scope = InstrumentationScope(names.SCOPE, schema_url=names.SCHEMA_URL)
        scopes.append(ScopeMetrics(scope, [metric], names.SCHEMA_URL))
    return MetricsData([replace(first, scope_metrics=scopes), *others])


class PeriodicReader(WithDurations, PeriodicExportingMetricReader):
    """Collects every OTEL_METRIC_EXPORT_INTERVAL milliseconds (default 60,000) in a daemon thread, and exports."""
