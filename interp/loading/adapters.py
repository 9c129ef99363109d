"""Adapters in PEFT's format (LoRA and its relatives): a folder with `adapter_config.json` on top of a base model.

PEFT itself reads them. It only warns of tensors that are missing or that it has no place for, and so a wrong base gives
a model that nobody trained. Here every tensor of the adapter is compared with what the model holds afterwards, the
adapter is added to the base's weights, and the logits are compared with those of PEFT's own model before that.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import CotlensError, StoreError, UsageError
from interp.models.reading import only_cached
from interp.models.report import LoadReport
from interp.models.weights import refuse_gaps, same_values
from interp.models.wrapping import quiet

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

CONFIG_NAME = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
_ADDED_TOKENS = "added_tokens.json"
_MODEL_FILES = ("config.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
_HEADS = ("lm_head.weight", "embed_out.weight")
_PROMPTS = ("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "ADAPTION_PROMPT")


@dataclass(frozen=True)
class Adapter:
    """An adapter on disk.

    Attributes:
        folder: Its folder.
        config: The content of its `adapter_config.json`.
        weights: The file of its weights.
    """

    folder: Path
    config: dict[str, Any]
    weights: Path

    @property
    def base(self) -> str | None:
        """The base model that it names, or None."""
        return self.config.get("base_model_name_or_path") or None

    @property
    def has_tokenizer(self) -> bool:
        """Whether its folder holds a whole tokenizer."""
        return any((self.folder / name).exists() for name in _TOKENIZER_FILES)

    @property
    def added_tokens(self) -> list[str]:
        """The tokens that `added_tokens.json` adds to the base's tokenizer, in order; empty beside a whole one."""
        path = self.folder / _ADDED_TOKENS
        if self.has_tokenizer or not path.exists():
            return []
        added: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
        return sorted(added, key=lambda token: added[token])


def find_adapter(spec: str | Path) -> Adapter | None:
    """Return the adapter in a folder or a hub repository, or None where there is none.

    Args:
        spec: What `interp.load` was given.

    Raises:
        UsageError: The folder holds a model as well, the adapter is not a weight adapter, or PEFT is not installed.
        StoreError: The adapter cannot be read.
    """
    folder = Path(spec) if Path(spec).exists() else _hub_folder(str(spec))
    if folder is None or not (folder / CONFIG_NAME).is_file():
        return None
    whole = [name for name in _MODEL_FILES if (folder / name).exists()]
    if whole:
        raise UsageError(
            f"expected an adapter or a model in {folder}, got both ({CONFIG_NAME} and {whole[0]}); move the adapter's "
            "files to a folder of their own, and name the model with base=."
        )
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"expected JSON in {folder / CONFIG_NAME}, got an error: {error}.") from None
    kind = str(config.get("peft_type", "")) if isinstance(config, dict) else ""
    if not kind or kind in _PROMPTS:
        raise UsageError(
            f"expected an adapter of a model's weights in {folder}, such as LORA, got peft_type {kind or None!r}, which "
            "cannot be added to them; only weight adapters can be loaded."
        )
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise StoreError(f"expected {_WEIGHTS[0]} in {folder}, got no weights; copy the whole adapter folder.")
    if importlib.util.find_spec("peft") is None:
        raise UsageError(
            f"expected the package peft to read the adapter in {folder}, got none; install it: pip install "
            "'cotlens[peft]'."
        )
    return Adapter(folder, config, weights)


