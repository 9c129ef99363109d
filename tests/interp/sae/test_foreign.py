"""SAEs of other libraries give what the library's own formula gives, and are checked like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from interp.activations import Store
from interp.errors import StoreError
from interp.sae.load import load_sae, preflight

D, FEATURES, K = 12, 40, 5
INPUTS = torch.randn(64, D, generator=torch.Generator().manual_seed(9))


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + len(shape)))


def top_k(pre: Tensor) -> Tensor:
    values, indices = torch.relu(pre).topk(K, dim=-1)
    return torch.zeros_like(pre).scatter(-1, indices, values)


def sparsify_folder(
    out: Path, hookpoint: str = "layers.3", d: int = D, model: str | None = "some/llama", **config: Any
) -> Path:
    """Write what sparsify's `save_to_disk` writes, beside the run's config.json."""
    folder = out / hookpoint
    folder.mkdir(parents=True)
    weights = {"encoder.weight": draw(FEATURES, d), "encoder.bias": draw(FEATURES), "W_dec": draw(FEATURES, d)}
    save_file({**weights, "b_dec": draw(d)}, folder / "sae.safetensors")
    shape = {"activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": FEATURES, "k": K}
    shape |= {"multi_topk": False, "skip_connection": False, "transcode": False, "d_in": d}
    (folder / "cfg.json").write_text(json.dumps(shape | config), encoding="utf-8")
    if model is not None:
        (out / "config.json").write_text(json.dumps({"model": model, "ctx_len": 128}), encoding="utf-8")
    return folder


def dictionary_folder(
    out: Path, kind: str, **trainer: Any
) -> tuple[Path, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Write a folder of dictionary_learning; return it with encode and decode of the library's own class."""
    encoder, decoder, bias, shift = draw(FEATURES, D), draw(D, FEATURES), draw(FEATURES), draw(D)
    parameters = {"W_enc": encoder.T.contiguous(), "W_dec": decoder.T.contiguous(), "b_enc": bias, "b_dec": shift}
    layers = {"encoder.weight": encoder, "decoder.weight": decoder, "encoder.bias": bias}
    k = {"k": torch.tensor(K, dtype=torch.int)}
    mag, gate, scale = draw(FEATURES), draw(FEATURES) / 2, draw(FEATURES) / 3

    def centred(x: Tensor) -> Tensor:
        return (x - shift) @ encoder.T + bias

    def gated(x: Tensor) -> Tensor:
        pre = (x - shift) @ encoder.T
        return (pre + gate > 0) * torch.relu(scale.exp() * pre + mag)

    def jump(pre: Tensor, threshold: Tensor) -> Tensor:
        return torch.relu(pre) * (torch.relu(pre) > threshold)

    lengths, limits, whole = decoder.norm(dim=0), draw(FEATURES).abs(), torch.tensor(0.7)
    cases: dict[str, tuple[dict[str, Tensor], Callable[[Tensor], Tensor], Tensor]] = {
        "AutoEncoder": (layers | {"bias": shift}, lambda x: torch.relu(centred(x)) * lengths, decoder / lengths),
        "AutoEncoderNew": (layers | {"decoder.bias": shift}, lambda x: torch.relu(x @ encoder.T + bias), decoder),
        "GatedAutoEncoder": (
            {
                **{"encoder.weight": encoder, "decoder.weight": decoder, "decoder_bias": shift},
                **{"r_mag": scale, "gate_bias": gate, "mag_bias": mag},
            },
            gated,
            decoder,
        ),
        "AutoEncoderTopK": (
            layers | k | {"b_dec": shift, "threshold": torch.tensor(0.3)},
            lambda x: top_k(centred(x)),
            decoder,
        ),
        "BatchTopKSAE": (
            layers | k | {"b_dec": shift, "threshold": whole},
            lambda x: jump(centred(x), whole),
            decoder,
        ),
        "MatryoshkaBatchTopKSAE": (
            parameters | k | {"threshold": whole, "group_sizes": torch.tensor([10, 30])},
            lambda x: jump(centred(x), whole),
            decoder,
        ),
        "JumpReluAutoEncoder": (
            parameters | {"threshold": limits},
            lambda x: jump(x @ encoder.T + bias, limits),
            decoder,
        ),
    }
    weights, encode, directions = cases[kind]
    out.mkdir(parents=True, exist_ok=True)
    torch.save(weights, out / "ae.pt")
    about = {
        "dict_class": kind,
        "activation_dim": D,
        "dict_size": FEATURES,
        "k": K,
        "layer": 2,
        "lm_name": "some/llama",
    }
    about |= {"submodule_name": "resid_post_layer_2", **trainer}
    (out / "config.json").write_text(json.dumps({"trainer": about, "buffer": {"ctx_len": 128}}), encoding="utf-8")
    return out, encode, lambda acts: acts @ directions.T + shift


