"""Ack frames are taken out of any stream of bytes, however it is cut, and nothing else is touched."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.errors import ErrorClass, ErrorKind
from eventbus.ports import AckBatch, Failure, Reply
from eventbus.publishers.nats.replies import read_reply
from eventbus.publishers.nats.wire import FrameReader, Read, header_block

INBOX = "_INBOX.Ab3.x+y."
"""With characters that mean something in a regular expression."""

Told = tuple[int, object, object, object]


@dataclass
class Found:
    """All that came out of a stream: replies in their order for each message and stream."""

    replies: list[Told] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    rest: bytes = b""

    def add(self, read: Read) -> None:
        for reply in read.replies:
            self.replies += told(reply)
        self.replies.sort(key=_message)
        self.errors += read.errors
        self.rest += read.rest


def told(reply: Reply) -> list[Told]:
    if isinstance(reply, AckBatch):
        pairs = zip(reply.tokens, reply.offsets, strict=True)
        return [(token, reply.log, offset, token in reply.duplicates) for token, offset in pairs]
    assert reply.tokens is not None
    return [(token, reply.error_class, reply.kind, reply.text) for token in reply.tokens]


def _message(reply: Told) -> tuple[int, str]:
    """What may not be told out of order: what concerns one message, which is in one stream."""
    return reply[0], str(reply[1])


def read_slowly(stream: bytes) -> Found:
    """The plain meaning of the NATS protocol: line by line, body by size."""
    found, at = Found(), 0
    while at < len(stream):
        line_end = stream.index(b"\r\n", at) + 2
        words = stream[at:line_end].split()
        verb = words[0].upper()
        end = line_end
        if verb in (b"MSG", b"HMSG"):
            end = line_end + int(words[-1]) + 2
            subject = words[1]
            token = subject[len(INBOX) :] if subject.startswith(INBOX.encode()) else b""
            if token.isdigit():
                headers_end = line_end + (int(words[-2]) if verb == b"HMSG" else 0)
                found.replies += told(
                    read_reply(int(token), stream[line_end:headers_end], stream[headers_end : end - 2])
                )
                at = end
                continue
        elif verb == b"-ERR":
            found.errors.append(stream[at + 4 : line_end].strip().strip(b"'").decode())
        found.rest += stream[at:end]
        at = end
    found.replies.sort(key=_message)
    return found


def msg(subject: str, body: bytes, *, sid: int = 1, reply: str = "", gap: str = " ") -> bytes:
    words = ["MSG", subject, str(sid), *([reply] if reply else []), str(len(body))]
    return gap.join(words).encode() + b"\r\n" + body + b"\r\n"


def hmsg(subject: str, headers: bytes, body: bytes, *, reply: str = "") -> bytes:
    words = ["HMSG", subject, "1", *([reply] if reply else []), str(len(headers)), str(len(headers) + len(body))]
    return " ".join(words).encode() + b"\r\n" + headers + body + b"\r\n"


def ack(token: int, sequence: int = 1, stream: str = "ORDERS", more: str = "", space: str = "") -> bytes:
    return msg(f"{INBOX}{token}", f'{{"stream":"{stream}",{space}"seq":{sequence}{more}}}'.encode())


TOKENS = st.integers(1, 10**6)
ACKS = st.builds(
    ack,
    TOKENS,
    st.integers(1, 12) | st.integers(1, 2**64 - 1),
    st.sampled_from(["ORDERS", "S", "Ünïcode", "x.y(z)*"]),
    st.sampled_from(["", "", "", ',"duplicate":true', ',"duplicate": true', ',"domain":"hub"', ',"duplicate":false']),
    st.sampled_from(["", "", " ", '"domain":"hub",', '"domain":"hub", ', ' "domain":"hub", ']),
)
RUNS = st.builds(lambda first, n: b"".join(ack(first + i, 99 + i) for i in range(n)), TOKENS, st.integers(2, 6))
FAKES = st.sampled_from(
    [
        ack(7),
        b"x" + ack(7, 8),
        ack(7)[:-2],
        b"\r\n" + ack(7) + b"PING\r\n",
        b"-ERR 'not an error'\r\n",
        b"MSG ",
        b"",
        b"\r\n",
        b'{"stream":"S","seq":1}\r\n',
    ]
) | st.binary(max_size=12)
REFUSALS = st.sampled_from(
    [
        {
            "error": {"code": 503, "err_code": 10077, "description": "maximum messages exceeded"},
            "stream": "S",
            "seq": 0,
        },
        {"error": {"code": 400, "err_code": 10071, "description": "wrong last sequence: 4"}},
    ]
).map(lambda answer: json.dumps(answer).encode())
REPLIES = st.one_of(
    st.builds(lambda token, body: msg(f"{INBOX}{token}", body), TOKENS, REFUSALS | FAKES),
    st.builds(
        lambda token, status: hmsg(f"{INBOX}{token}", b"NATS/1.0" + status + b"\r\n\r\n", b""),
        TOKENS,
        st.sampled_from([b" 503", b" 429 Too Many Requests", b" 503 No Responders", b""]),
    ),
    st.builds(
        lambda token, body: hmsg(f"{INBOX}{token}", b"NATS/1.0\r\nA: b\r\n\r\n", body),
        TOKENS,
        REFUSALS | FAKES | st.just(b'{"stream":"S","seq":5}'),
    ),
    st.builds(lambda token, gap: msg(f"{INBOX}{token}", b'{"stream":"S","seq":5}', gap=gap), TOKENS, st.just("  ")),
)
OTHERS = st.one_of(
    st.builds(
        msg,
        st.sampled_from(["orders.created", INBOX + "abc", INBOX, "_INBOX.other.5", "x" + INBOX + "5", INBOX + "5.6"]),
        FAKES,
        sid=st.integers(1, 30),
        reply=st.sampled_from(["", "back.5", "_INBOX.other.7", INBOX + "8"]),
        gap=st.sampled_from([" ", " ", "\t"]),
    ),
    st.builds(
        hmsg,
        st.sampled_from(["orders.created", INBOX + "abc"]),
        st.sampled_from([b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\nMSG: " + INBOX.encode() + b"5 1 2\r\n\r\n"]),
        FAKES,
        reply=st.sampled_from(["", "back.5"]),
    ),
    st.sampled_from(
        [
            b"PING\r\n",
            b"PONG\r\n",
            b"+OK\r\n",
            b'INFO {"server_id":"MSG _INBOX","max_payload":1048576}\r\n',
            b"-ERR 'Permissions Violation for Publish to \"orders\"'\r\n",
            b"-ERR 'Authorization Violation'\r\n",
            b"-ERR 'Stale Connection'\r\n",
            b"ping\r\n",
        ]
    ),
)
FRAMES = st.lists(st.one_of(ACKS, RUNS, REPLIES, OTHERS), max_size=12)


def feed(reader: FrameReader, parts: Sequence[bytes]) -> Found:
    found = Found()
    for part in parts:
        found.add(reader.feed(part))
    return found


def cut(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(c % (len(stream) + 1) for c in cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


@settings(max_examples=600, deadline=None)
@given(frames=FRAMES, cuts=st.lists(st.integers(0, 10**6), max_size=8))
def test_any_stream_cut_anywhere(frames: list[bytes], cuts: list[int]):
    """The same replies, errors and rest, in the same order, as a slow parser finds in the whole."""
    stream = b"".join(frames)
    reader = FrameReader(INBOX)
    assert feed(reader, cut(stream, cuts)) == read_slowly(stream)
    assert reader._partial == b"", "nothing is kept of what is complete"


@settings(max_examples=100, deadline=None)
@given(frames=FRAMES)
def test_any_stream_byte_by_byte(frames: list[bytes]):
    """However slowly it comes."""
    stream = b"".join(frames)
    assert feed(FrameReader(INBOX), [stream[i : i + 1] for i in range(len(stream))]) == read_slowly(stream)


@settings(max_examples=100, deadline=None)
@given(frames=FRAMES, last=st.one_of(ACKS, REPLIES, OTHERS), kept=st.integers(0, 10**6), after=ACKS)
def test_connection_lost_within_a_frame(frames: list[bytes], last: bytes, kept: int, after: bytes):
    """What is incomplete is never told, and after a reset it does not spoil the next connection."""
    whole = b"".join(frames)
    reader = FrameReader(INBOX)
    assert feed(reader, [whole + last[: kept % len(last)]]) == read_slowly(whole)
    reader.reset()
    assert feed(reader, [after]) == read_slowly(after)


def test_hundreds_of_acks_in_one_read():
    """One batch for a run of plain acks: no object per message. Only the digits of the sequence divide it."""
    stream = b"".join(ack(token, 1000 + token) for token in range(1, 501))
    read = FrameReader(INBOX).feed(stream)
    assert len(read.replies) == 1
    (batch,) = read.replies
    assert isinstance(batch, AckBatch)
    assert list(batch.tokens) == list(range(1, 501))
    assert list(batch.offsets) == list(range(1001, 1501))
    assert (batch.log, list(batch.duplicates), read.rest, read.errors) == ("ORDERS", [], b"", [])


def test_both_copies_of_a_message_in_one_read():
    """The first is fresh, the second a duplicate; both are told, in their order."""
    found = feed(FrameReader(INBOX), [ack(5, 9) + ack(5, 9, more=',"duplicate": true')])
    assert found.replies == [(5, "ORDERS", 9, False), (5, "ORDERS", 9, True)]


def test_fake_ack_in_a_payload():
    """What stands inside another message's payload is that message's."""
    frame = msg("orders.created", ack(5) * 3, sid=4)
    found = feed(FrameReader(INBOX), [frame + ack(6)])
    assert found.replies == [(6, "ORDERS", 1, False)]
    assert found.rest == frame


def test_ack_whose_size_is_wrong():
    """The size decides where the frame ends, not what looks like an end."""
    body = b'{"stream":"S","seq":12}'
    longer = b"MSG %b5 1 %d\r\n%b\r\nPING!\r\n" % (INBOX.encode(), len(body) + 7, body)
    found = feed(FrameReader(INBOX), [longer + ack(6)])
    assert [reply[0] for reply in found.replies] == [5, 6]
    assert found.replies[0][1] is ErrorClass.AMBIGUOUS


@pytest.mark.parametrize(
    "body",
    [
        b'{"stream":"\xff","seq":1}',
        b'{"stream":"a\nb","seq":1}',
        b'{"stream":"S","seq":01}',
        b'{"stream":"S","seq":0}',
        b'{"stream":"S","seq":1}}',
    ],
)
def test_answer_that_is_nearly_an_ack(body: bytes):
    """It harms neither the reader nor what comes after it."""
    found = feed(FrameReader(INBOX), [msg(INBOX + "5", body) + ack(6)])
    assert [reply[0] for reply in found.replies] == [5, 6]
    assert found.replies[1] == (6, "ORDERS", 1, False)


def test_control_line_with_an_absurd_size():
    """Nothing is awaited or computed of it: it is for nats-py to refuse."""
    line = b"MSG %b5 1 99999999999999999999\r\n" % INBOX.encode()
    found = feed(FrameReader(INBOX), [line + ack(6)])
    assert found.rest == line
    assert [reply[0] for reply in found.replies] == [6]


def test_no_responders():
    """HMSG with a status and no body."""
    (reply,) = FrameReader(INBOX).feed(hmsg(INBOX + "5", b"NATS/1.0 503\r\n\r\n", b"")).replies
    assert isinstance(reply, Failure)
    assert (reply.tokens, reply.kind) == ((5,), ErrorKind.NO_RESPONDERS)


def test_errors_are_told_and_passed_on():
    """The ledger needs them to tie a denied publish to its messages; nats-py needs them as well."""
    line = b"-ERR 'Permissions Violation for Publish to \"orders\"'\r\n"
    read = FrameReader(INBOX).feed(line)
    assert read.errors == ['Permissions Violation for Publish to "orders"']
    assert read.rest == line


@pytest.mark.parametrize(
    ("message_id", "headers", "block"),
    [
        ("id-1", None, b"NATS/1.0\r\nNats-Msg-Id: id-1\r\n\r\n"),
        ("id-1", {"A": "b", "C": "ü"}, "NATS/1.0\r\nNats-Msg-Id: id-1\r\nA: b\r\nC: ü\r\n\r\n".encode()),
        (None, {"A": ""}, b"NATS/1.0\r\nA: \r\n\r\n"),
        (None, None, b"NATS/1.0\r\n\r\n"),
    ],
)
def test_header_block(message_id: str | None, headers: dict[str, str] | None, block: bytes):
    """Version line, id, the caller's headers, empty line."""
    assert header_block(message_id, headers) == block
