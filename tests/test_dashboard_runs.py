"""The choice of a run that pages share, and the Runs page."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dashboard.control import LoadStatus, Phase
from dashboard.run_history import Briefs, load_words
from eventbus.observe import RunEditor, RunInfo, RunStatus, Sample, StoreReader, StoreWriter
from eventbus.runs import summarize
from tests.dashboard_fakes import START_S, StubControl, run_info
from tests.stored_runs import EVIL, Stored, course, keep

pytest.importorskip("streamlit", reason="the dashboard's tests need: pip install -r requirements-dev.txt")

from streamlit.testing.v1 import AppTest

from dashboard.views.run_choice import label


class Several:
    """A source of several runs, newest first."""

    def __init__(self, *runs: RunInfo) -> None:
        self.known = list(runs)

    def runs(self, limit: int = 50) -> Sequence[RunInfo]:
        return self.known[:limit]


def three() -> Several:
    return Several(
        run_info(RunStatus.RUNNING, run_id="run-3", started_wall_s=START_S + 200),
        run_info(RunStatus.FINISHED, run_id="run-2", name="smoke", baseline=True, started_wall_s=START_S + 100),
        run_info(RunStatus.INTERRUPTED, run_id="run-1"),
    )


# ---- the choice -------------------------------------------------------------------------------------------------


def choosing(source, control):  # its source is copied: no name of this file is known there
    import streamlit as st

    from dashboard.views import run_choice

    run = run_choice.choose(source, control)
    st.text("no run" if run is None else f"{run.run_id} {run.status}")


def choice(source: Any, control: StubControl | None = None, **parameters: str) -> AppTest:
    at = AppTest.from_function(choosing, args=(source, control or StubControl()), default_timeout=30)
    for name, value in parameters.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception
    return at


def test_without_runs_the_choice_says_what_to_do() -> None:
    """An empty store is the normal first sight; while the first run starts, that is said instead."""
    at = choice(Several())
    assert "Start" in at.info[0].value
    assert at.text[0].value == "no run"
    assert not at.selectbox
    assert "starting" in choice(Several(), StubControl(LoadStatus(Phase.STARTING))).info[0].value


def test_newest_run_is_followed_until_another_is_chosen() -> None:
    """The page shows a run that begins; who chose a run keeps it, also when its words change, and it is in the URL."""
    source = three()
    at = choice(source)
    assert at.text[0].value == "run-3 running"
    assert "run" not in at.query_params
    source.known[0] = run_info(RunStatus.FINISHED, run_id="run-3", started_wall_s=START_S + 200)
    source.known.insert(0, run_info(RunStatus.RUNNING, run_id="run-4", started_wall_s=START_S + 300))
    assert at.run().text[0].value == "run-4 running"
    at.selectbox[0].select("run-3").run()
    assert at.text[0].value == "run-3 finished"
    assert at.query_params["run"] == "run-3"
    source.known.insert(0, run_info(RunStatus.RUNNING, run_id="run-5", started_wall_s=START_S + 400))
    source.known[2] = run_info(RunStatus.FINISHED, run_id="run-3", name="renamed", started_wall_s=START_S + 200)
    assert at.run().text[0].value == "run-3 finished"
    assert "renamed" in at.selectbox[0].options[3]
    at.selectbox[0].select("").run()
    assert at.text[0].value == "run-5 running"
    assert "run" not in at.query_params


def test_link_opens_its_run() -> None:
    """A URL chooses a run, at first and later; one that names none that is known opens the newest."""
    at = choice(three(), run="run-1")
    assert at.text[0].value == "run-1 interrupted"
    at.query_params["run"] = "run-2"
    assert at.run().text[0].value == "run-2 finished"
    gone = choice(three(), run="run-0")
    assert gone.text[0].value == "run-3 running"
    assert "run" not in gone.query_params


def test_choice_outlives_a_change_of_pages() -> None:
    """A change of pages clears the URL; the choice stays, and is written there again."""
    at = choice(three(), run="run-1")
    del at.query_params["run"]
    at.run()
    assert at.text[0].value == "run-1 interrupted"
    assert at.query_params["run"] == "run-1"


def test_label_tells_status_name_and_time() -> None:
    """In a sign and words; the date only where it is not of today; a baseline is called one."""
    running, pinned, broken = three().known
    assert label(running, START_S + 300).startswith("▶ running · demo.events · ")
    assert label(running, START_S + 300).count("-") == 0
    assert label(pinned, START_S + 10 * 86_400).startswith("✓ finished · smoke · 2023-11-1")
    assert label(pinned).endswith(" · baseline")
    assert label(broken).startswith("↯ interrupted · ")


# ---- the page ---------------------------------------------------------------------------------------------------


def app(source, control):  # its source is copied: no name of this file is known there
    from dashboard.views import runs

    runs.page(source, control)


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return keep(tmp_path / "runs.db")


def shown(path: Path, **parameters: str) -> AppTest:
    at = AppTest.from_function(app, args=(StoreReader(path), StubControl()), default_timeout=30)
    for name, value in parameters.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception
    return at


def text_of(at: AppTest) -> str:
    return " ".join(one.value for one in at.markdown).replace("\\", "")


def button(at: AppTest, start: str) -> Any:
    return next(one for one in at.button if one.key and one.key.startswith(start))


def test_without_any_run_the_page_says_where_to_start_one(tmp_path: Path) -> None:
    """An empty store is the normal first sight."""
    at = shown(tmp_path / "none.db")
    assert at.info[0].proto.title == "No run yet"
    assert not at.dataframe
    assert not at.error


def test_store_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """What happened and what to do, and no traceback."""
    (tmp_path / "runs.db").write_bytes(b"this is no store" * 100)
    at = shown(tmp_path / "runs.db")
    assert at.error[0].proto.title == "The store of runs cannot be read"
    assert "move it away" in at.error[0].value
    assert "Reload" in at.error[0].value


def test_history_tells_each_run_in_a_row(stored: Stored) -> None:
    """Time, name, status with its sign, load, share of acks, p99, verdict and pin; the newest first."""
    table = shown(stored.path).dataframe[0].value
    assert list(table["Name"]) == ["", "before the upgrade"]
    assert list(table["Status"]) == ["✓ finished", "✓ finished"]
    assert list(table["Verdict"]) == ["✗ failed", "✓ passed"]
    assert list(table["Pinned"]) == ["", "★"]
    assert list(table["Load"].str.replace("\N{NARROW NO-BREAK SPACE}", " ")) == ["200 /s", "200 /s"]
    assert list(table["Sent"]) == [8000, 8000]
    assert table["Acked"][1] == 1.0
    assert 0.99 < table["Acked"][0] < 1.0
    assert 1 < table["p99"][1] < 10
    assert list(table["Took"]) == [39.75, 39.75]


def test_details_are_of_the_chosen_run(stored: Stored) -> None:
    """By default of the newest: figures, verdict, failures, alerts and events, settings; foreign text stays text."""
    at = shown(stored.path)
    said = text_of(at)
    assert stored.bad in said
    assert at.markdown[0].value.replace("\\", "") == f"**{stored.bad}**"  # in the place of a name, and not once more
    assert "thresholds failed" in said
    assert "1 alert fired" in said
    assert "18 failed" in said
    figures = {name: value for one in at.table for name, value in one.value.to_numpy()}
    assert (figures["unknown"], figures["late acks"]) == ("18", "2")
    tables = [frame.value for frame in at.dataframe]
    verdict = next(frame for frame in tables if "Threshold" in frame)
    assert list(verdict["Verdict"]) == ["✗ failed", "not judged"]
    assert (verdict["Value"][0], verdict["Limit"][0]) == ("2.50 s", "250 ms")
    failures = next(frame for frame in tables if "Message id" in frame)
    assert failures["Count"].sum() == 21
    alerts = next(frame for frame in tables if "Alert" in frame)
    assert alerts.iloc[0][["Severity", "Alert", "Into the run", "For"]].tolist() == [
        "✖ critical", "broker_disconnected", "00:11", "3.00\N{NARROW NO-BREAK SPACE}s",
    ]  # fmt: skip
    story = next(frame for frame in tables if "Kind" in frame and "What" in frame)
    assert list(story["Kind"]) == ["event", "event", "alert", "event", "alert"]
    assert EVIL in " ".join(story["Text"])
    settings = next(frame for frame in tables if "Name" in frame and "Value" in frame)
    assert dict(zip(settings["Name"], settings["Value"], strict=True))["ack_timeout_s"] == "5"


def test_link_opens_the_details_of_its_run(stored: Stored) -> None:
    """The choice is the one that pages share: a URL opens it here too, and its row is the selected one."""
    at = shown(stored.path, run=stored.good)
    assert "before the upgrade" in text_of(at)
    assert at.text_input(key=f"name-{stored.good}").value == "before the upgrade"


def test_search_finds_runs_by_words(stored: Stored) -> None:
    """Every word counts, in any case; what finds nothing is said, and shows no details."""
    at = shown(stored.path)
    at.text_input(key="search").set_value("UPGRADE passed").run()
    assert list(at.dataframe[0].value["Name"]) == ["before the upgrade"]
    assert "before the upgrade" in text_of(at)
    at.text_input(key="search").set_value("upgrade kafka").run()
    assert not at.exception
    assert not at.dataframe
    assert "upgrade kafka" in at.info[0].value


def test_name_and_notes_are_saved(stored: Stored) -> None:
    """What people say of a run is in the store, and in the list at once."""
    at = shown(stored.path)
    at.text_input(key=f"name-{stored.bad}").set_value("the outage")
    at.text_area(key=f"notes-{stored.bad}").set_value("two\nlines")
    button(at, "FormSubmitter").click()
    at.run()
    assert not at.exception
    run = StoreReader(stored.path).run(stored.bad)
    assert run is not None
    assert (run.name, run.notes) == ("the outage", "two\nlines")
    assert list(at.dataframe[0].value["Name"]) == ["the outage", "before the upgrade"]
    assert list(at.dataframe[0].value["Notes"]) == ["two lines", ""]


def test_run_is_pinned_and_unpinned(stored: Stored) -> None:
    """One press; the button then offers the way back."""
    at = shown(stored.path)
    button(at, "pin-").click().run()
    assert list(at.dataframe[0].value["Pinned"]) == ["★", "★"]
    assert button(at, "pin-").label == "Take the pin away"
    button(at, "pin-").click().run()
    assert list(at.dataframe[0].value["Pinned"]) == ["", "★"]


def test_run_is_deleted_after_a_question(stored: Stored) -> None:
    """The question names the run; after it the run is gone, and another one is shown."""
    at = shown(stored.path, run=stored.good)
    assert "before the upgrade and all that is known of it will be gone for good. It is pinned" in text_of(at).replace(
        "**", ""
    )
    button(at, "really-").click().run()
    assert not at.exception
    assert [run.run_id for run in StoreReader(stored.path).runs()] == [stored.bad]
    assert stored.bad in text_of(at)
    assert at.toast[0].value == "Run deleted"


def test_run_that_goes_on_cannot_be_deleted(tmp_path: Path) -> None:
    """Its button is off and says why; the rest of the page is as for any other run."""
    run_id = begun(tmp_path / "runs.db", pid=os.getpid(), started_s=time.time())
    at = shown(tmp_path / "runs.db")
    assert list(at.dataframe[0].value["Status"]) == ["▶ running"]
    assert button(at, f"really-{run_id}").disabled
    assert "No alert fired in this run." in " ".join(one.value for one in at.caption)


def test_interrupted_run_keeps_what_it_measured(tmp_path: Path) -> None:
    """Said in words and a sign; its figures until then are there."""
    begun(tmp_path / "runs.db", pid=0, started_s=START_S)
    at = shown(tmp_path / "runs.db")
    table = at.dataframe[0].value
    assert list(table["Status"]) == ["↯ interrupted"]
    assert list(table["Sent"]) == [600]
    assert "gone without an end" in at.warning[0].value


def test_run_without_any_sample(stored: Stored) -> None:
    """A run that failed before it began has no figures, and says why it failed."""
    at = shown(stored.empty_store)
    assert "no broker" in at.error[0].value
    assert any("there are no figures" in one.value for one in at.caption)


def test_edit_that_the_store_refuses_is_told(stored: Stored) -> None:
    """A run that somebody else has deleted meanwhile: the reason is told, and nothing breaks."""
    at = shown(stored.path)
    RunEditor(stored.path).delete(stored.bad)
    button(at, "pin-").click().run()
    assert not at.exception
    assert "has no run" in at.toast[0].value.replace("\\", "")


def begun(path: Path, *, pid: int, started_s: float) -> str:
    """A store with a run that has not ended."""
    writer = StoreWriter(path)
    run_id = writer.begin_run(
        url="nats://127.0.0.1:4222", topic="t", settings={"rate": 200.0}, started_wall_s=started_s, pid=pid
    )
    for sample in course(seconds=3, start_s=started_s):
        writer.sample(run_id, sample)
    assert writer.close(30)
    return run_id


# ---- in short ---------------------------------------------------------------------------------------------------


def test_brief_leaves_the_warm_up_out_of_latency_only(tmp_path: Path) -> None:
    """Totals are of the whole run, so that no more is acked than was sent; the percentile is of what is judged."""
    writer = StoreWriter(tmp_path / "runs.db")
    run_id = writer.begin_run(
        url="memory://", topic="t", settings={"warm_up_s": 4.0}, started_wall_s=START_S, pid=1
    )  # fmt: skip
    samples = course(seconds=10, warm_up_s=4.0)
    for sample in samples:
        writer.sample(run_id, sample)
    writer.end_run(run_id, status=RunStatus.FINISHED, ended_wall_s=START_S + 10)
    assert writer.close(30)
    source = StoreReader(tmp_path / "runs.db")
    (run,) = source.runs()
    brief = Briefs(source).of(run)
    assert (brief.sent, brief.acked_ratio) == (2000, 1.0)
    assert brief.p99_s == summarize(samples).ack.percentile_s(99)


def test_brief_of_a_run_that_is_over_is_read_once() -> None:
    """Many runs are listed again and again; only one that goes on is read anew."""

    class Counting:
        asked = 0

        def latest(self, run_id: str) -> Sample | None:
            self.asked += 1
            return course(seconds=1)[-1]

        def each_sample(self, run_id: str, since_wall_s: float | None = None) -> Iterator[Sample]:
            return iter(())

    source = Counting()
    briefs = Briefs(source)
    over, running = run_info(RunStatus.FINISHED, run_id="a"), run_info(RunStatus.RUNNING, run_id="b")
    assert briefs.of(over) == briefs.of(over) == briefs.of(running) == briefs.of(running)
    assert source.asked == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rate": 2000.0}, "2,000 /s"),
        ({"rate": None}, "unlimited"),
        ({"rate": None, "workers": 1, "strategy": "wait_each"}, "1 worker, wait each"),
        ({"workers": 8}, "8 workers"),
        ({"shape": {"kind": "ramp"}}, "ramp"),
        ({"replay_at": "recorded"}, "as recorded"),
        ({"rate": 5.0, "strategy": "ignore"}, "5.0 /s, ignore"),
        ({}, "unlimited"),
    ],
)
def test_load_in_words(settings: dict[str, Any], words: str) -> None:
    """What a run was to send, whatever of it its version kept."""
    assert load_words(settings).replace("\N{NARROW NO-BREAK SPACE}", " ") == words
