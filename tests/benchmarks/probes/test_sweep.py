"""The bench of whole sweeps on a few problems: its synthetic store, and its loop against the sweep."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.probes import sweep as sweeping


@pytest.mark.slow
def test_a_small_sweep_is_timed_beside_its_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TRACES": 160, "LAYERS": 2, "WIDTH": 32, "SPLITS": 1, "SAMPLE": 2}.items():
        monkeypatch.setattr(sweeping, name, value)
    monkeypatch.setattr(sweeping, "PLACES", ("thought 1", "thought 2"))
    monkeypatch.setattr(sweeping, "TARGETS", ("value_1", "value_2"))
    monkeypatch.setattr(sweeping, "cores", lambda: 2)
    taken = sweeping.sweep_beside_sklearn(lambda done, total: None)
    assert list(taken) == ["probes.sweep_over_sklearn", "scale.sweep_over_tuned"]
    # 2 addresses x 2 places x 2 targets, one split, (target + 4 shuffles + control task + twin) x 3 strengths
    for result, at_once in zip(taken.values(), (1, 2), strict=True):
        assert 0 < result["ci"][0] <= result["value"] <= result["ci"][1] and result["n"] == 2
        assert result["note"].endswith(f"to {8 * 7 * 3} fits, {at_once} at once") and "extrapolated" in result["note"]


def test_thoughts_hold_the_values_up_to_theirs_and_the_twin_holds_none(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sweeping, "TRACES", 400)
    monkeypatch.setattr(sweeping, "LAYERS", 1)
    store, twin = sweeping._stores(tmp_path)
    rows = store.rows(place="thought 2").reset_index(drop=True)
    values = np.array([int(store.traces[t].problem.steps[1].value) for t in rows["trace"]])
    for each, there in ((store, True), (twin, False)):
        acts = each.acts(each.addresses[0], rows)
        assert acts.shape == (len(rows), sweeping.WIDTH)
        gap = np.linalg.norm(acts[values == 1].mean(axis=0) - acts[values == 2].mean(axis=0))
        # Two codes of 256 numbers with deviation 0.2 lie 0.2 * sqrt(2 * 256) = 4.5 apart.
        assert (gap == pytest.approx(4.5, rel=0.3)) == there
