"""Decoders taken to another store: as they are, and through a map that both reasoners' problems give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ortho_group

from interp.activations import Store
from interp.decoders.evaluation.alignment import MappedStore, fit_map, shared_steps
from interp.decoders.evaluation.decoding import decode
from interp.decoders.evaluation.read_outs import ReadOuts
from interp.decoders.evaluation.transfer import transfer
from interp.decoders.step_rows import step_rows
from interp.errors import UsageError
from interp.problems import task
from interp.traces import TraceSet

D = 16


@pytest.fixture(scope="module")
def chains(written_trace: Callable) -> TraceSet:
    return TraceSet([written_trace(p) for p in task("chain:steps=3").generate(250, seed=0, split="test")])


def values_of(traces: TraceSet, index: pd.DataFrame) -> np.ndarray:
    pairs = zip(index["trace"], index["step"], strict=True)
    return np.array([int(traces[t].problem.steps[s - 1].value) if s else 0 for t, s in pairs])


@pytest.fixture(scope="module")
def rooms(chains: TraceSet, tmp_path_factory: pytest.TempPathFactory, write_store: Callable) -> dict[str, Store]:
    """The same values in one space, in that space turned and stretched, and in one that is bent out of shape."""
    rng = np.random.default_rng(0)
    codebook, turn = 6 * ortho_group.rvs(D, random_state=1)[:10], ortho_group.rvs(D, random_state=2)
    bend = rng.normal(size=(D, 24))

    def home(index: pd.DataFrame, seed: int = 3) -> np.ndarray:
        return codebook[values_of(chains, index)] + np.random.default_rng(seed).normal(size=(len(index), D))

    spaces = {
        "home": home,
        "turned": lambda index: 5 + 0.5 * home(index, 4) @ turn,
        "bent": lambda index: home(index, 5) @ bend,
    }
    folder = tmp_path_factory.mktemp("rooms")
    return {name: write_store(folder / name, chains, {"blocks.0.hook_out": acts}) for name, acts in spaces.items()}


@pytest.fixture(scope="module")
def readouts(rooms: dict[str, Store]) -> ReadOuts:
    return decode(rooms["home"], ["probe"])


def test_a_rotation_is_found_and_shuffled_pairs_find_none(readouts: ReadOuts, rooms: dict[str, Store]) -> None:
    found = transfer(readouts, rooms["turned"]).set_index("alignment")
    assert found.loc["none", "top1"] < 0.3
    for kind in ("orthogonal", "ridge"):
        row = found.loc[kind]
        assert row["top1"] > 0.97 and row["home"] > 0.97
        assert row["shuffled_map"] < 0.3 and row["other_problem"] < 0.3
        assert row["ci_low"] <= row["top1"] <= row["ci_high"]


def test_another_width_has_a_map_but_no_rotation(readouts: ReadOuts, rooms: dict[str, Store]) -> None:
    found = transfer(readouts, rooms["bent"]).set_index("alignment")
    assert found.loc["ridge", "top1"] > 0.97
    assert "expected equal widths for a rotation, got 24 and 16" in found.loc["orthogonal", "note"]
    assert np.isnan(found.loc["orthogonal", "top1"]) and found.loc["none", "note"]


def test_labels_and_test_problems_play_no_part_in_a_map(
    readouts: ReadOuts, rooms: dict[str, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps see latents of training structures alone."""
    from interp.decoders.evaluation import transfer as module

    fitted = []

    def watched(kind, theirs, ours):  # type: ignore[no-untyped-def]
        fitted.append(theirs)
        return fit_map(kind, theirs, ours)

    monkeypatch.setattr(module, "fit_map", watched)
    transfer(readouts, rooms["turned"])
    rows, _ = step_rows(rooms["turned"], 0)
    table = readouts.of("probe")
    taught = table.loc[table["split"] == "train", "trace"]
    assert taught.nunique() < 200
    allowed = {row.tobytes() for row in rooms["turned"].acts("blocks.0.hook_out", rows[rows["trace"].isin(taught)])}
    assert fitted and all(row.tobytes() in allowed for each in fitted for row in each)


def test_stores_without_a_problem_in_common_are_read_as_they_are(
    readouts: ReadOuts, written_trace: Callable, write_store: Callable, tmp_path: Path
) -> None:
    others = TraceSet([written_trace(p) for p in task("chain:steps=3").generate(80, seed=9, split="train")])
    store = write_store(
        tmp_path / "s", others, {"blocks.0.hook_out": lambda index: np.zeros((len(index), D), np.float32)}
    )
    assert transfer(readouts, store)["alignment"].tolist() == ["none"]


def test_shared_steps_are_the_same_steps_of_the_same_problems(chains: TraceSet, rooms: dict[str, Store]) -> None:
    home, other = rooms["home"], rooms["turned"]
    rows, _ = step_rows(home, 0)
    ours, theirs = shared_steps((home, rows.iloc[::-1]), (other, step_rows(other, 0)[0]))
    assert len(ours) == len(theirs) == len(rows)
    assert (ours[["trace", "read_step"]].to_numpy() == theirs[["trace", "read_step"]].to_numpy()).all()


def test_bad_maps_are_refused(rooms: dict[str, Store]) -> None:
    x = np.zeros((60, 4))
    with pytest.raises(UsageError, match="expected at least 50 steps shared with the other store to align it, got 10"):
        fit_map("ridge", x[:10], x[:10])
    with pytest.raises(UsageError, match=r"expected a known alignment, got 'rigde'; did you mean 'ridge'"):
        fit_map("rigde", x, x)  # type: ignore[arg-type]
    brought = MappedStore(rooms["turned"], rooms["home"], rooms["home"].addresses[0], lambda x: x)
    with pytest.raises(UsageError, match="expected a known address in this store"):
        brought.acts("blocks.1.hook_out")
