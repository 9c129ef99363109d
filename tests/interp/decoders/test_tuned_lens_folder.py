"""Folders of the tuned-lens package: the numbers of a formula computed here, the model's identity, and refusals."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.activations import Store
from interp.decoders.lens_files import lens_method, lens_settings
from interp.decoders.logit_lens import LogitLens
from interp.decoders.tuned_lens import TunedLens
from interp.errors import StoreError, UsageError
from interp.models.address import Address

WIDTH, DEPTH = 128, 3
STATES = ["blocks.0.hook_in", "blocks.0.hook_out", "blocks.1.hook_out"]


def write_folder(folder: Path, unembedding: np.ndarray | None, **changes: Any) -> dict[str, torch.Tensor]:
    """Write a lens as the tuned-lens package does; return its tensors."""
    draw = torch.Generator().manual_seed(4)
    tensors = {}
    for n in range(DEPTH):
        tensors[f"{n}.weight"] = 0.05 * torch.randn(WIDTH, WIDTH, generator=draw)
        tensors[f"{n}.bias"] = 0.3 * torch.randn(WIDTH, generator=draw)
    config: dict[str, Any] = {"base_model_name_or_path": "some/base", "d_model": WIDTH, "num_hidden_layers": DEPTH}
    config |= {"bias": True, "base_model_revision": None, "lens_type": "linear_tuned_lens", "unembed_hash": None}
    if unembedding is not None:
        printed = np.array_str(unembedding, precision=1)  # how the package knows an unembedding
        config["unembed_hash"] = hashlib.sha256(printed.encode()).hexdigest()
    folder.mkdir(exist_ok=True)
    torch.save(changes.pop("tensors", tensors), folder / "params.pt")
    (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
    return tensors


@pytest.fixture
def unembedding(coconut: interp.Reasoner) -> np.ndarray:
    return coconut.unembed.weight.detach().numpy()


def read(folder: Path, reasoner: interp.Reasoner, **options: Any) -> TunedLens:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TunedLens.load(folder, reasoner, **options)


def test_it_reads_what_its_formula_gives(
    store: Store, coconut: interp.Reasoner, unembedding: np.ndarray, tmp_path: Path
) -> None:
    tensors = {name: t.numpy() for name, t in write_folder(tmp_path / "lens", unembedding).items()}
    lens, rows = read(tmp_path / "lens", coconut), store.index.head(60)
    norm = coconut.model.original_model.transformer.ln_f
    gain, offset = (p.detach().numpy() for p in list(norm.parameters())[:2])
    for n, name in enumerate(STATES):
        states = store.acts(Address(name), rows).astype(np.float64)
        moved = states + states @ tensors[f"{n}.weight"].T + tensors[f"{n}.bias"]
        centred = moved - moved.mean(axis=1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * gain + offset
        logits = lens.logits(store, Address(name), rows)
        np.testing.assert_allclose(logits, normed @ unembedding.T, atol=1e-3)
        assert np.abs(logits - LogitLens(coconut).logits(store, Address(name), rows)).max() > 0.5
    last = Address("blocks.2.hook_out")
    np.testing.assert_allclose(lens.logits(store, last, rows), LogitLens(coconut).logits(store, last, rows), atol=1e-5)


def test_half_precision_and_no_biases(
    store: Store, coconut: interp.Reasoner, unembedding: np.ndarray, tmp_path: Path
) -> None:
    tensors = write_folder(tmp_path / "lens", unembedding)
    whole, rows, address = read(tmp_path / "lens", coconut), store.index.head(20), Address(STATES[1])
    write_folder(tmp_path / "half", unembedding, tensors={name: t.bfloat16() for name, t in tensors.items()})
    half = read(tmp_path / "half", coconut)
    np.testing.assert_allclose(half.logits(store, address, rows), whole.logits(store, address, rows), atol=0.2)
    weights = {name: t for name, t in tensors.items() if "weight" in name}
    write_folder(tmp_path / "weights", unembedding, tensors=weights, bias=False)
    assert not read(tmp_path / "weights", coconut).translators_[STATES[1]].bias.any()


def test_what_of_the_identity_is_an_assumption_is_said(
    coconut: interp.Reasoner, unembedding: np.ndarray, tmp_path: Path
) -> None:
    write_folder(tmp_path / "lens", unembedding)
    with pytest.warns(UserWarning, match=r"for some/base; that chain-coconut has the same weights is an assumption: a"):
        TunedLens.load(tmp_path / "lens", coconut)
    write_folder(tmp_path / "lens", None, base_model_revision="v2")
    with pytest.warns(UserWarning, match=r"for some/base at v2; .* names no hash, so that only its size was compared"):
        TunedLens.load(tmp_path / "lens", coconut)


def test_printing_options_do_not_change_the_hash(
    coconut: interp.Reasoner, unembedding: np.ndarray, tmp_path: Path
) -> None:
    write_folder(tmp_path / "lens", unembedding)
    with np.printoptions(threshold=10, linewidth=200, suppress=True, sign="+"):
        assert read(tmp_path / "lens", coconut).translators_


class Harmful:
    """Something that a pickle can hold and that runs code when it is read."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("ran"),))


