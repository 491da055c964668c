"""KafkaErrors: Kafka answers what is produced with errors."""

from __future__ import annotations

from eventbus.faults.fault import Fault, InjectsErrors

PRODUCE = 0
"""Kafka's number (ApiKey) of the request that carries messages."""
ANSWERS = 20_000
"""How many requests are answered so, at most: more than a publisher makes in a minute, and 80 kB to tell the mock."""


class KafkaErrors(Fault):
    """Every produce request is answered with ``code`` instead of being carried out."""

    code: int

    def __init__(self, mock: InjectsErrors) -> None:
        self._mock = mock
        self._applied = False

    def apply(self) -> None:
        """Begin to answer so."""
        self._applied = True
        self._mock.push_request_errors(PRODUCE, [self.code] * ANSWERS)

    def undo(self) -> None:
        """Answer well again."""
        if self._applied:
            self._mock.clear_request_errors(PRODUCE)
            self._applied = False


class KafkaNoReplicas(KafkaErrors):
    """NOT_ENOUGH_REPLICAS: as from a cluster that lost too many brokers to promise anything."""

    name = "kafka_replicas"
    title = "Too few replicas"
    code = 19
    breaks = "Produce requests are answered with NOT_ENOUGH_REPLICAS (19); nothing is stored."
    expect = (
        "The Kafka client repeats its requests by itself; messages that take longer than their ack timeout become "
        "unknown, and most of them are acked late once the fault is over."
    )


class KafkaDenied(KafkaErrors):
    """TOPIC_AUTHORIZATION_FAILED."""

    name = "kafka_denied"
    title = "Deny the topic"
    code = 29
    breaks = "Produce requests are answered with TOPIC_AUTHORIZATION_FAILED (29)."
    expect = "Messages are rejected at once (permission), and not retried."


class KafkaTooLarge(KafkaErrors):
    """MESSAGE_TOO_LARGE."""

    name = "kafka_too_large"
    title = "Oversize messages"
    code = 10
    breaks = "Produce requests are answered with MESSAGE_TOO_LARGE (10)."
    expect = "Each batch is halved until every message is alone, and then it is rejected (too large)."
