"""The readers that add durations: counts and sums are exact, whatever comes and goes, in every temporality."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Counter as CounterInstrument
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, ExponentialBucketHistogramAggregation

from eventbus.latency import LatencyHistogram
from eventbus.telemetry import names, source
from eventbus.telemetry.points import MOST_BUCKETS, explicit_point, exponential_point
from eventbus.telemetry.reader import DurationSeries, PeriodicReader, WithDurations
from eventbus.telemetry.source import MetricSource, Outcome
from tests.telemetry_fakes import ACKED, UNKNOWN, FakeBus

DELTA, CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE
DURATIONS_NS = st.lists(st.integers(0, 2**41), max_size=8)
SECOND_NS = 1_000_000_000


class Capture(MetricExporter):
    """Keeps what it is given to export."""

    def __init__(self, temporality: AggregationTemporality, aggregation: Any) -> None:
        super().__init__({Histogram: temporality, CounterInstrument: temporality}, {Histogram: aggregation})
        self.data: list[MetricsData] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        self.data.append(metrics_data)
        return MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        pass

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def metric(self) -> Metric | None:
        """The durations of the last collection."""
        found = [
            metric
            for resource in self.data[-1].resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == names.OPERATION_DURATION.name
        ]
        assert len(found) <= 1
        return found[0] if found else None


_addresses = itertools.count()


@pytest.fixture(autouse=True)
def no_buses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_live", {})
    monkeypatch.setattr(source, "_retired", {})


class Fleet:
    """Buses that come and go; what they counted in all, by the points that it must arrive in. One at a time."""

    def __init__(self) -> None:
        source._live.clear()  # of the fleet before, which hypothesis may have left in the middle: there are only so
        source._retired.clear()  # many servers
        self.address = f"fleet-{next(_addresses)}"
        self.live: list[FakeBus] = []
        self.counts: Counter[tuple[int, Outcome]] = Counter()
        self.sums_ns: Counter[tuple[int, Outcome]] = Counter()

    def sources(self) -> Sequence[MetricSource]:
        """Those of this fleet, closed ones included, among all of the process."""
        return [found for found in source.sources() if found.attributes["server.address"] == self.address]

    def open(self, port: int = 4222, started_ns: int = 1) -> FakeBus:
        bus = FakeBus(port, started_ns, self.address)
        self.live.append(bus)
        source.register(bus)
        return bus

    def add(self, bus: FakeBus, outcome: Outcome, durations_ns: Sequence[int]) -> None:
        bus.add(outcome, durations_ns)
        series = (int(bus.attributes["server.port"]), outcome)
        self.counts[series] += len(durations_ns)
        self.sums_ns[series] += sum(durations_ns)

    def close(self, bus: FakeBus) -> None:
        self.live.remove(bus)
        source.retire(bus)

    def end(self) -> None:
        for bus in tuple(self.live):
            self.close(bus)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    yield fleet
    fleet.end()


def series_of(point: HistogramDataPoint | ExponentialHistogramDataPoint) -> tuple[int, Outcome]:
    attributes = dict(point.attributes or {})
    assert attributes["messaging.system"] == "nats"
    assert attributes["messaging.operation.name"] == "publish"
    error_type = attributes.get("error.type")
    outcome = Outcome(
        str(attributes["messaging.destination.name"]),
        str(attributes["eventbus.ack.outcome"]),
        None if error_type is None else str(error_type),
    )
    port = attributes["server.port"]
    assert isinstance(port, int)
    return port, outcome


def in_buckets(point: HistogramDataPoint | ExponentialHistogramDataPoint) -> int:
    if isinstance(point, HistogramDataPoint):
        return sum(point.bucket_counts)
    return point.zero_count + sum(point.positive.bucket_counts)


def collector(
    fleet: Fleet, temporality: AggregationTemporality, aggregation: Any
) -> tuple[PeriodicReader, Capture, MeterProvider]:
    capture = Capture(temporality, aggregation)
    reader = PeriodicReader(capture, export_interval_millis=math.inf)
    reader.sources = fleet.sources
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter(names.SCOPE).create_observable_counter("always.there", [lambda _: [_observation()]])
    return reader, capture, provider


def _observation() -> Any:
    from opentelemetry.metrics import Observation

    return Observation(1)


@pytest.mark.parametrize("temporality", [DELTA, CUMULATIVE])
@pytest.mark.parametrize("aggregation", [ExplicitBucketHistogramAggregation(), ExponentialBucketHistogramAggregation()])
@given(data=st.data())
def test_buses_come_and_go(temporality: AggregationTemporality, aggregation: Any, data: st.DataObject) -> None:
    """Counts and sums that arrive are those that were counted: exactly, for any order of messages, buses, collects."""
    fleet = Fleet()
    reader, capture, provider = collector(fleet, temporality, aggregation)
    counts: Counter[tuple[int, Outcome]] = Counter()
    sums_s: dict[tuple[int, Outcome], float] = {}

    def collect() -> None:
        reader.collect()
        metric = capture.metric()
        points: Iterable[Any] = metric.data.data_points if metric else ()
        for point in points:
            series = series_of(point)
            assert point.count == in_buckets(point)
            assert point.start_time_unix_nano <= point.time_unix_nano
            if temporality is DELTA:
                counts[series] += point.count
                sums_s[series] = sums_s.get(series, 0.0) + point.sum
            else:
                assert point.count >= counts[series]
                counts[series], sums_s[series] = point.count, point.sum

    for step in data.draw(st.lists(st.sampled_from(["open", "add", "add", "add", "close", "collect"]), max_size=30)):
        if step == "open":
            fleet.open(data.draw(st.sampled_from([4222, 4223])))
        elif step == "collect":
            collect()
        elif fleet.live:
            bus = data.draw(st.sampled_from(fleet.live))
            if step == "close":
                fleet.close(bus)
            else:
                fleet.add(bus, data.draw(st.sampled_from([ACKED, UNKNOWN])), data.draw(DURATIONS_NS))
    collect()
    provider.shutdown()
    fleet.end()
    expected = {series: count for series, count in fleet.counts.items() if count}
    assert dict(counts) == expected
    assert all(math.isclose(sums_s[s], fleet.sums_ns[s] / 1e9, rel_tol=1e-12, abs_tol=1e-12) for s in expected)


def test_several_readers(fleet: Fleet) -> None:
    """Each reader has deltas of its own: what one has exported is still new to the other."""
    bus = fleet.open()
    first, second = (DurationSeries(fleet.sources, delta=True, exponential=False) for _ in range(2))
    fleet.add(bus, ACKED, [SECOND_NS])
    assert _count(first.collect(2)) == 1
    fleet.add(bus, ACKED, [SECOND_NS, SECOND_NS])
    assert _count(first.collect(3)) == 2
    assert _count(second.collect(3)) == 3
    assert first.collect(4) is None


def test_cumulative_start(fleet: Fleet) -> None:
    """A cumulative point starts with the first bus of its series and keeps that start; a delta point continues."""
    bus = fleet.open(started_ns=5)
    fleet.add(bus, ACKED, [1])
    cumulative = DurationSeries(fleet.sources, delta=False, exponential=False)
    delta = DurationSeries(fleet.sources, delta=True, exponential=False)
    assert [_start(series.collect(10)) for series in (cumulative, delta)] == [5, 5]
    fleet.add(bus, ACKED, [1])
    assert [_start(series.collect(20)) for series in (cumulative, delta)] == [5, 10]


def test_source_that_vanishes() -> None:
    """A source that is gone without being retired makes a series begin anew; no count is ever negative."""
    one, other = FakeBus(), FakeBus()
    live = [one, other]
    one.add(ACKED, [1, 1, 1])
    other.add(ACKED, [1])
    for delta in (True, False):
        series = DurationSeries(lambda: live, delta=delta, exponential=False)
        live[:] = [one, other]
        assert _count(series.collect(10)) == 4
        live[:] = [other]
        assert series.collect(20) is None
        live[:] = []
        assert series.collect(30) is None
        live[:] = [other]
        assert _count(series.collect(40)) == 1


@given(st.lists(st.integers(0, 2**42), min_size=1, max_size=200))
def test_points_hold_every_value(durations_ns: list[int]) -> None:
    """Count and sum are exact; a bucket's count differs only by values within 1/64 of its bounds."""
    histogram = LatencyHistogram.of(durations_ns)
    explicit = explicit_point({}, histogram, names.DURATION_BOUNDS_S, 1, 2)
    exponential = exponential_point({}, histogram, 1, 2)
    for point in (explicit, exponential):
        assert point.count == in_buckets(point) == len(durations_ns)
        assert point.sum == sum(durations_ns) / 1e9
        assert point.min <= min(durations_ns) / 1e9
        assert point.max == max(durations_ns) / 1e9
    below = 0
    for bound_s, count in zip(names.DURATION_BOUNDS_S, explicit.bucket_counts, strict=False):
        below += count
        assert sum(ns <= bound_s * 1e9 * (1 - 1 / 64) for ns in durations_ns) <= below
        assert below <= sum(ns <= bound_s * 1e9 * (1 + 1 / 64) for ns in durations_ns)
    assert len(exponential.positive.bucket_counts) <= MOST_BUCKETS


