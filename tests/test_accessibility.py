"""No page of the dashboard keeps people out: axe-core's rules on every page with data, in a real headless Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.browser_app import (
    PAGES,
    Complaints,
    button,
    chromium,
    dashboard_process,
    figure,
    go,
    opened,
    settled,
)

pytestmark = [pytest.mark.browser, pytest.mark.integration]

PLACES = PAGES | {tab: f"telemetry?settings={tab}" for tab in ("Connections", "About")}
"""Pages, and what is behind tabs, by name, with the path."""
GRAVE = ("serious", "critical")


@dataclass(frozen=True)
class Streamlits:
    """A violation inside Streamlit's own elements, which no argument of its calls changes."""

    rule: str
    selector: str
    reason: str


NOT_OURS = (
    Streamlits(
        "svg-img-alt",
        '[data-testid="stMetric"]',
        "the marks of a figure's sparkline, which st.metric draws without names; the value is beside it as text",
    ),
    Streamlits(
        "color-contrast",
        '[data-selected="true"]',
        "a chosen segment has the primary colour on a tint of it, and a primary button has white on it: "
        "on a dark page no colour has 4.5 to 1 with both; the button has it. Frame and tint tell the choice as well",
    ),
    Streamlits(
        "color-contrast",
        '[data-testid="stStatusWidget"]',
        "the button that Streamlit itself shows in its bar while a script runs for longer",
    ),
)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Any]:
    """A browser, light and dark, at a dashboard with a run in which messages were refused and an alert fired."""
    from playwright.sync_api import expect

    with dashboard_process(tmp_path_factory.mktemp("accessible"), root) as running, chromium() as browser:
        light, dark = (opened(browser, running.url, Complaints(), color_scheme=scheme) for scheme in ("light", "dark"))
        button(light, "start").click()
        expect(figure(light, "Acked").get_by_test_id("stMetricValue")).to_have_text(re.compile("[1-9]"))
        go(light, "Faults")
        button(light, "apply_deny_subject").click()
        expect(light.locator(".st-key-fault_strip")).to_contain_text("undone by itself in")
        button(light, "fault_undo").click()
        expect(light.locator(".st-key-fault_strip")).to_contain_text("Nothing is broken")
        yield running.url, {"light": light, "dark": dark}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("title", PLACES)
def test_page_has_no_grave_violation_of_its_own(watched: Any, title: str, scheme: str) -> None:
    """No rule of serious or critical impact is broken, but those listed above with their reason."""
    url, pages = watched
    page = pages[scheme]
    page.goto(f"{url}/{PLACES[title]}")
    settled(page)
    found = grave(page)
    assert found == [], "\n".join(found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_live_page_with_its_plan_open_has_no_grave_violation_of_its_own(watched: Any, scheme: str) -> None:
    """After the end of the run too, with every field of the next plan unfolded."""
    from playwright.sync_api import expect

    url, pages = watched
    page = pages[scheme]
    page.goto(url)
    stop = button(page, "stop")
    expect(stop.or_(button(page, "start"))).to_be_visible()
    if stop.is_visible():
        stop.click()
    expect(button(page, "start")).to_be_visible()
    page.locator(".st-key-plan_open").get_by_text("Plan", exact=True).click()
    expect(page.locator(".st-key-plan_preview")).to_be_visible()
    settled(page)
    found = grave(page)
    assert found == [], "\n".join(found)


def grave(page: Any) -> list[str]:
    """Each element that breaks a rule of serious or critical impact, with what would mend it.

    What is Streamlit's is left out beforehand, each for its one rule: afterwards the element may have been replaced by
    the next refresh, and nobody could tell any more where it was.
    """
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs: pip install axe-playwright-python"
    ).Axe()
    excepted = {one.rule: {"enabled": False} for one in NOT_OURS}
    answers = [axe.run(page, options={"rules": excepted})]
    for rule in excepted:
        around = [[one.selector] for one in NOT_OURS if one.rule == rule]
        answers.append(axe.run(page, {"exclude": around}, {"runOnly": [rule]}))
    return [
        f"{violation['id']} ({violation['impact']}): {' '.join(map(str, node['target']))}\n  {node['html'][:200]}"
        f"\n  {node['failureSummary']}"
        for answer in answers
        for violation in answer.response["violations"]
        if violation["impact"] in GRAVE
        for node in violation["nodes"]
    ]
