"""connect(url, ...): builds a bus from its parts. The only file that names concrete adapters."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from eventbus.ack.handler import AckHandler
from eventbus.ack.retry import RetryPolicy
from eventbus.bus import EventBus
from eventbus.clock import SystemClock
from eventbus.config import AckStrategy, ConnectionConfig, TelemetryConfig, WindowConfig
from eventbus.context import read_context
from eventbus.embedded.nats import EmbeddedNats
from eventbus.errors import ConfigError
from eventbus.inspection import Inspection
from eventbus.observe.callbacks import Callback, CallbackRunner
from eventbus.observe.counters import BusCounters
from eventbus.observe.fanout import Fanout
from eventbus.observe.witnesses import Witnesses
from eventbus.ports import Observer, Publisher, Witness
from eventbus.publishers.memory import MemoryPublisher
from eventbus.publishers.nats import inspector
from eventbus.publishers.nats.publisher import NatsPublisher
from eventbus.routing import Routing
from eventbus.snapshot import BusSnapshot
from eventbus.telemetry import names
from eventbus.telemetry.bus_log import BusLog, no_sample
from eventbus.topic import TopicConfig
from eventbus.url import BrokerUrl

if TYPE_CHECKING:
    from eventbus.embedded.kafka import EmbeddedKafka
    from eventbus.telemetry.witness import BusTelemetry

_log = logging.getLogger("eventbus")

_ACK_TIMEOUT_S = 5.0
_FRAME_BYTES = 256
"""Of a frame beyond payload and headers, generously: control line, subject, inbox and message id."""


def connect(
    url: str,
    *,
    topics: Sequence[TopicConfig] = (),
    window: WindowConfig | None = None,
    retry: RetryPolicy | None = None,
    ack_timeout_s: float = _ACK_TIMEOUT_S,
    strategy: AckStrategy = AckStrategy.UNIFIED,
    connection: ConnectionConfig | None = None,
    on_delivery: Callback | None = None,
    on_error: Callback | None = None,
    observers: Sequence[Observer] = (),
    telemetry: TelemetryConfig | None = None,
    witness: Witness | None = None,
) -> Connecting:
    """Connect to a broker: ``async with connect(url) as bus`` or ``bus = await connect(url)``.

    url: ``nats://``, ``tls://``, ``ws://``, ``wss://`` (several servers by comma; credentials as ``USER:PASSWORD@`` or
        ``TOKEN@``), ``nats+context://NAME`` for a context of the ``nats`` tool, ``embedded+nats://`` for a server of
        its own that ends with the bus, ``memory://`` for none.
    connection: how to connect: credentials (NatsAuth), certificates (TlsConfig), timeouts.
    topics: prepared before this returns. Other topics are prepared when first published to, with the defaults.
    ack_timeout_s: seconds to wait for the ack of one attempt. Default 5.
    on_delivery: called with every DeliveryReport; on_error: with those that are not ACKED. Sync or async, off the ack
        path, may publish; what they raise is counted and logged.
    observers: see ports.Observer.
    telemetry: what OpenTelemetry is told; by default spans and metrics where the application has set its SDK up.
    witness: a part of AckScope, such as the load driver, that sees every outcome without a report being made for it;
        applications take an observer.

    Waits for the connection, at most ``connection.connect_timeout_s`` (default 5 s), and for the topics.
    Cancelling leaves nothing behind. Raises ConfigError, ConnectFailed, TopicError.
    """
    if not 0 < ack_timeout_s < 1e6:
        raise ConfigError(f"ack_timeout_s is {ack_timeout_s}; use more than 0 and less than 1e6 seconds")
    broker, connection = _understand(url, connection)
    return Connecting(
        broker,
        topics=tuple(topics),
        window=window or WindowConfig(),
        retry=retry or RetryPolicy(),
        ack_timeout_s=ack_timeout_s,
        strategy=AckStrategy(strategy),
        connection=connection,
        on_delivery=on_delivery,
        on_error=on_error,
        observers=tuple(observers),
        telemetry=telemetry or TelemetryConfig(),
        witness=witness,
    )


class Connecting:
    """A connection about to be made: await it, or enter it."""

    def __init__(self, url: BrokerUrl, **settings: Any) -> None:
        self._url = url
        self._settings = settings
        self._bus: EventBus | None = None

    def __await__(self) -> Generator[Any, None, EventBus]:
        return _open(self._url, **self._settings).__await__()

    async def __aenter__(self) -> EventBus:
        self._bus = await self
        return self._bus

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._bus is not None
        await self._bus.close()


async def _open(
    url: BrokerUrl,
    *,
    topics: Sequence[TopicConfig],
    window: WindowConfig,
    retry: RetryPolicy,
    ack_timeout_s: float,
    strategy: AckStrategy,
    connection: ConnectionConfig,
    on_delivery: Callback | None,
    on_error: Callback | None,
    observers: Sequence[Observer],
    telemetry: TelemetryConfig,
    witness: Witness | None,
) -> EventBus:
    def longest_retry_s(topic: TopicConfig) -> float | None:
        return _longest_retry_s(retry, ack_timeout_s if topic.ack_timeout_s is None else topic.ack_timeout_s)

    # Every message that may be pending fits in once: more than that is repeats, and what was given up meanwhile.
    max_backlog_bytes = window.max_pending_bytes + _FRAME_BYTES * window.max_pending
    clock = SystemClock()
    counters = BusCounters()
    callbacks = None
    if on_delivery is not None or on_error is not None:
        callbacks = CallbackRunner(on_delivery, on_error, window.max_pending, counters)
        observers = [callbacks, *observers]
    if strategy is AckStrategy.IGNORE:
        _log.warning("acks are ignored: sends are counted as unacknowledged, and lost messages are not noticed")
    server: EmbeddedNats | EmbeddedKafka | None = None
    publisher: Publisher
    bus_id = secrets.token_hex(6)

    async def free_server() -> None:
        if server is not None:
            await asyncio.to_thread(server.stop)

    async def closed() -> None:
        log.close()
        await free_server()

    try:
        server = _embedded(url)
        if server is not None:
            await asyncio.to_thread(server.start)
        servers = url.servers if server is None else (server.url,)
        if url.scheme == "memory":
            publisher = MemoryPublisher(clock)
        elif url.is_kafka:
            publisher = _kafka_publisher(servers, connection, clock, mock=server is not None)
        else:
            publisher = NatsPublisher(servers, connection, clock, longest_retry_s, max_backlog_bytes)
        bus: list[EventBus] = []
        attributes = _attributes(publisher, servers)
        told = _telemetry(telemetry, attributes, clock, lambda: bus[0].snapshot())
        log = BusLog(
            {names.BUS_ID: bus_id, **attributes},
            clock,
            asyncio.get_running_loop().call_later,
            no_sample if told is None else told.tracing.samples.take,
        )
        fanout = Fanout([log, *observers], counters)
        handler = AckHandler(
            publisher,
            window=window,
            retry=retry,
            tally=counters,
            observer=fanout,
            clock=clock,
            random=random.Random(),
            id_prefix=f"{bus_id}-",
            witness=Witnesses.of(told, witness),
        )
        routing = Routing(publisher, handler, topics, strategy, clock, ack_timeout_s)
        await publisher.open(handler)
        try:
            await routing.prepare_configured()
        except BaseException:
            await publisher.close(1.0)
            raise
    except BaseException:  # cancelled or refused: whatever was started ends
        await asyncio.shield(free_server())
        raise
    bus.append(
        EventBus(
            url.redacted if server is None else server.url,
            bus_id,
            publisher=publisher,
            handler=handler,
            routing=routing,
            counters=counters,
            callbacks=callbacks,
            observer=fanout,
            strategy=strategy,
            clock=clock,
            stall_timeout_s=window.stall_timeout_s,
            on_closed=closed,
            telemetry=told,
        )
    )
    if told is not None:
        told.begin()
    return bus[0]


def _attributes(publisher: Publisher, servers: Sequence[str]) -> dict[str, str | int]:
    """What all telemetry of a bus and all its log records say of the broker."""
    first = urlsplit(servers[0]) if servers else None
    attributes: dict[str, str | int] = {names.MESSAGING_SYSTEM: publisher.capabilities.system}
    if first is not None and first.hostname:
        attributes[names.SERVER_ADDRESS] = first.hostname
        if first.port:
            attributes[names.SERVER_PORT] = first.port
    return attributes


def _telemetry(
    config: TelemetryConfig,
    attributes: Mapping[str, str | int],
    clock: SystemClock,
    snapshot: Callable[[], BusSnapshot],
) -> BusTelemetry | None:
    """What tells OpenTelemetry of a bus, where that is wanted. Raises ConfigError where it is and cannot be."""
    if config.enabled is False:
        return None
    if find_spec("opentelemetry") is None:
        if config.enabled:
            raise ConfigError("telemetry is enabled and OpenTelemetry is missing: pip install 'ackscope[otel]'")
        return None
    from eventbus.telemetry.witness import BusTelemetry, sdk_is_set_up

    if config.enabled is None and not sdk_is_set_up():
        return None
    return BusTelemetry(config, attributes, clock, snapshot, asyncio.get_running_loop().call_later)


def _embedded(url: BrokerUrl) -> EmbeddedNats | EmbeddedKafka | None:
    """The broker that ``url`` asks to be started, not started yet; None where it names one that runs."""
    if url.scheme == "embedded+nats":
        return EmbeddedNats()
    if url.scheme == "embedded+kafka":
        _need("confluent_kafka")
        from eventbus.embedded.kafka import EmbeddedKafka

        return EmbeddedKafka()
    return None


def _kafka_publisher(
    servers: tuple[str, ...], connection: ConnectionConfig, clock: SystemClock, *, mock: bool
) -> Publisher:
    """mock: librdkafka's, which answers also where no ack is asked for, and so must be asked for one."""
    _need("aiokafka")
    from eventbus.publishers.kafka.publisher import KafkaPublisher

    return KafkaPublisher(servers, connection, clock, random.Random(), unacknowledged_acks=1 if mock else 0)


