"""own_broker: the embedded broker that a URL asks for, for a program that shares it among several processes."""

from __future__ import annotations

from importlib.util import find_spec

from eventbus.embedded.nats import EmbeddedNats
from eventbus.errors import ConfigError
from eventbus.load.fleet import Broker


def own_broker(url: str) -> Broker | None:
    """Not started yet; None where ``url`` names a broker that runs. Raises ConfigError where a package is missing."""
    if url.startswith("embedded+nats:"):
        return EmbeddedNats()
    if url.startswith("embedded+kafka:"):
        if find_spec("confluent_kafka") is None:
            raise ConfigError("an embedded Kafka needs confluent_kafka: pip install 'ackscope[kafka]'")
        from eventbus.embedded.kafka import EmbeddedKafka

        return EmbeddedKafka()
    return None
