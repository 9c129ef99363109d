"""`load`: one way in for shipped organisms, folders, hub models, and the checkpoints of Coconut and CODI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interp.errors import StoreError, UsageError
from interp.loading.latent_checkpoints import LatentCheckpoint, checkpoint_file, read_latent_checkpoint
from interp.loading.recognition import completed, recognised
from interp.models.load import quiet, weights_hash, wrap
from interp.models.projection import Projection
from interp.models.reading import choose_device, choose_dtype, first_not_finite, only_cached, read_model
from interp.models.report import LoadReport
from interp.organisms.catalog import recipes, weights_folder
from interp.reasoners.base import Reasoner
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.registry import reasoner_class


def load(
    spec: str | Path,
    *,
    reasoner: dict[str, Any] | None = None,
    device: str | None = None,
    dtype: Any = None,
    allow_pickle: bool = False,
    base: str | Path | None = None,
    lora_alpha: float | None = None,
) -> Reasoner:
    """A reasoner from a shipped organism's name, a Hugging Face folder, a hub id, or a Coconut or CODI checkpoint.

    How it thinks stands in the `reasoner.json` beside its weights; without one it is recognised from the chat
    template and the vocabulary. `reasoner` gives fields of `ReasonerConfig` by hand: all of them for a model with a
    `reasoner.json`, the ones that differ for any other. What was found, assumed and not found is in the result's
    `loaded.table()`. `device` is `cuda` where there is one; `dtype` is float32 on the CPU and for organisms, and
    the model's own elsewhere. `base` names the model that a bare state dict began as, `lora_alpha` the scale of its
    low-rank adapters. Nothing is fetched when HF_HUB_OFFLINE is set.

    Raises `UsageError` when there is no such model, its weights are pickle and `allow_pickle` is not given, or the
    config does not fit; `StoreError` when its files cannot be read or hold weights that are not finite.
    """
    name, loaded = str(spec), LoadReport()
    shipped = name in recipes()
    source = weights_folder(name) if shipped else spec
    config = ReasonerConfig.read(Path(source)) if Path(source).is_dir() else None
    where = choose_device(device, loaded)
    file = None if shipped or config is not None else checkpoint_file(source)
    own = None if shipped or config is not None or file is not None else _own_dtype(source)
    as_dtype = choose_dtype(dtype, where, own, loaded)
    latent: LatentCheckpoint | None = None
    if file is not None:
        latent = read_latent_checkpoint(
            file, base=base, lora_alpha=lora_alpha, dtype=as_dtype, allow_pickle=allow_pickle, loaded=loaded
        )
        model, tokenizer = latent.model.to(where), latent.tokenizer
    else:
        model, tokenizer = read_model(source, device=where, dtype=as_dtype, allow_pickle=allow_pickle, loaded=loaded)
    wrong = first_not_finite(model)
    if wrong is not None:
        raise StoreError(f"{name!r} has weights that are not finite, first in {wrong}. Fetch or train the model again.")
    known = config is not None
    if config is not None and reasoner:
        config = ReasonerConfig.parse(reasoner, "reasoner=")
    elif config is None:
        given = reasoner or {}
        if latent is not None:
            fields = {**latent.reasoner, **given}
        elif given:
            fields = completed(given, tokenizer, model, loaded)
        else:
            fields = recognised(tokenizer, model, loaded)
        config = ReasonerConfig.parse(fields, "reasoner=")
    kind = reasoner_class(config.kind)
    weights = weights_hash(model)
    projection = latent.projection if latent is not None else _projection(config, Path(source), model)
    if projection is not None:
        projection = projection.to(where)
        weights = f"{weights}-{weights_hash(projection)[:8]}"
    probe = None if known else _own_logits(model)
    made = kind(
        wrap(kind.prepare(model, config), tokenizer),
        tokenizer,
        config,
        name=name,
        weights=weights,
        projection=projection,
    )
    made.loaded = loaded
    # Paths in full: a store may be finished from another folder, or by a job on another node.
    origin: dict[str, Any] = {
        "source": _in_full(name if shipped else spec),
        "base": None if base is None else _in_full(base),
    }
    origin |= {"lora_alpha": lora_alpha, "allow_pickle": allow_pickle or None}
    made.origin = {key: value for key, value in origin.items() if value is not None}
    if probe is not None:
        _check_logits(made, probe)
        made.vocabulary.check_markers()
    return made


def _in_full(spec: str | Path) -> str:
    return str(Path(spec).resolve()) if str(spec) not in recipes() and Path(spec).exists() else str(spec)


def _own_dtype(source: str | Path) -> Any:
    """The dtype that a model is stored in, or None; whether there is a model at all is for its reading to say."""
    from transformers import AutoConfig

    there = Path(source).exists()
    if not there and "/" not in str(source):
        return None
    with quiet():
        try:
            config = AutoConfig.from_pretrained(source, local_files_only=not there and only_cached(str(source)))
        except UsageError:
            raise
        except Exception:  # read_model meets the same fault and explains it
            return None
    return getattr(config.get_text_config(), "dtype", None) or getattr(config, "dtype", None)


def _projection(config: ReasonerConfig, folder: Path, model: Any) -> Projection | None:
    if config.projection is None:
        return None
    embedding = model.get_input_embeddings().weight
    return Projection.read(folder, embedding.shape[1], config.projection, like=embedding)


def _own_logits(model: Any) -> tuple[Any, Any]:
    """A few tokens and what the untouched model says after each."""
    import torch

    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(8, device=model.device) * 7919 % vocabulary)[None]
    with torch.no_grad():
        return ids, model.eval()(ids).logits.float()


def _check_logits(reasoner: Reasoner, probe: tuple[Any, Any]) -> None:
    """Compare the wrapped model's logits, through embedding, base and unembedding, with the untouched model's."""
    import torch

    ids, expected = probe
    inputs = {"inputs_embeds": reasoner.embed(ids), "attention_mask": torch.ones_like(ids), "use_cache": False}
    inputs["position_ids"] = torch.arange(ids.shape[1], device=ids.device)[None]
    try:
        with torch.no_grad():
            found = reasoner.unembed(reasoner.base(**inputs).last_hidden_state).float()
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{reasoner.name}: wrapped, it does not run ({first}). This architecture is not supported."
        ) from None
    gap = float((found - expected).abs().max())
    # Half-precision models are compared at the precision of their logits.
    size = float(expected.abs().max()) + 1.0
    limit = 1e-4 * size if reasoner.embed.weight.dtype == torch.float32 else 0.05 * size
    if not gap <= limit:
        raise UsageError(
            f"{reasoner.name}: wrapped, its logits differ from its own by {gap:.2g}, so nothing read from it could be "
            "trusted. This architecture is not supported."
        )
    reasoner.loaded.add("logits", f"equal to the untouched model's to {gap:.0e}", "checked")


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
