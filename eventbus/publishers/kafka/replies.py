"""What Kafka's answers and aiokafka's exceptions mean for the messages of a batch: the reply table, as data. Pure.

Codes and names are Kafka's (``org.apache.kafka.common.protocol.Errors``). An answer to a batch is read by what the
broker can have done before it gave it: with acks=all the leader appends first and answers when the replicas have it,
and 3, 6 and 56 also come when it loses the partition in between (``kafka.server.DelayedProduce``), so they leave doubt.
So does whatever is not in the table.

A batch that fails inside an idempotent producer has used up its sequence numbers, and the broker refuses all that
follow on that partition (45): every failure of a batch ``poisons`` an idempotent producer. Some rows poison any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import aiokafka.errors as kafka

from eventbus.errors import ErrorClass, ErrorKind
from eventbus.ports import AckBatch, Failure

TRANSIENT, AMBIGUOUS, FATAL = ErrorClass.TRANSIENT, ErrorClass.AMBIGUOUS, ErrorClass.FATAL

NO_OFFSET = -1
"""Kafka's own for "not known": the broker has this batch already and has forgotten where (46)."""
_DETAIL_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Row:
    """What one condition means.

    min_delay_s: the least pause before another try. text: for people. name: Kafka's, for its codes.
    poisons: the producer has to be replaced, idempotent or not.
    fenced: another producer took this one's identity, so that it must not go on.
    separable: one message may be the cause, and its batch would be taken without it.
    """

    error_class: ErrorClass
    kind: ErrorKind
    min_delay_s: float = 0.0
    text: str = ""
    name: str = ""
    poisons: bool = False
    fenced: bool = False
    separable: bool = False


@dataclass(frozen=True, slots=True)
class BatchFailure:
    """How one batch failed: a row of the table, read for this batch. text: for people; nothing secret in it.

    poisons: the producer has to be replaced. code: Kafka's, None where there is none. The others as in Row.
    """

    error_class: ErrorClass
    kind: ErrorKind
    text: str
    min_delay_s: float = 0.0
    code: int | None = None
    poisons: bool = False
    fenced: bool = False
    separable: bool = False

    def failure(self, tokens: Sequence[int] | None) -> Failure:
        """The same for the ledger, about these messages."""
        return Failure(self.error_class, self.kind, self.text, tokens, min_delay_s=self.min_delay_s)


_AGAIN_S = 0.1
"""Kafka's clients look for a partition's new leader every 100 ms (``retry.backoff.ms``)."""
_ELECTION_S = 0.25
"""Where a leader has yet to be elected, or a topic to become known to all brokers: some hundred ms."""
_RECOVERY_S = 1.0
"""A replica or a quota comes back in seconds (``replica.lag.time.max.ms`` 30 s, ``quota.window.size.seconds`` 1 s)."""

_MOVED = Row(TRANSIENT, ErrorKind.UNAVAILABLE, _AGAIN_S)
_ABSENT = Row(TRANSIENT, ErrorKind.UNAVAILABLE, _ELECTION_S)
_NO_TOPIC = Row(TRANSIENT, ErrorKind.NO_STREAM, _ELECTION_S)
_IN_DOUBT = Row(AMBIGUOUS, ErrorKind.UNAVAILABLE, _AGAIN_S)
_INVALID = Row(FATAL, ErrorKind.INVALID)
_INVALID_ONE = Row(FATAL, ErrorKind.INVALID, separable=True)
_TOO_LARGE = Row(FATAL, ErrorKind.TOO_LARGE, separable=True)
_DENIED = Row(FATAL, ErrorKind.PERMISSION)
_SEQUENCE = Row(AMBIGUOUS, ErrorKind.OUT_OF_SEQUENCE, _AGAIN_S, poisons=True)
_FENCED = Row(FATAL, ErrorKind.FENCED, poisons=True, fenced=True)

