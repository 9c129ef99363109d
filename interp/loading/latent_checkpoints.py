"""Checkpoints of continuous-thought models in the form in which their papers' code writes them: bare state dicts.

Coconut's (github.com/facebookresearch/coconut, run.py) wraps a causal model as `base_causallm.` and has three
tokens added to its vocabulary. CODI's (github.com/zhenyi4/codi, src/model.py) wraps it as `codi.`, with low-rank
adapters where it was trained with them, adds three rows to the embedding and keeps a projection as `prj.`. Neither
holds a configuration or a tokenizer: those lie beside the file, or come from the model that it began as (`base`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import StoreError, UsageError
from interp.models.load import quiet
from interp.models.markers import COCONUT
from interp.models.projection import Projection
from interp.models.report import LoadReport

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    State = dict[str, torch.Tensor]

CODI_TOKENS = ("<|latent-pad|>", "<|start-latent|>", "<|end-latent|>")  # CODI gives its three rows no names
_WRAPPERS = ("base_causallm.", "codi.base_model.model.", "codi.")
_LORA = re.compile(r"^(.*)\.lora_A\.default\.weight$")
_HEAD_WIDTH = 64  # of every GPT-2 that was published


@dataclass(frozen=True)
class LatentCheckpoint:
    """A model that was read from a state dict: its tokenizer, its projection, and the reasoner that it is."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    projection: Projection | None
    reasoner: dict[str, Any]


def checkpoint_file(spec: str | Path) -> Path | None:
    """The state dict that `spec` is or holds, or None where it is an ordinary model folder or no path."""
    path = Path(spec)
    if path.is_file():
        return path
    if not path.is_dir() or any(path.glob("*.index.json")):
        return None
    named = [p for p in sorted(path.iterdir()) if p.name.startswith("checkpoint_") and p.is_file()]
    weights = [p for p in sorted(path.iterdir()) if p.suffix in (".safetensors", ".bin", ".pt", ".pth") and p.is_file()]
    for file in [*named, *weights]:
        if file.suffix == ".safetensors" and not _wrapped(_safetensors_names(file)):
            continue
        # A pickle's names are not known before it is read: beside a configuration it is an ordinary model's.
        if file.suffix != ".safetensors" and file.name == "pytorch_model.bin" and (path / "config.json").exists():
            continue
        return file
    return None


def read_latent_checkpoint(
    file: Path, *, base: str | Path | None, lora_alpha: float | None, dtype: Any, allow_pickle: bool, loaded: LoadReport
) -> LatentCheckpoint:
    """A Coconut or CODI model from its state dict. Raises `UsageError` on what has to be said by hand."""
    from transformers import AutoModelForCausalLM

    state = _read_state(file, allow_pickle)
    codi = any(name.startswith(("codi.", "prj.")) for name in state)
    projected: State = {name.removeprefix("prj."): state.pop(name) for name in list(state) if name.startswith("prj.")}
    state = _merged({_unwrapped(name): value for name, value in state.items()}, lora_alpha, file)
    embedding = next(
        (v for n, v in state.items() if n.endswith(("wte.weight", "embed_tokens.weight", "embed_in.weight"))), None
    )
    if embedding is None:
        raise StoreError(f"{file} holds no token embedding, so it is no language model's state dict.")
    beside = base if base is not None else file.parent
    config = _config(beside, state, given=base is not None)
    config.vocab_size = embedding.shape[0]
    config._attn_implementation = "eager"
    tokenizer = _tokenizer(beside, CODI_TOKENS if codi else COCONUT, embedding.shape[0], file, loaded)
    with quiet():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        missing = set(model.load_state_dict(state, strict=False).missing_keys)
    tied = {"lm_head.weight"} if model.config.get_text_config().tie_word_embeddings else set()
    if missing - tied:
        raise StoreError(f"{file} lacks {len(missing - tied)} tensors of its model, first {min(missing - tied)!r}.")
    loaded.add("checkpoint", f"{'CODI' if codi else 'Coconut'} state dict of {type(model).__name__}", "recognised")
    eos = tokenizer.eos_token or ""
    begin, end = (CODI_TOKENS[1], CODI_TOKENS[2]) if codi else (COCONUT[0], COCONUT[1])
    reasoner = {
        "kind": "continuous",
        "begin": begin,
        "end": end,
        "eos": eos,
        "latent": CODI_TOKENS[0] if codi else COCONUT[2],
        "prompt": "{question}" if codi else "{question}\n",
        "thoughts": 6,
        "max_answer_tokens": 64,
    }
    loaded.add("thoughts", 6, "assumed", "the checkpoint does not say how many; reasoner={'thoughts': N}")
    projection = _projection(projected, embedding.shape[1], model) if projected else None
    if projection is not None:
        reasoner["projection"] = projection.inner.out_features
        loaded.add("projection", f"hidden width {projection.inner.out_features}", "read")
    return LatentCheckpoint(model.eval(), tokenizer, projection, reasoner)


