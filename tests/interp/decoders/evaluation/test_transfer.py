"""Transfer of decoders to another store, as they are and through a map between the two spaces."""

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
def spaces(chains: TraceSet, tmp_path_factory: pytest.TempPathFactory, write_store: Callable) -> dict[str, Store]:
    """Stores of the same values in one space, in the space rotated and scaled, and in one of another width."""
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
    folder = tmp_path_factory.mktemp("spaces")
    return {name: write_store(folder / name, chains, {"blocks.0.hook_out": acts}) for name, acts in spaces.items()}


@pytest.fixture(scope="module")
def readouts(spaces: dict[str, Store]) -> ReadOuts:
    return decode(spaces["home"], ["probe"])


def test_a_rotation_is_found_and_shuffled_pairs_find_none(readouts: ReadOuts, spaces: dict[str, Store]) -> None:
    table = transfer(readouts, spaces["turned"]).set_index("alignment")
    assert table.loc["none", "top1"] < 0.3
    for kind in ("orthogonal", "ridge"):
        row = table.loc[kind]
        assert row["top1"] > 0.97 and row["home"] > 0.97
        assert row["shuffled_map"] < 0.3 and row["other_problem"] < 0.3
        assert row["ci_low"] <= row["top1"] <= row["ci_high"]


def test_another_width_has_a_map_but_no_rotation(readouts: ReadOuts, spaces: dict[str, Store]) -> None:
    table = transfer(readouts, spaces["bent"]).set_index("alignment")
    assert table.loc["ridge", "top1"] > 0.97
    assert "expected equal widths for a rotation, got 24 and 16" in table.loc["orthogonal", "note"]
    assert np.isnan(table.loc["orthogonal", "top1"]) and table.loc["none", "note"]


def test_maps_are_fitted_to_training_problems_without_labels(
    readouts: ReadOuts, spaces: dict[str, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps see latents of training structures alone."""
    from interp.decoders.evaluation import transfer as module

    fitted = []

    def watched(kind, theirs, ours):  # type: ignore[no-untyped-def]
        fitted.append(theirs)
        return fit_map(kind, theirs, ours)

    monkeypatch.setattr(module, "fit_map", watched)
    transfer(readouts, spaces["turned"])
    rows, _ = step_rows(spaces["turned"], 0)
    table = readouts.of("probe")
    taught = table.loc[table["split"] == "train", "trace"]
    assert taught.nunique() < 200
    allowed = {row.tobytes() for row in spaces["turned"].acts("blocks.0.hook_out", rows[rows["trace"].isin(taught)])}
    assert fitted and all(row.tobytes() in allowed for each in fitted for row in each)


def test_stores_without_a_problem_in_common_are_read_as_they_are(
    readouts: ReadOuts, written_trace: Callable, write_store: Callable, tmp_path: Path
) -> None:
    others = TraceSet([written_trace(p) for p in task("chain:steps=3").generate(80, seed=9, split="train")])
    store = write_store(
        tmp_path / "s", others, {"blocks.0.hook_out": lambda index: np.zeros((len(index), D), np.float32)}
    )
    assert transfer(readouts, store)["alignment"].tolist() == ["none"]


def test_shared_steps_are_the_same_steps_of_the_same_problems(chains: TraceSet, spaces: dict[str, Store]) -> None:
    home, other = spaces["home"], spaces["turned"]
    rows, _ = step_rows(home, 0)
    ours, theirs = shared_steps((home, rows.iloc[::-1]), (other, step_rows(other, 0)[0]))
    assert len(ours) == len(theirs) == len(rows)
    assert (ours[["trace", "read_step"]].to_numpy() == theirs[["trace", "read_step"]].to_numpy()).all()


def test_bad_maps_are_refused(spaces: dict[str, Store]) -> None:
    x = np.zeros((60, 4))
    with pytest.raises(UsageError, match="expected at least 50 steps shared with the other store to align it, got 10"):
        fit_map("ridge", x[:10], x[:10])
    with pytest.raises(UsageError, match=r"expected a known alignment, got 'rigde'; did you mean 'ridge'"):
        fit_map("rigde", x, x)  # type: ignore[arg-type]
    brought = MappedStore(spaces["turned"], spaces["home"], spaces["home"].addresses[0], lambda x: x)
    with pytest.raises(UsageError, match="expected a known address in this store"):
        brought.acts("blocks.1.hook_out")
