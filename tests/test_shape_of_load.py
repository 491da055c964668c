"""Shapes of a load: rate, integral and inverse agree, and what cannot be a shape is refused by field."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.load.shape import Burst, Constant, Ramp, Shape, ShapeError, Sine, Stage, Step, shape_from

RATES = st.floats(0.1, 100_000)
SECONDS = st.floats(0.01, 10_000)
STAGES = st.lists(st.builds(Stage, SECONDS, st.one_of(st.just(0.0), RATES)), min_size=1, max_size=6).filter(
    lambda stages: any(stage.rate for stage in stages)
)
SHAPES: st.SearchStrategy[Shape] = st.one_of(
    st.builds(Constant, RATES),
    st.builds(Ramp, STAGES.map(tuple), st.one_of(st.just(0.0), RATES)),
    st.builds(Step, STAGES.map(tuple)),
    st.builds(
        lambda base, more, calm, burst: Burst(base, base + more, calm + burst, burst), RATES, RATES, SECONDS, SECONDS
    ),
    st.builds(lambda mean, share, period: Sine(mean, mean * share, period), RATES, st.floats(0, 1), SECONDS),
)


def bends(shape: Shape) -> list[float]:
    """Times at which the rate may jump or bend, as far as they matter here."""
    if isinstance(shape, (Ramp, Step)):
        return list(itertools.accumulate(stage.duration_s for stage in shape.stages))
    if isinstance(shape, Burst):
        return [n * shape.every_s + part for n in range(50) for part in (0, shape.every_s - shape.length_s)]
    return []


def integral(shape: Shape, until_s: float) -> float:
    """Of the rate, by Simpson's rule between bends: exact for straight lines, close for a sine."""
    steps = 400 if isinstance(shape, Sine) else 1
    edges = sorted({0.0, until_s, *(t for t in bends(shape) if 0 < t < until_s)})
    total = 0.0
    for begin, end in itertools.pairwise(edges):
        width = (end - begin) / steps
        inside = width * 1e-9  # a jump belongs to the side that is looked at
        for step in range(steps):
            left = begin + step * width
            rates = [shape.rate_at(t) for t in (left + inside, left + width / 2, left + width - inside)]
            total += width * (rates[0] + 4 * rates[1] + rates[2]) / 6
    return total


@given(SHAPES, st.floats(0, 20))
def test_due_is_the_integral_of_the_rate(shape: Shape, periods: float) -> None:
    """What is due by a time is the area under the rate until then."""
    length_s = shape.period_s if isinstance(shape, Sine) else shape.every_s if isinstance(shape, Burst) else 100.0
    until_s = periods * length_s if shape.duration_s is None else min(shape.duration_s, periods * shape.duration_s)
    assert shape.due(until_s) == pytest.approx(integral(shape, until_s), rel=1e-4, abs=1e-3)


@given(SHAPES, st.lists(st.floats(-10, 100_000), min_size=2, max_size=8))
def test_due_never_falls(shape: Shape, times: list[float]) -> None:
    """Later, at least as many are due; before the begin none; and the rate stays between 0 and the peak."""
    dues = [shape.due(t) for t in sorted(times)]
    assert all(later >= earlier - 1e-6 for earlier, later in itertools.pairwise(dues))
    assert all(0 <= shape.rate_at(t) <= shape.peak * (1 + 1e-12) for t in times)
    assert all(shape.due(t) == 0 == shape.rate_at(t) for t in times if t < 0)


@given(SHAPES, st.floats(1e-3, 1))
def test_when_is_the_inverse_of_due(shape: Shape, share: float) -> None:
    """A message is due at the first moment at which so many are due."""
    due = share * shape.due(10_000.0 if shape.duration_s is None else shape.duration_s)
    when_s = shape.when(due)
    assert shape.due(when_s) == pytest.approx(due, rel=1e-9, abs=2e-6)
    earlier_s = when_s * (1 - 1e-6) - 1e-6
    assert shape.due(earlier_s) < due + 2e-6


@given(SHAPES)
def test_shape_with_an_end(shape: Shape) -> None:
    """After its end nothing more is due, ever."""
    if shape.duration_s is None:
        assert shape.due(1e6) > shape.due(1e5)
        return
    total = shape.due(shape.duration_s)
    assert shape.due(shape.duration_s + 1e6) == total
    assert shape.rate_at(shape.duration_s) == 0
    assert shape.when(total + 1) == math.inf
    assert shape.when(total) <= shape.duration_s


