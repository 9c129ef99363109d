"""Usable information: how many bits a family of predictors gains about a label from some features.

V-information (Xu et al., arXiv 2002.10689, definition 2): the family's held-out cross-entropy without the features
minus that with them. The family here is logistic regression, with the option to ignore any of its inputs. Whoever
asks about information *beyond* something gives that to both sides, and the side without the features may also use
stand-ins of the same capacity (such as an untrained model's activations), whichever serves it best on validation.
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
from interp.statistics.intervals import grouped_mean_interval, q_values
from probes.solvers.logistic import InMemory, fit_logistic, multinomial

STRENGTHS = (0.1, 1.0, 10.0, 100.0)
FOLDS = 5
_LEAST = 40  # rows below which nothing is estimated

Features = Float[np.ndarray, "rows d"]


@dataclass(frozen=True)
class InformationGain:
    """What was gained about one label: bits for each row that has it, and what the label cost without and with.

    `rows` are the numbers of those rows; `entropy` is that of the label itself (plug-in), in bits.
    """

    rows: np.ndarray
    without: Float[np.ndarray, " rows"]
    with_: Float[np.ndarray, " rows"]
    entropy: float

    @property
    def bits(self) -> Float[np.ndarray, " rows"]:
        return self.without - self.with_


def information_gain(
    labels: Mapping[str, np.ndarray],
    given: Sequence[Features],
    beyond: Features,
    groups: np.ndarray,
    *,
    seed: int = 0,
) -> dict[str, InformationGain]:
    """Held-out bits about each label that `beyond` adds to `given`, row by row, cross-fitted over whole groups.

    `given` are inputs that the side without `beyond` may use, one at a time: the first is what the information is to go
    beyond (a matrix of no columns where there is nothing), the others stand-ins; `beyond` joins the first. Strengths
    and inputs are chosen on a fold that is neither fitted nor tested. Labels are None in rows that have none. A label of
    fewer than two classes or 40 rows is left out.
    """
    sides = [np.empty((len(groups), 0)), *given, np.concatenate([given[0], beyond], axis=1)]
    out: dict[str, InformationGain] = {}
    for rows, names in _by_rows(labels):
        if len(rows) < _LEAST:
            continue
        fold = folds(groups[rows], seed)
        coded = {}
        for name in names:
            classes, codes = np.unique(labels[name][rows].astype(str), return_inverse=True)
            if len(classes) > 1:
                coded[name] = codes
        if not coded:
            continue
        losses = [_cross_fitted(side[rows], coded, fold) for side in sides]
        for name, codes in coded.items():
            without = _chosen([each[name] for each in losses[:-1]], fold)
            both = _chosen([each[name] for each in losses], fold)
            share = np.bincount(codes) / len(codes)
            entropy = float(-(share[share > 0] * np.log2(share[share > 0])).sum())
            out[name] = InformationGain(rows, without, both, entropy)
    return {name: out[name] for name in labels if name in out}


def folds(groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """The fold of each row, 0 to 4; a group lies in one fold. Raises `UsageError` below ten groups."""
    unique, inverse = np.unique(groups, return_inverse=True)
    if len(unique) < 2 * FOLDS:
        raise UsageError(
            f"{len(unique)} problem structures are too few to cross-fit over {FOLDS} folds. Use more problems."
        )
    order = np.random.default_rng(checked_seed(seed)).permutation(len(unique))
    return (order % FOLDS)[inverse]


def _by_rows(labels: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, list[str]]]:
    """Labels that are there for the same rows together."""
    found: dict[bytes, tuple[np.ndarray, list[str]]] = {}
    for name, values in labels.items():
        there = np.array([value is not None for value in values])
        found.setdefault(there.tobytes(), (np.flatnonzero(there), []))[1].append(name)
    return list(found.values())


# For each row its cost in bits, as a test row and as a validation row (of the fold before its own).
_Losses = tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]


def _cross_fitted(inputs: Features, coded: Mapping[str, np.ndarray], fold: np.ndarray) -> dict[str, _Losses]:
    """Each label's cost: fitted on three folds, the strength chosen on the next, tested on the last."""
    tested = {name: np.zeros(len(fold)) for name in coded}
    checked = {name: np.zeros(len(fold)) for name in coded}
    by_size: dict[int, list[str]] = {}
    for name, codes in coded.items():
        by_size.setdefault(int(codes.max()) + 1, []).append(name)
    for k in range(FOLDS):
        test, val = fold == k, fold == (k + 1) % FOLDS
        train = ~test & ~val
        for size, names in by_size.items():
            codes = np.stack([coded[name] for name in names], axis=1)
            losses = _losses(inputs, codes, size, train)  # strengths x rows x labels
            best = losses[:, val].mean(axis=1).argmin(axis=0)
            for j, name in enumerate(names):
                tested[name][test] = losses[best[j], test, j]
                checked[name][val] = losses[best[j], val, j]
    return {name: (tested[name], checked[name]) for name in coded}


