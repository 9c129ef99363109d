"""Jacobian lenses are those of transformer_lens and of finite differences, however their contexts are cut up."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformer_lens.tools.analysis import JacobianLens as ReferenceLens

import interp
from benchmarks.decoders.lenses import finite_difference_gap, relative
from interp.activations import Store
from interp.decoders.jacobian import fitting
from interp.decoders.jacobian.estimate import Positions
from interp.decoders.jacobian.fitting import fit_jacobians, text_contexts
from interp.decoders.jacobian.lens import JacobianLens
from interp.decoders.jacobian.lens_file import LensFile, merge
from interp.decoders.logit_lens import LogitLens
from interp.errors import UsageError
from interp.models.address import Address
from interp.reasoners.replayer import PartialTrace
from interp.traces import Channel, TraceSet

TEXTS = [
    "What is two plus two? Let us think. So the answer is 4.",
    "First add 3 and 5, which gives 8. Then take 2 away: 6 is left!",
    "Tom has 12 apples.",
]


@pytest.fixture(scope="module")
def llama(model_folder: Callable[..., Path]) -> interp.Reasoner:
    return interp.load(str(model_folder("llama")), dtype="float32")


@pytest.fixture(scope="module")
def reference(llama: interp.Reasoner) -> ReferenceLens:
    return ReferenceLens.fit(llama.model, TEXTS, corpus="three", skip_first_positions=4, show_progress=False)


@pytest.fixture(scope="module")
def texts(llama: interp.Reasoner) -> list:
    # The very tokens of the reference, which puts a first token of its own before the tokenizer's.
    ids = [llama.model.to_tokens(text)[0].tolist() for text in TEXTS]
    return [PartialTrace(row, [Channel.PROMPT] * len(row), None) for row in ids]


@pytest.fixture(scope="module")
def ours(llama: interp.Reasoner, texts: list) -> LensFile:
    return fit_jacobians(llama, texts, positions=Positions(4), batch_size=2)


def test_it_is_the_lens_of_transformer_lens(
    llama: interp.Reasoner, reference: ReferenceLens, ours: LensFile, texts: list, tmp_path: Path
) -> None:
    assert ours.n_contexts == reference.n_prompts == 3 and sorted(ours.matrices) == reference.source_layers == [0]
    assert relative(ours.matrices[0], reference.jacobians[0]) < 1e-5
    ours.write(tmp_path / "ours.pt")
    opened = ReferenceLens.load(str(tmp_path / "ours.pt")).validate_model(llama.model)
    tokens = torch.tensor([texts[0].token_ids])
    expected = reference.readout(llama.model, tokens, layers=[0], return_full_logits=True).lens_logits[0]
    theirs = opened.readout(llama.model, tokens, layers=[0], return_full_logits=True).lens_logits[0]
    torch.testing.assert_close(theirs, expected, rtol=0, atol=1e-4)
    lens = JacobianLens.load(tmp_path / "ours.pt", llama)
    with llama.model.hooks(fwd_hooks=[]):
        _, cache = llama.model.run_with_cache(tokens, names_filter="blocks.0.hook_out")
    carried = lens.transport(cache["blocks.0.hook_out"][0], 0)
    logits = llama.unembed(llama.model.ln_final(carried[None])[0])
    torch.testing.assert_close(logits.detach(), expected, rtol=0, atol=1e-4)
    names = llama.tokenizer.convert_ids_to_tokens([70, 80, 90])
    torch.testing.assert_close(
        lens.directions(names, 0), reference.lens_vectors(llama.model, [70, 80, 90], 0).cpu(), rtol=0, atol=1e-4
    )


def test_files_of_the_reference_open(llama: interp.Reasoner, reference: ReferenceLens, tmp_path: Path) -> None:
    reference.save(str(tmp_path / "theirs.pt"))  # float16
    with pytest.warns(UserWarning, match="does not say which weights it was fitted to"):
        opened = JacobianLens.load(tmp_path / "theirs.pt", llama)
    assert relative(opened.lens.matrices[0], reference.jacobians[0]) < 1e-3
    assert opened.lens.n_contexts == 3 and opened.lens.metadata["corpus"] == "three"
    sums = {0: reference.jacobians[0] * 3}
    under_way = {"jacobian_sum": sums, "n_done": 3, "next_idx": 3, "source_layers": [0], "target_layer": 1}
    torch.save(under_way | {"skip_first": 4}, tmp_path / "part.pt")
    torch.testing.assert_close(LensFile.read(tmp_path / "part.pt").matrices[0], reference.jacobians[0])


def test_it_is_the_derivative_at_latent_positions(traces: TraceSet) -> None:
    assert all(finite_difference_gap("chain-coconut", trace) < 1e-5 for trace in traces[:2])


def test_a_batch_a_resumed_fit_and_merged_halves_give_the_same_lens(
    llama: interp.Reasoner, texts: list, ours: LensFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = fit_jacobians(llama, texts, positions=Positions(4), batch_size=1)
    assert relative(alone.matrices[0], ours.matrices[0]) < 1e-5
    monkeypatch.setattr(fitting, "_SECONDS", -1.0)
    checkpoint, counted = tmp_path / "lens.pt.part", []

    def cut_off(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"positions": Positions(4), "batch_size": 1, "checkpoint": checkpoint}
    with pytest.raises(KeyboardInterrupt):
        fit_jacobians(llama, texts, progress=cut_off, **options)
    assert LensFile.read(checkpoint).next_context == 2
    assert ReferenceLens.load(str(checkpoint)).n_prompts == 2, "the reference reads a fit under way"
    with pytest.raises(UsageError, match="expected the beginning of this fit in"):
        fit_jacobians(llama, texts[:2], **options)
    resumed = fit_jacobians(llama, texts, progress=lambda done, total: counted.append(done), **options)
    assert counted == [3] and relative(resumed.matrices[0], ours.matrices[0]) < 1e-5
    parts = [fit_jacobians(llama, part, positions=Positions(4)) for part in (texts[:2], texts[2:])]
    whole = merge(parts)
    assert whole.n_contexts == 3 and relative(whole.matrices[0], ours.matrices[0]) < 1e-5
    with pytest.raises(UsageError, match="got two of the same ones"):
        merge([parts[0], parts[0]])
    other = fit_jacobians(llama, texts[2:], positions=Positions(2))
    with pytest.raises(UsageError, match="differ in skip_first_positions"):
        merge([parts[0], other])
    with pytest.raises(UsageError, match="expected lenses that say how many contexts"):
        merge([])


def test_positions_that_do_not_count(llama: interp.Reasoner, texts: list, traces: TraceSet) -> None:
    sources, targets = Positions(2, ("latent",)).masks([traces[0]], len(traces[0]) + 3)
    n = len(traces[0])
    assert targets[0].nonzero()[:, 0].tolist() == list(range(2, n - 1))
    latents = [k for k, channel in enumerate(traces[0].channel) if channel == "latent"]
    assert sources[0].nonzero()[:, 0].tolist() == latents
    with pytest.raises(UsageError, match="contexts with positions to fit a lens to, got none in 3"):
        fit_jacobians(llama, texts, positions=Positions(500))
    for layers in ([], [1], [-1]):
        with pytest.raises(UsageError, match="expected layers between 0 and 0"):
            fit_jacobians(llama, texts, layers=layers)


def test_candidates_are_ranked_as_by_the_whole_lens(
    llama: interp.Reasoner, texts: list, ours: LensFile, tmp_path: Path
) -> None:
    """Llama's norm has no bias, so that the order is exact; the norm's scale is estimated."""
    tokens = list(range(40, 60))
    few = fit_jacobians(llama, texts, positions=Positions(4), candidates=tokens)
    assert few.matrices[0].shape == (20 + 16, 32)
    few.write(tmp_path / "few.pt")
    lens, whole = JacobianLens.load(tmp_path / "few.pt", llama), JacobianLens(llama)
    whole.use(ours)
    recording = interp.record(llama, llama.think(_problems()), sites=["resid_post", "final"], channels=["prompt"])
    rows, address = recording.index.head(60), Address("blocks.0.hook_out")
    expected = whole.logits(recording, address, rows)[:, tokens]
    found = lens.logits(recording, address, rows)
    np.testing.assert_array_equal(found.argsort(axis=1), expected.argsort(axis=1))
    scales = np.abs(found).sum(axis=1) / np.abs(expected).sum(axis=1)
    assert scales.min() > 0.5 and scales.max() < 2 and abs(np.median(scales) - 1) < 0.3
    names = llama.tokenizer.convert_ids_to_tokens(tokens)
    assert set(lens.decode(recording, address, rows).texts.ravel()) <= set(names)
    assert not lens.reads(Address("ln_final.hook_out")) and whole.reads(Address("ln_final.hook_out"))
    with pytest.raises(UsageError, match="expected candidates of this lens"):
        lens.directions(llama.tokenizer.convert_ids_to_tokens([5]), 0)


def _problems() -> list:
    from interp.problems.base import Problem, Step, structure_hash

    texts = ["What is 3 plus 4 and so on?", "Tom has 5 apples, how many?"]
    return [
        Problem(str(k), "questions:path=q.jsonl", text, "7", (Step("7", "7"),), structure_hash("j", k), "test", "")
        for k, text in enumerate(texts)
    ]


def test_candidates_of_a_norm_with_a_bias(coconut: interp.Reasoner, store: Store) -> None:
    digits = [str(k) for k in range(10)]
    whole = JacobianLens(coconut).fit_traces(store.traces[:20])
    few = JacobianLens(coconut, candidates=digits).fit_traces(store.traces[:20])
    ids = coconut.tokenizer.convert_tokens_to_ids(digits)
    rows, address = store.index.head(200), Address("blocks.1.hook_out")
    expected, found = whole.logits(store, address, rows)[:, ids], few.logits(store, address, rows)
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95


def test_the_evaluation_fits_it_once_and_reads_it_at_blocks(coconut: interp.Reasoner, store: Store) -> None:
    lens = JacobianLens(coconut, contexts=10)
    lens.fit(store, Address("blocks.0.hook_out"), store.index)
    matrices = lens.lens.matrices
    assert lens.fit(store, Address("blocks.1.hook_out"), store.index).lens.matrices is matrices
    assert lens.lens.n_contexts == 10
    read = interp.decode(
        store, ["logit_lens", "jacobian_lens"], reasoner=coconut, settings={"jacobian_lens": {"contexts": 10}}
    )
    assert read.methods["jacobian_lens"].common.location.address.hook in ("hook_out", "ln_final.hook_out")
    assert read.scores().set_index("method").loc["jacobian_lens", "top1"].max() > 0.9
    rows = store.index.head(20)
    for name in ("blocks.2.hook_out", "ln_final.hook_out"):
        np.testing.assert_allclose(
            lens.logits(store, Address(name), rows), LogitLens(coconut).logits(store, Address(name), rows), atol=1e-5
        )
    with pytest.raises(UsageError, match=r"reads the outputs of blocks, got blocks\.0\.hook_in"):
        lens.logits(store, Address("blocks.0.hook_in"), rows)
    with pytest.raises(UsageError, match="was not fitted"):
        _ = JacobianLens(coconut).lens


def test_parameters_are_as_they_were(llama: interp.Reasoner, texts: list) -> None:
    before = [p.requires_grad for p in llama.model.parameters()]
    fit_jacobians(llama, texts[:1], positions=Positions(4))
    assert [p.requires_grad for p in llama.model.parameters()] == before
    assert all(p.grad is None for p in llama.model.parameters())


def test_texts_are_cut_and_empty_ones_left_out(llama: interp.Reasoner) -> None:
    contexts = text_contexts(llama, [TEXTS[0], TEXTS[1]], max_tokens=9)
    assert [len(context) for context in contexts] == [9, 9]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_jacobians(llama, contexts)
