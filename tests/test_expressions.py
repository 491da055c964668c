"""Expressions: what they mean by the samples of a run, and how those that mean nothing are refused."""

from __future__ import annotations

import pickle
import random
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs import list_expressions
from eventbus.alerts import History, parse
from eventbus.alerts.figures import COUNTERS, DISTRIBUTIONS, FUNCTIONS, GAUGES, METRICS, Counter, Distribution, Gauge
from eventbus.alerts.history import FULL_S
from eventbus.alerts.parser import MAX_LENGTH
from eventbus.alerts.quantity import duration_s, duration_text, shown
from eventbus.errors import ConfigError
from eventbus.snapshot import ConnectionState
from tests.run_samples import history, latencies, refusal, sample

PLACE = re.compile(r"expression, column [1-9][0-9]*: .+")


def value(text: str, looked_at: History) -> float | None:
    """The left side of ``text``, which is compared with 0: that fits every kind."""
    return parse(f"{text} >= 0").evaluate(looked_at).value


RUN = history(
    sample(0.0),
    sample(10.0, pending=30, acked=100, offered=150, oldest_pending_age_s=0.2, latency=latencies(*[1] * 100)),
    sample(20.0, pending=10, acked=190, rejected=6, unknown=4, offered=250, latency=latencies(*[1] * 100, *[9] * 90)),
    sample(30.0, pending=20, acked=280, rejected=6, unknown=4, offered=350, latency=latencies(*[1] * 100, *[9] * 180)),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pending", 20),
        ("last(pending)", 20),
        ("max(pending)", 30),
        ("min(pending)", 0),
        ("mean(pending)", 15),
        ("max(pending, 10s)", 20),
        ("mean(pending, 20s)", 15),
        ("increase(acked)", 280),
        ("increase(acked, 10s)", 90),
        ("rate(acked, 20s)", 9),
        ("rate(acked, 1h)", 280 / 30),
        ("rate(offered)", 350 / 30),
        ("ratio(failed, accepted)", 10 / 310),
        ("ratio(failed)", 10 / 290),
        ("ratio(failed, settled, 20s)", 10 / 190),
        ("ratio(failed, settled, 10s)", 0),
        ("increase(failed, 10s)", 0),
        ("p50(ack_latency)", 0.009),
        ("p25(ack_latency)", 0.001),
        ("p25(ack_latency, 20s)", 0.009),
        ("max(ack_latency)", 0.009),
        ("min(ack_latency)", 0.001),
        ("mean(ack_latency)", (100 * 0.001 + 180 * 0.009) / 280),
        ("rate(acked) / rate(offered)", 0.8),
        ("1 - pending / window_limit", None),
        ("pending + 2 * (pending - 5) / 3", 30),
        ("-pending + 30", 10),
        ("increase(acked) / increase(rejected, 10s)", None),
        ("scheduled_latency", ConfigError),
        ("target_rate", None),
        ("connected", 1),
        ("p99(scheduled_latency)", None),
    ],
)
def test_figures(text: str, expected: object) -> None:
    """Each figure as worked out by hand; what cannot be said is None."""
    if expected is ConfigError:
        with pytest.raises(ConfigError):
            parse(f"{text} >= 0")
    else:
        assert value(text, RUN) == (None if expected is None else pytest.approx(expected, rel=0.01))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("max(pending) < 31", True),
        ("max(pending) < 30", False),
        ("max(pending) <= 30", True),
        ("pending == 20", True),
        ("pending != 20", False),
        ("rate(acked) > 0.95 * rate(offered)", False),
        ("rate(acked) >= 79 % * rate(offered)", True),
        ("ratio(failed, accepted) < 1%", False),
        ("p99.9(ack_latency, 1m) < 250ms", True),
        ("p99(ack_latency) > 1_000us", True),
        ("p99(ack_latency) > .001 s", True),
        ("rate(acked) > 9/s", True),
        ("oldest_pending_age == 0", True),
        ("pending_bytes < 64MiB", True),
        ("5e3 > max( pending,\n 1h )", True),
        ("p99(scheduled_latency) < 1s", None),
    ],
)
def test_comparisons(text: str, holds: bool | None) -> None:
    """Whether it holds; None where a side cannot be said."""
    assert parse(text).evaluate(RUN).holds is holds