def class_costs(
    inputs: Features, labels: np.ndarray, groups: np.ndarray, *, seed: int = 0
) -> tuple[Float[np.ndarray, "rows classes"], np.ndarray]:
    """What each class would cost in each row, in bits, cross-fitted as in `gained`; and the classes by column."""
    classes, codes = np.unique(labels.astype(str), return_inverse=True)
    fold, out = folds(groups, seed), np.zeros((len(labels), len(classes)))
    for k in range(FOLDS):
        test, val = fold == k, fold == (k + 1) % FOLDS
        costs = _costs(inputs, codes[:, None], len(classes), ~test & ~val)[:, :, 0]
        best = costs[:, np.flatnonzero(val), codes[val]].mean(axis=1).argmin()
        out[test] = costs[best, test]
    return out, classes


def _losses(inputs: Features, codes: np.ndarray, size: int, train: np.ndarray) -> Float[np.ndarray, "s rows labels"]:
    """Bits of every label at every strength, from fits to the rows of `train`."""
    costs = _costs(inputs, codes, size, train)
    return np.take_along_axis(costs, codes[None, :, :, None], axis=3)[..., 0]


def _costs(inputs: Features, codes: np.ndarray, size: int, train: np.ndarray) -> Float[np.ndarray, "s rows labels c"]:
    """Bits of every class of every label at every strength."""
    n_labels, mixed = codes.shape[1], 1.0 / (train.sum() + 1)
    usable = inputs[:, inputs[train].std(axis=0) > 1e-9] if inputs.shape[1] else inputs
    if not usable.shape[1]:
        counts = np.stack([np.bincount(codes[train, j], minlength=size) for j in range(n_labels)])
        p = (counts + 0.5) / (counts.sum(axis=1, keepdims=True) + 0.5 * size)
        return np.broadcast_to(-np.log2(p), (len(STRENGTHS), len(codes), n_labels, size))
    every = torch.from_numpy(np.ascontiguousarray(usable, dtype=np.float32))
    tried = np.tile(codes[train], (1, len(STRENGTHS)))
    strengths = np.repeat(STRENGTHS, n_labels).tolist()
    fit = fit_logistic(InMemory(every[torch.from_numpy(train)]), multinomial(tried, size, strengths), tolerance=1e-4)
    scores = fit.scores(every).double()
    if scores.shape[2] == 1:
        scores = torch.cat([torch.zeros_like(scores), scores], dim=2)
    p = torch.softmax(scores, dim=2).numpy().reshape(len(codes), len(STRENGTHS), n_labels, size)
    return -np.log2((1 - mixed) * p + mixed / size).transpose(1, 0, 2, 3)


def _chosen(sides: Sequence[_Losses], fold: np.ndarray) -> Float[np.ndarray, " rows"]:
    """The test costs, in each fold those of the input that cost least on the fold's validation rows."""
    out = np.zeros(len(fold))
    for k in range(FOLDS):
        test, val = fold == k, fold == (k + 1) % FOLDS
        best = int(np.argmin([checked[val].mean() for _, checked in sides]))
        out[test] = sides[best][0][test]
    return out


def p_value(bits: Float[np.ndarray, " rows"], groups: np.ndarray) -> float:
    """One-sided p-value that the mean gain is not above 0, by Student's t over group sums.

    Gains that are no gains have a long tail below 0 and none above, which makes the test err on the safe side.
    """
    of_group = np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(of_group, bits)
    n, spread = len(sums), sums.std(ddof=1) if len(sums) > 1 else 0.0
    if spread <= 1e-12:
        return 1.0 if sums.mean() <= 0 else 1e-300
    return float(max(student.sf(sums.mean() / (spread / np.sqrt(n)), n - 1), 1e-300))


def summary(found: Mapping[str, InformationGain], groups: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """One row for each label: its entropy, its cost without and with, bits gained with a 95 % interval, p and q."""
    rows = []
    for name, each in found.items():
        held = groups[each.rows]
        low, high = grouped_mean_interval(each.bits, held, seed=seed)
        rows.append(
            {
                "target": name,
                "bits": float(each.bits.mean()),
                "ci_low": low,
                "ci_high": high,
                "entropy": each.entropy,
                "without": float(each.without.mean()),
                "with": float(each.with_.mean()),
                "p": p_value(each.bits, held),
                "n": len(each.rows),
                "structures": len(np.unique(held)),
            }
        )
    table = pd.DataFrame(rows)
    if len(table):
        table.insert(8, "q", q_values(table["p"].to_numpy()))
    return table
