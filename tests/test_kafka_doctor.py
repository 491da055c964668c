"""doctor on Kafka: what it says of a cluster and a topic, its exit codes, its JSON; it makes and changes nothing."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator

import pytest

from eventbus.clock import SystemClock
from eventbus.config import ConnectionConfig
from eventbus.doctor import Doctor
from eventbus.embedded.kafka import EmbeddedKafka
from eventbus.errors import ConfigError, ConnectFailed
from eventbus.inspection import ClusterFacts, Inspection, KafkaTopicFacts, Level, PartitionFacts
from eventbus.publishers.kafka.admin import KafkaAdmin
from eventbus.publishers.kafka.cluster import UNKNOWN_TOPIC, look
from eventbus.publishers.kafka.inspector import inspect
from eventbus.url import BrokerUrl
from tests.kafka_tools import create_topic, new_topic

CLUSTER = ClusterFacts(
    "east", {2: "b:9092", 1: "a:9092"}, 1, {"Produce": 13, "Metadata": 12}, 0.00123, tls=True, mechanism="PLAIN"
)
TOPIC = KafkaTopicFacts(
    "shop",
    True,
    2,
    3,
    (PartitionFacts(0, 1, (1, 2, 3), (1, 2)), PartitionFacts(1, None, (2, 1), ())),
    {"max.message.bytes": "1048588", "retention.ms": "3600000", "retention.bytes": "-1", "cleanup.policy": "delete"},
)
PASSWORD = "pa55-of-the-test"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for a line of the table."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def mock() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(brokers=3) as running:
        yield running


async def found(url: str, topic: str, connection: ConnectionConfig | None = None) -> Inspection:
    """What there is, without a command line around it."""
    broker = BrokerUrl.parse(url)
    return await inspect(broker.servers, connection or ConnectionConfig(), topic, broker.redacted, SystemClock())


async def is_there(servers: str, topic: str) -> bool:
    admin = KafkaAdmin({"bootstrap_servers": servers.split(",")}, "test")
    try:
        return (await look(admin, topic)).topic_code != UNKNOWN_TOPIC
    finally:
        await admin.close(5.0)


async def shown(capsys: pytest.CaptureFixture[str], inspection: Inspection) -> tuple[int, str, dict[str, str]]:
    """Exit code, everything that was printed, and the rows of the table."""

    async def at_hand(url: str, topic: str) -> Inspection:
        return inspection

    code = await Doctor(at_hand).run("kafka://one", "shop")
    out = capsys.readouterr().out
    rows = [re.split(r" {2,}", line.strip(), maxsplit=1) for line in out.splitlines()]
    return code, out, {row[0]: row[1] for row in rows if len(row) == 2}


# ---- what it prints ------------------------------------------------------------------------------------------------


async def test_figures_have_their_units(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that was found is a row, settings by Kafka's names, each partition with who has it."""
    code, out, rows = await shown(capsys, Inspection("kafka+ssl://a", "shop", CLUSTER, TOPIC, ()))
    assert code == 0
    assert rows == {
        "url": "kafka+ssl://a",
        "cluster": "Kafka, east",
        "brokers": "2: 1 at a:9092, 2 at b:9092",
        "controller": "1",
        "connection": "tcp, TLS, login PLAIN",
        "round trip": "1.23 ms",
        "requests": "up to Produce 13, Metadata 12; brokers do not tell their version",
        "topic": "shop",
        "exists": "yes",
        "partitions": "2",
        "replicas": "3",
        "cleanup.policy": "delete",
        "max.message.bytes": "1,048,588 bytes",
        "retention.bytes": "no limit",
        "retention.ms": "3,600 s",
        "partition 0": "leader 1, in sync 1, 2 of 1, 2, 3",
        "partition 1": "no leader, in sync none of 1, 2",
    }
    assert out.endswith("Nothing to worry about.\n")


async def test_a_thousand_partitions(capsys: pytest.CaptureFixture[str]) -> None:
    """Some have a line; the others are counted, and are in the JSON."""
    partitions = tuple(PartitionFacts(number, 1, (1,), (1,)) for number in range(1012))
    inspection = Inspection("kafka://a", "shop", CLUSTER, KafkaTopicFacts("shop", True, 1012, 1, partitions), ())
    _, _, rows = await shown(capsys, inspection)
    assert rows["partitions"] == "1,012"
    assert rows["..."] == "and 1,000 more partitions, all in the JSON"
    assert sum(name.startswith("partition ") for name in rows) == 12
    assert len(inspection.to_dict()["stream"]["partitions"]) == 1012


async def test_little_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    """What is not told is said to be so; without a topic there are no rows of one."""
    cluster = ClusterFacts(None, {}, None, {}, 0.1, tls=False)
    _, _, rows = await shown(
        capsys, Inspection("kafka://a", "shop", cluster, KafkaTopicFacts("shop", False, None, None), ())
    )
    assert rows["cluster"] == "Kafka, without a name"
    assert rows["controller"] == "none named"
    assert rows["connection"] == "tcp, not encrypted, no login"
    assert rows["exists"] == "no; it would be made on the first publish, if it may be"
    assert rows["partitions"] == rows["replicas"] == "as the broker is set up"
    _, _, rows = await shown(capsys, Inspection("kafka://a", "shop", cluster, None, ()))
    assert list(rows)[-1] == "topic"


# ---- the mock ------------------------------------------------------------------------------------------------------


