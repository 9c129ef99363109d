"""Parity with Hugging Face for each architecture: logits, residual streams, norms, and generated text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import interp
from interp.models.address import Address
from interp.models.wrapping import quiet
from interp.reasoners import Intervention
from interp.reasoners.interventions import identity

ARCHITECTURES = ["gpt2", "llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "phi3", "gpt_neox", "olmo2"]
ARCHITECTURES += ["qwen3_moe", "gpt_oss"]
TOLERANCE = 1e-4
N_NEW = 24
DIRECT = {"kind": "direct", "begin": None, "end": None, "eos": "", "stops": (), "max_answer_tokens": N_NEW}


def hugging_face(folder, dtype=torch.float32):
    with quiet():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request, model_folder):
    return model_folder(request.param)


@pytest.fixture(scope="module")
def reasoner(folder):
    return interp.load(folder, reasoner=DIRECT)


@pytest.fixture(scope="module")
def reference(folder):
    return hugging_face(folder)


@pytest.fixture(scope="module")
def traces(reasoner, asked):
    return reasoner.think(asked(), batch_size=8)


def replayed(reasoner, traces, names, batch_size):
    """What passes each address at every real position of each trace."""
    result = {}

    def keeper(name):
        def keep(activations, batch):
            for b, k in enumerate(batch.traces.tolist()):
                result[name, k] = activations[b][batch.real[b]].clone()

        return keep

    reasoner.replay(traces, hooks={name: keeper(name) for name in names}, batch_size=batch_size)
    return result


def watched(model):
    """The modules of a plain model whose inputs and outputs the addresses name."""
    base = model.base_model
    layers = next(getattr(base, name) for name in ("layers", "h") if hasattr(base, name))
    norm = next(getattr(base, name) for name in ("norm", "ln_f", "final_layer_norm") if hasattr(base, name))
    attention = next(
        getattr(layers[0], name) for name in ("self_attn", "attn", "attention") if hasattr(layers[0], name)
    )
    return attention, layers[0].mlp, norm


@torch.no_grad()
def test_logits_and_every_residual_stream(reasoner, reference, traces):
    """Our masked batches, of 8 and of 1, against the plain model over each trace alone; both sides of the norm."""
    n_layers = reasoner.model.cfg.n_layers
    outs = [f"blocks.{k}.hook_out" for k in range(n_layers)]
    inside = ["blocks.0.attn.hook_out", "blocks.0.mlp.hook_out"]
    names = ["blocks.0.hook_in", *outs, "ln_final.hook_out", *inside]
    seen = {}

    def look(name):
        def keep(module, inputs, output):
            seen[name] = (inputs[0] if inputs else None, output[0] if isinstance(output, tuple) else output)

        return keep

    parts = zip(("attention", "mlp", "norm"), watched(reference), strict=True)
    handles = [module.register_forward_hook(look(name)) for name, module in parts]
    expected = []
    for trace in traces:
        out = reference(torch.tensor([trace.token_ids]), output_hidden_states=True, use_cache=False)
        expected.append((out.logits[0], [state[0] for state in out.hidden_states], dict(seen)))
    for handle in handles:
        handle.remove()
    for batch_size in (8, 1):
        result = replayed(reasoner, traces, names, batch_size)
        for k, (logits, states, seen_there) in enumerate(expected):
            same = {"atol": TOLERANCE, "rtol": TOLERANCE, "check_device": False}
            torch.testing.assert_close(reasoner.unembed(result["ln_final.hook_out", k]), logits, **same)
            torch.testing.assert_close(result["blocks.0.hook_in", k], states[0], **same)
            for layer in range(n_layers - 1):
                torch.testing.assert_close(result[outs[layer], k], states[layer + 1], **same)
            before, after = seen_there["norm"]
            torch.testing.assert_close(result[outs[-1], k], before[0], **same)
            torch.testing.assert_close(result["ln_final.hook_out", k], after[0], **same)
            torch.testing.assert_close(result["ln_final.hook_out", k], states[-1], **same)
            assert (before - after).abs().max() > 0.1, "the norm must do something, or its sides are not told apart"
            torch.testing.assert_close(result[inside[0], k], seen_there["attention"][1][0], **same)
            torch.testing.assert_close(
                result[inside[1], k].reshape(len(traces[k]), -1),
                seen_there["mlp"][1].reshape(len(traces[k]), -1),
                **same,
            )


@torch.no_grad()
def test_what_is_written_is_what_hugging_face_generates(reasoner, reference, traces, asked):
    prompts = [[token for token, c in zip(t.token_ids, t.channel, strict=True) if c == "prompt"] for t in traces]
    assert len({len(prompt) for prompt in prompts}) > 3 and all(prompt[0] == 1 for prompt in prompts)
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    # Its configuration must not end a text where ours does not.
    reference.generation_config.eos_token_id = None
    with quiet():
        written = reference.generate(ids, attention_mask=mask, max_new_tokens=N_NEW, do_sample=False, pad_token_id=0)
    expected = written[:, width:].tolist()
    assert len({tuple(each) for each in expected}) > 2, "texts that are all alike would test little"

    def ours(**options):
        made = reasoner.think(asked(), **options)
        return [t.token_ids[len(prompt) :] for t, prompt in zip(made, prompts, strict=True)]

    assert [t.token_ids[len(prompt) :] for t, prompt in zip(traces, prompts, strict=True)] == expected
    assert ours(batch_size=1) == expected
    nothing = Intervention(Address("blocks.0.hook_out"), np.array([[0, 0]]), identity)
    assert ours(interventions=[nothing]) == expected, "the wrapped model writes what the plain one does"
    assert ours(padding_side="right") == expected


@torch.no_grad()
def test_in_half_precision_the_difference_is_that_of_half_precision(folder, reference, traces):
    half, plain = interp.load(folder, reasoner=DIRECT, dtype="bfloat16"), hugging_face(folder, torch.bfloat16)
    result = replayed(half, traces, ["ln_final.hook_out"], 8)
    ours, noise = [], []
    for k, trace in enumerate(traces):
        ids = torch.tensor([trace.token_ids])
        there, exact = plain(ids, use_cache=False).logits[0].float(), reference(ids, use_cache=False).logits[0]
        ours.append((half.unembed(result["ln_final.hook_out", k]).float().cpu() - exact).abs().max())
        noise.append((there - exact).abs().max())
    # Padded batches add up in another order, so the error is another one of the same size.
    assert max(ours) <= 1.5 * max(noise), "further from float32 than Hugging Face's own bfloat16"
    assert half.embed.weight.dtype == torch.bfloat16 and max(noise) > 1e-4
