"""WeightedTopic: one of several topics that a load publishes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eventbus.errors import ConfigError
from eventbus.load.setting import SettingRefused, number, shown
from eventbus.topic import TopicConfig


@dataclass(frozen=True, slots=True)
class WeightedTopic:
    """One of several topics. weight: its share of the messages is weight by the sum of all weights. Default 1."""

    name: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_single_topic("name", self.name)
        number("weight", self.weight, "a number", above=0, most=1e9)


def topics_from(value: Any) -> tuple[WeightedTopic, ...]:
    """Topics of plain values: tables with name and weight. Raises SettingRefused."""
    if not isinstance(value, (list, tuple)):
        raise SettingRefused("topics", f"is {shown(value)}; give a list of topics, each with name and weight")
    topics = []
    for place, given in enumerate(value):
        if isinstance(given, WeightedTopic):
            topics.append(given)
            continue
        if not isinstance(given, Mapping) or "name" not in given:
            raise SettingRefused(("topics", place), f"is {shown(given)}; give a table with name, and weight if not 1")
        if set(given) - {"name", "weight"}:
            unknown = min(map(str, set(given) - {"name", "weight"}))
            raise SettingRefused(("topics", place, unknown), "is unknown; a topic has name and weight")
        try:
            topics.append(WeightedTopic(**given))
        except SettingRefused as error:
            raise SettingRefused(("topics", place, *error.key), error.reason) from error
    return tuple(topics)


def check_single_topic(setting: str, name: Any) -> None:
    """Refuse what is no topic, or has a wildcard."""
    try:
        config = TopicConfig(name)
    except ConfigError as error:
        raise SettingRefused(setting, f"cannot be used: {error}") from error
    if config.is_pattern:
        raise SettingRefused(setting, f"{shown(name)} has a wildcard; a load publishes to single topics")
