"""The HTML report: one file that needs nothing else, harmless whatever a run's texts are, drawn by a real browser."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plotly.offline import get_plotlyjs

from eventbus import LatencyHistogram, runs
from eventbus.viz.chart import THEMES
from eventbus.viz.figures import percentile_curve
from eventbus.viz.page import STYLE
from eventbus.viz.report import script_json
from eventbus.viz.table import MAX_ROWS, table_of
from tests.stored_runs import EVIL, Stored, keep

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return keep(tmp_path_factory.mktemp("report") / "runs.db")


@pytest.fixture(scope="module")
def page(stored: Stored) -> str:
    return runs.open(stored.bad, stored.path).to_html()


class Reader(HTMLParser):
    """The elements of a page, and its text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] not in ("script", "style"):
            self.text += data


def own_part(page: str) -> str:
    """The page without Plotly's script."""
    return page.replace(get_plotlyjs(), "")


def test_report_needs_nothing_else(page: str) -> None:
    """Plotly's script is in it once, no element points elsewhere, and the browser is told to ask no network."""
    assert page.count("plotly.js v") == 1
    assert "</script" not in get_plotlyjs().lower()
    elements = Reader(own_part(page)).elements
    assert not [attributes for _, attributes in elements if {"src", "href", "srcset"} & attributes.keys()]
    (policy,) = [
        attributes["content"]
        for tag, attributes in elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_texts_of_a_run_stay_texts(page: str) -> None:
    """Names, notes, errors, topics, events and alerts may hold anything: they are shown, and make no element."""
    reader = Reader(own_part(page))
    assert [tag for tag, _ in reader.elements].count("script") == 2
    assert not [tag for tag, _ in reader.elements if tag == "img"]
    assert EVIL.strip() in reader.text
    for what in ("two\nlines", "no reply", "gone", "event", "max(pending) < 5000"):
        assert f"{what} {EVIL}" in reader.text, what


def test_report_tells_the_run(page: str, stored: Stored) -> None:
    """Verdict, figures, failures, alerts, events, plan and environment are all there."""
    text = Reader(own_part(page)).text
    for wanted in (stored.bad, "✗ failed", "Thresholds", "2.50 s", "250 ms", "Failures", "unknown", "timeout",
                   "broker_disconnected", "ack_timeout_s", "packages: ackscope", "ack latency p99"):  # fmt: skip
        assert wanted in text, wanted


def test_charts_are_in_the_page(page: str, stored: Stored) -> None:
    """Each chart has its place and its data, and the outage is marked on it."""
    charts = json.loads(re.search(r"const CHARTS = (\{.*\}), THEMES = ", page)[1])  # type: ignore[index]
    places = {attributes["id"] for tag, attributes in Reader(own_part(page)).elements if tag == "figure"}
    assert places == {f"chart-{name}" for name in charts}
    assert set(charts) == {
        "rates", "outcomes", "latency", "percentiles", "heatmap", "pending", "age", "errors", "lag",
    }  # fmt: skip
    marks = [mark["text"] for mark in charts["latency"]["layout"]["annotations"]]
    assert marks == ["disconnected", "connected", "end of warm-up"]
    assert charts["latency"]["layout"]["shapes"][0]["label"]["text"] == "p99 250 ms"


@pytest.mark.parametrize(("acks", "last"), [(999, "p99.8"), (1_000, "p99.9"), (10_000, "p99.99"), (100_000, "p99.999")])
def test_curve_goes_as_far_as_a_message_lies_above(acks: int, last: str) -> None:
    """One of 1,000 messages is above p99.9; beyond the last such percentile there would only be the maximum."""
    chart = percentile_curve({"from the send": LatencyHistogram.of([1_000_000] * acks)})
    assert chart["data"][0]["text"][-1] == last


def test_report_has_the_colours_of_the_dashboard() -> None:
    """Text and page are the same in both, light and dark, and so they are in its charts."""
    config = Path(__file__).parents[1] / "dashboard" / ".streamlit" / "config.toml"
    themes = tomllib.loads(config.read_text(encoding="utf-8"))["theme"]
    for name, start in (("light", ":root {"), ("dark", ":root[data-theme=dark] {")):
        style = STYLE[STYLE.index(start) :]
        for colour, place in (("page", "backgroundColor"), ("text", "textColor")):
            assert THEMES[name][colour] == themes[name][place]
            assert re.search(f"--{colour}: (#[0-9A-F]+)", style)[1] == themes[name][place]  # type: ignore[index]


def test_run_without_samples_has_a_report(stored: Stored) -> None:
    """A run that failed at once is told of, without charts."""
    text = Reader(own_part(runs.open("last", stored.empty_store).to_html())).text
    assert "No samples were kept" in text
    assert "✗ no broker" in text


def test_long_tables_are_cut() -> None:
    """A table ends after 200 rows and says how many more there are."""
    page = table_of("Events", ("text",), [["x"]] * (MAX_ROWS + 7))
    assert page.count("<tr>") == MAX_ROWS + 1
    assert "and 7 more" in page


def test_json_in_a_script_is_safe() -> None:
    """Nothing in it can end the script, and it is JSON also where a float is not a number."""
    value: dict[str, Any] = {"a": EVIL, "b": [float("nan"), float("inf"), 1.5]}
    text = script_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": EVIL, "b": [None, None, 1.5]}


def test_comparison_has_a_report(stored: Stored) -> None:
    """Runs beside each other, with what is worse, and a line for each in every chart."""
    page = runs.compare(["baseline", "last"], stored.path).to_html()
    charts = json.loads(re.search(r"const CHARTS = (\{.*\}), THEMES = ", page)[1])  # type: ignore[index]
    assert {len(chart["data"]) for name, chart in charts.items() if name != "fates"} == {2}
    assert all(len(trace["x"]) == 2 for trace in charts["fates"]["data"])
    text = Reader(own_part(page)).text
    assert "1. before the upgrade" in text
    assert "▼ worse" in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "no Chromium on the PATH"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_in_a_browser(browser: Any, page: str, tmp_path: Path, scheme: str) -> None:
    """Every chart is drawn in the reader's colours; nothing is asked of a network, and no foreign text runs."""
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    context = browser.new_context(color_scheme=scheme)
    try:
        tab = context.new_page()
        told: list[str] = []

        def refuse(dialog: Any) -> None:
            told.append("dialog")
            dialog.dismiss()

        tab.on("console", lambda message: told.append(message.text))
        tab.on("pageerror", lambda error: told.append(str(error)))
        tab.on("dialog", refuse)
        tab.on("request", lambda request: told.append(request.url) if not request.url.startswith("file:") else None)
        tab.goto(file.as_uri())
        tab.wait_for_selector("html[data-drawn='9']", state="attached", timeout=30_000)
        assert tab.locator(".chart .main-svg").count() >= 9
        assert tab.locator("html").get_attribute("data-theme") == scheme
        tab.locator("#theme").click()
        other = {"light": "dark", "dark": "light"}[scheme]
        tab.wait_for_selector(f"html[data-theme='{other}']", state="attached", timeout=30_000)
        width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert tab.evaluate(width) == 0
        tab.set_viewport_size({"width": 390, "height": 900})
        assert tab.evaluate(width) == 0
        assert told == []
    finally:
        context.close()
