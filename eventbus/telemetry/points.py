"""From a LatencyHistogram to points of OpenTelemetry: explicit buckets, or exponential ones of base 2. Pure.

Count and sum are exact. A bucket of ours goes whole into the bucket that its middle lies in, so a value can be counted
on the other side of a bound that it is at most 1/64 (1.6 %) away from.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import cache

from opentelemetry.sdk.metrics.export import Buckets, ExponentialHistogramDataPoint, HistogramDataPoint
from opentelemetry.util.types import Attributes

from eventbus.latency import BUCKETS, LatencyHistogram, bucket_bounds_ns

FINEST_SCALE = 6
"""64 buckets to a doubling, as ours: a finer scale would claim what was not measured."""
MOST_BUCKETS = 160
"""Of an exponential histogram: the default of the OpenTelemetry specification."""
_NS = 1e9


def explicit_point(
    attributes: Attributes, histogram: LatencyHistogram, bounds_s: tuple[float, ...], started_ns: int, now_ns: int
) -> HistogramDataPoint:
    """Counts by ``bounds_s``, upper bounds in seconds, each inclusive. The histogram must not be empty."""
    places = _places(bounds_s)
    counts = [0] * (len(bounds_s) + 1)
    for bucket, count in histogram.counts.items():
        counts[places[bucket]] += count
    return HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=started_ns,
        time_unix_nano=now_ns,
        count=histogram.total,
        sum=histogram.sum_ns / _NS,
        bucket_counts=counts,
        explicit_bounds=bounds_s,
        min=_lowest_s(histogram),
        max=histogram.max_ns / _NS,
    )


def exponential_point(
    attributes: Attributes, histogram: LatencyHistogram, started_ns: int, now_ns: int
) -> ExponentialHistogramDataPoint:
    """Counts by buckets of base 2, in the finest scale that needs at most MOST_BUCKETS. Must not be empty."""
    indices = _indices()
    zeros = histogram.counts.get(0, 0)
    found = {indices[bucket]: count for bucket, count in histogram.counts.items() if bucket}
    low, high = min(found, default=0), max(found, default=0)
    coarser = 0
    while (high >> coarser) - (low >> coarser) >= MOST_BUCKETS:
        coarser += 1
    offset = low >> coarser
    counts = [0] * ((high >> coarser) - offset + 1 if found else 0)
    for bucket, count in histogram.counts.items():
        if bucket:
            counts[(indices[bucket] >> coarser) - offset] += count
    return ExponentialHistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=started_ns,
        time_unix_nano=now_ns,
        count=histogram.total,
        sum=histogram.sum_ns / _NS,
        scale=FINEST_SCALE - coarser,
        zero_count=zeros,
        positive=Buckets(offset=offset, bucket_counts=counts),
        negative=Buckets(offset=0, bucket_counts=[]),
        flags=0,
        min=_lowest_s(histogram),
        max=histogram.max_ns / _NS,
    )


def _lowest_s(histogram: LatencyHistogram) -> float:
    """Lower bound of the first bucket: the smallest value is at most 1/64 above it."""
    return bucket_bounds_ns(min(histogram.counts))[0] / _NS


def _middle_s(bucket: int) -> float:
    """Middle of the whole nanoseconds in a bucket of ours."""
    lower, upper = bucket_bounds_ns(bucket)
    return (lower + upper - 1) / 2 / _NS


@cache
def _places(bounds_s: tuple[float, ...]) -> tuple[int, ...]:
    """Bucket of ours -> explicit bucket."""
    return tuple(bisect_left(bounds_s, _middle_s(bucket)) for bucket in range(BUCKETS))


@cache
def _indices() -> tuple[int, ...]:
    """Bucket of ours -> index at FINEST_SCALE; the first is that of the value 0, which has none."""
    per_doubling = 1 << FINEST_SCALE
    return (0, *(math.ceil(math.log2(_middle_s(bucket)) * per_doubling) - 1 for bucket in range(1, BUCKETS)))
