"""Reading a Hugging Face model and its tokenizer from a folder or the hub."""

from __future__ import annotations

import contextlib
import functools
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import CotlensError, StoreError, UsageError
from interp.models.report import LoadReport
from interp.models.weights import read_weights
from interp.models.wrapping import quiet, unsupported

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def read_model(
    spec: str | Path,
    *,
    device: str,
    dtype: torch.dtype,
    allow_pickle: bool,
    report: LoadReport,
    gguf_file: str | None = None,
    strip_prefixes: bool = False,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Read a Hugging Face model and its tokenizer.

    Attention is eager, so that logits equal those of the reference implementation. Code in a model's repository is
    never run.

    Args:
        spec: A folder, or the id of a model on the hub.
        device: Device of the model.
        dtype: Dtype of the model.
        allow_pickle: Whether weights in pickle files are accepted. Reading them runs no code.
        report: Receives the architecture, and how the weights were compared with the files.
        gguf_file: Name of a GGUF file in the folder or repository, which is read instead.
        strip_prefixes: Whether prefixes that training puts before the names of tensors are taken off.

    Raises:
        UsageError: There is no such model, or its weights are pickle files and `allow_pickle` is False.
        StoreError: The model's files cannot be read, lack a tensor of the model or hold others, or its tokenizer has
            more tokens than it has embeddings.
    """
    folder = Path(spec)
    if not folder.exists() and (str(spec).startswith((".", "/", "~")) or "/" not in str(spec)):
        raise UsageError(
            f"{str(spec)!r} is neither a shipped organism nor a folder. See `cotlens organisms ls` and `cotlens models ls`."
        )
    if folder.exists() and gguf_file is None:
        _refuse_without_config(folder)
    if folder.is_dir() and not allow_pickle and gguf_file is None:
        _refuse_pickle(folder)
    cached = not folder.exists() and only_cached(str(spec))
    # The reader of GGUF files shows a progress bar that no setting switches off.
    silent = contextlib.nullcontext() if gguf_file is None else contextlib.redirect_stderr(io.StringIO())
    with quiet(), silent:
        from transformers import AutoTokenizer

        weights_report = LoadReport()
        in_file = {} if gguf_file is None else {"gguf_file": gguf_file}
        try:
            tokenizer = AutoTokenizer.from_pretrained(spec, local_files_only=cached, trust_remote_code=False, **in_file)
            model = read_weights(
                spec,
                weights_report,
                strip_prefixes=strip_prefixes,
                dtype=dtype,
                attn_implementation="eager",
                use_safetensors=None if allow_pickle or in_file else True,
                local_files_only=cached,
                **in_file,
            )
        except CotlensError:
            raise
        except Exception as error:  # the library raises many classes for a file that it cannot read
            raise _load_error(spec, error) from None
    report.add("architecture", type(model).__name__, "read")
    report.findings += weights_report.findings
    check_sizes(spec, model, tokenizer)
    return model.to(device), tokenizer


def check_sizes(spec: str | Path, model: Any, tokenizer: Any) -> None:
    """Check that a model has an embedding for every token of its tokenizer.

    A token that only fills cells which are masked, the padding token, may be without one, and so may the token for
    unknown text: tokenizers of bytes never write it, and some classes add it to any vocabulary.

    Args:
        spec: The model's folder or id, for the message.
        model: The model.
        tokenizer: Its tokenizer.

    Raises:
        StoreError: It has not.
    """
    n_rows = model.get_input_embeddings().weight.shape[0]
    unread = (tokenizer.pad_token_id, tokenizer.unk_token_id)
    beyond = sorted((i, token) for token, i in tokenizer.get_vocab().items() if i >= n_rows and i not in unread)
    if beyond:
        listed = ", ".join(f"{token!r} ({i})" for i, token in beyond[:5])
        raise StoreError(
            f"expected a tokenizer of at most {n_rows} tokens, as {str(spec)!r} has embeddings, got {len(beyond)} tokens "
            f"without one: {listed}. The tokenizer and the weights are of two models; take both from one."
        )


@functools.cache
def only_cached(model: str) -> bool:
    """Return whether a hub model must come from the local cache, because the hub cannot be reached.

    The hub is tried once for each model; the library itself would retry for half a minute.

    Raises:
        UsageError: The hub cannot be reached, and the model is not in the cache.
    """
    import huggingface_hub as hub

    if hub.constants.HF_HUB_OFFLINE:
        return True
    try:
        hub.get_session().head(hub.constants.ENDPOINT, timeout=10)
        return False
    except Exception as error:  # the HTTP library raises many classes
        if isinstance(hub.try_to_load_from_cache(model, "config.json"), str):
            return True
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"cannot load a model from {model!r}: {hub.constants.ENDPOINT} cannot be reached ({reason}), and the "
            "model is not in the local cache. Check the network, or give a folder on disk."
        ) from None


def _load_error(spec: str | Path, error: Exception) -> StoreError | UsageError:
    """Return an error of one line for what transformers reports in many."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    unknown = re.search(r"Unrecognized configuration class <class '[\w.]*?(\w+?)(?:Config)?'>", first)
    if unknown:
        return unsupported(unknown[1], "it is no causal language model of transformers")
    unknown = re.search(r"has model type `([^`]+)` but Transformers does not recognize", first)
    if unknown:
        import transformers

        return unsupported(unknown[1], f"transformers {transformers.__version__} does not know it; a newer one may")
    is_folder = Path(spec).exists()
    hint = ""
    if not is_folder:
        import huggingface_hub.constants as hub

        hint = (
            " The hub is switched off (HF_HUB_OFFLINE); give a folder, or download the model first."
            if hub.HF_HUB_OFFLINE
            else ""
        )
    elif "custom code" in first or "trust_remote_code" in str(error):
        hint = " Code in a model's repository is never run; only architectures that transformers knows can be loaded."
    error_class = StoreError if is_folder else UsageError
    return error_class(f"cannot load a model from {str(spec)!r}: {first}{hint}")


def _refuse_without_config(folder: Path) -> None:
    """Raise `StoreError` where a path cannot be a model's folder: the library then speaks of tokenizers."""
    if (folder / "config.json").exists():
        return
    inside = sorted(entry.name for entry in folder.iterdir())[:5] if folder.is_dir() else []
    got = "a file" if folder.is_file() else f"one with {', '.join(inside)}" if inside else "an empty one"
    raise StoreError(
        f"cannot load a model from {str(folder)!r}: expected a folder with config.json, weights and a tokenizer, as "
        f"`save_pretrained` writes it, or a GGUF file, got {got}."
    )


def _refuse_pickle(folder: Path) -> None:
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES and "training_args" not in p.name)
    if pickles and not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"expected weights as safetensors in {folder}, got pickle ({pickles[0]}), which can run code when it is read; "
            "convert them, or trust them with load(..., allow_pickle=True) or --allow-pickle."
        )


def first_nonfinite(model: Any) -> str | None:
    """Return the name of the first parameter that holds NaN or infinity, or None."""
    import torch

    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            return name
    return None
