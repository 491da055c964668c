"""One story in a real headless Chromium, from the start of a run to its report: dashboard, broker and faults."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventbus.observe import RunInfo, RunStatus, StoreReader
from tests.browser_app import (
    PAGES,
    Complaints,
    Dashboard,
    button,
    chromium,
    dashboard_process,
    descendants,
    eventually,
    figure,
    go,
    is_there,
    opened,
    settled,
    whole,
)

pytestmark = [pytest.mark.browser, pytest.mark.integration]

SERVER_GONE = re.compile(
    "WebSocket|disconnected from server|Streamlit server is not responding|Client Error in reaching server endpoint|"
    "Unable to preload CSS|Failed to fetch|ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE"
)


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def dashboard(tmp_path: Path, root: Path) -> Iterator[Dashboard]:
    with dashboard_process(tmp_path, root) as running:
        yield running


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where screenshots are kept: ACKSCOPE_SHOTS, so that somebody looks at them, else the test's own folder."""
    folder = Path(os.environ.get("ACKSCOPE_SHOTS") or tmp_path / "shots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def newest(dashboard: Dashboard) -> RunInfo:
    return next(iter(StoreReader(dashboard.home / "runs.db").runs(limit=1)))


def start(page: Any, *, breakable: bool = False) -> None:
    """Start a run of the form's own plan, and wait for acks."""
    from playwright.sync_api import expect

    if breakable:
        page.locator(".st-key-plan_open").get_by_text("Plan", exact=True).click()
        expect(page.locator(".st-key-plan_preview")).to_be_visible()
        page.locator(".st-key-breakable_network").get_by_text("Breakable network").click()
        expect(page.get_by_role("switch", name="Breakable network")).to_be_checked()
    button(page, "start").click()
    expect(button(page, "stop")).to_be_visible()
    expect(acked(page)).to_have_text(re.compile("[1-9]"))


def acked(page: Any) -> Any:
    return figure(page, "Acked").get_by_test_id("stMetricValue")


def moves(page: Any) -> None:
    """The charts are drawn again with newer data: the text of the run's badge, its elapsed time, changes."""
    from playwright.sync_api import expect

    badge = page.get_by_text(re.compile(r"running \d\d:\d\d"))
    before = badge.inner_text()
    expect(badge).not_to_have_text(before)


def photograph(page: Any, shots: Path, scheme: str) -> None:
    """Every page as it is now, in full height."""
    from playwright.sync_api import expect

    for title, path in PAGES.items():
        go(page, title)
        whole(page)
        expect(page.get_by_test_id("stException")).to_have_count(0)
        page.screenshot(path=shots / f"{path or 'live'}-{scheme}.png")
    for tab in ("Connections", "About"):  # of the last page
        page.get_by_role("tab", name=tab).click()
        whole(page)
        expect(page.get_by_test_id("stException")).to_have_count(0)
        page.screenshot(path=shots / f"{tab.lower()}-{scheme}.png")


def test_story_of_a_run_from_its_start_to_its_report(
    browser: Any, dashboard: Dashboard, complaints: Complaints, shots: Path
) -> None:
    """A run is started, watched, broken on purpose and healed; an alert fires and resolves; another browser sees it and
    who holds the controls; a reload keeps it; it is stopped, and its verdict and report are kept."""
    from playwright.sync_api import expect

    page = opened(browser, dashboard.url, complaints, color_scheme="light")
    start(page, breakable=True)
    moves(page)

    other = opened(browser, dashboard.url, complaints, color_scheme="dark")
    expect(other.get_by_text("controls are held by another browser (Chrome)")).to_be_visible()
    expect(other.get_by_text(re.compile(r"running \d\d:\d\d"))).to_be_visible()

    freeze(page)
    strip = other.locator(".st-key-alert_strip")
    expect(strip).to_contain_text("no acks come back")  # Live's strip, in the browser that only looks on
    go(other, "Alerts")
    expect(other.locator(".st-key-active_alerts")).to_contain_text("no acks come back")
    button(page, "fault_undo").click()
    expect(page.locator(".st-key-fault_strip")).to_contain_text("Nothing is broken")
    expect(page.get_by_text("Faults of this run")).to_be_visible()
    expect(other.locator(".st-key-active_alerts")).to_contain_text("No alert is firing")

    go(page, "Live")
    expect(page.locator(".st-key-alert_strip")).to_contain_text("No alert is firing")
    page.reload()
    expect(acked(page)).to_have_text(re.compile("[1-9]"))
    expect(page.locator(".st-key-rate input")).to_be_enabled()  # after a reload it still holds the controls
    photograph(page, shots, "light")
    photograph(other, shots, "dark")

    go(page, "Live")
    button(page, "stop").click()
    expect(button(page, "start")).to_be_visible()
    expect(page.get_by_text(re.compile(r"stopped \d"))).to_be_visible()
    run = newest(dashboard)
    assert run.status is RunStatus.STOPPED
    assert run.report is not None
    assert run.report["acked"] > run.report["rejected"] == 0  # nothing was lost by what was broken
    states = [change.state for change in StoreReader(dashboard.home / "runs.db").alerts(run.run_id)]
    assert {"firing", "resolved"} <= {str(state) for state in states}
    report_is_kept(page, run, shots)
    assert complaints.texts == []


def freeze(page: Any) -> None:
    """Freeze the broker on the page Faults, which the navigation opens; it is undone by hand."""
    from playwright.sync_api import expect

    go(page, "Faults")
    expect(button(page, "apply_delay")).to_be_enabled()  # since the network was to be breakable
    slider = page.locator(".st-key-fault_duration").get_by_role("slider")
    slider.focus()
    slider.press("End")
    page.locator(".st-key-apply_freeze").get_by_role("button", name="Apply for 60 s").click()
    expect(page.locator(".st-key-fault_strip")).to_contain_text("undone by itself in")


def report_is_kept(page: Any, run: RunInfo, shots: Path) -> None:
    """The page Runs has the run with its status, and hands out its report."""
    from playwright.sync_api import expect

    go(page, "Runs")
    details = page.locator(".st-key-details")
    expect(details).to_contain_text(run.run_id)
    expect(details).to_contain_text(str(run.status))
    details.get_by_role("tab", name="Download").click()
    with page.expect_download() as download:
        details.get_by_test_id("stTabs").get_by_role("button", name="Report").click()
    kept = shots / "report.html"
    download.value.save_as(kept)
    report = kept.read_text()
    assert run.run_id in report
    assert f"{run.report['acked']:,}" in report if run.report else False


def test_server_is_killed_in_the_middle_of_a_run_and_started_again(
    browser: Any, tmp_path: Path, root: Path, complaints: Complaints
) -> None:
    """Without its dashboard a worker ends by itself; the next one shows all that was measured, and that the run is
    over. The page that was open goes on with it by itself."""
    from playwright.sync_api import expect

    complaints.expected = SERVER_GONE
    with dashboard_process(tmp_path, root) as first:
        page = opened(browser, first.url, complaints)
        start(page)
        moves(page)
        below = descendants(first.process.pid)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        eventually(lambda: not any(map(is_there, below)), f"{below} have ended without their dashboard")
    before = newest(first)
    assert before.status.is_over

    with dashboard_process(tmp_path, root, first.port) as second:
        expect(button(page, "start")).to_be_visible()  # it has connected again by itself
        page.reload()
        settled(page)
        expect(page.get_by_text(re.compile(rf"{before.status} \d\d:\d\d"))).to_be_visible()
        expect(acked(page)).to_have_text(re.compile("[1-9]"))
        run = newest(second)
        assert (run.run_id, run.status) == (before.run_id, before.status)
        go(page, "Runs")
        expect(page.locator(".st-key-details")).to_contain_text(run.run_id)
    assert complaints.texts == []
