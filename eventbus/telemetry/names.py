"""Every span, metric and attribute name that AckScope uses, as data, on one page.

Names that begin with ``messaging``, ``error`` or ``server`` are those of the OpenTelemetry semantic conventions (a test
compares them with the package); those that begin with ``eventbus`` are ours. ``docs/telemetry.md`` is made from here
by ``python -m docs.list_telemetry``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

SCOPE = "eventbus"
"""Name of the tracer and of the meter; Prometheus shows it as ``otel_scope_name``."""
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
"""The version of the conventions that the names are of."""

# Attributes of the conventions.
MESSAGING_SYSTEM = "messaging.system"
MESSAGING_OPERATION_NAME = "messaging.operation.name"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"
MESSAGING_DESTINATION_NAME = "messaging.destination.name"
MESSAGING_DESTINATION_PARTITION_ID = "messaging.destination.partition.id"
MESSAGING_MESSAGE_ID = "messaging.message.id"
MESSAGING_BATCH_MESSAGE_COUNT = "messaging.batch.message_count"
MESSAGING_KAFKA_OFFSET = "messaging.kafka.offset"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

# Attributes of ours: no convention for NATS or for a producer's acks exists.
ACK_OUTCOME = "eventbus.ack.outcome"
ACK_ATTEMPTS = "eventbus.ack.attempts"
ACK_LATE = "eventbus.ack.late"
NATS_STREAM = "eventbus.nats.stream"
NATS_SEQUENCE = "eventbus.nats.sequence"
LE = "le"
BUS_ID = "eventbus.bus.id"
EVENT_KIND = "eventbus.event.kind"
EVENT_COUNT = "eventbus.event.count"
EXPORT_SIGNAL = "eventbus.telemetry.signal"
EXPORT_EXPORTER = "eventbus.telemetry.exporter"
EXPORT_RESULT = "eventbus.telemetry.result"

# Fields of a log record that name its trace, as OpenTelemetry has them for logs that do not travel by OTLP. There
# they become the record's own trace id, span id and flags.
LOG_TRACE_ID = "trace_id"
LOG_SPAN_ID = "span_id"
LOG_TRACE_FLAGS = "trace_flags"

OPERATION_TYPE = "send"
"""Value of messaging.operation.type: handing a message to a broker, in the words of the conventions."""

OPERATION_NAMES: Mapping[str, str] = {"nats": "publish", "kafka": "send", "memory": "publish"}
"""messaging.system -> messaging.operation.name, in the words of the system's own clients."""

OUTCOMES: Mapping[str, str] = {
    "acked": "Stored, says the broker.",
    "duplicate": "Stored before: the broker had this message id already. Also an ack, and no failure.",
    "rejected": "Certainly not stored.",
    "unknown": "Sent, and no definite answer came: it may be stored.",
    "unacknowledged": "Sent without asking for an ack: nothing can be said. On spans only.",
}
"""Value of eventbus.ack.outcome -> what it means."""

FAILED = frozenset({"rejected", "unknown"})
"""Outcomes that make a span's status ERROR and that carry error.type."""

DURATION_BOUNDS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025),  # JetStream acks in 0.1 to 3 ms
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),  # what the conventions advise
)
"""Upper bounds of the duration's buckets in seconds."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute. example: a value, as it would be printed."""

    name: str
    text: str
    example: str


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(MESSAGING_SYSTEM, "The kind of broker.", "nats"),
    Attribute(MESSAGING_OPERATION_NAME, "`publish` for NATS, `send` for Kafka.", "publish"),
    Attribute(MESSAGING_OPERATION_TYPE, "Always `send`.", "send"),
    Attribute(
        MESSAGING_DESTINATION_NAME,
        "The topic; on NATS the subject. `_OTHER` for metrics of one topic too many.",
        "orders.created",
    ),
    Attribute(MESSAGING_DESTINATION_PARTITION_ID, "The partition that an ack named (Kafka).", "3"),
    Attribute(MESSAGING_MESSAGE_ID, "The id that deduplicates and that reports carry.", "bus-000000000000007"),
    Attribute(
        MESSAGING_BATCH_MESSAGE_COUNT,
        "How many failures a span or log record stands for; on a span absent where it is one.",
        "412",
    ),
    Attribute(MESSAGING_KAFKA_OFFSET, "Where an ack says the message lies in its partition.", "1048"),
    Attribute(SERVER_ADDRESS, "Host of the broker. `_OTHER` for metrics of one broker too many.", "127.0.0.1"),
    Attribute(SERVER_PORT, "Port of the broker.", "4222"),
    Attribute(ERROR_TYPE, "What went wrong; absent where nothing did. Values below.", "timeout"),
    Attribute(ACK_OUTCOME, "What became of the message. Values below.", "acked"),
    Attribute(ACK_ATTEMPTS, "How many times the message was sent; 0 if never.", "2"),
    Attribute(ACK_LATE, "True where the ack came after the message had been settled as unknown.", "true"),
    Attribute(NATS_STREAM, "The stream that an ack named.", "ORDERS"),
    Attribute(NATS_SEQUENCE, "The sequence in the stream that an ack named.", "1048"),
    Attribute(LE, "Upper bound of a bucket in seconds, as Prometheus writes it.", "0.0025"),
    Attribute(BUS_ID, "Which bus of the process; message ids that it makes begin with it.", "9f1c03a2b7d4"),
    Attribute(EVENT_KIND, "What happened. Values below.", "disconnected"),
    Attribute(EVENT_COUNT, "How many events of this kind a log record stands for.", "1"),
    Attribute(EXPORT_SIGNAL, "`traces`, `metrics` or `logs`.", "traces"),
    Attribute(EXPORT_EXPORTER, "`otlp`, `console` or `prometheus`.", "otlp"),
    Attribute(EXPORT_RESULT, "`success` or `failure`.", "success"),
)

