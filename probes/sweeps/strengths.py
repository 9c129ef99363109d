"""Logistic probes for many labellings of the same rows, each with the penalty that validation chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.statistics.splits import Masks
from probes.estimators.linear import LOGISTIC_STRENGTHS
from probes.solvers.logistic import Design, InMemory, Labellings, rotated_back
from probes.solvers.newton import Parameters, Point, newton, norms

# Gradient norm at which a fit has converged. Held-out log-losses are then nearer to the optimum than scikit-learn's.
TOLERANCE = 5e-4
# Nats on validation above the lowest so far at which a weaker penalty is given up after one Newton step. Of 1,005
# labellings of organisms and planted values, none that a second step would have kept was above .015.
_HOPELESS = 0.05
_MOST_STEPS = 50
# Labellings fitted together: few enough for a core's cache, and so many that products are efficient.
_TOGETHER = 24


@dataclass(frozen=True)
class BestFit:
    """The fit of a labelling at the strength that is best on validation.

    Attributes:
        logits: Logits of all rows: one column for each class, or for two classes that of the second alone.
        converged: Whether the fit ended at a gradient norm of at most `TOLERANCE`.
    """

    logits: Float[np.ndarray, "rows columns"]
    converged: bool


def best_fits(
    inputs: Float[np.ndarray, "rows d"],
    labellings: Mapping[str, np.ndarray],
    classes: Mapping[str, np.ndarray],
    split: Masks,
) -> dict[str, BestFit]:
    """Fit every labelling on the training rows at the strength that is best on validation.

    Strengths are tried from the strongest penalty to the weakest, each fit beginning at the one before. A labelling
    whose log-loss on validation is far above its lowest so far after one step, or above it after two, is not fitted
    to the end at that strength.

    Args:
        inputs: Rows, shape (rows, d).
        labellings: Labels by name, one for every row, shape (rows,).
        classes: The sorted labels of the training rows, by the name of the labelling.
        split: `train` rows are fitted; `val` rows choose the strength.

    Returns:
        The fit of each labelling by its name.
    """
    rows = torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32))
    rows = rows.to("cuda" if torch.cuda.is_available() else "cpu")
    train, val = (torch.from_numpy(mask).to(rows.device) for mask in (split.train, split.val))
    design = Design(InMemory(rows[train]), None, len(LOGISTIC_STRENGTHS) * sum(map(len, classes.values())))
    val_rows = design.coordinates(rows[val])
    out = {}
    for names in _batches(classes):
        codes = torch.from_numpy(np.stack([_codes(labellings[name], classes[name]) for name in names])).to(rows.device)
        path = _Path(design, codes[:, train], [len(classes[name]) for name in names], val_rows, codes[:, val])
        parameters, converged = path.best()
        coef, intercept = rotated_back(design, parameters)
        logits = (rows @ coef.flatten(1)).reshape(len(rows), *intercept.shape) + intercept
        for number, name in enumerate(names):
            out[name] = BestFit(logits[:, number, : len(classes[name])].cpu().numpy(), bool(converged[number]))
    return out


class _Path:
    """Fits of several labellings from the strongest penalty to the weakest.

    Args:
        design: The training rows.
        codes: The class of each training row, counted from 0, shape (labellings, rows).
        sizes: Number of classes of each labelling.
        val_rows: The validation rows in the design's coordinates, shape (val, d + 1).
        val_codes: The class of each validation row, or -1 for one that no training row has; shape (labellings, val).
    """

    def __init__(
        self,
        design: Design,
        codes: Int[Tensor, "labellings rows"],
        sizes: Sequence[int],
        val_rows: Float[Tensor, "val parameters"],
        val_codes: Int[Tensor, "labellings val"],
    ) -> None:
        self.design, self.val_rows, self.val_codes = design, val_rows, val_codes
        present = torch.arange(max(sizes))[None] < torch.tensor(sizes)[:, None]
        strength = torch.zeros(len(codes), dtype=torch.float64)
        self.labellings = Labellings(codes, max(sizes), strength, present=None if bool(present.all()) else present).to(
            val_rows
        )

    def best(self) -> tuple[Parameters, Bool[Tensor, " labellings"]]:
        """Return the parameters of the best fits, and whether each converged."""
        strongest, *weaker = sorted(LOGISTIC_STRENGTHS, reverse=True)
        all_ = torch.arange(len(self.val_codes), device=self.val_codes.device)
        labellings = self.labellings.with_strength(strongest)
        point, _ = newton(self.design, None, labellings, TOLERANCE, _MOST_STEPS)
        converged = self._converged(point)
        best, lowest = point.parameters.clone(), self._log_losses(point.parameters, all_)
        for strength in weaker:
            # Losses need not fall and rise once only, so each strength begins with all labellings again.
            point = self._steps(point.with_strength(strength), 1)
            hopeful, part = all_, point
            for limit, steps in ((lowest + _HOPELESS, 1), (lowest, _MOST_STEPS)):
                kept = (self._log_losses(part.parameters, hopeful) < limit[hopeful]).nonzero()[:, 0]
                if not len(kept):
                    break
                hopeful, part = hopeful[kept], self._steps(part.of(kept), steps)
                point.put(hopeful, part)
            else:
                losses = self._log_losses(part.parameters, hopeful)
                better = losses < lowest[hopeful]
                chosen = hopeful[better]
                lowest[chosen], best[chosen] = losses[better], part.parameters[better]
                converged[chosen] = self._converged(part)[better]
        return best, converged

    def _steps(self, point: Point, most: int) -> Point:
        return newton(self.design, point, point.labellings, TOLERANCE, most)[0]

    def _converged(self, point: Point) -> Bool[Tensor, " labellings"]:
        return norms(point.gradient(self.design), point) <= TOLERANCE

    def _log_losses(self, parameters: Parameters, which: Tensor) -> Float[Tensor, " labellings"]:
        """Return the mean log-loss on validation in nats; a class that was never seen has a probability of 1e-12."""
        logits = (parameters.flatten(0, 1) @ self.val_rows.T).unflatten(0, parameters.shape[:2])
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        codes = self.val_codes[which]
        top = logits.amax(dim=1, keepdim=True)
        p = logits.sub_(top).exp_()
        p = (p.gather(1, codes.clamp(min=0)[:, None]) / p.sum(dim=1, keepdim=True))[:, 0]
        return -torch.where(codes < 0, 0.0, p).clamp(min=1e-12).log().mean(dim=1, dtype=torch.float64)


def _codes(labels: np.ndarray, classes: np.ndarray) -> Int[np.ndarray, " rows"]:
    """Return the place of each label among the classes; -1 for a label that is none of them."""
    places = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    return np.where(classes[places] == labels, places, -1)


def _batches(classes: Mapping[str, np.ndarray]) -> list[list[str]]:
    """Return the names of labellings that are fitted together: those of two classes apart from the others."""
    binary = [name for name, own in classes.items() if len(own) == 2]
    others = [name for name, own in classes.items() if len(own) != 2]
    return [names[first : first + _TOGETHER] for names in (binary, others) for first in range(0, len(names), _TOGETHER)]
