"""PendingAck: one message awaiting its outcome. Also the receipt that ``publish`` returns.

Who changes it: the ledger (AckHandler and its parts) alone, through ``advance`` and the fields named here. Callers
await it and read it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from eventbus.ack.state import NEXT, SETTLED, AckEvent, AckState, IllegalTransition
from eventbus.message import ID_DIGITS, Extras
from eventbus.ports import Failure, Route
from eventbus.report import AckOutcome, DeliveryReport, Position

if TYPE_CHECKING:
    from asyncio import Future

_OUTCOMES = {
    AckState.ACKED: AckOutcome.ACKED,
    AckState.REJECTED: AckOutcome.REJECTED,
    AckState.UNKNOWN: AckOutcome.UNKNOWN,
}


_QUEUED, _IN_FLIGHT = AckState.QUEUED, AckState.IN_FLIGHT
"""Names of their own: looking a member up in its enum costs 0.09 us on CPython 3.11."""


class Ledger(Protocol):
    """What a pending ack needs of the ledger that holds it."""

    id_prefix: str
    make_future: Callable[[], Future[None]]


class _Notes:
    """What is unusual about a message. Most have none of it, so it is kept apart: a smaller object costs less to make,
    and the garbage collector less to look through."""

    __slots__ = ("doubt", "duplicate", "failure", "waited_ns", "was_late")

    def __init__(self) -> None:
        self.doubt = False
        self.duplicate = False
        self.failure: Failure | None = None
        self.waited_ns = 0
        self.was_late = False


_NOTHING = _Notes()
"""Of a message with nothing unusual; never changed."""


class PendingAck:
    """One accepted message. Await it for its DeliveryReport; any number of tasks may, and at any time.

    Awaiting waits until the message is settled and never raises for a failed delivery. Cancelling an await detaches
    that waiter only: the message stays in the ledger to its end. Awaiting again after a late ack tells the late one.
    A future is made only when somebody awaits before the end.
    """

    __slots__ = (  # no __weakref__: see Spares
        "_ledger",
        "_notes",
        "_waiters",
        "accepted_ns",
        "attempts",
        "extras",
        "first_sent_ns",
        "offset",
        "payload",
        "place",
        "route",
        "sent_ns",
        "settled_ns",
        "size",
        "state",
        "timeout_ns",
        "token",
        "topic",
    )

    first_sent_ns: int  # set by sent(), like sent_ns
    sent_ns: int
    offset: int  # where it was stored, in ``place``: set together
    settled_ns: int  # set when settled

    def __init__(
        self,
        token: int,
        topic: str,
        payload: bytes,
        extras: Extras | None,
        route: Route,
        size: int,
        timeout_ns: int,
        accepted_ns: int,
        ledger: Ledger,
    ) -> None:
        self.token = token
        self.topic = topic
        self.payload = payload
        self.extras = extras
        self.route = route
        self.size = size
        self.timeout_ns = timeout_ns
        self.accepted_ns = accepted_ns
        self._ledger = ledger
        self.state = _QUEUED
        self.attempts = 0
        self.place: tuple[str, int | None] | None = None  # log and partition, once it is acked
        self._notes: _Notes | None = None
        self._waiters: list[Future[None]] | None = None

    def _noted(self) -> _Notes:
        if self._notes is None:
            self._notes = _Notes()
        return self._notes

    @property
    def doubt(self) -> bool:
        """True once an attempt came to an end that leaves it open whether the message was stored."""
        return (self._notes or _NOTHING).doubt

    @doubt.setter
    def doubt(self, value: bool) -> None:
        self._noted().doubt = value

    @property
    def duplicate(self) -> bool:
        """True where the broker had it already."""
        return (self._notes or _NOTHING).duplicate

    @duplicate.setter
    def duplicate(self, value: bool) -> None:
        self._noted().duplicate = value

    @property
    def failure(self) -> Failure | None:
        """How the last attempt failed that did."""
        return (self._notes or _NOTHING).failure

    @failure.setter
    def failure(self, value: Failure | None) -> None:
        self._noted().failure = value

    @property
    def waited_ns(self) -> int:
        """How long its publisher waited for room, before it was accepted."""
        return (self._notes or _NOTHING).waited_ns

    @waited_ns.setter
    def waited_ns(self, value: int) -> None:
        self._noted().waited_ns = value

    @property
    def was_late(self) -> bool:
        """True where its ack came after it was settled as UNKNOWN."""
        return (self._notes or _NOTHING).was_late

    @was_late.setter
    def was_late(self, value: bool) -> None:
        self._noted().was_late = value

    @property
    def key(self) -> str | None:
        """What chooses its partition, if anything."""
        return None if self.extras is None else self.extras[0]

    @property
    def headers(self) -> Mapping[str, str] | None:
        """The caller's headers."""
        return None if self.extras is None else self.extras[1]

    @property
    def own_id(self) -> str | None:
        """The message id that the caller gave."""
        return None if self.extras is None else self.extras[2]

    @property
    def message_id(self) -> str:
        """The id that makes retries safe: the caller's, else one made from the bus and the token."""
        return self.own_id or f"{self._ledger.id_prefix}{self.token:0{ID_DIGITS}d}"

    @property
    def deadline_ns(self) -> int:
        """When the ack of the last attempt is due (monotonic)."""
        return self.sent_ns + self.timeout_ns

    @property
    def settled(self) -> bool:
        """True once there is an outcome."""
        return self.state in SETTLED

    @property
    def report(self) -> DeliveryReport | None:
        """The outcome as known now; None while pending. Never waits."""
        return self._report() if self.state in SETTLED else None

    def advance(self, event: AckEvent) -> None:
        """Move by the transition table; IllegalTransition changes nothing."""
        state = NEXT[event][self.state]
        if state is None:
            raise IllegalTransition(f"{event.name} in state {self.state.name}, token {self.token}")
        self.state = state

    def sent(self, now_ns: int) -> None:
        """An attempt begins."""
        if self.state is _QUEUED:
            self.state = _IN_FLIGHT  # what advance() does for the first attempt, inlined since it is hot
            self.first_sent_ns = now_ns
        else:
            self.advance(AckEvent.SEND)
        self.attempts += 1
        self.sent_ns = now_ns

    def forget_payload(self) -> None:
        """Keep what a report needs, let the payload go."""
        self.payload = b""
        if self.extras is not None:
            key, _, own_id = self.extras
            self.extras = (key, None, own_id)

    def wake(self) -> None:
        """Resolve whoever awaits."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def __await__(self) -> Generator[Any, None, DeliveryReport]:
        if self.state not in SETTLED:
            waiter = self._ledger.make_future()  # one each: cancelling one await must not cancel another's
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            try:
                yield from waiter
            finally:
                if self._waiters is not None and waiter in self._waiters:
                    self._waiters.remove(waiter)
        return self._report()

    def _report(self) -> DeliveryReport:
        place, notes = self.place, self._notes or _NOTHING
        failure = notes.failure
        position = None
        if place is not None and self.offset >= 0:
            position = Position(place[0], self.offset, place[1])
        return DeliveryReport(
            message_id=self.message_id,
            topic=self.topic,
            outcome=_OUTCOMES[self.state],
            duplicate=notes.duplicate,
            late=notes.was_late,
            position=position,
            attempts=self.attempts,
            error_class=None if failure is None else failure.error_class,
            error_kind=None if failure is None else failure.kind,
            error_text=None if failure is None else failure.text,
            queued_s=None if not self.attempts else (self.first_sent_ns - self.accepted_ns + notes.waited_ns) / 1e9,
            ack_latency_s=None if place is None else (self.settled_ns - self.sent_ns) / 1e9,
        )

    def __repr__(self) -> str:
        return f"<PendingAck {self.message_id} {self.topic} {self.state.name.lower()} attempt {self.attempts}>"
