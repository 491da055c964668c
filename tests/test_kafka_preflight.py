"""Preflight of Kafka: what about a topic and our settings surprises a publisher is told, with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from eventbus.config import KafkaConfig
from eventbus.inspection import Finding, Level
from eventbus.publishers.kafka import preflight
from eventbus.publishers.kafka.cluster import ClusterView, PartitionView, TopicSettings
from eventbus.topic import TopicConfig

SOUND = TopicSettings(
    max_message_bytes=1_048_588, min_in_sync=2, unclean_election=False, retention_s=604_800.0, told={"a": "b"}
)


def view(replicas: int = 3, brokers: int = 3, partitions: Mapping[int, PartitionView] | None = None) -> ClusterView:
    """A cluster with a topic of two partitions, all in sync, or of those that are given."""
    nodes = tuple(range(1, replicas + 1))
    return ClusterView(
        {node: f"127.0.0.1:{node}" for node in range(1, brokers + 1)},
        1,
        "c",
        0,
        partitions or {number: PartitionView(1, nodes, nodes) for number in range(2)},
    )


def found(
    settings: TopicSettings = SOUND, seen: ClusterView | None = None, kafka: KafkaConfig | None = None, **more: Any
) -> list[str]:
    """The findings' first words."""
    examined = preflight.examine("t", settings, seen or view(), kafka or KafkaConfig(), **more)
    return [finding.what for finding in examined]


# ---- the rules -----------------------------------------------------------------------------------------------------


def test_a_topic_with_nothing_special() -> None:
    """Nothing is told of three replicas of which two must have a message, published to with the default settings."""
    assert found() == []
    assert preflight.examine_state("t", SOUND, view()) == ()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_in_sync": 1}, "topic t has min.insync.replicas 1"),
        ({"min_in_sync": 3}, "topic t has 3 replicas and min.insync.replicas 3"),
        ({"min_in_sync": 4}, "topic t has 3 replicas and min.insync.replicas 4"),
        ({"unclean_election": True}, "topic t has unclean.leader.election.enable"),
        ({"compacted": True, "deletes": False}, "topic t is compacted"),
        ({"retention_s": 60.0}, "topic t removes messages after 60 s (retention.ms)"),
    ],
)
def test_each_setting_of_a_topic(settings: dict[str, Any], said: str) -> None:
    """Each is a warning, and nothing else is told."""
    examined = preflight.examine("t", replace(SOUND, **settings), view(), KafkaConfig())
    assert [(finding.level, finding.what) for finding in examined] == [(Level.WARNING, said)]


def test_why_a_replica_too_many_is_asked_for() -> None:
    """As many in sync as there are: one restart stops it. More than there are: nothing is ever taken."""
    (all_of_them,) = preflight.examine("t", replace(SOUND, min_in_sync=3), view(), KafkaConfig())
    (more,) = preflight.examine("t", replace(SOUND, min_in_sync=4), view(), KafkaConfig())
    assert "while any broker of a partition is down" in all_of_them.why
    assert "it refuses every message" in more.why


@pytest.mark.parametrize(
    ("kafka", "said"),
    [
        (KafkaConfig(idempotent=False), ["KafkaConfig has idempotent=False"]),
        (KafkaConfig(acks=1, idempotent=False), ["KafkaConfig has acks=1", "KafkaConfig has idempotent=False"]),
    ],
)
def test_each_setting_of_ours(kafka: KafkaConfig, said: list[str]) -> None:
    """An ack that means less, and repetitions that are stored twice."""
    assert found(kafka=kafka) == said


def test_acks_of_the_leader_alone() -> None:
    """With acks=1 nobody looks at min.insync.replicas, so nothing is said of it."""
    said = found(replace(SOUND, min_in_sync=1), kafka=KafkaConfig(acks=1, idempotent=False))
    assert "topic t has min.insync.replicas 1" not in said


def test_one_replica() -> None:
    """A warning where there could be more, for the least replicated partition; information on a single broker."""
    mixed = view(partitions={0: PartitionView(1, (1, 2, 3), (1, 2, 3)), 1: PartitionView(1, (1,), (1,))})
    (finding,) = preflight.examine("t", replace(SOUND, min_in_sync=1), mixed, KafkaConfig())
    assert (finding.level, finding.what) == (Level.WARNING, "topic t has one replica in a cluster of 3 brokers")
    assert "TopicConfig(replicas=3, min_insync_replicas=2)" in finding.advice
    alone = view(replicas=1, brokers=1)
    (finding,) = preflight.examine("t", replace(SOUND, min_in_sync=1), alone, KafkaConfig())
    assert (finding.level, finding.what) == (Level.INFO, "topic t has one replica")


def test_what_is_not_told_is_not_guessed() -> None:
    """Where neither settings nor partitions are known, only our own settings are judged."""
    nothing = ClusterView({1: "127.0.0.1:1"}, None, None)
    assert found(TopicSettings(), nothing) == []
    assert found(TopicSettings(), nothing, KafkaConfig(idempotent=False)) == ["KafkaConfig has idempotent=False"]


