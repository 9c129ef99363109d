"""Edits of states, keys and values on other architectures equal plain PyTorch hooks on the Hugging Face model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from interp.causal.patching.patch import CACHE, addresses_of
from interp.causal.patching.states import states
from interp.models.address import Address
from interp.reasoners.interventions import Intervention, add, replace_with

EDITED = 4  # position
# Where Hugging Face's own modules put what an address names: module, and the columns of its output.
MODULES: dict[str, dict[str, str]] = {
    "llama": {"k": "self_attn.k_proj", "v": "self_attn.v_proj", "attn": "self_attn", "mlp": "mlp"},
    "qwen3": {"k": "self_attn.k_proj", "v": "self_attn.v_proj", "attn": "self_attn", "mlp": "mlp"},
    "gemma2": {"k": "self_attn.k_proj", "v": "self_attn.v_proj", "mlp": "mlp"},
    "olmo2": {"k": "self_attn.k_proj", "v": "self_attn.v_proj", "mlp": "mlp"},
    "phi3": {"k": "self_attn.qkv_proj", "v": "self_attn.qkv_proj", "attn": "self_attn", "mlp": "mlp"},
    "gpt2": {"k": "attn.c_attn", "v": "attn.c_attn", "attn": "attn", "mlp": "mlp"},
    "gpt_neox": {"attn": "attention", "mlp": "mlp"},
}
BLOCKS = {"gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers"}
# Columns of a fused projection: queries 32 wide, then keys and values.
FUSED = {
    ("phi3", "k"): slice(32, 48),
    ("phi3", "v"): slice(48, 64),
    ("gpt2", "k"): slice(32, 64),
    ("gpt2", "v"): slice(64, 96),
}
CASES = [(architecture, part) for architecture, parts in MODULES.items() for part in (*parts, "block")]


def address(part: str) -> str:
    return {"block": "blocks.0.hook_out", "attn": "blocks.0.attn.hook_out", "mlp": "blocks.0.mlp.hook_out"}.get(
        part, f"blocks.0.attn.hook_{part}"
    )


def edited(output: Any, columns: slice, change: torch.Tensor) -> Any:
    tensor = output if isinstance(output, torch.Tensor) else output[0]
    tensor = tensor.clone()
    tensor[:, EDITED, columns] += change
    return tensor if isinstance(output, torch.Tensor) else (tensor, *output[1:])


@torch.no_grad()
@pytest.mark.parametrize(("architecture", "part"), CASES)
def test_an_edit_equals_a_plain_hook(small_model: Any, architecture: str, part: str) -> None:
    reasoner, traces, plain = small_model(architecture)
    blocks = plain.get_submodule(BLOCKS.get(architecture, "model.layers"))
    module = blocks[0] if part == "block" else blocks[0].get_submodule(MODULES[architecture][part])
    columns = FUSED.get((architecture, part), slice(None))
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(activations: torch.Tensor, batch: Any) -> None:
            seen[name] = activations.clone()

        return hook

    reasoner.replay(traces, hooks={address(part): keep("at")})
    shape = seen["at"].shape[2:]
    change = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    rows = np.array([[k, EDITED] for k in range(len(traces))])
    edit = Intervention(Address(address(part)), rows, add(np.stack([change.numpy()] * len(rows))))
    reasoner.replay(traces, hooks={"ln_final.hook_out": keep("final")}, interventions=[edit])
    for k, trace in enumerate(traces):
        ids = torch.tensor([trace.token_ids])
        before = plain(ids).logits
        handle = module.register_forward_hook(lambda m, a, out: edited(out, columns, change.flatten()))
        expected = plain(ids).logits[0]
        handle.remove()
        got = reasoner.unembed(seen["final"][k, : len(trace)])
        torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-3)
        assert (expected - before[0]).abs().max() > 1e-3  # the edit does something


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2", "phi3", "gpt_neox", "qwen3_moe", "gpt_oss"])
def test_a_positions_whole_cache_moves_what_later_positions_read(small_model: Any, architecture: str) -> None:
    """Keys and values of a donor at one position, in every block, equal a pass in which the donor's were computed there.

    Both texts are equal up to the edited position and after it, so the donor's own pass says what must come out.
    """
    reasoner, traces, _ = small_model(architecture)
    trace = traces[0]
    other = (trace.token_ids[EDITED] + 7) % 300
    ids = [*trace.token_ids[:EDITED], other, *trace.token_ids[EDITED + 1 :]]
    from dataclasses import replace

    donor = replace(trace, token_ids=ids)
    addresses = addresses_of(reasoner, CACHE)
    where = np.array([[0, EDITED]])
    edits = [
        Intervention(at, where, replace_with(states(reasoner, [donor], at, np.array([[0, EDITED]]))))
        for at in addresses
    ]
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(activations: torch.Tensor, batch: Any) -> None:
            seen[name] = activations[0].clone()

        return hook

    reasoner.replay([donor], hooks={"ln_final.hook_out": keep("donor")})
    reasoner.replay([trace], hooks={"ln_final.hook_out": keep("plain")})
    reasoner.replay([trace], hooks={"ln_final.hook_out": keep("edited")}, interventions=edits)
    later = slice(EDITED + 1, None)
    torch.testing.assert_close(seen["edited"][later], seen["donor"][later], atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(seen["edited"][:EDITED], seen["plain"][:EDITED])
    assert (seen["donor"][later] - seen["plain"][later]).abs().max() > 1e-3
