"""MetricSource: what a bus tells to whoever exports metrics, and all of the buses of this process.

A bus counts by itself, for 0.04 us a message, and is asked when metrics are collected: ``Counter.add`` and
``Histogram.record`` would cost some 9 us each (OpenTelemetry SDK 1.45, CPython 3.11).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol

from eventbus.latency import LatencyHistogram
from eventbus.snapshot import BusSnapshot
from eventbus.telemetry import names


@dataclass(frozen=True, slots=True)
class Outcome:
    """What messages have in common for a metric. outcome: acked, duplicate, rejected or unknown.

    error_type: an ErrorKind's value; None on acked and duplicate.
    """

    destination: str
    outcome: str
    error_type: str | None = None


class MetricSource(Protocol):
    """One bus, for readers in any thread. Everything grows from the bus's begin, and survives its close until the bus
    is forgotten.

    attributes: the same on all of its points: messaging.system, server.address, server.port.
    started_ns: when it was made, in nanoseconds since the epoch.
    """

    @property
    def attributes(self) -> Mapping[str, str | int]:
        """See above."""

    @property
    def started_ns(self) -> int:
        """See above."""

    def durations(self) -> Mapping[Outcome, LatencyHistogram]:
        """From acceptance to outcome, by outcome; a copy. ``total`` of each is how many messages ended so, exactly."""

    def snapshot(self) -> BusSnapshot:
        """The state now."""


MOST_DESTINATIONS = 200
"""Destinations counted apart, in a bus and in all closed ones with the same attributes; all others count as OTHER."""
MOST_SERVERS = 50
"""Combinations of messaging.system, server.address and server.port told apart in a process: the first ones. What buses
of further ones count is told under the address OTHER from their begin on: an application that connects to ever new
ports takes no more memory for it. They are never merged later: what was counted under one address and exported would
be counted again under the other, in deltas and in rates."""
OTHER = "_OTHER"
"""The conventions' word for what is not told apart."""


class Retired:
    """Implements MetricSource for all closed buses with the same attributes: what they counted stays counted, so that
    the sum over all sources never shrinks. ``snapshot``: its counters only; nothing is pending there.

    ``sources`` hands out copies: a reader in another thread that holds it together with a bus which is closed meanwhile
    would else count that bus twice.
    """

    def __init__(self, attributes: Mapping[str, str | int], started_ns: int) -> None:
        self.attributes = attributes
        self.started_ns = started_ns
        self._durations: Mapping[Outcome, LatencyHistogram] = {}
        self._snapshot: BusSnapshot | None = None

    def add(self, source: MetricSource) -> None:
        """Take over what a closed bus counted. What copies of this one hold does not change."""
        durations = dict(self._durations)
        destinations = {outcome.destination for outcome in durations}
        for outcome, histogram in source.durations().items():
            if outcome.destination not in destinations and len(destinations) >= MOST_DESTINATIONS:
                outcome = replace(outcome, destination=OTHER)
            destinations.add(outcome.destination)
            known = durations.get(outcome)
            durations[outcome] = histogram if known is None else known.merged(histogram)
        last = source.snapshot()
        earlier = self._snapshot
        sums: dict[str, Any] = {
            name: getattr(last, name) + (getattr(earlier, name) if earlier else 0) for name in SUMMED
        }
        errors = Counter(last.errors) + Counter(earlier.errors if earlier else {})
        gone: dict[str, Any] = {
            "pending": 0,
            "pending_bytes": 0,
            "max_pending": 0,
            "waiting_publishers": 0,
            "oldest_pending_age_s": 0.0,
        }
        self.started_ns = min(self.started_ns, source.started_ns)
        self._durations = durations
        self._snapshot = replace(last, errors=dict(errors), **gone, **sums)

    def durations(self) -> Mapping[Outcome, LatencyHistogram]:
        """The sum of theirs."""
        return dict(self._durations)

    def snapshot(self) -> BusSnapshot:
        """The sum of their counters."""
        assert self._snapshot is not None, "made for a bus that is about to be added"
        return self._snapshot


SUMMED = (
    "accepted",
    "acked",
    "duplicates",
    "late_acks",
    "rejected",
    "unknown",
    "unacknowledged",
    "ack_timeouts",
    "retries",
    "stalled_s_total",
)
"""Of a BusSnapshot, what only grows (but for ``unknown``), and so can be added up."""


class Elsewhere:
    """Implements MetricSource for a bus of one server too many: the same under the address OTHER."""

    def __init__(self, source: MetricSource) -> None:
        self.attributes: Mapping[str, str | int] = {
            names.MESSAGING_SYSTEM: source.attributes[names.MESSAGING_SYSTEM],
            names.SERVER_ADDRESS: OTHER,
        }
        self.started_ns = source.started_ns
        self.durations = source.durations
        self.snapshot = source.snapshot


_Key = tuple[tuple[str, str | int], ...]
_lock = threading.Lock()
_live: dict[MetricSource, MetricSource] = {}
"""Each bus, and what is told of it: itself, or an Elsewhere."""
_retired: dict[_Key, Retired] = {}


def register(source: MetricSource) -> None:
    """From now on it is collected, until it is retired."""
    with _lock:
        if source in _live:
            return
        known = {_key(told) for told in _live.values()} | _retired.keys()
        _live[source] = source if _key(source) in known or len(known) < MOST_SERVERS else Elsewhere(source)


def retire(source: MetricSource) -> None:
    """Its bus is closed: what it counted goes on to be told, and nothing of it is kept besides. Idempotent."""
    with _lock:
        told = _live.get(source)
        if told is not None:
            retired = _retired.get(_key(told)) or Retired(told.attributes, told.started_ns)
            retired.add(told)
            _retired[_key(told)] = retired
            del _live[source]


def _key(source: MetricSource) -> _Key:
    return tuple(sorted(source.attributes.items()))


def sources() -> Sequence[MetricSource]:
    """All buses that live now, and the closed ones by their attributes. Those with the same attributes are to be added
    up: together they never shrink."""
    with _lock:
        return (*_live.values(), *map(copy, _retired.values()))