def test_both_sides_are_told() -> None:
    """value is the left side, threshold the right one, and samples what they rest on."""
    found = parse("rate(acked, 10s) > 0.95 * rate(offered, 10s)").evaluate(RUN)
    assert (found.value, found.threshold, found.holds) == (9.0, 9.5, False)
    assert parse("p99(ack_latency, 10s) < 1s").evaluate(RUN).samples == 90
    assert parse("ratio(failed, accepted) < 1%").evaluate(RUN).samples == 310
    assert parse("mean(pending, 20s) < 1").evaluate(RUN).samples == 2
    assert parse("p99(ack_latency) < oldest_pending_age + 1s").evaluate(RUN).samples == 1


def test_nothing_sampled_yet() -> None:
    """Without a sample nothing holds and nothing is broken."""
    for metric in METRICS.values():
        function = "max" if isinstance(metric, Gauge) else "rate" if isinstance(metric, Counter) else "p50"
        found = parse(f"{function}({metric.name}) > 0").evaluate(History(1))
        assert (found.value, found.holds, found.samples) == (None, None, 0)


def test_every_metric_and_function() -> None:
    """Each function takes each metric of its kinds, with a window and without, and each metric can be read."""
    kinds: dict[type, tuple[Gauge, ...] | tuple[Counter, ...] | tuple[Distribution, ...]]
    kinds = {Gauge: GAUGES, Counter: COUNTERS, Distribution: DISTRIBUTIONS}
    seen = set()
    for function in FUNCTIONS.values():
        parse(f"{function.example} > 0")
        for metric in (metric for kind in function.of for metric in kinds[kind]):
            seen.add(metric.name)
            for arguments in (metric.name, f"{metric.name}, 10s"):
                if not (function.name == "last" and "," in arguments) and "stalled" not in arguments:
                    parse(f"{function.name}({arguments}) > 0").evaluate(RUN)
    assert seen == set(METRICS)


def test_late_acks_take_no_failure_away() -> None:
    """failed counts what was settled as rejected or unknown, also where an ack came after all; unknown does not."""
    run = history(sample(0.0, unknown=0), sample(5.0, unknown=50), sample(10.0, acked=50, late_acks=50))
    assert value("increase(failed)", run) == 50
    assert value("increase(unknown)", run) == 0
    assert value("increase(unknown, 5s)", run) == 0  # and never less
    assert value("increase(settled)", run) == 50


def test_closed_bus_has_not_lost_its_broker() -> None:
    """connected is 1 or 0, and nothing once the bus is closed."""
    states = [ConnectionState.RECONNECTING, ConnectionState.CONNECTED, ConnectionState.DENIED, ConnectionState.CLOSED]
    found = [value("connected", history(sample(1.0, connection=state))) for state in states]
    assert found == [0, 1, 0, None]


@pytest.mark.parametrize(
    ("text", "window_s", "whole_run", "unit"),
    [
        ("p99(ack_latency, 1m) < 250ms", 60, False, "s"),
        ("pending < 5", None, False, ""),
        ("max(pending) < 5", None, True, ""),
        ("rate(acked, 5s) > rate(offered)", 5, True, "/s"),
        ("ratio(failed, settled, 500ms) > 50% * ratio(failed, settled, 1m)", 60, False, "ratio"),
        ("0 < max(pending_bytes, 2s)", 2, False, "B"),
        ("rate(stalled_time, 1s) > 0.5", 1, False, "ratio"),
    ],
)
def test_what_is_known_of_a_comparison(text: str, window_s: float | None, whole_run: bool, unit: str) -> None:
    """Its longest window, whether it is about the whole run, and its unit."""
    found = parse(text)
    assert (found.window_s, found.whole_run, found.unit) == (window_s, whole_run, unit)
    assert found.text == text


def test_comparison_travels() -> None:
    """It is equal by its text, on one line, and can be pickled."""
    found = parse("  max(pending,\n\t1m)   < 5 ")
    assert found.text == str(found) == "max(pending, 1m) < 5"
    assert pickle.loads(pickle.dumps(found)) == found == parse(found.text)
    assert found != parse("max(pending, 1m) < 6")
    assert found.constant == 5
    assert parse("rate(acked) > rate(sent)").constant is None


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("pending > 10 and connected == 1", True),
        ("pending > 10 and connected == 0", False),
        ("pending > 30 and connected == 1", False),
        ("pending > 10 and max(scheduled_latency) > 1s", None),
        ("pending > 30 and max(scheduled_latency) > 1s", False),
        ("pending > 10 and pending > 11 and pending > 12", True),
    ],
)
def test_and(text: str, holds: bool | None) -> None:
    """Every part must hold; one that does not decides, whatever the others cannot say. Value, threshold and samples are
    those of the first."""
    found = parse(text).evaluate(RUN)
    assert (found.holds, found.value) == (holds, 20)
    assert found.samples == parse(text.partition(" and ")[0]).evaluate(RUN).samples


