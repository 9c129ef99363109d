"""The weights of a Hugging Face model: all of them come from its files, and all tensors of the files are used.

transformers fills what a file lacks with random numbers and leaves out what it does not know, with a warning at most.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import StoreError
from interp.models.quantised import (
    Quantisation,
    check_pieces,
    dequantised,
    dequantising_config,
    quantisation_of,
    restored,
)
from interp.models.report import LoadReport

if TYPE_CHECKING:
    import torch

# Modules that training wraps around a model or its parts: torch.compile, FSDP and activation checkpoints.
_WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# What DataParallel and PEFT put before every name.
_OUTER = re.compile(r"^(?:module|base_model\.model)\.")
# Buffers that older versions wrote and that a model computes itself.
HARMLESS = re.compile(r"(?:rotary_emb\.inv_freq|(?:attn|attention)\.(?:bias|masked_bias)|(?:^|\.)position_ids)$")
_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_MAX_LISTED = 8


def plain_name(name: str) -> str:
    """Return the name of a tensor without what training puts around it: `module._orig_mod.lm_head.weight`."""
    name = _WRAPPERS.sub("", name)
    while (stripped := _OUTER.sub("", name)) != name:
        name = stripped
    return name


def read_weights(spec: str | Path, report: LoadReport, *, strip_prefixes: bool = False, **options: Any) -> Any:
    """Read a causal language model whose weights are those of its files, all of them and nothing else.

    Args:
        spec: A folder, or the id of a model on the hub.
        report: Receives the prefixes that were taken off, and how the weights were compared with the files.
        strip_prefixes: Whether prefixes that training puts before the names are taken off. Else they are refused.
        **options: Options of `AutoModelForCausalLM.from_pretrained`.

    Returns:
        The model, on the CPU and in evaluation mode.

    Raises:
        StoreError: The files lack a tensor of the model, hold one that it has no place for or one of another shape, or
            the model's values are not the files'.
    """
    from transformers import AutoModelForCausalLM

    is_gguf = options.get("gguf_file") is not None
    local = {"local_files_only": options.get("local_files_only", False)}
    quantisation = None if is_gguf else quantisation_of(spec, **local)
    if quantisation is not None:
        options = options | {"config": dequantising_config(spec, quantisation, **local)}
        if Path(spec).is_dir():  # the library's own message about a missing piece names none
            _quantised_weights(_weight_files(Path(spec), None), quantisation)

    def read(**more: Any) -> tuple[Any, Mapping[str, Any]]:
        try:
            answer: Any = AutoModelForCausalLM.from_pretrained(
                spec, output_loading_info=True, ignore_mismatched_sizes=True, trust_remote_code=False, **options, **more
            )
        except (ImportError, RuntimeError, ValueError) as error:
            if quantisation is None:
                raise
            raise quantisation.error(error) from None
        return answer

    model, info = read()
    prefixes = _prefixes(info["unexpected_keys"])
    renamings = {}
    if prefixes:
        prefixed = [name for name in info["unexpected_keys"] if plain_name(name) != name]
        if not strip_prefixes and info["missing_keys"]:  # else a tensor is there twice, which is refused below
            _refuse_prefixes(spec, prefixes, prefixed, info["missing_keys"])
        renamings = _renamings(info["unexpected_keys"])
        model, info = read(key_mapping=renamings)
        note = f"taken off the names of {len(prefixed)} tensors of the file, which training had wrapped"
        report.add("prefixes", ", ".join(prefixes), "assumed", note)
    _refuse_gaps(spec, type(model).__name__, info)
    if quantisation is not None:
        model = dequantised(model, quantisation)
    if is_gguf:
        model.is_quantized = False  # its reader has dequantised it, and may now be cast as any other
        note = "every tensor of the model came from the file; its values are transformers' own reading of it"
        report.add("weights", f"dequantised from {options['gguf_file']}", "read", note)
    else:
        _compare(spec, model, renamings, report, quantisation)
    return model


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return the known prefixes that some names have, sorted."""
    prefixes: set[str] = set()
    for name in names:
        prefixes |= set(_WRAPPERS.findall(name))
        name = _WRAPPERS.sub("", name)
        while outer := _OUTER.match(name):
            prefixes.add(outer.group())
            name = name[outer.end() :]
    return sorted(prefixes)


