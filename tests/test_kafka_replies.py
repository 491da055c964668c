"""What Kafka's answers and aiokafka's exceptions mean."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import aiokafka.errors as kafka
import pytest
from aiokafka.producer.message_accumulator import BatchBuilder, MessageBatch
from aiokafka.producer.sender import SendProduceReqHandler
from aiokafka.protocol.produce import ProduceResponse_v8
from aiokafka.structs import TopicPartition

from eventbus.errors import ErrorClass, ErrorKind
from eventbus.ports import AckBatch, Failure
from eventbus.publishers.kafka.replies import (
    BY_CODE,
    BY_TYPE,
    DEAD,
    DUPLICATE_SEQUENCE,
    NO_OFFSET,
    BatchFailure,
    read_ack,
    read_call_error,
    read_code,
    read_error,
)

TRANSIENT, AMBIGUOUS, FATAL = ErrorClass.TRANSIENT, ErrorClass.AMBIGUOUS, ErrorClass.FATAL
ORDERS = TopicPartition("orders", 3)


class Expected(NamedTuple):
    """A row of the table, written down once more."""

    code: int
    error_class: ErrorClass
    kind: ErrorKind
    flags: str = ""


ROWS = [
    Expected(-1, AMBIGUOUS, ErrorKind.OTHER),
    Expected(2, TRANSIENT, ErrorKind.INVALID),
    Expected(3, AMBIGUOUS, ErrorKind.NO_STREAM),
    Expected(5, TRANSIENT, ErrorKind.UNAVAILABLE),
    Expected(6, AMBIGUOUS, ErrorKind.UNAVAILABLE),
    Expected(7, AMBIGUOUS, ErrorKind.TIMEOUT),
    Expected(8, TRANSIENT, ErrorKind.UNAVAILABLE),
    Expected(9, TRANSIENT, ErrorKind.UNAVAILABLE),
    Expected(10, FATAL, ErrorKind.TOO_LARGE, "separable"),
    Expected(13, AMBIGUOUS, ErrorKind.DISCONNECTED),
    Expected(14, TRANSIENT, ErrorKind.UNAVAILABLE),
    Expected(15, TRANSIENT, ErrorKind.UNAVAILABLE),
    Expected(16, TRANSIENT, ErrorKind.UNAVAILABLE),
    Expected(17, FATAL, ErrorKind.INVALID),
    Expected(18, FATAL, ErrorKind.TOO_LARGE, "separable"),
    Expected(19, TRANSIENT, ErrorKind.NOT_ENOUGH_REPLICAS),
    Expected(20, AMBIGUOUS, ErrorKind.NOT_ENOUGH_REPLICAS),
    Expected(21, FATAL, ErrorKind.INVALID),
    Expected(29, FATAL, ErrorKind.PERMISSION),
    Expected(31, FATAL, ErrorKind.PERMISSION),
    Expected(32, FATAL, ErrorKind.INVALID, "separable"),
    Expected(33, FATAL, ErrorKind.PERMISSION),
    Expected(34, FATAL, ErrorKind.PERMISSION),
    Expected(35, FATAL, ErrorKind.INVALID),
    Expected(36, TRANSIENT, ErrorKind.CONFLICT),
    Expected(37, FATAL, ErrorKind.INVALID),
    Expected(38, FATAL, ErrorKind.INVALID),
    Expected(39, FATAL, ErrorKind.INVALID),
    Expected(40, FATAL, ErrorKind.INVALID),
    Expected(41, TRANSIENT, ErrorKind.UNAVAILABLE),
    Expected(42, FATAL, ErrorKind.INVALID),
    Expected(43, FATAL, ErrorKind.INVALID),
    Expected(44, FATAL, ErrorKind.INVALID),
    Expected(45, AMBIGUOUS, ErrorKind.OUT_OF_SEQUENCE, "poisons"),
    Expected(47, FATAL, ErrorKind.FENCED, "poisons fenced"),
    Expected(48, FATAL, ErrorKind.FENCED, "poisons fenced"),
    Expected(49, FATAL, ErrorKind.FENCED, "poisons fenced"),
    Expected(50, FATAL, ErrorKind.FENCED, "poisons fenced"),
    Expected(51, TRANSIENT, ErrorKind.UNAVAILABLE),
    Expected(53, FATAL, ErrorKind.PERMISSION),
    Expected(56, AMBIGUOUS, ErrorKind.UNAVAILABLE),
    Expected(58, FATAL, ErrorKind.PERMISSION),
    Expected(59, AMBIGUOUS, ErrorKind.OUT_OF_SEQUENCE, "poisons"),
    Expected(74, TRANSIENT, ErrorKind.UNAVAILABLE),
    Expected(75, TRANSIENT, ErrorKind.UNAVAILABLE),
    Expected(76, FATAL, ErrorKind.INVALID),
    Expected(87, FATAL, ErrorKind.INVALID, "separable"),
    Expected(89, TRANSIENT, ErrorKind.OVERLOADED),
    Expected(90, FATAL, ErrorKind.FENCED, "poisons fenced"),
    Expected(100, TRANSIENT, ErrorKind.NO_STREAM),
]
UNNAMED = {74, 75, 76, 87, 89, 90, 100}
"""Codes of the table that aiokafka 0.14 has no class for."""


async def answered(code: int, offset: int = -1) -> asyncio.Future[Any]:
    """The future of a batch of two messages, after aiokafka's own sender has read a broker's answer from bytes.

    The batch has waited too long for aiokafka to send it again by itself.
    """
    partition: tuple[Any, ...] = (ORDERS.partition, code, offset, -1, 0, [], None)
    answer = ProduceResponse_v8([(ORDERS.topic, [partition])], 0).encode()
    builder = BatchBuilder(16_384, 0)
    for _ in range(2):
        builder.append(timestamp=None, key=None, value=b"hello")
    batch = MessageBatch(ORDERS, builder, ttl=-1.0, linger_time=0)
    sender = SimpleNamespace(_txn_manager=None, _retry_backoff=0.0, client=None)
    SendProduceReqHandler(sender, {ORDERS: batch}).handle_response(ProduceResponse_v8.decode(answer))
    future: asyncio.Future[Any] = batch.future
    return future


def flags_of(failure: BatchFailure) -> str:
    return " ".join(flag for flag in ("poisons", "fenced", "separable") if getattr(failure, flag))


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.code}-{BY_CODE[row.code].name}" for row in ROWS])
async def test_answer_with_a_code(row: Expected):
    """From the broker's bytes to class and kind, also for codes that aiokafka has no class for."""
    error = (await answered(row.code)).exception()
    assert error is not None
    read = read_error(error, "orders", attempts=1, idempotent=False)
    assert (read.error_class, read.kind, flags_of(read)) == (row.error_class, row.kind, row.flags)
    assert "topic 'orders'" in read.text
    if row.code != 47:  # aiokafka makes a ProducerFenced of it, without a code
        assert read.code == row.code
        assert read.text.startswith(BY_CODE[row.code].text)
        assert f"{BY_CODE[row.code].name} {row.code}" in read.text