def test_what_is_known_of_two_comparisons() -> None:
    """The longest window of all; the rest is of the first, which is the one that is drawn."""
    found = parse("ratio(failed, settled, 5s) >  1%\n and p99(ack_latency, 1m) > 2s")
    assert found.text == "ratio(failed, settled, 5s) > 1% and p99(ack_latency, 1m) > 2s"
    assert (found.window_s, found.unit, found.constant, found.whole_run) == (60, "ratio", 0.01, False)
    assert [part.text for part in found.also] == ["p99(ack_latency, 1m) > 2s"]
    assert parse("pending > 1 and increase(acked) > 3").whole_run
    assert pickle.loads(pickle.dumps(found)).also == found.also


REFUSED = [
    ("", 1, "ends too soon"),
    ("   ", 4, "ends too soon"),
    ("pending", 8, "expected a comparison"),
    ("pending <", 10, "expected a metric or function"),
    ("1 < 2", 1, "numbers only"),
    ("pending < 5 pending", 13, "not expected"),
    ("pending = 5", 9, "write =="),
    ("1 < pending < 3", 13, "write and between"),
    ("pending < 5 && pending > 3", 13, "write and between"),
    ("pending < 5 AND pending > 3", 13, "in small letters"),
    ("pending < 5 or pending > 30", 13, "write two rules"),
    ("pending < 5 and acked > 3", 17, "acked is a total"),
    ("pending < 5 and 1 < 2", 17, "numbers only"),
    ("pending < 5 and", 16, "ends too soon"),
    ("pending < 5 and pending", 24, "expected a comparison"),
    ("(pending < 5", 10, "expected +"),
    ("pending < 5k", 11, "'5k' is not a number"),
    ("pending < 1__0", 11, "not a number"),
    ("pending < 1e99", 11, "too large"),
    ("pending < 5 / 0", 13, "divide by 0"),
    ("pending < ٣", 11, "not expected"),
    ("p99(ack_latncy) < 1s", 5, "did you mean ack_latency?"),
    ("latency < 1s", 1, "did you mean ack_latency?"),
    ("avg(pending) < 1", 1, "did you mean mean?"),
    ("P99(ack_latency) < 1s", 1, "did you mean p99?"),
    ("p99 < 1s", 1, "p99 is a function"),
    ("p0(ack_latency) < 1s", 1, "more than 0"),
    ("p100.1(ack_latency) < 1s", 1, "at most 100"),
    ("pending(acked) < 1", 1, "is a metric"),
    ("acked > 3", 1, "is a total; use increase(acked)"),
    ("ack_latency > 3s", 1, "use p99(ack_latency)"),
    ("rate(pending) > 1", 6, "pending is a gauge"),
    ("max(acked) > 1", 5, "acked is a total"),
    ("p99(pending) > 1", 5, "use p99 with ack_latency"),
    ("last(pending, 1s) < 3", 1, "takes no window"),
    ("max() < 3", 5, "expected a metric"),
    ("max(5) < 3", 5, "not a metric"),
    ("max(pending, acked) < 3", 14, "one metric"),
    ("ratio(failed, acked, sent) < 3", 22, "two metrics"),
    ("ratio(stalled_time, acked) < 3", 1, "no ratio"),
    ("max(rate(acked)) < 3", 9, "expected ) or ,"),
    ("max(pending, 60) < 3", 14, "not a window"),
    ("max(pending, 5%) < 3", 14, "not a window"),
    ("max(pending, 2h) < 3", 14, "100ms to 1h"),
    ("max(pending, 10ms) < 3", 14, "100ms to 1h"),
    ("p99(ack_latency) < 250", 18, "a number without unit"),
    ("p99(ack_latency) < 1%", 18, "a time and a ratio"),
    ("pending_bytes < 1000", 15, "give the number its unit"),
    ("pending < 1%", 9, "a count and a ratio"),
    ("rate(acked) > 95%", 13, "a rate per second and a ratio"),
    ("rate(acked) > pending", 13, "cannot be compared"),
    ("pending + 5ms < 4", 9, "cannot be added"),
    ("pending\n  - 5ms < 4", 11, "cannot be subtracted"),
    ("pending + " * 50 + "pending < 1", MAX_LENGTH, "longer than 400"),
]


