"""What is linearly there: probes, the sweep over addresses and places, and the controls that come with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.estimators import RidgeProbe
    from probes.sweeping import Sweep, sweep

__all__ = ["RidgeProbe", "Sweep", "sweep"]
_HOMES = {"RidgeProbe": "probes.estimators", "Sweep": "probes.sweeping", "sweep": "probes.sweeping"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'probes' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
