"""Usable information: how many bits a family of predictors gains about a label from some features.

V-information (Xu et al., arXiv 2002.10689, definition 2): the family's held-out cross-entropy without the features
minus that with them. The family here is logistic regression that may ignore any of its inputs. For information
*beyond* other inputs, both sides get those inputs. The side without the features may also use others of the same
capacity in their place, such as the activations of an untrained model; validation chooses among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import t as student

from interp.errors import UsageError
from interp.problems.base import checked_seed
from interp.statistics.estimates import Estimate
from interp.statistics.intervals import q_values
from probes.solvers.logistic import InMemory, fit_logistic, multinomial

STRENGTHS = (0.1, 1.0, 10.0, 100.0)
FOLDS = 5
_MIN_ROWS = 40  # below this nothing is estimated

Features = Float[np.ndarray, "rows d"]


@dataclass(frozen=True)
class InformationGain:
    """What the features add about one label, row by row.

    Attributes:
        rows: Numbers of the rows that have the label.
        without: Cost of the label without the features, in bits, shape (rows,).
        with_: Cost with the features, in bits, shape (rows,).
        entropy: Plug-in entropy of the label, in bits.
    """

    rows: np.ndarray
    without: Float[np.ndarray, " rows"]
    with_: Float[np.ndarray, " rows"]
    entropy: float

    @property
    def bits(self) -> Float[np.ndarray, " rows"]:
        """Bits gained in each row."""
        return self.without - self.with_


def information_gain(
    labels: Mapping[str, np.ndarray],
    given: Sequence[Features],
    beyond: Features,
    groups: np.ndarray,
    *,
    seed: int = 0,
) -> dict[str, InformationGain]:
    """Return the held-out bits about each label that `beyond` adds to `given`, row by row.

    Estimates are cross-fitted over whole groups: strengths and inputs are chosen on a fold that is neither fitted nor
    tested.

    Args:
        labels: Label name to labels, shape (rows,); None in rows that have none.
        given: Inputs that the side without `beyond` may use, one at a time, each of shape (rows, d). The first is what
            the information must go beyond (no columns if that is nothing); the others are stand-ins for `beyond`.
        beyond: Features whose information is measured, shape (rows, d). They are joined to the first of `given`.
        groups: Group of each row, shape (rows,); a group is never both fitted and tested.
        seed: Seed of the folds.

    Returns:
        The gain of each label. A label with fewer than two classes or 40 rows is left out.

    Raises:
        UsageError: There are fewer than ten groups.

    References:
        Xu et al. 2020, arXiv 2002.10689, definition 2.
    """
    sides = [np.empty((len(groups), 0)), *given, np.concatenate([given[0], beyond], axis=1)]
    gains: dict[str, InformationGain] = {}
    for rows, names in _labels_by_rows(labels):
        if len(rows) < _MIN_ROWS:
            continue
        fold = folds(groups[rows], seed)
        codes_of = {}
        for name in names:
            classes, codes = np.unique(labels[name][rows].astype(str), return_inverse=True)
            if len(classes) > 1:
                codes_of[name] = codes
        if not codes_of:
            continue
        losses = [_cross_fitted(side[rows], codes_of, fold) for side in sides]
        for name, codes in codes_of.items():
            without = _best_on_validation([side[name] for side in losses[:-1]], fold)
            with_ = _best_on_validation([side[name] for side in losses], fold)
            share = np.bincount(codes) / len(codes)
            entropy = float(-(share[share > 0] * np.log2(share[share > 0])).sum())
            gains[name] = InformationGain(rows, without, with_, entropy)
    return {name: gains[name] for name in labels if name in gains}


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


def _labels_by_rows(labels: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, list[str]]]:
    """Group the labels that exist for the same rows."""
    by_mask: dict[bytes, tuple[np.ndarray, list[str]]] = {}
    for name, values in labels.items():
        mask = np.array([value is not None for value in values])
        by_mask.setdefault(mask.tobytes(), (np.flatnonzero(mask), []))[1].append(name)
    return list(by_mask.values())


# For each row its cost in bits, as a test row and as a validation row (of the fold before its own).
_Losses = tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]


def _cross_fitted(inputs: Features, codes_of: Mapping[str, np.ndarray], fold: np.ndarray) -> dict[str, _Losses]:
    """Return each label's costs: fitted on three folds, strength chosen on the fourth, tested on the fifth."""
    tested = {name: np.zeros(len(fold)) for name in codes_of}
    validated = {name: np.zeros(len(fold)) for name in codes_of}
    by_size: dict[int, list[str]] = {}
    for name, codes in codes_of.items():
        by_size.setdefault(int(codes.max()) + 1, []).append(name)
    for k in range(FOLDS):
        test, val = fold == k, fold == (k + 1) % FOLDS
        train = ~test & ~val
        for size, names in by_size.items():
            codes = np.stack([codes_of[name] for name in names], axis=1)
            losses = _losses(inputs, codes, size, train)  # strengths x rows x labels
            best = losses[:, val].mean(axis=1).argmin(axis=0)
            for j, name in enumerate(names):
                tested[name][test] = losses[best[j], test, j]
                validated[name][val] = losses[best[j], val, j]
    return {name: (tested[name], validated[name]) for name in codes_of}


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
        costs = _costs(inputs, codes[:, None], len(classes), ~test & ~val)[:, :, 0]
        best = costs[:, np.flatnonzero(val), codes[val]].mean(axis=1).argmin()
        out[test] = costs[best, test]
    return out, classes


