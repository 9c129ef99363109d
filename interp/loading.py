"""`load`: one way in for shipped organisms, folders and hub models."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from interp.errors import UsageError
from interp.models.load import load_bridge, quiet, weights_hash, wrap
from interp.models.projection import Projection
from interp.organisms.catalog import recipes, weights_folder
from interp.reasoners import REASONERS, Reasoner, ReasonerConfig


def load(
    spec: str | Path,
    *,
    reasoner: dict[str, Any] | None = None,
    device: str | None = None,
    dtype: Any = None,
) -> Reasoner:
    """A reasoner from a shipped organism's name, a Hugging Face folder, or a hub id.

    `reasoner` says how the model thinks, with the fields of `ReasonerConfig`; without it the
    `reasoner.json` beside the weights does. Raises `UsageError` when neither is there.
    """
    name = str(spec)
    shipped = name in recipes()
    source = weights_folder(name) if shipped else spec
    config = ReasonerConfig.parse(reasoner, "reasoner=") if reasoner else None
    if config is None and Path(source).is_dir():
        config = ReasonerConfig.read(Path(source))
    kind = REASONERS[config.kind] if config else None
    prepare = partial(kind.prepare, config=config) if kind and config else None
    model, tokenizer, weights = load_bridge(source, device=device, dtype=dtype, prepare=prepare)
    if kind is None or config is None:
        raise UsageError(
            f"{name!r} has no reasoner.json, so how it thinks is unknown. "
            f"Say it: interp.load({name!r}, reasoner={{'kind': 'text', 'begin': '<think>', 'end': '</think>'}})."
        )
    projection = None
    if config.projection is not None:
        hf: Any = model.original_model
        embedding = hf.get_input_embeddings().weight
        projection = Projection.read(Path(source), embedding.shape[1], config.projection, like=embedding)
        weights = f"{weights}-{weights_hash(projection)[:8]}"
    return kind(model, tokenizer, config, name=name, weights=weights, projection=projection)


def random_init(reasoner: Reasoner, seed: int = 0) -> Reasoner:
    """A reasoner of the same architecture and way of thinking whose weights were never trained."""
    import copy

    import torch
    from transformers import AutoModelForCausalLM

    config: Any = copy.deepcopy(reasoner.model.original_model.config)
    config._attn_implementation = "eager"
    config = reasoner.stored_config(config, reasoner.config)
    projection = None
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        blank = AutoModelForCausalLM.from_config(config)
        if reasoner.config.projection is not None:
            projection = Projection(config.hidden_size, reasoner.config.projection).to(reasoner.device)
    weights = weights_hash(blank)
    model = wrap(reasoner.prepare(blank.to(reasoner.device), reasoner.config), reasoner.tokenizer)
    name = f"{reasoner.name} (random init)"
    return type(reasoner)(model, reasoner.tokenizer, reasoner.config, name=name, weights=weights, projection=projection)