@pytest.mark.parametrize(("text", "column", "cause"), REFUSED, ids=range(len(REFUSED)))
def test_refused(text: str, column: int, cause: str) -> None:
    """One line: the column, what was given, what is allowed."""
    with pytest.raises(ConfigError) as refused:
        parse(text)
    assert str(refused.value).startswith(f"expression, column {column}: ")
    assert cause in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_thousand_malformed_expressions() -> None:
    """Whatever is taken out of or put into good ones: understood, or refused in one line with its column."""
    chance = random.Random(6)
    good = ["p99(ack_latency, 1m) < 250ms", "ratio(failed, accepted) < 1%", "rate(acked) > 0.95 * rate(offered)"]
    pieces = [*string.printable, "and", "1e9999", "p100", "\u2028", "\x00", "é", "((((", "--", "ratio(", ", 1m", "%%"]
    refused = 0
    while refused < 1_000:
        text = list(chance.choice(good))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(text) + 1)
            text[at : at + chance.randint(0, 3)] = [chance.choice(pieces)] * chance.randint(0, 2)
        reason = refusal(parse, "".join(text))
        if reason is not None:
            refused += 1
            assert PLACE.fullmatch(reason), (text, reason)
            assert len(reason.splitlines()) == 1


@given(st.text(max_size=40))
@settings(deadline=None)
def test_any_text_at_all(text: str) -> None:
    """Nothing but ConfigError comes out, on one line."""
    reason = refusal(parse, text)
    assert reason is None or len(reason.splitlines()) == 1


def test_deepest_expression() -> None:
    """The longest text nests no deeper than can be read."""
    terms = "+".join(["pending"] * 49)
    assert parse(f"{terms} > 0").evaluate(RUN).value == 49 * 20
    assert parse(f"pending > {'+'.join(['1'] * 190)}").constant == 190
    assert parse(f"{'(' * 190}pending{')' * 190} > 0").evaluate(RUN).value == 20
    with pytest.raises(ConfigError):
        parse(f"{'-' * 300}pending > 0")


# What history keeps.


def test_whole_run_from_the_end_of_the_warm_up() -> None:
    """begin leaves out what was before for the whole run, and for windows only in the judged view."""
    looked_at = History(60)
    warm_up = sample(10.0, acked=100, pending=500, latency=latencies(*[50] * 100))
    for each in (sample(0.0), sample(5.0, acked=40, pending=900), warm_up):
        looked_at.add(each)
    looked_at.begin(warm_up)
    assert value("pending", looked_at) == 500
    assert value("max(pending)", looked_at) is None
    assert value("rate(acked)", looked_at) is None
    looked_at.add(sample(20.0, acked=300, pending=7, latency=latencies(*[50] * 100, *[1] * 200)))
    assert value("max(pending)", looked_at) == 7
    assert value("rate(acked)", looked_at) == 20
    assert value("max(ack_latency)", looked_at) == pytest.approx(0.001, rel=0.02)
    assert value("max(pending, 1m)", looked_at) == 900
    assert value("rate(acked, 1m)", looked_at) == 15
    assert value("max(pending, 1m)", looked_at.judged()) == 7
    assert value("rate(acked, 1m)", looked_at.judged()) == 20
    assert value("p50(ack_latency, 1m)", looked_at.judged()) == pytest.approx(0.001, rel=0.02)


def test_begin_before_its_sample_is_added() -> None:
    """It makes no difference whether the last sample of the warm-up was added before or is added after."""
    looked_at, warm_up = History(60), sample(10.0, acked=100, pending=500)
    looked_at.add(sample(0.0))
    looked_at.begin(warm_up)
    looked_at.add(warm_up)
    looked_at.add(sample(20.0, acked=300, pending=7))
    assert (value("max(pending)", looked_at), value("rate(acked)", looked_at)) == (7, 20)


def test_a_single_last_sample_tells_of_the_whole_run() -> None:
    """Totals begin at 0 with the run: its last sample is enough."""
    last = history(sample(20.0, acked=90, rejected=10, offered=100, latency=latencies(*[3] * 90)))
    assert value("ratio(failed, accepted)", last) == 0.1
    assert value("rate(acked)", last) == 4.5
    assert value("p99(ack_latency)", last) == pytest.approx(0.003, rel=0.01)
    assert value("rate(acked, 5s)", last) is None  # of which it does not tell


def test_unpunctual_samples() -> None:
    """A sample that comes up to 50 ms late still is the begin of a window."""
    run = history(*(sample(at, acked=round(100 * at)) for at in (0.0, 0.25, 0.53, 0.75, 1.02, 1.25, 1.5)))
    assert value("increase(acked, 1s)", run) == 97


