"""What is linearly there: probes, the sweep over addresses and places, and the controls that come with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.estimators.attention import AttentionProbe
    from probes.estimators.class_means import LDAProbe, MassMeanProbe
    from probes.estimators.linear import LogisticProbe, RidgeProbe
    from probes.estimators.mlp import MLPProbe
    from probes.estimators.saved import SavedProbe, load_probe, save_probe
    from probes.estimators.step_embedding import StepEmbeddingProbe
    from probes.sweeps.results import Sweep
    from probes.sweeps.run import sweep

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
    "AttentionProbe": "probes.estimators.attention",
    "LDAProbe": "probes.estimators.class_means",
    "LogisticProbe": "probes.estimators.linear",
    "MLPProbe": "probes.estimators.mlp",
    "MassMeanProbe": "probes.estimators.class_means",
    "RidgeProbe": "probes.estimators.linear",
    "SavedProbe": "probes.estimators.saved",
    "StepEmbeddingProbe": "probes.estimators.step_embedding",
    "Sweep": "probes.sweeps.results",
    "load_probe": "probes.estimators.saved",
    "save_probe": "probes.estimators.saved",
    "sweep": "probes.sweeps.run",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'probes' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
