"""Every notebook runs from top to bottom in an empty folder, and what is stored in it is what it prints today."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

from interp.loading.named_models import is_fetched

ROOT = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(ROOT.glob("*.ipynb"))
FIGURE = "application/vnd.plotly.v1+json"
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
# Other processors add in another order: a share of a few hundred may move by one or two.
TOLERANCE = 0.02
# Tags of cells:
VARIES = "varies"  # prints times
TRAINED = "trained"  # scores of a dictionary: training it takes small differences between processors far
ONE_PROBLEM = "one problem"  # how sure a trained read-out of a single problem is: only whole numbers are compared
TRAINED_TOLERANCE = 0.1
# Times and memory differ between machines, and only slow ones print how far a stage is.
MEASURED = re.compile(r"\d+(?:\.\d+)? (?:s|seconds|minutes|MB)\b")
PROGRESS = re.compile(r"^.*: \d+ of \d+ after \d+ s(?:, .*)?\s*$", re.MULTILINE)
KILOBYTES = 300
NEED_SMOLLM2 = ("07_a_real_model",)


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


def printed(notebook) -> list[tuple[str, float | None]]:
    """The text of each cell, with how far its numbers may differ: what it prints, and tables as plain text."""
    return [
        (
            "\n".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in cell.outputs),
            None if ONE_PROBLEM in tags else TRAINED_TOLERANCE if TRAINED in tags else TOLERANCE,
        )
        for cell in notebook.cells
        if cell.cell_type == "code" and VARIES not in (tags := cell.metadata.get("tags", []))
    ]


def same(one: str, other: str, tolerance: float | None = TOLERANCE) -> bool:
    """Whether two texts have the same words, and numbers that differ by the tolerance at most; times may be any.

    Without a tolerance, whole numbers must be equal and others may be any.
    """
    one, other = (MEASURED.sub("some time", PROGRESS.sub("", text)) for text in (one, other))
    words = [NUMBER.sub("#", text).split() for text in (one, other)]
    pairs = list(zip(*(NUMBER.findall(text) for text in (one, other)), strict=False))
    if tolerance is None:
        return words[0] == words[1] and all(a == b for a, b in pairs if "." not in a)
    return words[0] == words[1] and all(float(a) == pytest.approx(float(b), abs=tolerance, rel=TOLERANCE) for a, b in pairs)


def test_the_comparison_sees_words_and_numbers() -> None:
    assert same("a  0.500 of 10", "a 0.510 of 10")
    assert not same("a 0.500 of 10", "a 0.600 of 10")
    assert not same("used 0.5", "unused 0.5")
    assert same("3 shards: about 4 s, 6 MB\n", "3 shards: about 1 s, 9 MB\nthinking: 3 of 9 after 20 s, 36 tokens\n")
    assert not same("3 shards in 4 s", "2 shards in 4 s")
    assert same("sae 2 0.570", "sae 2 0.660", 0.1) and not same("sae 2 0.570", "sae 3 0.570", 0.1)
    assert same("sae 9 0.682", "sae 9 0.990", None) and not same("sae 9 0.682", "sae 8 0.682", None)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_today_what_is_stored(path: Path, runner) -> None:
    before = path.read_bytes()
    if path.stem in NEED_SMOLLM2 and not is_fetched("smollm2"):
        pytest.skip("needs `cotlens models get smollm2`, 93 MB")
    done, stored = runner.execute(path, keep=False), nbformat.read(path, as_version=4)
    assert figures(done) == figures(stored) > 0
    for (fresh, _), (kept, tolerance) in zip(printed(done), printed(stored), strict=True):
        assert same(fresh, kept, tolerance), f"run `python notebooks/execute.py {path.name}`:\n{kept}\nis now\n{fresh}"
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_asks_answers_and_says_what_is_missing(path: Path) -> None:
    first, *others = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    assert first.startswith("# ") and first.splitlines()[0].endswith("?") and "What you will see" in first
    text = "\n".join(others)
    assert "## What this does not show" in text and "## Next" in text
    assert path.stat().st_size <= KILOBYTES * 1000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_with_its_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    errors = [
        o
        for cell in notebook.cells
        for o in cell.get("outputs", [])
        if o.output_type in ("error", "stream") and o.get("name") != "stdout"
    ]
    assert not errors, "a shipped notebook shows an error or a warning"
    drawn = [o for cell in notebook.cells for o in cell.get("outputs", []) if FIGURE in o.get("data", {})]
    assert drawn and all("image/png" in o.data for o in drawn), (
        "run `python notebooks/execute.py` where a Chromium is installed"
    )
    assert all(len(o.metadata.get("image/png", {}).get("alt", "")) > 40 for o in drawn), (
        "describe the picture in its cell's metadata: alt"
    )
