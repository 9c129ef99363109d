"""Reasoners: a model together with the way it thinks.

Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.runtime.lazy import lazy_exports

if TYPE_CHECKING:
    from interp.reasoners.base import Reasoner
    from interp.reasoners.config import ReasonerConfig
    from interp.reasoners.interventions import Intervention
    from interp.reasoners.monitor import Monitor
    from interp.reasoners.options import ThinkOptions
    from interp.reasoners.registry import REASONERS, curriculum_of, reasoner_class

__all__ = [
    "REASONERS",
    "Intervention",
    "Monitor",
    "Reasoner",
    "ReasonerConfig",
    "ThinkOptions",
    "curriculum_of",
    "reasoner_class",
]
_HOMES = {
    "REASONERS": "interp.reasoners.registry",
    "Intervention": "interp.reasoners.interventions",
    "Monitor": "interp.reasoners.monitor",
    "Reasoner": "interp.reasoners.base",
    "ReasonerConfig": "interp.reasoners.config",
    "ThinkOptions": "interp.reasoners.options",
    "curriculum_of": "interp.reasoners.registry",
    "reasoner_class": "interp.reasoners.registry",
}
__getattr__ = lazy_exports(__name__, _HOMES)
