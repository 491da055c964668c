"""``runs`` on the command line: tables for people, JSON for programs, and exits that say what was."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import click
import pytest

from eventbus.errors import ConfigError
from eventbus.observe import AlertChange, RunStatus, StoreReader, StoreWriter
from eventbus.runs_command import runs_group
from tests.stored_runs import EVIL, START_S, Stored, keep


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return keep(tmp_path / "runs.db")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def run(stored: Stored, *words: str) -> object:
    """What the command returns: its exit code, or None for 0."""
    return runs_group.main([*words, "--store", str(stored.path)], standalone_mode=False)


def test_list(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a run, newest first, with its verdict; with --json the same as rows."""
    assert run(stored, "list") is None
    head, bad, good = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["run", "name", "status", "verdict"]
    assert (stored.bad in bad, "✗ failed" in bad, "40.0 s" in bad) == (True, True, True)
    assert (stored.good in good, "before the upgrade (baseline)" in good) == (True, True)
    run(stored, "list", "--json", "--limit", "1")
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert (row["run"], row["passed"]) == (stored.bad, False)


def test_list_of_an_empty_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No store is no error: it says where was looked."""
    runs_group.main(["list", "--store", str(tmp_path / "none.db")], standalone_mode=False)
    assert "no runs are kept in" in capsys.readouterr().out


def test_show(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    """Verdict, figures and failures of the last run; texts are shown as they are."""
    run(stored, "show")
    shown = capsys.readouterr().out
    for wanted in (
        stored.bad,
        "✗",
        "p99(ack_latency) < 250ms",
        "2.50 s",
        "ack latency p99",
        "20 (95.2 %)",
        "id-19",
        "alerts",
    ):
        assert wanted in shown, wanted
    assert EVIL[:30] in shown
    assert re.search(r"\+11\.0 s +▲ firing +broker_disconnected +critical +gone ", shown)
    assert re.search(r"\+14\.0 s +✓ resolved +broker_disconnected", shown)
    run(stored, "show", "baseline", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["run"]["run_id"] == stored.good
    assert told["figures"]["acked"] == 7000
    assert told["failures"] == []


def test_show_of_much(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of many alerts a screenful is shown, and how to get all of them; those on their way to fire are none."""
    path = tmp_path / "runs.db"
    writer = StoreWriter(path)
    run_id = writer.begin_run(url="memory://", topic="t", settings={}, started_wall_s=START_S, pid=1)
    for number in range(50):
        state = "firing" if number % 2 else "pending"
        writer.alert(run_id, AlertChange(START_S + number, f"rule_{number}", True, 0.0, 1.0, "", state, "inactive"))
    writer.end_run(run_id, status=RunStatus.FINISHED, ended_wall_s=START_S + 50)
    assert writer.close(30)
    runs_group.main(["show", "--store", str(path)], standalone_mode=False)
    shown = capsys.readouterr().out
    assert ("rule_39" in shown, "rule_38" in shown, "rule_41" in shown) == (True, False, False)
    assert f"and 5 more: ackscope runs export {run_id} alerts.csv --what alerts" in shown


