"""Reading checkpoints of continuous-thought models as their papers' code writes them: bare state dicts.

Coconut (github.com/facebookresearch/coconut, run.py) wraps a causal model as `base_causallm.` and adds three tokens to
its vocabulary. CODI (github.com/zhenyi4/codi, src/model.py) wraps it as `codi.`, with optional low-rank adapters, adds
three rows to the embedding and stores a projection as `prj.`. SIM-CoT trains both with a second model beside it. No file holds
a configuration or a tokenizer: both come from the file's folder, or from the model that training started from (`base`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import StoreError, UsageError
from interp.loading.state_dicts import read_state, tensor_names
from interp.models.markers import COCONUT_TOKENS
from interp.models.projection import Projection
from interp.models.report import LoadReport
from interp.models.weights import HARMLESS, plain_name, refuse_gaps, same_values
from interp.models.wrapping import quiet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    State = dict[str, torch.Tensor]

CODI_TOKENS = ("<|latent-pad|>", "<|start-latent|>", "<|end-latent|>")  # CODI does not name its three rows
_WRAPPERS = ("base_causallm.", "codi.base_model.model.", "codi.")
_LORA = re.compile(r"^(.*)\.lora_A\.default\.weight$")
# SIM-CoT (arXiv 2509.20317) trains a second model that writes each thought's step: `expainable_llm` beside Coconut's
# model, `decoder` and two maps beside CODI's. Nothing of it runs when the model thinks.
_TRAINING_ONLY = ("expainable_llm.", "decoder.", "pj_in.", "pj_out.")
_HEAD_WIDTH = 64  # of every published GPT-2


@dataclass(frozen=True)
class LatentCheckpoint:
    """A model read from a state dict.

    Attributes:
        model: The Hugging Face model.
        tokenizer: Its tokenizer.
        projection: CODI's projection, or None.
        reasoner: Fields of its `ReasonerConfig`.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    projection: Projection | None
    reasoner: dict[str, Any]


def checkpoint_file(spec: str | Path) -> Path | None:
    """Return the state dict at `spec` or in its folder, or None for an ordinary model folder or no path.

    Of a state dict in several files it is the index that names them.
    """
    path = Path(spec)
    if path.is_file():
        return path
    if not path.is_dir():
        return None
    indices = sorted(path.glob("*.index.json"))
    if indices:
        return next((index for index in indices if _wrapped(tensor_names(index))), None)
    named = [p for p in sorted(path.iterdir()) if p.name.startswith("checkpoint_") and p.is_file()]
    weights = [p for p in sorted(path.iterdir()) if p.suffix in (".safetensors", ".bin", ".pt", ".pth") and p.is_file()]
    for file in [*named, *weights]:
        if file.suffix == ".safetensors" and not _wrapped(tensor_names(file)):
            continue
        # Names in a pickle are unknown before it is read; beside a configuration it belongs to an ordinary model.
        if file.suffix != ".safetensors" and file.name == "pytorch_model.bin" and (path / "config.json").exists():
            continue
        return file
    return None


