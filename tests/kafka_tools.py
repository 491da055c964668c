"""What tests need of a real Kafka: topics made and looked at, and a topic read back, all by a client of another make.

Only listeners without login: the node of a test always has one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.metadata import MetadataRequest

DEADLINE_S = 30.0
"""Longest wait for a broker to do what it must: an election takes some 5 s, and both cores may be busy."""
REQUEST_TIMEOUT_MS = 2_000
"""How long one question to one broker may take: it may be the one that stands still, and the next may not."""
_POLL_S = 0.05
_UNREACHABLE = (KafkaError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One record as the broker has it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int

    def header(self, name: str) -> bytes | None:
        """The first header of that name."""
        return next((value for header, value in self.headers if header == name), None)


@dataclass(frozen=True, slots=True)
class PartitionState:
    """Node ids of who leads a partition (None: nobody), who has all of it, and who should."""

    leader: int | None
    in_sync: frozenset[int]
    replicas: frozenset[int]


@dataclass(frozen=True, slots=True)
class View:
    """What one server knows: the ids of the live brokers; of a topic, if one was asked for, error and partitions."""

    brokers: frozenset[int]
    error: type[KafkaError] | None
    states: Mapping[int, PartitionState]


def new_topic(prefix: str = "test") -> str:
    """A name that no other test has used: several share a broker."""
    return f"{prefix}.{uuid4().hex[:12]}"


@contextlib.asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connection of its own, for setting up and looking."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


async def create_topic(
    bootstrap: str,
    topic: str,
    *,
    partitions: int = 1,
    replicas: int = 1,
    assigned: Mapping[int, list[int]] | None = None,
    config: Mapping[str, str] | None = None,
) -> None:
    """Make a topic and wait until all its replicas are in sync. ``assigned``: node ids by partition, the leader first.

    Raises KafkaError if the broker refuses.
    """
    if assigned is None:
        wanted = NewTopic(topic, partitions, replicas, topic_configs=dict(config or {}))
    else:
        wanted = NewTopic(topic, -1, -1, replica_assignments=dict(assigned), topic_configs=dict(config or {}))
    async with admin(bootstrap) as client:
        for _, code, text in (await client.create_topics([wanted])).topic_errors:
            if code:
                raise for_code(code)(text)
    await until_in_sync(bootstrap, topic)


async def delete_topic(bootstrap: str, topic: str) -> None:
    """Remove a topic; returns when none of these servers has it."""
    async with admin(bootstrap) as client:
        await client.delete_topics([topic])
    await _until(bootstrap, topic, f"{topic} is gone", lambda view: view.error is UnknownTopicOrPartitionError)


async def alter_topic(bootstrap: str, topic: str, **settings: str) -> None:
    """Change settings of a topic, with ``_`` for dots; all others become the broker's own."""
    configs = {name.replace("_", "."): value for name, value in settings.items()}
    async with admin(bootstrap) as client:
        (answer,) = await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
    for code, text, *_ in answer.resources:
        if code:
            raise for_code(code)(text)


async def add_partitions(bootstrap: str, topic: str, total: int) -> None:
    """Give a topic more partitions; returns when all of these servers know it."""
    async with admin(bootstrap) as client:
        await client.create_partitions({topic: NewPartitions(total)})
    await _until(bootstrap, topic, f"{topic} has {total} partitions", lambda view: len(view.states) == total)


async def topic_names(bootstrap: str) -> list[str]:
    """The topics of a cluster, without Kafka's own, in alphabetical order."""
    async with _asking(bootstrap.split(",")[0]) as connection:
        answer = (await connection.send(MetadataRequest(None, allow_auto_topic_creation=False))).to_object()
    return sorted(topic["topic"] for topic in answer["topics"] if not topic["topic"].startswith("__"))


async def clear(bootstrap: str) -> None:
    """Remove all topics but Kafka's own: for a node that several tests use one after the other."""
    if names := await topic_names(bootstrap):
        async with admin(bootstrap) as client:
            await client.delete_topics(names)
        for name in names:
            await _until(bootstrap, name, f"{name} is gone", lambda view: view.error is UnknownTopicOrPartitionError)


async def partition_states(bootstrap: str, topic: str) -> Mapping[int, PartitionState]:
    """The partitions of a topic, once all of these servers say the same of it. Raises KafkaError, as they do."""
    view = await _until(bootstrap, topic, f"all agree on {topic}", lambda view: True)
    if view.error is not None:
        raise view.error(topic)
    return view.states


