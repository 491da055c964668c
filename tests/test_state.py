"""The life of one pending ack, as a table."""

from __future__ import annotations

import pytest

from eventbus.ack.pending import PendingAck
from eventbus.ack.state import NEXT, SETTLED, TRANSITIONS, AckEvent, AckState, IllegalTransition
from eventbus.report import AckOutcome
from tests.fakes import pending_ack

EVERYTHING = [(state, event) for state in AckState for event in AckEvent]


def pending_in(state: AckState) -> PendingAck:
    pending = pending_ack(token=7)
    pending.state = state
    pending.first_sent_ns = pending.sent_ns = pending.settled_ns = 2000
    return pending


@pytest.mark.parametrize(("state", "event"), EVERYTHING)
def test_event_in_a_state(state: AckState, event: AckEvent):
    """What the table holds happens; what it does not hold raises and changes nothing."""
    pending = pending_in(state)
    wanted = TRANSITIONS[state].get(event)
    if wanted is None:
        with pytest.raises(IllegalTransition, match=f"{event.name} in state {state.name}, token 7"):
            pending.advance(event)
        assert pending.state is state
    else:
        pending.advance(event)
        assert pending.state is wanted


@pytest.mark.parametrize("state", [s for s in AckState if AckEvent.SEND not in TRANSITIONS[s]])
def test_sending_what_may_not_be_sent(state: AckState):
    """The inlined form of advance() in sent() obeys the same table, and counts no attempt."""
    pending = pending_in(state)
    with pytest.raises(IllegalTransition):
        pending.sent(5000)
    assert (pending.state, pending.attempts, pending.sent_ns) == (state, 0, 2000)


def test_fast_table_equals_the_readable_one():
    """NEXT is the same table, turned for the hot path."""
    assert [[NEXT[e][s] for e in AckEvent] for s in AckState] == [
        [TRANSITIONS[s].get(e) for e in AckEvent] for s in AckState
    ]


def test_every_state_can_be_reached():
    """From QUEUED, by the table."""
    reached, new = set(), {AckState.QUEUED}
    while new:
        reached |= new
        new = {following for state in new for following in TRANSITIONS[state].values()} - reached
    assert reached == set(AckState)


def test_ends_are_ends():
    """Nothing leads out of ACKED and REJECTED, and only a late ack out of UNKNOWN; nothing leads back to QUEUED."""
    assert TRANSITIONS[AckState.ACKED] == TRANSITIONS[AckState.REJECTED] == {}
    assert TRANSITIONS[AckState.UNKNOWN] == {AckEvent.ACK: AckState.ACKED}
    assert frozenset({AckState.ACKED, AckState.REJECTED, AckState.UNKNOWN}) == SETTLED
    assert all(AckState.QUEUED not in following.values() for following in TRANSITIONS.values())


def test_what_was_never_sent_cannot_be_in_doubt():
    """A QUEUED message ends only as REJECTED: nothing of it can be stored."""
    ends = {following for following in TRANSITIONS[AckState.QUEUED].values() if following in SETTLED}
    assert ends == {AckState.REJECTED}


@pytest.mark.parametrize("state", list(AckState))
def test_report_is_there_from_the_end_on(state: AckState):
    """None while pending, never raises."""
    pending = pending_in(state)
    report = pending.report
    assert pending.settled == (report is not None) == (state in SETTLED)
    if report is not None:
        assert report.outcome is AckOutcome[state.name]
        assert report.message_id == "bus-000000000000007"


def test_attempts_are_told():
    """The first and the last attempt's time are kept apart, and the report counts from the right one."""
    pending = pending_in(AckState.QUEUED)
    pending.sent(1500)
    pending.advance(AckEvent.RETRY)
    pending.sent(9000)
    assert (pending.attempts, pending.first_sent_ns, pending.sent_ns) == (2, 1500, 9000)
    pending.advance(AckEvent.GIVE_UP)
    report = pending.report
    assert report is not None
    assert report.attempts == 2
    assert report.queued_s == pytest.approx(500e-9)
    assert report.ack_latency_s is None


def test_payload_is_let_go():
    """forget_payload keeps what a report needs."""
    pending = pending_in(AckState.UNKNOWN)
    pending.topic, pending.payload, pending.extras = "orders", b"x" * 1000, ("key", {"a": "b"}, "mine")
    pending.forget_payload()
    assert (pending.topic, pending.payload) == ("orders", b"")
    assert (pending.key, pending.headers, pending.own_id) == ("key", None, "mine")
    assert pending.message_id == "mine"
