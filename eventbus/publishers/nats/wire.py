"""FrameReader: takes whole ack frames out of what a NATS server sends, and leaves everything else as it is. Pure.

A read can carry hundreds of acks. A run of plain acks is recognised by one regular expression and cut up by another,
both in C; anything else (HMSG, error replies, other subscriptions, PING, INFO, -ERR) is framed one by one, so that
nothing is ever taken for an ack that stands inside another message's payload.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from eventbus.ports import AckBatch, Reply
from eventbus.publishers.nats.replies import read_reply

_CONTROL = re.compile(rb"(MSG|HMSG)[ \t]+([^ \t\r\n]+)[ \t]+[^\r\n]*?(\d+)\r\n", re.IGNORECASE)
_MAX_SIZE_DIGITS = 9
_HEADER_SIZE = re.compile(rb"(\d+)[ \t]+\d+\r\n\Z")


@dataclass(slots=True)
class Read:
    """What one feed found. replies: for the ledger. errors: texts of ``-ERR`` lines, as sent. rest: for nats-py."""

    replies: Sequence[Reply] = ()
    errors: list[str] = field(default_factory=list)
    rest: bytes = b""


class _Shape:
    """What plain acks in a row have in common: all but the token and the digits of the sequence.

    A frame's size is part of the shape, and the number of digits follows from it, so a match ends exactly where its
    frame does.
    """

    __slots__ = ("_one", "_run", "_size")

    def __init__(self, inbox: bytes, subscription: bytes, size: bytes, before: bytes, after: bytes) -> None:
        digits = int(size) - len(before) - len(after)
        start = rb"MSG " + re.escape(inbox)
        middle = rb" " + subscription + rb" " + size + rb"\r\n" + re.escape(before)
        sequence = rb"[1-9]\d{%d}" % (digits - 1)
        end = re.escape(after) + rb"\r\n"
        self._run = re.compile(rb"(?:" + start + rb"\d+" + middle + sequence + end + rb")++")
        one = start + rb"(\d+)" + middle + rb"(" + sequence + rb")" + end
        self._one = re.compile(one.decode("latin-1"))  # text, because int() of text is faster than of bytes
        frame = len(b"MSG ") + len(inbox) + 1 + len(subscription) + 1 + len(size) + 2 + int(size) + 2
        self._size = frame  # without the token

    def cut(self, buffer: bytes, position: int) -> tuple[list[tuple[str, str]], int]:
        """Token and sequence of each ack of this shape from ``position`` on, until something else comes; and where.

        One search finds all there are; where their sizes add up to the whole stretch, nothing else is in between.
        Otherwise a second one finds where the first run ends.
        """
        end = buffer.rfind(b"}\r\n") + 3
        found: list[tuple[str, str]] = self._one.findall(buffer[position:end].decode("latin-1"))
        if len(found) * self._size + len("".join([token for token, _ in found])) != end - position:
            run = self._run.match(buffer, position)
            assert run is not None  # the caller has seen the first of them
            end = run.end()
            found = self._one.findall(buffer[position:end].decode("latin-1"))
        return found, end


class FrameReader:
    """Fed with bytes as they come; keeps an incomplete frame until its end arrives.

    inbox: subject prefix of this bus's replies, with the trailing dot; what follows it is the message's token.
    """

    def __init__(self, inbox: str) -> None:
        self._inbox = inbox.encode()
        self._ack = re.compile(
            rb"MSG " + re.escape(self._inbox) + rb"\d+ (\d+) (\d+)\r\n"
            rb'(\{"stream":"([^"\\\r\n]+)",(?:"domain":"[^"\\\r\n]*",)? ?"seq":)'
            rb'([1-9]\d*)((,"duplicate": ?true)?\})\r\n'
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
        position, end = 0, len(buffer)
        while position < end:
            first = self._ack.match(buffer, position)
            if first is not None:
                subscription, size, before, stream, digits, after, duplicate = first.groups()
                if int(size) == len(before) + len(digits) + len(after):
                    shape = self._shape(self._inbox, subscription, size, before, after)
                    found, position = shape.cut(buffer, position)
                    tokens, sequences = zip(*found, strict=True)
                    numbers = list(map(int, tokens))
                    twice = frozenset(numbers) if duplicate else ()
                    replies.append(AckBatch(stream.decode(errors="replace"), numbers, list(map(int, sequences)), twice))
                    continue
            frame_end = self._frame(buffer, position, replies, errors, rest)
            if frame_end < 0:
                break
            position = frame_end
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
