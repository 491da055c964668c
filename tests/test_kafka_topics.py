"""Topics of Kafka: found, made and checked, on the mock and on a real Kafka; bounded, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.conn import create_conn
from aiokafka.protocol.admin import CreateAclsRequest_v1
from aiokafka.protocol.api import Request

from eventbus.config import KafkaConfig
from eventbus.embedded.kafka import METADATA, EmbeddedKafka
from eventbus.errors import ErrorClass, ErrorKind, TopicError
from eventbus.event import EventKind
from eventbus.publishers.kafka import admin as admin_module
from eventbus.publishers.kafka import topics as topics_module
from eventbus.publishers.kafka.admin import KafkaAdmin
from eventbus.publishers.kafka.cluster import look, read_settings
from eventbus.publishers.kafka.topics import KafkaTopics, TopicFacts
from eventbus.topic import TopicConfig
from tests.kafka_cluster import running_cluster, skip_without_kafka
from tests.kafka_node import KafkaNode
from tests.kafka_security import KafkaSecurity
from tests.kafka_tools import create_topic, delete_topic, new_topic

TRANSIENT, FATAL = ErrorClass.TRANSIENT, ErrorClass.FATAL
CREATED, WARNING = EventKind.STREAM_CREATED, EventKind.TOPIC_WARNING
DEADLINE_S = 10.0


class Told(list[tuple[EventKind, str]]):
    """What a person was told."""

    def tell(self, kind: EventKind, text: str) -> None:
        self.append((kind, text))

    def of(self, kind: EventKind) -> list[str]:
        return [text for told, text in self if told is kind]


def options(servers: str, **login: Any) -> dict[str, Any]:
    return {"bootstrap_servers": servers.split(","), "security_protocol": "PLAINTEXT", **login}


@contextlib.asynccontextmanager
async def opened(servers: str, told: Told | None = None, **login: Any) -> AsyncIterator[KafkaTopics]:
    """Topics of these servers, closed at the end."""
    told = Told() if told is None else told
    topics = KafkaTopics(options(servers, **login), KafkaConfig(), "test", told.tell)
    try:
        yield topics
    finally:
        await topics.close(DEADLINE_S)


@contextlib.asynccontextmanager
async def lookup(servers: str) -> AsyncIterator[Callable[[str], Awaitable[Collection[int]]]]:
    """A producer's own look-up, as the publisher has it."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, request_timeout_ms=3_000)
    await producer.start()
    try:
        yield producer.partitions_for
    finally:
        await producer.stop()


async def one(name: str) -> Collection[int]:
    """A producer that knows every topic."""
    return {0}


