"""What is linearly there: probes, the sweep over addresses and places, and the controls that come with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.attention import AttentionProbe
    from probes.estimators import LogisticProbe, RidgeProbe
    from probes.generative import LDAProbe, MassMeanProbe
    from probes.mlp import MLPProbe
    from probes.results import Sweep
    from probes.saved import SavedProbe, load_probe, save_probe
    from probes.step_embedding import StepEmbeddingProbe
    from probes.sweeping import sweep

__all__ = [
    "AttentionProbe",
    "LDAProbe",
    "LogisticProbe",
    "MLPProbe",
    "MassMeanProbe",
    "RidgeProbe",
    "SavedProbe",
    "StepEmbeddingProbe",
    "Sweep",
    "load_probe",
    "save_probe",
    "sweep",
]
_HOMES = {
    "AttentionProbe": "probes.attention",
    "LDAProbe": "probes.generative",
    "LogisticProbe": "probes.estimators",
    "MLPProbe": "probes.mlp",
    "MassMeanProbe": "probes.generative",
    "RidgeProbe": "probes.estimators",
    "SavedProbe": "probes.saved",
    "StepEmbeddingProbe": "probes.step_embedding",
    "Sweep": "probes.results",
    "load_probe": "probes.saved",
    "save_probe": "probes.saved",
    "sweep": "probes.sweeping",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'probes' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
