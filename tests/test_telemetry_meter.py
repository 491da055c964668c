"""Outcomes are counted exactly, in a bounded number of series, and what closed buses counted stays counted."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.ack.pending import PendingAck
from eventbus.errors import ErrorClass, ErrorKind
from eventbus.latency import LatencyHistogram
from eventbus.ports import Failure
from eventbus.report import AckOutcome
from eventbus.snapshot import BusSnapshot, ConnectionState
from eventbus.telemetry import source
from eventbus.telemetry.meter import OutcomeMeter
from eventbus.telemetry.source import MOST_DESTINATIONS, MOST_SERVERS, OTHER, Outcome, Retired
from tests.fakes import FakeLedger, route
from tests.telemetry_sdk import ATTRIBUTES


def empty() -> BusSnapshot:
    return BusSnapshot("bus", 0.0, 0.0, ConnectionState.CONNECTED, acked=1, unknown=2, errors={"timeout": 3}, pending=4)


def meter() -> OutcomeMeter:
    return OutcomeMeter(ATTRIBUTES, 1, empty)


def message(topic: str, accepted_ns: int = 0, *, duplicate: bool = False, kind: ErrorKind | None = None) -> PendingAck:
    pending = PendingAck(1, topic, b"", None, route(topic), 1, 1, accepted_ns, FakeLedger())
    if duplicate:
        pending.duplicate = True
    if kind is not None:
        pending.failure = Failure(ErrorClass.FATAL, kind, "why")
    return pending


def totals(counted: OutcomeMeter | Retired) -> dict[Outcome, int]:
    return {outcome: histogram.total for outcome, histogram in counted.durations().items()}


@pytest.fixture(autouse=True)
def no_buses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_live", {})
    monkeypatch.setattr(source, "_retired", {})


BATCHES = st.lists(
    st.tuples(
        st.sampled_from(AckOutcome),
        st.lists(
            st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from([None, *ErrorKind]), st.integers(0, 900)),
            min_size=1,
            max_size=150,
        ),
    ),
    max_size=8,
)


@given(BATCHES)
def test_any_batches(batches: list[tuple[AckOutcome, list[tuple[str, bool, ErrorKind | None, int]]]]) -> None:
    """Every message is counted once, under its topic, what became of it and why, with its own duration."""
    counted, expected, spent = meter(), Counter[Outcome](), 0
    for outcome, parts in batches:
        settled = []
        for topic, twice, kind, accepted_ns in parts:
            duplicate = twice and outcome is AckOutcome.ACKED
            settled.append(message(topic, accepted_ns, duplicate=duplicate, kind=kind))
            why = None if outcome is AckOutcome.ACKED else kind.value if kind else OTHER
            expected[Outcome(topic, "duplicate" if duplicate else outcome.value, why)] += 1
            spent += 1000 - accepted_ns
        counted.ended(outcome, settled, 1000)
    assert totals(counted) == expected
    assert sum(histogram.sum_ns for histogram in counted.durations().values()) == spent


def test_very_many_destinations() -> None:
    """Above a number they are counted together, under the conventions' word for that: memory and series are bounded."""
    counted = meter()
    for number in range(3 * MOST_DESTINATIONS):
        counted.ended(AckOutcome.ACKED, [message(f"topic.{number}")], 1)
    found = totals(counted)
    assert len(found) == MOST_DESTINATIONS + 1
    assert found[Outcome(OTHER, "acked")] == 2 * MOST_DESTINATIONS
    assert sum(found.values()) == 3 * MOST_DESTINATIONS


def test_very_many_destinations_of_buses_that_come_and_go() -> None:
    """The same holds for all closed buses together."""
    for number in range(6):
        bus = meter()
        source.register(bus)
        for topic in range(100):
            bus.ended(AckOutcome.ACKED, [message(f"bus{number}.{topic}")], 1)
        source.retire(bus)
    (retired,) = source.sources()
    assert sum(histogram.total for histogram in retired.durations().values()) == 600
    assert len(retired.durations()) == MOST_DESTINATIONS + 1


