"""Snapshots of several buses as one: exact, whichever comes first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus import BusSnapshot, ConnectionState, ErrorKind, LatencyHistogram

COUNTS = st.integers(0, 10**12)
SECONDS = st.floats(0, 1e9)


@st.composite
def snapshots(draw: st.DrawFn) -> BusSnapshot:
    acked, rejected, unknown, pending = (draw(COUNTS) for _ in range(4))
    return BusSnapshot(
        bus_id="one",
        monotonic_s=draw(SECONDS),
        wall_s=draw(SECONDS),
        connection=draw(st.sampled_from(ConnectionState)),
        accepted=acked + rejected + unknown + pending,
        acked=acked,
        rejected=rejected,
        unknown=unknown,
        pending=pending,
        duplicates=draw(COUNTS),
        max_pending=draw(COUNTS),
        oldest_pending_age_s=draw(SECONDS),
        stalled_s_total=draw(SECONDS),
        errors=draw(st.dictionaries(st.sampled_from([str(kind) for kind in ErrorKind]), COUNTS, max_size=3)),
        latency=LatencyHistogram.of(draw(st.lists(st.integers(0, 10**13), max_size=20))),
    )


def same(one: BusSnapshot, other: BusSnapshot) -> bool:
    return replace(one, bus_id="", errors=dict(one.errors)) == replace(other, bus_id="", errors=dict(other.errors))


@given(snapshots(), snapshots(), snapshots())
def test_order_makes_no_difference(one: BusSnapshot, other: BusSnapshot, third: BusSnapshot) -> None:
    """Merging is commutative and associative, so that parts may come in any order."""
    assert same(one.merged(other), other.merged(one))
    assert same(one.merged(other).merged(third), one.merged(other.merged(third)))


@given(snapshots(), snapshots())
def test_everything_that_was_accepted_is_accounted_for(one: BusSnapshot, other: BusSnapshot) -> None:
    """accepted == acked + rejected + unknown + pending holds for both together, and no count is lost."""
    both = one.merged(other)
    assert both.accepted == both.acked + both.rejected + both.unknown + both.pending
    assert both.accepted == one.accepted + other.accepted
    assert both.latency == one.latency.merged(other.latency)
    assert sum(both.errors.values()) == sum(one.errors.values()) + sum(other.errors.values())


def taken(**values: Any) -> BusSnapshot:
    return BusSnapshot(**{"bus_id": "b", "monotonic_s": 1.0, "wall_s": 1.0, "connection": "connected", **values})


def test_waiting_at_the_same_time_counts_once() -> None:
    """Two buses that were stalled for 2 s and 3 s, perhaps at once, have been so for 3 s; pending messages add up."""
    both = taken(stalled_s_total=2.0, pending=3, oldest_pending_age_s=0.5).merged(
        taken(stalled_s_total=3.0, pending=4, oldest_pending_age_s=0.25)
    )
    assert (both.stalled_s_total, both.pending, both.oldest_pending_age_s) == (3.0, 7, 0.5)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("connected", "closed", "connected"),
        ("connected", "reconnecting", "reconnecting"),
        ("denied", "reconnecting", "denied"),
        ("connecting", "connected", "connecting"),
        ("closed", "closed", "closed"),
        ("closed", "reconnecting", "reconnecting"),
    ],
)
def test_connection_is_the_worse_one(one: str, other: str, both: str) -> None:
    """One bus without its broker is what people must see; one that ended in good order is not."""
    merged = taken(connection=ConnectionState(one)).merged(taken(connection=ConnectionState(other)))
    assert merged.connection == both


def test_warnings_are_told_once_and_bounded() -> None:
    """The same warning of two buses is one; no more than a hundred are kept."""
    many = tuple(f"w{n}" for n in range(90))
    both = taken(warnings=("w0", "mine")).merged(taken(warnings=many))
    assert both.warnings == ("w0", "mine", *many[1:])
    assert len(both.merged(taken(warnings=tuple(f"v{n}" for n in range(90)))).warnings) == 100
