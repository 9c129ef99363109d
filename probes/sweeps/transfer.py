"""Probes of some cells of a sweep, each tested at the other cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from interp.activations.source import ActivationSource
from interp.errors import UsageError
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.splits import Masks
from probes.estimators.base import Probe
from probes.estimators.registry import estimator_class
from probes.sweeps.single import block_at


def cell_transfer(
    store: ActivationSource,
    cells: Sequence[tuple[str, str]],
    address: str,
    *,
    estimator: str = "ridge",
    split_seed: int = 0,
) -> pd.DataFrame:
    """Fit a probe at each of some cells, and test each probe at every cell, on held-out problems.

    A probe that reads another cell as well as its own uses a direction that both share. Structures of problems that a
    probe was fitted to are in no cell's test part. `probes.sweeps.figures.transfer_matrix` draws the result.

    Args:
        store: The store that was swept.
        cells: Target and place of each cell.
        address: Address of all cells.
        estimator: A name from `probes.estimators.registry.estimator_names()`.
        split_seed: Seed of the problem split.

    Returns:
        One row for each pair. Columns: fitted_to, tested_on, accuracy, ci_low, ci_high, shuffled_labels (the same
        probe fitted to shuffled labels), majority (the most frequent value where it was fitted), n (held-out rows).

    Raises:
        UsageError: A name is unknown, a target has too few rows at a place, or a cell is named twice.
    """
    if len(set(cells)) < len(cells):
        raise UsageError(f"expected different cells, got {list(cells)}; name each once.")
    at, blocks, acts = store.address(address), {}, {}
    for target, place in cells:
        blocks[target, place] = block = block_at(store, place, target, split_seed)
        acts[target, place] = store.acts(at, block.rows)
    names, rng, rows = {cell: _name(cell, cells) for cell in cells}, np.random.default_rng(split_seed), []
    for fitted_to in cells:
        block = blocks[fitted_to]
        gold, split = block.targets[fitted_to[0]], block.splits[split_seed]
        probe = _fit(estimator, acts[fitted_to], gold, split)
        shuffled = gold.copy()
        shuffled[split.train] = gold[split.train][rng.permutation(int(split.train.sum()))]
        control = _fit(estimator, acts[fitted_to], shuffled, split)
        values, counts = np.unique(gold[split.train], return_counts=True)
        for tested_on in cells:
            other = blocks[tested_on]
            test = other.splits[split_seed].test
            true, states = other.targets[tested_on[0]][test], acts[tested_on][test]
            right = probe.predict(states) == true
            low, high = grouped_mean_interval(right, other.groups[test])
            rows.append(
                {
                    "fitted_to": names[fitted_to],
                    "tested_on": names[tested_on],
                    "accuracy": float(right.mean()),
                    "ci_low": low,
                    "ci_high": high,
                    "shuffled_labels": float((control.predict(states) == true).mean()),
                    "majority": float((true == values[counts.argmax()]).mean()),
                    "n": len(true),
                }
            )
    return pd.DataFrame(rows)


def _fit(estimator: str, acts: np.ndarray, gold: np.ndarray, split: Masks) -> Probe:
    """Return the probe with the strength that is best on validation."""
    fitted = [variant.fit(acts[split.train], gold[split.train]) for variant in estimator_class(estimator).variants()]
    return max(fitted, key=lambda probe: (probe.predict(acts[split.val]) == gold[split.val]).mean())


def _name(cell: tuple[str, str], cells: Sequence[tuple[str, str]]) -> str:
    """Return the name of a cell: its place, with its target where targets differ."""
    return cell[1] if len({target for target, _ in cells}) == 1 else f"{cell[0].replace('_', ' ')} at {cell[1]}"
