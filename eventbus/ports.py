"""Every Protocol that the core needs, and the values that cross it, on one page.

A broker's reply, a refused send, a denied subject and a lost connection all reach the ledger as a ``Reply`` through
``AckSink.replied``: there is no other way back. Adapters implement ``Publisher``; whoever wants to look implements
``Observer``; clock and chance are injected.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from eventbus.errors import ErrorClass, ErrorKind
from eventbus.event import BusEvent
from eventbus.message import Extras, Message
from eventbus.report import AckOutcome, DeliveryReport
from eventbus.snapshot import ConnectionState
from eventbus.topic import TopicConfig


@dataclass(frozen=True, slots=True)
class AckBatch:
    """Messages that one read found acknowledged, in columns: ``offsets[i]`` is where ``tokens[i]`` was stored.

    log: stream or topic. partition: as in Position. duplicates: those of ``tokens`` that the broker had already.
    """

    log: str
    tokens: Sequence[int]
    offsets: Sequence[int]
    duplicates: Collection[int] = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Messages that failed alike.

    tokens: those concerned, or None with ``topic`` for every message of that topic which is in flight, or None
        without one for all that are in flight (a lost connection). text: for people; nothing secret in it.
    min_delay_s: the least time to wait before trying again.
    """

    error_class: ErrorClass
    kind: ErrorKind
    text: str
    tokens: Sequence[int] | None = None
    topic: str | None = None
    min_delay_s: float = 0.0


Reply = AckBatch | Failure


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """How messages of one topic travel; made by ``Publisher.prepare``.

    deduplicates: the broker recognises a message id sent again within ``duplicate_window_s``, so that an ambiguous
        attempt may be repeated. ready: False while the topic is still being prepared; such messages wait.
    covers: subjects and patterns for which this route holds, so that each needs no preparation of its own.
    exact: it holds for the one name that it was prepared for, or for none where that is a pattern; as where every name
        is a topic of its own.
    warnings: what the publisher found about the topic that a person should know, a sentence each; nothing secret.
    timeout_ns: how long the ack of one attempt is awaited; set by Routing.
    """

    topic: TopicConfig
    log: str | None
    deduplicates: bool
    duplicate_window_s: float
    acknowledged: bool = True
    ready: bool = True
    covers: tuple[str, ...] = ()
    exact: bool = False
    timeout_ns: int = 5_000_000_000
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a publisher can promise; the contract suite asks only for what is declared.

    durable: there are acks. deduplicates: see Route. core: takes topics that are not durable.
    reports_position: an ack names where the message was stored. keeps_made_ids: a message is stored with its id also
        where the bus made that.
    """

    system: str
    durable: bool = True
    deduplicates: bool = True
    core: bool = True
    reports_position: bool = True
    keeps_made_ids: bool = True


class Outgoing(Protocol):
    """What a publisher sees of a pending ack: what to send, and the token that the reply must carry."""

    @property
    def token(self) -> int: ...
    @property
    def topic(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def extras(self) -> Extras | None: ...
    @property
    def message_id(self) -> str: ...
    @property
    def route(self) -> Route: ...
    @property
    def accepted_ns(self) -> int: ...


class AckSink(Protocol):
    """The ledger's door, as an adapter sees it. Call it on the event loop's thread only.

    id_prefix: a message id made by the bus is this and the token, in ID_DIGITS digits (message.py).
    """

    @property
    def id_prefix(self) -> str: ...

    def replied(self, replies: Sequence[Reply]) -> None:
        """Settle, or plan a retry of, everything that ``replies`` speak of. Never raises, never waits."""

    def connection_changed(self, state: ConnectionState, reason: str = "", *, in_flight_lost: bool = True) -> None:
        """CONNECTED sends what waits. Anything else holds new sends; messages in flight fail as AMBIGUOUS, or go on
        waiting for their ack where the client underneath repeats them by itself (in_flight_lost=False)."""

    def sending_paused(self, paused: bool) -> None:
        """True: the connection takes no more for now, so new sends are held; what is in flight stays so. False: go on.

        A change of the connection ends it.
        """

    def happened(self, event: BusEvent) -> None:
        """Tell observers and the log."""


class Publisher(Protocol):
    """One broker connection."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def backlog_bytes(self) -> int:
        """Bytes written and not yet taken by the operating system; bounds sends that have no ack."""

    async def open(self, sink: AckSink) -> None:
        """Connect. Raises ConnectFailed or ConfigError; cancellation leaves nothing behind."""

    async def prepare(self, name: str, config: TopicConfig | None) -> Route:
        """See that messages named ``name`` can be stored; may create a stream. Raises TopicError.

        config: as the user gave it, perhaps a pattern; None takes the defaults.
        """

    @property
    def unchecked_bytes(self) -> int:
        """A payload up to this size, without headers, key or id of its own, for a topic that was checked before,
        need not be checked again. May change with the connection."""

    def check(self, message: Message) -> None:
        """Raise InvalidMessage for what this broker would refuse in a way that harms more than the message."""

    def send(self, pending: Outgoing) -> None:
        """Hand it to the connection. Never waits, never raises: what goes wrong becomes a Failure for the sink."""

    def withdraw(self, tokens: Sequence[int]) -> Collection[int]:
        """Take back those of these that were handed over and certainly have not been sent; returns them.

        Asked when their time is up: what is taken back was not stored, what is not is in doubt.
        """

    def send_unacknowledged(self, message: Message) -> bool:
        """Send without asking for an ack; False where it could not be handed over. Never waits, never raises."""

    async def flush(self) -> None:
        """Wait until the broker has taken all that was handed over. Bounded only by cancellation."""

    async def ping(self) -> float:
        """Ask the broker something that it answers at once; how long that took, in seconds.

        Waits for the connection first, where there is none. Bounded only by cancellation, after which the question may
        still be under way: at most one is.
        """

    @property
    def broker(self) -> str:
        """What answers, with its version as far as it tells: "nats-server 2.11.0". Empty before it is known."""

    async def close(self, timeout_s: float) -> None:
        """Free everything within ``timeout_s``; the sink hears nothing more. Never raises."""