def test_bus_at_ever_new_servers() -> None:
    """The first servers are told apart, all others together, from each bus's begin to after its end: the number of
    series is bounded, no total of any ever shrinks, and nothing that was told of one is told again of another."""
    seen: Counter[int | str] = Counter()
    for number in range(3 * MOST_SERVERS):
        bus = OutcomeMeter({**ATTRIBUTES, "server.port": number}, 1, empty)
        source.register(bus)
        bus.ended(AckOutcome.ACKED, [message("a")] * 2, 1)
        while_open = by_port()
        source.retire(bus)
        assert by_port() == while_open
        assert all(while_open[port] >= count for port, count in seen.items())
        assert while_open.total() == 2 * (number + 1)
        seen = while_open
    assert [seen[port] for port in range(MOST_SERVERS)] == [2] * MOST_SERVERS
    assert (len(seen), seen[OTHER]) == (MOST_SERVERS + 1, 2 * 2 * MOST_SERVERS)
    known = OutcomeMeter({**ATTRIBUTES, "server.port": 0}, 1, empty)
    source.register(known)
    known.ended(AckOutcome.ACKED, [message("a")], 1)
    assert by_port() == seen + Counter({0: 1})


def by_port() -> Counter[int | str]:
    """Messages by the server that they are told of."""
    found: Counter[int | str] = Counter()
    for told in source.sources():
        place = told.attributes.get("server.port", told.attributes["server.address"])
        found[place] += sum(histogram.total for histogram in told.durations().values())
    return found


def test_closed_buses_are_added_up() -> None:
    """Their counters stay, nothing is pending there any more, and retiring one twice counts it once."""
    for _ in range(3):
        bus = meter()
        source.register(bus)
        bus.ended(AckOutcome.UNKNOWN, [message("a", kind=ErrorKind.TIMEOUT)], 5)
        source.retire(bus)
        source.retire(bus)
    (retired,) = source.sources()
    assert totals(retired) == {Outcome("a", "unknown", "timeout"): 3}  # type: ignore[arg-type]
    snapshot = retired.snapshot()
    assert (snapshot.acked, snapshot.unknown, snapshot.errors, snapshot.pending) == (3, 6, {"timeout": 9}, 0)


def test_reader_that_looks_while_a_bus_is_closed() -> None:
    """What it got before is as it was: the bus is not in both, or its messages would count twice."""
    first, second = meter(), meter()
    for bus in (first, second):
        source.register(bus)
        bus.ended(AckOutcome.ACKED, [message("a")], 1)
    source.retire(first)
    seen = source.sources()
    source.retire(second)
    assert sum(histogram.total for found in seen for histogram in found.durations().values()) == 2
    assert sum(histogram.total for found in source.sources() for histogram in found.durations().values()) == 2


def test_bus_that_cannot_be_asked_any_more() -> None:
    """Nothing changes where its last snapshot fails: it is still there, and the others are."""

    def broken() -> BusSnapshot:
        raise RuntimeError("gone")

    bus = OutcomeMeter(ATTRIBUTES, 1, broken)
    source.register(bus)
    with pytest.raises(RuntimeError):
        source.retire(bus)
    assert list(source.sources()) == [bus]


def test_reader_in_another_thread() -> None:
    """It never meets a change, and what it sees never shrinks; at the end it is exact."""
    bus, stop = meter(), threading.Event()
    seen: list[int] = []
    failed: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                seen.append(sum(histogram.total for histogram in bus.durations().values()))
        except BaseException as error:
            failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(3000):
            bus.ended(AckOutcome.ACKED, [message(f"t{number % 150}") for _ in range(5)], number)
    finally:
        stop.set()
        reader.join(10)
    assert not failed
    assert seen == sorted(seen)
    assert sum(totals(bus).values()) == 15_000


def test_merged_durations() -> None:
    """Retired durations are exact: count, sum and maximum."""
    one, other, retired = meter(), meter(), Retired(ATTRIBUTES, 9)
    one.ended(AckOutcome.ACKED, [message("a"), message("a")], 100)
    other.ended(AckOutcome.ACKED, [message("a")], 5000)
    retired.add(one)
    retired.add(other)
    assert retired.durations()[Outcome("a", "acked")] == LatencyHistogram.of([100, 100, 5000])
    assert retired.started_ns == 1