_CODES: tuple[tuple[int, str, Row, str], ...] = (
    # Nothing is known of what was done.
    (-1, "UNKNOWN_SERVER_ERROR", Row(AMBIGUOUS, ErrorKind.OTHER, _ELECTION_S), "the broker met an unexpected error"),
    (7, "REQUEST_TIMED_OUT", Row(AMBIGUOUS, ErrorKind.TIMEOUT, _AGAIN_S), "no answer in time"),
    (13, "NETWORK_EXCEPTION", Row(AMBIGUOUS, ErrorKind.DISCONNECTED, _AGAIN_S), "the connection was lost"),
    # In the leader's log already, or perhaps so: the leader can lose the partition after it has appended.
    (
        20,
        "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        Row(AMBIGUOUS, ErrorKind.NOT_ENOUGH_REPLICAS, _RECOVERY_S),
        "written to fewer replicas than min.insync.replicas asks for",
    ),
    (
        3,
        "UNKNOWN_TOPIC_OR_PARTITION",
        Row(AMBIGUOUS, ErrorKind.NO_STREAM, _ELECTION_S),
        "no such topic or partition",
    ),
    (6, "NOT_LEADER_OR_FOLLOWER", _IN_DOUBT, "the partition has moved to another leader"),
    (56, "KAFKA_STORAGE_ERROR", _IN_DOUBT, "the broker's disk failed"),
    # Not now: refused before anything was appended.
    (2, "CORRUPT_MESSAGE", Row(TRANSIENT, ErrorKind.INVALID, _AGAIN_S), "the batch arrived damaged"),
    (5, "LEADER_NOT_AVAILABLE", _ABSENT, "the partition has no leader now"),
    (8, "BROKER_NOT_AVAILABLE", _ABSENT, "the broker is not available"),
    (9, "REPLICA_NOT_AVAILABLE", _ABSENT, "the replica is not available"),
    (
        19,
        "NOT_ENOUGH_REPLICAS",
        Row(TRANSIENT, ErrorKind.NOT_ENOUGH_REPLICAS, _RECOVERY_S),
        "fewer replicas are in sync than min.insync.replicas asks for",
    ),
    (51, "CONCURRENT_TRANSACTIONS", _MOVED, "the broker is busy with this producer"),
    (74, "FENCED_LEADER_EPOCH", _MOVED, "the partition has a newer leader"),
    (75, "UNKNOWN_LEADER_EPOCH", _MOVED, "the broker has not heard of the newest leader"),
    (89, "THROTTLING_QUOTA_EXCEEDED", Row(TRANSIENT, ErrorKind.OVERLOADED, _RECOVERY_S), "a quota is used up"),
    (100, "UNKNOWN_TOPIC_ID", _NO_TOPIC, "the topic was deleted, or made anew"),
    # The same in answers to preparing, which no batch gets.
    (14, "COORDINATOR_LOAD_IN_PROGRESS", _MOVED, "the coordinator is loading"),
    (15, "COORDINATOR_NOT_AVAILABLE", _ABSENT, "there is no coordinator now"),
    (16, "NOT_COORDINATOR", _MOVED, "the coordinator has moved"),
    (36, "TOPIC_ALREADY_EXISTS", Row(TRANSIENT, ErrorKind.CONFLICT, _AGAIN_S), "the topic exists already"),
    (41, "NOT_CONTROLLER", _MOVED, "the controller has moved"),
    # The message, or what is asked for it, is not taken.
    (10, "MESSAGE_TOO_LARGE", _TOO_LARGE, "larger than the topic takes (max.message.bytes)"),
    (18, "RECORD_LIST_TOO_LARGE", _TOO_LARGE, "larger than a segment of the topic (segment.bytes)"),
    (32, "INVALID_TIMESTAMP", _INVALID_ONE, "the timestamp is out of the topic's range"),
    (87, "INVALID_RECORD", _INVALID_ONE, "a record was refused; a compacted topic takes none without a key"),
    (17, "INVALID_TOPIC_EXCEPTION", _INVALID, "not a topic that one can publish to"),
    (21, "INVALID_REQUIRED_ACKS", _INVALID, "the broker does not know this acks setting"),
    (35, "UNSUPPORTED_VERSION", _INVALID, "the broker does not know this version of the request"),
    (37, "INVALID_PARTITIONS", _INVALID, "not a possible number of partitions"),
    (38, "INVALID_REPLICATION_FACTOR", _INVALID, "not a possible number of replicas; there may be fewer brokers"),
    (39, "INVALID_REPLICA_ASSIGNMENT", _INVALID, "not a possible assignment of replicas"),
    (40, "INVALID_CONFIG", _INVALID, "a setting of the topic is not valid"),
    (42, "INVALID_REQUEST", _INVALID, "the broker finds the request malformed"),
    (43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", _INVALID, "the topic's message format is too old for this"),
    (44, "POLICY_VIOLATION", _INVALID, "a policy of the cluster forbids it"),
    (76, "UNSUPPORTED_COMPRESSION_TYPE", _INVALID, "the broker does not take this compression"),
    # We are not let in.
    (29, "TOPIC_AUTHORIZATION_FAILED", _DENIED, "not allowed to write to this topic"),
    (31, "CLUSTER_AUTHORIZATION_FAILED", _DENIED, "not allowed by the cluster (IdempotentWrite, Create)"),
    (33, "UNSUPPORTED_SASL_MECHANISM", _DENIED, "the broker does not offer this SASL mechanism"),
    (34, "ILLEGAL_SASL_STATE", _DENIED, "the broker expected another step of the login"),
    (53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", _DENIED, "not allowed to use this transactional id"),
    (58, "SASL_AUTHENTICATION_FAILED", _DENIED, "user or password was refused"),
    # This producer is finished.
    (45, "OUT_OF_ORDER_SEQUENCE_NUMBER", _SEQUENCE, "the broker misses an earlier batch of this producer"),
    (59, "UNKNOWN_PRODUCER_ID", _SEQUENCE, "the broker has forgotten this producer"),
    (47, "INVALID_PRODUCER_EPOCH", _FENCED, "a newer producer has this one's id"),
    (48, "INVALID_TXN_STATE", _FENCED, "the transaction is in another state at the broker"),
    (49, "INVALID_PRODUCER_ID_MAPPING", _FENCED, "the producer's id belongs to another transactional id"),
    (50, "INVALID_TRANSACTION_TIMEOUT", _FENCED, "the transaction timeout is longer than the broker allows"),
    (90, "PRODUCER_FENCED", _FENCED, "a newer producer has this one's id"),
)
BY_CODE: dict[int, Row] = {code: replace(row, name=name, text=text) for code, name, row, text in _CODES}

DUPLICATE_SEQUENCE = 46
"""Not in the table, because it is no failure: aiokafka 0.14 makes a result of it whose base offset is NO_OFFSET."""
OTHER = Row(AMBIGUOUS, ErrorKind.OTHER, _ELECTION_S, "an answer or error that is not known here")
DEAD = Row(AMBIGUOUS, ErrorKind.UNAVAILABLE, 0.0, "the Kafka client's sender ended", poisons=True)
_DEAD_TEXT = "Unexpected error during batch delivery"  # aiokafka's, of the exception that a dead sender leaves

BY_TYPE: tuple[tuple[type[BaseException], Row], ...] = (
    # Never handed over: raised by the call, not by the batch's future.
    (
        kafka.KafkaTimeoutError,
        Row(TRANSIENT, ErrorKind.OVERLOADED, _AGAIN_S, "the batch before it was not sent in time"),
    ),
    (kafka.ProducerClosed, Row(TRANSIENT, ErrorKind.UNAVAILABLE, 0.0, "the producer is closed", poisons=True)),
    # aiokafka refuses a partition that its newest metadata does not have with a bare assert.
    (AssertionError, Row(TRANSIENT, ErrorKind.UNAVAILABLE, _ELECTION_S, "the partition is not there now")),
    # Given up before the request was written.
    (kafka.NodeNotReadyError, replace(_MOVED, text="no connection to the partition's leader")),
    (kafka.IncompatibleBrokerVersion, replace(_INVALID, text="the broker is too old for this")),
    # Written, or perhaps so.
    (kafka.KafkaConnectionError, Row(AMBIGUOUS, ErrorKind.DISCONNECTED, _AGAIN_S, "the connection was lost")),
    (kafka.CorrelationIdError, Row(AMBIGUOUS, ErrorKind.PROTOCOL, _AGAIN_S, "an answer to another request")),
    (TimeoutError, Row(AMBIGUOUS, ErrorKind.TIMEOUT, _AGAIN_S, "no answer in time")),
    (OSError, Row(AMBIGUOUS, ErrorKind.DISCONNECTED, _AGAIN_S, "the connection was lost")),
    (asyncio.CancelledError, Row(AMBIGUOUS, ErrorKind.CLOSED, 0.0, "waiting for the answer was cancelled")),
    # What aiokafka makes of 47.
    (kafka.ProducerFenced, replace(_FENCED, text="a newer producer has this one's id")),
)


def _name_codes() -> None:
    """Let the table's codes that aiokafka 0.14 does not know arrive with their number.

    It looks classes up in ``aiokafka.errors.kafka_errors`` and makes a bare UnknownError of what is not there, so that
    a record that was certainly refused (87) could not be told from an unknown outcome. The classes are UnknownErrors
    still: other users of aiokafka in this process catch what they caught. Those of TRANSIENT rows are ``retriable``,
    so that an idempotent producer sends the same batch again instead of losing its sequence.
    """
    for code, row in BY_CODE.items():
        if code not in kafka.kafka_errors:
            name = "".join(word.capitalize() for word in row.name.split("_"))
            fields = {"errno": code, "message": row.name, "description": row.text, "__module__": __name__}
            kafka.kafka_errors[code] = type(
                name, (kafka.UnknownError,), {**fields, "retriable": row.error_class is TRANSIENT}
            )


_name_codes()


def read_error(error: BaseException, topic: str, *, attempts: int, idempotent: bool) -> BatchFailure:
    """The meaning of the exception that a batch's future has.

    attempts: how often aiokafka has made a request of this batch. None: it was certainly not sent. More than one: it
        sent the batch again by itself, so that a refusal says nothing of the attempts before.
    """
    code, row = row_of(error)
    error_class = row.error_class
    if attempts == 0 and error_class is AMBIGUOUS:
        error_class = TRANSIENT
    elif attempts > 1:
        error_class = AMBIGUOUS
    return _read(row, error_class, code, topic, _detail(error), poisons=row.poisons or idempotent)


def read_call_error(error: BaseException, topic: str | None = None) -> BatchFailure:
    """The meaning of an exception that a call raised (``start``, ``send_batch``, metadata, administration).

    The call has handed over nothing, so there is never doubt.
    """
    code, row = row_of(error)
    return _read(row, _undoubted(row), code, topic, _detail(error), poisons=row.poisons)


def read_code(code: int, topic: str | None = None, message: str | None = None) -> BatchFailure:
    """The meaning of an error code in an answer to a request of administration, and what the broker says besides."""
    row = BY_CODE.get(code, OTHER)
    return _read(row, _undoubted(row), code, topic, message or "", poisons=row.poisons)


def read_ack(topic: str, partition: int, base_offset: int, tokens: Sequence[int]) -> AckBatch:
    """A batch that was stored, its messages one after the other.

    base_offset: of the first, as the result of the batch's future has it; below 0 for a duplicate (46).
    """
    if base_offset < 0:
        return AckBatch(topic, tokens, [NO_OFFSET] * len(tokens), frozenset(tokens), partition)
    return AckBatch(topic, tokens, range(base_offset, base_offset + len(tokens)), (), partition)


def row_of(error: BaseException) -> tuple[int | None, Row]:
    """The table's row for an exception, and Kafka's code if it has one."""
    if isinstance(error, kafka.BrokerResponseError):
        return error.errno, BY_CODE.get(error.errno, OTHER)
    for kind, row in BY_TYPE:
        if isinstance(error, kind):
            return None, row
    if isinstance(error, kafka.KafkaError) and _DEAD_TEXT in error.args:
        return None, DEAD
    return None, OTHER


def _undoubted(row: Row) -> ErrorClass:
    return TRANSIENT if row.error_class is AMBIGUOUS else row.error_class


def _read(
    row: Row, error_class: ErrorClass, code: int | None, topic: str | None, detail: str, *, poisons: bool
) -> BatchFailure:
    named = f"{row.name} {code}" if row.name else "" if code is None else f"code {code}"
    about = "" if topic is None else f"topic {topic!r}"
    said = "" if detail == topic else detail[:_DETAIL_CHARACTERS]
    more = "; ".join(part for part in (about, said, named) if part)
    text = f"{row.text} ({more})" if more else row.text
    return BatchFailure(error_class, row.kind, text, row.min_delay_s, code, poisons, row.fenced, row.separable)


def _detail(error: BaseException) -> str:
    """What the exception says besides its class. aiokafka also passes objects as arguments; they are left out."""
    said = "; ".join(arg for arg in error.args if isinstance(arg, str) and arg != _DEAD_TEXT)
    if error.__cause__ is not None:
        said = f"{said}; {type(error.__cause__).__name__}" if said else type(error.__cause__).__name__
    if isinstance(error, kafka.BrokerResponseError | kafka.KafkaConnectionError):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
