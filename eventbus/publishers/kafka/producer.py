"""KafkaProducer: one aiokafka producer from start to stop, with a bound on everything that aiokafka leaves unbounded.

aiokafka 0.14 hangs in ``stop`` and ``flush`` while no broker answers, says in its log only why a login failed, keeps a
producer whose start failed open, and loses sight of connections and tasks of its own. What is private in aiokafka and
used here is pinned by tests/test_kafka_private.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping
from itertools import cycle
from typing import Any, Literal

from aiokafka import AIOKafkaProducer
from aiokafka.conn import CloseReason, create_conn
from aiokafka.errors import KafkaError, ProducerClosed
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.metadata import MetadataRequest

from eventbus.config import KafkaConfig
from eventbus.errors import ConnectFailed
from eventbus.ports import Clock
from eventbus.publishers.kafka.batch import RecordBatch
from eventbus.publishers.kafka.replies import read_call_error

REQUEST_TIMEOUT_S = 5.0
"""How long aiokafka waits for an answer to one request before it closes the connection and tries again; the broker is
told the same for its replicas. aiokafka's default of 40 s would outlast the default ack timeout eight times."""
_NEXT_SERVER_S = 0.25
"""The next server of the URL is asked when the one before has not answered for so long."""
_BROKERS_ASKED = 3
"""How many brokers are asked for a producer id, within the time for a start, where the first of them stand still."""
_RETRY_BACKOFF_S = 0.1
_METADATA_AGE_S = 60.0
"""After so long, new partitions are noticed. Kafka's own default is 5 min."""
_TOLD = {"Produce": 0, "Metadata": 3}
"""Requests whose newest version tells brokers apart, by Kafka's names (its protocol's ApiKeys)."""
_LOGIN_KEYS = ("ssl_context", "security_protocol", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password")


class KafkaProducer:
    """options: KafkaLogin's. acks: of this producer; idempotent only where ``kafka`` says so and acks is "all"."""

    def __init__(
        self, options: Mapping[str, Any], kafka: KafkaConfig, client_id: str, acks: Literal["all", 1, 0], clock: Clock
    ) -> None:
        self._options = options
        self._kafka = kafka
        self._client_id = client_id
        self._clock = clock
        self.idempotent = kafka.idempotent and acks == "all"
        self._producer = AIOKafkaProducer(
            client_id=client_id,
            acks=acks,
            enable_idempotence=self.idempotent,
            compression_type=kafka.compression,
            max_batch_size=kafka.max_batch_bytes,
            max_request_size=kafka.max_request_bytes,
            request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
            retry_backoff_ms=int(_RETRY_BACKOFF_S * 1000),
            metadata_max_age_ms=int(_METADATA_AGE_S * 1000),
            **options,
        )
        self._compression = AIOKafkaProducer._COMPRESSORS[kafka.compression][1] if kafka.compression else 0
        self.under_way: set[asyncio.Future[Any]] = set()
        """Futures of batches that were handed over and have no outcome yet."""
        self.broker = ""
        """What the broker that was asked first says of itself: the newest requests that it knows."""
        self._handing_over = 0
        self._transports: dict[Any, asyncio.Transport] = {}  # by aiokafka's connection
        self._requests: set[asyncio.Task[Any]] = set()
        self.refused: set[tuple[str, int]] = set()
        """Partitions where the broker refused a batch of this producer, and so refuses whatever follows it."""
        self._keep_track()

    async def start(self, timeout_s: float) -> None:
        """Connect, log in, get a producer id. Raises ConnectFailed within ``timeout_s``; then nothing is left."""
        reasons: dict[str, str] = {}
        try:
            async with asyncio.timeout(timeout_s):
                await self._bootstrap(reasons)
                await self._get_id(timeout_s / _BROKERS_ASKED)
        except BaseException as error:  # whatever aiokafka raises, and a cancellation: nothing may be left
            await self.stop(1.0)
            if isinstance(error, TimeoutError):
                text = "; ".join([f"no answer within {timeout_s:g} s", *reasons.values()])
                raise ConnectFailed(text) from None
            if isinstance(error, Exception) and not isinstance(error, ConnectFailed):
                raise ConnectFailed(read_call_error(error).text) from error
            raise

    async def _bootstrap(self, reasons: dict[str, str]) -> None:
        """Learn of the cluster from the first server that answers; ``reasons`` gets why others do not.

        In place of AIOKafkaClient.bootstrap, which waits 5 s for a server that stands still before it asks the next,
        leaves its connection open when it is cancelled, and says only in its log why a login fails.
        """
        servers = self._options["bootstrap_servers"]
        asking = {
            asyncio.create_task(self._ask(server, number * _NEXT_SERVER_S), name="eventbus kafka bootstrap"): server
            for number, server in enumerate(servers)
        }
        self._requests |= asking.keys()  # so that stop() ends them too
        client = self._producer.client
        try:
            waiting = set(asking)
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    try:
                        metadata, self.broker = task.result()
                        client.cluster.update_metadata(metadata)
                    except Exception as error:  # whatever aiokafka raises: another server may do better
                        reasons[asking[task]] = f"{asking[task]}: {_why(error)}"
                    else:
                        client._sync_task = asyncio.create_task(client._md_synchronizer())
                        return
        finally:
            for task in asking:
                task.cancel()
            for task in asking:
                await _end(task)
            self._requests -= asking.keys()
        raise ConnectFailed("; ".join(reasons[server] for server in servers))

    async def _get_id(self, each_s: float) -> None:
        """Get a producer id where one is needed, and let the sender begin. aiokafka asks one broker and waits for it
        alone; here another is asked when one stands still for ``each_s``. Raises what aiokafka raises."""
        client = self._producer.client
        brokers = cycle([broker.nodeId for broker in client.cluster.brokers()])
        client.get_random_node = lambda: next(brokers)
        try:
            for _ in range(_BROKERS_ASKED - 1):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(each_s):
                        await self._producer._sender.start()
                        return
            await self._producer._sender.start()
        finally:
            del client.get_random_node

    async def _ask(self, server: str, delay_s: float) -> tuple[Any, str]:
        """One server's knowledge of its cluster, and what it is. Raises what aiokafka raises."""
        await asyncio.sleep(delay_s)
        host, _, port = server.rpartition(":")
        connection = await create_conn(
            host.strip("[]"),
            int(port),
            client_id=self._client_id,
            request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
            **{key: self._options[key] for key in _LOGIN_KEYS if key in self._options},
        )
        try:
            metadata = await connection.send(MetadataRequest([]))
            known = await connection.send(ApiVersionRequest())
        finally:
            connection.close(reason=CloseReason.SHUTDOWN)
        if not metadata.brokers:
            raise KafkaError("it knows of no broker yet")
        return metadata, _requests(known)

    def _keep_track(self) -> None:
        """Let the client's connections and the sender's requests be known, so that they can be ended.

        aiokafka forgets a connection that it closes, and that one stays open while a peer stands still and does not
        take what is in its buffer; the requests of a sender that is cancelled, or has died, go on by themselves.
        """
        client, sender = self._producer.client, self._producer._sender
        get_connection, send_request = client._get_conn, sender._send_produce_req

        async def get_and_note(*what: Any, **how: Any) -> Any:
            connection = await get_connection(*what, **how)
            if connection is not None and connection not in self._transports and connection._writer is not None:
                self._transports[connection] = connection._writer.transport
                connection._closed_fut.add_done_callback(lambda _: self._transports.pop(connection, None))
            return connection

        async def send_and_note(*what: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._requests.add(task)
            try:
                await send_request(*what)
            finally:
                self._requests.discard(task)

        client._get_conn, sender._send_produce_req = get_and_note, send_and_note

    def batch(self, topic: str, partition: int, max_bytes: int) -> RecordBatch:
        """An empty batch, to be filled and given to ``send``."""
        return RecordBatch(topic, partition, min(max_bytes, self._kafka.max_batch_bytes), self._compression)

    async def send(self, batch: RecordBatch) -> asyncio.Future[Any]:
        """Hand over a batch; its future has the place of the first message, or why it failed.

        Waits while another batch for the same partition waits to be sent: one at a time, since aiokafka 0.14 counts
        the waiting time of several twice. Raises what aiokafka raises; then the batch was certainly not sent.
        """
        self._handing_over += 1
        try:
            future: asyncio.Future[Any] = await self._producer.send_batch(
                batch.builder, batch.topic, partition=batch.partition
            )
        finally:
            self._handing_over -= 1
        self.under_way.add(future)
        future.add_done_callback(self.under_way.discard)
        return future

    async def finished(self) -> None:
        """Wait until nothing is under way, nor about to be: a batch can still wait for the one before it."""
        while self.under_way or self._handing_over:
            if self.under_way:
                await asyncio.wait(set(self.under_way))
            else:
                await asyncio.sleep(_RETRY_BACKOFF_S)

    async def partitions(self, topic: str) -> Collection[int]:
        """The partitions of a topic, asked for if they are not known. Raises what aiokafka raises."""
        found: Collection[int] = await self._producer.partitions_for(topic)
        return found

    def known_partitions(self, topic: str) -> tuple[Collection[int], Collection[int]]:
        """All partitions of a topic and those with a leader, as last heard. Never waits."""
        cluster = self._producer.client.cluster
        return cluster.partitions_for_topic(topic) or (), cluster.available_partitions_for_topic(topic) or ()

    async def answers(self, timeout_s: float) -> bool:
        """True where some broker answers a question about the cluster within ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                return bool(await self._producer.client.force_metadata_update())
        except TimeoutError:
            return False

    async def stop(self, timeout_s: float) -> None:
        """Close it within ``timeout_s`` without waiting for answers; what is under way is cancelled. Never raises.

        Cancelling the wait leaves nothing behind either, a little later.
        """
        producer = self._producer
        producer._closed = True  # its own stop() waits for answers, for ever
        for transport in list(self._transports.values()):
            transport.abort()  # with what is in its buffer: a peer that stands still would never take it
        ending = [asyncio.ensure_future(producer.client.close()), *self._requests]
        if producer._sender.sender_task is not None:
            ending.append(producer._sender.sender_task)
        for task in ending[1:]:
            task.cancel()
        await asyncio.wait(ending, timeout=timeout_s)
        for task in ending:
            await _end(task)
        self._release_waiting()
        await asyncio.sleep(0)  # outcomes that are there already are passed on first
        for future in list(self.under_way):
            future.cancel()

    def _release_waiting(self) -> None:
        """Whoever waits in ``send`` learns at once that it is over."""
        accumulator = self._producer._message_accumulator
        accumulator._closed = True
        for batches in accumulator._batches.values():
            for batch in batches:
                if not batch._drain_waiter.done():
                    batch._drain_waiter.set_exception(ProducerClosed())
                    batch._drain_waiter.exception()  # heard, also where nobody waits


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel a task until it has ended, and hear how, so that asyncio does not complain."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=0.1)
    if not task.cancelled():
        with contextlib.suppress(BaseException):
            task.result()


def _requests(known: Any) -> str:
    """A broker in words: no Kafka tells its version."""
    newest = {version[0]: version[2] for version in known.api_versions}
    told = [f"{name} {newest[key]}" for name, key in _TOLD.items() if key in newest]
    return f"Kafka with {', '.join(told)}" if told else "Kafka"


def _why(error: BaseException) -> str:
    """An exception of a first connection for people."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    return read_call_error(error).text


logging.getLogger("aiokafka").addHandler(logging.NullHandler())
