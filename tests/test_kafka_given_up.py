"""A caller who gives up, or is let down: however a connect or a bus ends, no task and no socket stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import eventbus
from eventbus import AckOutcome, ConnectFailed, ConnectionConfig, ConnectionState, RetryPolicy, TopicConfig
from eventbus.config import KafkaAuth, KafkaConfig, TlsConfig
from eventbus.embedded.kafka import EmbeddedKafka
from tests.kafka_audit import outcomes, publish_each
from tests.kafka_cluster import skip_without_kafka
from tests.kafka_node import KafkaNode
from tests.kafka_security import KafkaSecurity
from tests.kafka_tools import new_topic
from tests.nats_tools import eventually, tasks_besides

pytestmark = pytest.mark.integration

ACKED, REJECTED, UNKNOWN = AckOutcome.ACKED, AckOutcome.REJECTED, AckOutcome.UNKNOWN
QUICK = RetryPolicy(max_attempts=2, base_delay_s=0.01, max_delay_s=0.02)
SOON = ConnectionConfig(connect_timeout_s=2.0, reconnect_delay_s=0.05, ping_interval_s=0.2)


def open_sockets() -> int:
    return sum(1 for name in os.listdir("/proc/self/fd") if _is_socket(name))


def _is_socket(descriptor: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    except FileNotFoundError:  # the listing's own
        return False


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Whatever happens inside leaves no task and no socket."""
    before, sockets = asyncio.all_tasks(), open_sockets()
    yield
    assert tasks_besides(before) == []
    await eventually(lambda: open_sockets() <= sockets, "its sockets are closed", 2.0)


@pytest.fixture(scope="module")
def mock() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(3) as running:
        running.create_topic("cut")
        yield running


@pytest.fixture
def own() -> Iterator[EmbeddedKafka]:
    """Three brokers to break."""
    with EmbeddedKafka(3) as running:
        running.create_topic("wide", 12)
        running.create_topic("cut")
        yield running


@pytest.mark.parametrize("turns", range(0, 90))
async def test_cancelled_connect_leaves_nothing(mock: EmbeddedKafka, turns: int) -> None:
    """Wherever the cancellation strikes, no task and no socket stays behind."""
    async with nothing_left():
        connecting = asyncio.ensure_future(_connect(mock.url, "cut"))
        for _ in range(turns):
            await asyncio.sleep(0)
        if connecting.cancel():
            with pytest.raises(asyncio.CancelledError):
                await connecting
        else:  # so few turns were enough, on a busy machine: then closing it must leave nothing
            await connecting.result().close()


@pytest.mark.parametrize("milliseconds", range(1, 30, 2))
async def test_cancelled_connect_later(mock: EmbeddedKafka, milliseconds: int) -> None:
    """The same by the clock: turns pass quickly while a broker is asked."""
    async with nothing_left():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(milliseconds / 1000):
                bus = await _connect(mock.url, "cut")
            await bus.close()


async def _connect(url: str, *topics: str, **settings: ConnectionConfig) -> eventbus.EventBus:
    return await eventbus.connect(url, topics=[TopicConfig(topic) for topic in topics], **settings)  # type: ignore[arg-type]


async def test_nobody_listens() -> None:
    """ConnectFailed names each server and why."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{taken.getsockname()[1]}"
        async with nothing_left():
            with pytest.raises(ConnectFailed, match=f"{server}: connection refused"):
                await _connect(f"kafka://{server}", connection=SOON)


async def test_broker_that_never_answers() -> None:
    """ConnectFailed within the connect timeout; also where the connection is taken and nothing comes."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with nothing_left():
            began = time.monotonic()
            with pytest.raises(ConnectFailed, match="2 s"):
                await _connect(f"kafka://127.0.0.1:{silent.getsockname()[1]}", connection=SOON)
            assert time.monotonic() - began < 3.5


