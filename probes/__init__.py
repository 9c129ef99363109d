"""What is linearly there: probes, the sweep over addresses and places, and the controls that come with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.estimators import LogisticProbe, RidgeProbe
    from probes.results import Sweep
    from probes.sweeping import sweep

__all__ = ["LogisticProbe", "RidgeProbe", "Sweep", "sweep"]
_HOMES = {
    "LogisticProbe": "probes.estimators",
    "RidgeProbe": "probes.estimators",
    "Sweep": "probes.results",
    "sweep": "probes.sweeping",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'probes' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