@pytest.mark.filterwarnings("ignore:the SAE at")
def test_sparsify_is_read_as_its_own_formula(tmp_path: Path) -> None:
    """Also where the decoder is normalised, for which SAELens's converter leaves the bias on the input."""
    sae = load_sae(sparsify_folder(tmp_path))
    weight, bias, decoder, shift = draw(FEATURES, D), draw(FEATURES), draw(FEATURES, D), draw(D)
    acts = top_k((INPUTS - shift) @ weight.T + bias)
    torch.testing.assert_close(sae.encode(INPUTS), acts, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae.decode(acts), acts @ decoder + shift, atol=1e-5, rtol=1e-5)
    assert sae.cfg.metadata.hook_name == "blocks.3.hook_out" and sae.cfg.metadata.model_name == "some/llama"


@pytest.mark.filterwarnings("ignore:the SAE at")
@pytest.mark.parametrize(
    "kind",
    [
        *("AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "AutoEncoderTopK", "BatchTopKSAE"),
        *("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder"),
    ],
)
def test_dictionary_learning_is_read_as_its_own_formula(kind: str, tmp_path: Path) -> None:
    folder, encode, decode = dictionary_folder(tmp_path / "sae", kind)
    sae = load_sae(folder)
    acts = encode(INPUTS)
    assert 0.02 < (acts != 0).float().mean() < 0.9
    torch.testing.assert_close(sae.encode(INPUTS), acts, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sae.decode(acts), decode(acts), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sae(INPUTS), decode(acts), atol=1e-4, rtol=1e-4)
    assert sae.cfg.metadata.hook_name == "blocks.2.hook_out"


@pytest.mark.filterwarnings("ignore:the SAE at")
@pytest.mark.parametrize(
    ("hookpoint", "address"),
    [
        ("layers.5", "blocks.5.hook_out"),
        ("model.layers.5.mlp", "blocks.5.mlp.hook_out"),
        ("gpt_neox.layers.5.attention", "blocks.5.attn.hook_out"),
        ("transformer.h.5", "blocks.5.hook_out"),
        ("embed_tokens", None),
        ("layers.5.mlp.act", None),
    ],
)
def test_hookpoints_become_addresses_or_are_unknown(hookpoint: str, address: str | None, tmp_path: Path) -> None:
    assert load_sae(sparsify_folder(tmp_path, hookpoint)).cfg.metadata.hook_name == address


@pytest.mark.filterwarnings("ignore:the SAE at")
def test_a_layer_without_a_module_is_no_address(tmp_path: Path) -> None:
    folder, _, _ = dictionary_folder(tmp_path / "sae", "AutoEncoder", submodule_name=None)
    assert load_sae(folder).cfg.metadata.hook_name is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"transcode": True}, "got one with transcode=true"),
        ({"skip_connection": True}, "got one with skip_connection=true"),
        ({"signed": True}, "got one with signed=true"),
        ({"activation": "groupmax"}, "with top-k features at .*, got groupmax"),
        ({"k": None}, "cannot be read"),
    ],
)
def test_what_is_no_top_k_autoencoder_of_sparsify_is_refused(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match=message):
        load_sae(sparsify_folder(tmp_path, **config))


def test_damaged_folders_of_dictionary_learning_are_refused(tmp_path: Path) -> None:
    folder, _, _ = dictionary_folder(tmp_path / "sae", "BatchTopKSAE", dict_class="CrossCoder")
    with pytest.raises(StoreError, match=r"trainer.dict_class among AutoEncoder, .*, got 'CrossCoder'"):
        load_sae(folder)
    folder, _, _ = dictionary_folder(tmp_path / "other", "AutoEncoderTopK")
    torch.save({"encoder.weight": draw(FEATURES, D)}, folder / "ae.pt")
    with pytest.raises(StoreError, match=r"cannot be read \(no 'W_dec'\)"):
        load_sae(folder)
    (folder / "config.json").unlink()
    with pytest.raises(StoreError, match=r"expected .*config.json beside the SAE's weights"):
        load_sae(folder)


def test_another_models_sae_is_refused_and_an_unknown_ones_is_said(store: Store, tmp_path: Path) -> None:
    width, at = store.acts("ln_final.hook_out", store.index[:1]).shape[1], "blocks.2.hook_out"
    wrong = sparsify_folder(tmp_path / "narrow", "layers.2", model=store.meta["reasoner"]["name"])
    with pytest.raises(StoreError, match=rf"reads activations {D} wide, and blocks.2.hook_out of .* is {width} wide"):
        load_sae(wrong, store=store)
    foreign = sparsify_folder(tmp_path / "foreign", "layers.2", d=width)
    with pytest.raises(StoreError, match=r"it was trained on some/llama, not on chain-coconut"):
        load_sae(foreign, store=store)
    unknown = sparsify_folder(tmp_path / "unknown", "layers.2", d=width, model=None)
    with pytest.warns(UserWarning, match="no reference outputs"):
        sae = load_sae(unknown)
    (check,) = (check for check in preflight(sae, unknown, store, at) if check.name == "model")
    assert check.verdict == "warn" and "does not say which model it was trained on" in check.message


def test_names_of_one_model_are_the_same() -> None:
    from interp.sae.identity import same_name

    assert same_name("gpt2-small", "openai-community/gpt2") and same_name(
        "meta-llama/Llama-3.2-1B", "runs/llama-3.2-1b/"
    )
    assert not same_name("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-3B")


