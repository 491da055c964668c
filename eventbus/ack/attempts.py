"""Attempts: when each attempt to send a message begins, and what follows when one fails.

Invariants, at every instant between two calls
- ``schedule`` holds every message that waits for its next attempt (until then) and every held one (until the end of its
  lifetime); what is in flight is in neither.
- ``held`` is a part of that: no connection, or the topic is being prepared.
- An attempt begins only with a connection and a ready route, and before the time that the retry policy allows.

Settles nothing: whatever gets no further attempt is handed to ``settle``, the ledger's one door. A part of the ledger:
only AckHandler calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from eventbus.ack.pending import PendingAck
from eventbus.ack.refusals import TopicRefusals
from eventbus.ack.retry import Attempt, RetryAt, RetryPolicy
from eventbus.ack.schedule import WakeSchedule
from eventbus.ack.state import AckEvent, AckState
from eventbus.ack.window import InFlightWindow
from eventbus.errors import ErrorClass, ErrorKind
from eventbus.ports import Failure, Publisher, Random, Route, Tally
from eventbus.report import AckOutcome


class Attempts:
    """sending: may anything be sent now? connected: is there a connection at all? reroute: asked for another route when
    nobody took a message, or a route was not ready. arm: asks for a call of ``due`` at a time. settle: the ledger's.
    """

    def __init__(
        self,
        publisher: Publisher,
        window: InFlightWindow,
        retry: RetryPolicy,
        tally: Tally,
        random: Random,
        *,
        sending: Callable[[], bool],
        connected: Callable[[], bool],
        reroute: Callable[[str, Route], Route],
        arm: Callable[[int], None],
        settle: Callable[[Sequence[PendingAck], AckEvent, int], None],
    ) -> None:
        self._publisher = publisher
        self._window = window
        self._retry = retry
        self._tally = tally
        self._random = random.random
        self._sending = sending
        self._connected = connected
        self._reroute = reroute
        self._arm = arm
        self._settle = settle
        self.held: dict[int, PendingAck] = {}
        self.schedule = WakeSchedule()
        self.refusals = TopicRefusals()

    # ---- begin -------------------------------------------------------------------------------------------------

    def hold(self, pending: PendingAck) -> None:
        """Keep it until there is a connection and a route, or its lifetime ends."""
        self.held[pending.token] = pending
        until_ns = self._retry.last_send_ns(self._attempt(pending))
        self.schedule.put(pending, until_ns)
        self._arm(until_ns)

    def _dispatch(self, pending: PendingAck, now_ns: int) -> None:
        """Its time has come, or its connection or route: end it if that is too late, send it, or hold it (again)."""
        if not pending.route.ready:  # its preparation may have ended while the message waited for its next attempt
            pending.route = self._reroute(pending.topic, pending.route)
        if now_ns >= self._retry.last_send_ns(self._attempt(pending)):
            self._expired(pending, now_ns)
        elif self._sending() and pending.route.ready:
            if pending.attempts:
                self._tally.retries += 1
            pending.sent(now_ns)
            self._arm(self._window.await_ack(pending))
            self._publisher.send(pending)
        else:
            self.hold(pending)

    def release_held(self, now_ns: int) -> None:
        """There is a connection again."""
        released = list(self.held.values())
        self.held.clear()
        for pending in released:
            self.schedule.drop(pending)
            self._dispatch(pending, now_ns)

    def due(self, now_ns: int) -> None:
        """Begin the attempts whose time has come; end what was held for too long."""
        for pending in self.schedule.due(now_ns):
            self.held.pop(pending.token, None)
            self._dispatch(pending, now_ns)

    def routes_prepared(self, outcomes: Mapping[Route, Route | Failure], now_ns: int) -> None:
        """Messages that wait for a provisional route (a key) go out by the one made, or fail for want of it."""
        for pending in [pending for pending in self._window if pending.route in outcomes]:
            outcome = outcomes[pending.route]
            if isinstance(outcome, Failure):
                self.failed(outcome, [pending], now_ns)
                continue
            pending.route = outcome
            if self.held.pop(pending.token, None) is not None:
                self.schedule.drop(pending)
                self._dispatch(pending, now_ns)

    # ---- fail --------------------------------------------------------------------------------------------------

    def failed(self, failure: Failure, concerned: Iterable[PendingAck], now_ns: int) -> None:
        """An attempt of each of these failed: repeat it by the policy, or settle."""
        rejected: list[PendingAck] = []
        given_up: list[PendingAck] = []
        for pending in concerned:
            self._tally.error_seen(failure.kind)
            pending.failure = failure
            if failure.error_class is ErrorClass.AMBIGUOUS:
                pending.doubt = True
            decision = self._retry.decide(
                failure.error_class, self._attempt(pending), now_ns, self._random(), failure.min_delay_s
            )
            if failure.kind is ErrorKind.NO_RESPONDERS:  # also after the last attempt: the next message needs a stream
                pending.route = self._reroute(pending.topic, pending.route)
            if isinstance(decision, RetryAt):
                self._window.stop_awaiting(pending)
                pending.advance(AckEvent.RETRY)
                self.schedule.put(pending, decision.at_ns)
                self._arm(decision.at_ns)
            elif decision.outcome is AckOutcome.REJECTED:
                rejected.append(pending)
            else:
                given_up.append(pending)
        self._settle(rejected, AckEvent.REJECT, now_ns)
        self._settle(given_up, AckEvent.GIVE_UP, now_ns)

    def concerned(self, failure: Failure) -> list[PendingAck]:
        """What a failure without a topic speaks of, as far as its ack is awaited."""
        if failure.tokens is not None:
            found = self._window.find(tuple(dict.fromkeys(failure.tokens)))
            return [p for p in found if p is not None and p.state is AckState.IN_FLIGHT]
        return [p for p in self._window if p.state is AckState.IN_FLIGHT]

    def topic_failed(self, failure: Failure, topic: str, last_token: int, now_ns: int) -> None:
        """The broker refuses a topic, without saying which message: all that is in flight there is concerned.

        Where the topic was acked before, the right to it was taken away meanwhile, and what was sent before we heard
        of it may be stored: that is in doubt. What is accepted afterwards is refused for certain.
        """
        concerned = [p for p in self._window if p.state is AckState.IN_FLIGHT and p.topic == topic]
        doubt_until = self.refusals.doubt_until(topic, last_token)
        earlier = [p for p in concerned if p.token <= doubt_until]
        concerned = [p for p in concerned if p.token > doubt_until]
        self.failed(replace(failure, error_class=ErrorClass.AMBIGUOUS), earlier, now_ns)
        self.failed(failure, concerned, now_ns)

    def _expired(self, pending: PendingAck, now_ns: int) -> None:
        """No attempt may begin any more: what the earlier ones came to is the outcome."""
        if pending.failure is None:
            if not pending.route.ready:
                kind, text = ErrorKind.EXPIRED, "its topic was not ready in the message's lifetime"
            elif self._connected():
                kind, text = ErrorKind.UNAVAILABLE, "the connection took no more until the message's lifetime ended"
            else:
                kind, text = ErrorKind.DISCONNECTED, "no connection until the message's lifetime ended"
            pending.failure = Failure(ErrorClass.FATAL, kind, text)
            self._tally.error_seen(kind)
        self._settle([pending], AckEvent.GIVE_UP if pending.doubt else AckEvent.REJECT, now_ns)

    def _attempt(self, pending: PendingAck) -> Attempt:
        return Attempt(
            attempts=pending.attempts,
            doubt=pending.doubt,
            first_sent_ns=pending.first_sent_ns if pending.attempts else 0,
            timeout_ns=pending.timeout_ns,
            expires_ns=pending.accepted_ns + self._retry.lifetime_ns(pending.timeout_ns),
            route=pending.route,
        )
