"""Ridge regression for every target and every strength at one address, from one factorisation.

All targets of an address share their design matrix, so one eigendecomposition of its Gram matrix gives all
of them, at every regularisation strength, together with exact leave-one-out predictions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from interp.errors import UsageError

# Relative to the mean eigenvalue of the Gram matrix, so that they mean the same for any number of rows.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class RidgeFit:
    """Linear maps for several targets, each a block of columns; rows are standardised first.

    `coef` is d x columns, `strength` one chosen value for each block, `held_out` the leave-one-out
    predictions of the training rows at those strengths.
    """

    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    coef: Float[np.ndarray, "d columns"]
    intercept: Float[np.ndarray, " columns"]
    strength: Float[np.ndarray, " blocks"]
    held_out: Float[np.ndarray, "rows columns"]

    def predict(self, rows: Float[np.ndarray, "rows d"]) -> Float[np.ndarray, "rows columns"]:
        return ((rows - self.mean) / self.scale) @ self.coef + self.intercept


def one_hot(labels: np.ndarray, classes: np.ndarray) -> Float[np.ndarray, "rows classes"]:
    return (labels[:, None] == classes[None, :]).astype(float)


def fit_ridge(
    rows: Float[np.ndarray, "rows d"],
    blocks: Sequence[Float[np.ndarray, "rows _"]],
    strengths: Sequence[float] = STRENGTHS,
) -> RidgeFit:
    """Solve every block of target columns at every strength; each block keeps its best one.

    The strength of a block is the one with the least leave-one-out squared error on these rows. Raises
    `UsageError` on rows that are not finite, naming the first.
    """
    rows = np.asarray(rows, np.float64)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise UsageError(f"row {bad[0]} of the probe's input is not finite ({len(bad)} such rows). Leave them out.")
    if len(rows) < 2:
        raise UsageError(f"a probe needs at least 2 training rows, but {len(rows)} came.")
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(spread > 1e-12 * np.abs(mean).clip(1e-6), spread, 1.0)
    design = (rows - mean) / scale
    targets = np.concatenate(blocks, axis=1)
    centre = targets.mean(axis=0)
    centred = targets - centre
    values, vectors = np.linalg.eigh(design.T @ design)
    values = values.clip(min=0.0)
    # The factorisation is in float64; the many products that follow from it are not worth it.
    rotated = (design @ vectors).astype(np.float32)
    centred = centred.astype(np.float32)
    projected = rotated.T @ centred
    unit = max(values.mean(), 1e-12)
    edges = np.cumsum([0, *(block.shape[1] for block in blocks)])

    best = np.full(len(blocks), np.inf)
    chosen = np.zeros(len(blocks))
    weights = np.zeros_like(projected)
    residual = np.zeros_like(centred)
    squared = rotated**2
    for strength in strengths:
        shrink = (1.0 / (values + strength * unit)).astype(np.float32)
        solved = shrink[:, None] * projected
        leverage = squared @ shrink + np.float32(1.0 / len(rows))
        missed = rotated @ solved
        np.subtract(centred, missed, out=missed)
        missed /= (1.0 - leverage).clip(min=1e-6)[:, None]
        error = np.einsum("rc,rc->c", missed, missed)
        for b, (low, high) in enumerate(itertools.pairwise(edges)):
            if (loss := error[low:high].sum()) < best[b]:
                best[b], chosen[b] = loss, strength * unit
                weights[:, low:high] = solved[:, low:high]
                residual[:, low:high] = missed[:, low:high]
    return RidgeFit(mean, scale, vectors @ weights, centre, chosen, targets - residual)
