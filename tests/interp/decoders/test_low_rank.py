"""Writers made of adapters on the reasoner's own model: the model stays frozen, and only the adapters learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.pytorch_utils import Conv1D

import interp
from interp.activations import Store
from interp.activations.targets import structures
from interp.decoders.low_rank import AdaptedWriter, LowRank, adapt
from interp.decoders.oracle import AdaptedOracle, answers_to
from interp.decoders.step_rows import step_rows
from interp.decoders.verbalizer import AdaptedVerbalizer, Verbalizer
from interp.decoders.writer import WriterVocabulary
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.models.fast_model import fast_model
from interp.statistics.splits import grouped_split

AT = Address("blocks.0.hook_in")


@pytest.fixture(scope="module")
def parts(store: Store) -> dict[str, Any]:
    rows, gold = step_rows(store, 0)
    split = grouped_split(structures(store, rows), 0)
    return {"train": (rows[split.train], gold[split.train]), "test": (rows[split.test], gold[split.test])}


@pytest.fixture(scope="module")
def verbalizer(store: Store, coconut: interp.Reasoner, parts: dict[str, Any]) -> AdaptedVerbalizer:
    return AdaptedVerbalizer(coconut, rank=8, updates=80, batch_size=64).fit(store, AT, *parts["train"])


@pytest.mark.parametrize("layer", [torch.nn.Linear(6, 4), Conv1D(4, 6)])
def test_an_adapter_adds_a_product_of_low_rank(layer: torch.nn.Module) -> None:
    made, x = LowRank(layer, 2), torch.randn(5, 6)
    torch.testing.assert_close(made(x), layer(x))
    with torch.no_grad():
        made.up.normal_()
    torch.testing.assert_close(made(x) - layer(x), x @ (made.down @ made.up))
    assert torch.linalg.matrix_rank(made.down @ made.up) == 2


def test_a_new_adapted_model_equals_the_model_and_training_leaves_the_model_unchanged(
    coconut: interp.Reasoner, verbalizer: AdaptedVerbalizer
) -> None:
    plain = fast_model(coconut.model)
    assert plain is not None
    fresh = adapt(plain.base, 4)
    ids = torch.arange(6, device=coconut.device)[None]
    torch.testing.assert_close(fresh(ids).last_hidden_state, plain.base(ids).last_hidden_state)
    assert not any(isinstance(part, LowRank) for part in plain.base.modules())
    taught = dict(verbalizer.writer_.model.named_parameters())  # type: ignore[union-attr]
    for name, value in plain.base.named_parameters():
        names = [each for each in taught if each.replace(".base.", ".") == name]
        torch.testing.assert_close(taught[names[0]], value)
        assert not taught[names[0]].requires_grad


def test_words_that_are_tokens_use_the_models_embeddings(coconut: interp.Reasoner) -> None:
    writer = AdaptedWriter(WriterVocabulary(["what", "7"], ["7"]), 4, coconut, positions=8)
    seven, what = writer.words.ids(["7"])[0], writer.words.ids(["what"])[0]
    own = coconut.embed.weight[coconut.tokenizer.get_vocab()["7"]]
    torch.testing.assert_close(writer.table[seven], own.detach())
    assert not writer.is_token[what] and writer.new.requires_grad
    assert "new" in writer.saved_tensors() and not any(".base." in name for name in writer.saved_tensors())


def test_it_reads_values_from_latents_and_not_without_them(
    store: Store, verbalizer: AdaptedVerbalizer, parts: dict[str, Any]
) -> None:
    rows, gold = parts["test"]
    assert (np.array(verbalizer.write(store, rows)) == gold).mean() > 0.9
    swapped = verbalizer.write(store, rows, latents_of=rows.iloc[np.roll(np.arange(len(rows)), 7)])
    assert (np.array(swapped) == gold).mean() < 0.6


def test_an_adapted_oracle_answers_in_words_that_are_no_tokens(
    store: Store, coconut: interp.Reasoner, parts: dict[str, Any]
) -> None:
    made = AdaptedOracle(coconut, questions=["even"], updates=80, batch_size=64).fit(store, AT, *parts["train"])
    rows, _ = parts["test"]
    assert (made.ask(store, rows, "even").texts[:, 0] == answers_to(store, rows, "even")).mean() > 0.85


def test_saved_adapters_are_small_and_load_with_their_model_alone(
    store: Store, coconut: interp.Reasoner, verbalizer: AdaptedVerbalizer, parts: dict[str, Any], tmp_path: Path
) -> None:
    verbalizer.save(tmp_path)
    rows, _ = parts["test"]
    again = Verbalizer.load(tmp_path, coconut)
    assert again.write(store, rows) == verbalizer.write(store, rows)
    whole = sum(p.numel() for p in coconut.model.parameters()) * 4
    assert (tmp_path / "model.safetensors").stat().st_size < whole / 3
    for other in (None, interp.random_init(coconut)):
        with pytest.raises(
            StoreError, match=r"expected the reasoner that the adapters in .* were fitted to, got .*; pass reasoner="
        ):
            Verbalizer.load(tmp_path, other)


def test_bad_ranks_and_lengths_are_refused(coconut: interp.Reasoner) -> None:
    with pytest.raises(UsageError, match="expected rank to be"):
        AdaptedVerbalizer(coconut, rank=0)
    with pytest.raises(
        UsageError, match=r"questions and texts of at most \d+ positions, as chain-coconut has, got 5000"
    ):
        AdaptedWriter(WriterVocabulary(["a"], ["a"]), 4, coconut, positions=5000)
