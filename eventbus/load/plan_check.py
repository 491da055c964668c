"""What is asked of a plan: each value by itself, and all of them together. Raises SettingRefused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventbus.alerts import AlertRule, Threshold
from eventbus.config import AckStrategy
from eventbus.errors import ConfigError
from eventbus.load.setting import SettingRefused, flag, line, number, one_of, shown, text, text_by_text, whole
from eventbus.load.shape import MAX_RATE
from eventbus.load.template import Template
from eventbus.load.weighted_topic import WeightedTopic, check_single_topic

if TYPE_CHECKING:
    from eventbus.load.plan import LoadPlan

MAX_PAYLOAD_SIZE = 64 * 1024 * 1024
MAX_SECONDS = 1e9
"""Some thirty years: more was not meant."""
MAX_PROCESSES = 256
MAX_TOPICS = 10_000
MAX_KEYS = 1_000_000_000
MAX_WORKERS = 100_000
MAX_COUNT = 10**15
"""Thirty years at a million a second."""
MAX_PENDING = 100_000_000
MAX_SEED = 2**63 - 1
EMBEDDED = ("nats", "kafka")
PER_SECOND = "a number of messages per second"
DEFAULT_TOPIC = "demo.events"


def check_plan(plan: LoadPlan) -> None:
    """Refuse what cannot be. Texts that JSON has for a path or a strategy become such on the way."""
    _check_place(plan)
    _check_pace(plan)
    _check_bounds(plan)
    _check_content(plan)
    _check_combinations(plan)


def check_rate(rate: Any) -> float | None:
    """``rate`` if it can be one of a plan, else ConfigError."""
    number("rate", rate, PER_SECOND, above=0, most=MAX_RATE, optional=True)
    return None if rate is None else float(rate)


def _check_place(plan: LoadPlan) -> None:
    given: Any = plan.url  # plans are also made from JSON: the annotations are not to be trusted here
    if not isinstance(given, str) or not given:
        raise SettingRefused("url", "is empty; give the broker's, as in nats://127.0.0.1:4222 or embedded+nats://")
    check_single_topic("topic", plan.topic)
    _check_topics(plan)
    system = plan.url.removeprefix("embedded+").removesuffix("://")
    if plan.embedded is None and plan.url.startswith("embedded+") and system in EMBEDDED:
        object.__setattr__(plan, "embedded", system)
    elif plan.embedded not in (None, *EMBEDDED):
        raise SettingRefused("embedded", f"is {shown(plan.embedded)}; use 'nats' or 'kafka', or leave it out")


def _check_topics(plan: LoadPlan) -> None:
    _tuple_of("topics", plan.topics, WeightedTopic, "a list of topics, each with name and weight")
    if not plan.topics:
        return
    if len(plan.topics) > MAX_TOPICS:
        raise SettingRefused("topics", f"has {len(plan.topics):,}; use at most {MAX_TOPICS:,}")
    seen: set[str] = set()
    for place, topic in enumerate(plan.topics):
        if topic.name in seen:
            raise SettingRefused(("topics", place, "name"), f"is {shown(topic.name)} once more; give each topic once")
        seen.add(topic.name)
    first = plan.topics[0].name
    if plan.topic not in (DEFAULT_TOPIC, first):
        raise SettingRefused("topic", "and topics exclude each other; give one of them")
    object.__setattr__(plan, "topic", first)


def _check_pace(plan: LoadPlan) -> None:
    number("rate", plan.rate, PER_SECOND, above=0, most=MAX_RATE, optional=True)
    number("duration_s", plan.duration_s, "a number of seconds", above=0, most=MAX_SECONDS, optional=True)
    number("warm_up_s", plan.warm_up_s, "a number of seconds", least=0, most=MAX_SECONDS)
    whole("count", plan.count, least=1, optional=True)
    _at_most("count", plan.count, MAX_COUNT)
    whole("workers", plan.workers, least=1, most=MAX_WORKERS, optional=True)
    one_of("arrivals", plan.arrivals, ("constant", "poisson"))
    if plan.shape is not None and not hasattr(plan.shape, "rate_at"):
        raise SettingRefused("shape", f'is {shown(plan.shape)}; give a table, as in kind = "constant", rate = 500')


def _check_bounds(plan: LoadPlan) -> None:
    if not isinstance(plan.strategy, AckStrategy):
        object.__setattr__(plan, "strategy", _strategy(plan.strategy))
    number("drain_s", plan.drain_s, "a number of seconds", least=0, most=MAX_SECONDS)
    number("ack_timeout_s", plan.ack_timeout_s, "a number of seconds", above=0, most=MAX_SECONDS)
    whole("max_pending", plan.max_pending, least=1)
    _at_most("max_pending", plan.max_pending, MAX_PENDING)
    whole("max_attempts", plan.max_attempts, least=1, most=1_000)
    whole("processes", plan.processes, least=1, most=MAX_PROCESSES)
    _tuple_of("thresholds", plan.thresholds, Threshold, "a list of thresholds")
    _tuple_of("rules", plan.rules, AlertRule, "a list of rules")
    _tuple_of("sinks", plan.sinks, Mapping, "a list of tables")
    share = plan.share
    if not isinstance(share, tuple) or len(share) != 2 or not all(type(part) is int for part in share):
        raise SettingRefused("share", f"is {shown(share)}; use the index and the number of processes")
    if not 0 <= share[0] < share[1] <= MAX_PROCESSES:
        raise SettingRefused("share", f"is {shown(share)}; use an index from 0, and below the number of processes")


def _check_content(plan: LoadPlan) -> None:
    line("name", plan.name, most=200)
    whole("payload_size", plan.payload_size, least=0, most=MAX_PAYLOAD_SIZE)
    whole("payload_size_max", plan.payload_size_max, least=0, most=MAX_PAYLOAD_SIZE, optional=True)
    whole("keys", plan.keys, least=1, most=MAX_KEYS, optional=True)
    whole("seed", plan.seed, least=-MAX_SEED, most=MAX_SEED, optional=True)
    text("template", plan.template, most=1024 * 1024, optional=True)
    given: Any = plan.replay
    if isinstance(given, str) and given:
        object.__setattr__(plan, "replay", Path(given))
    elif given is not None and not isinstance(given, Path):
        raise SettingRefused("replay", f"is {shown(given)}; give the path of a JSONL file, or of a CSV or Parquet file")
    object.__setattr__(plan, "headers", text_by_text("headers", plan.headers))
    flag("loop", plan.loop)
    one_of("replay_at", plan.replay_at, ("rate", "recorded"))
    text("replay_time", plan.replay_time, most=1_000, optional=True)
    number("replay_speed", plan.replay_speed, "a number", above=0, most=1e9)
    if plan.template is not None:
        try:
            Template(plan.template)
        except ConfigError as error:
            raise SettingRefused("template", f"cannot be used: {error}") from error


def _check_combinations(plan: LoadPlan) -> None:
    recorded = plan.replay_at == "recorded"
    open_model = "a rate" if plan.rate is not None else "a shape" if plan.shape is not None else None
    for wrong, setting, reason in (
        (plan.rate is not None and plan.shape is not None, "shape", "and rate exclude each other; give one of them"),
        (plan.workers and open_model, "workers", f"and {open_model} exclude each other; workers wait for acks instead"),
        (plan.strategy is AckStrategy.WAIT_EACH and not plan.workers, "strategy", "is wait_each; that needs workers"),
        (plan.arrivals == "poisson" and not open_model, "arrivals", "is poisson; that needs a rate or a shape"),
        (recorded and plan.replay is None, "replay_at", "is recorded; that needs a file to replay"),
        (recorded and (open_model or plan.workers), "replay_at", "is recorded; that excludes rate, shape and workers"),
        (plan.replay_time is not None and not recorded, "replay_time", "needs replay_at = 'recorded'"),
        (plan.replay_speed != 1 and not recorded, "replay_speed", "needs replay_at = 'recorded'"),
        (plan.template is not None and plan.replay is not None, "template", "and replay exclude each other"),
        (
            plan.payload_size_max is not None and (plan.template or plan.replay),
            "payload_size_max",
            "is for random payloads",
        ),
    ):
        if wrong:
            raise SettingRefused(setting, reason)
    if plan.payload_size_max is not None and plan.payload_size_max < plan.payload_size:
        raise SettingRefused(
            "payload_size_max",
            f"is {plan.payload_size_max:,}; use payload_size, which is {plan.payload_size:,}, or more",
        )
    if plan.sending_s is not None and plan.warm_up_s >= plan.sending_s:
        raise SettingRefused("warm_up_s", f"is {plan.warm_up_s:g}; use less than the {plan.sending_s:g} s of the run")
    for setting in ("count", "workers", "max_pending"):
        value = getattr(plan, setting)
        if value is not None and value < plan.processes:
            raise SettingRefused(setting, f"is {value:,}; use at least one for each of {plan.processes} processes")


def _at_most(setting: str, value: int | None, most: int) -> None:
    if value is not None and value > most:
        raise SettingRefused(setting, f"is {shown(value)}; use at most {most:,}")


def _tuple_of(setting: str, value: Any, kind: Any, what: str) -> None:
    if value is not None and not (isinstance(value, tuple) and all(isinstance(part, kind) for part in value)):
        # What was given for sinks is not repeated: it may hold credentials.
        given = type(value).__name__ if setting == "sinks" else shown(value)
        raise SettingRefused(setting, f"is {given}; give {what}")


def _strategy(value: Any) -> AckStrategy:
    one_of("strategy", value, tuple(map(str, AckStrategy)))
    return AckStrategy(value)
