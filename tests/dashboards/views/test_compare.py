"""Compare: traces of one file, of two models, and what is flagged in place of drawn."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from streamlit.testing.v1 import AppTest

from dashboards.artifacts.trace_file import TraceFile
from dashboards.explore import comparing
from dashboards.explore.opening import Material
from interp.activations import Store

Open = Callable[..., AppTest]
Said = Callable[[AppTest], str]


def table_with(at: AppTest, column: str) -> pd.DataFrame:
    """The table that has a column; labels without the marks that keep Markdown away."""
    plain = [t.value.rename(columns=lambda name: str(name).replace("\\", "").replace("\u2060", "")) for t in at.table]
    return next(table for table in plain if column in table)


def material(run: Path, row: int) -> Material:
    file = TraceFile(run / "traces.parquet")
    return Material(file, row, file.trace(row), Store(run / "store"))


def test_two_traces_of_a_run_are_aligned_beside_a_third(open_view: Open, said: Said) -> None:
    at = open_view("compare", trace="3", other="4")
    text = said(at)
    assert not at.error and "These are two problems" in text and "Control, trace 0" in text
    beside = table_with(at, "low")
    assert {"mean", "control", "difference", "high", "positions"} <= set(beside)
    low, middle, high = (beside[name].str.replace("\\", "").astype(float) for name in ("low", "difference", "high"))
    assert (low <= middle).all() and (middle <= high).all()
    assert len(at.get("bidi_component")) == 1


def test_another_model_on_the_same_problem_is_found_and_its_states_are_flagged(
    open_view: Open, said: Said, demo_run: Path
) -> None:
    name = f"comparisons/{next((demo_run / 'comparisons').iterdir()).name}"
    at = open_view("compare", trace="5", **{"with": name})
    assert "These are two problems" not in said(at)
    assert "Not drawn" in said(at) and "other weights" in said(at)
    assert not at.get("bidi_component")
    values = table_with(at, "baseline: reads")
    assert "other: reads" in values and "other: another problem's" in values


def test_a_trace_is_as_close_to_itself_as_can_be(demo_run: Path) -> None:
    one = material(demo_run, 2)
    _, values = comparing.cosines(one, one)
    assert np.allclose(values[np.isfinite(values)], 1, atol=1e-5) and np.isfinite(values).any()
    gap = comparing.entropy_gap(comparing.aligned(one, one))
    assert gap.value == gap.low == gap.high == 0 and gap.n > 0


def test_the_pinned_baseline_turns_the_difference_round(demo_run: Path) -> None:
    one, two = material(demo_run, 2), material(demo_run, 3)
    there, back = (comparing.entropy_gap(comparing.aligned(*pair)) for pair in ((one, two), (two, one)))
    assert np.isclose(there.value, -back.value) and there.n == back.n


def test_traces_without_activations_are_compared_by_what_they_say(
    open_view: Open, said: Said, demo_run: Path, tmp_path: Path
) -> None:
    file = Path(shutil.copy(demo_run / "traces.parquet", tmp_path / "some.parquet"))
    at = open_view("compare", file)
    assert "one of them has no activations" in said(at) and "cotlens study" in said(at)


def test_wrong_links_and_empty_folders(open_view: Open, said: Said, tmp_path: Path) -> None:
    text = said(open_view("compare", other="987654", **{"with": "nothing"}))
    assert "other=987654, which is no trace there" in text
    assert "with=nothing, which is nothing that can be compared" in text
    assert "There is nothing for this page" in said(open_view("compare", tmp_path))
