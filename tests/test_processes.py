"""The whole suite is run by several processes: what conftest.py sees to, seen from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests import conftest

TIMED = """
import json, os, time
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(8))
MARK
def test_some_time_passes(number):
    began = time.monotonic()
    time.sleep(0.05)
    name = f"{os.getpid()}-NAME-{number}.json"
    Path(__file__).with_name(name).write_text(json.dumps(["NAME", began, time.monotonic()]))
"""
INI = """
[pytest]
markers =
    alone: measures time
"""


def test_nothing_runs_beside_a_test_that_is_alone(tmp_path: Path) -> None:
    """By two processes, of which one has tests that measure time: those of the other run before, between or after."""
    (tmp_path / "conftest.py").write_bytes(Path(conftest.__file__).read_bytes())
    (tmp_path / "pytest.ini").write_text(INI)
    for name, mark in (("many", ""), ("alone", "@pytest.mark.alone")):
        (tmp_path / f"test_{name}.py").write_text(TIMED.replace("MARK", mark).replace("NAME", name))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile", str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    seen = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert len({file.name.partition("-")[0] for file in tmp_path.glob("*.json")}) == 2, "one process had all"
    assert len(seen) == 16
    alone = [(began, ended) for name, began, ended in seen if name == "alone"]
    for name, began, ended in seen:
        assert name == "alone" or all(ended <= start or end <= began for start, end in alone)


@pytest.mark.parametrize(
    ("arguments", "settings", "several"),
    [
        (["tests"], {}, True),
        (["tests/test_topic.py", "tests/test_url.py", "tests/test_latency.py"], {}, True),
        (["tests/test_topic.py"], {}, False),
        (["tests/test_topic.py::test_one"], {}, False),
        (["tests"], {"keyword": "topic"}, False),
        (["tests"], {"markexpr": "soak"}, False),
        (["tests"], {"capture": "no"}, False),
    ],
)
def test_few_tests_need_no_second_process(arguments: list[str], settings: dict[str, Any], several: bool) -> None:
    """Several for the whole suite or many files; one where somebody works on some tests, or looks at output."""
    option = SimpleNamespace(**{"keyword": "", "markexpr": "not soak", "capture": "fd", **settings})
    config = cast(pytest.Config, SimpleNamespace(option=option, args=arguments))
    assert (conftest.pytest_xdist_auto_num_workers(config) is None) is several


def test_longest_files_are_there(root: Path) -> None:
    """Those that are begun first are named as they are called."""
    assert [name for name in conftest.LONGEST if not (root / "tests" / f"{name}.py").is_file()] == []
