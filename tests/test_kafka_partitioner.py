"""Which partition a message goes to."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as theirs
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.publishers.kafka.partitioner import StickyPartition, _remembered, murmur2, partition_for_key

VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""Apache Kafka's own: clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java, testMurmur2; signed ints."""


@pytest.mark.parametrize(("key", "signed"), VECTORS.items(), ids=[key.decode() for key in VECTORS])
def test_hash_of_a_key(key: bytes, signed: int):
    """As Kafka's Java client has it."""
    assert murmur2(key) == signed & 0xFFFFFFFF


@settings(max_examples=500, deadline=None)
@given(key=st.binary(max_size=300) | st.text(max_size=60).map(str.encode), count=st.integers(1, 2_000))
def test_partition_of_any_key(key: bytes, count: int):
    """The same as aiokafka's default partitioner, also when asked again."""
    assert murmur2(key) == theirs(key)
    expected = DefaultPartitioner()(key, list(range(count)), [])
    assert partition_for_key(key, count) == expected
    assert partition_for_key(key, count) == expected


def test_many_keys():
    """What is remembered of them is bounded, in number and in length."""
    for n in range(20_000):
        partition_for_key(b"%d" % n, 12)
    partition_for_key(b"x" * 1_000_000, 12)
    info = _remembered.cache_info()
    assert info.maxsize is not None
    assert info.currsize <= info.maxsize < 20_000
    before = info.misses
    partition_for_key(b"x" * 1_000_000, 12)
    assert _remembered.cache_info().misses == before


def test_messages_without_a_key():
    """They stay together until the batch is complete, and then go elsewhere."""
    sticky = StickyPartition(random.Random(1), range(4))
    first = sticky.current
    assert first in range(4)
    for _ in range(100):
        before = sticky.current
        after = sticky.switch(range(4))
        assert after == sticky.current
        assert after != before


def test_many_batches_without_a_key():
    """Each partition gets its share, within 10 %."""
    sticky = StickyPartition(random.Random(2), range(5))
    seen = Counter(sticky.switch(range(5)) for _ in range(10_000))
    assert set(seen) == set(range(5))
    assert all(1_800 < count < 2_200 for count in seen.values())


def test_partitions_that_are_not_available():
    """They get nothing more; where none is left but this one, or none at all, it stays."""
    sticky = StickyPartition(random.Random(3), [7])
    assert sticky.current == 7
    assert sticky.switch([7]) == 7
    assert sticky.switch([]) == 7
    assert sticky.switch([2]) == 2
    assert {sticky.switch([2, 5]) for _ in range(10)} == {2, 5}


class Highest:
    def random(self) -> float:
        return 1 - 2**-53


def test_highest_chance():
    """The last of those available, and never one beyond."""
    sticky = StickyPartition(Highest(), range(1_000))
    assert sticky.current == 999
    assert sticky.switch(range(1_000)) == 998
