"""What a NATS server's answer means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.errors import ErrorClass, ErrorKind
from eventbus.ports import AckBatch, Failure
from eventbus.publishers.nats.replies import BY_CODE, BY_DESCRIPTION, STORE_FAILED, read_reply, row_of

TRANSIENT, AMBIGUOUS, FATAL = ErrorClass.TRANSIENT, ErrorClass.AMBIGUOUS, ErrorClass.FATAL


def failed(headers: bytes, body: bytes) -> Failure:
    reply = read_reply(9, headers, body)
    assert isinstance(reply, Failure)
    assert reply.tokens == (9,)
    return reply


def refusal(code: object, description: object = "no", **more: object) -> bytes:
    return json.dumps({"error": {"code": 400, "err_code": code, "description": description}, **more}).encode()


@pytest.mark.parametrize(
    ("body", "log", "offset", "duplicate"),
    [
        (b'{"stream":"S","seq":1}', "S", 1, False),
        (b'{"stream":"S", "seq":18}', "S", 18, False),
        (b'{"stream":"S","seq":18446744073709551615}', "S", 2**64 - 1, False),
        (b'{"stream":"S","seq":3,"duplicate": true}', "S", 3, True),
        (b'{"stream":"S","seq":3,"duplicate":false}', "S", 3, False),
        (b'{"stream":"S","domain":"hub","seq":3}', "S", 3, False),
        (b'{"seq":3,"stream":"S"}', "S", 3, False),
        (b'{"stream":"S","seq":3,"error":null}', "S", 3, False),
        (b' {"stream" : "a\\"b", "seq" : 3} ', 'a"b', 3, False),
    ],
)
def test_ack(body: bytes, log: str, offset: int, duplicate: bool):
    """Stored at that position."""
    reply = read_reply(9, b"", body)
    assert reply == AckBatch(log, (9,), (offset,), (9,) if duplicate else ())


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"null",
        b"0",
        b'"ok"',
        b"not json",
        b"{",
        b"\xff\xfe",
        b'{"stream":"S"}',
        b'{"seq":1}',
        b'{"stream":"S","seq":0}',
        b'{"stream":"S","seq":-1}',
        b'{"stream":"S","seq":"1"}',
        b'{"stream":"S","seq":1.0}',
        b'{"stream":"S","seq":true}',
        b'{"stream":5,"seq":1}',
        b'{"error":"no"}',
        b'{"error":[1]}',
        b'{"error":{"err_code":null}}',
        b'{"error":{"err_code":"x"}}',
        b'{"error":{"err_code":1e999}}',
        b'{"error":{"err_code":NaN}}',
        b"[" * 100_000,
    ],
)
def test_answer_that_is_no_ack(body: bytes):
    """It may be stored: AMBIGUOUS, never taken for an ack or a refusal."""
    reply = failed(b"", body)
    assert (reply.error_class, reply.kind) == (AMBIGUOUS, ErrorKind.PROTOCOL)


@pytest.mark.parametrize(
    ("headers", "error_class", "kind"),
    [
        (b"NATS/1.0 503\r\n\r\n", TRANSIENT, ErrorKind.NO_RESPONDERS),
        (b"NATS/1.0 503 No Responders Available For Request\r\n\r\n", TRANSIENT, ErrorKind.NO_RESPONDERS),
        (b"NATS/1.0 429 Too Many Requests\r\n\r\n", TRANSIENT, ErrorKind.OVERLOADED),
        (b"NATS/1.0 100 Idle\r\n\r\n", AMBIGUOUS, ErrorKind.PROTOCOL),
        (b"NATS/1.0\r\na: b\r\n\r\n", AMBIGUOUS, ErrorKind.PROTOCOL),
        (b"", AMBIGUOUS, ErrorKind.PROTOCOL),
        (b"garbage 503", AMBIGUOUS, ErrorKind.PROTOCOL),
    ],
)
def test_answer_without_a_body(headers: bytes, error_class: ErrorClass, kind: ErrorKind):
    """The status decides; without one it may be stored."""
    reply = failed(headers, b"")
    assert (reply.error_class, reply.kind) == (error_class, kind)


@pytest.mark.parametrize(
    ("code", "description", "error_class", "kind"),
    [
        (10167, "too many requests", TRANSIENT, ErrorKind.OVERLOADED),
        (10158, "duplicate message id is in process", TRANSIENT, ErrorKind.UNAVAILABLE),
        (10023, "insufficient resources", TRANSIENT, ErrorKind.OVERLOADED),
        (10063, "", AMBIGUOUS, ErrorKind.UNAVAILABLE),
        (10077, "maximum messages exceeded", TRANSIENT, ErrorKind.STREAM_FULL),
        (10077, "maximum bytes exceeded", TRANSIENT, ErrorKind.STREAM_FULL),
        (10077, "maximum messages per subject exceeded", TRANSIENT, ErrorKind.STREAM_FULL),
        (10077, "message to large", FATAL, ErrorKind.TOO_LARGE),
        (10077, "store is closed", AMBIGUOUS, ErrorKind.UNAVAILABLE),
        (10077, "something new", TRANSIENT, ErrorKind.UNAVAILABLE),
        (10054, "message size exceeds maximum allowed", FATAL, ErrorKind.TOO_LARGE),
        (10097, "", FATAL, ErrorKind.TOO_LARGE),
        (10060, "expected stream does not match", FATAL, ErrorKind.CONFLICT),
        (10070, "wrong last msg ID: x", FATAL, ErrorKind.CONFLICT),
        (10071, "wrong last sequence: 4", FATAL, ErrorKind.CONFLICT),
        (10164, "", FATAL, ErrorKind.CONFLICT),
        (10109, "invalid operation on sealed stream", FATAL, ErrorKind.SEALED),
        (10002, "resource limits exceeded for account", FATAL, ErrorKind.ACCOUNT_LIMIT),
        (10039, "JetStream not enabled for account", FATAL, ErrorKind.ACCOUNT_LIMIT),
        (10076, "JetStream not enabled", FATAL, ErrorKind.ACCOUNT_LIMIT),
        (10111, "", FATAL, ErrorKind.INVALID),
        (99999, "something new", FATAL, ErrorKind.OTHER),
        (0, "", FATAL, ErrorKind.OTHER),
    ],
)
def test_refusal(code: int, description: str, error_class: ErrorClass, kind: ErrorKind):
    """By code and description. Refusals carry ``"seq":0`` as well, which is no position."""
    reply = failed(b"", refusal(code, description, stream="S", seq=0))
    assert (reply.error_class, reply.kind) == (error_class, kind)
    assert reply.text == f"{description} ({code})"


def test_refusal_that_also_has_a_position():
    """What the error says counts."""
    assert isinstance(read_reply(9, b"", refusal(10054, "too big", stream="S", seq=5)), Failure)


def test_full_stream_is_not_hammered():
    """A second at least before another try; a closed store a quarter of one."""
    assert row_of(STORE_FAILED, "maximum messages exceeded").min_delay_s >= 1.0
    assert row_of(STORE_FAILED, "store is closed").min_delay_s > 0


def test_codes_that_leave_doubt():
    """A server that answers with an error has not stored the message, but where replicas had agreed upon it before."""
    assert [code for code, row in BY_CODE.items() if row.error_class is AMBIGUOUS] == [10063]
    assert [words for words, row in BY_DESCRIPTION if row.error_class is AMBIGUOUS] == ["store is closed"]


class Answer(NamedTuple):
    """One line of the file of answers."""

    error_class: str
    kind: str
    body: bytes
    code: int
    description: str


def answers() -> list[Answer]:
    found = []
    for line in Path(__file__).with_name("nats_answers.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            error_class, kind, origin, body = line.split(" ", 3)
            assert origin in ("seen", "made")
            error = json.loads(body)["error"]
            found.append(Answer(error_class, kind, body.encode(), error["err_code"], error["description"]))
    return found


@pytest.mark.parametrize("answer", answers(), ids=lambda a: f"{a.code}-{a.description}")
def test_recorded_answer(answer: Answer):
    """As the server wrote it, with the least pause that its kind asks for."""
    reply = failed(b"", answer.body)
    assert (reply.error_class, reply.kind) == (answer.error_class, answer.kind)
    assert reply.text == f"{answer.description} ({answer.code})"
    assert reply.min_delay_s == MIN_DELAY_S.get(answer.code if answer.code in MIN_DELAY_S else reply.kind, 0.0)


MIN_DELAY_S: dict[int | ErrorKind, float] = {
    10158: 0.0,  # the first copy is about to be stored
    10167: 0.05,
    ErrorKind.OVERLOADED: 0.25,
    ErrorKind.UNAVAILABLE: 0.25,
    ErrorKind.STREAM_FULL: 1.0,
}


def test_every_row_has_a_recorded_answer():
    """No row without bytes of its own, and none of the file without a row."""
    recorded = {answer.code for answer in answers()}
    assert recorded == {*BY_CODE, STORE_FAILED}
    texts = [answer.description for answer in answers() if answer.code == STORE_FAILED]
    unused = {words for words, _ in BY_DESCRIPTION if not any(words in text for text in texts)}
    assert unused == {"message to large"}  # an older server's spelling


def test_every_code_has_the_name_that_the_server_gives_it():
    """Unique, and of the server's form, so that it can be looked up in its sources."""
    names = [row.name for row in BY_CODE.values()]
    assert len(set(names)) == len(names)
    assert all(name.startswith("JS") and name.isalnum() for name in names)


