"""Quality of a dictionary: explained variance, active features and features that never fire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from interp.sae.dictionaries import as_dictionary


@dataclass(frozen=True)
class Sparsity:
    """How sparse the features of some rows are.

    Attributes:
        l0: Mean number of active features in a row.
        dead: Fraction of the features that are active in no row.
    """

    l0: float
    dead: float


def explained_variance(sae: Any, acts: Float32[np.ndarray, "rows d"]) -> float:
    """Return the fraction of the variance of `acts` that a reconstruction explains.

    Args:
        sae: An SAE of SAELens or a `Dictionary`.
        acts: Activations, shape (rows, d).

    Returns:
        1 minus the residual sum of squares over the total sum of squares about the mean.
    """
    dictionary = as_dictionary(sae)
    reconstruction = dictionary.decode(dictionary.encode(acts))
    return float(1 - ((acts - reconstruction) ** 2).sum() / ((acts - acts.mean(0)) ** 2).sum())


def sparsity(features: Float32[np.ndarray, "rows features"]) -> Sparsity:
    """Return the sparsity of feature activations, shape (rows, features).

    Args:
        features: Feature activations, shape (rows, features).

    Returns:
        Mean number of active features, and fraction of dead ones.
    """
    active = features > 0
    return Sparsity(l0=float(active.sum(axis=1).mean()), dead=float(1 - active.any(axis=0).mean()))
