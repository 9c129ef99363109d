"""Swaps and clamps in the space of a Jacobian lens: those of transformer_lens, and what they do to answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.causal.lens_edits import (
    EDITS,
    best_place,
    clamp_coordinates,
    lens_interventions,
    swap_coordinates,
    swap_values,
)
from interp.decoders.jacobian.fitting import fit_jacobians
from interp.decoders.jacobian.lens import JacobianLens
from interp.decoders.jacobian.lens_file import LensFile
from interp.errors import UsageError
from interp.traces import TraceSet


@pytest.fixture(scope="module")
def lens(coconut: interp.Reasoner) -> JacobianLens:
    learn = coconut.think(coconut.task.generate(32, seed=5, split="train"))
    return JacobianLens(coconut).fit_traces(learn)


@pytest.mark.parametrize("mode", ["swap", "clamp"])
def test_they_are_the_hooks_of_transformer_lens(
    mode: str, model_folder: Callable[..., Path], asked: Callable[..., list], tmp_path: Path
) -> None:
    from transformer_lens.tools.analysis import JacobianLens as ReferenceLens

    llama = interp.load(str(model_folder("llama")), dtype="float32")
    (context,) = llama.think(asked(1))
    made = JacobianLens(llama)
    made.use(fit_jacobians(llama, [context]))
    made.save(tmp_path / "lens.pt")
    reference = ReferenceLens.load(str(tmp_path / "lens.pt"))
    tokens, at = torch.tensor([context.token_ids]), [3, 7]
    _, cache = llama.model.run_with_cache(tokens)
    hooks = (
        reference.swap_hooks(llama.model, 70, 90, [0], alpha=2.0, positions=at)
        if mode == "swap"
        else reference.swap_clamp_hooks(llama.model, 70, 90, [0], cache, positions=at)
    )
    expected = llama.model.run_with_hooks(tokens, fwd_hooks=hooks)[0]
    assert (expected - llama.model(tokens)[0]).abs().max() > 1e-3, "the edit does something"
    pair = tuple(llama.tokenizer.convert_ids_to_tokens([70, 90]))
    rows = np.array([(0, position) for position in at])
    edits = lens_interventions(llama, [context], made, rows, [pair] * 2, layers=[0], mode=mode, strength=2.0)
    seen: list[torch.Tensor] = []
    llama.replay(
        [context], hooks={"ln_final.hook_out": lambda acts, batch: seen.append(acts[0].clone())}, interventions=edits
    )
    torch.testing.assert_close(llama.unembed(seen[0]).detach(), expected.detach(), rtol=0, atol=1e-4)


def test_a_second_swap_undoes_the_first_and_a_second_clamp_changes_nothing() -> None:
    draw = torch.Generator().manual_seed(0)
    pairs, states = torch.randn(5, 2, 16, generator=draw), torch.randn(5, 16, generator=draw)
    rows = np.arange(5)
    swap, clamp = swap_coordinates(pairs), clamp_coordinates(pairs, states)
    torch.testing.assert_close(swap(swap(states, rows), rows), states)
    torch.testing.assert_close(clamp(states, rows), swap(states, rows))
    torch.testing.assert_close(clamp(clamp(states, rows), rows), clamp(states, rows))
    for row in range(5):  # numpy's least squares gives the same coordinates, exchanged
        basis = pairs[row].T.numpy()
        before, after = (np.linalg.lstsq(basis, x[row].numpy(), rcond=None)[0] for x in (states, swap(states, rows)))
        np.testing.assert_allclose(after, before[::-1], atol=1e-4)
        rest = [x[row].numpy() - basis @ c for x, c in ((states, before), (swap(states, rows), after))]
        np.testing.assert_allclose(rest[0], rest[1], atol=1e-4)


def test_clamps_move_answers_and_swaps_in_adjacent_layers_cancel(
    coconut: interp.Reasoner, traces: TraceSet, lens: JacobianLens
) -> None:
    tested = traces[:30]
    both = {mode: swap_values(coconut, tested, lens, layers=[0, 1], offset=-1, mode=mode) for mode in ("clamp", "swap")}
    clamp, swap = both["clamp"], both["swap"]
    assert set(clamp.table()["edit"]) == set(EDITS)
    assert clamp.rate("value").value > 0.85 and swap.rate("value").value < 0.2
    alone = swap_values(coconut, tested, lens, layers=[1], offset=-1, mode="swap")
    assert alone.rate("value").value > 0.7, "one swap alone works"
    for control in EDITS[1:]:
        assert clamp.rate(control).value < 0.1
    table = clamp.table()
    assert (table["value"] != table["target"]).all() and (table["followed"] <= table["changed"]).all()
    summary = clamp.summary().set_index("edit")
    assert summary.loc["value", "followed"] == clamp.rate("value").value


def test_the_place_is_the_best_of_those_tried(coconut: interp.Reasoner, traces: TraceSet, lens: JacobianLens) -> None:
    place = best_place(coconut, traces[30:45], lens)
    assert place.offset == -1 and place.followed.value > 0.8
    fixed = best_place(coconut, traces[30:45], lens, layers=[0], offsets=[0])
    assert (fixed.layers, fixed.offset) == ((0,), 0) and fixed.followed.value < place.followed.value


def test_edits_that_mean_nothing_are_refused(coconut: interp.Reasoner, traces: TraceSet, lens: JacobianLens) -> None:
    rows = np.array([(0, 5)])
    with pytest.raises(UsageError, match="a known mode of a lens edit, got 'hold'"):
        lens_interventions(coconut, traces, lens, rows, [("3", "4")], layers=[0], mode="hold")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"two directions for '3' and '3' in layer 0, got one"):
        lens_interventions(coconut, traces, lens, rows, [("3", "3")], layers=[0])
    with pytest.raises(UsageError, match="was not fitted at layer 2"):
        lens_interventions(coconut, traces, lens, rows, [("3", "4")], layers=[2])
    with pytest.raises(UsageError, match="whose value can be exchanged, got none in 2 traces"):
        swap_values(coconut, traces[:2], lens, layers=[0], offset=40)


def test_the_command_chooses_and_tests(
    lens: JacobianLens, tmp_path: Path, cotlens: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lens.save(tmp_path / "lens.pt")
    arguments = ("causal", "lens-swap", "chain-coconut", "--lens", tmp_path / "lens.pt", "-n", 25)
    ended = cotlens(*[a if a != "-n" else "--n" for a in arguments], "--json")
    assert ended.code == 0, ended.err
    assert ended.json["layers"] == [0, 1] and ended.json["offset"] == -1 and ended.json["followed"]["value"] > 0.8
    assert {row["edit"] for row in ended.json["rates"]} == set(EDITS)
    LensFile({0: torch.eye(64)}, 1).write(tmp_path / "other.pt")
    assert cotlens("causal", "lens-swap", "chain-coconut", "--lens", tmp_path / "other.pt").code == 5
