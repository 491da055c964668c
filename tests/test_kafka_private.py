"""Private names of aiokafka that the publisher uses, each pinned here with what breaks without it.

aiokafka has no public way to end a producer while no broker answers, to learn why a login fails, to know how often a
batch was requested, or to append to a batch at the encoder's own speed.
When a new version fails here, the use in eventbus/publishers/kafka has to be looked at before anything is upgraded.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaError, UnknownError, kafka_errors
from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator, MessageBatch
from aiokafka.producer.sender import Sender, SendProduceReqHandler
from aiokafka.structs import TopicPartition

from eventbus.embedded.kafka import EmbeddedKafka
from eventbus.publishers.kafka.replies import BY_CODE
from tests.nats_tools import eventually, tasks_besides

FOLDER = Path(__file__).parents[1] / "eventbus" / "publishers" / "kafka"
PINNED = {
    "_COMPRESSORS",
    "_batches",
    "_build",
    "_builder",
    "_closed",
    "_closed_fut",
    "_drain_waiter",
    "_get_conn",
    "_md_synchronizer",
    "_message_accumulator",
    "_relative_offset",
    "_send_produce_req",
    "_sender",
    "_sync_task",
    "_writer",
}
"""Every private name of aiokafka in use, besides those of ``self``."""


def _private_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"getattr", "setattr"}:
            name = node.args[1]
            if isinstance(name, ast.Constant) and str(name.value).startswith("_"):
                yield str(name.value)


def test_no_private_name_is_used_without_a_pin() -> None:
    """A private name of a library is used only with a test that says what breaks when it goes."""
    used = {name for path in FOLDER.glob("*.py") for name in _private_names(path)}
    assert used == PINNED


# ---- a batch -------------------------------------------------------------------------------------------------------


def test_builder_is_filled_through_its_encoder() -> None:
    """``BatchBuilder._builder``, ``_relative_offset``: without them a batch is empty to aiokafka, and acks name wrong
    offsets; the result is what ``BatchBuilder.append`` makes."""
    ours, theirs = BatchBuilder(1_000, 0), BatchBuilder(1_000, 0)
    for number in range(3):
        headers = [("name", b"value")]
        assert ours._builder.append(number, 1_700_000_000_000 + number, b"key", b"value", headers) is not None
        theirs.append(timestamp=1_700_000_000_000 + number, key=b"key", value=b"value", headers=headers)
    ours._relative_offset = 3
    ours.close()
    assert ours.record_count() == theirs.record_count() == 3, "record_count no longer tells _relative_offset"
    assert bytes(ours._build()) == bytes(theirs._build()), "the encoder takes its arguments in another way now"


def test_encoder_refuses_what_does_not_fit() -> None:
    """It answers None where the batch is full, and takes the first record whatever its size: lanes rely on both."""
    builder = BatchBuilder(200, 0)._builder
    assert builder.append(0, 0, None, bytes(1_000), []) is not None
    assert builder.append(1, 0, None, b"", []) is None


def test_encoder_does_not_write_into_the_headers() -> None:
    """One empty list is handed in for all messages without headers."""
    headers: list[tuple[str, bytes]] = []
    BatchBuilder(1_000, 0)._builder.append(0, 0, None, b"", headers)
    assert headers == []


def test_bytes_are_asked_for_once_each_request() -> None:
    """``BatchBuilder._build``: the number of its calls says whether a batch can be stored already, which makes the
    difference between REJECTED and UNKNOWN."""
    assert "self._builder._build()" in inspect.getsource(MessageBatch.get_data_buffer)
    assert inspect.getsource(SendProduceReqHandler.create_request).count("get_data_buffer()") == 1
    source = inspect.getsource(SendProduceReqHandler.do)
    assert source.count("self.create_request()") == 1
    assert source.index("create_request") < source.index("_client.send"), "a request is written before it is counted"
    for cls in (MessageBatch, MessageAccumulator, Sender):
        calls = inspect.getsource(cls).count("get_data_buffer()")
        assert calls == 0, f"{cls.__name__} asks for a batch's bytes too: sent batches are counted twice"


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_codecs_have_numbers(compression: str) -> None:
    """``AIOKafkaProducer._COMPRESSORS``: without it a batch says nothing of its compression."""
    _, number = AIOKafkaProducer._COMPRESSORS[compression]
    assert number == {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}[compression]  # Kafka's own


def test_codes_are_looked_up_in_one_place() -> None:
    """``kafka_errors`` gets the codes that aiokafka does not know; without it 87 cannot be told from an unknown error,
    and the neighbours of one bad record are UNKNOWN."""
    for code in BY_CODE:
        assert kafka_errors[code].errno == code
        assert kafka_errors[code] is not UnknownError or code == -1


# ---- a producer ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def producer() -> AsyncIterator[AIOKafkaProducer]:
    with EmbeddedKafka() as mock:
        mock.create_topic("t")
        made = AIOKafkaProducer(bootstrap_servers=mock.bootstrap_servers, enable_idempotence=True)
        await made.start()
        yield made
        await made.stop()


def test_start_is_bootstrap_and_sender() -> None:
    """``_sender``, ``_md_synchronizer``, ``_sync_task``: the producer is started without ``AIOKafkaClient.bootstrap``,
    which cannot be bounded for each server. Another step in either would be missing at run time."""
    body = ast.parse(textwrap.dedent(inspect.getsource(AIOKafkaProducer.start))).body[0]
    awaited = [ast.unparse(node.value) for node in ast.walk(body) if isinstance(node, ast.Await)]
    assert awaited == ["self.client.bootstrap()", "self._sender.start()"], "aiokafka's start() has another step"
    source = inspect.getsource(AIOKafkaClient.bootstrap)
    assert "self.cluster.update_metadata(metadata)" in source
    assert "self._sync_task = create_task(self._md_synchronizer())" in source


@pytest.mark.integration
async def test_metadata_task_is_ended_by_close(producer: AIOKafkaProducer) -> None:
    """``AIOKafkaClient._sync_task``: without it the task that asks for metadata outlives the bus."""
    task = producer.client._sync_task
    assert isinstance(task, asyncio.Task)
    await producer.client.close()
    assert task.done()


@pytest.mark.integration
async def test_requests_and_connections_go_through_what_is_replaced(producer: AIOKafkaProducer) -> None:
    """``Sender._send_produce_req``, ``AIOKafkaClient._get_conn``: looked up on the instance for each request; without
    that a closed bus leaves tasks and sockets behind."""
    seen: list[str] = []
    sender, client = producer._sender, producer.client
    send, get = sender._send_produce_req, client._get_conn

    async def sent(*what: Any) -> None:
        seen.append("request")
        await send(*what)

    async def got(*what: Any, **how: Any) -> Any:
        seen.append("connection")
        return await get(*what, **how)

    sender._send_produce_req, client._get_conn = sent, got
    await producer.send_and_wait("t", b"x", partition=0)
    assert {"request", "connection"} <= set(seen)


@pytest.mark.integration
async def test_connection_has_its_transport_and_its_end(producer: AIOKafkaProducer) -> None:
    """``AIOKafkaConnection._writer``, ``_closed_fut``: without them a connection to a peer that stands still cannot be
    aborted, and stays open with what it holds."""
    await producer.send_and_wait("t", b"x", partition=0)
    connection = next(iter(producer.client._conns.values()))
    assert isinstance(connection, AIOKafkaConnection)
    transport, closed = connection._writer.transport, connection._closed_fut
    assert not closed.done()
    transport.abort()
    await eventually(closed.done, "the end of the transport is told")


@pytest.mark.integration
async def test_connecting_can_be_cancelled() -> None:
    """``create_conn`` closes what it opened when it is cancelled, so a connect that is given up leaves nothing."""
    with EmbeddedKafka() as mock:
        before = asyncio.all_tasks()
        for turns in range(12):
            task = asyncio.ensure_future(create_conn("127.0.0.1", mock.ports[0]))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                task.result().close()
        await eventually(lambda: tasks_besides(before) == [], "no reader is left")


@pytest.mark.integration
async def test_closed_producer_is_not_stopped_again(producer: AIOKafkaProducer) -> None:
    """``AIOKafkaProducer._closed``: without it a producer that was ended by force complains when it is collected."""
    assert producer._closed is False
    assert "if self._closed is False" in inspect.getsource(AIOKafkaProducer.__del__)


@pytest.mark.integration
async def test_who_waits_for_a_batch_to_be_sent_can_be_released(producer: AIOKafkaProducer) -> None:
    """``_message_accumulator``, ``_batches``, ``_drain_waiter``: without them a send to a partition without a leader
    holds its messages for 5 s after its producer is gone."""
    accumulator = producer._message_accumulator
    partition = TopicPartition("t", 0)
    producer._sender._muted_partitions.add(partition)  # nothing is taken from it
    for _ in range(2):
        builder = producer.create_batch()
        builder.append(key=None, value=b"x", timestamp=None)
        sending = asyncio.ensure_future(producer.send_batch(builder, "t", partition=0))
    await eventually(lambda: partition in accumulator._batches, "the first is there")
    (batch,) = accumulator._batches[partition]
    batch._drain_waiter.set_exception(KafkaError("over"))
    with pytest.raises(KafkaError, match="over"):
        await sending
    accumulator._closed = True
    with pytest.raises(KafkaError):
        await producer.send_batch(producer.create_batch(), "t", partition=0)
    del accumulator._batches[partition]


def test_broker_for_the_producer_id_can_be_chosen() -> None:
    """``AIOKafkaClient.get_random_node``, which is public, is asked for each try: replaced, it names another each time;
    without that one broker that stands still fails a connect now and then."""
    source = inspect.getsource(Sender._maybe_wait_for_pid)
    assert "node_id = self.client.get_random_node()" in source
    assert source.index("while True") < source.index("get_random_node")


def test_dead_sender_says_so() -> None:
    """The text of the exception that a dead sender leaves: without it a dead producer is not replaced."""
    assert '"Unexpected error during batch delivery"' in inspect.getsource(Sender._sender_routine)