def test_each_row_has_a_test():
    """A new row is written down here too."""
    assert sorted(row.code for row in ROWS) == sorted(BY_CODE)


async def test_code_that_is_not_in_the_table():
    """It may be stored, whatever it is; aiokafka keeps the number of those that it knows, and makes -1 of others."""
    known = read_error((await answered(1)).exception() or OSError(), "orders", attempts=1, idempotent=False)
    assert (known.error_class, known.kind, known.code) == (AMBIGUOUS, ErrorKind.OTHER, 1)
    assert "code 1" in known.text
    unknown = read_error((await answered(999)).exception() or OSError(), "orders", attempts=1, idempotent=False)
    assert (unknown.error_class, unknown.kind, unknown.code) == (AMBIGUOUS, ErrorKind.OTHER, -1)
    assert read_code(999, "orders").text == "an answer or error that is not known here (topic 'orders'; code 999)"


def test_classes_given_to_unnamed_codes():
    """They are UnknownErrors still, and only those are repeated by aiokafka that were certainly not stored."""
    own = {code for code in BY_CODE if issubclass(kafka.for_code(code), kafka.UnknownError) and code != -1}
    assert own == UNNAMED
    assert {code for code in own if kafka.for_code(code).retriable} == {74, 75, 89, 100}
    assert str(kafka.for_code(87)()) == "[Error 87] InvalidRecord"
    assert kafka.for_code(10) is kafka.MessageSizeTooLargeError


