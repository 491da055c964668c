"""KafkaPublisher: publishes through aiokafka, a record batch at a time, with one future for all messages of a batch.

Not through ``AIOKafkaProducer.send``: it costs a future and some 8 us for each message, and buffers without bound.

Who owns what: aiokafka connections, encoding, leaders and the repetitions that an idempotent producer may make by
itself; producers.py which producer is used; lane.py what waits for a partition; topics.py what is known of topics.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from eventbus.config import ConnectionConfig
from eventbus.errors import ConnectFailed, ErrorClass, ErrorKind, InvalidMessage
from eventbus.event import BusEvent, EventKind
from eventbus.message import Extras, Message
from eventbus.ports import AckSink, Capabilities, Clock, Failure, Outgoing, Random, Reply, Route
from eventbus.publishers.kafka.batch import MESSAGE_ID_HEADER
from eventbus.publishers.kafka.check import BATCH_HEADER_BYTES, check_message, check_topic
from eventbus.publishers.kafka.lane import Lane
from eventbus.publishers.kafka.login import KafkaLogin
from eventbus.publishers.kafka.producer import KafkaProducer
from eventbus.publishers.kafka.producers import Producers
from eventbus.publishers.kafka.topic import KafkaTopic
from eventbus.publishers.kafka.topics import KafkaTopics
from eventbus.publishers.one_ping import OnePing
from eventbus.snapshot import ConnectionState
from eventbus.topic import TopicConfig

_RECORD_BYTES = 64
"""Room for a record's own fields, when the size of a payload is checked."""
_CHECKED_TOPICS = 10_000
_GONE_DELAY_S = 0.25


@dataclass(frozen=True, slots=True)
class _Unacknowledged:
    """A message whose ack nobody waits for, as a lane wants it."""

    token: int
    topic: str
    payload: bytes
    extras: Extras | None
    route: Route
    accepted_ns: int
    message_id: str = ""


