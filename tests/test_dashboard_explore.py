"""The Explore page: one kept run in charts and rows, to zoom into and to take along."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventbus import runs
from eventbus.observe import StoreReader, StoreWriter
from tests.dashboard_fakes import START_S, StubControl
from tests.stored_runs import Stored, course, keep

pytest.importorskip("streamlit", reason="the dashboard's tests need: pip install -r requirements-dev.txt")

from streamlit.testing.v1 import AppTest

from dashboard.views.explore import CHARTS
from dashboard.views.run_files import FRAMES


def app(source, control):  # its source is copied: no name of this file is known there
    from dashboard.views import explore

    explore.page(source, control)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return keep(tmp_path_factory.mktemp("explore") / "runs.db")


def shown(path: Path, **parameters: str) -> AppTest:
    at = AppTest.from_function(app, args=(StoreReader(path), StubControl()), default_timeout=30)
    for name, value in parameters.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception
    return at


def charts(at: AppTest) -> list[dict[str, Any]]:
    return [json.loads(one.proto.spec) for one in at.get("plotly_chart")]


def title(chart: dict[str, Any]) -> str:
    return str(chart["layout"]["title"]["text"])


def test_without_any_run_the_page_says_what_to_do(tmp_path: Path) -> None:
    """An empty store is the normal first sight."""
    at = shown(tmp_path / "none.db")
    assert at.info[0].proto.title == "No run yet"
    assert not charts(at)


def test_store_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """What happened and what to do, and no traceback."""
    (tmp_path / "runs.db").write_bytes(b"this is no store" * 100)
    assert shown(tmp_path / "runs.db").error[0].proto.title == "The store of runs cannot be read"


def test_run_is_drawn_with_few_points(stored: Stored) -> None:
    """Four charts at first, of the newest run, each line of at most 300 points."""
    found = charts(shown(stored.path))
    assert [title(chart).split("</b>")[0] for chart in found] == [
        "<b>Rates",
        "<b>Outcomes",
        "<b>Ack latency",
        "<b>Latency distribution",
    ]
    assert all(len(trace["x"]) <= 300 for chart in found for trace in chart["data"])


def test_charts_are_chosen(stored: Stored) -> None:
    """Every chart that a run can have is offered; what has nothing to show is named instead of drawn empty."""
    assert set(CHARTS) >= set(runs.open(stored.bad, stored.path).charts())
    at = shown(stored.path, run=stored.good)
    page: Any = at
    page.get_by_key("charts").set_value(["errors", "heatmap"]).run()
    assert not at.exception
    assert [title(chart).split("</b>")[0] for chart in charts(at)] == ["<b>Latency heatmap"]
    assert "Nothing to draw for: Errors by kind." in [one.value for one in at.caption]
    page.get_by_key("charts").set_value([]).run()
    assert not at.exception
    assert not charts(at)


@pytest.mark.parametrize("what", runs.FRAMES)
def test_rows_are_those_of_the_run(stored: Stored, what: str) -> None:
    """Every frame can be read, in pages, and is what the engine gives."""
    assert set(FRAMES) == set(runs.FRAMES)
    at = shown(stored.path)
    at.selectbox(key="frame").set_value(what).run()
    assert not at.exception
    rows = runs.open(stored.bad, stored.path).rows(what)
    assert len(at.dataframe[0].value) == min(len(rows), 300)


def test_every_sample_can_be_read(tmp_path: Path) -> None:
    """The finest step is that of the samples; more rows than a page holds come in pages."""
    writer = StoreWriter(tmp_path / "runs.db")
    run_id = writer.begin_run(url="memory://", topic="t", settings={}, started_wall_s=START_S, pid=0)
    for sample in course(seconds=100):
        writer.sample(run_id, sample)
    assert writer.close(30)
    at = shown(tmp_path / "runs.db")
    at.selectbox(key="step").set_value("every sample").run()
    assert len(at.dataframe[0].value) == 300
    assert at.caption[-1].value.startswith("Rows 1 to 300 of 400.")
    at.number_input[0].set_value(2).run()
    assert not at.exception
    assert len(at.dataframe[0].value) == 100
    assert at.caption[-1].value.startswith("Rows 301 to 400 of 400.")
    assert "interrupted" in " ".join(one.value for one in at.markdown)


def test_run_without_any_sample_has_nothing_to_draw(stored: Stored) -> None:
    """That is said; nothing is drawn empty."""
    at = shown(stored.empty_store)
    assert "nothing to draw" in at.info[0].value
    assert not charts(at)


def test_interrupted_run_is_drawn_as_far_as_it_came(tmp_path: Path) -> None:
    """Its process is gone: said so, and what it measured until then is in charts and rows."""
    writer = StoreWriter(tmp_path / "runs.db")
    run_id = writer.begin_run(url="memory://", topic="t", settings={}, started_wall_s=START_S, pid=0)
    for sample in course(seconds=3, start_s=START_S):
        writer.sample(run_id, sample)
    assert writer.close(30)
    at = shown(tmp_path / "runs.db")
    assert "interrupted" in at.markdown[0].value
    assert [title(chart).split("</b>")[0] for chart in charts(at)][:2] == ["<b>Rates", "<b>Outcomes"]
    assert max(charts(at)[0]["data"][0]["x"]) == 2.75
    assert at.dataframe[0].value["acked"].sum() == 600


def test_run_can_be_taken_along(stored: Stored) -> None:
    """As CSV, Parquet, JSON and the report, each made when its button is pressed."""
    found = shown(stored.path).get("download_button")
    assert [one.proto.label for one in found] == ["CSV", "Parquet", "JSON", "Report"]
    assert all(one.proto.deferred_file_id for one in found)
