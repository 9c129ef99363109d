"""What a dictionary keeps of its activations: explained variance, active features, features that never fire."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32

from interp.sae.dictionaries import as_dictionary


def explained_variance(sae: Any, acts: Float32[np.ndarray, "rows d"]) -> float:
    """1 minus the residual sum of squares over the total sum of squares about the mean; of an SAE or a dictionary."""
    dictionary = as_dictionary(sae)
    rebuilt = dictionary.decode(dictionary.encode(acts))
    return float(1 - ((acts - rebuilt) ** 2).sum() / ((acts - acts.mean(0)) ** 2).sum())


def sparsity(features: Float32[np.ndarray, "rows features"]) -> dict[str, float]:
    """Mean number of active features of a row, and the share of features that are active in no row."""
    active = features > 0
    return {"l0": float(active.sum(axis=1).mean()), "dead": float(1 - active.any(axis=0).mean())}
