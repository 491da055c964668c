"""RetryPolicy.decide: may a failed attempt be repeated, and when? Pure.

The table
    FATAL                     settle
    TRANSIENT, no doubt       try again, until attempts or lifetime end
    AMBIGUOUS, or in doubt    try again only where a second copy does no harm: the broker deduplicates (and the ack of
                              the new attempt can still arrive within its duplicate window, counted from the *first*
                              attempt), or the topic allows duplicates
    otherwise                 settle
Settling means UNKNOWN where any attempt was AMBIGUOUS (doubt is sticky: only an ack clears it), else REJECTED.
"""

from __future__ import annotations

from dataclasses import dataclass

from eventbus.errors import ConfigError, ErrorClass
from eventbus.ports import Route
from eventbus.report import AckOutcome


@dataclass(frozen=True, slots=True)
class Settle:
    """No further attempt: this is the outcome."""

    outcome: AckOutcome


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Send again at this time (monotonic nanoseconds), with the same message id."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """What decide() needs to know of a failed attempt. Times are monotonic nanoseconds.

    attempts: how many were made, this one included. doubt: any of them may have been stored.
    first_sent_ns: when the first was sent. expires_ns: when the message's lifetime ends.
    """

    attempts: int
    doubt: bool
    first_sent_ns: int
    timeout_ns: int
    expires_ns: int
    route: Route


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon. Delays grow as base * 2**(attempts-1) up to max, with full jitter: a uniform draw
    between 0 and that bound, so that a crowd of publishers does not return at once.

    max_attempts: the first one included. base_delay_s 0.25 is JetStream's convention for "no responders" (ADR-22).
    """

    max_attempts: int = 5
    base_delay_s: float = 0.25
    max_delay_s: float = 5.0

    def __post_init__(self) -> None:
        if not self.max_attempts >= 1:
            raise ConfigError(f"max_attempts is {self.max_attempts}; use 1 (no retry) or more")
        if not 0 <= self.base_delay_s <= self.max_delay_s <= 86_400:
            raise ConfigError(
                f"base_delay_s is {self.base_delay_s} and max_delay_s {self.max_delay_s}; "
                "use 0 <= base <= max <= 86,400 seconds"
            )

    def delay_bound_s(self, attempts: int) -> float:
        """The longest pause after that many attempts."""
        doublings = min(attempts - 1, 60)  # a float would overflow long after max_delay_s is reached
        return float(min(self.max_delay_s, self.base_delay_s * 2**doublings))

    def lifetime_ns(self, timeout_ns: int) -> int:
        """How long new attempts may begin: every attempt runs to its timeout, every pause to its bound.

        A message is pending for at most this and one more ack timeout, where its last attempt began at the end.
        """
        first = min(self.max_attempts, 100)  # after so many doublings the bound is max_delay_s, or 0
        pauses_s = sum(self.delay_bound_s(n) for n in range(1, first))
        pauses_s += (self.max_attempts - first) * self.delay_bound_s(first)
        return self.max_attempts * timeout_ns + int(pauses_s * 1e9)

    def last_send_ns(self, attempt: Attempt) -> int:
        """Before which time another attempt would have to be sent; a time long past where none may be.

        The end of the lifetime; for a message in doubt also the duplicate window, less one ack timeout, because the
        copy may spend that long on its way.
        """
        if not attempt.doubt or attempt.route.topic.allow_duplicates:
            return attempt.expires_ns
        if not attempt.route.deduplicates:
            return -1
        forgotten_ns = attempt.first_sent_ns + int(attempt.route.duplicate_window_s * 1e9)
        return min(attempt.expires_ns, forgotten_ns - attempt.timeout_ns)

    def decide(
        self, error_class: ErrorClass, attempt: Attempt, now_ns: int, chance: float, min_delay_s: float = 0.0
    ) -> Settle | RetryAt:
        """The decision for one failed attempt; ``chance`` is a draw from [0, 1)."""
        if error_class is not ErrorClass.FATAL and attempt.attempts < self.max_attempts:
            at_ns = now_ns + int(max(chance * self.delay_bound_s(attempt.attempts), min_delay_s) * 1e9)
            if at_ns < self.last_send_ns(attempt):
                return RetryAt(at_ns)
        return Settle(AckOutcome.UNKNOWN if attempt.doubt else AckOutcome.REJECTED)
