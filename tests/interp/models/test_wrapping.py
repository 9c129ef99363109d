"""Architectures that the wrapper does not know are refused in one line, which says what works instead."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import interp
from interp.errors import UsageError
from interp.models.wrapping import quiet, unsupported

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
UNKNOWN = {
    "helium": {**SMALL, "num_key_value_heads": 2, "head_dim": 8},
    "persimmon": {**SMALL, "partial_rotary_factor": 0.5},
    "falcon": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": False, "bias": False,
        "new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 64,
    },
    "cohere": {**SMALL, "num_key_value_heads": 2},
}  # fmt: skip


@pytest.fixture
def unknown_folder(model_folder, tmp_path):
    """Return a function that makes a small model of an architecture which the tests of known ones do not have."""

    def make(architecture: str) -> Path:
        folder = tmp_path / architecture
        tokenizer = AutoTokenizer.from_pretrained(model_folder("llama"))
        special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        config = AutoConfig.for_model(architecture, vocab_size=len(tokenizer), **special, **UNKNOWN[architecture])
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.mark.parametrize("architecture", UNKNOWN)
def test_an_unknown_architecture_is_refused_or_right(architecture, unknown_folder, cotlens):
    """A later TransformerLens may know it; then its logits are checked."""
    ended = cotlens("doctor", unknown_folder(architecture))
    if ended.code == 0:
        assert "checked" in ended.out
        return
    assert ended.code == 2
    assert "ForCausalLM is not supported" in ended.error and "`cotlens capture import`" in ended.error
    assert "defect" not in ended.err and len(ended.error) < 600


def test_whatever_the_wrapper_raises_counts_as_unknown(model_folder, monkeypatch):
    from transformer_lens.model_bridge import TransformerBridge

    for error in (KeyError("rope"), RuntimeError("a long\nstory " * 100), AssertionError(), ZeroDivisionError("by 0")):

        def fails(*args, error=error, **options):
            raise error

        monkeypatch.setattr(TransformerBridge, "boot_transformers", fails)
        with pytest.raises(UsageError, match="LlamaForCausalLM is not supported") as refused:
            interp.load(model_folder("llama"))
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 600


def test_a_wrapped_model_that_does_not_run_is_refused(model_folder, monkeypatch):
    from interp.models import unembedding

    def fails(self, states):
        raise IndexError("no such head")

    monkeypatch.setattr(unembedding.Unembedding, "__call__", fails)
    with pytest.raises(UsageError, match=r"cannot run it \(no such head\)"):
        interp.load(model_folder("llama"))


def test_logits_that_differ_are_refused(model_folder, monkeypatch):
    from interp.models import unembedding

    real = unembedding.Unembedding.__call__
    monkeypatch.setattr(unembedding.Unembedding, "__call__", lambda self, states: real(self, states) + 1)
    with pytest.raises(UsageError, match="its logits differ from the model's own by 1"):
        interp.load(model_folder("llama"))


def test_the_reason_is_one_line():
    assert "(KeyError)" in str(unsupported("AModel", KeyError()))


def test_what_the_message_advises_works(unknown_folder, tmp_path, cotlens):
    """Hooks on the plain model, and `capture import`: a store of a model that the wrapper does not know."""
    folder, files = unknown_folder("helium"), tmp_path / "states"
    files.mkdir()
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    seen: list[torch.Tensor] = []
    for layer in model.model.layers:
        layer.register_forward_hook(
            lambda module, inputs, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
    expected = []
    for k in range(3):
        ids = torch.tensor([[1, 40 + k, 50, 60 + k]])
        seen.clear()
        with torch.no_grad():
            model(ids)
        states = torch.stack([output.reshape(4, 32) for output in seen], dim=1)
        expected.append(states)
        save_file({"token_ids": ids[0], "hidden_states": states}, files / f"{k}.safetensors")
    out = tmp_path / "store"
    ended = cotlens("capture", "import", files, "--layers", "1,2", "--tokenizer", folder, "--out", out, "--json")
    assert ended.code == 0 and ended.json["positions"] == 12
    store = interp.Store(out)
    for layer, address in enumerate(("blocks.0.hook_out", "blocks.1.hook_out")):
        rows = torch.cat([states[:, layer] for states in expected])
        np.testing.assert_array_equal(store.acts(address), rows.numpy())


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("not-known-anywhere", r"not-known-anywhere is not supported: .* does not know it; a newer one may"),
        ("t5", r"T5 is not supported: .*no causal language model"),
        ("vit", r"ViT is not supported: .*no causal language model"),
    ],
)
def test_a_configuration_of_no_language_model_is_one_line(model_type, reason, model_folder, tmp_path, cotlens):
    folder = Path(shutil.copytree(model_folder("llama"), tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": model_type}), encoding="utf-8")
    ended = cotlens("doctor", folder)
    assert ended.code == 2 and re.search(reason, ended.error) and "defect" not in ended.err
    assert "`cotlens capture import`" in ended.error