_BUS = (MESSAGING_SYSTEM, SERVER_ADDRESS, SERVER_PORT)
"""On all points of one bus."""
_OPERATION = (
    *_BUS,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_DESTINATION_NAME,
    ACK_OUTCOME,
    ERROR_TYPE,
)
"""On what is counted by outcome."""
_POSITION = (MESSAGING_DESTINATION_PARTITION_ID, MESSAGING_KAFKA_OFFSET, NATS_STREAM, NATS_SEQUENCE)
"""On spans, as far as the ack said it."""


@dataclass(frozen=True, slots=True)
class Span:
    """One kind of span, of kind PRODUCER. name: a template, as the conventions have it."""

    name: str
    text: str
    attributes: tuple[str, ...]


MESSAGE_SPAN = Span(
    "{messaging.operation.name} {messaging.destination.name}",
    "One message, from publish to its outcome: the broker's ack is its end. A sampled success is traced from publish "
    "on, any other failure gets its span when it is known, with the true start and end.",
    (
        *_OPERATION,
        MESSAGING_MESSAGE_ID,
        ACK_ATTEMPTS,
        *_POSITION,
    ),
)
LATE_ACK_SPAN = Span(
    MESSAGE_SPAN.name,
    "One message that was acked after it had ended as unknown, linked to the span that said so.",
    (*MESSAGE_SPAN.attributes, ACK_LATE),
)
FAILURES_SPAN = Span(
    MESSAGE_SPAN.name,
    "Many failed messages of one destination, outcome and error type, where failures come too fast for a span each: "
    "one in a second.",
    (*_OPERATION, MESSAGING_BATCH_MESSAGE_COUNT),
)
SPANS = (MESSAGE_SPAN, LATE_ACK_SPAN, FAILURES_SPAN)


class Instrument(StrEnum):
    """How a metric's points behave. All are observed when metrics are collected, none is called per message."""

    COUNTER = "counter"
    """A sum that only grows."""
    UP_DOWN_COUNTER = "up-down counter"
    """A sum of what is there now; adds up over buses."""
    GAUGE = "gauge"
    """What is there now, where a sum says nothing."""
    HISTOGRAM = "histogram"
    """Counts by bucket."""