def test_refusal_with_a_status_besides():
    """Some answers carry both, as 429 does: the body is read first."""
    body = refusal(10167, "too many requests", stream="S", seq=0)
    reply = failed(b"NATS/1.0 429 Too Many Requests\r\n\r\n", body)
    assert (reply.error_class, reply.kind) == (TRANSIENT, ErrorKind.OVERLOADED)
    assert reply.text == "too many requests (10167)"


def test_documented_table(root: Path):
    """docs/nats-replies.md has each row as the code has it."""
    text = (root / "docs" / "nats-replies.md").read_text(encoding="utf-8")
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:3] == "| 1"]
    documented = {(int(row[0]), row[1], row[2], row[3]) for row in rows if row[0] != str(STORE_FAILED)}
    assert documented == {(code, row.name, row.error_class.upper(), row.kind) for code, row in BY_CODE.items()}
    several = [(row[2], row[3]) for row in rows if row[0] == str(STORE_FAILED)]
    meant = [(row.error_class.upper(), str(row.kind)) for _, row in BY_DESCRIPTION]
    assert several == meant


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["stream", "seq", "error", "err_code", "description", "duplicate", "x"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)


@settings(max_examples=400, deadline=None)
@given(
    body=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40),
    headers=st.sampled_from([b"", b"NATS/1.0 503\r\n\r\n", b"NATS/1.0", b"NATS/1.0 \r\n\r\n"]) | st.binary(max_size=12),
)
def test_any_answer(body: bytes, headers: bytes):
    """Never raises; an ack always has a stream and a sequence of 1 or more, and comes of no body with an error."""
    reply = read_reply(9, headers, body)
    if isinstance(reply, AckBatch):
        answer = json.loads(body)
        assert answer.get("error") is None
        assert (reply.log, list(reply.offsets)) == (answer["stream"], [answer["seq"]])
        assert reply.offsets[0] >= 1
    else:
        assert reply.tokens == (9,)
