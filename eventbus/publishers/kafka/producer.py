"""KafkaProducer: one aiokafka producer from start to stop, with a bound on everything that aiokafka leaves unbounded.

aiokafka 0.14 hangs in ``stop`` and ``flush`` while no broker answers, says in its log only why a login failed, and
keeps a producer whose start failed open. What is private in aiokafka and used here is pinned by
tests/test_kafka_private.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping
from typing import Any, Literal

from aiokafka import AIOKafkaProducer
from aiokafka.conn import CloseReason, create_conn
from aiokafka.errors import KafkaError

from eventbus.config import KafkaConfig
from eventbus.errors import ConnectFailed
from eventbus.ports import Clock
from eventbus.publishers.kafka.batch import RecordBatch
from eventbus.publishers.kafka.replies import read_call_error

REQUEST_TIMEOUT_S = 5.0
"""How long aiokafka waits for an answer to one request before it closes the connection and tries again; the broker is
told the same for its replicas. aiokafka's default of 40 s would outlast the default ack timeout eight times."""
_RETRY_BACKOFF_S = 0.1
_METADATA_AGE_S = 60.0
"""After so long, new partitions are noticed. Kafka's own default is 5 min."""
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
        self.refused: set[tuple[str, int]] = set()
        """Partitions where the broker refused a batch of this producer, and so refuses whatever follows it."""

    async def start(self, timeout_s: float) -> None:
        """Connect, log in, get a producer id. Raises ConnectFailed within ``timeout_s``; then nothing is left."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._knock()
                await self._producer.start()
        except TimeoutError:
            await self.stop(1.0)
            raise ConnectFailed(f"no answer within {timeout_s:g} s") from None
        except (KafkaError, OSError, ValueError) as error:
            await self.stop(1.0)
            raise ConnectFailed(read_call_error(error).text) from error
        except BaseException:
            await self.stop(1.0)
            raise

    async def _knock(self) -> None:
        """Log in once at the first server that answers: only so is it told why a login fails."""
        reasons = []
        given = {key: self._options[key] for key in _LOGIN_KEYS if key in self._options}
        for server in self._options["bootstrap_servers"]:
            host, _, port = server.rpartition(":")
            try:
                connection = await create_conn(
                    host.strip("[]"),
                    int(port),
                    client_id=self._client_id,
                    request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
                    **given,
                )
            except (KafkaError, OSError, TimeoutError, ValueError) as error:
                reasons.append(f"{server}: {_why(error)}")
            else:
                connection.close(reason=CloseReason.SHUTDOWN)
                return
        raise ConnectFailed("; ".join(reasons))

    def batch(self, topic: str, partition: int, max_bytes: int) -> RecordBatch:
        """An empty batch, to be filled and given to ``send``."""
        return RecordBatch(topic, partition, min(max_bytes, self._kafka.max_batch_bytes), self._compression)

    async def send(self, batch: RecordBatch) -> asyncio.Future[Any]:
        """Hand over a batch; its future has the place of the first message, or why it failed.

        Waits while another batch for the same partition waits to be sent: one at a time, since aiokafka 0.14 counts
        the waiting time of several twice. Raises what aiokafka raises; then the batch was certainly not sent.
        """
        future: asyncio.Future[Any] = await self._producer.send_batch(
            batch.builder, batch.topic, partition=batch.partition
        )
        self.under_way.add(future)
        future.add_done_callback(self.under_way.discard)
        return future

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
        """Close it within ``timeout_s`` without waiting for answers; what is under way fails. Never raises."""
        producer = self._producer
        producer._closed = True  # its own stop() waits for answers, for ever
        client, sender = producer.client, producer._sender.sender_task
        transports = [
            connection._writer.transport for connection in client._conns.values() if connection._writer is not None
        ]
        for transport in transports:
            transport.abort()  # with what is in its buffer: a peer that stands still would never take it
        if sender is not None:
            sender.cancel()
        closing = asyncio.ensure_future(client.close())
        waiting = {closing} if sender is None else {closing, sender}
        await asyncio.wait(waiting, timeout=timeout_s)
        for task in waiting:
            await _end(task)
        producer._message_accumulator.fail_all(KafkaError("the producer was closed"))


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel a task until it has ended, and hear how, so that asyncio does not complain."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=0.1)
    if not task.cancelled():
        with contextlib.suppress(BaseException):
            task.result()


def _why(error: BaseException) -> str:
    """An exception of a first connection for people."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    return read_call_error(error).text


logging.getLogger("aiokafka").addHandler(logging.NullHandler())
