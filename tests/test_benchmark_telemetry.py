"""What the telemetry benchmark calls wrong, and that it runs. No test looks at a timing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.telemetry import MIB, TELLINGS, Measured, Round, Row, Telling, row_of, too_much, wrong_counts


def measured(telling: Telling = "none", elapsed_s: float = 1.0) -> Measured:
    return Measured(
        telling=telling, situation="acked", messages=1000, elapsed_s=elapsed_s, cpu_s=0.01, acked=1000, unknown=0,
        told=None, p50_ms=0.4, p99_ms=1.0, grown=MIB, close_s=0.01, shutdown_s=0.01, exit_s=0.1,
    )  # fmt: skip


def row(telling: Telling = "none") -> Row:
    return row_of(
        "acked", telling, [{"none": measured(), "answering": measured("answering"), telling: measured(telling)}]
    )


@pytest.mark.integration
def test_quick_run(root: Path, tmp_path: Path) -> None:
    """All ways of telling run against a server that never acks: every failure is counted, and a span stands for it."""
    path = tmp_path / "out.json"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks",
            "telemetry",
            "--quick",
            "--messages",
            "1000",
            "--only",
            "timeouts",
            "--json",
            path,
        ],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text(encoding="utf-8"))
    assert {run["telling"] for run in found["runs"]} == set(TELLINGS)
    for run in found["runs"]:
        assert (run["acked"], run["unknown"]) == (0, 1000)
        if run["telling"] == "discarded":
            assert run["told"] == 1000
    assert all(words in done.stdout for words in TELLINGS.values())


def test_unknown_situation() -> None:
    """A wrong name lists the right ones."""
    done = CliRunner().invoke(main, ["telemetry", "--only", "nothing"])
    assert done.exit_code == 2
    assert "choose from acked, timeouts" in done.output


def test_ratios_are_of_the_same_round() -> None:
    """A machine that was slower in one round was so for both: the median is taken over the ratios."""
    rounds: list[Round] = [
        {"none": measured(elapsed_s=slow), "discarded": measured("discarded", slow * 2)} for slow in (1.0, 10.0, 3.0)
    ]
    assert row_of("acked", "discarded", rounds).share == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"share": 0.89}, []),
        ({"share": 0.89, "of_answering": None}, ["0.89 of the rate without telemetry, 0.9 is asked for"]),
        ({"of_answering": 0.94}, ["0.94 of the rate with a collector that answers, 0.95 is asked for"]),
        ({"p50_ms": 0.9}, ["median ack latency 0.90 ms, 0.40 without telemetry"]),
        ({"grown": 40 * MIB}, ["39.0 MiB more memory than without telemetry"]),
        ({"shutdown_s": 35.0, "exit_s": 46.0}, ["shutdown took 35.0 s of 1", "exit took 46.0 s of 2"]),
    ],
)
def test_too_much(changes: dict[str, float], words: list[str]) -> None:
    """Rate, latency, memory and deadlines are judged, each in its own words."""
    found = too_much(replace(row("dead"), **changes), row())  # type: ignore[arg-type]
    assert found == [f"acked, {TELLINGS['dead']}: {word}" for word in words]


def test_wrong_counts() -> None:
    """Every message has the outcome that it must have, and every failure a span that stands for it."""
    assert wrong_counts(measured()) == []
    assert wrong_counts(replace(measured(), acked=999)) == [
        "acked, no telemetry: 999 acked and 0 unknown of 1000",
    ]
    mute = replace(measured("discarded"), situation="timeouts", acked=0, unknown=1000, told=998)
    assert wrong_counts(mute) == [f"timeouts, {TELLINGS['discarded']}: spans stood for 998 of 1000 failures"]
