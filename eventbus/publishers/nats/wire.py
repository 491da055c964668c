"""FrameReader: takes whole ack frames out of what a NATS server sends, and leaves everything else as it is. Pure.

A read can carry hundreds of acks. Where all of them have the same shape, they are checked and cut up in one go, in C;
where not, plain acks are matched one by one. Anything else (HMSG, error replies, other subscriptions, PING, INFO, -ERR)
is framed by its size, so that nothing is ever taken for an ack that stands inside another message's payload.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct

from eventbus.ports import AckBatch, Reply
from eventbus.publishers.nats.replies import read_reply

_CONTROL = re.compile(rb"(MSG|HMSG)[ \t]+([^ \t\r\n]+)[ \t]+[^\r\n]*?(\d+)\r\n", re.IGNORECASE)
_MAX_SIZE_DIGITS = 9
_AT_ONCE = 64
"""Acks that are unpacked into one tuple: a tuple each would give the garbage collector more to do."""
_FEW_BYTES = 500
"""About five acks: so few are matched one by one sooner than compared with their shape."""
_ZEROED = bytes.maketrans(b"123456789", b"000000000")
_HEADER_SIZE = re.compile(rb"(\d+)[ \t]+\d+\r\n\Z")


@dataclass(slots=True)
class Read:
    """What one feed found. replies: for the ledger. errors: texts of ``-ERR`` lines, as sent. rest: for nats-py."""

    replies: Sequence[Reply] = ()
    errors: list[str] = field(default_factory=list)
    rest: bytes = b""


class _Shape:
    """Acks in a row that differ in nothing but the digits of token and sequence, and so all have the same size.

    start: from the frame's begin to the token. middle: from there to the sequence. end: what follows it.
    A connection's acks come like that for as long as neither number gets a digit more.
    """

    __slots__ = ("_least_sequence", "_many", "_middle", "_one", "_size", "_start", "_zeroed")

    def __init__(self, start: bytes, token_digits: int, middle: bytes, sequence_digits: int, end: bytes) -> None:
        self._start, self._middle = start, middle
        frame = b"%b%b%b%b%b" % (start, b"0" * token_digits, middle, b"0" * sequence_digits, end)
        self._zeroed = frame.translate(_ZEROED)
        self._size = len(frame)
        numbers = f"{len(start)}x{token_digits}s{len(middle)}x{sequence_digits}s{len(end)}x"
        self._one, self._many = Struct(numbers), Struct(numbers * _AT_ONCE)
        self._least_sequence = 10 ** (sequence_digits - 1)

    def cut(self, buffer: bytes, position: int) -> tuple[list[int], list[int], int] | None:
        """Tokens and sequences of all whole frames from ``position`` to the end, and where that is; None if not all
        are of this shape.

        Everything but digits is compared in one go; the digits that stand in ``start`` and ``middle``, by finding
        these as often as there are frames.
        """
        count = (len(buffer) - position) // self._size
        end = position + count * self._size
        run = buffer[position:end]
        if (
            run.translate(_ZEROED) != self._zeroed * count
            or run.count(self._start) != count
            or run.count(self._middle) != count
        ):
            return None
        numbers: list[bytes] = []
        rest = count % _AT_ONCE * self._size
        for some in self._many.iter_unpack(run[: len(run) - rest]):
            numbers += some
        for both in self._one.iter_unpack(run[len(run) - rest :]):
            numbers += both
        offsets = list(map(int, numbers[1::2]))
        return None if min(offsets) < self._least_sequence else (list(map(int, numbers[::2])), offsets, end)


class _MixedAcks:
    """Acks of several shapes in a row, gathered into one batch for each stream."""

    def __init__(self) -> None:
        self._by_stream: dict[bytes, tuple[list[int], list[int]]] = {}

    def add(self, stream: bytes, token: int, sequence: int) -> None:
        tokens, offsets = self._by_stream.setdefault(stream, ([], []))
        tokens.append(token)
        offsets.append(sequence)

    def take(self) -> list[AckBatch]:
        """All that was added, which is forgotten."""
        by_stream, self._by_stream = self._by_stream, {}
        return [_batch(stream, *columns, False) for stream, columns in by_stream.items()]


def _batch(stream: bytes, tokens: list[int], offsets: list[int], duplicate: bool) -> AckBatch:
    return AckBatch(stream.decode(errors="replace"), tokens, offsets, frozenset(tokens) if duplicate else ())


class FrameReader:
    """Fed with bytes as they come; keeps an incomplete frame until its end arrives.

    inbox: subject prefix of this bus's replies, with the trailing dot; what follows it is the message's token.
    """

    def __init__(self, inbox: str) -> None:
        self._inbox = inbox.encode()
        self._ack = re.compile(
            rb"(MSG " + re.escape(self._inbox) + rb")(\d+)( \d+ (\d+)\r\n)"
            rb'(\{"stream":"([^"\\\r\n]+)",(?:"domain":"[^"\\\r\n]*",)? ?"seq":)'
            rb'([1-9]\d*)((,"duplicate": ?true)?\}\r\n)'
        )
        self._partial = b""
        self._shape = lru_cache(maxsize=64)(_Shape)

    def reset(self) -> None:
        """A new connection begins at a frame's start."""
        self._partial = b""

    def feed(self, data: bytes) -> Read:
        """Everything complete in what came so far."""
        buffer = self._partial + data if self._partial else data
        replies: list[Reply] = []
        errors: list[str] = []
        rest: list[bytes] = []
        mixed = _MixedAcks()
        position, end = 0, len(buffer)
        alike = end > _FEW_BYTES  # all acks of this read, for all that is known
        while position < end:
            ack = self._ack.match(buffer, position)
            if ack is not None:
                start, token, control, size, before, stream, sequence, after, duplicate = ack.groups()
                if int(size) == len(before) + len(sequence) + len(after) - 2:
                    cut = alike and self._shape(start, len(token), control + before, len(sequence), after).cut(
                        buffer, position
                    )
                    if cut:
                        tokens, offsets, position = cut
                        replies.append(_batch(stream, tokens, offsets, duplicate is not None))
                    else:
                        alike = False
                        position = ack.end()
                        if duplicate:  # perhaps of one gathered just now
                            replies += [*mixed.take(), _batch(stream, [int(token)], [int(sequence)], True)]
                        else:
                            mixed.add(stream, int(token), int(sequence))
                    continue
            replies += mixed.take()
            frame_end = self._frame(buffer, position, replies, errors, rest)
            if frame_end < 0:
                break
            position = frame_end
        replies += mixed.take()
        self._partial = buffer[position:]
        return Read(replies, errors, b"".join(rest))

    def _frame(self, buffer: bytes, position: int, replies: list[Reply], errors: list[str], rest: list[bytes]) -> int:
        """Sort one frame that is not a plain ack. Returns its end, or -1 where it is not complete."""
        line_end = buffer.find(b"\n", position)
        if line_end < 0:
            return -1
        line_end += 1
        control = _CONTROL.match(buffer, position, line_end)
        if control is None or len(control[3]) > _MAX_SIZE_DIGITS:  # an absurd size is for nats-py to refuse
            line = buffer[position:line_end]
            if line[:4].upper() == b"-ERR":
                errors.append(line[4:].strip().strip(b"'").decode(errors="replace"))
            rest.append(line)
            return line_end
        body_end = line_end + int(control[3])
        if len(buffer) < body_end + 2:
            return -1
        token = control[2][len(self._inbox) :]
        if control[2].startswith(self._inbox) and token.isdigit():
            headers_end = line_end
            if control[1].upper() == b"HMSG":
                size = _HEADER_SIZE.search(buffer[position:line_end])
                headers_end += int(size[1]) if size is not None else 0
            replies.append(read_reply(int(token), buffer[line_end:headers_end], buffer[headers_end:body_end]))
        else:
            rest.append(buffer[position : body_end + 2])
        return body_end + 2


HEADER_LINE = b"NATS/1.0\r\n"
ID_BLOCK_BYTES = len(HEADER_LINE + b"Nats-Msg-Id: \r\n\r\n")
"""Size of a header block with nothing but a message id, less the id."""


def header_block(message_id: str | None, headers: Mapping[str, str] | None) -> bytes:
    """The header block of a publish: version line, message id, the caller's headers, empty line."""
    lines = [HEADER_LINE]
    if message_id is not None:
        lines.append(b"Nats-Msg-Id: %b\r\n" % message_id.encode())
    lines += [b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in (headers or {}).items()]
    lines.append(b"\r\n")
    return b"".join(lines)
