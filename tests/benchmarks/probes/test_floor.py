"""The solver beside its floor: the floor's gradient, and what the measure says."""

from __future__ import annotations

import pytest
import torch

from benchmarks.probes import floor
from benchmarks.probes.contests import labelled


def test_the_floor_gives_a_gradient_of_every_target() -> None:
    x, y = labelled(200, 3, 4, seed=0)
    gradient = floor.floor(torch.from_numpy(x), torch.from_numpy(y))
    assert gradient.shape == (4, 3) and torch.isfinite(gradient).all()


def test_the_solver_is_timed_beside_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ROWS": 400, "WIDTH": 8, "TARGETS": 3, "_SOLVES": 1}.items():
        monkeypatch.setattr(floor, name, value)
    taken = floor.solver_over_floor(2)
    assert taken["value"] > 0 and taken["n"] == 2 and taken["note"].startswith("3 targets, 400 rows of width 8")
