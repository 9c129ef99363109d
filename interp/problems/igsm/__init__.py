"""Task `igsm`: dependency-graph arithmetic in words, with the labels of Physics of Language Models 2.1."""

from __future__ import annotations

from interp.problems.igsm.checking import ARITHMETIC, NOT_NEXT, CheckedStep, check_steps
from interp.problems.igsm.drill import IGSMDrillTask
from interp.problems.igsm.surface import SURFACE, surface
from interp.problems.igsm.task import IGSMTask

__all__ = ["ARITHMETIC", "NOT_NEXT", "SURFACE", "CheckedStep", "IGSMDrillTask", "IGSMTask", "check_steps", "surface"]
