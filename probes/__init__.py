"""Probes: estimators, sweeps over addresses and places, and the controls of every score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.runtime.lazy import lazy_exports

if TYPE_CHECKING:
    from probes.estimators.attention import AttentionProbe
    from probes.estimators.base import LinearProbe, Probe
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
    "LinearProbe",
    "LogisticProbe",
    "MLPProbe",
    "MassMeanProbe",
    "Probe",
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
    "LinearProbe": "probes.estimators.base",
    "LogisticProbe": "probes.estimators.linear",
    "MLPProbe": "probes.estimators.mlp",
    "MassMeanProbe": "probes.estimators.class_means",
    "Probe": "probes.estimators.base",
    "RidgeProbe": "probes.estimators.linear",
    "SavedProbe": "probes.estimators.saved",
    "StepEmbeddingProbe": "probes.estimators.step_embedding",
    "Sweep": "probes.sweeps.results",
    "load_probe": "probes.estimators.saved",
    "save_probe": "probes.estimators.saved",
    "sweep": "probes.sweeps.run",
}
__getattr__ = lazy_exports(__name__, _HOMES)
