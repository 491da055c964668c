"""The metrics of all buses as observable instruments, by OpenTelemetry's API alone: asked when metrics are collected.

Points of buses with the same attributes are added up, closed ones included, so that no counter ever shrinks. The
durations have buckets as counters here, because the API has no histogram that can be observed; where AckScope's own
set-up collects, it makes a real histogram of them instead (reader.py), and these are left out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from weakref import WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from eventbus.latency import LatencyHistogram, bucket_bounds_ns
from eventbus.snapshot import BusSnapshot
from eventbus.telemetry import names
from eventbus.telemetry.meter import outcome_attributes
from eventbus.telemetry.source import MetricSource, sources

_Attributes = tuple[tuple[str, str | int], ...]
_lock = threading.Lock()
_observed: WeakSet[MeterProvider] = WeakSet()

_FROM_SNAPSHOT: Mapping[str, Callable[[BusSnapshot], float]] = {
    names.IN_FLIGHT.name: lambda s: s.pending,
    names.IN_FLIGHT_BYTES.name: lambda s: s.pending_bytes,
    names.WINDOW_LIMIT.name: lambda s: s.max_pending,
    names.OLDEST_PENDING_AGE.name: lambda s: s.oldest_pending_age_s,
    names.WAITING_PUBLISHERS.name: lambda s: s.waiting_publishers,
    names.STALLED_TIME.name: lambda s: s.stalled_s_total,
    names.RETRIES.name: lambda s: s.retries,
    names.ACK_TIMEOUTS.name: lambda s: s.ack_timeouts,
    names.LATE_ACKS.name: lambda s: s.late_acks,
    names.UNACKNOWLEDGED.name: lambda s: s.unacknowledged,
}


def observe_buses() -> None:
    """Register the instruments with the global meter provider, once for each that there is."""
    provider = metrics.get_meter_provider()
    with _lock:
        # What was made by the API's stand-in became the SDK's when that was set up: it would be there twice.
        if provider in _observed or any(is_api_only(earlier) for earlier in _observed):
            return
        _observed.add(provider)
    meter = provider.get_meter(names.SCOPE, schema_url=names.SCHEMA_URL)
    own_histogram = bool(getattr(provider, "eventbus_histogram", False))
    makers = {
        names.Instrument.COUNTER: meter.create_observable_counter,
        names.Instrument.UP_DOWN_COUNTER: meter.create_observable_up_down_counter,
        names.Instrument.GAUGE: meter.create_observable_gauge,
    }
    for metric in names.METRICS:
        if metric in (names.OPERATION_DURATION, names.EXPORTS):  # of our own set-up
            continue
        if own_histogram and metric in (names.DURATION_BUCKET, names.DURATION_SUM):
            continue
        makers[metric.instrument](metric.name, [_callback(metric)], metric.unit, metric.text)


def is_api_only(provider: object) -> bool:
    """True where it is the API's own, which does nothing or stands in for an SDK that may be set up later."""
    return type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


def _callback(metric: names.Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        sums: dict[_Attributes, float] = {}
        combine = max if metric.instrument is names.Instrument.GAUGE else _plus
        for source in sources():
            for attributes, value in _points(metric, source):
                key = tuple(sorted(attributes.items()))
                sums[key] = combine(sums.get(key, 0), value)
        return [Observation(value, dict(key)) for key, value in sums.items()]

    return observe


def _plus(one: float, other: float) -> float:
    return one + other


def _points(metric: names.Metric, source: MetricSource) -> Iterable[tuple[dict[str, str | int], float]]:
    read = _FROM_SNAPSHOT.get(metric.name)
    if read is not None:
        yield dict(source.attributes), read(source.snapshot())
    elif metric is names.FAILED_ATTEMPTS:
        for kind, count in source.snapshot().errors.items():
            yield {**source.attributes, names.ERROR_TYPE: kind}, count
    else:
        for outcome, histogram in source.durations().items():
            attributes = outcome_attributes(source.attributes, outcome)
            if metric is names.SENT_MESSAGES:
                yield attributes, histogram.total
            elif metric is names.DURATION_SUM:
                yield attributes, histogram.sum_ns / 1e9
            elif metric is names.DURATION_BUCKET:
                for bound, count in _cumulative(histogram):
                    yield {**attributes, names.LE: bound}, count


def _cumulative(histogram: LatencyHistogram) -> Iterable[tuple[str, int]]:
    """Messages up to each bound, as Prometheus has it, ``+Inf`` at the end. A bucket of ours goes where its middle is,
    as in points.py."""
    counts = sorted(histogram.counts.items())
    position = below = 0
    for bound_s in names.DURATION_BOUNDS_S:
        while position < len(counts) and _middle_ns(counts[position][0]) <= bound_s * 1e9:
            below += counts[position][1]
            position += 1
        yield f"{bound_s:g}", below
    yield "+Inf", histogram.total


def _middle_ns(bucket: int) -> float:
    lower, upper = bucket_bounds_ns(bucket)
    return (lower + upper - 1) / 2
