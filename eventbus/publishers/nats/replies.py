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
    """What one condition means. min_delay_s: the least pause before another try; name: the server's, for its codes."""

    error_class: ErrorClass
    kind: ErrorKind
    min_delay_s: float = 0.0
    name: str = ""


NO_RESPONDERS = Row(TRANSIENT, ErrorKind.NO_RESPONDERS, 0.25)
"""Status 503 without a body; the publisher looks up whether there is a stream. 250 ms is ADR-22's convention."""
TOO_MANY_REQUESTS = Row(TRANSIENT, ErrorKind.OVERLOADED, 0.05, "JSStreamTooManyRequests")
UNREADABLE = Row(AMBIGUOUS, ErrorKind.PROTOCOL)
OTHER = Row(FATAL, ErrorKind.OTHER)

_CONFLICT = Row(FATAL, ErrorKind.CONFLICT)
_INVALID = Row(FATAL, ErrorKind.INVALID)
_TOO_LARGE = Row(FATAL, ErrorKind.TOO_LARGE)
_BUSY = Row(TRANSIENT, ErrorKind.UNAVAILABLE)
_IN_DOUBT = Row(AMBIGUOUS, ErrorKind.UNAVAILABLE, 0.25)
_SHORT = Row(TRANSIENT, ErrorKind.OVERLOADED, 0.25)
_ACCOUNT = Row(FATAL, ErrorKind.ACCOUNT_LIMIT)

_CODES: tuple[tuple[int, Row, str], ...] = (
    # Not now.
    (10167, TOO_MANY_REQUESTS, "JSStreamTooManyRequests"),  # comes with status 429 and a body
    (10158, _BUSY, "JSStreamDuplicateMessageConflict"),  # the same id is being stored at this moment: keep it
    (10023, _SHORT, "JSInsufficientResourcesErr"),
    (10163, _SHORT, "JSStreamExpectedLastSeqPerSubjectNotReady"),  # not sent since February 2025
    (10210, _SHORT, "JSAtomicPublishTooManyInflight"),
    (10211, _SHORT, "JSBatchPublishTooManyInflight"),
    # A replica out of step with its group: the message is agreed upon already, and after this answer the server
    # tries once more to store it (server/jetstream_cluster.go), so it can be stored all the same.
    (10063, _IN_DOUBT, "JSStreamSequenceNotMatchErr"),
    # Too large for the stream.
    (10054, _TOO_LARGE, "JSStreamMessageExceedsMaximumErr"),
    (10097, _TOO_LARGE, "JSStreamHeaderExceedsMaximumErr"),
    # What the message expects of the stream does not hold.
    (10060, _CONFLICT, "JSStreamNotMatchErr"),
    (10070, _CONFLICT, "JSStreamWrongLastMsgIDErrF"),
    (10071, _CONFLICT, "JSStreamWrongLastSequenceErrF"),
    (10164, _CONFLICT, "JSStreamWrongLastSequenceConstantErr"),
    # What the stream or the account does not take.
    (10109, Row(FATAL, ErrorKind.SEALED), "JSStreamSealedErr"),
    (10002, _ACCOUNT, "JSAccountResourcesExceededErr"),
    (10120, _ACCOUNT, "JSNoLimitsErr"),
    (10039, _ACCOUNT, "JSNotEnabledForAccountErr"),
    (10076, _ACCOUNT, "JSNotEnabledErr"),
    (10111, _INVALID, "JSStreamRollupFailedF"),
    (10165, _INVALID, "JSMessageTTLInvalidErr"),
    (10166, _INVALID, "JSMessageTTLDisabledErr"),
    (10168, _INVALID, "JSMessageIncrDisabledErr"),
    (10169, _INVALID, "JSMessageIncrMissingErr"),
    (10170, _INVALID, "JSMessageIncrPayloadErr"),
    (10171, _INVALID, "JSMessageIncrInvalidErr"),
    (10172, _INVALID, "JSMessageCounterBrokenErr"),
    (10185, _INVALID, "JSRequiredApiLevelErr"),
    (10188, _INVALID, "JSMessageSchedulesDisabledErr"),
    (10189, _INVALID, "JSMessageSchedulesPatternInvalidErr"),
    (10190, _INVALID, "JSMessageSchedulesTargetInvalidErr"),
    (10191, _INVALID, "JSMessageSchedulesTTLInvalidErr"),
    (10192, _INVALID, "JSMessageSchedulesRollupInvalidErr"),
    (10193, _INVALID, "JSStreamExpectedLastSeqPerSubjectInvalid"),
    (10203, _INVALID, "JSMessageSchedulesSourceInvalidErr"),
    (10212, _INVALID, "JSMessageSchedulesSchedulerInvalidErr"),
    (10223, _INVALID, "JSMessageSchedulesTimeZoneInvalidErr"),
    (10227, _INVALID, "JSMessageSourceHdrNotAllowedErr"),
    # Batches. A bus sends none, but an application's headers can make a message part of one; alone, it never fits.
    (10174, _INVALID, "JSAtomicPublishDisabledErr"),
    (10175, _INVALID, "JSAtomicPublishMissingSeqErr"),
    (10176, _INVALID, "JSAtomicPublishIncompleteBatchErr"),  # a batch would be sent again whole, under a new id
    (10177, _INVALID, "JSAtomicPublishUnsupportedHeaderBatchErr"),
    (10179, _INVALID, "JSAtomicPublishInvalidBatchIDErr"),
    (10199, _INVALID, "JSAtomicPublishTooLargeBatchErrF"),
    (10200, _INVALID, "JSAtomicPublishInvalidBatchCommitErr"),
    (10201, _INVALID, "JSAtomicPublishContainsDuplicateMessageErr"),
    (10205, _INVALID, "JSBatchPublishDisabledErr"),
    (10206, _INVALID, "JSBatchPublishInvalidPatternErr"),
    (10207, _INVALID, "JSBatchPublishInvalidBatchIDErr"),
    (10208, _INVALID, "JSBatchPublishUnknownBatchIDErr"),  # a batch would be opened anew after its last ack
)
BY_CODE: dict[int, Row] = {code: Row(row.error_class, row.kind, row.min_delay_s, name) for code, row, name in _CODES}

STORE_FAILED = 10077
"""JSStreamStoreFailedF: one code for several conditions, told apart by the description only."""
BY_DESCRIPTION: tuple[tuple[str, Row], ...] = (
    ("maximum messages", Row(TRANSIENT, ErrorKind.STREAM_FULL, 1.0)),  # also "maximum messages per subject"
    ("maximum bytes", Row(TRANSIENT, ErrorKind.STREAM_FULL, 1.0)),
    ("message too large", _TOO_LARGE),
    ("message to large", _TOO_LARGE),  # as older servers spell it (until May 2025)
    # With replicas this comes after the group has agreed upon the message, and only the one that answers is closed.
    ("store is closed", _IN_DOUBT),
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
