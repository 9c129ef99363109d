"""How much a probe needs: scores against training problems, bits by the online code, and how calibrated it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.errors import UsageError, checked_count
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.metrics import reliability as reliability_bins
from interp.statistics.splits import Masks
from probes.estimators.saved import SavedProbe
from probes.sweeps import controls as ladder
from probes.sweeps.blocks import MIN_ROWS, Block
from probes.sweeps.description_length import DescriptionLength, online_code
from probes.sweeps.fit import fit_all
from probes.sweeps.single import CANDIDATES, block_at, held_out_rows


def learning_curve(
    store: ActivationSource,
    target: str,
    place: str,
    address: str,
    *,
    sizes: Sequence[int] | None = None,
    estimator: str = "ridge",
    seed: int = 0,
) -> pd.DataFrame:
    """Held-out accuracy against the number of training problems; `probes.sweeps.figures.learning_curve` draws it.

    Every size trains on the first problems of one random order, so each contains the smaller ones, and all are tested
    on the same held-out problems. Columns: n_train, accuracy, ci_low, ci_high, majority, shuffled_labels. `sizes`
    double from 25 by default. Raises `UsageError` on a size larger than the training part.
    """
    block = block_at(store, place, target, seed)
    gold, split = block.targets[target], block.splits[seed]
    acts = store.acts(store.address(address), block.rows)
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.unique(block.groups[split.train]))
    sizes = [checked_count("size", size) for size in sizes] if sizes else _doubling(len(order))
    if max(sizes) > len(order):
        raise UsageError(f"{max(sizes)} training problems were asked for, but split {seed} has {len(order)}.")
    shuffled = gold.copy()
    shuffled[split.train] = gold[split.train][rng.permutation(int(split.train.sum()))]
    out = []
    for size in sizes:
        part = Masks(split.train & np.isin(block.groups, order[:size]), split.val, split.test)
        if len(np.unique(gold[part.train])) < 2:
            continue
        out.append({"n_train": size, **_tested(estimator, acts, gold, shuffled, part, block)})
    return pd.DataFrame(out)


def _doubling(most: int) -> list[int]:
    sizes = [25 * 2**k for k in range(20) if 25 * 2**k < most]
    return [*sizes, most]


def _tested(
    estimator: str, acts: np.ndarray, gold: np.ndarray, shuffled: np.ndarray, part: Masks, block: Block
) -> dict[str, float]:
    labellings = {"target": gold}
    if len(np.unique(shuffled[part.train])) > 1:
        labellings["shuffled"] = shuffled
    read = fit_all(estimator, acts, labellings, part)
    right = (read["target"].text == gold)[part.test]
    low, high = grouped_mean_interval(right, block.groups[part.test])
    values, counts = np.unique(gold[part.train], return_counts=True)
    chance = float((read["shuffled"].text == gold)[part.test].mean()) if "shuffled" in read else float("nan")
    return {
        "accuracy": float(right.mean()),
        "ci_low": low,
        "ci_high": high,
        "majority": float((gold[part.test] == values[counts.argmax()]).mean()),
        "shuffled_labels": chance,
    }


def description_length(
    store: ActivationSource, target: str, place: str, address: str, *, estimator: str = "ridge", seed: int = 0
) -> dict[str, DescriptionLength]:
    """Bits by the online code for a target's labels given the activations, and for its control task given the same.

    Labels that the activations make short while the control task stays long are there to be read, not memorised
    (Voita and Titov, arXiv 2003.12298). The control task is left out where every row has the same words.
    """
    block = block_at(store, place, target, seed)
    gold = block.targets[target]
    acts = store.acts(store.address(address), block.rows)
    make: Any = CANDIDATES[estimator][0]
    found = {"target": online_code(acts, gold, make, groups=block.groups, seed=seed)}
    types = ladder.word_types(store, block.rows)
    if types is not None:
        control = ladder.control_task(gold, types, seed)
        found["control_task"] = online_code(acts, control, make, groups=block.groups, seed=seed)
    return found


def reliability(
    saved: SavedProbe, store: ActivationSource, *, bins: int = 15, place: str | None = None, transfer: bool = False
) -> pd.DataFrame:
    """The reliability curve of a saved probe on held-out problems of a store; `probes.sweeps.figures.reliability` draws it."""
    rows, gold, _ = held_out_rows(saved, store, place=place)
    if len(rows) < MIN_ROWS // 4:
        raise UsageError(f"only {len(rows)} held-out rows for a reliability curve; capture more problems.")
    p = saved.predict_proba(store, rows, transfer=transfer)
    return reliability_bins(gold, saved.probe.classes_.astype(str), p, bins=bins)