def test_compare(stored: Stored, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What is worse is said; only with --fail-if-worse is it an exit of 1."""
    assert run(stored, "compare", "baseline", "last") == 0
    shown = capsys.readouterr().out
    assert "▼ worse" in shown
    assert re.search(rf"^1\. before the upgrade: .* run {stored.good}$", shown, re.MULTILINE)
    assert re.search(rf"^figure +1\. before the upgrade +2\. {stored.bad}", shown, re.MULTILINE)
    html = tmp_path / "compared.html"
    assert run(stored, "compare", "baseline", "last", "--fail-if-worse", "--json", "--html", str(html)) == 1
    told = json.loads(capsys.readouterr().out)
    assert "ack_latency_p99_s" in told["worse"]
    assert html.stat().st_size > 1_000_000
    assert run(stored, "compare", "baseline", "baseline", "--fail-if-worse") == 0


@pytest.mark.parametrize("ending", ["csv", "parquet", "json", "html"])
def test_export(stored: Stored, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The file's ending decides what is written; with --json it says where and how much."""
    path = tmp_path / f"run.{ending}"
    run(stored, "export", "last", str(path), "--json")
    assert json.loads(capsys.readouterr().out) == {
        "run": stored.bad, "file": str(path), "bytes": path.stat().st_size,
    }  # fmt: skip


def test_report(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a name the page is called after its run."""
    monkeypatch.chdir(tmp_path)
    run(stored, "report")
    assert (tmp_path / f"{stored.bad}.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert f"{stored.bad}.html" in capsys.readouterr().out


def test_note_and_name(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    """Notes and name are changed; neither given is wrong usage."""
    run(stored, "note", "last", "all went wrong", "--name", "outage", "--json")
    assert json.loads(capsys.readouterr().out)["run"]["name"] == "outage"
    info = StoreReader(stored.path).run(stored.bad)
    assert info is not None
    assert (info.notes, info.name) == ("all went wrong", "outage")
    with pytest.raises(click.UsageError, match="give a text"):
        run(stored, "note", "last")


def test_pin(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    """A pin makes the newest pinned run the baseline, and can be taken away."""
    run(stored, "pin", "last")
    run(stored, "show", "baseline", "--json")
    assert json.loads(capsys.readouterr().out.split("\n", 1)[1])["run"]["run_id"] == stored.bad
    run(stored, "pin", "last", "--remove")
    assert "no baseline any more" in capsys.readouterr().out


def _interrupted(_: str) -> str:
    raise KeyboardInterrupt


def test_prune_and_delete(stored: Stored, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Pruning leaves the baseline; deleting asks first."""
    run(stored, "prune", "--max-runs", "1", "--max-size", "500MB", "--json")
    assert json.loads(capsys.readouterr().out)["deleted"] == [stored.bad]
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert run(stored, "delete", stored.good) == 1
    assert capsys.readouterr().err.endswith("not deleted\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(click.UsageError, match="nobody answered; --yes deletes without asking"):
        run(stored, "delete", stored.good)
    monkeypatch.setattr("click.termui.visible_prompt_func", _interrupted)
    with pytest.raises(click.Abort):
        run(stored, "delete", stored.good)
    assert [kept.run_id for kept in StoreReader(stored.path).runs()] == [stored.good]
    assert run(stored, "delete", stored.good, "--yes") == 0
    assert StoreReader(stored.path).runs() == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["prune"], "give --max-runs"),
        (["prune", "--max-size", "much"], "is no size; give one as 500MB"),
        (["prune", "--max-size", "1KB"], "at least 1 MiB"),
        (["show", "x"], "has no run 'x'"),
        (["compare", "last"], "two to four"),
        (["compare", "last", "last", "--tolerance", "2"], "tolerance is 2.0"),
        (["export", "last", "run.xls"], "A run is written as"),
        (["export", "last", "run.csv", "--what", "all"], "series"),
        (["export", "last", "run.csv", "--step", "nan"], "steps of nan s"),
        (["export", "last", "run.csv", "--step", "inf"], "steps of inf s"),
        (["pin", "x"], "has no run 'x'"),
    ],
)
def test_wrong_usage(stored: Stored, words: list[str], text: str) -> None:
    """What cannot be done is refused with what can: an error that the command line makes one line and an exit of 2."""
    with pytest.raises((ConfigError, click.UsageError)) as refused:
        run(stored, *words)
    error = refused.value
    assert text in (error.format_message() if isinstance(error, click.ClickException) else str(error))


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command says what it does, that it takes --json and --store, and what its exits mean."""
    assert sorted(runs_group.commands) == [
        "compare", "delete", "export", "list", "note", "pin", "prune", "report", "show",
    ]  # fmt: skip
    for name in runs_group.commands:
        runs_group.main([name, "--help"], standalone_mode=False)
        told = capsys.readouterr().out
        for wanted in ("--json", "--store", "Exit codes:"):
            assert wanted in told, (name, wanted)
