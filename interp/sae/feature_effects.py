"""What one feature does to one trace: the model thinks again with the feature removed or raised.

Beside it stand random directions: the same push at the same positions, of the same length. Where these change the answer
as often, the feature's own direction shows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch

from interp.errors import UsageError, unknown
from interp.models.address import Address
from interp.problems import task as make_task
from interp.reasoners.interventions import Intervention
from interp.statistics.estimates import Estimate
from interp.traces import Trace

if TYPE_CHECKING:
    from sae_lens import SAE
    from torch import Tensor

    from interp.reasoners import Reasoner

EDITS = ("ablate", "steer")
FeatureEdit = Literal["ablate", "steer"]
CONTROLS = 20


@dataclass(frozen=True)
class FeatureEffect:
    """Answers to one problem after an edit of one feature.

    Attributes:
        before: The answer without an edit.
        after: The answer with it.
        changed: Whether the edit changes the answer.
        controls: One row for each random direction. Columns: direction, answer, changed.
        random_rate: The fraction of random directions that change the answer.
        length: Mean length of the push at the edited positions.
        activation: Mean activation of the feature at the edited positions, as the model thinks with the edit.
        texts: What the model writes: before, after.
    """

    before: str
    after: str
    changed: bool
    controls: pd.DataFrame
    random_rate: Estimate
    length: float
    activation: float
    texts: tuple[str, str]

    @property
    def specific(self) -> bool:
        """Whether the edit changes the answer and random directions of its length hardly ever do (less than 1 in 2)."""
        return self.changed and self.random_rate.value < 0.5


def feature_effect(
    reasoner: Reasoner,
    sae: SAE,
    address: Address,
    trace: Trace,
    positions: np.ndarray,
    feature: int,
    *,
    edit: FeatureEdit = "ablate",
    amount: float = 1.0,
    controls: int = CONTROLS,
    seed: int = 0,
) -> FeatureEffect:
    """Let a reasoner think about one problem again with one feature removed or raised.

    Args:
        reasoner: The reasoner of the trace.
        sae: An SAE of SAELens that reads its activations.
        address: Where the SAE reads, and the edit is made.
        trace: The trace.
        positions: Positions of the trace that are edited, shape (positions,).
        feature: Number of the feature.
        edit: `ablate` takes away what the feature adds at each position; `steer` adds `amount` of its activation.
        amount: Of `steer`: the activation that is added at every position.
        controls: Number of random directions.
        seed: Seed of the random directions.

    Returns:
        The answers.

    Raises:
        UsageError: Unknown edit, no such feature, or no position.
    """
    if edit not in EDITS:
        raise unknown("edit of a feature", edit, EDITS)
    if not 0 <= feature < sae.cfg.d_sae:
        raise UsageError(f"expected a feature between 0 and {sae.cfg.d_sae - 1}, got {feature}; choose one of those.")
    if not len(positions):
        raise UsageError("expected positions of the trace to edit, got none; choose a trace whose thoughts are stored.")
    pushes = _Pushes(sae, feature, None if edit == "ablate" else amount, controls, seed)
    n = controls + 1
    rows = np.stack([np.repeat(np.arange(1, n + 1), len(positions)), np.tile(positions, n)], axis=1)
    pushes.direction_of_row = rows[:, 0] - 1
    before, after, *random = reasoner.think(
        [trace.problem] * (n + 1), batch_size=n + 1, interventions=[Intervention(address, rows, pushes.edit)]
    )
    task = make_task(trace.problem.task)

    def changed(other: Trace) -> bool:
        return not task.same_answer(trace.problem, other.answer, before.answer)

    table = pd.DataFrame(
        {
            "direction": range(1, controls + 1),
            "answer": [other.answer for other in random],
            "changed": [changed(other) for other in random],
        }
    )
    return FeatureEffect(
        before=before.answer,
        after=after.answer,
        changed=changed(after),
        controls=table,
        random_rate=Estimate.of_mean(table["changed"].to_numpy(float), np.arange(controls)),
        length=pushes.mean_length,
        activation=pushes.mean_activation,
        texts=(before.text, after.text),
    )


class _Pushes:
    """The pushes of one feature: its own for direction 0, of the same length along random directions for the others."""

    def __init__(self, sae: SAE, feature: int, amount: float | None, controls: int, seed: int) -> None:
        self._sae, self._feature, self._amount = sae, feature, amount
        random = np.random.default_rng(seed).normal(size=(controls, sae.cfg.d_in)).astype(np.float32)
        self._random = torch.from_numpy(random / np.linalg.norm(random, axis=1, keepdims=True))
        self._lengths: list[float] = []
        self._activations: list[float] = []
        self.direction_of_row = np.zeros(0, dtype=int)

    @property
    def mean_length(self) -> float:
        return float(np.mean(self._lengths)) if self._lengths else 0.0

    @property
    def mean_activation(self) -> float:
        return float(np.mean(self._activations)) if self._activations else 0.0

    def edit(self, activations: Tensor, rows: np.ndarray) -> Tensor:
        with torch.no_grad():
            features = self._sae.encode(activations.detach().float().cpu())
            without = features.clone()
            without[:, self._feature] = 0
            changed = without.clone()
            if self._amount is not None:
                changed[:, self._feature] = self._amount
                push = self._sae.decode(changed) - self._sae.decode(without)
            else:
                push = self._sae.decode(without) - self._sae.decode(features)
        directions = self.direction_of_row[rows]
        own = directions == 0
        length = push.norm(dim=1)
        self._lengths += length[own].tolist()
        self._activations += features[own, self._feature].tolist()
        random = ~own
        push[random] = self._random[directions[random] - 1] * length[random, None]
        return activations + push.to(activations)
