"""Reading a model and its tokenizer from a folder or the hub: device, dtype, what is refused, and why."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import StoreError, UsageError
from interp.models.load import quiet
from interp.models.report import LoadReport

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def read_model(
    spec: str | Path, *, device: str, dtype: torch.dtype, allow_pickle: bool, loaded: LoadReport
) -> tuple[Any, PreTrainedTokenizerBase]:
    """A Hugging Face model and its tokenizer.

    Attention is eager, so that logits equal the reference implementation's. Weights kept as pickle are refused
    unless `allow_pickle` is given, and are read without running code even then. Code that a repository brings
    along is never run. Raises `UsageError` when there is no such model and `StoreError` when its files cannot be
    read.
    """
    folder = Path(spec)
    if not folder.exists() and (str(spec).startswith((".", "/", "~")) or "/" not in str(spec)):
        raise UsageError(f"{str(spec)!r} is neither a shipped organism nor a folder. See `cotlens organisms ls`.")
    if folder.is_dir() and not allow_pickle:
        _refuse_pickle(folder)
    cached = not folder.exists() and only_cached(str(spec))
    with quiet():
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(spec, local_files_only=cached)
            model: Any = AutoModelForCausalLM.from_pretrained(
                spec,
                dtype=dtype,
                attn_implementation="eager",
                use_safetensors=None if allow_pickle else True,
                local_files_only=cached,
            )
        except (OSError, ValueError, SafetensorError, RuntimeError, KeyError, ImportError) as error:
            raise _said(spec, error) from None
    loaded.add("architecture", type(model).__name__, "read")
    return model.to(device), tokenizer


@functools.cache
def only_cached(model: str) -> bool:
    """Whether a hub model has to come from the files that were fetched before, because the hub cannot be reached.

    Asked once, without the half minute in which the library would try again and again. Raises `UsageError` where
    there are no such files either.
    """
    import huggingface_hub as hub

    if hub.constants.HF_HUB_OFFLINE:
        return True
    try:
        hub.get_session().head(hub.constants.ENDPOINT, timeout=10)
        return False
    except Exception as error:  # whatever the HTTP library raises: there is no answer
        if isinstance(hub.try_to_load_from_cache(model, "config.json"), str):
            return True
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"cannot load a model from {model!r}: {hub.constants.ENDPOINT} cannot be reached ({why}), and the model was "
            "not fetched before. Is the network there? A folder on disk needs none."
        ) from None


def _said(spec: str | Path, error: Exception) -> StoreError | UsageError:
    """One line for what transformers says in many."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    there = Path(spec).exists()
    hint = ""
    if not there:
        import huggingface_hub.constants as hub

        hint = (
            " The hub is switched off (HF_HUB_OFFLINE); give a folder, or download the model first."
            if hub.HF_HUB_OFFLINE
            else ""
        )
    elif "custom code" in first or "trust_remote_code" in str(error):
        hint = " Code of a model's own is never run here; only architectures that transformers knows can be loaded."
    kind = StoreError if there else UsageError
    return kind(f"cannot load a model from {str(spec)!r}: {first}{hint}")


def _refuse_pickle(folder: Path) -> None:
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES and "training_args" not in p.name)
    if pickles and not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"{folder} keeps its weights as pickle ({pickles[0]}), which can run code when it is read. Convert them "
            "to safetensors, or say that you trust them: interp.load(..., allow_pickle=True), --allow-pickle."
        )


def first_not_finite(model: Any) -> str | None:
    """The name of the first parameter that holds NaN or infinity, or None."""
    import torch

    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            return name
    return None


def choose_device(asked: str | None, loaded: LoadReport) -> str:
    """The device asked for, else a CUDA device where there is one. Raises `UsageError` on one that is not there."""
    import torch

    if asked is not None:
        try:
            torch.zeros(1, device=asked)
        except (RuntimeError, AssertionError) as error:
            first = str(error).splitlines()[0]
            raise UsageError(f"device {asked!r} cannot be used here: {first}") from None
        loaded.add("device", asked, "given")
        return asked
    found = "cuda" if torch.cuda.is_available() else "cpu"
    loaded.add("device", found, "chosen", "a CUDA device was found" if found == "cuda" else "no CUDA device was found")
    return found


def choose_dtype(asked: Any, device: str, own: Any, loaded: LoadReport) -> torch.dtype:
    """The dtype asked for; else float32 on the CPU and for organisms, and the model's `own` on an accelerator."""
    import torch

    if asked is not None:
        found = getattr(torch, asked, None) if isinstance(asked, str) else asked
        if found not in (torch.float32, torch.float16, torch.bfloat16):
            raise UsageError(f"dtype is float32, float16 or bfloat16, but {asked!r} came.")
        loaded.add("dtype", str(found).removeprefix("torch."), "given")
        return found
    stored = getattr(torch, own, None) if isinstance(own, str) else own
    if device == "cpu" or stored not in (torch.float16, torch.bfloat16):
        note = f"stored as {str(stored).removeprefix('torch.')}" if stored is not None else ""
        loaded.add("dtype", "float32", "chosen", note)
        return torch.float32
    loaded.add("dtype", str(stored).removeprefix("torch."), "read")
    return stored