async def test_stored_batch():
    """Each message at its own offset."""
    result = (await answered(0, offset=40)).result()
    batch = read_ack("orders", result.partition, result.offset, (7, 9))
    assert (batch.log, batch.partition, batch.tokens, list(batch.offsets)) == ("orders", 3, (7, 9), [40, 41])
    assert not batch.duplicates


async def test_batch_that_the_broker_had_already():
    """Stored, all of it, and nobody knows where: aiokafka makes a result of code 46, with an offset below 0."""
    result = (await answered(DUPLICATE_SEQUENCE)).result()
    assert result.offset == NO_OFFSET
    batch = read_ack("orders", result.partition, result.offset, (7, 9))
    assert batch == AckBatch("orders", (7, 9), [NO_OFFSET, NO_OFFSET], frozenset({7, 9}), 3)


DEATH = kafka.KafkaError("Unexpected error during batch delivery")
TYPES: list[tuple[BaseException, ErrorClass, ErrorKind, bool]] = [
    (kafka.KafkaTimeoutError(), TRANSIENT, ErrorKind.OVERLOADED, False),
    (kafka.ProducerClosed(), TRANSIENT, ErrorKind.UNAVAILABLE, True),
    (AssertionError("Unrecognized partition"), TRANSIENT, ErrorKind.UNAVAILABLE, False),
    (kafka.NodeNotReadyError("not ready (node id 1)"), TRANSIENT, ErrorKind.UNAVAILABLE, False),
    (kafka.IncompatibleBrokerVersion("too old"), FATAL, ErrorKind.INVALID, False),
    (kafka.KafkaConnectionError("Connection at a:1 closed"), AMBIGUOUS, ErrorKind.DISCONNECTED, False),
    (kafka.CorrelationIdError("sent 1, recv 2"), AMBIGUOUS, ErrorKind.PROTOCOL, False),
    (TimeoutError(), AMBIGUOUS, ErrorKind.TIMEOUT, False),
    (ConnectionResetError("reset"), AMBIGUOUS, ErrorKind.DISCONNECTED, False),
    (asyncio.CancelledError(), AMBIGUOUS, ErrorKind.CLOSED, False),
    (kafka.ProducerFenced(), FATAL, ErrorKind.FENCED, True),
    (kafka.RequestTimedOutError(), AMBIGUOUS, ErrorKind.TIMEOUT, False),
    (kafka.OutOfOrderSequenceNumber(), AMBIGUOUS, ErrorKind.OUT_OF_SEQUENCE, True),
    (kafka.UnknownProducerId(), AMBIGUOUS, ErrorKind.OUT_OF_SEQUENCE, True),
    (kafka.TopicAuthorizationFailedError("orders"), FATAL, ErrorKind.PERMISSION, False),
    (kafka.UnknownError(), AMBIGUOUS, ErrorKind.OTHER, False),
    (kafka.DuplicateSequenceNumber(), AMBIGUOUS, ErrorKind.OTHER, False),
    (DEATH, AMBIGUOUS, ErrorKind.UNAVAILABLE, True),
    (kafka.KafkaError("something"), AMBIGUOUS, ErrorKind.OTHER, False),
    (kafka.StaleMetadata("something"), AMBIGUOUS, ErrorKind.OTHER, False),
    (ZeroDivisionError("something"), AMBIGUOUS, ErrorKind.OTHER, False),
    (BaseException(), AMBIGUOUS, ErrorKind.OTHER, False),
]


@pytest.mark.parametrize(
    ("error", "error_class", "kind", "poisons"), TYPES, ids=[type(case[0]).__name__ + str(case[0]) for case in TYPES]
)
def test_exception(error: BaseException, error_class: ErrorClass, kind: ErrorKind, poisons: bool):
    """By its class; what nobody knows may be stored."""
    read = read_error(error, "orders", attempts=1, idempotent=False)
    assert (read.error_class, read.kind, read.poisons) == (error_class, kind, poisons)