class KafkaPublisher:
    """Implements ports.Publisher for ``servers``, full URLs that may hold credentials (never logged).

    unacknowledged_acks: what sends without acks ask of the broker. 0 is nothing; 1 for a broker that cannot do that
        (librdkafka's mock), where the answer is not looked at.
    """

    capabilities = Capabilities(system="kafka", deduplicates=False, keeps_made_ids=False)

    def __init__(
        self,
        servers: tuple[str, ...],
        config: ConnectionConfig,
        clock: Clock,
        random: Random,
        *,
        unacknowledged_acks: Literal[0, 1] = 0,
    ) -> None:
        self._config, self._kafka = config, config.kafka
        self._clock = clock
        self._random = random
        self._login = KafkaLogin(servers, config)
        self._unacknowledged_acks: Literal[0, 1] = unacknowledged_acks
        self._sink: AckSink | None = None
        self._topics = KafkaTopics(self._login.options, self._kafka, config.name, self._tell)
        self._producers = Producers(
            lambda: self._make(self._kafka.acks),
            config,
            oldest_s=self._oldest_s,
            on_ready=self._on_ready,
            on_lost=self._on_lost,
            on_replaced=self._on_replaced,
            on_suspect=self._on_suspect,
        )
        self._pings = OnePing(self._topics.round_trip)
        self._by_name: dict[str, KafkaTopic] = {}
        self._checked_topics: set[str] = set()
        self._careful = False  # some topic takes less than others, so every message is looked at
        self._careless: Producers | None = None  # for sends without acks
        self._careless_topics: dict[str, KafkaTopic] = {}
        self._last_careless = 0
        self.unchecked_bytes = self._kafka.max_request_bytes - BATCH_HEADER_BYTES - _RECORD_BYTES

    def _make(self, acks: Literal["all", 1, 0]) -> KafkaProducer:
        return KafkaProducer(self._login.options, self._kafka, self._config.name, acks, self._clock)

    @property
    def _shown(self) -> str:
        return f"kafka://{','.join(self._login.servers)}"

    # ---- the connection ----------------------------------------------------------------------------------------

    async def open(self, sink: AckSink) -> None:
        """Connect, log in and get a producer id. Raises ConnectFailed within ``connect_timeout_s``; nothing is left."""
        self._sink = sink
        sink.connection_changed(ConnectionState.CONNECTING)
        try:
            await self._producers.open()
        except ConnectFailed as error:
            raise ConnectFailed(f"could not connect to {self._shown}: {error}") from error

    def _on_ready(self) -> None:
        if self._sink is not None:
            self._tell(EventKind.CONNECTED, f"connected to {self._shown}")
            self._sink.connection_changed(ConnectionState.CONNECTED)

    def _on_lost(self, reason: str) -> None:
        """New messages are held. What is under way stays so: aiokafka repeats it, and only it can do that safely."""
        if self._sink is not None:
            self._tell(EventKind.DISCONNECTED, f"{self._shown}: {reason}; trying again")
            self._sink.connection_changed(ConnectionState.RECONNECTING, reason, in_flight_lost=False)

    def _on_replaced(self, reason: str) -> None:
        self._tell(EventKind.PRODUCER_REPLACED, f"the Kafka producer is finished and replaced: {reason}")

    def _on_suspect(self) -> None:
        """Topics that the cluster does not have any more: aiokafka would repeat their batches for ever."""
        producer = self._producers.current
        for name, topic in list(self._by_name.items()):
            if producer is not None and not topic.idle and not self._known(name)[0]:
                del self._by_name[name]
                self._producers.poisoned(
                    producer, f"topic {name!r} is gone, and batches for it would be repeated for ever"
                )
                for lane in topic.lanes.values():
                    unsent, doubtful = lane.give_up()
                    self._replied([_gone(name, unsent), _in_doubt(name, doubtful)])

    def _oldest_s(self) -> float:
        now_s = asyncio.get_running_loop().time()
        lanes = (lane for topic in self._by_name.values() for lane in topic.lanes.values())
        return max((lane.oldest_s(now_s) for lane in lanes), default=0.0)

    def _tell(self, kind: EventKind, text: str) -> None:
        if self._sink is not None:
            self._sink.happened(BusEvent(self._clock.wall_s(), kind, text))

    # ---- topics ------------------------------------------------------------------------------------------------

    async def prepare(self, name: str, config: TopicConfig | None) -> Route:
        """Find or make a topic. Waits for a few requests of at most 5 s each. Raises TopicError."""
        producer = await self._producers.producer()
        route = await self._topics.prepare(name, config, producer.partitions)
        facts = self._topics.facts(name)
        if facts is not None:
            topic = self._by_name.get(name)
            if topic is None:
                topic = self._by_name[name] = self._lanes(name, facts.partitions)
            topic.grow(facts.partitions)
            topic.needs_key = facts.needs_key
            if facts.max_message_bytes is not None and self._kafka.compression is None:
                topic.max_message_bytes = facts.max_message_bytes - BATCH_HEADER_BYTES
                self._careful |= topic.max_message_bytes < self.unchecked_bytes
            if facts.needs_key or self._careful:
                self._careful, self.unchecked_bytes = True, -1
        return route

    def _lanes(self, name: str, partitions: Collection[int]) -> KafkaTopic:
        return KafkaTopic(name, partitions, self._lane, self._known, self._random, self._kafka.max_batch_bytes)

    def _lane(self, topic: str, partition: int) -> Lane:
        facts = self._topics.facts(topic)
        limit = facts.max_message_bytes if facts is not None else None
        max_bytes = self._kafka.max_batch_bytes if limit is None else min(limit, self._kafka.max_batch_bytes)
        return Lane(topic, partition, self._producers, self._replied, self._clock, max_bytes, self._kafka.linger_s)

    def _known(self, topic: str) -> tuple[Collection[int], Collection[int]]:
        producer = self._producers.current
        return ((), ()) if producer is None else producer.known_partitions(topic)

    # ---- messages ----------------------------------------------------------------------------------------------

    def check(self, message: Message) -> None:
        """Raise InvalidMessage for what the broker would refuse together with its neighbours in the batch."""
        topic = self._by_name.get(message.topic)
        if topic is None and message.topic not in self._checked_topics:
            check_topic(message.topic)
            if len(self._checked_topics) >= _CHECKED_TOPICS:
                self._checked_topics.clear()
            self._checked_topics.add(message.topic)
        if message.message_id is not None:
            headers = dict(message.headers or {})
            if headers.setdefault(MESSAGE_ID_HEADER, message.message_id) != message.message_id:
                raise InvalidMessage(
                    f"give the message id as message_id or as the header {MESSAGE_ID_HEADER}, not both"
                )
            message = Message(message.topic, message.payload, message.key, headers)
        check_message(message, self._kafka.max_request_bytes)
        if topic is not None and self._careful:
            refusal = topic.refusal(_Unacknowledged(0, *message[:2], message.extras, _NO_ROUTE, 0))
            if refusal is not None:
                raise InvalidMessage(refusal[1])

    def send(self, pending: Outgoing) -> None:
        """Put it into its lane; what came in one turn of the event loop is sent after it, in batches."""
        topic = self._by_name.get(pending.topic)
        if topic is None:  # it was deleted
            self._replied([_gone(pending.topic, (pending.token,))])
            return
        if pending.extras is None and not self._careful:
            queue = topic.queue  # topic.put(), inlined, since it is hot
            if not queue:
                topic.current.wake()
            queue[pending.token] = pending
            topic.left_bytes = left = topic.left_bytes - len(pending.payload)
            if left < 0:
                topic.switch()
            return
        refusal = topic.refusal(pending)
        if refusal is None:
            topic.put(pending)
        else:
            self._replied([Failure(ErrorClass.FATAL, *refusal, (pending.token,))])

    def withdraw(self, tokens: Sequence[int]) -> Collection[int]:
        """Take back what still waits in a lane."""
        wanted, taken = set(tokens), set[int]()
        for topic in self._by_name.values():
            for lane in topic.lanes.values():
                taken |= lane.withdraw(wanted)
        return taken

    def _replied(self, replies: Sequence[Reply]) -> None:
        if self._sink is not None:
            self._sink.replied(replies)

    # ---- without acks ------------------------------------------------------------------------------------------

    def send_unacknowledged(self, message: Message) -> bool:
        """Put it into a lane of a producer that asks for no acks; False where its topic is not known yet."""
        known = self._by_name.get(message.topic)
        if known is None:
            return False
        topic = self._careless_topics.get(message.topic)
        if topic is None:
            topic = self._careless_topics[message.topic] = self._open_careless(known)
        self._last_careless += 1
        lane = topic.put(
            _Unacknowledged(self._last_careless, *message[:2], message.extras, _NO_ROUTE, self._clock.monotonic_ns())
        )
        lane.counted_bytes += len(message.payload)
        return True

    def _open_careless(self, known: KafkaTopic) -> KafkaTopic:
        """Lanes for a topic's sends without acks; their producer is started by the first of them."""
        if self._careless is None:
            self._careless = Producers(
                lambda: self._make(self._unacknowledged_acks),
                self._config,
                oldest_s=lambda: 0.0,
                on_ready=lambda: None,
                on_lost=lambda reason: None,
                on_replaced=lambda reason: None,
            )
            self._careless.begin()
        outlet = self._careless

        def lane(topic: str, partition: int) -> Lane:
            return Lane(topic, partition, outlet, _nobody, self._clock, self._kafka.max_batch_bytes, 0.0)

        return KafkaTopic(known.name, known.lanes, lane, self._known, self._random, self._kafka.max_batch_bytes)

    @property
    def backlog_bytes(self) -> int:
        """Payload bytes that wait in lanes for a producer without acks."""
        return sum(lane.counted_bytes for topic in self._careless_topics.values() for lane in topic.lanes.values())

    async def flush(self) -> None:
        """Wait until all sends without acks have been written. Bounded only by cancellation."""
        for topic in self._careless_topics.values():
            for lane in topic.lanes.values():
                await lane.emptied()

    async def ping(self) -> float:
        """Of whichever broker answers, over a connection beside that of the batches: it waits for none of them."""
        while True:
            took_s = await self._pings.answer()
            if took_s is not None:
                return took_s
            await asyncio.sleep(self._config.reconnect_delay_s)

    @property
    def broker(self) -> str:
        """No Kafka broker tells its version, only which requests it knows."""
        return self._producers.broker

    async def close(self, timeout_s: float) -> None:
        """End everything within ``timeout_s``, also where no broker answers; the sink hears nothing more."""
        self._sink = None
        self._pings.cancel()
        for topic in (*self._by_name.values(), *self._careless_topics.values()):
            for lane in topic.lanes.values():
                await lane.close()
        await asyncio.gather(
            self._topics.close(timeout_s),
            *(producers.close(timeout_s) for producers in (self._producers, self._careless) if producers is not None),
        )


def _gone(topic: str, tokens: Sequence[int]) -> Failure:
    """As on NATS where no stream takes a subject: the ledger has the topic looked up again, and perhaps made."""
    text = f"topic {topic!r} is gone"
    return Failure(ErrorClass.TRANSIENT, ErrorKind.NO_RESPONDERS, text, tokens, min_delay_s=_GONE_DELAY_S)


def _in_doubt(topic: str, tokens: Sequence[int]) -> Failure:
    return Failure(ErrorClass.AMBIGUOUS, ErrorKind.NO_STREAM, f"topic {topic!r} is gone; no answer came", tokens)


def _nobody(replies: Sequence[Reply]) -> None:
    """Nobody waits for these."""


_NO_ROUTE = Route(TopicConfig("none"), None, False, 0.0)
