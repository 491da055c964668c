"""OwnBroker: a broker that the dashboard brings along, started when first needed and ended with the dashboard.

A run reaches it directly, or by choice through a proxy that can make the network bad. Not always: at 20,000 messages a
second all are still acked, but the proxy takes 7 to 13 % of a core and adds 0.2 ms or more to the median ack latency of
0.8 ms (two shared cores, busy), and a run that wants no bad network should measure the broker and nothing else.

Methods may be called from any thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from urllib.parse import urlsplit

from dashboard.process import LoadRefused
from eventbus import EventBusError
from eventbus.embedded.nats import EmbeddedNats
from eventbus.faults import Network, open_config

NATS_URL = "embedded+nats://"
KAFKA_URL = "embedded+kafka://"
SYSTEMS = {NATS_URL: "nats", KAFKA_URL: "kafka"}
"""What runs at a URL that asks for an embedded broker, as plans and runs have it."""
NAMES = {"nats": "embedded NATS", "kafka": "embedded Kafka mock"}
"""What people call it, by system. Kafka's is never called a broker: it is none."""
_OTHERS = {NATS_URL: "nats://127.0.0.1:4222", KAFKA_URL: "kafka://127.0.0.1:9092"}


class BrokerState(StrEnum):
    """What an embedded broker is doing."""

    OFF = "off"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """An embedded broker: ``name`` for people, ``url`` where it listens, ``error`` why it FAILED."""

    state: BrokerState
    name: str
    url: str | None = None
    error: str | None = None


class Broker(Protocol):
    """The part of EmbeddedNats and EmbeddedKafka that is used here."""

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def is_running(self) -> bool: ...


def embedded_nats() -> EmbeddedNats:
    """A nats-server whose faults can all be made. Not started."""
    return EmbeddedNats(extra_config=open_config())


class OwnBroker:
    """asked: the URL that asks for it, one of SYSTEMS. make: called when it is first needed, then never again."""

    def __init__(self, asked: str, make: Callable[[], Broker]) -> None:
        self._asked, self._make = asked, make
        self._name = NAMES[SYSTEMS[asked]]
        self._turn = threading.Lock()
        self._broker: Broker | None = None
        self._network: Network | None = None
        self._closed = False
        self.status = BrokerStatus(BrokerState.OFF, self._name)
        """How it is; reading never waits."""

    def begin(self) -> None:
        """Begin to start it, in the background. ``status`` tells how it went."""

        def start() -> None:
            with contextlib.suppress(LoadRefused):  # kept in the status, where pages find it
                self.url()

        if self.status.state is BrokerState.OFF:
            threading.Thread(target=start, name="broker-start", daemon=True).start()

    @property
    def broker(self) -> Broker | None:
        """The broker itself, to break it; None before it was first needed. Never waits."""
        return self._broker

    @property
    def network(self) -> Network | None:
        """The way to it through a proxy; None before it was first asked for. Never waits."""
        return self._network

    def url(self, *, through_network: bool = False) -> str:
        """Where it listens; starts it if it does not run. Raises LoadRefused.

        through_network: where its proxy listens, for a run whose network shall be broken. Kafka's mock has none, since
        its brokers tell clients where they are themselves.
        """
        with self._turn:
            if self._closed:
                raise LoadRefused("The dashboard is shutting down.")
            try:
                if self._broker is None or not self._broker.is_running():
                    self._tell(BrokerState.STARTING)
                    self._end_network()  # it leads to a port that is no more
                    if self._broker is not None:
                        self._broker.stop()  # what is left of one that died
                    else:
                        self._broker = self._make()
                    self._broker.start()
                url = self._broker.url
                way = self._way_to(url) if through_network and SYSTEMS[self._asked] == "nats" else url
            except (EventBusError, OSError) as error:
                self._tell(BrokerState.FAILED, error=str(error))
                raise LoadRefused(
                    f"The {self._name} did not start: {error}. Give the URL of a running broker instead, "
                    f"such as {_OTHERS[self._asked]}."
                ) from error
            self._tell(BrokerState.READY, url)
            return way

    def close(self) -> None:
        """End it, for good. Idempotent; bounded as the broker's own stop is."""
        with self._turn:
            self._closed = True
            broker, self._broker = self._broker, None
            self._tell(BrokerState.OFF)
            self._end_network()
            if broker is not None:
                broker.stop()

    def _way_to(self, url: str) -> str:
        if self._network is None:
            network = Network(urlsplit(url).port or 0)
            network.start()
            self._network = network
        return f"nats://127.0.0.1:{self._network.port}"

    def _end_network(self) -> None:
        network, self._network = self._network, None
        if network is not None:
            network.stop()

    def _tell(self, state: BrokerState, url: str | None = None, error: str | None = None) -> None:
        self.status = BrokerStatus(state, self._name, url, error)
