"""The dashboard's measurement judges rightly, and runs from end to end. No test looks at a timing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.dashboard import PAGES, PageCost, Paint, Pair, missing
from benchmarks.dashboard_command import Found, judged

IDLE = PageCost(0, 0.01, 0, 0, 10.0)
GOOD = Found(
    costs=[IDLE, PageCost(1, 0.05, 10, 500_000, 10.0)],
    paints=[Paint("live", 3.0, (1.1, 1.9, 5.0), 0.6, 1.2, 0.2)],
    producers={"20,000/s": [Pair(20_000.0, 19_900.0)], "most": [Pair(60_000.0, 30_000.0)]},
)


def test_what_keeps_the_rules_is_not_complained_of() -> None:
    """The first visit, one slow visit of three, and a producer that sends its most, are told and not judged."""
    assert judged(GOOD) == []


def test_refreshes_that_come_late_do_not_look_cheap() -> None:
    """A page costs what its refreshes cost, each once a second, however few the machine managed."""
    late = PageCost(2, 0.06, 5, 250_000, 10.0)
    assert late.each_at_one_hz(IDLE) == pytest.approx(0.1)
    assert late.payload == 50_000
    (complaint,) = judged(replace(GOOD, costs=[IDLE, late]))
    assert complaint == "2 Live pages open: 10.0% of a core each, 5.0% above 5%"
    assert judged(replace(GOOD, costs=[IDLE, replace(late, refreshes=0)])) == ["2 Live pages open: none was refreshed"]


def test_slow_page_and_slowed_producer_are_told_by_how_much() -> None:
    """Medians count."""
    slow = Paint("runs", 1.0, (2.5, 2.6, 1.0), 0.6, 1.2, 0.2)
    assert judged(replace(GOOD, paints=[slow])) == ["runs: first paint after 2.50 s, 0.50 s above 2 s"]
    pairs = [Pair(20_000.0, 19_000.0), Pair(20_000.0, 18_000.0), Pair(20_000.0, 20_000.0)]
    assert judged(replace(GOOD, producers={"20,000/s": pairs})) == [
        "producer at 20,000/s: 0.950 of its rate with a page open, 0.020 below 0.97"
    ]


@pytest.mark.soak
@pytest.mark.browser
@pytest.mark.integration
def test_whole_command(root: Path, tmp_path: Path) -> None:
    """Server, browser and workers start, every page is seen, and both producers send."""
    if reason := missing():
        pytest.skip(reason)
    path = tmp_path / "dashboard.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "dashboard", "--quick", "--json", str(path)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [paint["page"] for paint in found["paints"]] == list(PAGES)
    assert all(cost["received"] > 0 for cost in found["costs"] if cost["pages"])
    assert all(pair["open"] > 0 for pairs in found["producers"].values() for pair in pairs)
