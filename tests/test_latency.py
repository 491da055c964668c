"""Latency histograms: bounded error, exact merging."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.errors import ErrorKind
from eventbus.latency import BUCKETS, LatencyHistogram, PackedLatency, bucket_bounds_ns, bucket_of
from eventbus.observe.counters import BusCounters

NS = st.integers(0, 2**40 - 1)
MANY = st.lists(NS, max_size=60)
SETTINGS = settings(max_examples=200, deadline=None)


@SETTINGS
@given(NS)
def test_value_is_in_its_bucket(ns: int):
    """And the bucket is at most 1/64 wide."""
    lower, upper = bucket_bounds_ns(bucket_of(ns))
    assert lower <= ns < upper
    assert upper - lower <= max(1, lower / 64)


def test_buckets_join_without_gap():
    """Every nanosecond has exactly one bucket."""
    assert bucket_bounds_ns(0) == (0, 1)
    for index in range(1, BUCKETS):
        assert bucket_bounds_ns(index)[0] == bucket_bounds_ns(index - 1)[1]
    assert bucket_bounds_ns(BUCKETS - 1)[1] == 2**40


@pytest.mark.parametrize("ns", [2**40, 2**41 + 5, 10**18])
def test_value_beyond_the_last_bucket(ns: int):
    """It is counted in the last bucket; the maximum stays exact."""
    assert bucket_of(ns) == BUCKETS - 1
    assert LatencyHistogram.of([ns]).max_s == ns / 1e9


def test_clock_that_went_backwards():
    """A negative latency counts as 0."""
    assert bucket_of(-5) == 0


@SETTINGS
@given(MANY.filter(bool), st.floats(0, 100))
def test_percentile(values: list[int], percent: float):
    """Within 0.8 % of the true one, never above the maximum, and p100 is the exact maximum."""
    histogram = LatencyHistogram.of(values)
    rank = max(1, math.ceil(len(values) * percent / 100))
    true_s = sorted(values)[rank - 1] / 1e9
    found = histogram.percentile_s(percent)
    assert found is not None
    assert found == pytest.approx(true_s, rel=0.008, abs=1e-9)
    assert found <= max(values) / 1e9
    assert histogram.percentile_s(100) == max(values) / 1e9


def test_no_values():
    """There is no percentile, mean or maximum of nothing."""
    empty = LatencyHistogram()
    assert (empty.percentile_s(50), empty.mean_s, empty.max_s) == (None, None, None)


@SETTINGS
@given(MANY, MANY)
def test_merging_is_exact(some: list[int], others: list[int]):
    """Merging two histograms is the histogram of all values; and in either order."""
    merged = LatencyHistogram.of(some).merged(LatencyHistogram.of(others))
    assert merged == LatencyHistogram.of(some + others)
    assert merged == LatencyHistogram.of(others).merged(LatencyHistogram.of(some))
    assert list(merged.counts) == sorted(merged.counts)


@SETTINGS
@given(MANY, MANY)
def test_difference_is_what_came_after(earlier: list[int], later: list[int]):
    """Counts, total and sum exactly; the maximum up to its bucket."""
    before = LatencyHistogram.of(earlier)
    difference = LatencyHistogram.of(earlier + later).since(before)
    wanted = LatencyHistogram.of(later)
    assert (difference.counts, difference.total, difference.sum_ns) == (wanted.counts, wanted.total, wanted.sum_ns)
    assert wanted.max_ns <= difference.max_ns <= wanted.max_ns * (1 + 1 / 64) + 1
    assert before.merged(difference).counts == LatencyHistogram.of(earlier + later).counts


@SETTINGS
@given(MANY)
def test_way_through_json(values: list[int]):
    """Nothing is lost."""
    histogram = LatencyHistogram.of(values)
    assert LatencyHistogram.from_dict(json.loads(json.dumps(histogram.to_dict()))) == histogram


@SETTINGS
@given(st.lists(st.lists(st.integers(-10, 2**42), max_size=20), max_size=5))
def test_counters_use_the_same_buckets(batches: list[list[int]]):
    """The inlined bucket rule of BusCounters agrees with bucket_of."""
    counters = BusCounters()
    for batch in batches:
        counters.acked_after(batch)
    values = [ns for batch in batches for ns in batch]
    assert counters.latency() == LatencyHistogram.of(values)


def test_errors_are_counted_by_kind():
    """What readers get is a copy."""
    counters = BusCounters()
    counters.error_seen(ErrorKind.TIMEOUT)
    counters.error_seen(ErrorKind.TIMEOUT, 4)
    counters.errors()["timeout"] = 99
    assert counters.errors() == {"timeout": 5}


@given(st.lists(st.integers(0, 2**41), max_size=200))
def test_packed_is_the_same_again(latencies_ns: list[int]) -> None:
    """What was packed to be kept is unpacked without a difference."""
    histogram = LatencyHistogram.of(latencies_ns)
    assert PackedLatency(histogram).histogram() == histogram
