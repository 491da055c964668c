"""LatencyHistogram: a frozen, mergeable picture of many latencies, and the buckets that all of AckScope uses.

Buckets are log-linear (as in HdrHistogram): 64 to each doubling, so a bucket is at most 1/64 wide and a percentile,
taken at the bucket's middle, is within 0.8 % of the true value. Exact to merge, since every histogram has the
same buckets. Values are whole nanoseconds.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SUB_BUCKET_BITS = 6
BUCKETS = (40 - SUB_BUCKET_BITS + 1) << SUB_BUCKET_BITS
"""Enough for 2**40 ns, 18 minutes; longer values go into the last bucket."""


def bucket_of(latency_ns: int) -> int:
    """Index of the bucket that ``latency_ns`` (at least 0) belongs to."""
    shift = latency_ns.bit_length() - SUB_BUCKET_BITS - 1
    if shift <= 0:
        return latency_ns if latency_ns > 0 else 0
    index = (shift << SUB_BUCKET_BITS) + (latency_ns >> shift)
    return index if index < BUCKETS else BUCKETS - 1


def bucket_bounds_ns(index: int) -> tuple[int, int]:
    """Lower (inclusive) and upper (exclusive) bound of a bucket, in nanoseconds."""
    shift = (index >> SUB_BUCKET_BITS) - 1
    if shift <= 0:
        return index, index + 1
    lower = (index - (shift << SUB_BUCKET_BITS)) << shift
    return lower, lower + (1 << shift)


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """Counts by bucket. ``counts`` holds only buckets that are not empty, in the order of their index."""

    counts: Mapping[int, int] = field(default_factory=dict)
    total: int = 0
    sum_ns: int = 0
    max_ns: int = 0

    @classmethod
    def of(cls, latencies_ns: Iterable[int]) -> LatencyHistogram:
        """The histogram of some latencies in nanoseconds."""
        counts: dict[int, int] = {}
        total = sum_ns = max_ns = 0
        for ns in latencies_ns:
            index = bucket_of(ns)
            counts[index] = counts.get(index, 0) + 1
            total += 1
            sum_ns += ns
            max_ns = max(max_ns, ns)
        return cls(dict(sorted(counts.items())), total, sum_ns, max_ns)

    def percentile_s(self, percent: float) -> float | None:
        """The latency in seconds below which ``percent`` (0 to 100) of the values lie; None if there are none."""
        if not self.total:
            return None
        rank = max(1, math.ceil(self.total * percent / 100))
        if rank >= self.total:
            return self.max_ns / 1e9
        seen = 0
        for index, count in self.counts.items():
            seen += count
            if seen >= rank:
                lower, upper = bucket_bounds_ns(index)
                return min((lower + upper) / 2, self.max_ns) / 1e9
        return self.max_ns / 1e9

    @property
    def mean_s(self) -> float | None:
        """Mean latency in seconds; None if there are no values."""
        return self.sum_ns / self.total / 1e9 if self.total else None

    @property
    def max_s(self) -> float | None:
        """Largest latency in seconds, exact; None if there are no values."""
        return self.max_ns / 1e9 if self.total else None

    def merged(self, other: LatencyHistogram) -> LatencyHistogram:
        """Both together, exactly."""
        counts = dict(self.counts)
        for index, count in other.counts.items():
            counts[index] = counts.get(index, 0) + count
        return LatencyHistogram(
            dict(sorted(counts.items())),
            self.total + other.total,
            self.sum_ns + other.sum_ns,
            max(self.max_ns, other.max_ns),
        )

    def since(self, earlier: LatencyHistogram) -> LatencyHistogram:
        """What came after ``earlier``, an older picture of the same growing histogram.

        The maximum of a difference is known only as the upper bound of its last bucket.
        """
        counts = {i: c - earlier.counts.get(i, 0) for i, c in self.counts.items() if c > earlier.counts.get(i, 0)}
        highest = max(counts, default=None)
        max_ns = 0 if highest is None else min(bucket_bounds_ns(highest)[1], self.max_ns)
        return LatencyHistogram(counts, self.total - earlier.total, self.sum_ns - earlier.sum_ns, max_ns)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them back."""
        return {
            "counts": [[i, c] for i, c in self.counts.items()],
            "total": self.total,
            "sum_ns": self.sum_ns,
            "max_ns": self.max_ns,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LatencyHistogram:
        """The inverse of ``to_dict``."""
        counts = {int(i): int(c) for i, c in data["counts"]}
        return cls(counts, int(data["total"]), int(data["sum_ns"]), int(data["max_ns"]))


class PackedLatency:
    """A histogram in a tenth of the memory, for whoever keeps many: 10 bytes for each bucket that is not empty, where
    a LatencyHistogram takes 80. Packing takes some 10 us, and unpacking 20."""

    __slots__ = ("_counts", "_indices", "_max_ns", "_sum_ns", "_total")

    def __init__(self, histogram: LatencyHistogram) -> None:
        self._indices = array("H", histogram.counts.keys())
        self._counts = array("Q", histogram.counts.values())
        self._total = histogram.total
        self._sum_ns = histogram.sum_ns
        self._max_ns = histogram.max_ns

    def histogram(self) -> LatencyHistogram:
        """The same again."""
        counts = dict(zip(self._indices, self._counts, strict=True))
        return LatencyHistogram(counts, self._total, self._sum_ns, self._max_ns)


_SORT_FROM = 64
"""From as many latencies on, sorting them first is cheaper than one bucket look-up each."""


class LatencyCounter:
    """A growing histogram: counts in the buckets of this file. One thread adds; ``histogram`` is a copy for anybody."""

    __slots__ = ("_counts", "_max_ns", "_sum_ns")

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self._sum_ns = 0
        self._max_ns = 0

    def add(self, latencies_ns: Sequence[int]) -> None:
        """Count these. From 64 on it costs some 0.04 us each, since what one read carries lies in few buckets."""
        if len(latencies_ns) < _SORT_FROM:
            for ns in latencies_ns:
                self._counts[bucket_of(ns)] += 1
        else:
            self._add_sorted(sorted(latencies_ns))
        self._sum_ns += sum(latencies_ns)
        self._max_ns = max(self._max_ns, max(latencies_ns, default=0))

    def _add_sorted(self, latencies_ns: list[int]) -> None:
        """Bucket by bucket instead of one by one."""
        counts, begin, total = self._counts, 0, len(latencies_ns)
        while begin < total:
            index = bucket_of(latencies_ns[begin])
            end = total if index == BUCKETS - 1 else bisect_left(latencies_ns, bucket_bounds_ns(index)[1], begin)
            counts[index] += end - begin
            begin = end

    def histogram(self) -> LatencyHistogram:
        """What was counted so far. From another thread than the one that adds it may be a batch behind in its sum and
        maximum; the total is always that of the counts, as OTLP wants it."""
        counts = {index: count for index, count in enumerate(self._counts) if count}
        return LatencyHistogram(counts, sum(counts.values()), self._sum_ns, self._max_ns)
