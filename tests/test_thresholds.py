"""Thresholds: what a run must be like to pass, what ends it early, and the verdict."""

from __future__ import annotations

import json
import pickle

import pytest

from eventbus.alerts import History, Threshold, Verdict, VerdictRow, abort_due, judge, parse, thresholds_from
from eventbus.alerts.threshold import thresholds_from_plain
from eventbus.errors import ConfigError
from eventbus.toml_text import TomlText
from tests.run_samples import history, latencies, sample

GOOD = "ratio(failed, accepted) < 1%"
RUN = history(
    sample(0.0), sample(20.0, acked=973, rejected=20, offered=1_000, pending=7, latency=latencies(*[200] * 973))
)


def thresholds(*texts: str, abort: bool = False, grace_s: float = 10.0) -> list[Threshold]:
    return [Threshold(parse(text), abort, grace_s) for text in texts]


def test_verdict_has_a_row_for_each_threshold() -> None:
    """In their order: what was measured, against what, in which unit; one that does not hold fails the run."""
    verdict = judge(thresholds("p99(ack_latency) < 250ms", GOOD, "max(pending) < 5000"), RUN)
    assert not verdict.passed
    assert [(row.text, row.passed, row.value, row.unit) for row in verdict.rows] == [
        ("p99(ack_latency) < 250ms", True, pytest.approx(0.2, rel=0.01), "s"),
        (GOOD, False, 0.02, "ratio"),
        ("max(pending) < 5000", True, 7, ""),
    ]
    assert [row.value_text for row in verdict.rows] == ["200 ms", "2 %", "7"]
    assert [row.threshold_text for row in verdict.rows] == ["250 ms", "1 %", "5,000"]


def test_all_hold() -> None:
    """The run passed; so does one of which nothing was asked."""
    assert judge(thresholds("rate(acked) > 40", "max(pending) < 8"), RUN).passed
    assert judge([], RUN) == Verdict(True)


def test_nothing_to_judge_is_not_met() -> None:
    """A threshold about what never came (no acks, so no latency) does not pass: the row says that there is no data."""
    verdict = judge(thresholds("p99(ack_latency) < 1s", "max(pending) < 5"), history(sample(5.0, pending=1)))
    assert not verdict.passed
    assert [row.passed for row in verdict.rows] == [None, True]
    assert verdict.rows[0].value_text == "no data"
    assert not judge(thresholds(GOOD), History()).passed


def test_warm_up_is_not_judged() -> None:
    """Neither in the whole run nor in a window that reaches back before its end."""
    looked_at, warm_up = History(60), sample(10.0, acked=500, rejected=500, pending=9_000)
    looked_at.add(sample(0.0))
    looked_at.add(warm_up)
    looked_at.begin(warm_up)
    looked_at.add(sample(20.0, acked=20_000, rejected=500, pending=4))
    wanted = thresholds(GOOD, "ratio(failed, accepted, 1m) < 1%", "max(pending, 1m) < 100", "max(pending) < 5")
    assert judge(wanted, looked_at).passed


def test_verdict_through_json() -> None:
    """to_dict gives plain values, from_dict reads them back, without data too."""
    verdict = judge(thresholds("p99(ack_latency) < 1s", GOOD, "rate(acked) > 3"), RUN)
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict
    unsaid = Verdict(False, (VerdictRow("x", None, None, None),))
    assert Verdict.from_dict(json.loads(json.dumps(unsaid.to_dict()))) == unsaid


def test_abort_after_the_grace() -> None:
    """The first that asks for it and does not hold ends the run, but not in its first seconds."""
    wanted = [
        *thresholds("max(pending) < 1"),
        *thresholds("max(pending) < 8", abort=True),
        *thresholds("max(pending) < 7", GOOD, abort=True, grace_s=15),
    ]
    assert abort_due(wanted, RUN, 14.9) is None
    assert abort_due(wanted, RUN, 15.0) is wanted[2]
    assert abort_due(wanted[:2], RUN, 1_000.0) is None


