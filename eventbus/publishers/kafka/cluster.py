"""What a Kafka cluster says of itself and of a topic: values, and the questions that they answer. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import errors as kafka
from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.protocol.admin import ApiVersionRequest, DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest

from eventbus.publishers.kafka.admin import KafkaAdmin

UNKNOWN_TOPIC = 3
LEADERLESS = 5
"""A topic or partition that has no leader now; the rest of the answer holds."""
UNSUPPORTED = 35
DENIED = (29, 31)
"""Topic or cluster: this user has no right to it."""

_MAX_MESSAGE_BYTES = "max.message.bytes"
_MIN_IN_SYNC = "min.insync.replicas"
_CLEANUP = "cleanup.policy"
_UNCLEAN = "unclean.leader.election.enable"
_RETENTION_MS = "retention.ms"
_RETENTION_BYTES = "retention.bytes"
_OF_TOPIC = (_MAX_MESSAGE_BYTES, _MIN_IN_SYNC, _CLEANUP, _UNCLEAN, _RETENTION_MS, _RETENTION_BYTES)
_PARTITIONS = "num.partitions"
_REPLICAS = "default.replication.factor"
_OF_BROKER = {
    "message.max.bytes": _MAX_MESSAGE_BYTES,
    _MIN_IN_SYNC: _MIN_IN_SYNC,
    "log.cleanup.policy": _CLEANUP,
    _UNCLEAN: _UNCLEAN,
    _PARTITIONS: _PARTITIONS,
    _REPLICAS: _REPLICAS,
}
"""A broker's own, which a new topic gets where it is not told otherwise, and a topic's name for the same."""
REQUESTS = {"Produce": 0, "Metadata": 3, "CreateTopics": 19, "InitProducerId": 22, "DescribeConfigs": 32}
"""Those that matter to a publisher, by Kafka's names (its protocol's ApiKeys)."""


@dataclass(frozen=True, slots=True)
class PartitionView:
    """Node ids: who leads (None: nobody), who should have all of it, and who has."""

    leader: int | None
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One broker's answer. brokers: ``host:port`` of those alive, by node id. controller: a node id, None if unknown.

    topic_code: Kafka's error for the topic that was asked for, 0 for none. partitions: of that topic, by number.
    """

    brokers: Mapping[int, str]
    controller: int | None
    cluster_id: str | None
    topic_code: int = 0
    partitions: Mapping[int, PartitionView] = field(default_factory=dict)

    @property
    def replicas(self) -> int | None:
        """The least that a partition of the topic has; None where the topic is not known."""
        return min((len(partition.replicas) for partition in self.partitions.values()), default=None)


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """A topic's own or its broker's default. None: not told. retention: None also where there is no limit.

    compacted: only the newest message of each key stays, and one without a key is refused. deletes: old messages go.
    told: the same as the broker says it, by Kafka's names.
    """

    max_message_bytes: int | None = None
    min_in_sync: int | None = None
    compacted: bool = False
    deletes: bool = True
    unclean_election: bool | None = None
    retention_s: float | None = None
    retention_bytes: int | None = None
    told: Mapping[str, str] = field(default_factory=dict)


async def look(admin: KafkaAdmin, topic: str, server: str | None = None) -> ClusterView:
    """The cluster and a topic, which is not made by asking, as some broker or this one knows them. One that stood
    still or has just come back can tell what was true long ago. Waits and raises as KafkaAdmin.ask."""
    request = MetadataRequest([topic], allow_auto_topic_creation=False)
    answer = await (admin.ask(request) if server is None else admin.ask_one(server, request))
    brokers = {broker["node_id"]: _address(broker["host"], broker["port"]) for broker in answer["brokers"]}
    admin.learn(brokers.values())
    controller = answer.get("controller_id", -1)
    (described,) = answer["topics"]
    return ClusterView(
        brokers,
        controller if controller in brokers else None,
        answer.get("cluster_id"),
        described["error_code"],
        {
            partition["partition"]: PartitionView(
                partition["leader"] if partition["leader"] >= 0 else None,
                tuple(partition["replicas"]),
                tuple(partition["isr"]),
            )
            for partition in sorted(described["partitions"], key=lambda partition: partition["partition"])
        },
    )


async def read_settings(admin: KafkaAdmin, topic: str) -> TopicSettings | int:
    """The settings of a topic, or Kafka's code where it does not tell them: 29 for a right that is missing, 35 where
    the broker does not know such a question. Waits and raises as KafkaAdmin.ask."""
    told = await _describe(admin, ConfigResourceType.TOPIC, topic, _OF_TOPIC)
    return told if isinstance(told, int) else _settings(told)


async def read_defaults(admin: KafkaAdmin, broker: int, server: str) -> tuple[TopicSettings, int, int] | int:
    """Settings, partitions and replicas of a topic for which nothing is said; or a code, as ``read_settings``."""
    told = await _describe(admin, ConfigResourceType.BROKER, str(broker), tuple(_OF_BROKER), server)
    if isinstance(told, int):
        return told
    named = {_OF_BROKER[name]: value for name, value in told.items()}
    return _settings(named), int(named.get(_PARTITIONS) or 1), int(named.get(_REPLICAS) or 1)


async def ping(admin: KafkaAdmin) -> dict[str, int]:
    """The newest version of each of REQUESTS that the broker knows: its smallest question. Waits and raises as
    KafkaAdmin.ask."""
    answer = await admin.ask(ApiVersionRequest())
    newest = {version["api_key"]: version["max_version"] for version in answer["api_versions"]}
    return {name: newest[key] for name, key in REQUESTS.items() if key in newest}


async def _describe(
    admin: KafkaAdmin, kind: ConfigResourceType, name: str, settings: Sequence[str], server: str | None = None
) -> dict[str, str | None] | int:
    request = DescribeConfigsRequest([(kind, name, list(settings))])
    try:
        answer = await (admin.ask(request) if server is None else admin.ask_one(server, request))
    except kafka.IncompatibleBrokerVersion:
        return UNSUPPORTED
    (resource,) = answer["resources"]
    if resource["error_code"]:
        return int(resource["error_code"])
    return {entry["config_names"]: entry["config_value"] for entry in resource["config_entries"]}


def _settings(told: Mapping[str, str | None]) -> TopicSettings:
    retention_ms = _limit(told.get(_RETENTION_MS))
    policies = [policy.strip() for policy in (told.get(_CLEANUP) or "delete").split(",")]
    unclean = told.get(_UNCLEAN)
    return TopicSettings(
        max_message_bytes=_limit(told.get(_MAX_MESSAGE_BYTES)),
        min_in_sync=_limit(told.get(_MIN_IN_SYNC)),
        compacted="compact" in policies,
        deletes="delete" in policies,
        unclean_election=None if unclean is None else unclean == "true",
        retention_s=None if retention_ms is None else retention_ms / 1e3,
        retention_bytes=_limit(told.get(_RETENTION_BYTES)),
        told={name: value for name, value in told.items() if value is not None and name in _OF_TOPIC},
    )


def _limit(value: str | None) -> int | None:
    """Kafka says -1 for none."""
    return None if value is None or int(value) < 0 else int(value)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
