"""What a caller publishes, and what came of it, as values."""

from __future__ import annotations

import copy
import pickle
from types import MappingProxyType
from typing import Any

import pytest

from eventbus.errors import (
    DeliveryFailed,
    ErrorClass,
    ErrorKind,
    EventBusError,
    InvalidMessage,
    PublishRejected,
    PublishUnknown,
)
from eventbus.latency import LatencyHistogram
from eventbus.message import Message
from eventbus.report import AckOutcome, CloseReport, DeliveryReport, Position
from eventbus.snapshot import BusSnapshot, ConnectionState


def test_smallest_message():
    """A topic is enough."""
    assert Message("a") == ("a", b"", None, None, None)


@pytest.mark.parametrize("payload", [b"abc", bytearray(b"abc"), memoryview(b"abc"), memoryview(b"aXbXc")[::2]])
def test_payload_of_any_bytes(payload: bytes):
    """Kept as bytes."""
    message = Message("a", payload)
    assert type(message.payload) is bytes
    assert message.payload == b"abc"


def test_caller_changes_what_it_gave():
    """The message keeps its own copies; the caller's mapping is never written to."""
    payload, headers = bytearray(b"abc"), {"a": "1"}
    message = Message("a", payload, headers=headers)
    payload[0] = 0
    headers["b"] = "2"
    assert message.payload == b"abc"
    assert message.headers == {"a": "1"}
    given = MappingProxyType({"a": "1"})
    assert Message("a", headers=given).headers == {"a": "1"}


def test_empty_headers():
    """None: they cost nothing on the wire."""
    assert Message("a", headers={}).headers is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"topic": ""}, "topic is ''; it must be a non-empty str"),
        ({"topic": None}, "topic is None"),
        ({"topic": b"a"}, "topic is b'a'"),
        ({"payload": "text"}, "payload .*'a' is str; it must be bytes: encode it first"),
        ({"payload": None}, "payload .* NoneType"),
        ({"payload": [1]}, "payload .* list"),
        ({"key": b"k"}, "key .* is bytes; it must be str or None"),
        ({"headers": [("a", "b")]}, "headers .* are list; use a mapping of str"),
        ({"headers": {"a": 1}}, "header 'a' .* has the value 1; names and values must be str"),
        ({"headers": {1: "a"}}, "header 1 "),
        ({"headers": {"a": None}}, "header 'a' .* None"),
        ({"message_id": ""}, "message_id .* is ''; it must be a non-empty str"),
        ({"message_id": 5}, "message_id .* is 5"),
    ],
)
def test_message_that_no_broker_would_take(arguments: dict[str, Any], words: str):
    """InvalidMessage, which is a ValueError, says what was given and what is allowed."""
    with pytest.raises(InvalidMessage, match=words) as caught:
        Message(**{"topic": "a", **arguments})
    assert isinstance(caught.value, ValueError)


def test_message_cannot_be_changed():
    """Neither a field nor a new attribute."""
    message = Message("a")
    with pytest.raises(AttributeError):
        message.topic = "b"  # type: ignore[misc]  # wrong on purpose
    with pytest.raises(AttributeError):
        message.other = 1  # type: ignore[attr-defined]  # wrong on purpose


def test_copies_of_a_message():
    """Equal, and checked again."""
    message = Message("a", b"x", "k", {"h": "v"}, "id")
    assert copy.deepcopy(message) == pickle.loads(pickle.dumps(message)) == message


def report(outcome: AckOutcome, **more: Any) -> DeliveryReport:
    return DeliveryReport("id-1", "orders", outcome, **more)


def test_outcome_as_exception():
    """Nothing for ACKED; otherwise the exception of the outcome, carrying the report."""
    report(AckOutcome.ACKED, duplicate=True).raise_for_outcome()
    wanted: list[tuple[AckOutcome, type[DeliveryFailed]]] = [
        (AckOutcome.REJECTED, PublishRejected),
        (AckOutcome.UNKNOWN, PublishUnknown),
    ]
    for outcome, kind in wanted:
        told = report(outcome, error_class=ErrorClass.FATAL, error_kind=ErrorKind.PERMISSION, error_text="not allowed")
        with pytest.raises(kind, match="orders id=id-1 after 1 attempt because of permission: not allowed") as caught:
            told.raise_for_outcome()
        assert caught.value.report is told
        assert isinstance(caught.value, EventBusError)


def test_report_in_words():
    """One line for people."""
    acked = report(AckOutcome.ACKED, duplicate=True, late=True, attempts=2, position=Position("S", 7))
    assert str(acked) == "acked orders id=id-1 at S@7 (duplicate) late after 2 attempts"
    assert str(Position("topic", 3, partition=1)) == "topic[1]@3"


@pytest.mark.parametrize(("acked", "clean"), [(3, True), (2, False)])
def test_close_report(acked: int, clean: bool):
    """Clean where everything accepted was acked."""
    close = CloseReport(3, acked, 0, 0, 3 - acked, 0, 0, 0, 0, 0.1, False)
    assert close.clean is clean


def test_snapshot_through_plain_values():
    """And names of a newer version are left out."""
    snapshot = BusSnapshot(
        "bus", 1.0, 2.0, ConnectionState.DENIED, accepted=3, errors={"timeout": 1}, latency=LatencyHistogram.of([5])
    )
    data = snapshot.to_dict()
    assert data["connection"] == "denied"
    assert BusSnapshot.from_dict({**data, "new_name": 1}) == snapshot