def test_folders_that_are_refused(
    coconut: interp.Reasoner, unembedding: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "lens"
    tensors = write_folder(folder, unembedding + 1)

    def refused(pattern: str, **options: Any) -> None:
        with pytest.raises(StoreError, match=pattern) as error:
            read(folder, coconut, **options)
        assert "\n" not in str(error.value)

    refused(r"tuned for the unembedding of some/base, which chain-coconut does not have")
    assert read(folder, coconut, transfer=True).translators_.keys() == {*STATES}
    write_folder(folder, unembedding, d_model=64)
    refused(r"expected a lens for 3 layers of width 128 \(chain-coconut\), got one for 3 of width 64")
    write_folder(folder, unembedding, lens_type="mlp")
    refused("expected a lens of type linear_tuned_lens in .*, got 'mlp'")
    write_folder(folder, unembedding, tensors={k: v for k, v in tensors.items() if k != "1.bias"})
    refused(r"1 missing and 0 others \(such as 1\.bias\)")
    write_folder(folder, unembedding, tensors=tensors | {"2.weight": torch.zeros(WIDTH, 3)})
    refused(r"expected 2\.weight in .* of shape \(128, 128\), got shape \(128, 3\)")
    write_folder(folder, unembedding, tensors=tensors | {"0.bias": torch.full((WIDTH,), torch.nan)})
    refused("expected finite numbers in 0.bias")
    write_folder(folder, unembedding, tensors=[1, 2])
    refused("6 missing and 0 others")
    write_folder(folder, unembedding, tensors=tensors | {"0.bias": Harmful()})
    refused("cannot be read safely as tensors")
    assert not (tmp_path / "ran").exists()
    (folder / "config.json").write_text("[" * 100_000, encoding="utf-8")
    refused("configuration of the tuned lens .* cannot be read")
    (folder / "config.json").write_text("[]", encoding="utf-8")
    refused("expected an object")
    write_folder(folder, unembedding)
    (folder / "params.pt").unlink()
    refused(r"expected params\.pt beside .*config\.json, got none")


def test_the_evaluation_reads_with_it_where_it_has_a_map(
    store: Store, coconut: interp.Reasoner, unembedding: np.ndarray, tmp_path: Path
) -> None:
    write_folder(tmp_path / "lens", unembedding)
    settings = lens_settings([tmp_path / "lens"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read_outs = interp.decode(
            store, ["tuned_lens"], reasoner=coconut, addresses=STATES, step_offsets=[], settings=settings
        )
    result = read_outs.methods["tuned_lens"].common
    assert result.location.address.name in STATES
    assert result.decoder.losses_ == {}, "nothing is fitted"
    with pytest.raises(UsageError, match=r"expected one lens for tuned_lens, got .* and"):
        lens_settings([tmp_path / "lens", tmp_path / "lens"])
    with pytest.raises(UsageError, match="which does not exist"):
        lens_method(tmp_path / "nothing")
    with pytest.raises(StoreError, match="got a folder without"):
        lens_method(tmp_path)


def test_a_lens_of_fewer_addresses_is_read_at_those(store: Store, coconut: interp.Reasoner, tmp_path: Path) -> None:
    address = Address(STATES[1])
    TunedLens(coconut, updates=2).fit_rows(store, address, store.index).save(tmp_path / "own")
    settings = lens_settings([tmp_path / "own"])
    read_outs = interp.decode(store, ["tuned_lens"], reasoner=coconut, step_offsets=[], settings=settings)
    assert read_outs.methods["tuned_lens"].common.location.address.name in (
        address.name,
        "blocks.2.hook_out",
        "ln_final.hook_out",
    )
    with pytest.raises(UsageError, match=r"an address that tuned_lens can be read at, got blocks\.1\.hook_out"):
        interp.decode(store, ["tuned_lens"], reasoner=coconut, addresses=["blocks.1.hook_out"], settings=settings)


def test_the_command_reads_with_it(
    store: Store, unembedding: np.ndarray, tmp_path: Path, cotlens: Callable[..., Any]
) -> None:
    write_folder(tmp_path / "lens", unembedding)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ended = cotlens(
            *("decode", "run", store.path, "-m", "logit_lens", "--lens", tmp_path / "lens"),
            *("--out", tmp_path / "read.parquet", "--json"),
        )
    assert ended.code == 0
    assert {row["method"] for row in ended.json["scores"]} == {"logit_lens", "tuned_lens"}
    ended = cotlens("decode", "run", store.path, "--lens", tmp_path, "--out", tmp_path / "other.parquet")
    assert ended.code == 5 and "expected a lens in" in ended.error