async def nobody(name: str) -> Collection[int]:
    raise AssertionError(f"{name} was looked up")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def sockets() -> int:
    """How many this process has open."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sum(link.startswith("socket:") for link in links)


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.01)


@pytest.fixture
def mock() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as running:
        yield running


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that are made."""
    made: list[Any] = []

    async def noted(*arguments: Any, **settings: Any) -> Any:
        made.append(await create_conn(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr(admin_module, "create_conn", noted)
    return made


# ---- nothing to ask ------------------------------------------------------------------------------------------------


async def test_pattern_is_no_topic() -> None:
    """A pattern stands for topics that are prepared one by one; nobody is asked, and no topic is made."""
    told = Told()
    config = TopicConfig("shop.>", storage="memory")
    async with opened(f"127.0.0.1:{free_port()}", told) as topics:
        route = await topics.prepare("shop.>", config, nobody)
        assert (route.topic, route.log, route.covers, route.exact) == (config, "shop.>", ("shop.>",), True)
        assert topics.facts("shop.>") is None
    assert told.of(WARNING) == list(route.warnings)
    assert "sets storage" in route.warnings[0]


@pytest.mark.parametrize("name", ["a/b", "ü", "a" * 250])
async def test_name_that_no_topic_can_have(name: str) -> None:
    """Refused for good, with what is allowed, before anybody is asked."""
    async with opened(f"127.0.0.1:{free_port()}") as topics:
        with pytest.raises(TopicError, match="no name for a Kafka topic: use 1 to 249") as raised:
            await topics.prepare(name, None, nobody)
    assert (raised.value.error_class, raised.value.kind) == (FATAL, ErrorKind.INVALID)


# ---- on the mock ---------------------------------------------------------------------------------------------------


@pytest.mark.integration
async def test_topic_that_the_producer_makes(mock: EmbeddedKafka) -> None:
    """Where the broker knows no request to make a topic, looking it up makes it; what is not told stays unknown."""
    told = Told()
    async with opened(mock.bootstrap_servers, told) as topics, lookup(mock.bootstrap_servers) as partitions_for:
        route = await topics.prepare("shop.a", None, partitions_for)
        assert topics.facts("shop.a") == TopicFacts("shop.a", (0, 1, 2, 3), None, needs_key=False)
        assert (route.log, route.covers, route.exact, route.acknowledged) == ("shop.a", ("shop.a",), True, True)
        assert (route.deduplicates, route.duplicate_window_s, route.warnings) == (False, 0.0, ())
        assert told == []
        route = await topics.prepare("shop.b", TopicConfig("shop.b", partitions=6), partitions_for)
    assert "partitions: wanted 6, it has 4" in route.warnings[0]


@pytest.mark.integration
async def test_topic_that_may_not_be_made(mock: EmbeddedKafka) -> None:
    """With create=False nothing makes it, not even a producer's look-up, and the error says what to do."""
    async with opened(mock.bootstrap_servers) as topics:
        for _ in range(2):  # asking makes it neither
            with pytest.raises(TopicError, match="and its TopicConfig has create=False") as raised:
                await topics.prepare("shop.a", TopicConfig("shop.a", create=False), nobody)
            assert (raised.value.error_class, raised.value.kind) == (FATAL, ErrorKind.NO_STREAM)
        mock.create_topic("shop.a", partitions=2)
        route = await topics.prepare("shop.a", TopicConfig("shop.a", create=False), one)
    assert route.log == "shop.a"


@pytest.mark.integration
async def test_existing_topic_with_other_partitions(mock: EmbeddedKafka) -> None:
    """Told as a warning; nothing is changed, and the topic's own number counts."""
    mock.create_topic("shop.a", partitions=2)
    told = Told()
    async with opened(mock.bootstrap_servers, told) as topics, lookup(mock.bootstrap_servers) as partitions_for:
        route = await topics.prepare("shop.a", TopicConfig("shop.a", partitions=6), partitions_for)
        facts = topics.facts("shop.a")
    assert facts is not None
    assert facts.partitions == (0, 1)
    assert told.of(WARNING) == list(route.warnings)
    assert "differs from its TopicConfig (partitions: wanted 6, it has 2)" in route.warnings[0]


@pytest.mark.integration
async def test_topic_without_acks(mock: EmbeddedKafka) -> None:
    """A config that is not durable gives a route without acks."""
    async with opened(mock.bootstrap_servers) as topics, lookup(mock.bootstrap_servers) as partitions_for:
        route = await topics.prepare("shop.a", TopicConfig("shop.a", durable=False), partitions_for)
    assert route.acknowledged is False


@pytest.mark.integration
async def test_warnings_are_told_once(mock: EmbeddedKafka) -> None:
    """Again only where it was gone meanwhile; what is wrong with our settings is told once for all topics."""
    told = Told()
    kafka = KafkaConfig(acks=1, idempotent=False)
    topics = KafkaTopics(options(mock.bootstrap_servers), kafka, "test", told.tell)
    for name in ("a", "b", "c"):
        mock.create_topic(name)
    for name in ("a", "b", "a"):
        assert len((await topics.prepare(name, None, one)).warnings) == 2
    assert len(told.of(WARNING)) == 2
    odd, even = TopicConfig("c", storage="memory"), TopicConfig("c")
    for config in (odd, odd, even, odd):
        await topics.prepare("c", config, one)
    assert sum("sets storage" in text for text in told.of(WARNING)) == 2
    assert len(told) == 4
    await topics.close(DEADLINE_S)


@pytest.mark.integration
async def test_broker_that_refuses_to_tell_of_a_topic(mock: EmbeddedKafka) -> None:
    """What the broker says of a topic is read by the reply table: no right is for good, a leader comes back."""
    async with opened(mock.bootstrap_servers) as topics:
        mock.topic_set_error("shop.a", 29)
        with pytest.raises(TopicError, match="TOPIC_AUTHORIZATION_FAILED") as raised:
            await topics.prepare("shop.a", None, nobody)
        assert (raised.value.error_class, raised.value.kind) == (FATAL, ErrorKind.PERMISSION)
        mock.topic_set_error("shop.a", 5)
        assert (await topics.prepare("shop.a", None, one)).log == "shop.a"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("error", "error_class", "kind"),
    [
        (kafka_errors.UnknownTopicOrPartitionError(), TRANSIENT, ErrorKind.UNAVAILABLE),
        (kafka_errors.TopicAuthorizationFailedError("a"), FATAL, ErrorKind.PERMISSION),
        (kafka_errors.KafkaConnectionError("gone"), TRANSIENT, ErrorKind.UNAVAILABLE),
        (kafka_errors.ProducerClosed(), TRANSIENT, ErrorKind.UNAVAILABLE),
        (OSError("gone"), TRANSIENT, ErrorKind.UNAVAILABLE),
    ],
)
async def test_look_up_that_fails(
    mock: EmbeddedKafka, error: BaseException, error_class: ErrorClass, kind: ErrorKind
) -> None:
    """What the producer's look-up raises becomes a TopicError."""

    async def failing(name: str) -> Collection[int]:
        raise error

    async with opened(mock.bootstrap_servers) as topics:
        with pytest.raises(TopicError, match="'a'") as raised:
            await topics.prepare("a", None, failing)
    assert (raised.value.error_class, raised.value.kind) == (error_class, kind)


@pytest.mark.integration
async def test_look_up_without_end(mock: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up is waited for some seconds only."""
    monkeypatch.setattr(topics_module, "_LOOKUP_TIMEOUT_S", 0.05)

    async def endless(name: str) -> Collection[int]:
        await asyncio.Event().wait()
        raise AssertionError

    async with opened(mock.bootstrap_servers) as topics:
        with pytest.raises(TopicError, match="does not become known") as raised:
            await topics.prepare("a", None, endless)
    assert raised.value.error_class is TRANSIENT


# ---- the connection ------------------------------------------------------------------------------------------------


async def test_nobody_answers() -> None:
    """TRANSIENT, at once where connections are refused, and nothing is left."""
    before, tasks = sockets(), asyncio.all_tasks()
    async with opened(f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}") as topics:
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(TopicError, match="'a': no broker answers") as raised:
                await topics.prepare("a", None, nobody)
    assert (raised.value.error_class, raised.value.kind) == (TRANSIENT, ErrorKind.UNAVAILABLE)
    await until(lambda: sockets() == before, "no socket is left")
    assert asyncio.all_tasks() == tasks


@pytest.mark.integration
async def test_broker_that_stands_still(mock: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left after a time, whether it stood still before the connection or after it; another one is asked."""
    monkeypatch.setattr(admin_module, "STEP_TIMEOUT_S", 0.2)
    mock.create_topic("a")
    with EmbeddedKafka() as other:
        other.create_topic("a")
        async with opened(mock.bootstrap_servers) as alone, opened(f"{mock.bootstrap_servers}") as before:
            await before.prepare("a", None, one)
            mock.pause()
            for topics in (alone, before):
                with pytest.raises(TopicError, match="no broker answers") as raised:
                    await topics.prepare("a", None, one)
                assert raised.value.error_class is TRANSIENT
            async with opened(f"{mock.bootstrap_servers},{other.bootstrap_servers}") as both:
                assert (await both.prepare("a", None, one)).log == "a"
            mock.resume()
            assert (await before.prepare("a", None, one)).log == "a"


@pytest.mark.integration
@pytest.mark.parametrize("connected", [False, True])
async def test_cancelled_while_it_waits(mock: EmbeddedKafka, connected: bool) -> None:
    """Cancellation is honoured at once, before and after the login, and leaves neither task nor socket."""
    mock.create_topic("a")
    before, tasks = sockets(), asyncio.all_tasks()
    async with opened(mock.bootstrap_servers) as topics:
        if connected:
            await topics.prepare("a", None, one)
        mock.pause()
        preparing = asyncio.create_task(topics.prepare("a", None, one))
        await until(lambda: sockets() > before, "it has connected")
        preparing.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await preparing
        assert time.monotonic() - began < 1.0
        mock.resume()
        assert (await topics.prepare("a", None, one)).log == "a"
    await until(lambda: sockets() == before, "no socket is left")
    await until(lambda: asyncio.all_tasks() == tasks, "no task is left")


@pytest.mark.integration
async def test_many_at_once_share_a_connection(mock: EmbeddedKafka, dialled: list[Any]) -> None:
    """Topics that are prepared at the same time, or soon after, ask over one connection."""
    names = [f"t{number}" for number in range(20)]
    for name in names:
        mock.create_topic(name)
    async with opened(mock.bootstrap_servers) as topics:
        await asyncio.gather(*(topics.prepare(name, None, one) for name in names[:10]))
        for name in names[10:]:
            await topics.prepare(name, None, one)
    assert len(dialled) == 1
    assert not dialled[0].connected()


@pytest.mark.integration
async def test_connection_closes_when_nobody_asks(
    mock: EmbeddedKafka, dialled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its idle time it closes by itself; the next question opens another."""
    monkeypatch.setattr(admin_module, "_IDLE_S", 0.05)
    mock.create_topic("a")
    before = sockets()
    async with opened(mock.bootstrap_servers) as topics:
        await topics.prepare("a", None, one)
        await until(lambda: sockets() == before, "the idle connection is closed")
        await topics.prepare("a", None, one)
    assert len(dialled) == 2


@pytest.mark.integration
async def test_connection_that_was_lost(mock: EmbeddedKafka, dialled: list[Any]) -> None:
    """A broker that restarted, or closed the connection instead of an answer, is asked again."""
    mock.create_topic("a")
    async with opened(mock.bootstrap_servers) as topics:
        await topics.prepare("a", None, one)
        await asyncio.to_thread(mock.restart)
        await topics.prepare("a", None, one)
        mock.push_request_errors(METADATA, [-195])
        await topics.prepare("a", None, one)
    assert len(dialled) == 3


@pytest.mark.integration
async def test_close_while_it_asks(mock: EmbeddedKafka) -> None:
    """Whoever asks then gets an error at once; nothing is opened after it."""
    mock.create_topic("a")
    before = sockets()
    topics = KafkaTopics(options(mock.bootstrap_servers), KafkaConfig(), "test", Told().tell)
    await topics.prepare("a", None, one)
    mock.pause()
    preparing = asyncio.create_task(topics.prepare("a", None, one))
    done, _ = await asyncio.wait([preparing], timeout=0.05)
    assert not done
    await topics.close(DEADLINE_S)
    mock.resume()
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(TopicError, match="no broker answers"):
            await preparing
        with pytest.raises(TopicError, match="no broker answers"):
            await topics.prepare("a", None, one)
    await topics.close(DEADLINE_S)
    await until(lambda: sockets() == before, "no socket is left")


# ---- answers that brokers of today do not give ---------------------------------------------------------------------


class OldCluster:
    """An admin connection to brokers that leave making topics to the controller, as with ZooKeeper."""

    def __init__(self) -> None:
        self.asked_one: list[str] = []

    def learn(self, servers: Collection[str]) -> None:
        """It needs no more."""

    async def ask(self, request: Any) -> dict[str, Any]:
        if type(request).__name__ == "CreateTopicsRequest":
            return {"topic_errors": [{"topic": "a", "error_code": 41}]}
        if type(request).__name__ == "DescribeConfigsRequest":
            raise kafka_errors.IncompatibleBrokerVersion
        made = bool(self.asked_one)
        partition = {"partition": 0, "leader": 2, "replicas": [2], "isr": [2]}
        brokers = [{"node_id": node, "host": "::1", "port": node} for node in (1, 2)]
        described = {"error_code": 0 if made else 3, "topic": "a", "partitions": [partition] if made else []}
        return {"brokers": brokers, "controller_id": 2, "cluster_id": "c", "topics": [described]}

    async def ask_one(self, server: str, request: Any) -> dict[str, Any]:
        self.asked_one.append(server)
        return {"topic_errors": [{"topic": "a", "error_code": 0}]}


async def test_only_the_controller_makes_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the broker that was asked is not the controller, the controller is asked."""
    old, told = OldCluster(), Told()
    monkeypatch.setattr(topics_module, "KafkaAdmin", lambda options, client_id: old)
    topics = KafkaTopics({}, KafkaConfig(), "test", told.tell)
    await topics.prepare("a", None, one)
    assert old.asked_one == ["[::1]:2"]
    assert told.of(CREATED) == ["topic a created"]


async def test_broker_that_has_not_heard_of_a_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are not refused because one broker lags behind: another that knows the topic makes it a matter of
    time."""

    class Lagging(OldCluster):
        async def ask_one(self, server: str, request: Any) -> dict[str, Any]:
            if server == "[::1]:1":
                raise kafka_errors.KafkaConnectionError("down")
            await super().ask_one(server, request)
            return await self.ask(request)

    monkeypatch.setattr(topics_module, "KafkaAdmin", lambda options, client_id: Lagging())
    topics = KafkaTopics({}, KafkaConfig(), "test", Told().tell)
    with pytest.raises(TopicError, match="'a' is not known to all brokers yet") as raised:
        await topics.prepare("a", TopicConfig("a", create=False), nobody)
    assert (raised.value.error_class, raised.value.kind) == (TRANSIENT, ErrorKind.UNAVAILABLE)


# ---- a real Kafka --------------------------------------------------------------------------------------------------


async def settings_of(servers: str, topic: str) -> tuple[int, int | None, Any]:
    """Partitions, replicas and settings, as the broker has them."""
    admin = KafkaAdmin(options(servers), "test")
    try:
        view = await look(admin, topic)
        return len(view.partitions), view.replicas, await read_settings(admin, topic)
    finally:
        await admin.close(DEADLINE_S)


@pytest.mark.integration
async def test_topic_is_made_as_configured(kafka: str) -> None:
    """Partitions, replicas and settings of the config; told as an event, and nothing to warn of but what is so."""
    name, told = new_topic(), Told()
    config = TopicConfig(name, partitions=3, min_insync_replicas=1, max_message_bytes=5_000)
    async with opened(kafka, told) as topics, lookup(kafka) as partitions_for:
        route = await topics.prepare(name, config, partitions_for)
        assert topics.facts(name) == TopicFacts(name, (0, 1, 2), 5_000, needs_key=False)
    partitions, replicas, settings = await settings_of(kafka, name)
    assert (partitions, replicas, settings.min_in_sync, settings.max_message_bytes) == (3, 1, 1, 5_000)
    assert told.of(CREATED) == [f"topic {name} created"]
    assert told.of(WARNING) == list(route.warnings)


@pytest.mark.integration
async def test_topic_is_made_as_the_broker_has_it(kafka: str) -> None:
    """Without a config the broker's defaults decide; the second time there is nothing to make."""
    name, told = new_topic(), Told()
    async with opened(kafka, told) as topics, lookup(kafka) as partitions_for:
        for _ in range(2):
            await topics.prepare(name, None, partitions_for)
        facts = topics.facts(name)
    assert facts is not None
    assert facts.partitions
    assert facts.max_message_bytes
    assert told.of(CREATED) == [f"topic {name} created"]


@pytest.mark.integration
async def test_two_make_the_same_topic(kafka: str) -> None:
    """Whoever comes second takes what the first has made."""
    name, told = new_topic(), Told()
    async with opened(kafka, told) as a, opened(kafka, told) as b, lookup(kafka) as partitions_for:
        routes = await asyncio.gather(*(topics.prepare(name, None, partitions_for) for topics in (a, b)))
    assert [route.log for route in routes] == [name, name]
    assert told.of(CREATED) == [f"topic {name} created"]


@pytest.mark.integration
async def test_compacted_topic(kafka: str) -> None:
    """The publisher learns that it needs keys, and a person is told."""
    name = new_topic()
    await create_topic(kafka, name, config={"cleanup.policy": "compact,delete", "retention.ms": "60000"})
    async with opened(kafka) as topics, lookup(kafka) as partitions_for:
        route = await topics.prepare(name, None, partitions_for)
        facts = topics.facts(name)
    assert facts is not None
    assert facts.needs_key
    assert any("is compacted" in text for text in route.warnings)
    assert any("removes messages after 60 s" in text for text in route.warnings)


@pytest.mark.integration
async def test_topic_that_was_deleted_is_made_again(kafka: str) -> None:
    """A topic that has gone is made again where its config allows it, and is not where it does not."""
    name, told = new_topic(), Told()
    async with opened(kafka, told) as topics:
        async with lookup(kafka) as partitions_for:
            await topics.prepare(name, None, partitions_for)
        await delete_topic(kafka, name)
        with pytest.raises(TopicError, match="create=False"):
            await topics.prepare(name, TopicConfig(name, create=False), nobody)
        async with lookup(kafka) as partitions_for:
            await topics.prepare(name, TopicConfig(name, partitions=2), partitions_for)
    assert told.of(CREATED) == [f"topic {name} created"] * 2


@pytest.mark.integration
async def test_more_replicas_than_brokers(kafka: str) -> None:
    """Refused for good, with the broker's own words."""
    name = new_topic()
    admin = KafkaAdmin(options(kafka), "test")
    brokers = len((await look(admin, name)).brokers)
    await admin.close(DEADLINE_S)
    if brokers >= 5:
        pytest.skip("the cluster has as many brokers as a topic may ask for")
    async with opened(kafka) as topics:
        with pytest.raises(TopicError, match=r"cannot be made: .* there may be fewer brokers") as raised:
            await topics.prepare(name, TopicConfig(name, replicas=5), nobody)
    assert (raised.value.error_class, raised.value.kind) == (FATAL, ErrorKind.INVALID)


# ---- rights --------------------------------------------------------------------------------------------------------

PASSWORD = "alice-secret"
_TOPIC, _LITERAL, _ALLOW, _WRITE = 2, 3, 3, 4  # Kafka's numbers (ResourceType, PatternType, AclPermissionType, ...)


class CreateAcl(Request[CreateAclsRequest_v1]):  # type: ignore[misc]
    """Let alice do something with a topic. aiokafka's own class for it cannot be built."""

    API_KEY = 30

    def __init__(self, topic: str, operation: int) -> None:
        self._creation = (_TOPIC, topic, _LITERAL, "User:alice", "*", operation, _ALLOW)

    def build(self, request_struct_class: type[CreateAclsRequest_v1]) -> CreateAclsRequest_v1:
        return request_struct_class([self._creation])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNode]:
    """A Kafka where alice may do what she was allowed."""
    skip_without_kafka()
    directory = tmp_path_factory.mktemp("guarded")
    users = {"admin": "admin-secret", "alice": PASSWORD}
    security = KafkaSecurity.make(directory / "certificates", users)
    settings = {"allow.everyone.if.no.acl.found": "false"}
    with KafkaNode(directory / "kafka", settings=settings, security=security) as node:
        yield node


def alice(password: str = PASSWORD, mechanism: str = "PLAIN") -> dict[str, Any]:
    return {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": "alice",
        "sasl_plain_password": password,
    }


async def allow(node: KafkaNode, topic: str, operation: int) -> None:
    admin = KafkaAdmin(options(node.bootstrap), "test")
    answer = await admin.ask(CreateAcl(topic, operation))
    await admin.close(DEADLINE_S)
    assert [told["error_code"] for told in answer["creation_responses"]] == [0]


@pytest.mark.integration
async def test_user_without_rights(guarded: KafkaNode) -> None:
    """Refused for good: on a topic that is there, and on one that may not be made."""
    name, absent = new_topic(), new_topic()
    await create_topic(guarded.bootstrap, name)
    await allow(guarded, absent, _WRITE)
    async with opened(guarded.address("SASL_PLAINTEXT"), **alice()) as topics:
        with pytest.raises(TopicError, match="TOPIC_AUTHORIZATION_FAILED") as raised:
            await topics.prepare(name, None, nobody)
        assert (raised.value.error_class, raised.value.kind) == (FATAL, ErrorKind.PERMISSION)
        with pytest.raises(TopicError, match="this user may not make it: create it, or allow Create") as raised:
            await topics.prepare(absent, None, nobody)
        assert (raised.value.error_class, raised.value.kind) == (FATAL, ErrorKind.PERMISSION)


@pytest.mark.integration
async def test_user_who_may_only_write(guarded: KafkaNode) -> None:
    """The topic is used, and a warning tells that its settings are unknown."""
    name, told = new_topic(), Told()
    await create_topic(guarded.bootstrap, name)
    await allow(guarded, name, _WRITE)
    async with opened(guarded.address("SASL_PLAINTEXT"), told, **alice(mechanism="SCRAM-SHA-256")) as topics:
        route = await topics.prepare(name, None, one)
        assert topics.facts(name) == TopicFacts(name, (0,), None, needs_key=False)
    assert [text.partition(":")[0] for text in route.warnings] == [
        f"this user may not ask for the settings of topic {name}"
    ]
    assert told.of(WARNING) == list(route.warnings)


@pytest.mark.integration
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_wrong_password(guarded: KafkaNode, mechanism: str) -> None:
    """Told as what it is, without the password, and nothing is left open."""
    before = sockets()
    async with opened(guarded.address("SASL_PLAINTEXT"), **alice("not-hers", mechanism)) as topics:
        with pytest.raises(TopicError, match="user or password was refused") as raised:
            await topics.prepare("a", None, nobody)
    assert (raised.value.error_class, raised.value.kind) == (FATAL, ErrorKind.PERMISSION)
    assert "not-hers" not in str(raised.value)
    await until(lambda: sockets() == before, "no socket is left")


# ---- three nodes ---------------------------------------------------------------------------------------------------


@pytest.mark.integration
async def test_cluster_with_a_frozen_node(tmp_path: Path) -> None:
    """Replicated topics are made without warnings, others with them; when the only node that was given stands still,
    the others are asked."""
    async with running_cluster(tmp_path) as cluster:
        everyone = cluster.bootstrap
        safe = TopicConfig("safe", replicas=3, min_insync_replicas=2)
        async with opened(everyone) as topics, lookup(everyone) as partitions_for:
            assert (await topics.prepare("safe", safe, partitions_for)).warnings == ()
            (warning,) = (await topics.prepare("plain", TopicConfig("plain", replicas=3), partitions_for)).warnings
            assert warning.startswith("topic plain has min.insync.replicas 1")
            (warning,) = (await topics.prepare("single", TopicConfig("single"), partitions_for)).warnings
            assert warning.startswith("topic single has one replica in a cluster of 3 brokers")
        async with opened(cluster.node("a").bootstrap) as topics:
            await topics.prepare("safe", safe, one)
            await cluster.pause("a")
            began = time.monotonic()
            await topics.prepare("safe", safe, one)  # it knows the others by now
            assert time.monotonic() - began < admin_module.ASK_TIMEOUT_S
            await cluster.resume("a")
