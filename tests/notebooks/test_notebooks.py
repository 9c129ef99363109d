"""Every notebook runs from top to bottom in an empty folder, and is stored with its outputs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(ROOT.glob("*.ipynb"))
FIGURE = "application/vnd.plotly.v1+json"


@pytest.fixture(scope="module")
def runner():
    spec = importlib.util.spec_from_file_location("execute", ROOT / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def figures(notebook) -> int:
    return sum(FIGURE in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, runner) -> None:
    before = path.read_bytes()
    done = runner.execute(path, keep=False)
    assert figures(done) == figures(nbformat.read(path, as_version=4)) > 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_with_its_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    errors = [o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type in ("error", "stream") and o.get("name") != "stdout"]
    assert not errors, "a shipped notebook shows an error or a warning"
    pictures = ["image/png" in o.data for cell in notebook.cells for o in cell.get("outputs", []) if FIGURE in o.get("data", {})]
    assert pictures and all(pictures), "run `python notebooks/execute.py` where a Chromium is installed"