@given(SHAPES)
def test_shape_as_plain_values(shape: Shape) -> None:
    """A shape is the same after a way through JSON."""
    assert shape_from(json.loads(json.dumps(shape.to_dict()))) == shape


def test_shape_as_people_write_it() -> None:
    """Times may be text with a unit, under the name without its unit."""
    ramp = shape_from({"kind": "ramp", "stages": [{"duration": "30s", "rate": 500}, {"duration": "1m", "rate": 0}]})
    assert ramp == Ramp((Stage(30.0, 500), Stage(60.0, 0)))
    figures = (ramp.due(30), ramp.due(90), ramp.rate_at(15), ramp.peak, ramp.duration_s)
    assert figures == pytest.approx((7500, 22500, 250, 500, 90))
    burst = shape_from({"kind": "burst", "base": 100, "peak": 1000, "every": "10s", "length": "500ms"})
    assert burst == Burst(100, 1000, 10.0, 0.5)
    assert [burst.rate_at(t) for t in (0, 9.4, 9.6, 10.0, 19.9)] == [100, 100, 1000, 100, 1000]
    assert burst.due(20) == 2 * (950 + 500)


STAGE: dict[str, Any] = {"duration": "1s", "rate": 5}


@pytest.mark.parametrize(
    ("table", "said", "key"),
    [
        (None, "shape is None; give a table", ()),
        ({}, "kind is None; use one of constant, ramp, step, burst, sine", ("kind",)),
        ({"kind": "rmap"}, "did you mean 'ramp'", ("kind",)),
        ({"kind": ["ramp"]}, "use one of", ("kind",)),
        ({"kind": "constant"}, "rate is missing in a shape of kind 'constant'", ("rate",)),
        ({"kind": "constant", "rate": 0}, "rate is 0; use more than 0 to 10,000,000 messages per second", ("rate",)),
        ({"kind": "constant", "rate": float("nan")}, "rate is nan; use a number", ("rate",)),
        ({"kind": "constant", "rate": 10**400}, "rate is a number of more than 30 digits; use a number", ("rate",)),
        ({"kind": "constant", "rate": True}, "rate is True; use a number", ("rate",)),
        ({"kind": "constant", "rat": 5}, "unknown name 'rat' .* did you mean 'rate'", ("rat",)),
        ({"kind": "ramp", "stages": 5}, "stages is 5; give a list", ("stages",)),
        ({"kind": "ramp", "stages": []}, "0 stages; use 1 to 1,000", ("stages",)),
        ({"kind": "ramp", "stages": [STAGE, 7]}, "stage 2: it is 7; give a table", ("stages", 1)),
        ({"kind": "ramp", "stages": [{"rate": 5}]}, "stage 1: duration is missing", ("stages", 0, "duration")),
        ({"kind": "ramp", "stages": [STAGE | {"duration": 30}]}, "write it as 500ms", ("stages", 0, "duration")),
        ({"kind": "ramp", "stages": [STAGE | {"duration_s": 3}]}, "given twice", ("stages", 0, "duration_s")),
        ({"kind": "ramp", "stages": [STAGE | {"rate": -1}]}, "stage 1: rate is -1; use 0 to", ("stages", 0, "rate")),
        ({"kind": "step", "stages": [STAGE | {"rate": 0}]}, "highest rate of all stages is 0", ("stages",)),
        ({"kind": "burst", "base": 5, "peak": 5, "every_s": 5, "length_s": 1}, "use more than base", ("peak",)),
        ({"kind": "burst", "base": 5, "peak": 9, "every_s": 5, "length_s": 5}, "less than every", ("length",)),
        ({"kind": "burst", "base": 5, "peak": 9, "every_s": 0, "length_s": 5}, "every is 0 s; use 0.001", ("every",)),
        ({"kind": "sine", "mean": 5, "amplitude": 6, "period_s": 5}, "amplitude is 6; use at most", ("amplitude",)),
    ],
)  # fmt: skip
def test_what_cannot_be_a_shape(table: Any, said: str, key: tuple[str | int, ...]) -> None:
    """It is refused with what was given, what is allowed, and where, in one line."""
    with pytest.raises(ShapeError, match=said) as caught:
        shape_from(table)
    assert caught.value.key == key
    assert "\n" not in str(caught.value)