def _hub_folder(spec: str) -> Path | None:
    """Return the local copy of a hub repository with an adapter; None where it holds none."""
    if spec.count("/") != 1 or spec.startswith((".", "/", "~")) or ":" in spec:
        return None
    import huggingface_hub as hub
    from transformers.utils import cached_file

    offline = only_cached(spec)
    with quiet():
        config_path = cached_file(
            spec,
            CONFIG_NAME,
            local_files_only=offline,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if config_path is None:
            return None
        wanted = ["*.json", "adapter_model.*", "tokenizer*", "*.jinja", "vocab*", "merges*"]
        return Path(hub.snapshot_download(spec, allow_patterns=wanted, local_files_only=offline))


def add_adapter(
    adapter: Adapter, model: Any, tokenizer: Any, *, allow_pickle: bool, report: LoadReport
) -> tuple[Any, Any]:
    """Return a base model with an adapter added to its weights, and the tokenizer of both.

    Args:
        adapter: The adapter.
        model: The base, in float32 on the CPU; changed.
        tokenizer: The base's tokenizer.
        allow_pickle: Whether weights in a pickle file are accepted. Reading them runs no code.
        report: Receives what was added, and how it was checked.

    Raises:
        UsageError: The adapter is a pickle and `allow_pickle` is False, or does not fit the base's modules.
        StoreError: The adapter lacks a tensor, holds one without a place, or gives other logits than PEFT's own model.
    """
    import torch

    state = _read_state(adapter, allow_pickle)
    tokenizer = _tokenizer(adapter, tokenizer, report)
    _resize(adapter, model, tokenizer, state, report)
    adapted = _with_peft(adapter, model)
    _check_tensors(adapter, adapted, state)
    ids = (torch.arange(8) * 7919 % model.get_input_embeddings().weight.shape[0])[None]
    with torch.no_grad():
        expected = adapted(input_ids=ids).logits.float()
        try:
            merged = adapted.merge_and_unload(safe_merge=True)
        except (AttributeError, NotImplementedError, ValueError) as error:
            raise UsageError(
                f"expected an adapter that can be added to the weights of its base in {adapter.folder}, got "
                f"{adapter.config['peft_type']} ({_first_line(error)}); merge it with the code that made it."
            ) from None
        gap = float((merged(input_ids=ids).logits.float() - expected).abs().max())
    size = float(expected.abs().max()) + 1.0
    if not gap <= 1e-3 * size:
        raise StoreError(
            f"expected the logits of PEFT's own model after adding the adapter in {adapter.folder} to its base, got a "
            f"difference of {gap:.2g}; merge it with PEFT and load the merged model."
        )
    if hasattr(merged, "peft_config"):
        del merged.peft_config
    name = f"{adapter.config['peft_type']} in {adapter.folder}"
    note = f"all {len(state)} tensors, added to the base's weights; logits equal to PEFT's to {gap:.0e}"
    report.add("adapter", name, "checked", note)
    return merged.eval(), tokenizer


def _read_state(adapter: Adapter, allow_pickle: bool) -> State:
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if adapter.weights.suffix == ".safetensors":
            return load_file(adapter.weights)
        if not allow_pickle:
            raise UsageError(
                f"{adapter.weights} is a pickle, which can run code when it is read; convert it to safetensors, or trust "
                "it with load(..., allow_pickle=True) or --allow-pickle."
            )
        return torch.load(adapter.weights, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError, pickle.UnpicklingError) as error:
        if isinstance(error, CotlensError):
            raise
        raise StoreError(f"{adapter.weights} cannot be read as an adapter: {_first_line(error)}") from None


def _tokenizer(adapter: Adapter, of_base: Any, report: LoadReport) -> Any:
    """Return the adapter's own tokenizer where its folder holds one, else the base's with the added tokens."""
    from transformers import AutoTokenizer

    if adapter.has_tokenizer:
        with quiet():
            try:
                tokenizer = AutoTokenizer.from_pretrained(adapter.folder, trust_remote_code=False)
            except Exception as error:  # the library raises many classes for a file that it cannot read
                raise StoreError(
                    f"expected a tokenizer in {adapter.folder}, got an error: {_first_line(error)}"
                ) from None
        report.add("tokenizer", "the adapter's own", "read", f"{len(tokenizer)} tokens, the base's has {len(of_base)}")
        return tokenizer
    new = [token for token in adapter.added_tokens if token not in of_base.get_vocab()]
    if new:
        of_base.add_tokens(new, special_tokens=True)
        report.add("tokenizer", f"the base's and {len(new)} tokens of {_ADDED_TOKENS}", "read", ", ".join(new[:8]))
    return of_base


def _resize(adapter: Adapter, model: Any, tokenizer: Any, state: State, report: LoadReport) -> None:
    """Give the model as many embeddings as it had in training, where all the new ones come from the adapter."""
    rows = model.get_input_embeddings().weight.shape[0]
    plain = {name.replace(".base_layer.", "."): value for name, value in state.items()}
    stored = [value.shape[0] for name, value in plain.items() if name.endswith(_EMBEDDINGS)]
    trained = _trained_tokens(adapter.config, _EMBEDDINGS)
    needed = stored[0] if stored else max(len(tokenizer), max(trained) + 1) if trained and trained[-1] >= rows else rows
    if needed == rows:
        return
    new = set(range(rows, needed))
    tied = model.config.get_text_config().tie_word_embeddings
    has_head = tied or any(name.endswith(_HEADS) for name in plain)
    lacking = {
        "embedding": set() if stored else new - set(trained),
        "unembedding": set() if has_head else new - set(_trained_tokens(adapter.config, _HEADS)),
    }
    for part, tokens in lacking.items():
        if tokens:
            raise StoreError(
                f"expected weights for each of the {needed - rows} tokens that the adapter in {adapter.folder} adds, got "
                f"no {part} of token {min(tokens)}; save it again with save_embedding_layers=True."
            )
    with quiet():
        model.resize_token_embeddings(needed, mean_resizing=False)
    report.add("embeddings", f"{needed} rows, the base has {rows}", "read", "as in the adapter's training")


def _trained_tokens(config: dict[str, Any], tables: tuple[str, ...]) -> list[int]:
    """Return the ids of the tokens whose rows of some tables an adapter trains one by one, sorted."""
    indices = config.get("trainable_token_indices") or {}
    if not isinstance(indices, dict):
        indices = {"embed_tokens": indices}  # PEFT's default: the embedding
    named = [ids for name, ids in indices.items() if f"{name.rpartition('.')[2]}.weight" in tables]
    return sorted({int(i) for ids in named for i in ids})


def _with_peft(adapter: Adapter, model: Any) -> Any:
    from peft import PeftModel

    with quiet():
        try:
            return PeftModel.from_pretrained(
                model, str(adapter.folder), autocast_adapter_dtype=False, trust_remote_code=False
            )
        except Exception as error:  # PEFT raises many classes for a base that does not fit
            raise UsageError(
                f"the adapter in {adapter.folder} does not fit {type(model).__name__}: {_first_line(error)}. Name the "
                "model that it was trained on with base=."
            ) from None


def _check_tensors(adapter: Adapter, adapted: Any, state: State) -> None:
    """Check that the model holds every tensor of the adapter, and that its adapter has no others."""
    from peft import get_peft_model_state_dict

    with quiet():
        own = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    held = {**adapted.state_dict(), **own}  # an adapter may store embeddings of the base as well
    shared = sorted(state.keys() & held.keys())
    refuse_gaps(
        f"the adapter in {str(adapter.folder)!r}",
        type(adapted.get_base_model()).__name__,
        sorted(own.keys() - state.keys()),
        sorted(state.keys() - held.keys()),
        [name for name in shared if state[name].shape != held[name].shape],
    )
    differing = [name for name in shared if not same_values(state[name], held[name])]
    if differing:
        raise StoreError(
            f"expected the model to hold the adapter in {adapter.folder}, got other values in {len(differing)} tensors, "
            f"such as {differing[0]}; save it again with save_pretrained."
        )


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"
