"""The dashboard as a user meets it: ``streamlit run dashboard`` in a real headless Chromium, with a real broker."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventbus.observe import RunStatus, StoreReader
from tests.browser_app import (
    Complaints,
    Dashboard,
    button,
    choose,
    chromium,
    dashboard_process,
    descendants,
    eventually,
    figure,
    free_port,
    is_there,
    listens,
    opened,
    settled,
)

pytestmark = [pytest.mark.browser, pytest.mark.integration]


@pytest.fixture
def dashboard(tmp_path: Path, root: Path) -> Iterator[Dashboard]:
    with dashboard_process(tmp_path, root) as running:
        yield running


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One for all tests of this module: each has contexts of its own, which share nothing."""
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Any, dashboard: Dashboard, complaints: Complaints) -> Iterator[Any]:
    yield opened(browser, dashboard.url, complaints)
    for context in browser.contexts:
        context.close()


def test_run_is_started_watched_changed_and_stopped_from_the_page(
    page: Any, dashboard: Dashboard, complaints: Complaints
) -> None:
    """Start, see acks, change the rate, stop, and read that every message was acked: as the store has it too."""
    from playwright.sync_api import expect

    expect(page.get_by_text("No run yet")).to_be_visible()
    button(page, "start").click()
    expect(button(page, "stop")).to_be_visible()
    expect(figure(page, "Acked").get_by_test_id("stMetricValue")).to_have_text(re.compile("[1-9]"))
    expect(page.get_by_test_id("stEChartsChart")).to_have_count(12)
    expect(page.get_by_text("No alert is firing")).to_be_visible()

    rate = page.locator(".st-key-rate input")
    rate.fill("500")
    rate.press("Enter")
    expect(figure(page, "Acked")).to_contain_text(re.compile(r"of 500\s/s offered"))

    button(page, "stop").click()
    expect(button(page, "start")).to_be_visible()
    verdict = page.get_by_text("accepted messages were acked")
    expect(verdict).to_have_text(re.compile(r"All [\d,]+ accepted messages were acked"))
    expect(page.get_by_text(re.compile(r"stopped \d"))).to_be_visible()

    (run,) = StoreReader(dashboard.home / "runs.db").runs()
    assert run.status is RunStatus.STOPPED
    assert run.report is not None
    assert run.report["acked"] == run.report["accepted"] > 0
    assert f"All {run.report['acked']:,} accepted" in verdict.inner_text()
    assert complaints.texts == []


def test_plan_of_a_preset_is_judged_and_another_browser_sees_who_runs_it(
    page: Any, dashboard: Dashboard, complaints: Complaints
) -> None:
    """A preset is drawn, named and started; another browser is told whose run it is, takes the controls and stops it;
    each threshold has its verdict on both pages."""
    from playwright.sync_api import expect

    page.locator(".st-key-plan_open").get_by_text("Plan", exact=True).click()
    expect(page.locator(".st-key-plan_preview")).to_be_visible()
    settled(page)  # a list that is opened while its page is drawn closes again
    page.locator(".st-key-plan_preset").get_by_role("combobox").click()
    page.get_by_role("option", name="baseline").click()
    expect(page.get_by_text("4 thresholds")).to_be_visible()
    expect(page.locator(".st-key-plan_preview")).to_be_visible()
    button(page, "start").click()
    expect(page.get_by_role("progressbar").first).to_be_visible()

    other = opened(page.context.browser, dashboard.url, complaints)
    expect(other.get_by_text("controls are held by another browser (Chrome)")).to_be_visible()
    expect(other.locator(".st-key-rate input")).to_be_disabled()
    other.get_by_role("button", name="Take the controls").click()
    expect(other.locator(".st-key-rate input")).to_be_enabled()
    expect(page.locator(".st-key-rate input")).to_be_disabled()
    page.reload()
    expect(figure(page, "Acked").get_by_test_id("stMetricValue")).to_have_text(re.compile("[1-9]"))
    expect(page.get_by_text("controls are held by another browser")).to_be_visible()
    button(page, "stop").click()
    for seen in (page, other):
        expect(button(seen, "start")).to_be_visible()
        expect(seen.get_by_text("p99(scheduled_latency) < 250ms")).to_be_visible()
    (run,) = StoreReader(dashboard.home / "runs.db").runs()
    assert run.name == "baseline"
    assert run.verdict is not None
    assert complaints.texts == []


@pytest.mark.parametrize("system", ["nats", "kafka"])
def test_refused_broker_is_told_on_the_page(page: Any, system: str, complaints: Complaints) -> None:
    """A URL where nobody listens: one sentence that names it, no traceback, and the form is still there."""
    from playwright.sync_api import expect

    address = f"127.0.0.1:{free_port()}"
    choose(page, "Own broker")
    page.locator(".st-key-url input").fill(f"{system}://{address}")
    button(page, "start").click()  # without Enter: what stands in the field counts
    expect(page.get_by_text("The run did not go well")).to_be_visible()
    expect(page.get_by_text(address)).to_contain_text("refused")
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(button(page, "start")).to_be_enabled()
    assert complaints.texts == []


@pytest.mark.parametrize(("broker", "program"), [("Embedded NATS", "nats-server"), ("Kafka mock", "mock_kafka")])
def test_interrupt_in_the_middle_of_a_run_leaves_nothing_behind(
    page: Any, dashboard: Dashboard, broker: str, program: str
) -> None:
    """Ctrl-C while messages flow: the run is drained and recorded; no process, port or temporary file is left."""
    from playwright.sync_api import expect

    assert not any("mock_kafka" in command for command in descendants(dashboard.process.pid).values())
    if broker != "Embedded NATS":
        choose(page, broker)
        expect(page.get_by_text("librdkafka's mock")).to_be_visible()
    button(page, "start").click()
    expect(figure(page, "Acked").get_by_test_id("stMetricValue")).to_have_text(re.compile("[1-9]"))
    below = descendants(dashboard.process.pid)
    assert any("eventbus worker" in command for command in below.values())
    assert any(program in command for command in below.values())
    (run,) = StoreReader(dashboard.home / "runs.db").runs()
    broker_port = int(run.url.rsplit(":", 1)[1])
    assert listens(broker_port)

    dashboard.process.send_signal(signal.SIGINT)
    assert dashboard.process.wait(30) == 0
    eventually(lambda: not any(is_there(pid) for pid in below), f"{below} are gone")
    assert not listens(dashboard.port)
    assert not listens(broker_port)
    assert list(dashboard.temporary.glob("ackscope-*")) == []
    (run,) = StoreReader(dashboard.home / "runs.db").runs()
    assert run.status is RunStatus.STOPPED
    assert run.report is not None
    assert run.report["acked"] == run.report["accepted"] > 0