def _refuse_prefixes(
    spec: str | Path, prefixes: Sequence[str], prefixed: Sequence[str], missing: Iterable[str]
) -> None:
    """Raise `StoreError` where only names without prefixes are those of the model, and say how it can be loaded."""
    lacking = sorted(missing)
    found = ", ".join(repr(prefix) for prefix in prefixes)
    raise StoreError(
        f"expected the weights of {str(spec)!r} under the names of the model, got {len(prefixed)} tensors with the prefix "
        f"{found}, which training puts around a model. {_listed(lacking, 'missing')}. Do this: take the prefix off with "
        "interp.load(..., strip_prefixes=True), or write the model anew without it: cotlens models convert MODEL --out FOLDER."
    )


def _renamings(names: Iterable[str]) -> dict[str, str]:
    """Return a `key_mapping` of transformers that makes plain names.

    Each of its patterns takes off one occurrence, so there is one for each occurrence, told apart by an empty group.
    """
    inner, outer = 0, 0
    for name in names:
        inner = max(inner, len(_WRAPPERS.findall(name)))
        name, count = _WRAPPERS.sub("", name), 0
        while (stripped := _OUTER.sub("", name)) != name:
            name, count = stripped, count + 1
        outer = max(outer, count)
    patterns = [(_WRAPPERS.pattern, inner), (_OUTER.pattern, outer)]
    return {"(?:)" * k + pattern: "" for pattern, n in patterns for k in range(n)}


def _refuse_gaps(spec: str | Path, model: str, info: Mapping[str, Any]) -> None:
    missing = sorted(info["missing_keys"])
    unused = sorted(name for name in info["unexpected_keys"] if not HARMLESS.search(name))
    misshapen = [
        f"{name} ({_shape(stored)} in the file, {_shape(expected)} by the configuration)"
        for name, stored, expected in sorted(info["mismatched_keys"])
    ]
    refuse_gaps(f"the weights of {str(spec)!r}", model, missing, unused, misshapen)


def refuse_gaps(
    what: str, model: str, missing: Sequence[str], unused: Sequence[str], misshapen: Sequence[str] = ()
) -> None:
    """Raise `StoreError` where weights do not fit a model.

    Args:
        what: The weights, for the message.
        model: The class of the model.
        missing: Names of tensors that the model needs and the files lack.
        unused: Names of tensors of the files that the model has no place for.
        misshapen: Names of tensors that have another shape than the model's.
    """
    parts = [
        _listed(names, label)
        for names, label in ((missing, "missing"), (unused, "without a place in it"), (misshapen, "of another shape"))
        if names
    ]
    if parts:
        hint = (
            "they are low-rank adapters, so merge them into the model, or save them as an adapter folder with PEFT"
            if any("lora_" in name for name in unused) and not what.startswith("the adapter")
            else "save it again with save_pretrained, or correct its config.json"
        )
        raise StoreError(f"expected {what} to be those of {model}, got tensors {'; '.join(parts)}. Do this: {hint}.")


def _listed(names: Sequence[str], label: str) -> str:
    more = f", and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"{len(names)} {label}: {', '.join(names[:_MAX_LISTED])}{more}"


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "a number"