def _losses(inputs: Features, codes: np.ndarray, size: int, train: np.ndarray) -> Float[np.ndarray, "s rows labels"]:
    """Return the cost of every label at every strength, fitted to the rows of `train`."""
    costs = _costs(inputs, codes, size, train)
    return np.take_along_axis(costs, codes[None, :, :, None], axis=3)[..., 0]


def _costs(inputs: Features, codes: np.ndarray, size: int, train: np.ndarray) -> Float[np.ndarray, "s rows labels c"]:
    """Return the cost of every class of every label at every strength."""
    n_labels, mixed = codes.shape[1], 1.0 / (train.sum() + 1)
    usable = inputs[:, inputs[train].std(axis=0) > 1e-9] if inputs.shape[1] else inputs
    if not usable.shape[1]:
        counts = np.stack([np.bincount(codes[train, j], minlength=size) for j in range(n_labels)])
        p = (counts + 0.5) / (counts.sum(axis=1, keepdims=True) + 0.5 * size)
        return np.broadcast_to(-np.log2(p), (len(STRENGTHS), len(codes), n_labels, size))
    x = torch.from_numpy(np.ascontiguousarray(usable, dtype=np.float32))
    tiled = np.tile(codes[train], (1, len(STRENGTHS)))
    strengths = np.repeat(STRENGTHS, n_labels).tolist()
    fit = fit_logistic(InMemory(x[torch.from_numpy(train)]), multinomial(tiled, size, strengths), tolerance=1e-4)
    scores = fit.scores(x).double()
    if scores.shape[2] == 1:
        scores = torch.cat([torch.zeros_like(scores), scores], dim=2)
    p = torch.softmax(scores, dim=2).numpy().reshape(len(codes), len(STRENGTHS), n_labels, size)
    # Mixing in a uniform distribution keeps a confident mistake from costing infinitely many bits.
    return -np.log2((1 - mixed) * p + mixed / size).transpose(1, 0, 2, 3)


def _best_on_validation(sides: Sequence[_Losses], fold: np.ndarray) -> Float[np.ndarray, " rows"]:
    """Return the test costs of the input that costs least on each fold's validation rows."""
    out = np.zeros(len(fold))
    for k in range(FOLDS):
        test, val = fold == k, fold == (k + 1) % FOLDS
        best = int(np.argmin([validated[val].mean() for _, validated in sides]))
        out[test] = sides[best][0][test]
    return out


def p_value(bits: Float[np.ndarray, " rows"], groups: np.ndarray) -> float:
    """Return the one-sided p-value that the mean gain is not above 0, by Student's t over group sums.

    Gains of useless features have a long tail below 0 and none above, so the test errs on the safe side.

    Args:
        bits: Bits gained in each row, shape (rows,).
        groups: Group of each row, shape (rows,).
    """
    of_group = np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(of_group, bits)
    n, spread = len(sums), sums.std(ddof=1) if len(sums) > 1 else 0.0
    if spread <= 1e-12:
        return 1.0 if sums.mean() <= 0 else 1e-300
    return float(max(student.sf(sums.mean() / (spread / np.sqrt(n)), n - 1), 1e-300))


def summary(gains: Mapping[str, InformationGain], groups: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Return one row a label: entropy, cost without and with the features, bits gained with interval, p and q.

    Args:
        gains: Result of `information_gain`.
        groups: Group of each row, shape (rows,).
        seed: Seed of the bootstrap.
    """
    records = []
    for name, gain in gains.items():
        held = groups[gain.rows]
        bits = Estimate.of_mean(gain.bits, held, seed=seed)
        records.append(
            {
                "target": name,
                "bits": bits.value,
                "ci_low": bits.low,
                "ci_high": bits.high,
                "entropy": gain.entropy,
                "without": float(gain.without.mean()),
                "with": float(gain.with_.mean()),
                "p": p_value(gain.bits, held),
                "n": bits.n,
                "structures": len(np.unique(held)),
            }
        )
    table = pd.DataFrame(records)
    if len(table):
        table.insert(8, "q", q_values(table["p"].to_numpy()))
    return table