class Observer(Protocol):
    """Whoever wants to look. Called on the loop in batches after the fact; what it raises is counted and contained.

    every_outcome: False asks only for reports that are not a plain ack (rejected, unknown, late), which keeps the
        cost per acked message at nothing.
    """

    @property
    def every_outcome(self) -> bool: ...

    def settled(self, reports: Sequence[DeliveryReport]) -> None: ...

    def happened(self, event: BusEvent) -> None: ...


class Ended(Protocol):
    """What a witness sees of a message that has an outcome."""

    @property
    def token(self) -> int: ...
    @property
    def topic(self) -> str: ...
    @property
    def extras(self) -> Extras | None: ...
    @property
    def message_id(self) -> str: ...
    @property
    def accepted_ns(self) -> int: ...
    @property
    def attempts(self) -> int: ...
    @property
    def duplicate(self) -> bool: ...
    @property
    def failure(self) -> Failure | None: ...
    @property
    def place(self) -> tuple[str, int | None] | None: ...
    @property
    def offset(self) -> int: ...


class Witness(Protocol):
    """Sees every outcome, in batches, as they are settled. It must be quick, and never raises: unlike an Observer it is
    a part of AckScope, and gets the messages themselves, not reports, which would have to be made first."""

    def ended(self, outcome: AckOutcome, settled: Sequence[Ended], now_ns: int) -> None:
        """These, at least one, have this outcome now. Do not keep them."""

    def acked_late(self, pending: Ended, now_ns: int) -> None:
        """One that had ended as UNKNOWN was acked after all."""


class Clock(Protocol):
    """Time, injected so that tests need not sleep."""

    def monotonic_ns(self) -> int: ...

    def wall_s(self) -> float: ...


class Random(Protocol):
    """Chance, injected: a number in [0, 1)."""

    def random(self) -> float: ...


class Tally(Protocol):
    """Running totals of a bus; changed by the ledger on the loop's thread, copied into snapshots."""

    accepted: int
    acked: int
    duplicates: int
    late_acks: int
    rejected: int
    unknown: int
    unacknowledged: int
    ack_timeouts: int
    retries: int
    callback_errors: int

    def acked_after(self, latencies_ns: Sequence[int]) -> None:
        """Some acks, each that long after its attempt."""

    def error_seen(self, kind: ErrorKind, count: int = 1) -> None:
        """A failed attempt, whether it will be repeated or not."""
