"""Saved lenses of both kinds through one interface: what they say of themselves, what they read, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.activations import Store
from interp.decoders.jacobian.lens import JacobianLens, token_ids
from interp.decoders.lens_files import DESCRIPTION
from interp.decoders.saved_lens import SavedLens, describe_lens
from interp.decoders.tuned_lens import TunedLens
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.runtime.written import is_jacobian_lens

MIDDLE = Address("blocks.0.hook_out")


@pytest.fixture(scope="module")
def tuned(store: Store, coconut: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tuned lens."""
    folder = tmp_path_factory.mktemp("tuned")
    TunedLens(coconut, updates=20).fit_rows(store, MIDDLE, store.index).save(folder)
    return folder


@pytest.fixture(scope="module")
def jacobian(store: Store, coconut: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved Jacobian lens."""
    file = tmp_path_factory.mktemp("jacobian") / "lens.pt"
    JacobianLens(coconut).fit_traces(store.traces[:4]).save(file)
    return file


def states(store: Store, coconut: Any, address: Address) -> torch.Tensor:
    return torch.from_numpy(store.acts(address, np.arange(6))).to(coconut.device)


def test_a_tuned_lens_says_what_it_was_fitted_to_and_reads_as_the_decoder_does(
    store: Store, coconut: Any, tuned: Path
) -> None:
    said = describe_lens(tuned)
    assert (said.method, said.model, said.weights) == ("tuned_lens", coconut.name, coconut.weights)
    assert said.addresses == (MIDDLE.name,) and said.n_tokens is None
    lens = SavedLens(tuned, coconut)
    expected = TunedLens.load(tuned, coconut).logits(store, MIDDLE, store.index.iloc[:6])
    assert np.array_equal(lens.logits(states(store, coconut, MIDDLE), MIDDLE).cpu().numpy(), expected)
    assert lens.reads(MIDDLE) and not lens.reads(Address("blocks.1.hook_out")) and lens.notes == []
    with pytest.raises(UsageError, match="was not fitted at"):
        lens.logits(states(store, coconut, MIDDLE), Address("blocks.1.hook_out"))


def test_a_jacobian_lens_says_what_it_was_fitted_to_and_reads_as_the_decoder_does(
    store: Store, coconut: Any, jacobian: Path
) -> None:
    said = describe_lens(jacobian)
    assert (said.method, said.model, said.weights) == ("jacobian_lens", coconut.name, coconut.weights)
    assert said.addresses[0] == MIDDLE.name and said.d_model == coconut.model.cfg.d_model
    expected = JacobianLens.load(jacobian, coconut).logits(store, MIDDLE, store.index.iloc[:6])
    lens = SavedLens(jacobian, coconut)
    assert np.array_equal(lens.logits(states(store, coconut, MIDDLE), MIDDLE).cpu().numpy(), expected)
    assert is_jacobian_lens(jacobian)


def test_a_lens_of_a_few_tokens_gives_all_others_no_probability(store: Store, coconut: Any, tmp_path: Path) -> None:
    file = tmp_path / "few.pt"
    JacobianLens(coconut, candidates=["1", "2"]).fit_traces(store.traces[:4]).save(file)
    assert describe_lens(file).n_tokens == 2
    lens = SavedLens(file, coconut)
    logits = lens.logits(states(store, coconut, MIDDLE), MIDDLE)
    few = token_ids(coconut, ["1", "2"])
    assert logits.shape == (6, len(coconut.unembed.weight)) and lens.tokens == tuple(few)
    assert bool(torch.isfinite(logits[:, few]).all()) and int(torch.isfinite(logits).sum()) == 12
    assert np.allclose(torch.softmax(logits, dim=-1)[:, few].sum(dim=-1), 1)


@pytest.mark.parametrize("kind", ["tuned", "jacobian"])
def test_a_lens_of_another_model_is_refused(request: pytest.FixtureRequest, kind: str) -> None:
    path = request.getfixturevalue(kind)
    with pytest.raises(StoreError, match=r"weights|unembedding"):
        SavedLens(path, interp.load("chain-text"))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 damaged"])
def test_what_is_no_lens_is_refused_and_not_taken_for_one(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(content)
    assert not is_jacobian_lens(file)
    with pytest.raises(StoreError, match="cannot be read safely"):
        describe_lens(file)
    (tmp_path / DESCRIPTION).write_bytes(b"{}")
    with pytest.raises(StoreError, match="cannot be read"):
        describe_lens(tmp_path)
    torch.save({"weight": torch.zeros(2)}, file)
    assert not is_jacobian_lens(file)
