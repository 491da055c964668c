"""AckState and its transition table: the life of one pending ack, as data.

Rules
- A message is QUEUED from acceptance until it is first handed to the connection.
- Only ACKED and REJECTED are final. UNKNOWN ends the wait, but a late ack still turns it into ACKED.
- REJECTED means certainly not stored, so nothing leads out of it; whatever may be stored ends as UNKNOWN.
- An event that the table does not hold for a state is a defect: it raises and changes nothing.

docs/ack-states.svg is drawn from TRANSITIONS (python -m docs.draw_states), and a test compares the two.
"""

from __future__ import annotations

from enum import IntEnum


class AckState(IntEnum):
    """Where a message is. An IntEnum, because it indexes the table on the hot path."""

    QUEUED = 0
    """Accepted, not yet handed to the connection (no connection, or its topic is being prepared)."""
    IN_FLIGHT = 1
    """Handed to the connection; its ack is awaited until a deadline."""
    WAITING = 2
    """An attempt failed; it will be sent again."""
    ACKED = 3
    REJECTED = 4
    UNKNOWN = 5


class AckEvent(IntEnum):
    """What can happen to a message."""

    SEND = 0
    RETRY = 1
    ACK = 2
    REJECT = 3
    GIVE_UP = 4


TRANSITIONS: dict[AckState, dict[AckEvent, AckState]] = {
    AckState.QUEUED: {
        AckEvent.SEND: AckState.IN_FLIGHT,
        AckEvent.REJECT: AckState.REJECTED,
    },
    AckState.IN_FLIGHT: {
        AckEvent.ACK: AckState.ACKED,
        AckEvent.RETRY: AckState.WAITING,
        AckEvent.REJECT: AckState.REJECTED,
        AckEvent.GIVE_UP: AckState.UNKNOWN,
    },
    AckState.WAITING: {
        AckEvent.SEND: AckState.IN_FLIGHT,
        AckEvent.ACK: AckState.ACKED,  # of an earlier attempt
        AckEvent.REJECT: AckState.REJECTED,
        AckEvent.GIVE_UP: AckState.UNKNOWN,
    },
    AckState.UNKNOWN: {AckEvent.ACK: AckState.ACKED},  # late
    AckState.ACKED: {},
    AckState.REJECTED: {},
}

NEXT: tuple[tuple[AckState | None, ...], ...] = tuple(
    tuple(TRANSITIONS[state].get(event) for state in AckState) for event in AckEvent
)
"""The same table as NEXT[event][state], for the hot path; None where the event is illegal."""

SETTLED = frozenset({AckState.ACKED, AckState.REJECTED, AckState.UNKNOWN})


class IllegalTransition(AssertionError):
    """An event that cannot happen in that state: a defect of AckScope, never of its user."""
