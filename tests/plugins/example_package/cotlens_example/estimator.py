"""An estimator of another package: the mass-mean probe with whitening and strong shrinkage."""

from __future__ import annotations

from probes.estimators.base import Probe
from probes.estimators.class_means import MassMeanProbe, Shrinkage


class ShrunkenMeanProbe(MassMeanProbe):
    """The mass-mean probe with whitening, the covariance shrunk to one half."""

    def __init__(self, whitening: bool = True, shrinkage: Shrinkage = 0.5) -> None:
        super().__init__(whitening, shrinkage)

    @classmethod
    def variants(cls) -> list[Probe]:
        """Return the one form of this probe."""
        return [cls()]