@pytest.mark.integration
async def test_topic_that_is_not_there(mock: EmbeddedKafka) -> None:
    """It says so, and that it cannot be made by request; looking does not make it."""
    inspection = await found(mock.url, "shop")
    assert isinstance(inspection.server, ClusterFacts)
    assert isinstance(inspection.stream, KafkaTopicFacts)
    assert list(inspection.server.brokers.values()) == mock.bootstrap_servers.split(",")
    assert inspection.server.requests["Produce"] > 0
    assert 0 < inspection.server.round_trip_s < 5
    assert inspection.stream.exists is False
    assert [finding.level for finding in inspection.findings] == [Level.INFO, Level.INFO]
    assert "auto.create.topics.enable" in inspection.findings[0].why
    assert not await is_there(mock.bootstrap_servers, "shop")


@pytest.mark.integration
async def test_partitions_without_leader_and_brokers_that_are_down(mock: EmbeddedKafka) -> None:
    """Told with the partitions, the rest of the topic too."""
    mock.create_topic("shop", partitions=3, replication=3)
    mock.partition_set_leader("shop", 1, -1)
    inspection = await found(mock.url, "shop")
    assert isinstance(inspection.stream, KafkaTopicFacts)
    assert [partition.leader is None for partition in inspection.stream.partitions] == [False, True, False]
    assert [finding.what for finding in inspection.warnings] == ["partition 1 of topic shop has no leader"]
    mock.broker_down(2)
    inspection = await found(mock.url, "shop")
    assert isinstance(inspection.server, ClusterFacts)
    assert sorted(inspection.server.brokers) == [1, 3]
    assert inspection.warnings[0].advice == "Start node 2 again"


@pytest.mark.integration
async def test_topic_that_this_user_may_not_see(mock: EmbeddedKafka) -> None:
    """A warning with what to allow, and no facts."""
    mock.topic_set_error("shop", 29)
    inspection = await found(mock.url, "shop")
    assert inspection.stream is None
    (warning,) = inspection.warnings
    assert "TOPIC_AUTHORIZATION_FAILED" in warning.what
    assert warning.advice == "Allow this user Write and Describe on it"


@pytest.mark.integration
async def test_broker_that_stands_still(mock: EmbeddedKafka) -> None:
    """ConnectFailed within the connect timeout, with the URL and without the password."""
    mock.pause()
    began = time.monotonic()
    url = mock.url.replace("://", f"://bob:{PASSWORD}@")
    with pytest.raises(ConnectFailed, match=r"could not connect to kafka://127[^@]+: no answer in time") as raised:
        await found(url, "shop", ConnectionConfig(connect_timeout_s=0.3))
    assert time.monotonic() - began < 2.0
    assert PASSWORD not in str(raised.value)
    mock.resume()


# ---- nobody, and wrong usage ---------------------------------------------------------------------------------------


async def test_nobody_answers() -> None:
    """ConnectFailed at once where the connection is refused."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectFailed, match=f"could not connect to kafka://127.0.0.1:{port}: .*(refused|failed)"):
        await found(f"kafka://127.0.0.1:{port}", "shop")


@pytest.mark.parametrize("topic", ["shop.>", "a b", "a/b", ""])
async def test_no_name_for_a_topic(topic: str) -> None:
    """Wrong usage, before anybody is asked: also a pattern, which is several topics."""
    with pytest.raises(ConfigError, match="no name for a Kafka topic"):
        await found("kafka://127.0.0.1:1", topic)


# ---- a real Kafka --------------------------------------------------------------------------------------------------


@pytest.mark.integration
async def test_topic_as_it_is(kafka: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Partitions with their leaders, and the settings; what preflight finds is told; the same as JSON."""
    name = new_topic()
    await create_topic(kafka, name, partitions=3, config={"cleanup.policy": "compact", "max.message.bytes": "5000"})

    code = await Doctor(found, json_out="-").run(f"kafka://{kafka}", name)
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert code == 1
    assert f"warning: topic {name} is compacted\n  why   of each key only the newest message stays" in err
    assert (data["topic"], data["stream"]["name"], data["stream"]["exists"]) == (name, name, True)
    assert [partition["number"] for partition in data["stream"]["partitions"]] == [0, 1, 2]
    assert all(partition["leader"] in partition["in_sync"] for partition in data["stream"]["partitions"])
    assert data["stream"]["settings"]["max.message.bytes"] == "5000"
    assert data["server"]["requests"].keys() >= {"Produce", "InitProducerId", "CreateTopics", "DescribeConfigs"}
    assert f"{name} is compacted" in str(data["findings"])


@pytest.mark.integration
async def test_topic_that_would_be_made(kafka: str) -> None:
    """With the partitions and settings that the broker would give it; it is not made."""
    name = new_topic()
    inspection = await found(f"kafka://{kafka}", name)
    assert isinstance(inspection.stream, KafkaTopicFacts)
    assert (inspection.stream.exists, inspection.stream.partitions) == (False, ())
    assert (inspection.stream.partition_count or 0) >= 1
    assert (inspection.stream.replicas or 0) >= 1
    assert inspection.stream.settings["min.insync.replicas"]
    assert not await is_there(kafka, name)


@pytest.mark.integration
async def test_topic_that_cannot_be_made(kafka: str) -> None:
    """Kafka takes no name that differs from another in '.' and '_' alone: a warning beforehand."""
    name = new_topic("a.b")
    await create_topic(kafka, name)
    twin = name.replace(".", "_")
    (warning, *_) = (await found(f"kafka://{kafka}", twin)).warnings
    assert warning.what.startswith(f"there is no topic {twin}, and it cannot be made: ")
    assert "collides" in warning.what
    assert warning.why == "every message for it is refused"