def test_without_acks() -> None:
    """Who asks for no acks is not told what an ack means, but what becomes of messages."""
    settings = replace(SOUND, min_in_sync=1, unclean_election=True, compacted=True, deletes=False)
    assert found(settings, kafka=KafkaConfig(idempotent=False), acknowledged=False) == ["topic t is compacted"]


def test_the_worst_comes_first() -> None:
    """Warnings before information."""
    levels = [
        finding.level
        for finding in preflight.examine(
            "t", replace(SOUND, min_in_sync=1, compacted=True), view(1, 1), KafkaConfig(idempotent=False)
        )
    ]
    assert levels == [Level.WARNING, Level.WARNING, Level.INFO]


def test_sentences_are_the_warnings() -> None:
    """What a route carries: each warning with why and what to do; no information."""
    findings = [Finding(Level.WARNING, "a", "b", "C"), Finding(Level.INFO, "d", "e", "F")]
    assert preflight.sentences(findings) == ("a: b. C",)


# ---- the state -----------------------------------------------------------------------------------------------------


def test_partitions_that_are_not_well() -> None:
    """No leader, too few in sync to be written to, and merely fewer than there should be: each is told once."""
    seen = view(
        partitions={
            0: PartitionView(None, (1, 2, 4), (4,)),
            1: PartitionView(1, (1, 2, 4), (1,)),
            2: PartitionView(1, (1, 2, 4), (1, 2)),
            3: PartitionView(2, (2, 1, 4), (2, 1)),
            4: PartitionView(2, (2, 1, 3), (2, 1, 3)),
        }
    )
    examined = preflight.examine_state("t", SOUND, seen)
    assert [finding.what for finding in examined] == [
        "partition 0 of topic t has no leader",
        "partition 1 of topic t has fewer replicas in sync than min.insync.replicas 2",
        "each of partitions 2, 3 of topic t has replicas that are not in sync",
    ]
    assert {finding.advice for finding in examined} == {"Start node 4 again"}
    assert {finding.level for finding in examined} == {Level.WARNING}


def test_many_partitions_that_are_not_well() -> None:
    """Eight are named and the others counted; where all brokers are there, time helps."""
    seen = view(partitions={number: PartitionView(1, (1, 2, 3), (1, 2)) for number in range(1000)})
    (finding,) = preflight.examine_state("t", SOUND, seen)
    assert finding.what == (
        "each of partitions 0, 1, 2, 3, 4, 5, 6, 7 and 992 more of topic t has replicas that are not in sync"
    )
    assert finding.advice == "Wait for the replicas to catch up"


# ---- the config ----------------------------------------------------------------------------------------------------


def test_topic_that_is_as_its_config_says() -> None:
    """Nothing is told; more replicas than the config's default of one are no difference."""
    config = TopicConfig("t", partitions=2, replicas=3, min_insync_replicas=2, max_message_bytes=1_048_588)
    assert preflight.differences("t", config, SOUND, view()) == ()
    assert preflight.differences("t", TopicConfig("t"), SOUND, view()) == ()


def test_topic_that_differs_from_its_config() -> None:
    """Everything in one warning, with what was wanted and what there is."""
    config = TopicConfig("t", partitions=6, replicas=5, min_insync_replicas=3, max_message_bytes=10)
    (finding,) = preflight.differences("t", config, SOUND, view())
    assert finding.level is Level.WARNING
    assert finding.what == (
        "topic t differs from its TopicConfig (partitions: wanted 6, it has 2; replicas: wanted 5, it has 3; "
        "min_insync_replicas: wanted 3, it has 2; max_message_bytes: wanted 10, it has 1048588)"
    )


def test_difference_that_cannot_be_known() -> None:
    """What the broker does not tell differs from nothing."""
    config = TopicConfig("t", partitions=6, replicas=5, min_insync_replicas=3, max_message_bytes=10)
    assert preflight.differences("t", config, TopicSettings(), ClusterView({}, None, None)) == ()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"stream": "SHOP"}, ["TopicConfig('t') sets stream"]),
        ({"storage": "memory", "duplicate_window_s": 5.0}, ["TopicConfig('t') sets storage and duplicate_window_s"]),
        ({"storage": "file", "duplicate_window_s": 120.0, "partitions": 3, "allow_duplicates": True}, []),
    ],
)
def test_settings_that_kafka_has_not(settings: dict[str, Any], said: list[str]) -> None:
    """Told where somebody changed them."""
    assert [finding.what for finding in preflight.meaningless(TopicConfig("t", **settings))] == said


@pytest.mark.parametrize(("code", "level"), [(29, Level.WARNING), (31, Level.WARNING), (35, Level.INFO)])
def test_settings_that_are_not_told(code: int, level: Level) -> None:
    """A right that is missing can be given; a broker that cannot tell is no fault of anybody."""
    finding = preflight.untold("t", code)
    assert finding.level is level
    assert ("DescribeConfigs" in finding.advice) is (level is Level.WARNING)
