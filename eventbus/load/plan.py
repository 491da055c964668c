"""LoadPlan: what a run should send, where, how fast, and what is asked of it. Checked on construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from eventbus.alerts import AlertRule, Threshold, rules_from_plain, thresholds_from_plain
from eventbus.config import AckStrategy
from eventbus.errors import ConfigError
from eventbus.load.connection import connection_of
from eventbus.load.duration import parse_duration
from eventbus.load.plan_check import DEFAULT_TOPIC, EMBEDDED, MAX_PROCESSES, MAX_SEED, check_plan, check_rate
from eventbus.load.setting import SettingRefused, shown, whole
from eventbus.load.shape import MAX_RATE, Shape, ShapeError, shape_from
from eventbus.load.weighted_topic import WeightedTopic, topics_from

__all__ = ["EMBEDDED", "MAX_RATE", "LoadPlan", "WeightedTopic", "check_rate", "parse_duration"]

_NOT_STORED = ("url", "sinks")
"""May hold credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """One run. It ends at the first of duration, count, end of the shape and end of the file; without any of them, when
    it is stopped.

    url: of the broker; may hold a password, so it is left out of ``repr`` and ``settings``. name: for people.
    topic: a single topic, no wildcard. topics: several, chosen at random by their weights; then ``topic`` is the first.
    connection: files of credentials and certificates, and Kafka's mechanism; see connection.py. Nothing secret.
    strategy: how acks are awaited; WAIT_EACH only with workers.

    Open model: rate: messages per second, more than 0; None sends as fast as the window lets. shape: a rate that
        changes over time, instead of ``rate``. arrivals: "constant" gaps, or "poisson": random ones of the same mean.
    Closed model: workers: so many at once publish, await the ack, and publish again; instead of rate and shape.

    duration_s: seconds of sending. count: messages. warm_up_s: what happens in the first seconds is not judged.
    drain_s: how long acks are awaited after the last message. Default 30 s.
    payload_size: bytes of each random payload. payload_size_max: then sizes are random from payload_size to this.
    template: JSON with ``{{ fields }}`` (see template.py) instead of random payloads.
    replay: a file of records instead of them: JSONL, each line byte for byte without its line end; CSV or Parquet,
        each row as a JSON object. loop: begin again at its end; without a file it has no meaning. replay_at: "rate",
        or "recorded": each record at the time in its field ``replay_time`` (default ``timestamp``), counted from the
        first, and ``replay_speed`` times as fast.
    keys: each message gets a key, random among so many. headers: of each message.
    seed: makes payloads, keys, topics and arrivals repeatable.
    max_pending: bound of the window. ack_timeout_s: seconds to wait for the ack of one attempt. max_attempts: of one
        message, 1 or more.
    processes: that share the load. share: which part this process sends, as (index, of); see ``with_share``.
    thresholds: what the run is judged by. rules: alerts; None takes the default ones.
    sinks: where alerts are told, as plain tables. They may hold credentials: left out of ``repr`` and ``settings``.
    embedded: "nats" or "kafka" where the broker was started for this, whatever its url says by now; taken from the url
        where that is an embedded one. What was measured against Kafka's mock must be known as such.

    Raises SettingRefused, a ConfigError that knows the setting. Reads no file: ``open_messages`` does.
    """

    url: str = field(default="embedded+nats://", repr=False)
    topic: str = DEFAULT_TOPIC
    rate: float | None = None
    duration_s: float | None = None
    count: int | None = None
    payload_size: int = 128
    replay: Path | None = None
    loop: bool = False
    max_pending: int = 10_000
    ack_timeout_s: float = 5.0
    seed: int | None = None
    embedded: str | None = None
    name: str = ""
    topics: tuple[WeightedTopic, ...] = ()
    strategy: AckStrategy = AckStrategy.UNIFIED
    shape: Shape | None = None
    arrivals: str = "constant"
    workers: int | None = None
    warm_up_s: float = 0.0
    drain_s: float = 30.0
    payload_size_max: int | None = None
    keys: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    template: str | None = None
    replay_at: str = "rate"
    replay_time: str | None = None
    replay_speed: float = 1.0
    max_attempts: int = 5
    processes: int = 1
    share: tuple[int, int] = (0, 1)
    thresholds: tuple[Threshold, ...] = ()
    rules: tuple[AlertRule, ...] | None = None
    sinks: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    connection: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_plan(self)
        connection_of(self.url, self.connection)

    @property
    def on_mock(self) -> bool:
        """True where the broker is librdkafka's mock of a Kafka."""
        return self.embedded == "kafka"

    @property
    def topic_names(self) -> tuple[str, ...]:
        """All topics; the one where there is only one."""
        return tuple(topic.name for topic in self.topics) or (self.topic,)

    @property
    def sending_s(self) -> float | None:
        """Seconds of sending at most, by duration or shape; None where neither ends it."""
        ends = (self.duration_s, None if self.shape is None else self.shape.duration_s)
        return min((end for end in ends if end is not None), default=None)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LoadPlan:
        """A plan of plain values, as from JSON. Raises ConfigError, for unknown names as well."""
        names = [f.name for f in fields(cls)]
        unknown = sorted(map(str, set(data) - set(names)))
        if unknown:
            raise ConfigError(f"unknown setting {shown(unknown[0])}; known are {', '.join(names)}")
        values = dict(data)
        for name, read in _READ.items():
            if values.get(name) is not None:
                values[name] = read(values[name])
        return cls(**values)

    def settings(self) -> dict[str, Any]:
        """All but what may hold credentials (url, sinks), as plain values for JSON; ``from_dict`` reads them back."""
        data = self.to_dict()
        for name in _NOT_STORED:
            del data[name]
        return data

    def to_dict(self) -> dict[str, Any]:
        """All of it, as plain values for JSON, the url and the sinks too: for another process, and not to be stored."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data["replay"] = None if self.replay is None else str(self.replay)
        data["strategy"] = str(self.strategy)
        data["shape"] = None if self.shape is None else self.shape.to_dict()
        data["topics"] = [{"name": topic.name, "weight": topic.weight} for topic in self.topics]
        data["headers"] = dict(self.headers)
        data["connection"] = dict(self.connection)
        data["thresholds"] = [threshold.to_plain() for threshold in self.thresholds]
        data["rules"] = None if self.rules is None else [rule.to_plain() for rule in self.rules]
        data["sinks"] = [dict(sink) for sink in self.sinks]
        data["share"] = list(self.share)
        return data

    def with_share(self, index: int, of: int) -> LoadPlan:
        """The plan of one of ``of`` processes, from 0, which together do what this one says.

        Rate and shape are divided; count, workers and max_pending so that their sum is exact; records and the numbers
        of a template are taken in turns; the seed differs. Thresholds, rules and sinks are left to whoever sees the
        whole.
        Raises ConfigError where there is less to do than processes.
        """
        if self.share != (0, 1):
            raise SettingRefused("share", f"is {list(self.share)}: a share cannot be shared once more")
        whole("of", of, least=1, most=MAX_PROCESSES)
        whole("index", index, least=0, most=of - 1)
        return replace(
            self,
            rate=None if self.rate is None else self.rate / of,
            shape=None if self.shape is None else _divided(self.shape, of),
            count=_part("count", self.count, index, of),
            workers=_part("workers", self.workers, index, of),
            max_pending=_part("max_pending", self.max_pending, index, of),
            seed=None if self.seed is None else (self.seed * MAX_PROCESSES + index) % MAX_SEED,
            processes=1,
            share=(index, of),
            thresholds=(),
            rules=(),
            sinks=(),
        )


def _shape(value: Any) -> Shape:
    if hasattr(value, "rate_at"):
        return value  # type: ignore[no-any-return]
    try:
        return shape_from(value)
    except ShapeError as error:
        raise SettingRefused(("shape", *error.key), f"cannot be used: {error}") from error


_READ: Mapping[str, Any] = {
    "topics": topics_from,
    "shape": _shape,
    "thresholds": lambda value: value if isinstance(value, tuple) else thresholds_from_plain(value),
    "rules": lambda value: value if isinstance(value, tuple) else rules_from_plain(value),
    "sinks": lambda value: tuple(value) if isinstance(value, list) else value,
    "share": lambda value: tuple(value) if isinstance(value, list) else value,
}
"""How plain values become those of a plan, where they are not the same."""


def _part(setting: str, value: Any, index: int, of: int) -> Any:
    """This one's of ``value``, so that all together are exactly it."""
    if value is None:
        return None
    if value < of:
        raise SettingRefused(setting, f"is {value:,}; use at least one for each of {of} processes")
    return value // of + (index < value % of)


def _divided(shape: Shape, of: int) -> Shape:
    return shape_from(_rates_divided(shape.to_dict(), of))


def _rates_divided(values: Mapping[str, Any], of: int) -> dict[str, Any]:
    """All numbers of a shape but its times are rates."""
    return {
        name: [_rates_divided(stage, of) for stage in value]
        if isinstance(value, list)
        else value
        if name == "kind" or name.endswith("_s")
        else value / of
        for name, value in values.items()
    }
