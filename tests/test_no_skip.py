"""In CI nothing may be skipped: the rule in conftest.py, seen from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SKIPPING = """
import pytest

def test_runs():
    pass

def test_needs_a_browser():
    pytest.skip("no Chromium: apt-get install chromium")
"""

EXPECTED_TO_FAIL = """
import pytest

@pytest.mark.xfail(reason="not yet")
def test_of_the_future():
    raise AssertionError
"""


def run_pytest(folder: Path, test: str, no_skip: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_bytes((Path(__file__).parent / "conftest.py").read_bytes())
    (folder / "test_it.py").write_text(test, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder), *arguments],
        env=environment | {"ACKSCOPE_NO_SKIP": no_skip},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("processes", ["0", "2"], ids=["in one process", "in two"])
@pytest.mark.parametrize(("no_skip", "exit_code"), [("1", 1), ("", 0)], ids=["in CI", "elsewhere"])
def test_skip_fails_the_run_in_ci_only(tmp_path: Path, no_skip: str, exit_code: int, processes: str) -> None:
    """With ACKSCOPE_NO_SKIP=1 a skipped test fails the run, and the end says which it was and why."""
    done = run_pytest(tmp_path, SKIPPING, no_skip, "-n", processes)
    assert done.returncode == exit_code, done.stdout
    said = "test_it.py::test_needs_a_browser: no Chromium: apt-get install chromium" in done.stdout
    assert said == (no_skip == "1"), done.stdout


@pytest.mark.parametrize("processes", ["0", "2"], ids=["in one process", "in two"])
def test_module_skipped_as_a_whole_fails_too(tmp_path: Path, processes: str) -> None:
    """``importorskip`` at the top of a file skips all of its tests at once; that counts."""
    done = run_pytest(tmp_path, "import pytest\n\npytest.importorskip('no_such_module')\n", "1", "-n", processes)
    assert done.returncode == 1, done.stdout
    assert "could not import 'no_such_module'" in done.stdout


def test_expected_failure_is_no_skip(tmp_path: Path) -> None:
    """An xfail ran and did what was expected of it."""
    assert run_pytest(tmp_path, EXPECTED_TO_FAIL, "1").returncode == 0
