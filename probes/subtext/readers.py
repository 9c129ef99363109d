"""Readers: cross-fitted logistic regressions and what each label costs them in bits on rows that they were not fitted to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from interp.errors import UsageError
from interp.problems.base import checked_seed
from probes.solvers.logistic import InMemory, fit_logistic, multinomial

STRENGTHS = (0.1, 1.0, 10.0, 100.0)
# A word that decides its label needs a weaker penalty than any single prediction does.
GAIN_STRENGTHS = (0.01, *STRENGTHS)
FOLDS = 5

Features = Float[np.ndarray, "rows d"]


class Losses(NamedTuple):
    """Costs of a label in bits, by the readers of all folds.

    Attributes:
        tested: Each row as a test row, shape (rows,).
        validated: Each row as a validation row (of the fold before its own), shape (rows,).
        fitted: Each row by the reader of each fold, where that was fitted to it, else NaN, shape (folds, rows).
    """

    tested: Float[np.ndarray, " rows"]
    validated: Float[np.ndarray, " rows"]
    fitted: Float[np.ndarray, "folds rows"]


def folds(groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the fold of each row, 0 to 4, with every group in one fold.

    Args:
        groups: Group of each row, shape (rows,).
        seed: Seed of the order of groups.

    Raises:
        UsageError: There are fewer than ten groups.
    """
    unique, inverse = np.unique(groups, return_inverse=True)
    if len(unique) < 2 * FOLDS:
        raise UsageError(
            f"expected at least {2 * FOLDS} problem structures to cross-fit over {FOLDS} folds, got {len(unique)}; "
            "use more problems."
        )
    order = np.random.default_rng(checked_seed(seed)).permutation(len(unique))
    return (order % FOLDS)[inverse]


