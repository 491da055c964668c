"""Every exception of AckScope, and the words by which failures are sorted.

    EventBusError
    ├── ConfigError (ValueError)        a setting, URL or file that cannot be used
    ├── ConnectFailed                   no broker could be reached, or it refused us
    ├── TopicError                      a topic cannot be set up as asked
    ├── InvalidMessage (ValueError)     a message that no broker would take; nothing was sent
    ├── WindowFull                      publish_nowait found no room
    ├── StallTimeout (TimeoutError)     publish waited for room for longer than allowed
    ├── FlushTimeout (TimeoutError)     messages were still pending when flush gave up waiting
    ├── PingTimeout (TimeoutError)      the broker did not answer in time
    ├── BusClosed                       publish or ping after close
    └── DeliveryFailed                  raised only by DeliveryReport.raise_for_outcome()
        ├── PublishRejected             certainly not stored
        └── PublishUnknown              sent, and no definite answer came

A failed delivery is never raised by ``publish`` or by awaiting a receipt: it is told by the report.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventbus.report import DeliveryReport


class ErrorClass(StrEnum):
    """What a failure means for the message. Set by an adapter's reply table and nowhere else."""

    TRANSIENT = "transient"
    """Certainly not stored; trying again can help."""
    AMBIGUOUS = "ambiguous"
    """May be stored."""
    FATAL = "fatal"
    """Trying again cannot help."""


class ErrorKind(StrEnum):
    """What went wrong, in words that do not depend on the broker. Used as a metric label: a closed set."""

    TIMEOUT = "timeout"
    """No reply before the ack deadline."""
    DISCONNECTED = "disconnected"
    """The connection was lost while the message was on its way, or was absent until the message expired."""
    CLOSED = "closed"
    """The bus was closed before an answer came."""
    EXPIRED = "expired"
    """Never sent, because its topic was not ready before the message's lifetime ended."""
    NO_RESPONDERS = "no_responders"
    """Nobody takes this subject now: no stream, or an election is going on."""
    NO_STREAM = "no_stream"
    """There is no stream or topic of that name and creating one is not allowed."""
    PERMISSION = "permission"
    """The broker does not allow this publisher here."""
    STREAM_FULL = "stream_full"
    """The stream reached a limit and discards new messages."""
    TOO_LARGE = "too_large"
    """The message is larger than the broker or the stream takes."""
    INVALID = "invalid"
    """The broker (or the check before sending) found the message malformed."""
    OVERLOADED = "overloaded"
    """The broker is short of a resource or has too many requests."""
    CONFLICT = "conflict"
    """An expected last id or sequence did not match."""
    SEALED = "sealed"
    """The stream takes no more messages by its configuration."""
    ACCOUNT_LIMIT = "account_limit"
    """A limit of the account is reached, or JetStream is not enabled for it."""
    UNAVAILABLE = "unavailable"
    """The broker could not serve the request now."""
    NOT_ENOUGH_REPLICAS = "not_enough_replicas"
    """Fewer replicas are in sync than the topic asks for."""
    OUT_OF_SEQUENCE = "out_of_sequence"
    """The broker has lost count of this producer's messages; it is replaced by another."""
    FENCED = "fenced"
    """A newer producer has this one's identity."""
    PROTOCOL = "protocol"
    """An answer that could not be understood."""
    UNACKNOWLEDGED = "unacknowledged"
    """Sent in a way that has no acknowledgement: nothing can be said."""
    OTHER = "other"
    """A refusal that no row of the reply table names."""


class EventBusError(Exception):
    """Base of everything that AckScope raises."""


class ConfigError(EventBusError, ValueError):
    """A setting, URL or file that cannot be used. The text says what was given, what is allowed, what to do."""


class ConnectFailed(EventBusError):
    """No broker could be reached within the connect timeout, or it refused this client."""


class TopicError(EventBusError):
    """A topic cannot be set up as asked: it does not exist and may not be created, or differs from its config."""

    def __init__(self, text: str, *, error_class: ErrorClass, kind: ErrorKind) -> None:
        super().__init__(text)
        self.error_class = error_class
        self.kind = kind


class InvalidMessage(EventBusError, ValueError):
    """A message that cannot be sent as it is. Nothing was accepted."""


class WindowFull(EventBusError):
    """``publish_nowait`` found no room. Nothing was accepted; ``publish`` would have waited."""


class StallTimeout(EventBusError, TimeoutError):
    """``publish`` waited ``stall_timeout_s`` for room in vain. Nothing was accepted."""


class FlushTimeout(EventBusError, TimeoutError):
    """Messages were still pending when ``flush`` gave up waiting. They stay in the ledger."""


class PingTimeout(EventBusError, TimeoutError):
    """The broker did not answer a ping in time, or there is no connection to it. Nothing else is said by that."""


class BusClosed(EventBusError):
    """The bus is closing or closed and takes no more messages. Nothing was accepted."""


class DeliveryFailed(EventBusError):
    """A delivery that was not acknowledged, as an exception; ``report`` tells all."""

    def __init__(self, report: DeliveryReport) -> None:
        super().__init__(str(report))
        self.report = report


class PublishRejected(DeliveryFailed):
    """Certainly not stored."""


class PublishUnknown(DeliveryFailed):
    """Sent, and no definite answer came: it may be stored."""
