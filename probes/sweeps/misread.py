"""The held-out problems that one cell of a sweep misreads."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.activations.source import ActivationSource
from probes.estimators.registry import estimator_class
from probes.sweeps.single import block_at


def held_out_readings(
    store: ActivationSource, target: str, place: str, address: str, *, estimator: str = "ridge", split_seed: int = 0
) -> pd.DataFrame:
    """Fit the probe of one cell again, and return what it reads in every held-out problem.

    The probe is fitted on the training problems of one split, and its strength is chosen on validation, as a sweep does.

    Args:
        store: The store that was swept.
        target: Target of the cell.
        place: Place of the cell.
        address: Address of the cell.
        estimator: A name from `probes.estimators.registry.estimator_names()`.
        split_seed: Seed of the problem split.

    Returns:
        One row for each held-out row of the store. Columns: trace, position, true, read, confidence (probability of what
        is read), right.

    Raises:
        UsageError: A name is unknown, or the target has too few rows at the place.
    """
    block = block_at(store, place, target, split_seed)
    gold, split = block.targets[target], block.splits[split_seed]
    acts = store.acts(store.address(address), block.rows)
    fitted = [variant.fit(acts[split.train], gold[split.train]) for variant in estimator_class(estimator).variants()]
    probe = max(fitted, key=lambda p: (p.predict(acts[split.val]) == gold[split.val]).mean())
    held_out, true = block.rows[split.test], gold[split.test]
    read = probe.predict(acts[split.test])
    return pd.DataFrame(
        {
            "trace": held_out["trace"].to_numpy(),
            "position": held_out["position"].to_numpy(),
            "true": true,
            "read": read,
            "confidence": np.asarray(probe.predict_proba(acts[split.test])).max(axis=1),
            "right": read == true,
        }
    )
