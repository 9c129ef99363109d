"""Where a model comes from: what the argument of `load` names, and reading its model and tokenizer."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import CotlensError, UsageError
from interp.loading.adapters import Adapter, add_adapter, find_adapter
from interp.loading.gguf import GgufFile, gguf_file
from interp.loading.latent_checkpoints import checkpoint_file
from interp.loading.named_models import CONVERSION, NAMED_MODELS, named_model_source
from interp.models.reading import check_sizes, only_cached, read_model
from interp.models.report import LoadReport
from interp.models.wrapping import quiet
from interp.organisms.catalog import recipes, weights_folder
from interp.reasoners.config import ReasonerConfig
from interp.runtime.written import MODEL, kind_in_words


@dataclass(frozen=True)
class Source:
    """What the argument of `load` names. At most one of `adapter`, `gguf` and `checkpoint` is given.

    Attributes:
        name: The argument.
        path: The folder of the model, its file, or its hub id.
        shipped: Whether it is a shipped organism.
        config: The content of its `reasoner.json`, or None.
        adapter: Its adapter.
        gguf: Its GGUF file.
        checkpoint: Its state dict in the form of Coconut's or CODI's code.
        base: The base model of its adapter.
    """

    name: str
    path: str | Path
    shipped: bool = False
    config: ReasonerConfig | None = None
    adapter: Adapter | None = None
    gguf: GgufFile | None = None
    checkpoint: Path | None = None
    base: Source | None = None

    @property
    def folder(self) -> Path:
        """The folder that a projection lies in."""
        return Path(self.path)

    def check_options(self, *, base: str | Path | None, lora_alpha: float | None) -> None:
        """Raise `UsageError` where an option is given that would have no effect."""
        if lora_alpha is not None and self.checkpoint is None:
            reason = "adapter_config.json gives it" if self.adapter else "there are none"
            raise UsageError(
                "expected the scale of low-rank adapters (lora_alpha) only with a state dict of Coconut or CODI, got it "
                f"with {self.name!r}, where {reason}; leave it out."
            )
        if base is not None and self.checkpoint is None and self.adapter is None:
            raise UsageError(
                f"expected base only with an adapter or a state dict, got it with {self.name!r}, which is a whole model; "
                "leave it out."
            )


def locate(spec: str | Path, base: str | Path | None = None) -> Source:
    """Return what a model is given by.

    Args:
        spec: What `interp.load` was given.
        base: The base of an adapter, where it is not the one that the adapter names.

    Raises:
        UsageError: The model has to be fetched or trained first, its files are of two kinds, or it is a store, traces or
            something else that this toolkit wrote.
    """
    name = str(spec)
    shipped = name in recipes()
    path = weights_folder(name) if shipped else named_model_source(name) if name in NAMED_MODELS else spec
    _refuse_other_kinds(path)
    adapter = find_adapter(path)
    if adapter is not None:
        base_source = _base_of(adapter, base, shipped)
        config = ReasonerConfig.read(adapter.folder) or base_source.config
        return Source(name, adapter.folder, shipped, config, adapter=adapter, base=base_source)
    gguf = None if shipped else gguf_file(path)
    if gguf is None:
        _refuse_unknown_name(path)
    path = path if gguf is None else gguf.source
    config = ReasonerConfig.read(Path(path)) if Path(path).is_dir() else None
    checkpoint = None if shipped or config is not None or gguf is not None else checkpoint_file(path)
    return Source(name, path, shipped, config, gguf=gguf, checkpoint=checkpoint)


def _refuse_unknown_name(path: str | Path) -> None:
    """Raise `UsageError` where a name is neither of a model nor a path, with the closest known name."""
    name = str(path)
    if "/" in name or name.startswith((".", "~")) or Path(path).exists():
        return
    close = difflib.get_close_matches(name, [*recipes(), *NAMED_MODELS], n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise UsageError(
        f"{name!r} is neither a shipped organism nor a folder{hint} See `cotlens organisms ls` and `cotlens models ls`. "
        "A model on the hub is named with its owner, OWNER/NAME."
    )


def _refuse_other_kinds(path: str | Path) -> None:
    kind = kind_in_words(str(path))
    if kind not in ("", MODEL):
        raise UsageError(
            f"expected a model (an organism, a folder or a hub id), got {str(path)!r}, which is {kind}; name the model that "
            "it was made with, or see `--help` for the option that takes it."
        )


def _base_of(adapter: Adapter, base: str | Path | None, shipped: bool) -> Source:
    """Return the base of an adapter: the given one, else the one that the adapter names."""
    named = base if base is not None else adapter.base
    if named is None:
        raise UsageError(f"the adapter in {adapter.folder} does not name its base model; name it with base=.")
    try:
        source = locate(named)
    except CotlensError as error:
        raise error if shipped else _base_error(adapter, named, error) from None
    if source.checkpoint is not None:
        raise UsageError(
            f"expected a whole model as the base of the adapter in {adapter.folder}, got a state dict at {named!s}."
        )
    return source


def _base_error(adapter: Adapter, base: str | Path, error: CotlensError) -> CotlensError:
    return type(error)(f"the base {str(base)!r} of the adapter in {adapter.folder} cannot be loaded: {error}")


def read_source(
    source: Source, *, device: str, dtype: Any, allow_pickle: bool, report: LoadReport, strip_prefixes: bool = False
) -> tuple[Any, Any]:
    """Read a model and its tokenizer; an adapter is added to its base, in float32.

    Args:
        source: The model, which is no bare state dict.
        device: Device of the model.
        dtype: Dtype of the model.
        allow_pickle: Whether weights in pickle files are accepted.
        report: Receives what was found.
        strip_prefixes: Whether prefixes that training puts before the names of tensors are taken off.

    Raises:
        UsageError: There is no such model or base, or its weights are pickle files and `allow_pickle` is False.
        StoreError: The files do not hold all weights of the model and no others.
    """
    import torch

    if source.adapter is None or source.base is None:
        gguf_name = None if source.gguf is None else source.gguf.name
        conversion = Path(source.path) / CONVERSION
        if conversion.is_file():
            about = json.loads(conversion.read_text(encoding="utf-8"))
            note = "the same hash of weights, compared when it was converted"
            if "prefixes" in about:
                note += f"; {about['prefixes']} taken off the names of its tensors then"
            report.add("converted", f"from {about.get('source')}", "read", note)
        return read_model(
            source.path,
            device=device,
            dtype=dtype,
            allow_pickle=allow_pickle,
            report=report,
            gguf_file=gguf_name,
            strip_prefixes=strip_prefixes,
        )
    adapter, base = source.adapter, source.base
    trust: dict[str, bool] = {"allow_pickle": allow_pickle, "strip_prefixes": strip_prefixes}
    try:
        read = read_source(base, device="cpu", dtype=torch.float32, report=report, **trust)
    except CotlensError as error:
        raise error if source.shipped else _base_error(adapter, base.name, error) from None
    report.add("base", base.name, "read" if base.name == adapter.base else "given")
    model, tokenizer = add_adapter(adapter, *read, allow_pickle=allow_pickle, report=report)
    check_sizes(source.path, model, tokenizer)
    return model.to(device=device, dtype=dtype), tokenizer


def stored_dtype(source: Source) -> Any:
    """Return the dtype that a model, or an adapter's base, is stored in; None where it cannot be read.

    None too for organisms, GGUF files and state dicts, which are computed in the default dtype.
    """
    if source.base is not None and not source.shipped:
        return stored_dtype(source.base)
    if source.shipped or source.config is not None or source.gguf is not None or source.checkpoint is not None:
        return None
    return _dtype_in_config(source.path)


def _dtype_in_config(path: str | Path) -> Any:
    from transformers import AutoConfig

    is_folder = Path(path).exists()
    if not is_folder and "/" not in str(path):
        return None
    with quiet():
        try:
            config = AutoConfig.from_pretrained(
                path, local_files_only=not is_folder and only_cached(str(path)), trust_remote_code=False
            )
        except UsageError:
            raise
        except Exception:  # read_model meets the same error and explains it
            return None
    return getattr(config.get_text_config(), "dtype", None) or getattr(config, "dtype", None)
