"""What a NATS server's answer to a JetStream publish means: the reply table, as data, and its reader. Pure.

An answer's body is read before its HTTP-like code, which says nothing: error replies carry ``"seq":0`` as well. Codes
are JetStream's ``err_code`` (nats-server, server/errors.json); rows were checked against nats-server 2.15 where a test
names them. Everything that is not in the table and is a refusal is FATAL ``other``: a server that answers has not
stored the message, and what it does not like once it will not like again.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from eventbus.errors import ErrorClass, ErrorKind
from eventbus.ports import AckBatch, Failure, Reply

TRANSIENT, AMBIGUOUS, FATAL = ErrorClass.TRANSIENT, ErrorClass.AMBIGUOUS, ErrorClass.FATAL


class Row(NamedTuple):
    """What one condition means. min_delay_s: the least pause before another try."""

    error_class: ErrorClass
    kind: ErrorKind
    min_delay_s: float = 0.0


NO_RESPONDERS = Row(TRANSIENT, ErrorKind.NO_RESPONDERS, 0.25)
"""Status 503 without a body; the publisher looks up whether there is a stream. 250 ms is ADR-22's convention."""
TOO_MANY_REQUESTS = Row(TRANSIENT, ErrorKind.OVERLOADED, 0.05)
UNREADABLE = Row(AMBIGUOUS, ErrorKind.PROTOCOL)
OTHER = Row(FATAL, ErrorKind.OTHER)

_CONFLICT = Row(FATAL, ErrorKind.CONFLICT)
_INVALID = Row(FATAL, ErrorKind.INVALID)
_BUSY = Row(TRANSIENT, ErrorKind.UNAVAILABLE)
_SHORT = Row(TRANSIENT, ErrorKind.OVERLOADED, 0.25)
_ACCOUNT = Row(FATAL, ErrorKind.ACCOUNT_LIMIT)

BY_CODE: dict[int, Row] = {
    10167: TOO_MANY_REQUESTS,
    10158: _BUSY,  # the same id is being stored at this moment: keep it
    10023: _SHORT,
    10063: _SHORT,
    10163: _SHORT,
    10210: _SHORT,
    10211: _SHORT,
    10054: Row(FATAL, ErrorKind.TOO_LARGE),
    10097: Row(FATAL, ErrorKind.TOO_LARGE),
    10060: _CONFLICT,
    10070: _CONFLICT,
    10071: _CONFLICT,
    10164: _CONFLICT,
    10109: Row(FATAL, ErrorKind.SEALED),
    10002: _ACCOUNT,
    10120: _ACCOUNT,
    10039: _ACCOUNT,
    10076: _ACCOUNT,
    **dict.fromkeys(
        [10111, 10165, 10166, *range(10168, 10173), 10174, 10175, 10177, 10179, 10185, *range(10188, 10194)], _INVALID
    ),
    **dict.fromkeys([*range(10199, 10202), 10203, *range(10205, 10208), 10212, 10223, 10227], _INVALID),
}

STORE_FAILED = 10077
"""One code for several conditions, told apart by the description only."""
BY_DESCRIPTION: tuple[tuple[str, Row], ...] = (
    ("maximum messages", Row(TRANSIENT, ErrorKind.STREAM_FULL, 1.0)),
    ("maximum bytes", Row(TRANSIENT, ErrorKind.STREAM_FULL, 1.0)),
    ("message size exceeds", Row(FATAL, ErrorKind.TOO_LARGE)),
    ("message too large", Row(FATAL, ErrorKind.TOO_LARGE)),
    ("store is closed", Row(TRANSIENT, ErrorKind.UNAVAILABLE, 0.25)),
)


def read_reply(token: int, headers: bytes, body: bytes) -> Reply:
    """The meaning of one answer. headers: the raw header block or b""; body: the payload. Never raises."""
    if not body:
        status = headers[8:12].strip() if headers.startswith(b"NATS/1.0") else b""
        if status == b"503":
            return failure(NO_RESPONDERS, "no stream takes this subject now", token)
        if status == b"429":
            return failure(TOO_MANY_REQUESTS, "too many requests", token)
        return failure(UNREADABLE, "an empty answer", token)
    try:
        answer = json.loads(body)
        error = answer.get("error")
        if error is None:
            stream, sequence = answer["stream"], answer["seq"]
            if not isinstance(stream, str) or type(sequence) is not int or sequence < 1:
                raise ValueError
            return AckBatch(stream, (token,), (sequence,), (token,) if answer.get("duplicate") is True else ())
        code, description = int(error.get("err_code", 0)), str(error.get("description", ""))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return failure(UNREADABLE, f"an answer that is not an ack: {body[:80]!r}", token)
    return failure(row_of(code, description), f"{description} ({code})", token)


def row_of(code: int, description: str) -> Row:
    """The table's row for an ``err_code`` and its description."""
    if code == STORE_FAILED:
        for words, row in BY_DESCRIPTION:
            if words in description:
                return row
        return Row(TRANSIENT, ErrorKind.UNAVAILABLE, 0.25)
    return BY_CODE.get(code, OTHER)


def failure(row: Row, text: str, token: int) -> Failure:
    """A Failure of one message by a row of the table."""
    return Failure(row.error_class, row.kind, text, (token,), min_delay_s=row.min_delay_s)
