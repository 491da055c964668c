"""What can be broken of an embedded broker, in the order in which people are shown it."""

from __future__ import annotations

from collections.abc import Sequence

from eventbus.faults.blackhole import BlackholeAcks
from eventbus.faults.delay import Delay
from eventbus.faults.delete_stream import DeleteStream
from eventbus.faults.deny_subject import DenySubject
from eventbus.faults.fault import Fault, MockKafka, NatsServer
from eventbus.faults.fill_stream import FillStream
from eventbus.faults.freeze import Freeze
from eventbus.faults.kafka_broker_down import KafkaBrokerDown
from eventbus.faults.kafka_errors import KafkaDenied, KafkaNoReplicas, KafkaTooLarge
from eventbus.faults.kafka_round_trip import KafkaRoundTrip
from eventbus.faults.kill import Kill
from eventbus.faults.limit_size import LimitSize
from eventbus.faults.network import Network
from eventbus.faults.reset import ResetConnections
from eventbus.faults.throttle import Throttle


def nats_faults(server: NatsServer, topics: Sequence[str], *, limit_bytes: int = 64) -> list[Fault]:
    """Those of the server and its streams. topics: that are published to. limit_bytes: for "oversize messages"."""
    return [
        Freeze(server),
        Kill(server),
        DeleteStream(server.url, topics),
        FillStream(server.url, topics),
        LimitSize(server.url, topics, limit_bytes=limit_bytes),
        DenySubject(server, topics),
    ]


def network_faults(network: Network) -> list[Fault]:
    """Those of the way to the server, for whoever connects through ``network``."""
    return [Delay(network), Throttle(network), BlackholeAcks(network), ResetConnections(network)]


def kafka_faults(mock: MockKafka) -> list[Fault]:
    """Those of the mock of Kafka."""
    return [
        Freeze(mock),
        Kill(mock, keeps_store=False),
        KafkaBrokerDown(mock),
        KafkaRoundTrip(mock),
        KafkaNoReplicas(mock),
        KafkaDenied(mock),
        KafkaTooLarge(mock),
    ]
