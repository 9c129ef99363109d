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
    from probes.trajectories.confabulation import Confabulation, confabulation
    from probes.trajectories.results import TrajectoryResult
    from probes.trajectories.run import trajectory
    from probes.trajectories.steering import TrajectorySteering, steer_trajectory

__all__ = [
    "AttentionProbe",
    "Confabulation",
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
    "TrajectoryResult",
    "TrajectorySteering",
    "confabulation",
    "load_probe",
    "save_probe",
    "steer_trajectory",
    "sweep",
    "trajectory",
]
_HOMES = {
    "AttentionProbe": "probes.estimators.attention",
    "Confabulation": "probes.trajectories.confabulation",
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
    "TrajectoryResult": "probes.trajectories.results",
    "TrajectorySteering": "probes.trajectories.steering",
    "confabulation": "probes.trajectories.confabulation",
    "load_probe": "probes.estimators.saved",
    "save_probe": "probes.estimators.saved",
    "steer_trajectory": "probes.trajectories.steering",
    "sweep": "probes.sweeps.run",
    "trajectory": "probes.trajectories.run",
}
__getattr__ = lazy_exports(__name__, _HOMES)
