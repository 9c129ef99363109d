"""Small models of many architectures as Hugging Face folders, made from configurations: benches and tests share them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interp.models.wrapping import quiet
from interp.problems.base import Problem, Step, structure_hash

SENTENCES = [
    "What is two plus two? Let us think. So the answer is 4.",
    "First add 3 and 5, which gives 8. Then take 2 away: 6 is left!",
    "Tom has 12 apples and eats 7 of them. How many apples are left?",
]
SPECIAL = ["<pad>", "<bos>", "<eos>", "<|user|>", "<|assistant|>"]
THINK = ("<think>", "</think>")
_COMMON = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_COMMON |= {"max_position_embeddings": 192, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_GROUPED = {**_COMMON, "num_key_value_heads": 2}
_WIDE = {**_GROUPED, "head_dim": 8}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 192, "bos_token_id": 1, "eos_token_id": 2},
    "llama": _GROUPED,
    "qwen2": _GROUPED,
    "qwen3": _WIDE,
    "gemma2": {**_WIDE, "sliding_window": 16, "final_logit_softcapping": 2.0},
    "gemma3_text": {**_WIDE, "sliding_window": 16},
    "mistral": {**_GROUPED, "sliding_window": 16},
    "phi3": _GROUPED,
    "gpt_neox": _COMMON,
    "olmo2": _GROUPED,
    "qwen3_moe": {**_WIDE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "gpt_oss": {**_WIDE, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16},
    "gpt_neo": {
        **{"hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 48, "max_position_embeddings": 192},
        **{"attention_types": [[["global", "local"], 1]], "window_size": 16, "bos_token_id": 1, "eos_token_id": 2},
    },
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 192},
    "bloom": {"hidden_size": 32, "n_head": 4, "n_layer": 2},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2},
    "rwkv": {"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2, "context_length": 192},
    "llama4_text": {
        **{**_GROUPED, "head_dim": 8, "attention_chunk_size": 16, "num_local_experts": 2, "num_experts_per_tok": 1},
        **{"intermediate_size_mlp": 48, "no_rope_layers": [1, 0], "interleave_moe_layer_step": 1, "moe_layers": [0, 1]},
    },
    "longrope": {
        **_GROUPED,
        "model_type": "phi3",
        "original_max_position_embeddings": 20,
        "rope_parameters": {
            **{"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4},
            **{"original_max_position_embeddings": 20, "factor": 9.6},
        },
    },
}
_OLDER = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 192, "bos_token_id": 1, "eos_token_id": 2}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 1e4}
_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_LLAMA3 |= {"original_max_position_embeddings": 32, "rope_theta": 1e4}
MORE_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "mixtral": {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16},
    "qwen2": {**_GROUPED, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    "qwen2_moe": {**_GROUPED, **_EXPERTS, "shared_expert_intermediate_size": 16},
    "falcon": {**_COMMON, "alibi": True, "new_decoder_architecture": False, "multi_query": True, "ffn_hidden_size": 64},
    "llama yarn": {**_GROUPED, "rope_scaling": _YARN},
    "llama llama3": {**_GROUPED, "rope_scaling": _LLAMA3},
    "starcoder2": {**_GROUPED, "sliding_window": 16},
    "olmoe": {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2},
    "olmo3": {**_GROUPED, "sliding_window": 16},
    "smollm3": _GROUPED,
    "deepseek_v3": {
        **{
            **_COMMON,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "q_lora_rank": 16,
        },
        **{"kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4},
        **{"first_k_dense_replace": 1, "moe_intermediate_size": 16},
    },
    "gptj": {**_OLDER, "rotary_dim": 4},
    "gpt_bigcode": _OLDER,
    "opt": {**_COMMON, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "xglm": {**_COMMON, "d_model": 32, "attention_heads": 4, "num_layers": 2, "ffn_dim": 48},
    "glm4": {**_GROUPED, "head_dim": 8},
    "granite": _GROUPED,
    "phi": _GROUPED,
    "apertus": _GROUPED,
    "lfm2": _GROUPED,
    "mamba2": {
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1},
        **{"expand": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    },
    "jamba": {
        **{**_GROUPED, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False}
    },
}
#: Every architecture with its shape, by a name of its own.
EVERY_ARCHITECTURE = ARCHITECTURES | {
    (f"{name} windowed" if name in ARCHITECTURES else name): shape for name, shape in MORE_ARCHITECTURES.items()
}


def byte_tokenizer(*, pad: bool, bos: bool, chat: str | None, special: list[str]) -> Any:
    """Return a byte-level BPE tokenizer that is trained here; with `bos` it puts that token first itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES * 10, trainer)
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    named = {"eos_token": "<eos>"} | ({"pad_token": "<pad>"} if pad else {}) | ({"bos_token": "<bos>"} if bos else {})
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **named)
    tokenizer.chat_template = chat
    return tokenizer


def build_model(folder: Path, architecture: str, shape: Mapping[str, Any], tokenizer: Any) -> None:
    """Write a small model with random weights, and its tokenizer, into a folder.

    Args:
        folder: The folder.
        architecture: Name of the architecture in transformers; what follows a space only tells configurations apart.
        shape: Fields of its configuration.
        tokenizer: The tokenizer.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {"model_type": architecture.split()[0], **shape, "vocab_size": len(tokenizer)}
    config = AutoConfig.for_model(**fields)
    config._attn_implementation = "eager"
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        for name, value in model.named_parameters():
            if "norm" in name or "ln_" in name:
                # A norm with unit weights would hide which side of it is read.
                value.data += 0.3 * torch.randn_like(value)
            elif value.ndim > 1:
                torch.nn.init.normal_(value, std=0.15)
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def asked(n: int = 8) -> list[Problem]:
    """Return problems of a user's own: questions of different lengths."""
    words = " and so on" * n
    return [
        Problem(
            id=str(k),
            task="questions:path=q.jsonl",
            question=f"What is {k} plus {k}{words[: 5 * k]}?",
            answer=str(2 * k),
            steps=(Step(f"{k} + {k}", str(2 * k)),),
            structure=structure_hash("asked", k),
            split="test",
            readable="",
        )
        for k in range(n)
    ]