@given(st.integers(1, 2**40 - 1))
def test_one_value_in_exponential_buckets(duration_ns: int) -> None:
    """A value lies in its exponential bucket, (base ** index, base ** (index + 1)], to the precision of ours."""
    point = exponential_point({}, LatencyHistogram.of([duration_ns]), 1, 2)
    base = 2.0 ** (2.0**-point.scale)
    (count,) = point.positive.bucket_counts
    assert count == 1
    lower, upper = base**point.positive.offset, base ** (point.positive.offset + 1)
    assert lower * (1 - 1 / 64) <= duration_ns / 1e9 <= upper * (1 + 1 / 64)


def test_exponential_buckets_of_the_whole_range() -> None:
    """From 1 ns to 18 minutes fit into 160 buckets, by a coarser scale; zero has its own count."""
    point = exponential_point({}, LatencyHistogram.of([0, 0, 1, 2**40 - 1]), 1, 2)
    assert point.zero_count == 2
    assert point.scale == 1
    assert sum(point.positive.bucket_counts) == 2


def test_sdk_has_what_the_readers_lean_on() -> None:
    """The private names of the SDK that are used: preferences of readers and exporters, and the overridden method."""
    reader: MetricReader = InMemoryMetricReader(preferred_temporality={Histogram: DELTA})
    temporalities = {k.__name__: v for k, v in reader._instrument_class_temporality.items() if issubclass(k, Histogram)}
    assert temporalities == {"_Histogram": DELTA}
    aggregations = [k for k in reader._instrument_class_aggregation if issubclass(k, Histogram)]
    assert [k.__name__ for k in aggregations] == ["_Histogram"]
    assert "_receive_metrics" in (MetricReader.__doc__ or "")
    assert PeriodicExportingMetricReader._receive_metrics is not MetricReader._receive_metrics
    exporter = Capture(DELTA, ExponentialBucketHistogramAggregation())
    assert exporter._preferred_temporality is not None
    assert exporter._preferred_aggregation is not None
    assert issubclass(PeriodicReader, WithDurations)


def _count(metric: Metric | None) -> int:
    assert metric is not None
    (point,) = metric.data.data_points
    assert isinstance(point, HistogramDataPoint)
    return point.count


def _start(metric: Metric | None) -> int:
    assert metric is not None
    (point,) = metric.data.data_points
    assert isinstance(point, HistogramDataPoint)
    return point.start_time_unix_nano
