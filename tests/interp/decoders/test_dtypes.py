"""Decoders and dictionaries on models in half precision give what they give in float32, within its own noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.activations import Store
from interp.decoders.logit_lens import LogitLens, unembed_states
from interp.decoders.registry import decoder_names, decoder_traits
from interp.loading.load import random_init
from interp.models.address import Address
from interp.problems.base import Problem
from interp.sae.dictionaries import LinearDictionary
from interp.sae.splice import splice

HALVES = ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)]
ADDRESSES = ["blocks.0.hook_out", "ln_final.hook_out"]
PATCHED = "blocks.0.hook_in"  # where patching a thought changes the answer
N_PROBLEMS = 40
QUICK = {"updates": 3}
SETTINGS: dict[str, Any] = {"tuned_lens": {"updates": 40}, "adapted_verbalizer": QUICK, "adapted_oracle": QUICK}
SETTINGS["jacobian_lens"] = {"contexts": 4}
# Decoders that run the model. All others see only what a store holds, which is read as float32.
RUNNING = [name for name in decoder_names() if decoder_traits(name).needs_model]
# Those that nothing random or hardly trained comes into, which read the same texts in every dtype.
STEADY = ["logit_lens", "nearest_token", "nearest_text", "patchscope", "continuation", "transplant"]


@pytest.fixture(scope="module")
def half(
    request: pytest.FixtureRequest, problems: list[Problem], tmp_path_factory: pytest.TempPathFactory
) -> tuple[interp.Reasoner, Store]:
    reasoner = interp.load("chain-coconut", dtype=request.param)
    out = tmp_path_factory.mktemp("half") / request.param
    return reasoner, interp.capture(reasoner, reasoner.think(problems[:N_PROBLEMS]), out=out)


def read_outs(store: Any, reasoner: interp.Reasoner, methods: list[str]) -> dict[str, np.ndarray]:
    """The text of each trace and step, by method."""
    texts = {}
    for method in methods:
        addresses = [PATCHED if method == "patchscope" else ADDRESSES[1]]
        readouts = interp.decode(
            store, [method], reasoner=reasoner, addresses=addresses, offsets=[0], step_offsets=[], settings=SETTINGS
        )
        texts[method] = readouts.of(method).sort_values(["trace", "step"])["text"].to_numpy()
    return texts


@pytest.fixture(scope="module")
def expected(coconut: interp.Reasoner, problems: list[Problem]) -> dict[str, np.ndarray]:
    recording = interp.record(coconut, coconut.think(problems[:N_PROBLEMS]), sites=["final", PATCHED])
    return read_outs(recording, coconut, STEADY)


@pytest.mark.parametrize("half", HALVES, indirect=True)
def test_the_lens_is_the_models_own_logits(half: tuple, coconut: interp.Reasoner) -> None:
    reasoner, store = half
    rows = store.thought_rows.iloc[:200]
    dtype = reasoner.unembed.weight.dtype
    for name in ADDRESSES:
        address = Address(name)
        logits = LogitLens(reasoner).logits(store, address, rows)
        exact = unembed_states(coconut, torch.from_numpy(store.acts(address, rows)), address.norm).detach().numpy()
        noise = 8 * torch.finfo(dtype).eps * (np.abs(exact).max() + 1)
        assert 0 < np.abs(logits - exact).max() < noise


@pytest.mark.parametrize("half", HALVES, indirect=True)
def test_every_decoder_reads_a_model_in_half_precision(half: tuple, expected: dict[str, np.ndarray]) -> None:
    reasoner, store = half
    assert {*STEADY, "tuned_lens", "jacobian_lens", "adapted_verbalizer", "adapted_oracle"} == set(RUNNING)
    texts = read_outs(store, reasoner, RUNNING)
    for method in STEADY:
        assert np.mean(texts[method] == expected[method]) > 0.85, method
        assert len(set(expected[method])) > 2, f"{method} always reads the same"


@pytest.mark.parametrize("half", HALVES, indirect=True)
def test_splicing_and_the_untrained_twin(half: tuple) -> None:
    reasoner, store = half
    address = Address("ln_final.hook_out")
    rows = store.thought_rows[store.thought_rows["trace"] < 15]
    acts = store.acts(address, rows)
    mean = acts.mean(axis=0)
    both = np.concatenate([np.eye(acts.shape[1]), -np.eye(acts.shape[1])]).astype(np.float32)
    dictionaries = {"exact": LinearDictionary(both, mean), "nothing": LinearDictionary(0 * both, mean)}
    result = splice(reasoner, store, address, rows, dictionaries, mean).set_index("condition")
    assert result.loc["exact", "same_answer"] > 0.97 and result.loc["exact", "loss_recovered"] > 0.95
    assert result.loc["nothing", "accuracy"] < 0.5
    twin = random_init(reasoner)
    assert twin.embed.weight.dtype == reasoner.embed.weight.dtype
    twin.think(store.traces.problems[:3])


@pytest.mark.parametrize("dtype", HALVES)
def test_adapters_are_saved_and_loaded_whole(
    dtype: str, half_adapters: Callable[[str], tuple[Any, interp.Reasoner, Store]], tmp_path: Any
) -> None:
    from safetensors.torch import load_file, save_file

    from interp.decoders.verbalizer import WEIGHTS, Verbalizer
    from interp.errors import StoreError

    verbalizer, reasoner, store = half_adapters(dtype)
    rows = store.thought_rows.iloc[:8]
    verbalizer.save(tmp_path)
    assert Verbalizer.load(tmp_path, reasoner).write(store, rows) == verbalizer.write(store, rows)
    tensors = load_file(tmp_path / WEIGHTS)
    lacking = next(name for name in tensors if name.endswith("down"))
    save_file({name: value for name, value in tensors.items() if name != lacking}, tmp_path / WEIGHTS)
    with pytest.raises(StoreError, match=f"its tensors are not the writer's: {lacking}"):
        Verbalizer.load(tmp_path, reasoner)


@pytest.fixture
def half_adapters(problems: list[Problem], tmp_path: Any) -> Callable[[str], tuple[Any, interp.Reasoner, Store]]:
    """Return a function of a dtype that fits adapters to a model in it."""
    from interp.decoders.verbalizer import AdaptedVerbalizer

    def make(dtype: str) -> tuple[Any, interp.Reasoner, Store]:
        reasoner = interp.load("chain-coconut", dtype=dtype)
        store = interp.capture(reasoner, reasoner.think(problems[:8]), out=tmp_path / "store", sites="final")
        rows = store.thought_rows
        texts = np.array(
            [store.traces[t].problem.steps[s - 1].text for t, s in zip(rows["trace"], rows["step"], strict=True)]
        )
        made = AdaptedVerbalizer(reasoner, updates=3).fit(store, Address("ln_final.hook_out"), rows, texts)
        return made, reasoner, store

    return make


KINDS = ["chain-coconut", "chain-text", "chain-direct", "chain-pause-as-thought", "chain-recurrent", "lcm-chain"]
KINDS += ["chain3-thinking-tokens", "self-reasoning"]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("organism", KINDS)
def test_every_kind_thinks_in_half_precision_as_in_float32(organism: str, dtype: str) -> None:
    whole, reasoner = interp.load(organism), interp.load(organism, dtype=dtype)
    asked = whole.task.generate(12, seed=4, split="test")
    expected, traces = whole.think(asked), reasoner.think(asked)
    assert np.mean([a.answer == b.answer for a, b in zip(expected, traces, strict=True)]) > 0.7
