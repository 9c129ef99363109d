"""Usable information: how many bits a family of predictors gains about a label from some features.

V-information (Xu et al., arXiv 2002.10689, definition 2): the family's held-out cross-entropy without the features
minus that with them. The family here is logistic regression that may ignore any of its inputs. For information
*beyond* other inputs, both sides get those inputs. The side without the features may also use others of the same
capacity in their place, such as the activations of an untrained model; validation chooses among them.

A channel is often in a few columns of many, where a regression on all of them spends its sample on the others. So the
side with the features may also use only the columns that go best with the label in the fitted rows (sure independence
screening, Fan and Lv 2008), beside the other inputs where these help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import t as student

from interp.statistics.estimates import Estimate
from interp.statistics.intervals import q_values
from probes.subtext.entropy import at_most, class_costs_in_truth, label_entropy
from probes.subtext.readers import (
    Features,
    Losses,
    best_on_validation,
    best_where_fitted,
    chosen_on_validation,
    cross_fitted,
    folds,
    parts,
)

SCREENED = (2, 16)  # numbers of columns that screening keeps
MIN_ROWS = 40  # below this nothing is estimated


@dataclass(frozen=True)
class InformationGain:
    """What the features add about one label, row by row.

    Attributes:
        rows: Numbers of the rows that have the label.
        without: Cost of the label without the features, in bits, shape (rows,).
        with_: Cost with the features, in bits, shape (rows,).
        fitted: Cost with the features to readers that were fitted to the row, in bits, shape (rows,).
        left_open: Cost without the features where nothing has to be learned from a sample: where no other input helps,
            what the class costs a reader who knows the probabilities of the classes, shape (rows,).
        entropy: Entropy of the label with its interval, in bits; no features can say more.
    """

    rows: np.ndarray
    without: Float[np.ndarray, " rows"]
    with_: Float[np.ndarray, " rows"]
    fitted: Float[np.ndarray, " rows"]
    left_open: Float[np.ndarray, " rows"]
    entropy: Estimate

    @property
    def bits(self) -> Float[np.ndarray, " rows"]:
        """Bits gained in each row."""
        return self.without - self.with_

    def estimate(self, groups: np.ndarray, seed: int = 0) -> Estimate:
        """Return the bits with their interval, neither of which exceeds the entropy.

        Args:
            groups: Group of each of `rows`, shape (rows,).
            seed: Seed of the bootstrap.
        """
        # The side with the features has at most all of its cost still to lose.
        overpaid = max(float((self.without - self.left_open - self.with_).mean()), 0.0)
        return at_most(self.entropy, Estimate.of_mean(self.bits, groups, seed=seed), overpaid)


def information_gain(
    labels: Mapping[str, np.ndarray],
    given: Sequence[Features],
    beyond: Features,
    groups: np.ndarray,
    *,
    seed: int = 0,
    share: float = 1.0,
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
        share: Share of the groups of each fit that are really fitted, for learning curves.

    Returns:
        The gain of each label. A label with fewer than two classes or 40 rows is left out.

    Raises:
        UsageError: There are fewer than ten groups.

    References:
        Xu et al. 2020, arXiv 2002.10689, definition 2. Fan and Lv 2008, "Sure independence screening for ultrahigh
        dimensional feature space".
    """
    gains: dict[str, InformationGain] = {}
    for rows, names in _labels_by_rows(labels):
        if len(rows) < MIN_ROWS:
            continue
        codes_of = {}
        for name in names:
            classes, codes = np.unique(labels[name][rows].astype(str), return_inverse=True)
            if len(classes) > 1:
                codes_of[name] = codes
        if not codes_of:
            continue
        baseline = LabelBaseline.fitted(
            codes_of, [matrix[rows] for matrix in given], groups[rows], seed=seed, share=share
        )
        for name, (without, with_, fitted) in baseline.costs_with(beyond[rows]).items():
            codes = codes_of[name]
            blind = chosen_on_validation(baseline.losses[name], baseline.fold) == 0
            left_open = np.where(blind, class_costs_in_truth(codes, groups[rows]), without)
            entropy = label_entropy(codes, groups[rows], seed=seed)
            gains[name] = InformationGain(rows, without, with_, fitted, left_open, entropy)
    return {name: gains[name] for name in labels if name in gains}


class ReaderCosts(NamedTuple):
    """Costs of a label in each row, in bits.

    Attributes:
        without: Without the features, shape (rows,).
        with_: With the features, shape (rows,).
        fitted: With the features, by readers that were fitted to the row, shape (rows,).
    """

    without: Float[np.ndarray, " rows"]
    with_: Float[np.ndarray, " rows"]
    fitted: Float[np.ndarray, " rows"]


