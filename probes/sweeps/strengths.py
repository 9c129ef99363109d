"""Logistic probes for many labellings of the same rows, each with the penalty that validation chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.statistics.splits import Masks
from probes.estimators.linear import LOGISTIC_STRENGTHS
from probes.solvers.logistic import Design, InMemory, Labellings, LogisticFit, fit_logistic

# Gradient norm at which a fit has converged. Held-out log-losses are then nearer to the optimum than scikit-learn's.
TOLERANCE = 5e-4
# Newton steps after which a weaker penalty is given up if validation has become worse, and the most of any fit.
_TRIAL_STEPS, _MOST_STEPS = 2, 50
# Labellings fitted together: few enough for a core's cache, and so many that products are efficient.
_TOGETHER = 24


def best_logits(
    inputs: Float[np.ndarray, "rows d"],
    labellings: Mapping[str, np.ndarray],
    classes: Mapping[str, np.ndarray],
    split: Masks,
) -> dict[str, Float[np.ndarray, "rows columns"]]:
    """Fit every labelling on the training rows at the best strength, and return the logits of all rows.

    Strengths are tried from the strongest penalty to the weakest, each fit beginning at the one before. A labelling
    whose log-loss on validation is above its lowest so far after two steps is not fitted to the end at that
    strength.

    Args:
        inputs: Rows, shape (rows, d).
        labellings: Labels by name, one for every row, shape (rows,).
        classes: The sorted labels of the training rows, by the name of the labelling.
        split: `train` rows are fitted; `val` rows choose the strength.

    Returns:
        Logits by the name of the labelling: one column for each class, or for two classes that of the second alone.
    """
    rows = torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32))
    rows = rows.to("cuda" if torch.cuda.is_available() else "cpu")
    train, val = (torch.from_numpy(mask).to(rows.device) for mask in (split.train, split.val))
    design = Design(InMemory(rows[train]), None, len(LOGISTIC_STRENGTHS) * sum(map(len, classes.values())))
    out = {}
    for names in _batches(classes):
        codes = np.stack([_codes(labellings[name], classes[name]) for name in names], axis=1)
        path = _Path(design, torch.from_numpy(codes).to(rows.device), [len(classes[name]) for name in names])
        coef, intercept = path.best(train, val, rows[val])
        logits = (rows @ coef.flatten(1)).reshape(len(rows), *intercept.shape) + intercept
        for number, name in enumerate(names):
            out[name] = logits[:, number, : len(classes[name])].cpu().numpy()
    return out


class _Path:
    """Fits of several labellings from the strongest penalty to the weakest.

    Args:
        design: The training rows.
        codes: The class of each row, counted from 0, or -1 for one that no training row has; shape (rows, labellings).
        sizes: Number of classes of each labelling.
    """

    def __init__(self, design: Design, codes: Int[Tensor, "rows labellings"], sizes: Sequence[int]) -> None:
        self.design, self.codes, self.n_classes = design, codes, max(sizes)
        own = torch.arange(self.n_classes)[None] < torch.tensor(sizes)[:, None]
        self.present = None if bool(own.all()) else own.to(codes.device)

    def best(self, train: Tensor, val: Tensor, val_rows: Float[Tensor, "val d"]) -> tuple[Tensor, Tensor]:
        """Return coefficients (d, labellings, width) and intercepts (labellings, width) of the best fits."""
        strongest, *weaker = sorted(LOGISTIC_STRENGTHS, reverse=True)
        codes, val_codes = self.codes[train], self.codes[val]
        all_ = torch.arange(codes.shape[1], device=codes.device)

        def fitted(which: Tensor, strength: float, start: LogisticFit | None, steps: int) -> tuple[LogisticFit, Tensor]:
            present = None if self.present is None else self.present[which]
            penalties = torch.full((len(which),), strength, dtype=torch.float64)
            labellings = Labellings(codes[:, which], self.n_classes, penalties, present=present)
            fit = fit_logistic(self.design, labellings, tolerance=TOLERANCE, max_iterations=steps, start=start)
            return fit, _log_losses(fit, val_rows, val_codes[:, which])

        fit, lowest = fitted(all_, strongest, None, _MOST_STEPS)
        coef, intercept = fit.coef.clone(), fit.intercept.clone()
        for strength in weaker:
            # Losses need not fall and rise once only, so each strength begins with all labellings again.
            fit, losses = fitted(all_, strength, fit, _TRIAL_STEPS)
            hopeful = all_[losses < lowest]
            if not len(hopeful):
                continue
            whole, losses = fitted(hopeful, strength, fit.of(hopeful), _MOST_STEPS)
            fit.coef[:, hopeful], fit.intercept[hopeful] = whole.coef, whole.intercept
            better = losses < lowest[hopeful]
            chosen = hopeful[better]
            lowest[chosen], coef[:, chosen], intercept[chosen] = (
                losses[better],
                fit.coef[:, chosen],
                fit.intercept[chosen],
            )
        return coef, intercept


def _log_losses(
    fit: LogisticFit, rows: Float[Tensor, "rows d"], codes: Int[Tensor, "rows labellings"]
) -> Float[Tensor, " labellings"]:
    """Return the mean log-loss of each labelling in nats; a class that was never seen has a probability of 1e-12."""
    logits = fit.scores(rows)
    if logits.shape[2] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=2)
    p = logits.softmax(dim=2).gather(2, codes.clamp(min=0)[:, :, None])[:, :, 0]
    return -torch.where(codes < 0, 0.0, p).clamp(min=1e-12).log().mean(dim=0, dtype=torch.float64)


def _codes(labels: np.ndarray, classes: np.ndarray) -> Int[np.ndarray, " rows"]:
    """Return the place of each label among the classes; -1 for a label that is none of them."""
    places = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    return np.where(classes[places] == labels, places, -1)


def _batches(classes: Mapping[str, np.ndarray]) -> list[list[str]]:
    """Return the names of labellings that are fitted together: those of two classes apart from the others."""
    binary = [name for name, own in classes.items() if len(own) == 2]
    others = [name for name, own in classes.items() if len(own) != 2]
    return [names[first : first + _TOGETHER] for names in (binary, others) for first in range(0, len(names), _TOGETHER)]