def _need(package: str) -> None:
    if find_spec(package) is None:
        raise ConfigError(f"Kafka needs {package}: pip install 'ackscope[kafka]'")


async def inspect(url: str, topic: str, *, connection: ConnectionConfig | None = None) -> Inspection:
    """Look at a broker and at a topic there (on NATS its stream), as a bus with default settings would find them.

    Changes nothing at the server. Waits for the connection, at most ``connection.connect_timeout_s`` (default 5 s),
    and then for some requests of at most 2 s each. Raises ConfigError, ConnectFailed.
    """
    broker, connection = _understand(url, connection)
    if not broker.servers:
        raise ConfigError(
            f"broker URL {broker.redacted}: there is no server to look at; use nats://HOST:PORT or kafka://HOST:PORT"
        )
    if broker.is_kafka:
        _need("aiokafka")
        from eventbus.publishers.kafka import inspector as kafka_inspector

        return await kafka_inspector.inspect(broker.servers, connection, topic, broker.redacted, SystemClock())
    TopicConfig(topic)  # refuses a malformed name before anything is opened
    publisher = NatsPublisher(
        broker.servers,
        connection,
        SystemClock(),
        lambda _: _longest_retry_s(RetryPolicy(), _ACK_TIMEOUT_S),
    )
    await publisher.open(inspector.Unheard())
    try:
        return await publisher.inspect(topic, broker.redacted)
    finally:
        await publisher.close(1.0)


def _understand(url: str, connection: ConnectionConfig | None) -> tuple[BrokerUrl, ConnectionConfig]:
    """The broker that a URL means, a context looked up. Raises ConfigError."""
    broker, connection = BrokerUrl.parse(url), connection or ConnectionConfig()
    if broker.scheme == "nats+context":
        return read_context(broker.redacted.partition("://")[2], connection)
    return broker, connection


def _longest_retry_s(retry: RetryPolicy, ack_timeout_s: float) -> float | None:
    """How long after its first attempt a message may be sent again; None where nothing is repeated."""
    return None if retry.max_attempts == 1 else retry.lifetime_ns(int(ack_timeout_s * 1e9)) / 1e9
