"""What tests in a browser share: the dashboard as ``streamlit run dashboard`` starts it, and a headless Chromium."""

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
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

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
WIDTH, HEIGHT = 1280, 1100
PAGES = {
    "Live": "",
    "Failures": "failures",
    "Latency": "latency",
    "Alerts": "alerts",
    "Faults": "faults",
    "Compare": "compare",
    "Runs": "runs",
    "Explore": "explore",
    "Telemetry & settings": "telemetry",
}
"""Every page by its title in the navigation, with its path."""
OWN_404 = re.compile(
    rf"http://127\.0\.0\.1:\d+/({'|'.join(filter(None, PAGES.values()))})/_stcore/(health|host-config)"
)
"""Streamlit's browser code looks for its server below the page's own path first, and then at the root: the first look
is answered with 404, which the console shows. Nothing else is forgiven."""


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
    """What the browser's console called an error, and exceptions of the page.

    expected: addresses whose failure to load is none, since the test took the server away.
    """

    texts: list[str] = field(default_factory=list)
    expected: re.Pattern[str] | None = None

    def listen(self, page: Any) -> None:
        """Hear what this page complains of."""
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.texts.append(str(error)))

    def _said(self, message: Any) -> None:
        address = message.location.get("url", "")
        if message.type != "error" or OWN_404.fullmatch(address):
            return
        if self.expected is None or not self.expected.search(f"{address} {message.text}"):
            self.texts.append(f"{message.text} ({address})")


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Wait until it holds; fails with ``what`` after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Whether a GET there says 200."""
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    """A port of 127.0.0.1 where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
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
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def dashboard_process(folder: Path, root: Path, port: int | None = None) -> Iterator[Dashboard]:
    """A dashboard whose runs are kept in ``folder``; a second one there, on the same port, finds those of the first."""
    home, temporary, port = folder / "home", folder / "temporary", port or free_port()
    temporary.mkdir(exist_ok=True)
    with (folder / "streamlit.log").open("ab") as log:
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


@contextmanager
def chromium() -> Iterator[Any]:
    """The system's Chromium, headless; skips where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="needs: pip install -r requirements-dev.txt")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: `apt-get install chromium` (or Google Chrome on PATH)")
    api.expect.set_options(timeout=DEADLINE_MS)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def opened(browser: Any, url: str, complaints: Complaints, **settings: Any) -> Any:
    """A page of a browser of its own (no cookies of another), at ``url``. settings: of the browser's context."""
    page = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, **settings).new_page()
    page.set_default_timeout(DEADLINE_MS)
    complaints.listen(page)
    page.goto(url)
    return page


def button(page: Any, key: str) -> Any:
    """The button with that key. One with a help is in the page twice: for those who can hover, and for the others."""
    return page.locator(f".st-key-{key} button").locator("visible=true")


def choose(page: Any, broker: str) -> None:
    """Choose the broker of the next run."""
    page.locator(".st-key-broker").get_by_role("combobox").click()
    page.get_by_role("option", name=broker).click()


def figure(page: Any, label: str) -> Any:
    """The figure with that label."""
    return page.get_by_test_id("stMetric").filter(has_text=label)


def go(page: Any, title: str) -> None:
    """Click a page in the navigation, and wait until it is drawn."""
    page.get_by_test_id("stTopNavLink").filter(has_text=re.compile(rf"{title}$")).click()
    settled(page)


def settled(page: Any) -> None:
    """Wait until the page's script has run and nothing of the page before is shown any more."""
    from playwright.sync_api import expect

    expect(page.locator('[data-test-script-state="running"]')).to_have_count(0)
    expect(page.locator('[data-stale="true"]')).to_have_count(0)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)


def whole(page: Any) -> None:
    """Wait until everything is there that the page shows: the next refreshes add nothing to it."""
    settled(page)
    page.wait_for_function(
        """() => {
            const pieces = document.querySelectorAll('[data-testid], canvas').length, now = performance.now();
            if (window.ackscopePieces?.count !== pieces) window.ackscopePieces = {count: pieces, since: now};
            return now - window.ackscopePieces.since > 2500;
        }"""
    )
