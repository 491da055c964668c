"""What every test may use, and the rule that in CI no test is skipped."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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


LONGEST = (
    "test_kafka_cluster_faults",
    "test_browser",
    "test_browser_whole",
    "test_accessibility",
    "test_telemetry_end_to_end",
    "test_kafka_cluster",
    "test_kafka_faults",
    "test_fleet",
    "test_contract",
    "test_engine_end_to_end",
    "test_dask",
    "test_cli",
    "test_kafka_topics",
    "test_nats_cluster",
    "test_kafka_given_up",
    "test_notebooks",
)
"""Files that take more than ten seconds, the longest first."""
WHOLE_SUITE = "not soak"
"""The marker expression of pyproject.toml."""
FEW_FILES = 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """How many processes share the tests, where the command line does not say (``-n``): one for each core.

    None of them, but pytest itself, where somebody works on some tests: a second process would take longer to start
    than it saves, and could neither show what a test prints (``-s``) nor let it be debugged.
    """
    option = config.option
    some = bool(option.keyword) or option.markexpr != WHOLE_SUITE or option.capture == "no"
    files = [argument for argument in config.args if not os.path.isdir(argument)]
    return 0 if some or 0 < len(config.args) == len(files) <= FEW_FILES else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the files, they take the longest first: none is left alone with one of them at the end."""
    if hasattr(config, "workerinput"):  # what pytest-xdist gives to those that run tests
        rank = {name: number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


TURNS = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process that is to run tests where it and the others take turns."""
    stash = node.config.stash
    if TURNS not in stash:
        stash[TURNS] = tempfile.TemporaryDirectory(prefix="ackscope-turns-")
    node.workerinput["turns"] = stash[TURNS].name


def pytest_unconfigure(config: pytest.Config) -> None:
    if TURNS in config.stash:
        config.stash[TURNS].cleanup()


class Turns:
    """Where processes share the tests: while one of them runs a test that is marked ``alone``, the others run none.

    Every process holds the floor while it runs a test, alone or together with others. Who wants it alone waits inside
    the gate, which the others must pass before each test: so it is not kept waiting for longer than a test takes.
    """

    def __init__(self, folder: Path) -> None:
        self._gate, self._floor = ((folder / name).open("w") for name in ("gate", "floor"))
        self._alone = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        import fcntl  # POSIX only

        alone = wants_floor(item)
        if not (alone and self._alone):  # else it has it still
            fcntl.flock(self._gate, fcntl.LOCK_EX)
            fcntl.flock(self._floor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        done = yield
        self._alone = alone and nextitem is not None and wants_floor(nextitem)
        if not self._alone:
            fcntl.flock(self._floor, fcntl.LOCK_UN)
        return done


def wants_floor(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


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
    if (folder := getattr(config, "workerinput", {}).get("turns")) is not None:
        config.pluginmanager.register(Turns(Path(folder)), "turns")


@pytest.fixture(autouse=True)
def _main_module() -> Iterator[None]:
    """Streamlit's AppTest leaves its script as ``__main__``, which every spawned process would then import."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before
