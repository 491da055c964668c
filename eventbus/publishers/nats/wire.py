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
_HEADER_SIZE = re.compile(rb"(\d+)[ \t]+\d+\r\n\Z")


@dataclass(slots=True)
class Read:
    """What one feed found. replies: for the ledger. errors: texts of ``-ERR`` lines, as sent. rest: for nats-py."""

    replies: Sequence[Reply] = ()
    errors: list[str] = field(default_factory=list)
    rest: bytes = b""


class FrameReader:
    """Fed with bytes as they come; keeps an incomplete frame until its end arrives.

    inbox: subject prefix of this bus's replies, with the trailing dot; what follows it is the message's token.
    """

    def __init__(self, inbox: str) -> None:
        self._inbox = inbox.encode()
        self._head = re.compile(rb"MSG " + re.escape(self._inbox) + rb"\d+ \d+ (\d+)\r\n")
        self._partial = b""
        self._patterns = lru_cache(maxsize=256)(self._compile)

    def reset(self) -> None:
        """A new connection begins at a frame's start."""
        self._partial = b""

    def _compile(self, size: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
        """Patterns for plain acks with a body of exactly ``size`` bytes: a run of them, and one.

        The look-ahead makes sure that the body ends where the frame says: it has no CR before.
        """
        one = (
            rb"MSG " + re.escape(self._inbox) + rb"(\d+) \d+ " + size + rb"\r\n(?=[^\r]{" + size + rb"}\r\n)"
            rb'\{"stream":"([^"\\\r]+)",(?:"domain":"[^"\\\r]*",)? ?"seq":([1-9]\d*)(,"duplicate": ?true)?\}\r\n'
        )
        return re.compile(rb"(?:" + one.replace(rb"(\d+)", rb"\d+") + rb")++"), re.compile(one)

    def feed(self, data: bytes) -> Read:
        """Everything complete in what came so far."""
        buffer = self._partial + data if self._partial else data
        replies: list[Reply] = []
        errors: list[str] = []
        rest: list[bytes] = []
        position, end = 0, len(buffer)
        while position < end:
            head = self._head.match(buffer, position)
            if head is not None:
                run, one = self._patterns(head[1])
                acks = run.match(buffer, position)
                if acks is not None:
                    replies += _batches(one.findall(buffer, position, acks.end()))
                    position = acks.end()
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
        if control is None:
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


def _batches(found: list[tuple[bytes, bytes, bytes, bytes]]) -> list[AckBatch]:
    """Acks of one run as columns; one batch for each stretch with the same stream."""
    batches = []
    while found:
        stream = found[0][1]
        same = next((i for i, ack in enumerate(found) if ack[1] != stream), len(found))
        tokens, _, sequences, duplicates = zip(*found[:same], strict=True)
        numbers = list(map(int, tokens))
        twice = [n for n, duplicate in zip(numbers, duplicates, strict=True) if duplicate] if any(duplicates) else ()
        batches.append(AckBatch(stream.decode(), numbers, list(map(int, sequences)), frozenset(twice)))
        found = found[same:]
    return batches


HEADER_LINE = b"NATS/1.0\r\n"


def header_block(message_id: str | None, headers: Mapping[str, str] | None) -> bytes:
    """The header block of a publish: version line, message id, the caller's headers, empty line."""
    lines = [HEADER_LINE]
    if message_id is not None:
        lines.append(b"Nats-Msg-Id: %b\r\n" % message_id.encode())
    lines += [b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in (headers or {}).items()]
    lines.append(b"\r\n")
    return b"".join(lines)
