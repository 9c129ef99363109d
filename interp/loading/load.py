"""Loading reasoners: organisms, model folders, hub models, GGUF files, and checkpoints of Coconut and CODI."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from interp.errors import StoreError
from interp.loading.latent_checkpoints import LatentCheckpoint, read_latent_checkpoint
from interp.loading.recognition import complete_fields, recognise
from interp.loading.sources import locate, read_source, stored_dtype
from interp.models.devices import choose_device, choose_dtype
from interp.models.projection import Projection
from interp.models.reading import first_nonfinite
from interp.models.report import LoadReport
from interp.models.wrapping import quiet, unsupported, weights_hash, wrap
from interp.organisms.catalog import recipes
from interp.reasoners.base import Reasoner
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.registry import reasoner_class


class LoadArguments(TypedDict, total=False):
    """Keyword arguments of `load`, which explains each."""

    reasoner: dict[str, Any] | None
    device: str | None
    dtype: Any
    allow_pickle: bool
    base: str | Path | None
    lora_alpha: float | None
    strip_prefixes: bool


def load(
    spec: str | Path,
    *,
    reasoner: dict[str, Any] | None = None,
    device: str | None = None,
    dtype: Any = None,
    allow_pickle: bool = False,
    base: str | Path | None = None,
    lora_alpha: float | None = None,
    strip_prefixes: bool = False,
) -> Reasoner:
    """Load a reasoner.

    The way it thinks is read from `reasoner.json` beside the weights. Without that file it is recognised from the
    chat template and the vocabulary; `loaded.table()` of the result lists what was recognised, assumed and unknown,
    and every field that was not given and whose default the model thinks with.
    Nothing is downloaded when HF_HUB_OFFLINE is set.

    Args:
        spec: The name of a shipped organism or of a fetched model (`cotlens models ls`), a Hugging Face folder, a hub
            id, a GGUF file (a path, a folder with one, or `owner/repo:file.gguf`), an adapter in PEFT's format, or a
            Coconut or CODI checkpoint.
        reasoner: Fields of `ReasonerConfig`: all of them for a model with a `reasoner.json`, else those that differ
            from what is recognised.
        device: Device of the model; by default a CUDA device where there is one, else the CPU.
        dtype: Dtype of the model; by default float32 on the CPU and for organisms, else the stored one.
        allow_pickle: Whether weights in pickle files are accepted. Reading them runs no code.
        base: The model that an adapter or a bare state dict was trained from: a folder, a hub id, or a name. By default
            an adapter's own `adapter_config.json` names it.
        lora_alpha: Scale of the low-rank adapters of a bare state dict.
        strip_prefixes: Whether prefixes that training puts before the names of all tensors (`_orig_mod.`, `module.`,
            `base_model.model.`, FSDP's) are taken off. By default they are refused, as such a file holds no tensor under
            the model's own names; the command line takes them off and prints it.

    Returns:
        The reasoner. Its logits are checked against those of the unwrapped model.

    Raises:
        UsageError: There is no such model, its weights are pickle files, its architecture is not supported, or the
            config does not fit.
        StoreError: The model's files cannot be read, hold weights that are not finite, or do not hold all weights of the
            model and no others.
    """
    source, report = locate(spec, base), LoadReport()
    name, shipped, config = source.name, source.shipped, source.config
    source.check_options(base=base, lora_alpha=lora_alpha)
    target = choose_device(device, report)
    model_dtype = choose_dtype(dtype, target, stored_dtype(source), report)
    latent: LatentCheckpoint | None = None
    if source.checkpoint is not None:
        latent = read_latent_checkpoint(
            source.checkpoint,
            base=base,
            lora_alpha=lora_alpha,
            dtype=model_dtype,
            allow_pickle=allow_pickle,
            report=report,
        )
        model, tokenizer = latent.model.to(target), latent.tokenizer
    else:
        model, tokenizer = read_source(
            source,
            device=target,
            dtype=model_dtype,
            allow_pickle=allow_pickle,
            report=report,
            strip_prefixes=strip_prefixes,
        )
    nonfinite = first_nonfinite(model)
    if nonfinite is not None:
        raise StoreError(
            f"expected finite weights in {name!r}, got some that are not finite, first in {nonfinite}; "
            "download or train the model again."
        )
    is_known = config is not None
    if config is not None and reasoner:
        config = ReasonerConfig.parse(reasoner, "reasoner=")
    elif config is None:
        given_fields = reasoner or {}
        if latent is not None:
            fields = {**latent.reasoner, **given_fields}
        elif given_fields:
            fields = complete_fields(given_fields, tokenizer, model, report)
        else:
            fields = recognise(tokenizer, model, report)
        config = ReasonerConfig.parse(fields, "reasoner=")
    # What a recipe or the format of a checkpoint leaves out is not guessed: there the defaults are what is meant.
    if not shipped and latent is None:
        _report_assumed(config, report)
    kind = reasoner_class(config.kind)
    weights = weights_hash(model)
    projection = latent.projection if latent is not None else _projection(config, source.folder, model)
    if projection is not None:
        projection = projection.to(target)
        weights = f"{weights}-{weights_hash(projection)[:8]}"
    reference = None if is_known else _reference_logits(model, name)
    loaded = kind(
        wrap(kind.prepare(model, config), tokenizer),
        tokenizer,
        config,
        name=name,
        weights=weights,
        projection=projection,
    )
    loaded.loaded = report
    hashes = f"weights {weights}, tokenizer {loaded.tokenizer_hash}"
    report.add("hashes", hashes, "read", "of the model as it runs; traces and stores carry them")
    # Absolute paths: a capture may be resumed from another folder, or by a job on another node.
    origin: dict[str, Any] = {
        "source": _absolute(name if shipped else spec),
        "base": None if base is None else _absolute(base),
    }
    origin |= {"lora_alpha": lora_alpha, "allow_pickle": allow_pickle or None}
    origin["strip_prefixes"] = True if any(finding.what == "prefixes" for finding in report.findings) else None
    loaded.origin = {key: value for key, value in origin.items() if value is not None}
    if reference is not None:
        _check_logits(loaded, reference)
        loaded.vocabulary.check_markers()
    return loaded


def _report_assumed(config: ReasonerConfig, report: LoadReport) -> None:
    """Add the fields that nobody gave and whose defaults were taken."""
    reported = {finding.what for finding in report.findings}
    for name, value in config.assumed().items():
        if name not in reported:
            can_be_none = "TOKEN or None" if name in ("begin", "end") else "..."
            report.add(name, value, "assumed", f"not given, so the default; reasoner={{{name!r}: {can_be_none}}}")


def _absolute(spec: str | Path) -> str:
    return str(Path(spec).resolve()) if str(spec) not in recipes() and Path(spec).exists() else str(spec)


def _projection(config: ReasonerConfig, folder: Path, model: Any) -> Projection | None:
    if config.projection is None:
        return None
    embedding = model.get_input_embeddings().weight
    return Projection.read(folder, embedding.shape[1], config.projection, like=embedding)


def _reference_logits(model: Any, name: str) -> tuple[Any, Any]:
    """Return a few token ids and the unwrapped model's logits after each."""
    import torch

    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(8, device=model.device) * 7919 % vocabulary)[None]
    try:
        with torch.no_grad():
            logits = model.eval()(ids, use_cache=False).logits.float()
    except Exception as error:  # a kernel that is not installed, for one
        raise unsupported(type(model).__name__, error) from None
    if not logits.isfinite().all():
        dtype = str(model.dtype).removeprefix("torch.")
        advice = "check the weights" if dtype == "float32" else "load it in another dtype (--model-dtype float32)"
        raise StoreError(
            f"expected finite numbers from {name} in {dtype}, got logits that are not finite for a few tokens; {advice}."
        )
    return ids, logits


