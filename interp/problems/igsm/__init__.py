"""Task `igsm`: dependency-graph arithmetic in words, with every label of the paper's mental process."""

from __future__ import annotations

from interp.problems.igsm.checking import ARITHMETIC, NOT_NEXT, CheckedStep, check_steps
from interp.problems.igsm.drill import IGSMDrillTask
from interp.problems.igsm.surface import SURFACE, surface
from interp.problems.igsm.task import IGSMTask

__all__ = ["ARITHMETIC", "NOT_NEXT", "SURFACE", "CheckedStep", "IGSMDrillTask", "IGSMTask", "check_steps", "surface"]