def test_each_exception_has_a_test():
    """A new row is written down here too."""
    assert {kind for kind, _ in BY_TYPE} - {type(error) for error, *_ in TYPES} == {OSError}  # a subclass of it is


@pytest.mark.parametrize("error", [case[0] for case in TYPES], ids=lambda error: type(error).__name__)
def test_batch_that_was_sent_more_than_once(error: BaseException):
    """A refusal says nothing of the attempts before: aiokafka repeats by itself, and the first may be stored."""
    read = read_error(error, "orders", attempts=2, idempotent=False)
    assert read.error_class is AMBIGUOUS
    assert read.kind is read_error(error, "orders", attempts=1, idempotent=False).kind


@pytest.mark.parametrize("error", [case[0] for case in TYPES], ids=lambda error: type(error).__name__)
def test_batch_that_was_never_sent(error: BaseException):
    """There is no doubt about it, neither where the sender died before nor where the call itself raised."""
    never = read_error(error, "orders", attempts=0, idempotent=False)
    assert never.error_class is not AMBIGUOUS
    assert read_call_error(error, "orders") == never


async def test_failed_batch_of_an_idempotent_producer():
    """Its sequence numbers are used up: the producer has to be replaced, however harmless the refusal."""
    error = (await answered(10)).exception()
    assert error is not None
    assert not read_error(error, "orders", attempts=1, idempotent=False).poisons
    assert read_error(error, "orders", attempts=1, idempotent=True).poisons
    assert not read_call_error(error, "orders").poisons


def test_text_for_people():
    """What it means, where, what the broker said, and Kafka's name for it."""
    denied = kafka.SaslAuthenticationFailed("Authentication failed: Invalid username or password")
    assert read_call_error(denied).text == (
        "user or password was refused (Authentication failed: Invalid username or password; "
        "SASL_AUTHENTICATION_FAILED 58)"
    )
    dead = kafka.KafkaError("Unexpected error during batch delivery")
    dead.__cause__ = KeyError("x")
    assert (
        read_error(dead, "orders", attempts=1, idempotent=True).text
        == f"{DEAD.text} (topic 'orders'; KafkaError: KeyError)"
    )
    assert read_code(38, "orders", "Replication factor: 3 larger than available brokers: 1").text == (
        "not a possible number of replicas; there may be fewer brokers (topic 'orders'; Replication factor: 3 larger "
        "than available brokers: 1; INVALID_REPLICATION_FACTOR 38)"
    )
    assert len(read_call_error(kafka.KafkaConnectionError("x" * 10_000)).text) < 400


def test_failure_for_the_ledger():
    """The same class, kind, text and pause, about the batch's messages."""
    read = read_error(kafka.NotEnoughReplicasError(), "orders", attempts=1, idempotent=False)
    assert read.failure((1, 2)) == Failure(
        TRANSIENT, ErrorKind.NOT_ENOUGH_REPLICAS, read.text, (1, 2), min_delay_s=read.min_delay_s
    )
    assert read.min_delay_s == 1.0


def test_pauses():
    """Whatever can be tried again waits a little, and none longer than a second."""
    waiting = {code: row.min_delay_s for code, row in BY_CODE.items()}
    assert all((delay > 0) == (BY_CODE[code].error_class is not FATAL) for code, delay in waiting.items())
    assert max(waiting.values()) == 1.0


def test_documented_table(root: Path):
    """docs/kafka-replies.md has each row as the code has it."""
    lines = (root / "docs" / "kafka-replies.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip().replace("`", "") for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    coded = {tuple(row[:6]) for row in cells if row[0].lstrip("-").isdigit()}

    def flags(row: Any) -> str:
        return " ".join(flag for flag in ("poisons", "fenced", "separable") if getattr(row, flag))

    assert coded == {
        (str(code), row.name, row.error_class.upper(), str(row.kind), f"{row.min_delay_s:g}", flags(row))
        for code, row in BY_CODE.items()
    }
    typed = {tuple(row[:3]) for row in cells if len(row) == 4}
    assert typed >= {(kind.__name__, row.error_class.upper(), str(row.kind)) for kind, row in BY_TYPE}