async def test_something_else_listens() -> None:
    """A server that speaks another protocol is told of as an error, in time."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"\0\0\0\x10" + bytes(16) + b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with nothing_left():
            with pytest.raises(ConnectFailed, match=str(port)):
                await _connect(f"kafka://127.0.0.1:{port}", connection=SOON)


async def test_first_server_does_not_answer(mock: EmbeddedKafka) -> None:
    """One server of the URL that stands still does not keep the others from being asked."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        servers = f"127.0.0.1:{silent.getsockname()[1]},{mock.bootstrap_servers}"
        async with nothing_left(), eventbus.connect(f"kafka://{servers}", connection=SOON) as bus:
            assert (await (await bus.publish("cut"))).outcome is ACKED


@pytest.mark.parametrize("slow", [1, 2, 3])
async def test_one_broker_of_three_does_not_answer(own: EmbeddedKafka, slow: int) -> None:
    """Whichever it is, the others give all that a connect needs."""
    await asyncio.to_thread(own.set_round_trip, slow, 20.0)
    async with nothing_left():
        began = time.monotonic()
        bus = await eventbus.connect(own.url)
        assert time.monotonic() - began < 4.5
        await bus.close(timeout_s=0)


@pytest.mark.parametrize("way", ["frozen", "down", "killed"])
async def test_close_of_a_bus_whose_brokers_are_dead(own: EmbeddedKafka, way: str) -> None:
    """Every publish ends in time, close(3) takes less than 4 s, and nothing is left."""
    async with nothing_left():
        bus = await eventbus.connect(
            own.url, topics=[TopicConfig("wide"), TopicConfig("cut")], connection=SOON, retry=QUICK, ack_timeout_s=0.4
        )
        payloads = [b"%d" % n for n in range(200)]
        settled = [await bus.publish("wide", payload, key=payload.decode()) for payload in payloads]
        assert {(await receipt).outcome for receipt in settled} == {ACKED}
        await asyncio.to_thread({"frozen": own.pause, "down": own.broker_down, "killed": own.kill}[way])
        began = time.monotonic()
        receipts = [await bus.publish("wide", payload, key=payload.decode()) for payload in payloads]
        reports = [await receipt for receipt in receipts]
        assert time.monotonic() - began < 2 * 0.4 + 0.02 + 1.0
        assert {report.outcome for report in reports} <= {REJECTED, UNKNOWN}
        pending = await publish_each(bus, "wide", payloads, ack_timeout_s=60.0)
        began = time.monotonic()
        report = await bus.close(timeout_s=3)
        assert time.monotonic() - began < 4
        assert report.accepted == report.acked + report.rejected + report.unknown
        assert set(await outcomes(pending)) <= {REJECTED, UNKNOWN}
    if way == "frozen":
        await asyncio.to_thread(own.resume)


async def test_close_after_the_client_gave_up_its_connections(own: EmbeddedKafka) -> None:
    """aiokafka closes a connection after 5 s without an answer and tries a new one, while the old one still holds what
    the broker does not read: both are gone with the bus."""
    limits = KafkaConfig(max_batch_bytes=8_000_000, max_request_bytes=8_000_000)
    large = ConnectionConfig(kafka=limits, ping_interval_s=0.2)
    async with nothing_left():
        bus = await eventbus.connect(own.url, topics=[TopicConfig("wide")], connection=large, ack_timeout_s=60.0)
        await asyncio.to_thread(own.pause)
        for number in range(6):
            await bus.publish("wide", bytes(7_900_000), key=str(number))
        lost = ConnectionState.RECONNECTING
        await eventually(lambda: bus.snapshot().connection is lost, "a question to the brokers has timed out too", 12.0)
        began = time.monotonic()
        assert (await bus.close(timeout_s=1)).timed_out
        assert time.monotonic() - began < 1.5
    await asyncio.to_thread(own.resume)


async def test_close_without_waiting(own: EmbeddedKafka) -> None:
    """close(0) with messages on their way to brokers that stand still leaves nothing either."""
    async with nothing_left():
        bus = await _connect(own.url, "wide")
        await asyncio.to_thread(own.pause)
        for n in range(100):
            await bus.publish("wide", bytes(100_000), key=str(n))
        began = time.monotonic()
        report = await bus.close(timeout_s=0)
        assert time.monotonic() - began < 1
        assert report.left_unknown + report.left_unsent == 100
    await asyncio.to_thread(own.resume)