def read_latent_checkpoint(
    file: Path, *, base: str | Path | None, lora_alpha: float | None, dtype: Any, allow_pickle: bool, report: LoadReport
) -> LatentCheckpoint:
    """Read a Coconut or CODI model from its state dict.

    Args:
        file: The state dict, as safetensors or pickle, or the index of one in several files.
        base: Folder or hub id of the model that training started from; by default the file's folder is used.
        lora_alpha: Scale of the low-rank adapters, where there are any.
        dtype: Dtype of the model.
        allow_pickle: Whether a pickle file is accepted. Reading it runs no code.
        report: Receives what was recognised and assumed.

    Raises:
        UsageError: Something that the file does not hold is missing: `base`, `lora_alpha` or `allow_pickle`.
        StoreError: The file is not a state dict of such a model.
    """
    from transformers import AutoModelForCausalLM

    state = read_state(file, allow_pickle)
    state = _without_training_parts(state, report)
    codi = any(name.startswith(("codi.", "prj.")) for name in state)
    projected: State = {name.removeprefix("prj."): state.pop(name) for name in list(state) if name.startswith("prj.")}
    state = _merged({_unwrapped(name): value for name, value in state.items()}, lora_alpha, file)
    embedding = next(
        (v for n, v in state.items() if n.endswith(("wte.weight", "embed_tokens.weight", "embed_in.weight"))), None
    )
    if embedding is None:
        raise StoreError(f"expected a language model's state dict in {file}, got one without a token embedding.")
    source = base if base is not None else file.parent
    config = _config(source, state, has_base=base is not None)
    config.vocab_size = embedding.shape[0]
    config._attn_implementation = "eager"
    tokenizer = _tokenizer(source, CODI_TOKENS if codi else COCONUT_TOKENS, embedding.shape[0], file, report)
    with quiet():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    _fill(model, state, file)
    report.add("checkpoint", f"{'CODI' if codi else 'Coconut'} state dict of {type(model).__name__}", "recognised")
    eos = tokenizer.eos_token or ""
    begin, end = (CODI_TOKENS[1], CODI_TOKENS[2]) if codi else (COCONUT_TOKENS[0], COCONUT_TOKENS[1])
    reasoner = {
        "kind": "continuous",
        "begin": begin,
        "end": end,
        "eos": eos,
        "latent": CODI_TOKENS[0] if codi else COCONUT_TOKENS[2],
        "prompt": "{question}" if codi else "{question}\n",
        "thoughts": 6,
        "max_answer_tokens": 64,
    }
    report.add("thoughts", 6, "assumed", "the checkpoint does not say how many; --reasoner '{\"thoughts\": N}'")
    projection = _projection(projected, embedding.shape[1], model) if projected else None
    if projection is not None:
        reasoner["projection"] = projection.inner.out_features
        report.add("projection", f"hidden width {projection.inner.out_features}", "read")
    return LatentCheckpoint(model.eval(), tokenizer, projection, reasoner)


def _fill(model: Any, state: State, file: Path) -> None:
    """Put a state into a model. Raises `StoreError` unless they have the same tensors, of the same shapes."""
    held = model.state_dict()
    # Coconut's code stores the embedding of the wrapped model a second time.
    copied = state.pop("embedding.weight", None)
    embedding = model.get_input_embeddings().weight
    if copied is not None and copied.shape != embedding.shape:
        raise StoreError(f"expected embedding.weight of {file} to be the model's embedding, got another shape.")
    tied = set(model.all_tied_weights_keys)
    refuse_gaps(
        f"the weights of {str(file)!r}",
        type(model).__name__,
        sorted(held.keys() - state.keys() - tied),
        sorted(name for name in state.keys() - held.keys() if not HARMLESS.search(name)),
        sorted(name for name, value in state.items() if name in held and value.shape != held[name].shape),
    )
    model.load_state_dict(state, strict=False)
    for name, value in state.items():
        if name in held and not same_values(value, held[name]):
            raise StoreError(
                f"expected {file} to hold one value for tied weights, got another for {name}; correct "
                "tie_word_embeddings in its config.json."
            )


def _wrapped(names: list[str]) -> bool:
    return any(plain_name(name).startswith((*_WRAPPERS, "prj.")) for name in names)


def _without_training_parts(state: State, report: LoadReport) -> State:
    """Return the state without the second model of SIM-CoT, which only training uses, and say so."""
    kept = {name: value for name, value in state.items() if not name.startswith(_TRAINING_ONLY)}
    if len(kept) < len(state):
        n = len(state) - len(kept)
        report.add("left out", f"{n} tensors of SIM-CoT's second model", "recognised", "only its training uses them")
    return kept


def _unwrapped(name: str) -> str:
    prefix = next((wrapper for wrapper in _WRAPPERS if name.startswith(wrapper)), "")
    return name.removeprefix(prefix).replace(".base_layer.", ".")


