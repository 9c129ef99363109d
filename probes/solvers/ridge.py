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
    weights: Float[np.ndarray, " rows"] | None = None,
    *,
    precise: bool = False,
) -> RidgeFit:
    """Solve every block of target columns at every strength; each block keeps its best one.

    The strength of a block is the one with the least leave-one-out squared error on these rows. `weights` count
    rows, so that leaving one out leaves out one unit of its weight (or all, where it weighs less), and a row of
    weight 0 is predicted without being learned from. Products after the factorisation are in float32 unless
    `precise`. Raises `UsageError` on rows that are not finite, naming the first.
    """
    rows = np.asarray(rows, np.float64)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise UsageError(f"row {bad[0]} of the probe's input is not finite ({len(bad)} such rows). Leave them out.")
    if len(rows) < 2:
        raise UsageError(f"a probe needs at least 2 training rows, but {len(rows)} came.")
    targets = np.concatenate(blocks, axis=1)
    mean, spread, centre, mass = _moments(rows, targets, weights)
    scale = np.where(spread > 1e-12 * np.abs(mean).clip(1e-6), spread, 1.0)
    design = (rows - mean) / scale
    centred = targets - centre
    root = None if weights is None else np.sqrt(weights)[:, None]
    if root is not None:
        design *= root
        centred *= root
    values, vectors = np.linalg.eigh(design.T @ design)
    values = values.clip(min=0.0)
    # The factorisation is in float64; the many products that follow from it are rarely worth it.
    working = np.float64 if precise else np.float32
    rotated = (design @ vectors).astype(working)
    centred = centred.astype(working)
    projected = rotated.T @ centred
    unit = max(values.mean(), 1e-12)
    edges = np.cumsum([0, *(block.shape[1] for block in blocks)])

    best = np.full(len(blocks), np.inf)
    chosen = np.zeros(len(blocks))
    solution = np.zeros_like(projected)
    residual = np.zeros_like(centred)
    # What is left out of a row, as a share of its weight; the free intercept adds to the leverage of what is left out.
    share = None if weights is None else 1.0 / weights.clip(min=1.0)
    from_intercept = np.asarray((1.0 if weights is None else weights.clip(max=1.0)) / mass, working)
    squared = rotated**2
    if share is not None:
        squared *= share.astype(working)[:, None]
    for strength in strengths:
        shrink = (1.0 / (values + strength * unit)).astype(working)
        solved = shrink[:, None] * projected
        leverage = squared @ shrink + from_intercept
        missed = rotated @ solved
        np.subtract(centred, missed, out=missed)
        missed /= (1.0 - leverage).clip(min=1e-6)[:, None]
        error = np.einsum("rc,rc->c", missed, missed)
        for b, (low, high) in enumerate(itertools.pairwise(edges)):
            if (loss := error[low:high].sum()) < best[b]:
                best[b], chosen[b] = loss, strength * unit
                solution[:, low:high] = solved[:, low:high]
                residual[:, low:high] = missed[:, low:high]
    coef = vectors @ solution
    if root is None:
        held_out = targets - residual
    else:
        absent = root[:, 0] == 0
        held_out = targets - residual / np.where(absent[:, None], 1.0, root)
        held_out[absent] = ((rows[absent] - mean) / scale) @ coef + centre
    return RidgeFit(mean, scale, coef, centre, chosen, held_out)


def _moments(
    rows: np.ndarray, targets: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Mean and standard deviation of the rows, mean of the targets, and the number of rows, all by weight."""
    if weights is None:
        return rows.mean(axis=0), rows.std(axis=0), targets.mean(axis=0), float(len(rows))
    mass = float(weights.sum())
    mean = weights @ rows / mass
    spread = np.sqrt(weights @ (rows - mean) ** 2 / mass)
    return mean, spread, weights @ targets / mass, mass
