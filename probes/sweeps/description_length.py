"""How many bits the labels cost a receiver who has the rows: minimum description length by the online code."""

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
from probes.estimators.base import refuse_unfinished
from probes.sweeps.fit import fit_all

FIRST = 32


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
    first: int = FIRST,
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
    sent = []
    for low, high in _blocks(ends, start):
        p = _chances(make, rows[:low], codes[:low], rows[low:high], len(classes))
        sent.append(_block(low, high, p, codes[low:high]))
    return _length(sent, len(classes))


def online_codes(
    estimator: str,
    X: Float[np.ndarray, "rows d"],  # noqa: N803
    labellings: Mapping[str, np.ndarray],
    *,
    groups: np.ndarray,
    seed: int = 0,
) -> dict[str, DescriptionLength]:
    """The online code of many labellings of the same rows, each block fitted to all of them together.

    As `online_code`, with an estimator of `probes.sweeps.fit.ESTIMATORS`; where it has a strength to choose, the last
    tenth of what was sent chooses it. Raises `UsageError` on an unknown estimator and on rows that are not finite.
    """
    order, ends = _order(len(X), groups, checked_seed(seed))
    rows = np.asarray(X)[order]
    coded = {name: np.unique(np.asarray(y)[order], return_inverse=True) for name, y in labellings.items()}
    sent: dict[str, list[dict[str, float]]] = {name: [] for name in coded}
    for low, high in _blocks(ends, FIRST):
        chances = {name: np.zeros((high - low, len(classes))) for name, (classes, _) in coded.items()}
        cut = int(ends[max(int(np.searchsorted(ends, 0.9 * low, side="right")) - 1, 0)])
        if 0 < cut < low:
            at = np.arange(high)
            split = Masks(at < cut, (at >= cut) & (at < low), at >= low)
            several = {name: codes[:high] for name, (_, codes) in coded.items() if len(np.unique(codes[:cut])) > 1}
            for name, codes in ((name, codes) for name, (_, codes) in coded.items() if name not in several):
                chances[name][:, codes[0]] = 1.0
            for name, read in fit_all(estimator, rows[:high], several, split).items() if several else ():
                chances[name][:, read.classes] = read.probabilities()[split.test]
        for name, (classes, codes) in coded.items():
            p = _mixed(chances[name], low) if low else np.full_like(chances[name], 1 / len(classes))
            sent[name].append(_block(low, high, p, codes[low:high]))
    return {name: _length(found, len(coded[name][0])) for name, found in sent.items()}


def _blocks(ends: Int[np.ndarray, " groups"], first: int) -> Iterator[tuple[int, int]]:
    """From where to where each block of the code goes: each as long as all before it."""
    low, high = 0, _end(ends, first)
    while low < ends[-1]:
        yield low, high
        low, high = high, _end(ends, 2 * high)


def _block(low: int, high: int, p: Float[np.ndarray, "rows classes"], codes: np.ndarray) -> dict[str, float]:
    bits = float(-np.log2(p[np.arange(high - low), codes]).sum())
    return {"start": low, "stop": high, "bits": bits, "bits_per_label": bits / (high - low)}


def _length(sent: list[dict[str, float]], n_classes: int) -> DescriptionLength:
    frame, n = pd.DataFrame(sent), int(sent[-1]["stop"])
    return DescriptionLength(float(frame["bits"].sum()), n * float(np.log2(n_classes)), n, frame)


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
    return _mixed(p, len(codes))


def _mixed(p: Float[np.ndarray, "rows classes"], sent: int) -> Float[np.ndarray, "rows classes"]:
    """Probabilities told by `sent` labels with the uniform ones in: any class can be sent."""
    share = 1.0 / (sent + 1)
    return (1 - share) * p + share / p.shape[1]