def _check_logits(reasoner: Reasoner, reference: tuple[Any, Any]) -> None:
    """Raise `UsageError` unless the wrapped model's logits equal the unwrapped model's."""
    import torch

    ids, expected = reference
    inputs = {"inputs_embeds": reasoner.embed(ids), "attention_mask": torch.ones_like(ids), "use_cache": False}
    inputs["position_ids"] = torch.arange(ids.shape[1], device=ids.device)[None]
    architecture = type(reasoner.model.original_model).__name__
    try:
        with torch.no_grad():
            logits = reasoner.unembed(reasoner.base(**inputs).last_hidden_state).float()
    except Exception as error:  # each architecture fails in its own way
        raise unsupported(architecture, error) from None
    gap = float((logits - expected).abs().max())
    # Half-precision logits are compared at their own precision.
    size = float(expected.abs().max()) + 1.0
    limit = 1e-4 * size if reasoner.embed.weight.dtype == torch.float32 else 0.05 * size
    if not gap <= limit:
        raise unsupported(architecture, f"its logits differ from the model's own by {gap:.2g}")
    reasoner.loaded.add("logits", f"equal to the unwrapped model's to {gap:.0e}", "checked")


def random_init(reasoner: Reasoner, seed: int = 0) -> Reasoner:
    """Return a reasoner of the same architecture and kind with random weights.

    Args:
        reasoner: The reasoner to copy.
        seed: Seed of the weights.

    Returns:
        The untrained twin, on the same device, with the same tokenizer and config.
    """
    import copy

    import torch
    from transformers import AutoModelForCausalLM

    config: Any = copy.deepcopy(reasoner.model.original_model.config)
    config._attn_implementation = "eager"
    config = reasoner.stored_config(config, reasoner.config)
    projection = None
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untrained = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        if reasoner.config.projection is not None:
            projection = Projection(config.hidden_size, reasoner.config.projection)
            # Thinking runs in inference mode, whose tensors no parameter with a gradient may meet.
            projection = projection.to(reasoner.device).requires_grad_(False)
    weights = weights_hash(untrained)
    model = wrap(reasoner.prepare(untrained.to(reasoner.device), reasoner.config), reasoner.tokenizer)
    name = f"{reasoner.name} (random init)"
    return type(reasoner)(model, reasoner.tokenizer, reasoner.config, name=name, weights=weights, projection=projection)