async def until_in_sync(bootstrap: str, topic: str) -> None:
    """Wait until every partition has a leader and all its replicas have all of it, as all of these servers know."""

    def in_sync(view: View) -> bool:
        states = view.states.values()
        return bool(states) and all(state.leader is not None and state.in_sync == state.replicas for state in states)

    await _until(bootstrap, topic, f"{topic} has all its replicas in sync", in_sync)


async def until_in_sync_replicas(bootstrap: str, topic: str, replicas: set[int], partition: int = 0) -> None:
    """Wait until just these have all of a partition, as all of these servers know."""

    def these(view: View) -> bool:
        return partition in view.states and view.states[partition].in_sync == replicas

    await _until(bootstrap, topic, f"{replicas} are in sync for {topic}/{partition}", these)


async def until_leader(bootstrap: str, topic: str, partition: int = 0, *, besides: int | None = None) -> int:
    """The node id of who leads a partition, as all of these servers know; waits until it is not ``besides``."""

    def leader(view: View) -> int | None:
        state = view.states.get(partition)
        return None if state is None or state.leader == besides else state.leader

    what = f"{topic}/{partition} has a leader besides {besides}"
    found = leader(await _until(bootstrap, topic, what, lambda view: leader(view) is not None))
    assert found is not None
    return found


async def until_brokers(bootstrap: str, number: int) -> None:
    """Wait until all of these servers know of so many live brokers, themselves among them."""
    await _until(bootstrap, None, f"{number} brokers are in the cluster", lambda view: len(view.brokers) == number)


async def read_back(bootstrap: str, topic: str, *, deadline_s: float = 60.0) -> list[StoredRecord]:
    """Everything in a topic, by partition and offset.

    After a change of the leader call ``until_in_sync`` first: what is acked may not be readable before.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    found: list[StoredRecord] = []
    async with asyncio.timeout(deadline_s):
        await consumer.start()
        try:
            partitions = [TopicPartition(topic, number) for number in await partition_states(bootstrap, topic)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            unread = {partition for partition in partitions if await consumer.position(partition) < ends[partition]}
            while unread:
                for partition, records in (await consumer.getmany(*unread, timeout_ms=1_000)).items():
                    found += [
                        StoredRecord(
                            topic,
                            partition.partition,
                            record.offset,
                            record.key,
                            record.value,
                            tuple(record.headers),
                            record.timestamp,
                        )
                        for record in records
                        if record.offset < ends[partition]
                    ]
                unread = {partition for partition in unread if await consumer.position(partition) < ends[partition]}
        finally:
            await consumer.stop()
    return sorted(found, key=lambda record: (record.partition, record.offset))


def copies(stored: Iterable[StoredRecord], id_of: Callable[[StoredRecord], bytes | None]) -> Counter[bytes]:
    """How often each id is there; ``id_of`` takes it out of a record, None where there is none."""
    return Counter(found for record in stored if (found := id_of(record)) is not None)


@contextlib.asynccontextmanager
async def _asking(server: str) -> AsyncIterator[AIOKafkaConnection]:
    host, _, port = server.strip().rpartition(":")
    connection = await create_conn(host, int(port), request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        yield connection
    finally:
        connection.close()


async def _ask(server: str, topic: str | None) -> View:
    """One server's own knowledge: aiokafka's clients ask whichever broker they like."""
    async with _asking(server) as connection:
        request = MetadataRequest([] if topic is None else [topic], allow_auto_topic_creation=False)
        answer = (await connection.send(request)).to_object()
    brokers = frozenset(broker["node_id"] for broker in answer["brokers"])
    if topic is None:
        return View(brokers, None, {})
    (described,) = answer["topics"]
    states = {
        partition["partition"]: PartitionState(
            partition["leader"] if partition["leader"] >= 0 else None,
            frozenset(partition["isr"]),
            frozenset(partition["replicas"]),
        )
        for partition in described["partitions"]
    }
    return View(brokers, for_code(described["error_code"]) if described["error_code"] else None, states)


async def _until(bootstrap: str, topic: str | None, what: str, holds: Callable[[View], bool]) -> View:
    """Ask all servers until they agree and it holds; fails with ``what``, and what they say, when that takes too long.

    All of them, because one that stood still or has just come back tells what was true long ago.
    """
    deadline = time.monotonic() + DEADLINE_S
    while True:
        views = await asyncio.gather(*(_ask(server, topic) for server in bootstrap.split(",")), return_exceptions=True)
        agreed = [view for view in views if isinstance(view, View)]
        if len(agreed) == len(views) and all(view == agreed[0] for view in agreed) and holds(agreed[0]):
            return agreed[0]
        for view in views:
            if not isinstance(view, (View, *_UNREACHABLE)):
                raise view
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s in vain: {what}; {bootstrap} say {views}"
        await asyncio.sleep(_POLL_S)