@pytest.mark.filterwarnings("ignore:the SAE at")
def test_saelens_normalisation_is_folded_or_refused(tmp_path: Path) -> None:
    from sae_lens import StandardSAE, StandardSAEConfig

    sae = StandardSAE(StandardSAEConfig(d_in=D, d_sae=FEATURES, normalize_activations="expected_average_only_in"))
    for name, value in sae.named_parameters():
        value.data = draw(*value.shape) + (name == "b_enc")
    sae.save_model(tmp_path / "sae")
    with pytest.raises(StoreError, match="normalize_activations='expected_average_only_in' that is not folded"):
        load_sae(tmp_path / "sae")
    (tmp_path / "sae" / "activation_scaler.json").write_text('{"scaling_factor": 2.5}', encoding="utf-8")
    loaded = load_sae(tmp_path / "sae")
    # What SAELens's training computes: the SAE sees scaled inputs, and its output is scaled back.
    torch.testing.assert_close(loaded.encode(INPUTS), sae.encode(2.5 * INPUTS), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(loaded(INPUTS), sae(2.5 * INPUTS) / 2.5, atol=1e-4, rtol=1e-4)
    for kind in ("layer_norm", "constant_norm_rescale"):
        other = StandardSAE(StandardSAEConfig(d_in=D, d_sae=FEATURES, normalize_activations=kind))
        other.save_model(tmp_path / kind)
        with pytest.raises(StoreError, match=f"normalize_activations='{kind}' that is not folded"):
            load_sae(tmp_path / kind)


@pytest.mark.filterwarnings("ignore:the SAE at")
@pytest.mark.parametrize("centres", [True, False])
@pytest.mark.parametrize("kind", ["standard", "gated", "topk", "jumprelu"])
def test_saelens_kinds_give_what_saelens_gives(kind: str, centres: bool, tmp_path: Path) -> None:
    from sae_lens.registry import get_sae_class

    sae_class, config_class = get_sae_class(kind)
    options: dict[str, Any] = {"k": K} if kind == "topk" else {}
    sae: Any = sae_class(config_class(d_in=D, d_sae=FEATURES, apply_b_dec_to_input=centres, **options))
    for value in sae.parameters():
        value.data = draw(*value.shape)
    sae.save_model(tmp_path / "sae")
    loaded = load_sae(tmp_path / "sae")
    torch.testing.assert_close(loaded.encode(INPUTS), sae.encode(INPUTS))
    torch.testing.assert_close(loaded(INPUTS), sae(INPUTS))
    pre = (INPUTS - (sae.b_dec if centres else 0)) @ sae.W_enc
    if kind in ("standard", "jumprelu"):  # and what the formula says
        pre = pre + sae.b_enc
        expected = torch.relu(pre) * ((pre > sae.threshold) if kind == "jumprelu" else 1)
        torch.testing.assert_close(loaded.encode(INPUTS), expected, atol=1e-5, rtol=1e-5)


def test_transcoders_and_head_outputs_are_no_autoencoders_of_an_address(tmp_path: Path) -> None:
    from sae_lens import StandardSAE, StandardSAEConfig, Transcoder, TranscoderConfig
    from sae_lens.saes.sae import SAEMetadata

    Transcoder(TranscoderConfig(d_in=D, d_out=D, d_sae=FEATURES, apply_b_dec_to_input=False)).save_model(
        tmp_path / "transcoder"
    )
    with pytest.raises(StoreError, match=r"expected an SAE of kind standard, .* got transcoder"):
        load_sae(tmp_path / "transcoder")
    heads = SAEMetadata(hook_name="blocks.1.attn.hook_z")
    StandardSAE(StandardSAEConfig(d_in=D, d_sae=FEATURES, reshape_activations="hook_z", metadata=heads)).save_model(
        tmp_path / "heads"
    )
    with pytest.raises(StoreError, match="got one of attention heads' outputs"):
        load_sae(tmp_path / "heads")


def test_a_foreign_sae_is_evaluated_by_the_command(store: Store, cotlens: Callable[..., Any], tmp_path: Path) -> None:
    """Principal directions in sparsify's format, so that it explains the activations that it is used on."""
    at = "blocks.2.hook_out"
    acts = store.acts(at, store.thought_rows)
    mean = acts.mean(axis=0)
    directions = np.linalg.svd(acts - mean, full_matrices=False)[2][:20]
    folder = sparsify_folder(tmp_path, "layers.2", d=acts.shape[1], model="chain-coconut", num_latents=40, k=10)
    both = torch.from_numpy(np.concatenate([directions, -directions])).float().contiguous()
    weights = {"encoder.weight": both, "encoder.bias": torch.zeros(40), "W_dec": both.clone()}
    save_file({**weights, "b_dec": torch.from_numpy(mean).float()}, folder / "sae.safetensors")
    with pytest.warns(UserWarning, match="its weights were not compared"):
        result = cotlens("sae", "eval", folder, "--store", store.path, "--no-splice", "--json")
    assert result.code == 0, result.err
