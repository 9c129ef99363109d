"""Controls of a reading at rows that share no place, such as the last thought of a step of a text."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.models.address import Address
from interp.statistics.splits import Masks
from probes.sweeps import controls as control_inputs
from probes.sweeps.blocks import Block
from probes.sweeps.fit import fit_all
from probes.sweeps.unit import SHUFFLES, best_accuracy, majority_accuracy, shuffled

# The first needs the decoder itself; the second predicts other labels, so it is no rival of a reading.
_NOT_HERE = ("other_problem", "control_task")
_TARGET, _ESTIMATOR = "reading", "ridge"


def rival_controls() -> list[str]:
    """Return the names of the controls that `controls_at` computes: those that predict the same labels."""
    return [name for name in control_inputs.control_names() if name not in _NOT_HERE]


def controls_at(
    store: ActivationSource,
    address: Address,
    rows: pd.DataFrame,
    gold: np.ndarray,
    split: Masks,
    *,
    seed: int = 0,
    twin: ActivationSource | None = None,
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the held-out accuracy of each control of a reading, at the very rows that are read.

    Each control is fitted on the training rows of the split; alternatives are chosen on its validation rows.

    Args:
        store: The activations that are read.
        address: Where they are read.
        rows: The rows of the store's index, one for each problem.
        gold: The label of each row, shape (rows,).
        split: Train, validation and test rows.
        seed: Seed of the shuffles.
        twin: Activations of an untrained twin, for the control `random_init`.

    Returns:
        Accuracy by control, and for each control that could not be computed the reason.
    """
    rows, gold = rows.reset_index(drop=True), np.asarray(gold, dtype=str)
    accuracies: dict[str, float] = {}
    why_not: dict[str, str] = {}
    if len(set(gold[split.train])) < 2:
        return accuracies, dict.fromkeys(rival_controls(), "the training problems have a single label here")
    block = Block(rows, structures(store, rows), {_TARGET: gold}, {seed: split})
    accuracies["majority"] = majority_accuracy(gold, split)
    rng = np.random.default_rng(seed)
    labellings = {str(k): shuffled(gold, split, rng) for k in range(SHUFFLES)}
    fits = fit_all(_ESTIMATOR, store.acts(address, rows), labellings, split)
    accuracies["shuffled_labels"] = float(np.mean([(fit.labels == gold)[split.test].mean() for fit in fits.values()]))
    for name in rival_controls():
        if name in accuracies:
            continue
        make_inputs = control_inputs.input_control(name)
        alternatives = (
            control_inputs.random_init(rows, address.name, twin) if make_inputs is None else make_inputs(store, rows)
        )
        if alternatives.inputs:
            accuracies[name] = best_accuracy(_ESTIMATOR, alternatives, block)[_TARGET]
        else:
            why_not[name] = alternatives.why_not
    return accuracies, why_not