def _merged(state: State, alpha: float | None, file: Path) -> State:
    """Return the state with its low-rank adapters added to the weights: W + alpha / r * B A."""
    adapted = [match.group(1) for match in map(_LORA.match, state) if match]
    if adapted and alpha is None:
        raise UsageError(
            f"{file} holds low-rank adapters but not their scale; give load(..., lora_alpha=...) or --lora-alpha."
        )
    for path in adapted:
        down, up = state[f"{path}.lora_A.default.weight"].float(), state[f"{path}.lora_B.default.weight"].float()
        delta = (alpha or 0.0) / down.shape[0] * up @ down
        weight = state[f"{path}.weight"]
        # GPT-2 stores its weights transposed.
        state[f"{path}.weight"] = weight + (delta if delta.shape == weight.shape and "c_" not in path else delta.T)
    return {name: value for name, value in state.items() if ".lora_" not in name}


def _config(source: str | Path, state: State, *, has_base: bool) -> Any:
    from transformers import AutoConfig, GPT2Config

    if has_base or (Path(source) / "config.json").exists():
        with quiet():
            try:
                return AutoConfig.from_pretrained(source, trust_remote_code=False)
            except (OSError, ValueError) as error:
                raise UsageError(f"no configuration at {str(source)!r}: {str(error).splitlines()[0]}") from None
    if "transformer.wte.weight" not in state:
        raise UsageError(
            "only a GPT-2 can be read from a state dict alone; name the model it was trained from with base=."
        )
    width = state["transformer.wte.weight"].shape[1]
    if width % _HEAD_WIDTH:
        raise UsageError(
            f"a GPT-2 of width {width} does not have heads of {_HEAD_WIDTH}, and a state dict does not say how many; "
            "put a config.json beside it, or name the model it was trained from with base=."
        )
    layers = {int(name.split(".")[2]) for name in state if name.startswith("transformer.h.")}
    positions = state["transformer.wpe.weight"].shape[0]
    return GPT2Config(n_embd=width, n_layer=len(layers), n_head=width // _HEAD_WIDTH, n_positions=positions)


def _tokenizer(
    source: str | Path, added: tuple[str, ...], n_rows: int, file: Path, report: LoadReport
) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{file} holds no tokenizer, and there is none at {str(source)!r} ({str(error).splitlines()[0]}); "
                "name the model it was trained from with base=."
            ) from None
    if not all(token in tokenizer.get_vocab() for token in added):
        tokenizer.add_tokens(list(added), special_tokens=True)
        report.add("tokens", ", ".join(added), "recognised", "added in the order of the reference code")
    if len(tokenizer) > n_rows:
        raise UsageError(
            f"expected a tokenizer of at most {n_rows} tokens for {file}, got {len(tokenizer)} at {str(source)!r}; "
            "name the model it was trained from with base=."
        )
    return tokenizer


def _projection(state: State, d_model: int, model: Any) -> Projection:
    """Build CODI's projection from `prj`: dropout, linear, GELU, linear, and an optional layer norm."""
    names = {"1.": "inner.", "3.": "outer.", "ln.": "norm."}
    weights = {
        new + n.removeprefix(old): v.float()
        for n, v in state.items()
        for old, new in names.items()
        if n.startswith(old)
    }
    if "inner.weight" not in weights:
        raise StoreError(f"expected tensors prj.1 and prj.3 of CODI's projection, got {', '.join(sorted(state))}.")
    projection = Projection(d_model, weights["inner.weight"].shape[0], norm="norm.weight" in weights)
    if len(weights) != len(state):
        raise StoreError(f"expected only CODI's projection under prj., got {', '.join(sorted(state))}.")
    try:
        projection.load_state_dict(weights)
    except RuntimeError as error:
        raise StoreError(f"CODI's projection does not fit: {' '.join(str(error).split())[:200]}") from None
    return projection.to(model.get_input_embeddings().weight).requires_grad_(False)
