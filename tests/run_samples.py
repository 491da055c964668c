"""Samples of runs that never were, for whatever looks back on samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventbus.alerts import History
from eventbus.errors import ConfigError
from eventbus.latency import LatencyHistogram
from eventbus.observe.run import Sample
from eventbus.snapshot import BusSnapshot, ConnectionState

MS = 1_000_000


def sample(at_s: float, **given: Any) -> Sample:
    """At ``at_s`` of a run; the fields of Sample and of BusSnapshot by their names, ``accepted`` by conservation."""
    of_sample = {name: given.pop(name) for name in tuple(given) if name in Sample.__dataclass_fields__}
    given.setdefault("accepted", sum(given.get(name, 0) for name in ("acked", "rejected", "unknown", "pending")))
    snapshot = BusSnapshot("bus", at_s, at_s, given.pop("connection", ConnectionState.CONNECTED), **given)
    values: dict[str, Any] = {"offered": snapshot.accepted, "target_rate": None, **of_sample}
    return Sample(wall_s=at_s, elapsed_s=at_s, snapshot=snapshot, **values)


def history(*samples: Sample, span_s: float = 3600.0) -> History:
    made = History(span_s)
    for each in samples:
        made.add(each)
    return made


def refusal(call: Callable[[Any], object], given: object) -> str | None:
    """What ConfigError said, where ``call`` raised one over ``given``."""
    try:
        call(given)
    except ConfigError as error:
        return str(error)
    return None


def latencies(*values_ms: float) -> LatencyHistogram:
    return LatencyHistogram.of(round(value * MS) for value in values_ms)