def parts(fold: np.ndarray, usable: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the rows that are tested, chosen on, and fitted, for each fold.

    Args:
        fold: Fold of each row, shape (rows,).
        usable: Which rows may be fitted, shape (rows,).
    """
    for k in range(FOLDS):
        test, val = fold == k, fold == (k + 1) % FOLDS
        yield test, val, ~test & ~val & usable


def cross_fitted(
    inputs: Features | Sequence[Features], codes_of: Mapping[str, np.ndarray], fold: np.ndarray, usable: np.ndarray
) -> dict[str, Losses]:
    """Return each label's costs: fitted on three folds, strength chosen on the fourth, tested on the fifth.

    Args:
        inputs: Features, shape (rows, d), or those of each fold.
        codes_of: Label name to the class of each row, shape (rows,).
        fold: Fold of each row, shape (rows,).
        usable: Which rows may be fitted, shape (rows,).
    """
    costs = {
        name: Losses(np.zeros(len(fold)), np.zeros(len(fold)), np.full((FOLDS, len(fold)), np.nan)) for name in codes_of
    }
    by_size: dict[int, list[str]] = {}
    for name, codes in codes_of.items():
        by_size.setdefault(int(codes.max()) + 1, []).append(name)
    for k, (test, val, train) in enumerate(parts(fold, usable)):
        for size, names in by_size.items():
            codes = np.stack([codes_of[name] for name in names], axis=1)
            side = inputs if isinstance(inputs, np.ndarray) else inputs[k]
            losses = _losses(side, codes, size, train)  # strengths x rows x labels
            best = losses[:, val].mean(axis=1).argmin(axis=0)
            for j, name in enumerate(names):
                costs[name].tested[test] = losses[best[j], test, j]
                costs[name].validated[val] = losses[best[j], val, j]
                costs[name].fitted[k, train] = losses[best[j], train, j]
    return costs


def class_costs(
    inputs: Features, labels: np.ndarray, groups: np.ndarray, *, seed: int = 0
) -> tuple[Float[np.ndarray, "rows classes"], np.ndarray]:
    """Return what each class would cost in each row, cross-fitted as in `information_gain`.

    Args:
        inputs: Features, shape (rows, d).
        labels: Label of each row, shape (rows,).
        groups: Group of each row, shape (rows,).
        seed: Seed of the folds.

    Returns:
        Costs in bits, shape (rows, classes), and the class of each column.

    Raises:
        UsageError: There are fewer than ten groups.
    """
    classes, codes = np.unique(labels.astype(str), return_inverse=True)
    fold, out = folds(groups, seed), np.zeros((len(labels), len(classes)))
    for k in range(FOLDS):
        test, val = fold == k, fold == (k + 1) % FOLDS
        costs = fold_costs(inputs, codes, len(classes), ~test & ~val)
        best = costs[:, np.flatnonzero(val), codes[val]].mean(axis=1).argmin()
        out[test] = costs[best, test]
    return out, classes


def fold_costs(
    inputs: Features, codes: np.ndarray, size: int, train: np.ndarray, strengths: Sequence[float] = STRENGTHS
) -> Float[np.ndarray, "strengths rows classes"]:
    """Return what each class would cost in each row, in bits, fitted to some rows at every strength.

    Args:
        inputs: Features, shape (rows, d); without columns, each class costs what its share in `train` gives.
        codes: Class of each row, shape (rows,).
        size: Number of classes.
        train: Which rows are fitted, shape (rows,).
        strengths: Strengths of the penalty.
    """
    return _costs(inputs, codes[:, None], size, train, strengths)[:, :, 0]


def _losses(inputs: Features, codes: np.ndarray, size: int, train: np.ndarray) -> Float[np.ndarray, "s rows labels"]:
    """Return the cost of every label at every strength, fitted to the rows of `train`."""
    costs = _costs(inputs, codes, size, train, GAIN_STRENGTHS)
    return np.take_along_axis(costs, codes[None, :, :, None], axis=3)[..., 0]


def _costs(
    inputs: Features, codes: np.ndarray, size: int, train: np.ndarray, strengths: Sequence[float]
) -> Float[np.ndarray, "s rows labels c"]:
    """Return the cost of every class of every label at every strength."""
    n_labels, mixed = codes.shape[1], 1.0 / (train.sum() + 1)
    usable = inputs[:, inputs[train].std(axis=0) > 1e-9] if inputs.shape[1] else inputs
    if not usable.shape[1]:
        counts = np.stack([np.bincount(codes[train, j], minlength=size) for j in range(n_labels)])
        p = (counts + 0.5) / (counts.sum(axis=1, keepdims=True) + 0.5 * size)
        return np.broadcast_to(-np.log2(p), (len(strengths), len(codes), n_labels, size))
    x = torch.from_numpy(np.ascontiguousarray(usable, dtype=np.float32))
    tiled = np.tile(codes[train], (1, len(strengths)))
    penalties = np.repeat(strengths, n_labels).tolist()
    fit = fit_logistic(InMemory(x[torch.from_numpy(train)]), multinomial(tiled, size, penalties), tolerance=1e-4)
    scores = fit.scores(x).double()
    if scores.shape[2] == 1:
        scores = torch.cat([torch.zeros_like(scores), scores], dim=2)
    p = torch.softmax(scores, dim=2).numpy().reshape(len(codes), len(strengths), n_labels, size)
    # Mixing in a uniform distribution keeps a confident mistake from costing infinitely many bits.
    return -np.log2((1 - mixed) * p + mixed / size).transpose(1, 0, 2, 3)


def chosen_on_validation(sides: Sequence[Losses], fold: np.ndarray) -> Int[np.ndarray, " rows"]:
    """Return for each row which input costs least on the validation rows of its fold.

    Args:
        sides: Costs by each input.
        fold: Fold of each row, shape (rows,).
    """
    chosen = np.zeros(len(fold), int)
    for k in range(FOLDS):
        test, val = fold == k, fold == (k + 1) % FOLDS
        chosen[test] = int(np.argmin([validated[val].mean() for _, validated, _ in sides]))
    return chosen


def best_on_validation(sides: Sequence[Losses], fold: np.ndarray) -> Float[np.ndarray, " rows"]:
    """Return the test costs of the input that costs least on each fold's validation rows.

    Args:
        sides: Costs by each input.
        fold: Fold of each row, shape (rows,).
    """
    return np.stack([tested for tested, _, _ in sides])[chosen_on_validation(sides, fold), np.arange(len(fold))]


def best_where_fitted(sides: Sequence[Losses], fold: np.ndarray) -> Float[np.ndarray, " rows"]:
    """Return what each row costs the inputs that are chosen on validation, as a row that they were fitted to.

    It is the mean over the folds whose reader was fitted to the row; where none was, the mean of the other rows.

    Args:
        sides: Costs by each input.
        fold: Fold of each row, shape (rows,).
    """
    chosen = chosen_on_validation(sides, fold)
    of_fold = [int(chosen[np.argmax(fold == k)]) for k in range(FOLDS)]
    fitted = np.stack([sides[side].fitted[k] for k, side in enumerate(of_fold)])
    seen = ~np.isnan(fitted)
    costs = np.where(seen, fitted, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    ever = seen.any(axis=0)
    return np.where(ever, costs, costs[ever].mean())
