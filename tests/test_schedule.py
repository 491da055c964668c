"""Schedules: every message has its time, by any shape, whenever they are asked and however the shape changes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eventbus.errors import ConfigError
from eventbus.load.recorded_schedule import LOOK_AHEAD, RecordedSchedule
from eventbus.load.schedule import Schedule, Timetable
from eventbus.load.shape import Burst, Constant, Ramp, Shape, Sine, Stage, Step

S = 10**9
RAMP = Ramp((Stage(4, 2000), Stage(2, 2000), Stage(4, 0)))
SINE = Sine(mean=1000, amplitude=900, period_s=3.0)
STEP = Step((Stage(2, 100), Stage(1, 0), Stage(3, 3000)))
BURST = Burst(base=50, peak=5000, every_s=2.0, length_s=0.25)
SHAPES: list[Shape] = [Constant(1234.5), RAMP, SINE, STEP, BURST]
SEED = 7


def taken(schedule: Timetable, nows_ns: Iterable[int], most: int = 256) -> list[int]:
    """All scheduled times, asked for again and again at each of these moments."""
    times: list[int] = []
    for now_ns in nows_ns:
        while got := schedule.take(now_ns, most):
            assert len(got) <= most
            assert max(got) <= now_ns
            times += got
    return times


def every(step_s: float, until_s: float) -> Iterable[int]:
    return range(0, round(until_s * S) + 1, round(step_s * S))


@given(st.floats(0.01, 1e6), st.integers(1, 3600))
def test_schedule_gives_rate_times_seconds(rate: float, seconds: int) -> None:
    """After whole seconds exactly rate times seconds are due (rounded down), never one less by floating point."""
    due = Schedule(rate, 500).due(500 + seconds * S)
    assert due is not None
    assert abs(due - rate * seconds) < 1 + 1e-5
    if rate == int(rate):
        assert due == int(rate) * seconds


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
@given(
    st.lists(
        st.tuples(st.integers(0, 10 * S), st.one_of(st.none(), st.floats(0.1, 1e4)), st.integers(0, 500)), max_size=6
    )
)
def test_due_never_falls(arrivals: str, changes: list[tuple[int, float | None, int]]) -> None:
    """Whatever the changes, what is due only grows; what was due and not taken keeps its time, from before."""
    schedule, now_ns, count = Schedule(100.0, 0, arrivals=arrivals, seed=SEED), 0, 0
    last_ns = 0
    for step_ns, rate, most in changes:
        now_ns += step_ns
        times = schedule.take(now_ns, most)
        assert list(times) == sorted(times)
        assert all(last_ns - 1 <= each <= now_ns for each in times)
        last_ns = max(last_ns, *times, 0)
        count += len(times)
        before = schedule.due(now_ns)
        assert before is None or before >= count
        schedule.change(rate, now_ns)
        after = schedule.due(now_ns)
        if before is not None and after is not None:
            assert after == before
        elif after is not None:
            assert after >= count


def test_next_message_is_due_in() -> None:
    """The pause until the next message follows from the rate, or from when the shape wants another one."""
    assert Schedule(4.0, 0).next_due_s(0) == pytest.approx(0.25)
    assert Schedule(4.0, 0).next_due_s(100_000_000) == pytest.approx(0.15)
    assert Schedule(4.0, 0).next_due_s(3 * S) == 0.0
    assert Schedule(None, 0).next_due_s(5) == 0.0
    pause = Schedule(STEP, 0)
    taken(pause, [2 * S])
    assert pause.next_due_s(2 * S) == pytest.approx(1 + 1 / 3000)
    taken(pause, [6 * S])
    assert pause.next_due_s(6 * S) == math.inf


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.kind)
def test_every_message_is_due_once_at_its_time(shape: Shape) -> None:
    """However often it is asked, the n-th message has the time at which the integral of the rate comes to n."""
    times = taken(Schedule(shape, 0), [*every(0.0017, 10), 10 * S])
    late = taken(Schedule(shape, 0), [10 * S])
    assert len(times) == math.floor(shape.due(10) + 1e-6)
    assert len(late) == len(times)
    for got in (times, late):
        # Half a millisecond where the rate jumps within one; elsewhere the line is straight.
        assert all(abs(ns / S - shape.when(n)) < 0.0005 for n, ns in enumerate(got, 1))
        exact = sum(abs(ns / S - shape.when(n)) < 2e-6 for n, ns in enumerate(got, 1))
        assert exact > 0.97 * len(got)


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
@pytest.mark.parametrize("shape", [RAMP, SINE], ids=lambda shape: shape.kind)
def test_rate_follows_the_curve(shape: Shape, arrivals: str) -> None:
    """In each tenth of a second as many messages are due as the area under the curve; Poisson within chance."""
    times = taken(Schedule(shape, 0, arrivals=arrivals, seed=SEED), every(0.002, 9))
    counts = [0] * 90
    for ns in times:
        counts[min(89, ns // (S // 10))] += 1
    for tenth, count in enumerate(counts):
        expected = shape.due((tenth + 1) / 10) - shape.due(tenth / 10)
        allowed = 1.01 if arrivals == "constant" else 5 * math.sqrt(expected) + 3
        assert abs(count - expected) <= allowed


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.kind)
def test_poisson_arrivals(shape: Shape) -> None:
    """Gaps are exponential in operational time (Kolmogorov-Smirnov), for any shape; at a constant rate in seconds."""
    times = taken(Schedule(shape, 0, arrivals="poisson", seed=SEED), every(0.0031, 10))
    positions = [shape.due(ns / S) for ns in times]
    gaps = [later - earlier for earlier, later in itertools.pairwise(positions)]
    assert stats.kstest(gaps, "expon").pvalue > 0.01
    assert len(times) == pytest.approx(shape.due(10), abs=4 * math.sqrt(shape.due(10)))
    if isinstance(shape, Constant):
        seconds = [(later - earlier) / S for earlier, later in itertools.pairwise(times)]
        assert stats.kstest(seconds, "expon", args=(0, 1 / shape.rate)).pvalue > 0.01
        even = taken(Schedule(shape, 0), every(0.0031, 10))
        gaps = [(later - earlier) / S for earlier, later in itertools.pairwise(even)]
        assert stats.kstest(gaps, "expon", args=(0, 1 / shape.rate)).pvalue < 1e-6  # the test can tell


def test_gaps_of_poisson_arrivals_are_independent() -> None:
    """One gap says nothing of the next."""
    times = taken(Schedule(1000, 0, arrivals="poisson", seed=SEED), every(0.002, 10))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert stats.pearsonr(gaps[:-1], gaps[1:]).pvalue > 0.01


def test_seed_makes_a_schedule_repeatable() -> None:
    """Equal seeds give equal arrivals, however they are asked for; others give others."""
    first = taken(Schedule(500, 0, arrivals="poisson", seed=1), every(0.01, 5))
    assert taken(Schedule(500, 0, arrivals="poisson", seed=1), [5 * S], most=100_000) == first
    assert taken(Schedule(500, 0, arrivals="poisson", seed=2), [5 * S]) != first


def test_what_is_due_behind_a_stall_is_counted_without_memory() -> None:
    """Poisson arrivals of an hour are counted exactly while nothing is taken, and keep their times."""
    schedule = Schedule(300, 0, arrivals="poisson", seed=SEED)
    due = [schedule.due(quarter * S // 4) for quarter in range(0, 14_401, 100)]
    assert due == sorted(due, key=lambda each: each or 0)
    assert due[-1] == pytest.approx(300 * 3600, rel=0.01)
    assert len(taken(schedule, [3600 * S])) == due[-1]


def test_what_was_due_keeps_its_time_when_the_rate_changes() -> None:
    """Messages that found no room before a change are still late by their old times; new ones follow the new rate."""
    schedule = Schedule(10, 0)
    schedule.change(1000, 2 * S + S // 20)
    schedule.change(None, 3 * S + S // 20)
    assert (schedule.due(3 * S), schedule.unlimited, schedule.rate_at(3 * S)) == (None, True, None)
    times = schedule.take(4 * S, 1100)
    assert times[:20] == [n * S // 10 for n in range(1, 21)]
    assert times[20] == pytest.approx(2 * S + S // 20 + S // 2000, abs=2)  # half an interval was left of it
    assert len([ns for ns in times if ns < 3 * S + S // 20]) == 1020
    assert set(times[1020:]) == {4 * S}
    schedule.change(Ramp((Stage(2, 100),)), 5 * S)
    assert (schedule.rate_at(6 * S), schedule.due(5 * S)) == (50, 1100)
    assert schedule.due(9 * S) == 1200


def test_rate_per_second_of_a_schedule() -> None:
    """The target rate is that of the shape at that moment."""
    schedule = Schedule(SINE, 10 * S)
    assert [schedule.rate_at(ns * S) for ns in (10, 13)] == pytest.approx([1000, 1000])
    assert schedule.rate_at(round(10.75 * S)) == pytest.approx(1900)


@pytest.mark.parametrize(
    ("arrivals", "seed", "said"), [("uniform", 1, "'constant' or 'poisson'"), ("poisson", None, "seed")]
)
def test_what_cannot_be_arrivals(arrivals: str, seed: int | None, said: str) -> None:
    """Another word is refused with those that are known."""
    with pytest.raises(ConfigError, match=said):
        Schedule(5, 0, arrivals=arrivals, seed=seed)


# ---- recorded times -------------------------------------------------------------------------------------------------


def test_recorded_times_make_the_schedule() -> None:
    """Each message is due as long after the first as it was recorded; a time that falls back is that before it."""
    schedule = RecordedSchedule(iter([0.0, 0.5, 0.5, 0.4, 2.0]), 100 * S)
    assert (schedule.due(100 * S), schedule.rate_at(100 * S), schedule.unlimited) == (1, None, False)
    assert schedule.next_due_s(100 * S) == 0
    assert schedule.take(100 * S, 10) == [100 * S]
    assert schedule.next_due_s(100 * S) == pytest.approx(0.5)
    assert schedule.due(101 * S) == 4
    assert schedule.take(101 * S, 2) == [100 * S + S // 2] * 2
    assert schedule.take(109 * S, 10) == [100 * S + S // 2, 102 * S]
    assert (schedule.due(109 * S), schedule.next_due_s(109 * S)) == (5, math.inf)


def test_recorded_times_until_another_rate() -> None:
    """A new rate holds from its time on; what was recorded for before is still due, the rest is not."""
    schedule = RecordedSchedule((float(n) for n in itertools.count()), 0)
    assert schedule.take(2 * S, 1) == [0]
    schedule.change(10, 4 * S + S // 2)
    assert schedule.due(4 * S + S // 2) == 5
    assert schedule.due(5 * S + S // 2) == 15
    assert schedule.take(4 * S + S // 2, 100) == [1 * S, 2 * S, 3 * S, 4 * S]
    assert schedule.take(5 * S, 100) == [4 * S + S // 2 + n * S // 10 for n in range(1, 6)]
    assert schedule.next_due_s(5 * S) == pytest.approx(0.1)
    schedule.change(None, 6 * S)
    assert (schedule.unlimited, schedule.due(6 * S), schedule.next_due_s(6 * S)) == (True, None, 0)


def test_recorded_times_are_read_ahead_within_a_bound() -> None:
    """Behind a stall only so many times are kept; sending goes on from there with all of them."""
    read = itertools.count()
    schedule = RecordedSchedule((n / 1e6 for n in read), 0)
    assert schedule.due(10 * S) == LOOK_AHEAD
    assert next(read) == LOOK_AHEAD
    assert len(schedule.take(10 * S, 1000)) == 1000
    assert schedule.due(10 * S) == LOOK_AHEAD + 1000
