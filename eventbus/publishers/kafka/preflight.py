"""Preflight: what about a topic and our settings will surprise whoever publishes to it. Pure.

A topic can be set up so that an ack means one copy, or so that what was acked is removed or lost. The broker says so to
nobody; this page does, once, when a topic is set up. Meanings are Kafka's own (its topic and producer configuration).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from eventbus.config import KafkaConfig
from eventbus.inspection import Finding, Level
from eventbus.publishers.kafka.cluster import DENIED, ClusterView, TopicSettings
from eventbus.topic import TopicConfig

_SHORT_RETENTION_S = 3600.0
"""What is kept for less is easily gone before a reader that was down is back."""
_PARTITIONS_TOLD = 8


def examine(
    topic: str, settings: TopicSettings, view: ClusterView, kafka: KafkaConfig, *, acknowledged: bool = True
) -> tuple[Finding, ...]:
    """Everything worth telling about a topic that exists, the worst first.

    settings: TopicSettings() where the broker does not tell them. acknowledged: False where nobody asks for acks, so
    that nothing needs to be said of what an ack means.
    """
    found = [*_durability(topic, settings, view, kafka), *_producer(kafka)] if acknowledged else []
    found += _keeps(topic, settings)
    return tuple(sorted(found, key=lambda finding: finding.level is Level.INFO))


def examine_state(topic: str, settings: TopicSettings, view: ClusterView) -> tuple[Finding, ...]:
    """What is wrong with the partitions of a topic at the moment, the worst first."""
    partitions = view.partitions.items()
    leaderless = [number for number, partition in partitions if partition.leader is None]
    least = settings.min_in_sync or 1
    short = [n for n, partition in partitions if n not in leaderless and len(partition.in_sync) < least]
    behind = [n for n, p in partitions if n not in leaderless and n not in short and len(p.in_sync) < len(p.replicas)]
    absent = sorted({node for _, partition in partitions for node in partition.replicas} - set(view.brokers))
    missing = f"Start node {', '.join(map(str, absent))} again" if absent else "Wait for the replicas to catch up"
    states = (
        (leaderless, "no leader", "messages for it wait, and are given up at the end of their lifetime"),
        (short, f"fewer replicas in sync than min.insync.replicas {least}", "it refuses messages until more are back"),
        (behind, "replicas that are not in sync", "an ack stands for fewer copies than the topic should have"),
    )
    return tuple(
        Finding(Level.WARNING, f"{_partitions(numbers)} of topic {topic} has {what}", why, missing)
        for numbers, what, why in states
        if numbers
    )


def untold(topic: str, code: int) -> Finding:
    """Where the settings of a topic are not told: for a right that is missing, or by a broker that cannot."""
    why = "what about it may surprise stays unknown, also its largest message and whether it needs keys"
    if code in DENIED:
        what = f"this user may not ask for the settings of topic {topic}"
        return Finding(Level.WARNING, what, why, "Allow DescribeConfigs on it")
    what = f"the broker does not tell the settings of topic {topic}"
    return Finding(Level.INFO, what, why, "Look at them with the broker's own tools")


def differences(topic: str, config: TopicConfig, settings: TopicSettings, view: ClusterView) -> tuple[Finding, ...]:
    """Where an existing topic is not what its config asks for."""
    told = []
    if config.partitions is not None and view.partitions and len(view.partitions) != config.partitions:
        told.append(f"partitions: wanted {config.partitions}, it has {len(view.partitions)}")
    if view.replicas is not None and view.replicas < config.replicas:
        told.append(f"replicas: wanted {config.replicas}, it has {view.replicas}")
    least, wanted = settings.min_in_sync, config.min_insync_replicas
    if least is not None and wanted is not None and least != wanted:
        told.append(f"min_insync_replicas: wanted {wanted}, it has {least}")
    largest, wanted = settings.max_message_bytes, config.max_message_bytes
    if largest is not None and wanted is not None and largest != wanted:
        told.append(f"max_message_bytes: wanted {wanted}, it has {largest}")
    if not told:
        return ()
    return (
        Finding(
            Level.WARNING,
            f"topic {topic} differs from its TopicConfig ({'; '.join(told)})",
            "an existing topic is never changed, so it is used as it is",
            "Change the topic with Kafka's tools, or the config",
        ),
    )


def meaningless(config: TopicConfig) -> tuple[Finding, ...]:
    """Settings of a TopicConfig that only NATS has and that somebody changed."""
    usual = TopicConfig(config.name)
    names = ("stream", "storage", "duplicate_window_s")
    changed = [name for name in names if getattr(config, name) != getattr(usual, name)]
    if not changed:
        return ()
    return (
        Finding(
            Level.WARNING,
            f"TopicConfig({config.name!r}) sets {' and '.join(changed)}",
            "Kafka has no such thing, so nothing comes of it",
            "Leave it out for Kafka",
        ),
    )


def sentences(findings: Iterable[Finding]) -> tuple[str, ...]:
    """The warnings among them, as a Route has them."""
    return tuple(str(finding) for finding in findings if finding.level is Level.WARNING)


def _partitions(numbers: Sequence[int]) -> str:
    """Some of them by number: a topic can have thousands."""
    told = ", ".join(map(str, numbers[:_PARTITIONS_TOLD]))
    more = f" and {len(numbers) - _PARTITIONS_TOLD} more" if len(numbers) > _PARTITIONS_TOLD else ""
    return f"partition {told}{more}" if len(numbers) == 1 else f"each of partitions {told}{more}"


def _durability(topic: str, settings: TopicSettings, view: ClusterView, kafka: KafkaConfig) -> Iterator[Finding]:
    """Acked, and then lost; or not acked at all."""
    if settings.unclean_election:
        yield Finding(
            Level.WARNING,
            f"topic {topic} has unclean.leader.election.enable",
            "a replica that lacks messages may become leader, and what was acked is gone",
            "Set it to false for the topic, unless being available matters more than what was acked",
        )
    replicas, least = view.replicas, settings.min_in_sync
    if replicas == 1:
        yield _one_replica(topic, len(view.brokers))
    elif replicas is not None and least is not None and kafka.acks == "all":
        yield from _in_sync(topic, replicas, least)


def _one_replica(topic: str, brokers: int) -> Finding:
    if brokers > 1:
        return Finding(
            Level.WARNING,
            f"topic {topic} has one replica in a cluster of {brokers} brokers",
            "an ack means one copy, not yet on disk: while its broker is down nothing is stored, and with its disk "
            "everything is lost",
            "Give it 3 replicas; a topic that the bus makes gets them by "
            "TopicConfig(replicas=3, min_insync_replicas=2)",
        )
    return Finding(
        Level.INFO,
        f"topic {topic} has one replica",
        "the broker is on its own, so no more are possible; an ack means one copy, not yet on disk",
        "Use 3 brokers, 3 replicas and min.insync.replicas 2 where that is not enough",
    )


def _in_sync(topic: str, replicas: int, least: int) -> Iterator[Finding]:
    if least > replicas:
        yield Finding(
            Level.WARNING,
            f"topic {topic} has {replicas} replicas and min.insync.replicas {least}",
            "it refuses every message that asks for acks of all",
            f"Set min.insync.replicas to {replicas - 1}",
        )
    elif least == replicas:
        yield Finding(
            Level.WARNING,
            f"topic {topic} has {replicas} replicas and min.insync.replicas {least}",
            "while any broker of a partition is down, also for a restart, its messages are refused",
            "Give it one replica more than min.insync.replicas",
        )
    elif least == 1:
        yield Finding(
            Level.WARNING,
            f"topic {topic} has min.insync.replicas 1",
            "when the other replicas lag or are down, an ack means one copy, which can be lost with its broker",
            "Set min.insync.replicas to 2; a topic that the bus makes gets it by TopicConfig(min_insync_replicas=2)",
        )


def _producer(kafka: KafkaConfig) -> Iterator[Finding]:
    """What our own settings give away."""
    if kafka.acks != "all":
        yield Finding(
            Level.WARNING,
            f"KafkaConfig has acks={kafka.acks}",
            "an ack means that the leader has the message; if it fails before another has copied it, it is lost",
            "Use acks='all'",
        )
    if not kafka.idempotent:
        yield Finding(
            Level.WARNING,
            "KafkaConfig has idempotent=False",
            "when an answer is lost, what is sent again is stored twice, and perhaps out of order",
            "Use idempotent=True (with acks='all'), unless readers expect duplicates",
        )


def _keeps(topic: str, settings: TopicSettings) -> Iterator[Finding]:
    """Stored, and then removed; or never stored."""
    if settings.compacted:
        yield Finding(
            Level.WARNING,
            f"topic {topic} is compacted",
            "of each key only the newest message stays, and a message without a key is refused",
            "Publish with a key that says what the message replaces, or use cleanup.policy 'delete'",
        )
    if not settings.deletes:
        return
    if settings.retention_s is not None and settings.retention_s < _SHORT_RETENTION_S:
        yield Finding(
            Level.WARNING,
            f"topic {topic} removes messages after {settings.retention_s:g} s (retention.ms)",
            "what was acked may be gone before anybody reads it",
            "Raise retention.ms above the longest time that its readers may be down, or accept it",
        )