def test_grace_counts_from_the_end_of_the_warm_up() -> None:
    """While it warms up nothing ends a run, and the grace begins after it."""
    wanted = thresholds("max(pending) < 1", abort=True)
    looked_at, warm_up = History(), sample(30.0, warming_up=True, pending=5)
    looked_at.add(warm_up)
    assert abort_due(wanted, looked_at, 30.0) is None
    looked_at.begin(warm_up)
    looked_at.add(sample(39.0, pending=5))
    assert abort_due(wanted, looked_at, 39.0) is None
    assert abort_due(wanted, looked_at, 40.0) is wanted[0]


def test_no_data_ends_no_run() -> None:
    """What cannot be said yet is no reason to stop."""
    wanted = thresholds("p99(ack_latency) < 1s", abort=True, grace_s=0)
    assert abort_due(wanted, history(sample(1.0)), 1.0) is None
    assert abort_due(wanted, History(), 1.0) is None


def test_from_a_file() -> None:
    """[[thresholds]] tables, or a list of expressions, or both in a list; none is no error."""
    tables = TomlText(
        f"""
        [[thresholds]]
        expression = "{GOOD}"
        abort = true
        grace = "2s"
        [[thresholds]]
        expression = "max(pending) < 5"
        """,
        "plan.toml",
    )
    first, second = thresholds_from(tables)
    assert (first, second) == (Threshold(parse(GOOD), True, 2.0), Threshold(parse("max(pending) < 5"), False, 10.0))
    texts = TomlText(f'thresholds = ["{GOOD}", {{ expression = "max(pending) < 5" }}]', "plan.toml")
    assert thresholds_from(texts) == (Threshold(parse(GOOD)), second)
    assert thresholds_from(TomlText("", "plan.toml")) == ()
    inner = TomlText(f'[judge]\nthresholds = ["{GOOD}"]', "plan.toml")
    assert thresholds_from(inner, ("judge", "thresholds")) == (Threshold(parse(GOOD)),)


def test_as_plain_values_and_back() -> None:
    """to_plain is what a JSON list holds; a comparison travels between processes."""
    wanted = (*thresholds(GOOD), *thresholds(GOOD, abort=True), *thresholds("max(pending) < 5", grace_s=0.25))
    plain = json.loads(json.dumps([threshold.to_plain() for threshold in wanted]))
    assert plain[0] == GOOD
    assert thresholds_from_plain(plain) == wanted
    assert pickle.loads(pickle.dumps(wanted)) == wanted


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('thresholds = ["max(pending) < 5k"]', ":1: expression, column 16: '5k' is not a number"),
        ('thresholds = [\n  "max(pending) < 5",\n  "max(pendig) < 5",\n]', ":4: expression, column 5: 'pendig' is not"),
        ("thresholds = 5", ":1: thresholds is 5; use [[thresholds]] tables"),
        ("thresholds = [5]", ":1: a threshold is 5; use a table"),
        ("[[thresholds]]\nabort = true", ":1: a threshold has no expression; add it"),
        ("[[thresholds]]\nexpression = 5", ":2: expression is 5; use a text in quotes"),
        ('[[thresholds]]\nexpression = "pending < 5"\nabort = 1', ":3: abort is 1; use true or false"),
        ('[[thresholds]]\nexpression = "pending < 5"\ngrace = 5', ":3: grace: 5 is not a duration"),
        ('[[thresholds]]\nexpression = "pending < 5"\ngrace = "169h"', ":3: grace is 608400 s; use 0 s to 7 days"),
        ('[[thresholds]]\nexpression = "pending < 5"\n\nabrot = true', ":4: 'abrot' is no setting of a threshold; did"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    """File, line, cause and what is allowed, on one line."""
    with pytest.raises(ConfigError) as refused:
        thresholds_from(TomlText(text, "plan.toml"))
    assert str(refused.value).startswith(f"plan.toml{reason}")
    assert len(str(refused.value).splitlines()) == 1


def test_refused_without_a_file() -> None:
    """Then the path is the place."""
    with pytest.raises(ConfigError, match=r"^thresholds\[1\]: expression, column 1"):
        thresholds_from_plain([GOOD, "pendin < 5"])
    with pytest.raises(ConfigError, match=r"^thresholds\[0\]\.abort: abort is 'yes'"):
        thresholds_from_plain([{"expression": GOOD, "abort": "yes"}])
