"""The alert rules of a run that brings none of its own."""

from __future__ import annotations

from collections.abc import Sequence

from eventbus.alerts.expression import parse
from eventbus.alerts.quantity import duration_text
from eventbus.alerts.rule import ERROR_RATIO_LIMIT, ERROR_RATIO_MIN_SETTLED, PENDING_LIMIT, AlertRule

PENDING = "pending"
WINDOW_FULL = "window_nearly_full"
ERROR_RATIO = "error_ratio"
ACK_TIMEOUTS = "ack_timeouts"
ACK_LATENCY = "ack_latency"
OLDEST_PENDING = "oldest_pending"
ACKS_BEHIND = "acks_behind"
DISCONNECTED = "broker_disconnected"
NO_ACKS = "no_acks"
BURN_FAST = "error_budget_fast"
BURN_SLOW = "error_budget_slow"

MAX_PENDING, ACK_TIMEOUT_S = 10_000, 5.0
"""Of a run that says nothing else, as ``connect`` has them."""
OBJECTIVE = 0.999
"""Share of messages that should be acked; what may fail is the error budget that the burn rates are of."""
FAST_FACTOR, SLOW_FACTOR = 14.4, 6.0
"""How many times faster than allowed the budget is used up: those of Google's SRE workbook, chapter 5, whose windows of
1 h and 6 h are 1 and 6 minutes here, since a run lasts minutes and not a month."""
SHORT_WINDOW = 12
"""Each burn rate must also be seen in a window so many times shorter, as the workbook has it: the long one says that it
matters, the short one that it still goes on, so that the alert ends soon after its cause."""
_BURN_MIN_SETTLED = 500
"""In the long window; below it, a single failure would be more than the slow burn rate."""


def default_rules(*, max_pending: int, ack_timeout_s: float) -> tuple[AlertRule, ...]:
    """The rules for a window of ``max_pending`` messages and an ack timeout of ``ack_timeout_s`` seconds.

    At 1,000 messages per second and evaluated at each sample, a broker that stops answering fires ``no_acks`` within
    1.5 s (1 s of its window, one sample); a healthy run fires none.
    """
    return (
        _disconnected(),
        _no_acks(max_pending),
        *_backlog(),
        *_latency(ack_timeout_s),
        *_errors(),
        *_burn_rates(),
    )


def rules_in_use(rules: Sequence[AlertRule] | None, *, max_pending: int, ack_timeout_s: float) -> tuple[AlertRule, ...]:
    """The rules of a run that brings ``rules``: these, and the default ones that they are inhibited by; with None all
    the default ones."""
    defaults = default_rules(max_pending=max_pending, ack_timeout_s=ack_timeout_s)
    if rules is None:
        return defaults
    known = {rule.name: rule for rule in defaults} | {rule.name: rule for rule in rules}
    needed: dict[str, None] = {}
    waiting = [name for rule in rules for name in rule.inhibited_by]
    while waiting:
        name = waiting.pop()
        if name in known and name not in needed:
            needed[name] = None
            waiting += known[name].inhibited_by
    own = {rule.name for rule in rules}
    return (*rules, *(rule for rule in defaults if rule.name in needed and rule.name not in own))


def _disconnected() -> AlertRule:
    return AlertRule(
        DISCONNECTED,
        parse("connected < 1"),
        keep_firing_s=5.0,  # what follows from it (errors, latency) is still in their windows when it is back
        severity="critical",
        summary="The broker is not connected",
        description="Nothing is sent. Look at the broker, the network between, and the events of the run.",
    )


