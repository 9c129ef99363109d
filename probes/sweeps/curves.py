"""Learning curves, description lengths and reliability curves of single probes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.errors import UsageError, checked_count
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.metrics import reliability as reliability_bins
from interp.statistics.splits import Masks
from probes.estimators.base import Probe
from probes.estimators.registry import estimator_class
from probes.estimators.saved import SavedProbe
from probes.sweeps import controls as control_inputs
from probes.sweeps.blocks import Block
from probes.sweeps.description_length import DescriptionLength, online_code
from probes.sweeps.fit import fit_all
from probes.sweeps.single import MIN_HELD_OUT, block_at, held_out_rows


def learning_curve(
    store: ActivationSource,
    target: str,
    place: str,
    address: str,
    *,
    sizes: Sequence[int] | None = None,
    estimator: str = "ridge",
    split_seed: int = 0,
) -> pd.DataFrame:
    """Return held-out accuracy for several numbers of training problems.

    Every size uses the first problems of one random order, so each contains the smaller ones. All sizes are tested on
    the same held-out problems. `probes.sweeps.figures.learning_curve` draws the result.

    Args:
        store: The store.
        target: The target to predict.
        place: The place to read.
        address: The address to read.
        sizes: Numbers of training problems; doubling from 25 by default.
        estimator: A name from `probes.estimators.registry.estimator_names()`.
        split_seed: Seed of the problem split and of the random order.

    Returns:
        Columns `n_train`, `accuracy`, `ci_low`, `ci_high`, `majority` and `shuffled_labels`.

    Raises:
        UsageError: A size is larger than the training part, or a name is unknown.
    """
    block = block_at(store, place, target, split_seed)
    gold, split = block.targets[target], block.splits[split_seed]
    acts = store.acts(store.address(address), block.rows)
    rng = np.random.default_rng(split_seed)
    order = rng.permutation(np.unique(block.groups[split.train]))
    sizes = [checked_count("size", size) for size in sizes] if sizes else _doubling(len(order))
    if max(sizes) > len(order):
        raise UsageError(
            f"expected at most {len(order)} training problems in split {split_seed}, got {max(sizes)}; "
            "choose smaller sizes, or capture more problems."
        )
    shuffled = gold.copy()
    shuffled[split.train] = gold[split.train][rng.permutation(int(split.train.sum()))]
    rows = []
    for size in sizes:
        part = Masks(split.train & np.isin(block.groups, order[:size]), split.val, split.test)
        if len(np.unique(gold[part.train])) < 2:
            continue
        rows.append({"n_train": size, **_test(estimator, acts, gold, shuffled, part, block)})
    return pd.DataFrame(rows)


def _doubling(largest: int) -> list[int]:
    sizes = [25 * 2**k for k in range(20) if 25 * 2**k < largest]
    return [*sizes, largest]


def _test(
    estimator: str, acts: np.ndarray, gold: np.ndarray, shuffled: np.ndarray, part: Masks, block: Block
) -> dict[str, float]:
    """Return one row of a learning curve, without its size."""
    labellings = {"target": gold}
    if len(np.unique(shuffled[part.train])) > 1:
        labellings["shuffled"] = shuffled
    fitted = fit_all(estimator, acts, labellings, part)
    right = (fitted["target"].labels == gold)[part.test]
    low, high = grouped_mean_interval(right, block.groups[part.test])
    values, counts = np.unique(gold[part.train], return_counts=True)
    chance = float((fitted["shuffled"].labels == gold)[part.test].mean()) if "shuffled" in fitted else float("nan")
    return {
        "accuracy": float(right.mean()),
        "ci_low": low,
        "ci_high": high,
        "majority": float((gold[part.test] == values[counts.argmax()]).mean()),
        "shuffled_labels": chance,
    }


def description_length(
    store: ActivationSource, target: str, place: str, address: str, *, estimator: str = "ridge", split_seed: int = 0
) -> dict[str, DescriptionLength]:
    """Return the online code length of a target's labels given the activations, and that of its control task.

    Labels that the activations shorten while the control task stays long are encoded, not memorised.

    Args:
        store: The store.
        target: The target.
        place: The place to read.
        address: The address to read.
        estimator: A name from `probes.estimators.registry.estimator_names()`.
        split_seed: Seed of the order of the rows.

    Returns:
        Lengths under the keys `target` and `control_task`; the second is missing where every row has the same tokens.

    References:
        Voita and Titov, "Information-theoretic probing with minimum description length" (arXiv 2003.12298).
    """
    block = block_at(store, place, target, split_seed)
    gold = block.targets[target]
    acts = store.acts(store.address(address), block.rows)
    cls = estimator_class(estimator)

    def make() -> Probe:
        return cls.variants()[0]

    lengths = {"target": online_code(acts, gold, make, groups=block.groups, seed=split_seed)}
    types = control_inputs.word_types(store, block.rows)
    if types is not None:
        control = control_inputs.control_task(gold, types, split_seed)
        lengths["control_task"] = online_code(acts, control, make, groups=block.groups, seed=split_seed)
    return lengths


def reliability(
    saved: SavedProbe, store: ActivationSource, *, bins: int = 15, place: str | None = None, transfer: bool = False
) -> pd.DataFrame:
    """Return the reliability curve of a saved probe on held-out problems of a store.

    `probes.sweeps.figures.reliability` draws the result.

    Args:
        saved: The probe.
        store: The store to read.
        bins: Number of bins.
        place: The place to read; that of the probe by default.
        transfer: Allow activations of another model.

    Returns:
        Columns `confidence`, `accuracy` and `n`, one row for each bin.

    Raises:
        UsageError: There are too few held-out rows.
    """
    rows, gold, _ = held_out_rows(saved, store, place=place)
    if len(rows) < MIN_HELD_OUT:
        raise UsageError(
            f"expected {MIN_HELD_OUT} held-out rows for a reliability curve, got {len(rows)}; capture more problems."
        )
    p = saved.predict_proba(store, rows, transfer=transfer)
    return reliability_bins(gold, saved.probe.classes_.astype(str), p, bins=bins)
