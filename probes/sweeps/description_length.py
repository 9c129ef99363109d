"""Minimum description length of labels given activations, by the online code.

References:
    Voita and Titov, "Information-theoretic probing with minimum description length" (arXiv 2003.12298).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from interp.errors import UsageError, checked_count
from interp.problems.base import checked_seed
from interp.statistics.splits import Masks
from probes.solvers.ridge import check_finite
from probes.sweeps.fit import fit_all

FIRST_BLOCK = 32


@dataclass(frozen=True)
class DescriptionLength:
    """The length of labels under the online code.

    Attributes:
        bits: Length in bits.
        uniform_bits: Length under a uniform code over the classes, in bits.
        n: Number of labels.
        blocks: One row for each transmitted block: `start`, `stop`, `bits`, `bits_per_label`.
    """

    bits: float
    uniform_bits: float
    n: int
    blocks: pd.DataFrame

    @property
    def bits_per_label(self) -> float:
        """Bits for each label."""
        return self.bits / self.n

    @property
    def compression(self) -> float:
        """How many times shorter than the uniform code; 1 if nothing is learned."""
        return self.uniform_bits / self.bits


def online_code(
    X: Float[np.ndarray, "rows d"],  # noqa: N803
    y: np.ndarray,
    make: Callable[[], Any],
    *,
    groups: np.ndarray | None = None,
    first: int = FIRST_BLOCK,
    seed: int = 0,
) -> DescriptionLength:
    """Return the length of labels given rows, under the online code.

    The first block of labels is coded uniformly over the classes. Each further block is as long as all before it and
    coded by a fresh classifier fitted to them. Each probability is mixed with the uniform one, which gets a share of
    1/(t + 1) after t labels, so that a class not seen before can be coded.

    Args:
        X: Rows, shape (rows, d).
        y: Labels, shape (rows,).
        make: Returns an unfitted scikit-learn classifier.
        groups: Group of each row, shape (rows,). Rows of one group are always in one block.
        first: Number of labels in the first block.
        seed: Seed of the order of the rows.

    Returns:
        The length, with that of each block.

    Raises:
        UsageError: There are fewer than two classes or than `first` + 1 rows, lengths differ, or a row is not finite.

    References:
        Voita and Titov (arXiv 2003.12298, section 2.2.2).
    """
    rows, labels = np.asarray(X), np.asarray(y)
    start = checked_count("first", first)
    if len(labels) != len(rows) or (groups is not None and len(groups) != len(rows)):
        n_groups = "" if groups is None else f" and {len(groups)} groups"
        raise UsageError(
            f"expected a label and a group for each of {len(rows)} rows, got {len(labels)} labels{n_groups}; "
            "give one for each row."
        )
    if len(rows) <= start:
        raise UsageError(
            f"expected more rows than the first block of {start}, got {len(rows)}; use more rows, or a smaller `first`."
        )
    check_finite(rows, "X")
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UsageError(
            f"expected labels of at least two classes, got only {str(classes[0])!r}; choose a target that varies."
        )
    order, ends = _order(len(rows), groups, checked_seed(seed))
    rows, codes = rows[order], codes[order]
    coded = []
    for low, high in _blocks(ends, start):
        p = _probabilities(make, rows[:low], codes[:low], rows[low:high], len(classes))
        coded.append(_block(low, high, p, codes[low:high]))
    return _total(coded, len(classes))


def online_codes(
    estimator: str,
    X: Float[np.ndarray, "rows d"],  # noqa: N803
    labellings: Mapping[str, np.ndarray],
    *,
    groups: np.ndarray,
    seed: int = 0,
) -> dict[str, DescriptionLength]:
    """Return the online code lengths of many labellings of the same rows, fitted together block by block.

    Where the estimator chooses a strength, the last tenth of the labels coded so far chooses it.

    Args:
        estimator: A name from `probes.estimators.registry.estimator_names()`.
        X: Rows, shape (rows, d).
        labellings: Labels by name, each of shape (rows,).
        groups: Group of each row, shape (rows,).
        seed: Seed of the order of the rows.

    Returns:
        Lengths by the name of the labelling.

    Raises:
        UsageError: The estimator is unknown, or a row is not finite.
    """
    order, ends = _order(len(X), groups, checked_seed(seed))
    rows = np.asarray(X)[order]
    with_codes = {name: np.unique(np.asarray(y)[order], return_inverse=True) for name, y in labellings.items()}
    coded: dict[str, list[dict[str, float]]] = {name: [] for name in with_codes}
    for low, high in _blocks(ends, FIRST_BLOCK):
        p = {name: np.zeros((high - low, len(classes))) for name, (classes, _) in with_codes.items()}
        cut = int(ends[max(int(np.searchsorted(ends, 0.9 * low, side="right")) - 1, 0)])
        if 0 < cut < low:
            index = np.arange(high)
            split = Masks(index < cut, (index >= cut) & (index < low), index >= low)
            varied = {name: codes[:high] for name, (_, codes) in with_codes.items() if len(np.unique(codes[:cut])) > 1}
            for name, codes in ((name, codes) for name, (_, codes) in with_codes.items() if name not in varied):
                p[name][:, codes[0]] = 1.0
            for name, fitted in fit_all(estimator, rows[:high], varied, split).items() if varied else ():
                p[name][:, fitted.classes] = fitted.probabilities()[split.test]
        for name, (classes, codes) in with_codes.items():
            mixed = _mixed(p[name], low) if low else np.full_like(p[name], 1 / len(classes))
            coded[name].append(_block(low, high, mixed, codes[low:high]))
    return {name: _total(blocks, len(with_codes[name][0])) for name, blocks in coded.items()}


def _blocks(ends: Int[np.ndarray, " groups"], first: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each block; a block is as long as all before it."""
    low, high = 0, _end(ends, first)
    while low < ends[-1]:
        yield low, high
        low, high = high, _end(ends, 2 * high)