def test_older_sample_is_left_out() -> None:
    """Time does not run backwards."""
    run = history(sample(1.0, pending=1), sample(2.0, pending=2), sample(1.5, pending=99))
    assert (value("pending", run), value("max(pending)", run)) == (2, 2)


def test_long_run_takes_bounded_memory_and_stays_right() -> None:
    """Two hours of samples: windows are exact for the last minute, within 1 % of their length before; extremes stay."""
    looked_at = History(3600)
    for quarter in range(4 * 7200 + 1):
        at = quarter / 4
        looked_at.add(sample(at, acked=quarter * 10, pending=7_000 if at == 5_000 else 3))
    assert len(looked_at._entries) < 800
    assert value("increase(acked, 30s)", looked_at) == 1_200
    assert value(f"increase(acked, {FULL_S:.0f}s)", looked_at) == pytest.approx(2_400, rel=0.001)
    for minutes in (2, 5, 20, 60):
        assert value(f"rate(acked, {minutes}m)", looked_at) == pytest.approx(40, rel=0.001)
        assert value(f"increase(acked, {minutes}m)", looked_at) == pytest.approx(2_400 * minutes, rel=0.015)
    assert value("max(pending, 1h)", looked_at) == 7_000
    assert value("max(pending, 10m)", looked_at) == 3
    assert value("mean(pending)", looked_at) == pytest.approx(3 + 6_997 / 28_801)
    assert value("rate(acked)", looked_at) == pytest.approx(40)


def test_reaches_as_far_as_its_expressions() -> None:
    """A history that covers comparisons keeps their longest window, and no more."""
    looked_at = History.covering([parse("max(pending, 20s) < 1"), parse("max(pending, 5s) < 1"), parse("pending < 1")])
    assert looked_at.span_s == 20
    for quarter in range(4_000):
        looked_at.add(sample(quarter / 4, acked=quarter))
    assert len(looked_at._entries) < 4 * 20 + 2 + 64
    assert value("increase(acked, 20s)", looked_at) == 80


# Quantities, and the page.


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5), ("250ms", 0.25), ("1m", 60), ("1.5h", 5400), ("0", 0), ("0s", 0), (" 3 s", 3)]
)
def test_duration(text: str, seconds: float) -> None:
    """A number with its unit."""
    assert duration_s(text) == seconds
    assert duration_s(duration_text(seconds)) == seconds


@pytest.mark.parametrize(
    "given", ["", "5", "5x", "s", "1%", "-1s", "inf", "nan s", 5, 5.0, None, True, ["5s"], "5s\n6"]
)
def test_no_duration(given: object) -> None:
    """Anything else is refused, a number without unit too, on one line."""
    with pytest.raises(ConfigError, match=r'is not a duration; use a number with its unit, as in "500ms"') as refused:
        duration_s(given)
    assert "\n" not in str(refused.value)


@given(st.integers(0, 10_000_000))
def test_duration_text_is_read_back(milliseconds: int) -> None:
    """What is written of a duration is the same duration."""
    assert duration_s(duration_text(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0.25, "s", "250 ms"),
        (0, "s", "0 s"),
        (0.0000314, "s", "31.4 µs"),
        (1.5, "s", "1.5 s"),
        (120, "s", "120 s"),
        (0.0123, "ratio", "1.23 %"),
        (5210, "", "5,210"),
        (0.333333, "", "0.333"),
        (950.4, "/s", "950/s"),
        (3 * 2**19, "B", "1.5 MiB"),
        (12, "B", "12 B"),
        (None, "s", "no data"),
        (float("nan"), "", "no data"),
    ],
)
def test_shown_to_people(number: float | None, unit: str, text: str) -> None:
    """Three digits that say something, and the unit."""
    assert shown(number, unit) == text


def test_page_is_up_to_date() -> None:
    """docs/expressions.md is what ``python -m docs.list_expressions`` writes now."""
    assert list_expressions.TARGET.read_text(encoding="utf-8") == list_expressions.markdown()


def test_examples_of_the_page() -> None:
    """Every metric and function stands on the page, and its expressions can be used."""
    page = list_expressions.markdown()
    assert [name for name in (*METRICS, *FUNCTIONS) if f"| `{name}` |" not in page] == []
    block = page.partition("```\n")[2].partition("```")[0]
    examples = [part for line in block.splitlines() for part in re.split(r" {3,}", line)]
    assert len([parse(example) for example in examples]) == 6
