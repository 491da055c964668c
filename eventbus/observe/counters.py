"""BusCounters: the running totals of a bus and its latency histogram. Only grows (but for ``unknown``, see Tally).

Changed by the ledger, on the loop's thread; readers get copies.
"""

from __future__ import annotations

from collections.abc import Iterable

from eventbus.errors import ErrorKind
from eventbus.latency import BUCKETS, SUB_BUCKET_BITS, LatencyHistogram


class BusCounters:
    """Implements ports.Tally with plain integers: about 0.04 us an increment."""

    def __init__(self) -> None:
        self.accepted = 0
        self.acked = 0
        self.duplicates = 0
        self.late_acks = 0
        self.rejected = 0
        self.unknown = 0
        self.unacknowledged = 0
        self.ack_timeouts = 0
        self.retries = 0
        self.callback_errors = 0
        self._errors: dict[str, int] = {}
        self._counts = [0] * BUCKETS
        self._latencies = 0
        self._sum_ns = 0
        self._max_ns = 0

    def acked_after(self, latencies_ns: Iterable[int]) -> None:
        """Some acks, each that long after its attempt. The bucket rule of latency.bucket_of, inlined: it is hot."""
        counts = self._counts
        total = max_ns = number = 0
        for ns in latencies_ns:
            shift = ns.bit_length() - (SUB_BUCKET_BITS + 1)
            index = (shift << SUB_BUCKET_BITS) + (ns >> shift) if shift > 0 else max(ns, 0)
            counts[index if index < BUCKETS else BUCKETS - 1] += 1
            total += ns
            number += 1
            if ns > max_ns:
                max_ns = ns
        self._latencies += number
        self._sum_ns += total
        if max_ns > self._max_ns:
            self._max_ns = max_ns

    def error_seen(self, kind: ErrorKind, count: int = 1) -> None:
        """A failed attempt, whether it will be repeated or not."""
        self._errors[kind.value] = self._errors.get(kind.value, 0) + count

    def errors(self) -> dict[str, int]:
        """How often each error kind was seen; a copy."""
        return dict(self._errors)

    def latency(self) -> LatencyHistogram:
        """The histogram so far; a copy."""
        counts = {index: count for index, count in enumerate(self._counts) if count}
        return LatencyHistogram(counts, self._latencies, self._sum_ns, self._max_ns)
