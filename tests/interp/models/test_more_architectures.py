"""Further architectures, held to plain Hugging Face on every path that runs a model; batches of 4 equal one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import interp
from interp.causal.visible_text.forcing import force
from interp.models.address import Address
from interp.models.wrapping import quiet
from interp.reasoners import Intervention
from interp.reasoners.interventions import add, identity
from interp.reasoners.monitor import Monitor

N = 4
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SHAPE |= {"max_position_embeddings": 192, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GROUPED = {**SHAPE, "num_key_value_heads": 2}
OLDER = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 192, "bos_token_id": 1, "eos_token_id": 2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 1e4}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 32, "rope_theta": 1e4}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "mixtral": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16},
    "qwen2": {**GROUPED, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    "qwen2_moe": {**GROUPED, **EXPERTS, "shared_expert_intermediate_size": 16},
    "falcon": {**SHAPE, "alibi": True, "new_decoder_architecture": False, "multi_query": True, "ffn_hidden_size": 64},
    "llama yarn": {**GROUPED, "rope_scaling": YARN},
    "llama llama3": {**GROUPED, "rope_scaling": LLAMA3},
    "starcoder2": {**GROUPED, "sliding_window": 16},
    "olmoe": {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2},
    "olmo3": {**GROUPED, "sliding_window": 16},
    "smollm3": GROUPED,
    "deepseek_v3": {
        **{**SHAPE, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "q_lora_rank": 16},
        **{"kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4},
        **{"first_k_dense_replace": 1, "moe_intermediate_size": 16},
    },
    "gptj": {**OLDER, "rotary_dim": 4},
    "gpt_bigcode": OLDER,
    "opt": {**SHAPE, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "xglm": {**SHAPE, "d_model": 32, "attention_heads": 4, "num_layers": 2, "ffn_dim": 48},
    "glm4": {**GROUPED, "head_dim": 8},
    "granite": GROUPED,
    "phi": GROUPED,
    "apertus": GROUPED,
    "lfm2": GROUPED,
    "mamba2": {
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1},
        **{"expand": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    },
    "jamba": {
        **{**GROUPED, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False}
    },
}
ONE_BY_ONE = ("mamba2", "jamba")
CONFIG = {"kind": "text", "begin": "<think>", "end": "</think>", "eos": "", "stops": (), "prompt": "{question}"}
CONFIG |= {"max_thought_tokens": 10, "max_answer_tokens": 5}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request: Any, model_folder: Callable, tmp_path_factory: pytest.TempPathFactory) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(model_folder("llama"))
    shape = {**ARCHITECTURES[request.param], "vocab_size": len(tokenizer)}
    config = AutoConfig.for_model(request.param.split()[0], **shape)
    config._attn_implementation = "eager"
    path = tmp_path_factory.mktemp("more") / request.param.replace(" ", "-")
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_config(config)
        for name, value in model.named_parameters():
            if "norm" in name or "ln_" in name:
                value.data += 0.3 * torch.randn_like(value)
            elif value.ndim > 1:
                torch.nn.init.normal_(value, std=0.15)
        model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*one problem at a time")
@torch.no_grad()
def test_every_path_equals_hugging_face_and_one_by_one(folder: Any, asked: Callable) -> None:
    reasoner = interp.load(folder, reasoner=CONFIG)
    problems = [replace(problem, steps=()) for problem in asked(N)]
    thoughts = ["So the answer." * (k + 1) for k in range(N)]
    address, rng = Address("blocks.0.hook_out"), np.random.default_rng(0)
    direction, vector = rng.normal(size=(2, 32)).astype("f4")
    edit = Intervention(address, np.array([[0, 2], [2, 9], [3, 20]]), add(3 * vector))
    nothing = Intervention(address, np.array([[0, 2]]), identity)

    def monitored(size: int) -> list:
        monitor = Monitor.along(address, direction, 0.5, name="m", text=" wait", times=2)
        return list(reasoner.think(problems, monitors=[monitor], batch_size=size))

    runs: list[Callable[[int], list]] = [
        lambda size: list(reasoner.think(problems, batch_size=size)),
        lambda size: list(reasoner.think(problems, interventions=[nothing], batch_size=size)),
        lambda size: list(reasoner.think(problems, interventions=[edit], batch_size=size)),
        lambda size: list(force(reasoner, problems, thoughts, batch_size=size)),
        monitored,
    ]
    together = [run(N) for run in runs]
    for run, traces in zip(runs, together, strict=True):
        assert [t.token_ids for t in traces] == [t.token_ids for t in run(1)]
    assert [t.token_ids for t in together[0]] == [t.token_ids for t in together[1]]
    assert together[2] != together[0]
    with quiet():
        plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    for trace in [*together[0], *together[3], *together[4]]:
        logits = plain(torch.tensor([trace.token_ids]), use_cache=False).logits[0]
        log_p = torch.log_softmax(logits, -1)
        for k in range(1, len(trace)):
            if not np.isnan(trace.logprob[k]):
                assert int(logits[k - 1].argmax()) == trace.token_ids[k]
                assert abs(float(log_p[k - 1, trace.token_ids[k]]) - trace.logprob[k]) < 1e-4


@pytest.mark.slow
@torch.no_grad()
def test_logits_and_residual_streams(folder: Any, asked: Callable) -> None:
    reasoner = interp.load(folder, reasoner=CONFIG)
    traces = list(reasoner.think([replace(problem, steps=()) for problem in asked(N)], batch_size=1))
    with quiet():
        plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    seen: dict[tuple[str, int], torch.Tensor] = {}

    def keeper(name: str) -> Callable:
        def keep(activations: torch.Tensor, batch: Any) -> None:
            seen.update({(name, int(k)): activations[b][batch.real[b]] for b, k in enumerate(batch.traces)})

        return keep

    names = ["blocks.0.hook_out", "ln_final.hook_out"]
    reasoner.replay(traces, hooks={name: keeper(name) for name in names}, batch_size=N)
    for k, trace in enumerate(traces):
        out = plain(torch.tensor([trace.token_ids]), output_hidden_states=True, use_cache=False)
        scale = float(out.logits.abs().max())
        torch.testing.assert_close(
            reasoner.unembed(seen["ln_final.hook_out", k]), out.logits[0], atol=1e-4 * scale, rtol=0
        )
        # The list of Mamba 2 begins after the first block, not before it.
        residual = out.hidden_states[0 if folder.name == "mamba2" else 1][0]
        torch.testing.assert_close(
            seen["blocks.0.hook_out", k], residual, atol=1e-4 * float(residual.abs().max()), rtol=0
        )
