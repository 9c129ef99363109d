"""Ridge regression for every target and every strength at one address, from one factorisation.

All targets of an address share their design matrix. One eigendecomposition of its Gram matrix therefore gives the
solution for every target and every regularisation strength, together with exact leave-one-out predictions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from interp.errors import UsageError
from interp.runtime.threads import one_thread_if_narrow

# Relative to the mean eigenvalue of the Gram matrix, so that a strength does not depend on the number of rows.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class RidgeFit:
    """Linear maps from standardised rows to several targets, each a block of columns.

    Attributes:
        mean: Mean of each feature over the training rows, shape (d,).
        scale: Standard deviation of each feature, shape (d,); 1 for a constant feature.
        coef: Coefficients of the standardised rows, shape (d, columns).
        intercept: Intercept of each column, shape (columns,).
        strength: The absolute strength chosen for each block, shape (blocks,).
        held_out: Leave-one-out predictions of the training rows at those strengths, shape (rows, columns).
    """

    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    coef: Float[np.ndarray, "d columns"]
    intercept: Float[np.ndarray, " columns"]
    strength: Float[np.ndarray, " blocks"]
    held_out: Float[np.ndarray, "rows columns"]

    def predict(self, rows: Float[np.ndarray, "rows d"]) -> Float[np.ndarray, "rows columns"]:
        """Return the predicted targets of rows that are not standardised.

        Args:
            rows: Rows in their original units, shape (rows, d).

        Returns:
            Predictions, shape (rows, columns).
        """
        with one_thread_if_narrow(rows.shape[1]):
            return ((rows - self.mean) / self.scale) @ self.coef + self.intercept


def one_hot(labels: np.ndarray, classes: np.ndarray) -> Float[np.ndarray, "rows classes"]:
    """Return one column for each class: 1 where the row's label is that class, else 0.

    Args:
        labels: Labels, shape (rows,).
        classes: The classes, shape (classes,).

    Returns:
        Zeros and ones, shape (rows, classes).
    """
    return (labels[:, None] == classes[None, :]).astype(float)


def check_finite(rows: np.ndarray, what: str = "the probe's input") -> None:
    """Raise an error if a row holds NaN or inf.

    Args:
        rows: An array whose first axis is rows.
        what: Name of the array in the message.

    Raises:
        UsageError: A row is not finite; the message has the number of the first.
    """
    not_finite = np.flatnonzero(~np.isfinite(rows).reshape(len(rows), -1).all(axis=1))
    if len(not_finite):
        raise UsageError(
            f"expected finite rows in {what}, got NaN or inf in row {not_finite[0]} "
            f"({len(not_finite)} such rows); leave them out."
        )


def fit_ridge(
    rows: Float[np.ndarray, "rows d"],
    blocks: Sequence[Float[np.ndarray, "rows _"]],
    strengths: Sequence[float] = STRENGTHS,
    weights: Float[np.ndarray, " rows"] | None = None,
    *,
    precise: bool = False,
) -> RidgeFit:
    """Fit every block of target columns at every strength and keep the best strength of each block.

    The best strength has the least leave-one-out squared error on these rows. Rows are standardised first, and
    intercepts are not penalised.

    Args:
        rows: Training rows, shape (rows, d).
        blocks: Target columns of each problem, each of shape (rows, columns of the block).
        strengths: Strengths to try, relative to the mean eigenvalue of the Gram matrix of the standardised rows.
        weights: How often each row counts, shape (rows,). Leaving a row out removes one unit of its weight, or all
            of it where it weighs less. A row of weight 0 is predicted but not fitted.
        precise: Compute in float64 throughout. By default only the factorisation is in float64, the products that
            follow it in float32.

    Returns:
        The fitted maps of all blocks, their columns side by side.

    Raises:
        UsageError: A row is not finite, or there are fewer than 2 rows.

    References:
        Leave-one-out predictions by the leverage of each row: Hastie, Tibshirani and Friedman, "The Elements of
        Statistical Learning", equation 7.64.
    """
    rows = np.asarray(rows, np.float64)
    check_finite(rows)
    if len(rows) < 2:
        raise UsageError(f"expected at least 2 training rows, got {len(rows)}; capture more problems.")
    with one_thread_if_narrow(rows.shape[1]):
        return _fit(rows, blocks, strengths, weights, np.float64 if precise else np.float32)


def _fit(
    rows: Float[np.ndarray, "rows d"],
    blocks: Sequence[Float[np.ndarray, "rows _"]],
    strengths: Sequence[float],
    weights: Float[np.ndarray, " rows"] | None,
    working: type[np.floating],
) -> RidgeFit:
    """Fit as `fit_ridge` does; all that follows the factorisation is computed in the type `working`."""
    targets = np.concatenate(blocks, axis=1)
    mean, spread, target_mean, mass = _moments(rows, targets, weights)
    scale = np.where(spread > 1e-12 * np.abs(mean).clip(1e-6), spread, 1.0)
    design = (rows - mean) / scale
    centred = targets - target_mean
    root = None if weights is None else np.sqrt(weights)[:, None]
    if root is not None:
        design *= root
        centred *= root
    values, vectors = np.linalg.eigh(design.T @ design)
    values = values.clip(min=0.0)
    rotated = (design @ vectors).astype(working)
    centred = centred.astype(working)
    projected = rotated.T @ centred
    # A control may have no column, such as the text before the first word; only the intercept is fitted then.
    unit = max(values.mean() if values.size else 0.0, 1e-12)
    edges = np.cumsum([0, *(block.shape[1] for block in blocks)])

    least_error = np.full(len(blocks), np.inf)
    chosen = np.zeros(len(blocks))
    solution = np.zeros_like(projected)
    residual = np.zeros_like(centred)
    # The part of a row's weight that is left out; the free intercept adds to the leverage of that part.
    share = None if weights is None else 1.0 / weights.clip(min=1.0)
    intercept_leverage = np.asarray((1.0 if weights is None else weights.clip(max=1.0)) / mass, working)
    squared = rotated**2
    if share is not None:
        squared *= share.astype(working)[:, None]
    for strength in strengths:
        shrink = (1.0 / (values + strength * unit)).astype(working)
        solved = shrink[:, None] * projected
        leverage = squared @ shrink + intercept_leverage
        left_out = rotated @ solved
        np.subtract(centred, left_out, out=left_out)
        left_out /= (1.0 - leverage).clip(min=1e-6)[:, None]
        error = np.einsum("rc,rc->c", left_out, left_out)
        for b, (low, high) in enumerate(itertools.pairwise(edges)):
            if (loss := error[low:high].sum()) < least_error[b]:
                least_error[b], chosen[b] = loss, strength * unit
                solution[:, low:high] = solved[:, low:high]
                residual[:, low:high] = left_out[:, low:high]
    coef = vectors @ solution
    if root is None:
        held_out = targets - residual
    else:
        absent = root[:, 0] == 0
        held_out = targets - residual / np.where(absent[:, None], 1.0, root)
        held_out[absent] = ((rows[absent] - mean) / scale) @ coef + target_mean
    return RidgeFit(mean, scale, coef, target_mean, chosen, held_out)


def _moments(
    rows: np.ndarray, targets: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return the weighted mean and standard deviation of the rows, the mean of the targets, and the total weight."""
    if weights is None:
        return rows.mean(axis=0), rows.std(axis=0), targets.mean(axis=0), float(len(rows))
    mass = float(weights.sum())
    mean = weights @ rows / mass
    spread = np.sqrt(weights @ (rows - mean) ** 2 / mass)
    return mean, spread, weights @ targets / mass, mass
