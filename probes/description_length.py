"""How many bits the labels cost a receiver who has the rows: minimum description length by the online code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from interp.errors import UsageError, checked_count
from interp.problems.base import checked_seed
from probes.base import refuse_unfinished


@dataclass(frozen=True)
class DescriptionLength:
    """The length of labels under the online code, in bits, and what a uniform code over their classes takes.

    `blocks` has a row for each block that was sent: start, stop, bits, bits_per_label.
    """

    bits: float
    uniform_bits: float
    n: int
    blocks: pd.DataFrame

    @property
    def bits_per_label(self) -> float:
        return self.bits / self.n

    @property
    def compression(self) -> float:
        """How many times shorter than the uniform code: 1 where nothing is learned."""
        return self.uniform_bits / self.bits


def online_code(
    X: Float[np.ndarray, "rows d"],  # noqa: N803
    y: np.ndarray,
    make: Callable[[], Any],
    *,
    groups: np.ndarray | None = None,
    first: int = 32,
    seed: int = 0,
) -> DescriptionLength:
    """The online code of Voita & Titov (arXiv 2003.12298) for labels `y` given rows `X`.

    Labels are sent in blocks that double what was sent: the first `first` of them by a uniform code over the classes,
    each further block by a fresh `make()` (any scikit-learn classifier) fitted to all labels before it. Rows are put
    in an order by `seed`, whole `groups` at a time, so that a block is never told by a row of the same problem. So that
    any label can be sent, even of a class not met so far, each probability is mixed with the uniform one, which gets a
    share of 1 in t + 1 after t labels. Raises `UsageError` with fewer than two classes or than `first` + 1 rows.
    """
    rows, labels = np.asarray(X), np.asarray(y)
    start = checked_count("first", first)
    if len(labels) != len(rows) or (groups is not None and len(groups) != len(rows)):
        raise UsageError(f"{len(rows)} rows came with {len(labels)} labels or another number of groups; give one each.")
    if len(rows) <= start:
        raise UsageError(f"{len(rows)} rows are too few for a first block of {start}. Use more, or a smaller `first`.")
    refuse_unfinished(rows, "X")
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UsageError(f"a code needs two classes to tell apart, but the only one here is {str(classes[0])!r}.")
    order, ends = _order(len(rows), groups, checked_seed(seed))
    rows, codes = rows[order], codes[order]
    blocks = []
    low, high = 0, _end(ends, start)
    while low < len(rows):
        p = _chances(make, rows[:low], codes[:low], rows[low:high], len(classes))
        bits = float(-np.log2(p[np.arange(high - low), codes[low:high]]).sum())
        blocks.append({"start": low, "stop": high, "bits": bits, "bits_per_label": bits / (high - low)})
        low, high = high, _end(ends, 2 * high)
    frame = pd.DataFrame(blocks)
    return DescriptionLength(float(frame["bits"].sum()), len(rows) * float(np.log2(len(classes))), len(rows), frame)


def _order(n: int, groups: np.ndarray | None, seed: int) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " groups"]]:
    """A random order that keeps groups together, and where each of them ends in it."""
    of_row = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    place = np.random.default_rng(seed).permutation(int(of_row.max()) + 1)[of_row]
    return np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))


def _end(ends: Int[np.ndarray, " groups"], wanted: int) -> int:
    """The first end of a group at or after `wanted`, or the last."""
    return int(ends[min(int(np.searchsorted(ends, wanted)), len(ends) - 1)])


def _chances(
    make: Callable[[], Any], seen: np.ndarray, codes: np.ndarray, rows: np.ndarray, n_classes: int
) -> Float[np.ndarray, "rows classes"]:
    """The probability of every class for `rows`, told by what was `seen`."""
    p = np.zeros((len(rows), n_classes))
    met = np.unique(codes)
    if len(met) == 1:
        p[:, met[0]] = 1.0
    elif len(met):
        fitted = make().fit(seen, codes)
        p[:, fitted.classes_] = fitted.predict_proba(rows)
    share = 1.0 / (len(codes) + 1)
    return (1 - share) * p + share / n_classes
