"""Message: what a caller publishes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from eventbus.errors import InvalidMessage

Extras = tuple[str | None, Mapping[str, str] | None, str | None]
"""Of a message with any of them: key, headers, message id of its own. The usual message has None instead, and the
ledger holds its topic and payload without an object around them, which costs less to make and to collect."""


ID_DIGITS = 15
"""Of the number in a message id that a bus makes: enough for 158 years of 200,000 messages a second."""


class _Fields(NamedTuple):
    topic: str
    payload: bytes
    key: str | None
    headers: Mapping[str, str] | None
    message_id: str | None


class Message(_Fields):
    """One event to publish: immutable, checked on construction for what no broker would take.

    A named tuple and not a dataclass because one is made for every publish, and a frozen dataclass costs about
    four times as much to make (0.9 against 0.25 us, CPython 3.11).

    topic: the logical topic, on NATS the subject. Not empty.
    payload: the bytes to store; ``bytearray`` and ``memoryview`` are copied.
    key: chooses the partition on Kafka; not used by NATS.
    headers: str to str; copied, so the caller's mapping is never written to.
    message_id: makes retries safe; None lets the bus make one.

    Raises InvalidMessage. Limits that depend on the broker are checked by ``publish``.
    """

    __slots__ = ()

    @property
    def extras(self) -> Extras | None:
        """Key, headers and message id, or None where there is none of them."""
        _, _, key, headers, message_id = self
        return None if key is None and headers is None and message_id is None else (key, headers, message_id)

    def __new__(
        cls,
        topic: str,
        payload: bytes | bytearray | memoryview = b"",
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        message_id: str | None = None,
    ) -> Message:
        """Check and make one; see the class."""
        if type(topic) is not str or not topic:
            raise InvalidMessage(f"topic is {topic!r}; it must be a non-empty str")
        if type(payload) is not bytes:
            if not isinstance(payload, (bytes, bytearray, memoryview)):
                raise InvalidMessage(
                    f"payload of a message for {topic!r} is {type(payload).__name__}; it must be bytes: encode it first"
                )
            payload = bytes(payload)
        if key is not None and not isinstance(key, str):
            raise InvalidMessage(f"key of a message for {topic!r} is {type(key).__name__}; it must be str or None")
        if headers is not None:
            headers = _checked_headers(topic, headers)
        if message_id is not None and (not isinstance(message_id, str) or not message_id):
            raise InvalidMessage(f"message_id of a message for {topic!r} is {message_id!r}; it must be a non-empty str")
        return tuple.__new__(cls, (topic, payload, key, headers, message_id))


def _checked_headers(topic: str, headers: Mapping[str, str]) -> dict[str, str] | None:
    if not isinstance(headers, Mapping):
        raise InvalidMessage(f"headers of a message for {topic!r} are {type(headers).__name__}; use a mapping of str")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidMessage(
                f"header {name!r} of a message for {topic!r} has the value {value!r}; names and values must be str"
            )
    return dict(headers) or None
