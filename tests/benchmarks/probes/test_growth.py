"""Growth of fitting times with rows, targets and width, and captures with the length of traces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.capture import growth as capture_growth
from benchmarks.probes import growth
from benchmarks.probes.contests import labelled


@pytest.fixture
def found() -> pd.DataFrame:
    """Times that grow with the rows and the square of the width, and hardly with the targets."""
    cost = {
        "rows": lambda n: n * 1e-5,
        "targets": lambda n: 0.1 + 0.001 * n,
        "width": lambda n: n**2 * 1e-6,
    }
    rows = [
        {"axis": axis, "size": n, "ours": cost[axis](n), "sklearn": 30 * cost[axis](n), "floor": cost[axis](n) / 4}
        for axis, sizes in growth.GRID.items()
        for n in sizes
    ]
    return pd.DataFrame(rows)


def test_the_summary_gives_exponents_and_the_distance_to_the_floor(found: pd.DataFrame) -> None:
    output = growth.summary(found)
    assert output["rows_exponent"] == pytest.approx(1) and output["width_exponent"] == pytest.approx(2)
    assert output["targets_exponent"] < 0.5
    assert output["over_floor"] == pytest.approx(4)
    assert output["seconds_per_further_target"] == pytest.approx(0.001)


def test_the_figure_has_a_curve_for_each_contestant_on_each_axis(found: pd.DataFrame, tmp_path: Path) -> None:
    figure = growth.growth_figure(found)
    assert len(figure.data) == len(growth.GRID) * len(growth.COLUMNS)
    assert sum(trace.showlegend for trace in figure.data) == len(growth.COLUMNS)
    page = growth.keep_figure(found, tmp_path / "growth.html").read_text(encoding="utf-8")
    assert "scikit-learn, one target after another" in page


def test_every_size_is_timed_for_all_three() -> None:
    taken = growth.timed(rows=400, targets=3, width=8, repetitions=1)
    assert set(taken) == set(growth.COLUMNS) and min(taken.values()) > 0


def test_labels_follow_the_rows() -> None:
    x, y = labelled(5000, 2, 8, seed=3)
    assert x.dtype == np.float32 and y.shape == (5000, 2)
    assert 0.2 < y.mean() < 0.8
    reached = np.linalg.lstsq(x - x.mean(axis=0), y - y.mean(axis=0), rcond=None)[0]
    agreement = ((x - x.mean(axis=0)) @ reached > 0) == (y > y.mean(axis=0))
    assert agreement.mean() > 0.7


def test_growth_with_the_length_of_traces_has_a_row_for_each_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_growth, "TOKENS", 64)
    monkeypatch.setattr(capture_growth, "LENGTHS", (16, 32))
    grown = capture_growth.grow(lambda done, total: None, repetitions=1)
    assert grown["tokens"].tolist() == [16, 32] and (grown[["index", "record", "write", "read"]] > 0).all(axis=None)