def _block(low: int, high: int, p: Float[np.ndarray, "rows classes"], codes: np.ndarray) -> dict[str, float]:
    bits = float(-np.log2(p[np.arange(high - low), codes]).sum())
    return {"start": low, "stop": high, "bits": bits, "bits_per_label": bits / (high - low)}


def _total(blocks: list[dict[str, float]], n_classes: int) -> DescriptionLength:
    frame, n = pd.DataFrame(blocks), int(blocks[-1]["stop"])
    return DescriptionLength(float(frame["bits"].sum()), n * float(np.log2(n_classes)), n, frame)


def _order(n: int, groups: np.ndarray | None, seed: int) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " groups"]]:
    """Return a random order of the rows that keeps groups together, and the end of each group in it."""
    of_row = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    rank = np.random.default_rng(seed).permutation(int(of_row.max()) + 1)[of_row]
    return np.argsort(rank, kind="stable"), np.cumsum(np.bincount(rank))


def _end(ends: Int[np.ndarray, " groups"], wanted: int) -> int:
    """Return the first end of a group at or after `wanted`, or the last."""
    return int(ends[min(int(np.searchsorted(ends, wanted)), len(ends) - 1)])


def _probabilities(
    make: Callable[[], Any], seen: np.ndarray, codes: np.ndarray, rows: np.ndarray, n_classes: int
) -> Float[np.ndarray, "rows classes"]:
    """Return class probabilities of `rows` by a classifier fitted to the rows coded so far."""
    p = np.zeros((len(rows), n_classes))
    classes = np.unique(codes)
    if len(classes) == 1:
        p[:, classes[0]] = 1.0
    elif len(classes):
        fitted = make().fit(seen, codes)
        p[:, fitted.classes_] = fitted.predict_proba(rows)
    return _mixed(p, len(codes))


def _mixed(p: Float[np.ndarray, "rows classes"], coded: int) -> Float[np.ndarray, "rows classes"]:
    """Return probabilities mixed with the uniform ones, whose share is 1 / (labels coded + 1)."""
    share = 1.0 / (coded + 1)
    return (1 - share) * p + share / p.shape[1]
