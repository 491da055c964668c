"""May a failed attempt be repeated, and when?"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.ack.retry import Attempt, RetryAt, RetryPolicy, Settle
from eventbus.errors import ConfigError, ErrorClass
from eventbus.report import AckOutcome
from tests.fakes import SECOND, route

NOW = 1000 * SECOND
REJECTED, UNKNOWN = Settle(AckOutcome.REJECTED), Settle(AckOutcome.UNKNOWN)
TRANSIENT, AMBIGUOUS, FATAL = ErrorClass.TRANSIENT, ErrorClass.AMBIGUOUS, ErrorClass.FATAL


def attempt(
    attempts: int = 1,
    *,
    doubt: bool = False,
    first_sent_s: float = 0.0,
    timeout_s: float = 5.0,
    expires_s: float = 1e6,
    deduplicates: bool = True,
    window_s: float = 120.0,
    allow_duplicates: bool = False,
) -> Attempt:
    """Times in seconds from NOW."""
    return Attempt(
        attempts=attempts,
        doubt=doubt,
        first_sent_ns=NOW + int(first_sent_s * 1e9),
        timeout_ns=int(timeout_s * 1e9),
        expires_ns=NOW + int(expires_s * 1e9),
        route=route(deduplicates=deduplicates, window_s=window_s, allow_duplicates=allow_duplicates),
    )


@pytest.mark.parametrize(
    ("error_class", "how", "again", "otherwise"),
    [
        (FATAL, {}, False, REJECTED),
        (FATAL, {"doubt": True}, False, UNKNOWN),
        (TRANSIENT, {}, True, None),
        (TRANSIENT, {"deduplicates": False}, True, None),
        (TRANSIENT, {"doubt": True}, True, None),
        (TRANSIENT, {"doubt": True, "deduplicates": False}, False, UNKNOWN),
        (TRANSIENT, {"doubt": True, "deduplicates": False, "allow_duplicates": True}, True, None),
        (AMBIGUOUS, {"doubt": True}, True, None),
        (AMBIGUOUS, {"doubt": True, "deduplicates": False}, False, UNKNOWN),
        (AMBIGUOUS, {"doubt": True, "deduplicates": False, "allow_duplicates": True}, True, None),
        (AMBIGUOUS, {"doubt": True, "first_sent_s": -116.0}, False, UNKNOWN),
        (AMBIGUOUS, {"doubt": True, "first_sent_s": -116.0, "allow_duplicates": True}, True, None),
        (TRANSIENT, {"first_sent_s": -116.0}, True, None),
        (TRANSIENT, {"attempts": 5}, False, REJECTED),
        (AMBIGUOUS, {"attempts": 5, "doubt": True}, False, UNKNOWN),
        (TRANSIENT, {"expires_s": 0.0}, False, REJECTED),
        (TRANSIENT, {"expires_s": -1.0, "doubt": True}, False, UNKNOWN),
    ],
)
def test_row_of_the_table(error_class: ErrorClass, how: dict[str, float], again: bool, otherwise: Settle | None):
    """The table at the top of ack/retry.py, and each of its bounds."""
    decision = RetryPolicy().decide(error_class, attempt(**how), NOW, chance=0.0)  # type: ignore[arg-type]
    if again:
        assert decision == RetryAt(NOW)
    else:
        assert decision == otherwise


def test_edge_of_the_duplicate_window():
    """In doubt, an attempt is sent only if its ack can still come within the window."""
    policy = RetryPolicy()
    inside = attempt(doubt=True, first_sent_s=-5.0 + 1e-9, timeout_s=5.0, window_s=10.0)
    outside = attempt(doubt=True, first_sent_s=-5.0, timeout_s=5.0, window_s=10.0)
    assert policy.decide(AMBIGUOUS, inside, NOW, 0.0) == RetryAt(NOW)
    assert policy.decide(AMBIGUOUS, outside, NOW, 0.0) == UNKNOWN


def test_window_shorter_than_the_timeout():
    """No second attempt is ever safe."""
    assert RetryPolicy().decide(AMBIGUOUS, attempt(doubt=True, window_s=1.0), NOW, 0.0) == UNKNOWN


ATTEMPTS = st.builds(
    attempt,
    attempts=st.integers(1, 8),
    doubt=st.booleans(),
    first_sent_s=st.floats(-200, 0),
    timeout_s=st.floats(0.001, 60),
    expires_s=st.floats(-10, 100),
    deduplicates=st.booleans(),
    window_s=st.floats(0, 200),
    allow_duplicates=st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(
    error_class=st.sampled_from(ErrorClass),
    attempt=ATTEMPTS,
    chance=st.floats(0, 1, exclude_max=True),
    min_delay_s=st.floats(0, 10),
    max_attempts=st.integers(1, 8),
)
def test_any_failed_attempt(
    error_class: ErrorClass, attempt: Attempt, chance: float, min_delay_s: float, max_attempts: int
):
    """REJECTED exactly where there is no doubt; another attempt only within every bound, with full jitter."""
    policy = RetryPolicy(max_attempts=max_attempts)
    decision = policy.decide(error_class, attempt, NOW, chance, min_delay_s)
    if isinstance(decision, Settle):
        assert decision == (UNKNOWN if attempt.doubt else REJECTED)
        return
    assert error_class is not FATAL
    assert attempt.attempts < max_attempts
    assert NOW <= decision.at_ns < attempt.expires_ns
    longest_s = max(min_delay_s, policy.delay_bound_s(attempt.attempts))
    assert min_delay_s * 1e9 - 1 <= decision.at_ns - NOW <= longest_s * 1e9
    if attempt.doubt and not attempt.route.topic.allow_duplicates:
        assert attempt.route.deduplicates
        window_ns = attempt.route.duplicate_window_s * 1e9
        assert decision.at_ns + attempt.timeout_ns <= attempt.first_sent_ns + window_ns


def test_pauses_double_up_to_their_bound():
    """Exponential, capped, and computable for any number of attempts."""
    policy = RetryPolicy(max_attempts=10**6, base_delay_s=0.25, max_delay_s=5.0)
    assert [policy.delay_bound_s(n) for n in range(1, 8)] == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert policy.delay_bound_s(10**6) == 5.0


@settings(max_examples=100, deadline=None)
@given(attempts=st.integers(1, 1200), base_s=st.just(0.0) | st.floats(0.01, 2), timeout_ns=st.integers(1, 10**10))
def test_lifetime_is_the_sum_of_what_can_happen(attempts: int, base_s: float, timeout_ns: int):
    """Every attempt to its timeout, every pause to its bound."""
    policy = RetryPolicy(attempts, base_s, 5.0)
    slowly = sum(policy.delay_bound_s(n) for n in range(1, attempts))
    assert policy.lifetime_ns(timeout_ns) == pytest.approx(attempts * timeout_ns + slowly * 1e9, rel=1e-6, abs=2)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"base_delay_s": -0.1}, "base_delay_s"),
        ({"base_delay_s": 6.0}, "base_delay_s"),
        ({"max_delay_s": 0.1}, "max_delay_s"),
        ({"base_delay_s": float("nan")}, "base_delay_s"),
        ({"max_delay_s": float("inf")}, "max_delay_s"),
    ],
)
def test_policy_that_cannot_be(wrong: dict[str, float], named: str):
    """The error names the setting and what is allowed."""
    with pytest.raises(ConfigError, match=rf"{named} (is )?.*use "):
        RetryPolicy(**wrong)  # type: ignore[arg-type]  # wrong on purpose