@dataclass(frozen=True)
class LabelBaseline:
    """What is known of some labels without the features; fitted once for many sets of features.

    Attributes:
        codes_of: Label name to the class of each row, shape (rows,).
        given: The input that features go beyond, shape (rows, d).
        fold: Fold of each row, shape (rows,).
        usable: Which rows may be fitted, shape (rows,).
        losses: Label name to its costs by each input without the features.
    """

    codes_of: Mapping[str, np.ndarray]
    given: Features
    fold: np.ndarray
    usable: np.ndarray
    losses: Mapping[str, list[Losses]]

    @classmethod
    def fitted(
        cls,
        codes_of: Mapping[str, np.ndarray],
        given: Sequence[Features],
        groups: np.ndarray,
        *,
        seed: int = 0,
        share: float = 1.0,
    ) -> LabelBaseline:
        """Fit nothing and each of `given` to every label.

        Args:
            codes_of: Label name to the class of each row, shape (rows,).
            given: As in `information_gain`.
            groups: Group of each row, shape (rows,).
            seed: Seed of the folds.
            share: As in `information_gain`.

        Raises:
            UsageError: There are fewer than ten groups.
        """
        fold, of_group = folds(groups, seed), np.unique(groups, return_inverse=True)[1]
        usable = (np.random.default_rng([seed, 78]).random(int(of_group.max()) + 1) < share)[of_group]
        sides = [np.empty((len(groups), 0)), *given]
        fits = [cross_fitted(side, codes_of, fold, usable) for side in sides]
        return cls(codes_of, given[0], fold, usable, {name: [fit[name] for fit in fits] for name in codes_of})

    def costs_with(self, beyond: Features) -> dict[str, ReaderCosts]:
        """Return each label's cost in every row without `beyond` and with it, in bits.

        Args:
            beyond: Features whose information is measured, shape (rows, d).
        """
        joined = np.concatenate([self.given, beyond], axis=1)
        with_all = cross_fitted(joined, self.codes_of, self.fold, self.usable)
        costs = {}
        for name, codes in self.codes_of.items():
            sides = [*self.losses[name], with_all[name], *self._screened(name, codes, beyond)]
            without, with_ = (best_on_validation(part, self.fold) for part in (self.losses[name], sides))
            costs[name] = ReaderCosts(without, with_, best_where_fitted(sides, self.fold))
        return costs

    def _screened(self, name: str, codes: np.ndarray, beyond: Features) -> list[Losses]:
        """Return costs with the few columns of `beyond` that go best with the label.

        They stand beside `given` in the folds where that predicts the label better than nothing does.
        """
        columns: dict[int, list[Features]] = {count: [] for count in SCREENED if 2 * count < beyond.shape[1]}
        nothing, given = (losses.validated for losses in self.losses[name][:2])
        for _, val, train in parts(self.fold, self.usable) if columns else ():
            order = _by_association(beyond, codes, train)
            beside = [self.given] if given[val].mean() < nothing[val].mean() else []
            for count, by_fold in columns.items():
                by_fold.append(np.concatenate([*beside, beyond[:, order[:count]]], axis=1))
        return [cross_fitted(by_fold, {name: codes}, self.fold, self.usable)[name] for by_fold in columns.values()]


def _by_association(columns: Features, codes: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return the order of the columns by how well they go with the classes, in the rows `train`."""
    x = columns[train] - columns[train].mean(axis=0)
    x = x / np.maximum(x.std(axis=0), 1e-9)
    y = np.eye(int(codes.max()) + 1)[codes[train]]
    share = y.mean(axis=0)
    correlation = x.T @ (y - share) / len(x) / np.sqrt(np.maximum(share * (1 - share), 1e-9))
    return np.argsort(-(correlation**2).sum(axis=1), kind="stable")


def _labels_by_rows(labels: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, list[str]]]:
    """Group the labels that exist for the same rows."""
    by_mask: dict[bytes, tuple[np.ndarray, list[str]]] = {}
    for name, values in labels.items():
        mask = np.array([value is not None for value in values])
        by_mask.setdefault(mask.tobytes(), (np.flatnonzero(mask), []))[1].append(name)
    return list(by_mask.values())


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
        bits = gain.estimate(held, seed)
        records.append(
            {
                "target": name,
                "bits": bits.value,
                "ci_low": bits.low,
                "ci_high": bits.high,
                "entropy": gain.entropy.value,
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
