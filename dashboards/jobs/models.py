"""Models that a job can be started with: those of what was found, fetched models, and shipped organisms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from dashboards.artifacts.finding import Artifact
from dashboards.artifacts.trace_file import TraceFile
from dashboards.run_info import read_info
from interp.activations import Store
from interp.errors import CotlensError
from interp.loading.named_models import NAMED_MODELS, is_fetched
from interp.organisms.catalog import recipe, shipped

_LOOKED_AT = 200  # runs, stores and files of traces whose model is read, the first ones


def known_models(artifacts: Iterable[Artifact], roots: Sequence[Path]) -> dict[str, str]:
    """Return the models that a form offers, each with where it is from, in the order of the list.

    Args:
        artifacts: What was found.
        roots: Files and folders that jobs may read; a model in a folder outside of them is left out.
    """
    models: dict[str, str] = {}
    able = [item for item in artifacts if item.kind in ("run", "store", "traces") and not item.part_of]
    for item in able[:_LOOKED_AT]:
        name = model_of(item)
        if name and name not in models and _may_be_read(name, roots):
            models[name] = f"model of {item.name}"
    for name in NAMED_MODELS:
        if is_fetched(name):
            models.setdefault(name, "fetched model")
    for name in shipped():
        base = recipe(name).base
        if base is None or is_fetched(base):
            models.setdefault(name, "shipped organism")
    return models


def model_of(item: Artifact) -> str:
    """Return what loads the model of a run, a store or a file of traces; empty where that is not known."""
    try:
        if item.kind == "run":
            info = read_info(item.path)
            return str(info.get("model") or info.get("organism") or "")
        if item.kind == "store":
            return str((Store(item.path).meta.get("origin") or {}).get("source") or "")
        return TraceFile(item.path).reasoner
    except (CotlensError, OSError, ValueError):
        return ""


def _may_be_read(name: str, roots: Sequence[Path]) -> bool:
    """Return whether a model is a name, or a path below the roots, that can be written in a form."""
    if not name.isprintable() or name.startswith("~") or "://" in name:
        return False
    if not name.startswith(("/", ".")):
        return True
    return any(Path(name).resolve().is_relative_to(root) for root in roots)
