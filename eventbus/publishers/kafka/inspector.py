"""Inspector: asks a Kafka cluster what it and a topic are like, and changes nothing there."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence

from aiokafka import errors as kafka
from aiokafka.protocol.admin import CreateTopicsRequest

from eventbus.config import ConnectionConfig
from eventbus.errors import ConfigError, ConnectFailed, InvalidMessage
from eventbus.inspection import ClusterFacts, Finding, Inspection, KafkaTopicFacts, Level, PartitionFacts
from eventbus.ports import Clock
from eventbus.publishers.kafka import preflight
from eventbus.publishers.kafka.admin import UNREACHABLE, KafkaAdmin, why_unreachable
from eventbus.publishers.kafka.check import check_topic
from eventbus.publishers.kafka.cluster import (
    DENIED,
    LEADERLESS,
    UNKNOWN_TOPIC,
    UNSUPPORTED,
    ClusterView,
    PartitionView,
    TopicSettings,
    look,
    ping,
    read_defaults,
    read_settings,
)
from eventbus.publishers.kafka.login import KafkaLogin
from eventbus.publishers.kafka.replies import read_call_error, read_code
from eventbus.publishers.kafka.topics import create_request, verdict
from eventbus.topic import TopicConfig

_PINGS = 9
_CLOSE_TIMEOUT_S = 1.0


async def inspect(
    servers: Sequence[str], connection: ConnectionConfig, topic: str, url: str, clock: Clock
) -> Inspection:
    """What the cluster is like, and a topic, as a bus with default settings would find them. ``url``: for people.

    Waits for the connection, at most ``connection.connect_timeout_s``, and then for some requests of at most 6 s each.
    Raises ConfigError, and ConnectFailed where no broker answers or the login is refused.
    """
    try:
        check_topic(topic)
    except InvalidMessage as error:
        raise ConfigError(str(error)) from error
    login = KafkaLogin(tuple(servers), connection)
    admin = KafkaAdmin(login.options, connection.name)
    try:
        async with asyncio.timeout(connection.connect_timeout_s):
            await ping(admin)
        cluster, view = await _inspect_cluster(admin, login, topic, clock)
        facts, findings = await _inspect_topic(admin, view, topic, connection)
    except (kafka.KafkaError, TimeoutError, OSError) as error:
        raise ConnectFailed(f"could not connect to {url}: {_why(error)}") from error
    finally:
        await admin.close(_CLOSE_TIMEOUT_S)
    return Inspection(url, topic, cluster, facts, findings)


async def _inspect_cluster(
    admin: KafkaAdmin, login: KafkaLogin, topic: str, clock: Clock
) -> tuple[ClusterFacts, ClusterView]:
    round_trips_ns = []
    requests: dict[str, int] = {}
    for _ in range(_PINGS):
        began_ns = clock.monotonic_ns()
        requests = await ping(admin)
        round_trips_ns.append(clock.monotonic_ns() - began_ns)
    view = await look(admin, topic)
    facts = ClusterFacts(
        cluster=view.cluster_id,
        brokers=view.brokers,
        controller=view.controller,
        requests=requests,
        round_trip_s=statistics.median(round_trips_ns) / 1e9,
        tls=login.tls,
        mechanism=login.options.get("sasl_mechanism"),
    )
    return facts, view


async def _inspect_topic(
    admin: KafkaAdmin, view: ClusterView, topic: str, connection: ConnectionConfig
) -> tuple[KafkaTopicFacts | None, tuple[Finding, ...]]:
    if view.topic_code == UNKNOWN_TOPIC:
        return await _inspect_default(admin, view, topic, connection)
    if view.topic_code not in (0, LEADERLESS):
        return None, (_refused(topic, view.topic_code),)
    told = await read_settings(admin, topic)
    settings = TopicSettings() if isinstance(told, int) else told
    partitions = tuple(
        PartitionFacts(number, partition.leader, partition.replicas, partition.in_sync)
        for number, partition in view.partitions.items()
    )
    facts = KafkaTopicFacts(topic, True, len(partitions), view.replicas, partitions, settings.told)
    return facts, (
        *preflight.examine_state(topic, settings, view),
        *preflight.examine(topic, settings, view, connection.kafka),
        *((preflight.untold(topic, told),) if isinstance(told, int) else ()),
    )


async def _inspect_default(
    admin: KafkaAdmin, view: ClusterView, topic: str, connection: ConnectionConfig
) -> tuple[KafkaTopicFacts | None, tuple[Finding, ...]]:
    """The topic that would be made, and whether it could be: brokers can be asked without making it."""
    request = create_request(topic, TopicConfig(topic), configured=False, validate_only=True)
    findings = [found for found in (await _obstacle(admin, view, topic, request),) if found is not None]
    told: tuple[TopicSettings, int, int] | int = UNSUPPORTED
    for node, server in [*view.brokers.items()][:1]:  # any of them: none is named while a cluster starts
        told = await read_defaults(admin, node, server)
    if isinstance(told, int):
        return KafkaTopicFacts(topic, False, None, None), (*findings, preflight.untold(topic, told))
    settings, partitions, replicas = told
    nodes = tuple(view.brokers)[:replicas]
    planned = {number: PartitionView(None, nodes, nodes) for number in range(partitions)}
    to_be = ClusterView(view.brokers, view.controller, view.cluster_id, 0, planned)
    findings += preflight.examine(topic, settings, to_be, connection.kafka)
    return KafkaTopicFacts(topic, False, partitions, replicas, (), settings.told), tuple(findings)


async def _obstacle(admin: KafkaAdmin, view: ClusterView, topic: str, request: CreateTopicsRequest) -> Finding | None:
    """Why the topic cannot be made, if so."""
    try:
        code, text = verdict(await admin.ask(request))
    except kafka.IncompatibleBrokerVersion:
        return Finding(
            Level.INFO,
            f"there is no topic {topic}, and the broker knows no request to make one",
            "it is made only if the broker does so by itself (auto.create.topics.enable)",
            "Make it before publishing, or let the broker make topics",
        )
    if code == 0:
        return None
    return Finding(
        Level.WARNING,
        f"there is no topic {topic}, and it cannot be made: {read_code(code, None, text).text}",
        "every message for it is refused",
        "Allow Create on it, or make it with Kafka's tools" if code in DENIED else "Make it with Kafka's tools",
    )


def _refused(topic: str, code: int) -> Finding:
    return Finding(
        Level.WARNING,
        f"topic {topic}: {read_code(code).text}",
        "every message for it is refused",
        "Allow this user Write and Describe on it" if code in DENIED else "Publish to another topic",
    )


def _why(error: BaseException) -> str:
    if isinstance(error, UNREACHABLE):
        return why_unreachable(error)
    return read_call_error(error).text
