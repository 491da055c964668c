"""The dashboard as a user meets it: ``streamlit run dashboard`` in a real headless Chromium, with a real broker."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from eventbus.observe import RunStatus, StoreReader

pytestmark = [pytest.mark.browser, pytest.mark.integration]

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DEADLINE_MS = 30_000


@dataclass
class Dashboard:
    """A dashboard that runs: its process, where it listens, where its runs and its temporary files are."""

    process: subprocess.Popen[bytes]
    port: int
    home: Path
    temporary: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Complaints:
    """What the browser's console called an error, and exceptions of the page."""

    texts: list[str] = field(default_factory=list)


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def descendants(pid: int) -> dict[int, str]:
    """Processes below ``pid``, whatever their session, with their command lines."""
    rows = subprocess.run(["ps", "-axww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    parents: dict[int, tuple[int, str]] = {}
    for row in rows.splitlines():
        child, parent, command = row.split(maxsplit=2)
        parents[int(child)] = (int(parent), command)
    found: dict[int, str] = {}
    while new := {p: c for p, (up, c) in parents.items() if p not in found and (up == pid or up in found)}:
        found |= new
    return found


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def dashboard(tmp_path: Path, root: Path) -> Iterator[Dashboard]:
    home, temporary, port = tmp_path / "home", tmp_path / "temporary", free_port()
    temporary.mkdir()
    with (tmp_path / "streamlit.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "streamlit", "run", "dashboard"),
                *("--server.headless", "true", "--server.port", str(port)),
            ],
            cwd=root,
            env={**os.environ, "ACKSCOPE_HOME": str(home), "TMPDIR": str(temporary)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    running = Dashboard(process, port, home, temporary)
    try:
        eventually(lambda: answers(f"{running.url}/_stcore/health"), "the dashboard answers")
        yield running
    finally:
        left = descendants(process.pid)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in left:  # only where the test failed is anything of it still there
            if is_there(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
def page(dashboard: Dashboard, complaints: Complaints) -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs: pip install -r requirements-dev.txt")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: `apt-get install chromium` (or Google Chrome on PATH)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        page.set_default_timeout(DEADLINE_MS)
        page.on("console", lambda message: complaints.texts.extend([message.text] if message.type == "error" else []))
        page.on("pageerror", lambda error: complaints.texts.append(str(error)))
        page.goto(dashboard.url)
        yield page
        browser.close()


def button(page: Any, key: str) -> Any:
    return page.locator(f".st-key-{key} button")


def choose(page: Any, broker: str) -> None:
    page.locator(".st-key-broker").get_by_role("combobox").click()
    page.get_by_role("option", name=broker).click()


def figure(page: Any, label: str) -> Any:
    return page.get_by_test_id("stMetric").filter(has_text=label)


def test_run_is_started_watched_changed_and_stopped_from_the_page(
    page: Any, dashboard: Dashboard, complaints: Complaints
) -> None:
    """Start, see acks, change the rate, stop, and read that every message was acked: as the store has it too."""
    from playwright.sync_api import expect

    expect.set_options(timeout=DEADLINE_MS)
    expect(page.get_by_text("No run yet")).to_be_visible()
    button(page, "start").click()
    expect(button(page, "stop")).to_be_visible()
    expect(figure(page, "Acked").get_by_test_id("stMetricValue")).to_have_text(re.compile("[1-9]"))
    expect(page.get_by_test_id("stEChartsChart")).to_have_count(6)
    expect(page.get_by_text("No alert is firing")).to_be_visible()

    rate = page.locator(".st-key-rate input")
    rate.fill("500")
    rate.press("Enter")
    expect(figure(page, "Acked")).to_contain_text(re.compile(r"of 500\s/s offered"))

    button(page, "stop").click()
    expect(button(page, "start")).to_be_visible()
    verdict = page.get_by_text("accepted messages were acked")
    expect(verdict).to_have_text(re.compile(r"All [\d,]+ accepted messages were acked"))
    expect(page.get_by_text(re.compile("stopped"))).to_be_visible()

    (run,) = StoreReader(dashboard.home / "runs.db").runs()
    assert run.status is RunStatus.STOPPED
    assert run.report is not None
    assert run.report["acked"] == run.report["accepted"] > 0
    assert f"All {run.report['acked']:,} accepted" in verdict.inner_text()
    assert complaints.texts == []


@pytest.mark.parametrize("system", ["nats", "kafka"])
def test_refused_broker_is_told_on_the_page(page: Any, system: str, complaints: Complaints) -> None:
    """A URL where nobody listens: one sentence that names it, no traceback, and the form is still there."""
    from playwright.sync_api import expect

    expect.set_options(timeout=DEADLINE_MS)
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

    expect.set_options(timeout=DEADLINE_MS)
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
