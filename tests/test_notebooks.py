"""Every notebook runs from a clean kernel, and is kept without what a run leaves in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
TIMEOUT_S = 60
"""What a notebook may take on a small machine, kernel start and all."""

PLOTLY = "application/vnd.plotly.v1+json"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Notebooks as they are after a run, by name; each is run once, by the first test that asks."""
    # A kernel that finds no settings or history of whoever runs the tests, and leaves none.
    with pytest.MonkeyPatch.context() as environment:
        for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
            environment.setenv(variable, str(tmp_path_factory.mktemp(variable.lower())))
        environment.setenv("PLOTLY_RENDERER", "plotly_mimetype")
        yield {}


def run(path: Path, ran: dict[str, Any]) -> Any:
    if path.stem not in ran:
        notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(
            notebook, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": path.parent}}
        )
        client.execute()
        ran[path.stem] = notebook
    return ran[path.stem]


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text(notebook: Any) -> str:
    """All that the cells printed or showed, as text."""
    return "\n".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs(notebook)
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_clean(path: Path) -> None:
    """No outputs and no counts of execution are committed: they would change with every run and tell of a machine."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell["id"] for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.mark.integration
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_a_clean_kernel(path: Path, ran: dict[str, Any]) -> None:
    """All cells run in a new kernel, from top to bottom, in under a minute and with nothing on standard error."""
    notebook = run(path, ran)
    assert [output["text"] for output in outputs(notebook) if output.get("name") == "stderr"] == []


@pytest.mark.integration
def test_first_notebook_accounts_for_every_record(root: Path, flights: Path, ran: dict[str, Any]) -> None:
    """It shows as many acks as there are records, the percentiles, one figure with all of them, and a duplicate."""
    notebook = run(root / "notebooks" / "01-first-acks.ipynb", ran)
    records = len(flights.read_bytes().splitlines())
    shown = text(notebook)
    for wanted in (rf"accepted +{records}", rf"acked +{records}", r"pending +0", r"p99\.9 +\d", r"\(duplicate\)"):
        assert re.search(wanted, shown), wanted
    figures = [output["data"][PLOTLY] for output in outputs(notebook) if PLOTLY in output.get("data", {})]
    assert [trace["type"] for figure in figures for trace in figure["data"]] == ["scattergl"]