def _safetensors_names(file: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys())
    except (OSError, SafetensorError):
        return []  # what is wrong with it is said where it is read


def _wrapped(names: list[str]) -> bool:
    return any(name.startswith((*_WRAPPERS, "prj.")) for name in names)


def _read_state(file: Path, allow_pickle: bool) -> State:
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        if not allow_pickle:
            raise UsageError(
                f"{file} is a pickle, which can run code when it is read. Convert it to safetensors, or say that you "
                "trust it: interp.load(..., allow_pickle=True), --allow-pickle."
            )
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise StoreError(f"{file} cannot be read as a state dict: {str(error).strip().splitlines()[0]}") from None
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise StoreError(f"{file} holds no state dict, that is, tensors by name.")
    return {name.removeprefix("module."): value for name, value in found.items()}


def _unwrapped(name: str) -> str:
    prefix = next((each for each in _WRAPPERS if name.startswith(each)), "")
    return name.removeprefix(prefix).replace(".base_layer.", ".")


def _merged(state: State, alpha: float | None, file: Path) -> State:
    """The state with its low-rank adapters added in: W + alpha / r * B A."""
    adapted = [match.group(1) for match in map(_LORA.match, state) if match]
    if adapted and alpha is None:
        raise UsageError(
            f"{file} holds low-rank adapters, whose scale it does not say: interp.load(..., lora_alpha=...), --lora-alpha."
        )
    for path in adapted:
        down, up = state[f"{path}.lora_A.default.weight"].float(), state[f"{path}.lora_B.default.weight"].float()
        delta = (alpha or 0.0) / down.shape[0] * up @ down
        weight = state[f"{path}.weight"]
        # GPT-2's layers keep their matrix the other way round.
        state[f"{path}.weight"] = weight + (delta if delta.shape == weight.shape and "c_" not in path else delta.T)
    return {name: value for name, value in state.items() if ".lora_" not in name}


def _config(beside: str | Path, state: State, *, given: bool) -> Any:
    from transformers import AutoConfig, GPT2Config

    if given or (Path(beside) / "config.json").exists():
        with quiet():
            try:
                return AutoConfig.from_pretrained(beside)
            except (OSError, ValueError) as error:
                raise UsageError(f"no configuration at {str(beside)!r}: {str(error).splitlines()[0]}") from None
    if "transformer.wte.weight" not in state:
        raise UsageError("only a GPT-2 can be told from its state dict alone; name the model it began as with base=.")
    width = state["transformer.wte.weight"].shape[1]
    if width % _HEAD_WIDTH:
        raise UsageError(
            f"a GPT-2 of width {width} does not have heads of {_HEAD_WIDTH}, and a state dict does not say how many. "
            "Put a config.json beside it, or name the model it began as with base=."
        )
    layers = {int(name.split(".")[2]) for name in state if name.startswith("transformer.h.")}
    positions = state["transformer.wpe.weight"].shape[0]
    return GPT2Config(n_embd=width, n_layer=len(layers), n_head=width // _HEAD_WIDTH, n_positions=positions)


def _tokenizer(
    beside: str | Path, added: tuple[str, ...], n_rows: int, file: Path, loaded: LoadReport
) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(beside)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{file} holds no tokenizer, and there is none at {str(beside)!r} ({str(error).splitlines()[0]}). "
                "Name the model it began as with base=."
            ) from None
    if not all(token in tokenizer.get_vocab() for token in added):
        tokenizer.add_tokens(list(added), special_tokens=True)
        loaded.add("tokens", ", ".join(added), "recognised", "added in the order of the reference code")
    if len(tokenizer) > n_rows:
        raise UsageError(
            f"the tokenizer at {str(beside)!r} has {len(tokenizer)} tokens, but {file} embeds only {n_rows}."
        )
    return tokenizer


def _projection(state: State, d_model: int, model: Any) -> Projection:
    """CODI's `prj`: dropout, linear, GELU, linear, and a layer norm unless it was trained without."""
    names = {"1.": "inner.", "3.": "outer.", "ln.": "norm."}
    found = {
        new + n.removeprefix(old): v.float()
        for n, v in state.items()
        for old, new in names.items()
        if n.startswith(old)
    }
    if "inner.weight" not in found:
        raise StoreError(f"a projection of CODI has tensors prj.1 and prj.3, but {', '.join(sorted(state))} came.")
    made = Projection(d_model, found["inner.weight"].shape[0], norm="norm.weight" in found)
    made.load_state_dict(found)
    return made.to(model.get_input_embeddings().weight).requires_grad_(False)