def _no_acks(max_pending: int) -> AlertRule:
    """At least so many pending during a whole second, and hardly any of them acked: the broker is frozen.

    A healthy broker acks all that is pending many times in this time, a slow one still more than 5 % of it.
    """
    pending = min(20, max_pending // 2)
    return AlertRule(
        NO_ACKS,
        parse(f"min(pending, 750ms) > {pending} + 20 * increase(acked, 750ms)"),
        keep_firing_s=2.0,
        severity="critical",
        min_samples=2,
        inhibited_by=(DISCONNECTED,),
        summary="Messages are sent, and no acks come back",
        description="The connection stands, but the broker does not answer: it may be frozen, or its disk.",
    )


def _backlog() -> tuple[AlertRule, ...]:
    return (
        AlertRule(
            PENDING,
            parse(f"pending > {PENDING_LIMIT}"),
            clear=PENDING_LIMIT * 0.8,
            summary=f"More than {PENDING_LIMIT:,} messages wait for their ack",
            description="More is sent than acked. Send less, or look at what slows the broker.",
        ),
        AlertRule(
            WINDOW_FULL,
            parse("pending >= 90% * window_limit"),
            for_s=5.0,
            summary="The window has been at 90 % of its limit for 5 s",
            description="Publishers wait for room: the broker is the limit. Enlarge the window only if latency allows.",
        ),
        AlertRule(
            ACKS_BEHIND,
            parse("rate(acked, 10s) + rate(unacknowledged, 10s) < 95% * rate(offered, 10s)"),
            for_s=3.0,
            no_data="ok",
            min_samples=8,
            inhibited_by=(DISCONNECTED,),
            summary="Less than 95 % of the messages offered in the last 10 s were acked",
            description="The load is more than producer and broker manage. Compare offered, sent and acked rates.",
        ),
    )


def _latency(ack_timeout_s: float) -> tuple[AlertRule, ...]:
    slow_s, old_s = ack_timeout_s / 10, ack_timeout_s / 2
    return (
        AlertRule(
            ACK_LATENCY,
            parse(f"p99(ack_latency, 10s) > {slow_s!r}s"),
            for_s=2.0,
            no_data="ok",
            min_samples=ERROR_RATIO_MIN_SETTLED,
            inhibited_by=(DISCONNECTED,),
            summary="The 99th percentile of the ack latency is above a tenth of the ack timeout",
            description="Acks come, but slowly. Look at the broker's disk and load, and at the number pending.",
        ),
        AlertRule(
            OLDEST_PENDING,
            parse(f"oldest_pending_age > {old_s!r}s"),
            clear=old_s / 2,
            inhibited_by=(DISCONNECTED,),
            summary="A message has been waiting for its ack for more than half the ack timeout",
            description="If no ack comes, it will be sent again or end as unknown.",
        ),
    )


def _errors() -> tuple[AlertRule, ...]:
    return (
        AlertRule(
            ERROR_RATIO,
            parse(f"ratio(failed, settled, 10s) > {ERROR_RATIO_LIMIT * 100:g}%"),
            clear=ERROR_RATIO_LIMIT / 2,
            no_data="ok",
            severity="critical",
            min_samples=ERROR_RATIO_MIN_SETTLED,
            inhibited_by=(DISCONNECTED,),
            summary=f"More than {ERROR_RATIO_LIMIT * 100:g} % of the messages settled in the last 10 s were not acked",
            description="The table of failures says which, and why.",
        ),
        AlertRule(
            ACK_TIMEOUTS,
            parse("increase(ack_timeouts, 10s) > 0"),
            inhibited_by=(DISCONNECTED,),
            summary="Acks did not come in time within the last 10 s",
            description="They are sent again where the broker recognises duplicates; else they end as unknown.",
        ),
    )


def _burn_rates() -> tuple[AlertRule, ...]:
    return (
        _burn_rate(BURN_FAST, 60, "last minute", FAST_FACTOR, "critical"),
        _burn_rate(BURN_SLOW, 360, "last 6 minutes", SLOW_FACTOR, "warning"),
    )


def _burn_rate(name: str, window_s: float, words: str, factor: float, severity: str) -> AlertRule:
    """Over two windows. What was sent to a broker that does not answer fails in a burst at each ack timeout: between
    two of them nothing is settled, and the short window says nothing; that alone must not end the alert."""
    limit = f"{factor * (1 - OBJECTIVE) * 100:.4g}%"
    short_s = window_s / SHORT_WINDOW
    long, short = (f"ratio(failed, settled, {duration_text(seconds)}) > {limit}" for seconds in (window_s, short_s))
    return AlertRule(
        name,
        parse(f"{long} and {short}"),
        no_data="ok",
        keep_firing_s=short_s,
        severity=severity,
        min_samples=_BURN_MIN_SETTLED,
        inhibited_by=(DISCONNECTED,),
        summary=f"Failures of the {words} use up the error budget {factor:g} times too fast, and still do",
        description=f"The objective is that {OBJECTIVE * 100:g} % of the messages are acked.",
    )


STANDARD = default_rules(max_pending=MAX_PENDING, ack_timeout_s=ACK_TIMEOUT_S)
"""To know the names, and who inhibits whom."""
