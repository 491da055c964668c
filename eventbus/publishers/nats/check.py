"""What of a message would close the connection, or be stored where nobody asked for it: told before anything is sent.

Pure. nats-py 2.16 checks none of it, and the server answers to a bad frame by ending the connection, to the harm of
everything in flight.
"""

from __future__ import annotations

import re

from eventbus.errors import InvalidMessage
from eventbus.message import Message

ID_HEADER_BYTES = 64
"""Room for the version line and a message id made by the bus, when a size is checked."""
_MAX_SUBJECT_BYTES = 3900
"""A control line above 4,096 bytes makes the server close the connection; the rest of it needs the difference."""
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def check_subject(topic: str) -> None:
    """Raise InvalidMessage for what is not one NATS subject of at most 3,900 bytes."""
    if len(topic.encode(errors="surrogatepass")) > _MAX_SUBJECT_BYTES:
        raise InvalidMessage(f"topic {topic[:40]!r}… is longer than {_MAX_SUBJECT_BYTES} bytes")
    if "*" in topic or ">" in topic:
        raise InvalidMessage(f"topic {topic!r} has a wildcard; publish to one subject, without '*' and '>'")
    if any(c.isspace() or c < " " for c in topic) or "" in topic.split("."):
        raise InvalidMessage(f"topic {topic!r}: a NATS subject is words between dots, as 'orders.created', no spaces")
    try:
        topic.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"topic {topic!r} is not valid Unicode") from error


def check_size(message: Message, max_payload: int) -> None:
    """Raise InvalidMessage for headers that NATS cannot carry, and for more than ``max_payload`` bytes with them."""
    _, payload, _, headers, own_id = message
    size = len(payload) + ID_HEADER_BYTES
    if headers is not None or own_id is not None:
        size += _header_bytes(message)
    if size > max_payload:
        raise InvalidMessage(
            f"message for {message.topic!r} has {len(message.payload)} bytes of payload and {size} with headers; "
            f"the server takes {max_payload}: send less, or raise max_payload at the server"
        )


def _header_bytes(message: Message) -> int:
    """Bytes that the caller's headers and id need. Raises InvalidMessage."""
    size = 0
    values = dict(message.headers or {})
    if message.message_id is not None:
        if any(name.lower() == "nats-msg-id" for name in values):
            raise InvalidMessage("give the message id as message_id or as the header Nats-Msg-Id, not both")
        values["Nats-Msg-Id"] = message.message_id
    for name, value in values.items():
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidMessage(f"header name {name!r}: use letters, digits and - _ . only, as in 'Trace-Id'")
        if "\r" in value or "\n" in value or "\0" in value:
            raise InvalidMessage(f"the value of header {name!r} has a line break or NUL: no NATS header can carry it")
        try:
            size += len(name) + len(value.encode()) + 4
        except UnicodeEncodeError as error:
            raise InvalidMessage(f"the value of header {name!r} is not valid Unicode") from error
    return size
