"""What every test may use, and the rule that in CI no test is skipped."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples each time where CI=true, so that a run says something of the change and not of its luck; new ones
# everywhere else.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI") == "true":
    settings.load_profile("ci")

ROOT = Path(__file__).parents[1]
NO_SKIP = "ACKSCOPE_NO_SKIP"
LOOP = "ACKSCOPE_TEST_LOOP"
HOME = "ACKSCOPE_HOME"


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Which event loop the asynchronous tests run on: .ci/run asks for both, one after the other."""
    if os.environ.get(LOOP) == "uvloop":
        import uvloop

        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of tests are no runs of the user's."""
    before = os.environ.get(HOME)
    os.environ[HOME] = str(tmp_path_factory.mktemp("home"))
    yield
    if before is None:
        del os.environ[HOME]
    else:
        os.environ[HOME] = before


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout, where README.md and pyproject.toml are."""
    return ROOT


@pytest.fixture(scope="session")
def flights(root: Path) -> Path:
    """The file of real records that the project ships."""
    return root / "examples" / "flights.jsonl"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real Kafka that the whole run shares: break nothing there, use topics of your own."""
    from tests.kafka_cluster import shared_kafka  # here, because conftest.py must also stand alone (test_no_skip.py)

    with shared_kafka(tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield bootstrap


class NoSkip:
    """Fails a run in which a test was skipped. An expected failure is no skip."""

    def __init__(self) -> None:
        self.skipped: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        # A skip's longrepr is (file, line, reason); anything else says at least what it is.
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        self.skipped.append((report.nodeid, reason.removeprefix("Skipped: ")))

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        if self.skipped and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        yield

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.skipped:
            return
        terminalreporter.section(f"skipped, which {NO_SKIP}=1 counts as failed", red=True, bold=True)
        for test, reason in self.skipped:
            terminalreporter.line(f"{test}: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get(NO_SKIP) == "1":
        config.pluginmanager.register(NoSkip(), "no-skip")


@pytest.fixture(autouse=True)
def _main_module() -> Iterator[None]:
    """Streamlit's AppTest leaves its script as ``__main__``, which every spawned process would then import."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before
