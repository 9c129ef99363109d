"""Organisms on a pretrained base: low-rank adapters (LoRA, arXiv 2106.09685), trained by the same curriculum loop.

The adapters are PEFT's, in its format. The base stays as it is. Three choices let a base of 135 M parameters learn on
one CPU core: its matrices are kept in bfloat16 on CPUs with native bfloat16, the beginning that all questions
of a batch share is read once, and the unembedding runs at scored positions only.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UsageError
from interp.loading.named_models import require_fetched
from interp.models.report import LoadReport
from interp.models.unembedding import Unembedding
from interp.models.wrapping import quiet
from interp.organisms.catalog import Recipe
from interp.reasoners.curriculum import Curriculum, LessonBatch
from interp.reasoners.registry import curriculum_of
from interp.runtime.hardware import fast_bfloat16

ADAPTER_FILE, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."  # of every name in PEFT's files


def require_peft() -> None:
    """Raise `UsageError` where PEFT is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise UsageError("expected the package peft for adapters, got none; install it: pip install 'cotlens[peft]'.")


@functools.cache
def base_tokenizer(name: str) -> Any:
    """Return the tokenizer of a fetched model."""
    from transformers import AutoTokenizer

    file = require_fetched(name)
    with quiet():
        return AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)


def new_adapters(recipe: Recipe, seed: int) -> Any:
    """Return the base of a recipe with fresh adapters on all linear layers, which change nothing yet.

    Raises:
        UsageError: The base has not been fetched, or PEFT is not installed.
    """
    require_peft()
    from interp.models.reading import read_model

    assert recipe.base is not None
    file = require_fetched(recipe.base)
    model, _ = read_model(
        file.parent, device="cpu", dtype=torch.float32, allow_pickle=False, report=LoadReport(), gguf_file=file.name
    )
    torch.manual_seed(seed)
    with quiet():
        from peft import inject_adapter_in_model

        inject_adapter_in_model(_lora_config(recipe), model)
    embeddings = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    for module in model.modules():
        is_frozen = isinstance(module, torch.nn.Linear) and not module.weight.requires_grad
        if is_frozen and id(module) not in embeddings and fast_bfloat16(module.weight):
            module.to(torch.bfloat16)
    return model


def _lora_config(recipe: Recipe) -> Any:
    from peft import LoraConfig

    shape = recipe.adapter
    return LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        base_model_name_or_path=recipe.base,
    )


def save_adapters(model: Any, recipe: Recipe, folder: Path) -> None:
    """Write the adapters of a model as a PEFT folder, in the recipe's `stored` dtype, with their `reasoner.json`."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    dtype = getattr(torch, recipe.stored)
    stored = {f"{_PREFIX}{name}": v.detach().cpu().to(dtype).contiguous() for name, v in state.items()}
    save_file(stored, folder / ADAPTER_FILE, metadata={"format": "pt"})
    config = model.peft_config["default"]
    before, config.inference_mode = config.inference_mode, True
    config.save_pretrained(str(folder))
    config.inference_mode = before
    recipe.reasoner().save(folder)


def read_adapters(model: Any, folder: Path) -> Any:
    """Put the adapters of a folder into a model that has adapters of the same shape, and return it."""
    from safetensors.torch import load_file

    stored = {name.removeprefix(_PREFIX): value for name, value in load_file(folder / ADAPTER_FILE).items()}
    own = {name.replace(".default.", "."): p for name, p in model.named_parameters() if p.requires_grad}
    if stored.keys() != own.keys():
        raise UsageError(
            f"expected adapters of the recipe's shape in {folder}, got others; change `adapter` or `initial`."
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(stored[name])
    return model


def training_curriculum(recipe: Recipe) -> Curriculum:
    """Return the curriculum of a recipe, which splits texts as its tokenizer does."""
    curriculum = curriculum_of(recipe.reasoner())
    if recipe.base is not None:
        curriculum.tokenize = base_tokenizer(recipe.base).tokenize
        curriculum.shares_beginning = True
    return curriculum


def scored_loss(curriculum: Curriculum, model: Any, batch: LessonBatch) -> Float[Tensor, ""]:
    """Return the mean next-token loss over the scored words, with the unembedding at those positions only."""
    logits, targets = scored_logits(curriculum, model, batch)
    return torch.nn.functional.cross_entropy(logits.float(), targets)


def scored_logits(
    curriculum: Curriculum, model: Any, batch: LessonBatch
) -> tuple[Float[Tensor, "scored vocab"], Int[Tensor, " scored"]]:
    """Return the logits before each scored word of a batch, and the words' ids."""
    scored = batch.scored[:, 1:] > 0
    states = curriculum.states(model, batch)[:, :-1]
    return Unembedding(model)(states[scored]), batch.ids[:, 1:][scored]


@torch.no_grad()
def share_right(curriculum: Curriculum, model: Any, batch: LessonBatch) -> list[bool]:
    """Return for each lesson whether the model, taking the likeliest token each time, writes all of it.

    Where the likeliest token is right at every position, writing greedily gives the same text, so one pass is enough.
    """
    logits, targets = scored_logits(curriculum, model, batch)
    wrong = torch.zeros(batch.ids.shape, dtype=torch.bool, device=batch.ids.device)
    wrong[:, 1:][batch.scored[:, 1:] > 0] = logits.argmax(-1) != targets
    return (~wrong.any(1)).tolist()