def _compare(
    spec: str | Path,
    model: Any,
    renamings: Mapping[str, str],
    report: LoadReport,
    quantisation: Quantisation | None = None,
) -> None:
    """Compare each tensor of the files with the model's, and report a hash of what was compared."""
    files = _weight_files(_folder(spec), getattr(model.config, "transformers_weights", None))
    stored = _stored(files)
    if quantisation is not None:
        n = _quantised_weights(files, quantisation)
        dtype = str(model.dtype).removeprefix("torch.")
        report.add("quantisation", f"{quantisation.method}, {n} weights dequantised to {dtype}", "read")
        stored = restored(stored)
    if not files or (quantisation is not None and not quantisation.by_blocks):
        note = "every weight has its scale" if files else "they are in another form"
        report.add("weights", "not compared with the files", "unknown", note)
        return
    held, prefix = _as_stored(model, renamings), f"{model.base_model_prefix}."
    digest, compared = hashlib.sha256(), set()
    seen: dict[str, str] = {}
    differing, unused, integers = [], [], []
    for stored_name, read in sorted(stored, key=lambda item: item[0]):
        name = plain_name(stored_name)
        if name in seen:
            raise StoreError(
                f"expected one tensor of each name in the weights of {str(spec)!r}, got two of {name}: "
                f"{seen[name]} and {stored_name}; remove one of them."
            )
        seen[name] = stored_name
        own = next((n for n in (name, prefix + name, name.removeprefix(prefix)) if n in held), None)
        if own is None:
            unused.append(name)
            continue
        compared.add(own)
        value = read()
        if held[own].is_floating_point() and not value.is_floating_point():
            integers.append(name)
        elif not same_values(value, held[own]):
            differing.append(name)
        digest.update(own.encode())
        digest.update(_bytes(held[own]))
    if integers:
        raise StoreError(
            f"expected weights of {str(spec)!r} that are real numbers, got integers in {len(integers)} tensors: "
            f"{', '.join(integers[:_MAX_LISTED])}. They are quantised, and config.json has no quantization_config that says "
            "how; save the model again with its quantisation, or unquantised."
        )
    if differing:
        raise StoreError(
            f"expected the model to hold the weights of {str(spec)!r}, got other values in {len(differing)} tensors: "
            f"{', '.join(differing[:_MAX_LISTED])}. Save it again with save_pretrained."
        )
    notes = ["equal to the files'"]
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    if converted := sorted(held.keys() - compared - tied):
        notes.append(f"{len(converted)} are made of several and were not compared ({converted[0]})")
    if getattr(model.config.get_text_config(), "tie_word_embeddings", False) and not _is_tied(model):
        notes.append("the files' output embedding differs from the input embedding, though the configuration ties them")
    if unused:
        notes.append(f"{len(unused)} of the files are not needed ({unused[0]})")
    report.add(
        "weights",
        f"{len(compared)} tensors, hash of the files' values {digest.hexdigest()[:16]}",
        "checked",
        "; ".join(notes),
    )


def _is_tied(model: Any) -> bool:
    output = model.get_output_embeddings()
    return output is None or output.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


def _quantised_weights(files: Iterable[Path], quantisation: Quantisation) -> int:
    """Return how many weights in some files are quantised; each of them has its scale."""
    return check_pieces([(plain_name(name), str(read().dtype)) for name, read in _stored(files)], quantisation)


def _as_stored(model: Any, renamings: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Return the tensors of a model as its files name them. What transformers has fused is taken apart again."""
    from transformers.core_model_loading import revert_weight_conversion

    conversions = getattr(model, "_weight_conversions", None) or []
    kept = [conversion for conversion in conversions if not set(conversion.source_patterns) & renamings.keys()]
    model._weight_conversions = kept or None  # saving the model does not put prefixes back
    return revert_weight_conversion(model, dict(model.state_dict()))


def same_values(stored: torch.Tensor, held: torch.Tensor) -> bool:
    """Return whether a stored tensor, rounded to the dtype of the model's, equals it. NaN equals NaN."""
    import torch

    stored, held = stored.to(held.dtype), held.to("cpu")
    if stored.shape != held.shape or torch.equal(stored, held):
        return stored.shape == held.shape
    return held.is_floating_point() and bool(((stored == held) | (stored.isnan() & held.isnan())).all())


def _bytes(value: torch.Tensor) -> bytes:
    import torch

    return value.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _stored(files: Iterable[Path]) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    """Yield the name of each tensor in some files, and a function that reads it."""
    import torch
    from safetensors import safe_open

    for file in files:
        if file.suffix == ".safetensors":
            opened = safe_open(file, framework="pt")
            for name in opened.keys():  # noqa: SIM118 (not a mapping)
                yield name, partial(opened.get_tensor, name)
        else:
            for name, tensor in torch.load(file, map_location="cpu", weights_only=True, mmap=True).items():
                yield name, partial(tensor.detach)


def _folder(spec: str | Path) -> Path:
    """Return the folder of a model; for one of the hub, that of its copy in the cache."""
    if Path(spec).exists():
        return Path(spec)
    from transformers.utils import cached_file

    return Path(str(cached_file(str(spec), "config.json", local_files_only=True))).parent


def _weight_files(folder: Path, named: str | None) -> list[Path]:
    """Return the files that transformers reads the weights from; of several forms the first that is there."""
    names = [*([] if named is None else [named]), *_FILES]
    file = next((folder / name for name in names if (folder / name).exists()), None)
    if file is None or file.suffix != ".json":
        return [] if file is None else [file]
    index = json.loads(file.read_text(encoding="utf-8"))
    return [folder / name for name in sorted(set(index["weight_map"].values()))]