_PROMETHEUS_UNITS = {"s": "seconds", "By": "bytes"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. unit: in UCUM, as OpenTelemetry writes it. attributes: all that its points may have."""

    name: str
    instrument: Instrument
    unit: str
    text: str
    attributes: tuple[str, ...] = _BUS

    @property
    def prometheus_names(self) -> tuple[str, ...]:
        """The names of its time series in Prometheus: three for a histogram, one for all others."""
        base, unit = prometheus_label(self.name), _PROMETHEUS_UNITS.get(self.unit)
        if unit and not base.endswith(f"_{unit}"):
            base += f"_{unit}"
        if self.instrument is Instrument.HISTOGRAM:
            return (f"{base}_bucket", f"{base}_sum", f"{base}_count")
        return (f"{base}_total" if self.instrument is Instrument.COUNTER else base,)


def prometheus_label(name: str) -> str:
    """An attribute's name as Prometheus writes it: ``error.type`` -> ``error_type``."""
    return re.sub(r"[^a-zA-Z0-9]+", "_", name)


SENT_MESSAGES = Metric(
    "messaging.client.sent.messages",
    Instrument.COUNTER,
    "{message}",
    "Messages by the outcome that they were settled with, successes and failures alike. One that was rejected before "
    "it could be sent is among them. A late ack changes nothing here: it is counted as a late ack.",
    _OPERATION,
)
OPERATION_DURATION = Metric(
    "messaging.client.operation.duration",
    Instrument.HISTOGRAM,
    "s",
    "From acceptance to outcome: retries and the pauses before them included, and waiting for a connection or for the "
    "topic to be prepared; waiting for room in the window is before it, and counted as stalled time. Only where "
    "AckScope's own set-up collects it.",
    _OPERATION,
)
DURATION_BUCKET = Metric(
    "eventbus.producer.duration.bucket",
    Instrument.COUNTER,
    "{message}",
    "The same durations where the application brings its own SDK: messages that took at most `le`, cumulative over "
    "`le` as in Prometheus.",
    (*_OPERATION, LE),
)
DURATION_SUM = Metric(
    "eventbus.producer.duration.sum",
    Instrument.COUNTER,
    "s",
    "Sum of these durations; their count is that of the sent messages.",
    _OPERATION,
)
IN_FLIGHT = Metric(
    "eventbus.producer.in_flight",
    Instrument.UP_DOWN_COUNTER,
    "{message}",
    "Messages accepted and not yet settled, those included that wait for a connection or for another attempt.",
)
IN_FLIGHT_BYTES = Metric(
    "eventbus.producer.in_flight.bytes", Instrument.UP_DOWN_COUNTER, "By", "Size of the messages in flight."
)
WINDOW_LIMIT = Metric(
    "eventbus.producer.window.limit",
    Instrument.UP_DOWN_COUNTER,
    "{message}",
    "The most messages that may be in flight; from there on publishers wait.",
)
OLDEST_PENDING_AGE = Metric(
    "eventbus.producer.oldest_pending.age",
    Instrument.GAUGE,
    "s",
    "How long the oldest message in flight has been waiting; 0 where there is none.",
)
WAITING_PUBLISHERS = Metric(
    "eventbus.producer.waiting_publishers",
    Instrument.UP_DOWN_COUNTER,
    "{publisher}",
    "Calls of publish that wait for room.",
)
STALLED_TIME = Metric(
    "eventbus.producer.stalled.time",
    Instrument.COUNTER,
    "s",
    "Time during which at least one publisher waited for room; its rate is a share of the time.",
)
RETRIES = Metric("eventbus.producer.retries", Instrument.COUNTER, "{attempt}", "Attempts that were repeated.")
ACK_TIMEOUTS = Metric(
    "eventbus.producer.ack.timeouts", Instrument.COUNTER, "{attempt}", "Attempts whose ack did not come in time."
)
FAILED_ATTEMPTS = Metric(
    "eventbus.producer.failed_attempts",
    Instrument.COUNTER,
    "{attempt}",
    "Attempts that failed by error type, those included that a retry cured.",
    (*_BUS, ERROR_TYPE),
)
LATE_ACKS = Metric(
    "eventbus.producer.late_acks",
    Instrument.COUNTER,
    "{message}",
    "Messages that were acked after they had been settled as unknown: so many of the unknown ones are stored.",
)
UNACKNOWLEDGED = Metric(
    "eventbus.producer.unacknowledged",
    Instrument.COUNTER,
    "{message}",
    "Messages sent in a way that has no ack (core NATS, or acks ignored). They have no outcome: only this counts them.",
)
EXPORTS = Metric(
    "eventbus.telemetry.exports",
    Instrument.COUNTER,
    "{export}",
    "Exports of telemetry by signal, exporter and result. Only where AckScope's own set-up exports.",
    (EXPORT_SIGNAL, EXPORT_EXPORTER, EXPORT_RESULT),
)

METRICS: tuple[Metric, ...] = (
    SENT_MESSAGES,
    OPERATION_DURATION,
    DURATION_BUCKET,
    DURATION_SUM,
    IN_FLIGHT,
    IN_FLIGHT_BYTES,
    WINDOW_LIMIT,
    OLDEST_PENDING_AGE,
    WAITING_PUBLISHERS,
    STALLED_TIME,
    RETRIES,
    ACK_TIMEOUTS,
    FAILED_ATTEMPTS,
    LATE_ACKS,
    UNACKNOWLEDGED,
    EXPORTS,
)


@dataclass(frozen=True, slots=True)
class Record:
    """One kind of log record. level: the names of the levels it can have. attributes: all its fields; those of its
    trace come on top."""

    logger: str
    level: str
    text: str
    attributes: tuple[str, ...]


FAILURE_RECORD = Record(
    "eventbus.failures",
    "WARNING; INFO for late acks",
    "Messages of one topic, outcome and error type: the first at once, then at most one record a second with the count "
    "since. With id and trace of one of them.",
    (
        BUS_ID,
        *_BUS,
        MESSAGING_DESTINATION_NAME,
        ACK_OUTCOME,
        ERROR_TYPE,
        MESSAGING_BATCH_MESSAGE_COUNT,
        MESSAGING_MESSAGE_ID,
        ACK_LATE,
    ),
)
EVENT_RECORD = Record(
    "eventbus.events",
    "WARNING or INFO",
    "A change of the state of a connection, a topic or the window: each, up to 10 of a kind in a second; beyond it the "
    "last one, with the count.",
    (BUS_ID, *_BUS, EVENT_KIND, EVENT_COUNT),
)
RECORDS = (FAILURE_RECORD, EVENT_RECORD)