# ---- a broker that does not let us in ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KafkaNode, KafkaSecurity]]:
    skip_without_kafka()
    directory = tmp_path_factory.mktemp("secure")
    security = KafkaSecurity.make(directory / "certificates")
    with KafkaNode(directory / "node", security=security) as node:
        yield node, security


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_wrong_password(secure: tuple[KafkaNode, KafkaSecurity], mechanism: str) -> None:
    """ConnectFailed says that user or password was refused, and tells neither of the two passwords."""
    node, _ = secure
    auth = KafkaAuth("alice", "mistaken", mechanism)  # type: ignore[arg-type]
    async with nothing_left():
        with pytest.raises(ConnectFailed, match="user or password was refused") as failed:
            await _connect(f"kafka://{node.address('SASL_PLAINTEXT')}", connection=ConnectionConfig(auth=auth))
    assert "mistaken" not in str(failed.value)
    assert "alice-secret" not in str(failed.value)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("listener", ["SASL_PLAINTEXT", "SASL_SSL"])
async def test_right_password(secure: tuple[KafkaNode, KafkaSecurity], mechanism: str, listener: str) -> None:
    """By each mechanism, with and without TLS: connected and acked."""
    node, security = secure
    tls = TlsConfig(ca_file=security.ca) if listener == "SASL_SSL" else None
    connection = ConnectionConfig(tls=tls, auth=KafkaAuth(mechanism=mechanism))  # type: ignore[arg-type]
    url = f"kafka{'+ssl' if tls else ''}://alice:alice-secret@{node.address(listener)}"
    async with nothing_left(), eventbus.connect(url, connection=connection) as bus:
        assert (await (await bus.publish(new_topic()))).outcome is ACKED


async def test_client_certificate(secure: tuple[KafkaNode, KafkaSecurity]) -> None:
    """Mutual TLS: without our certificate the broker hangs up, with it all is well."""
    node, security = secure
    url = f"kafka+ssl://{node.address('SSL')}"
    async with nothing_left():
        with pytest.raises(ConnectFailed):
            await _connect(url, connection=ConnectionConfig(tls=TlsConfig(ca_file=security.ca)))
    tls = TlsConfig(ca_file=security.ca, cert_file=security.client)
    async with nothing_left(), eventbus.connect(url, connection=ConnectionConfig(tls=tls)) as bus:
        assert (await (await bus.publish(new_topic()))).outcome is ACKED


async def test_wrong_authority(secure: tuple[KafkaNode, KafkaSecurity]) -> None:
    """A certificate that the given authority did not sign is refused, and the error says that."""
    node, security = secure
    tls = TlsConfig(ca_file=security.other_ca)
    async with nothing_left():
        with pytest.raises(ConnectFailed, match=r"(?i)certificate"):
            await _connect(
                f"kafka+ssl://alice:alice-secret@{node.address('SASL_SSL')}", connection=ConnectionConfig(tls=tls)
            )


async def test_tls_to_a_plain_port(secure: tuple[KafkaNode, KafkaSecurity]) -> None:
    """TLS that is asked for and not offered is an error, in time."""
    node, security = secure
    connection = ConnectionConfig(tls=TlsConfig(ca_file=security.ca), connect_timeout_s=2.0)
    async with nothing_left():
        began = time.monotonic()
        with pytest.raises(ConnectFailed):
            await _connect(f"kafka+ssl://{node.address()}", connection=connection)
        assert time.monotonic() - began < 3.5


async def test_plain_to_a_tls_port(secure: tuple[KafkaNode, KafkaSecurity]) -> None:
    """The other way round too."""
    node, _ = secure
    async with nothing_left():
        with pytest.raises(ConnectFailed):
            await _connect(f"kafka://{node.address('SSL')}", connection=SOON)


async def test_authority_that_is_not_there(tmp_path: Path) -> None:
    """A CA file that is not there is told before anything is dialled."""
    with pytest.raises(eventbus.ConfigError, match="ca_file"):
        await _connect(
            "kafka+ssl://127.0.0.1:1", connection=ConnectionConfig(tls=TlsConfig(ca_file=tmp_path / "none.pem"))
        )
