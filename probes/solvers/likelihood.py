"""Logistic losses of many labellings of the same rows: values, residuals and curvature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Labellings:
    """Several labellings of the same rows, each a classification problem, all with the same number of classes.

    The objective of a labelling is the weighted sum of log-losses plus strength/2 times the squared norm of the
    coefficients of the standardised rows. Intercepts are not penalised.

    Attributes:
        codes: The class of each row in each labelling, counted from 0, shape (rows, labellings).
        n_classes: Number of classes of every labelling.
        strength: L2 penalty of each labelling, shape (labellings,); scikit-learn's 1/C.
        weights: Weight of each row in each labelling, shape (rows, labellings); 0 leaves a row out. All 1 by default.
        present: Which classes each labelling of more than two classes has, shape (labellings, classes); all by
            default. A class that it does not have has a probability of exactly 0.
    """

    codes: Int[Tensor, "rows labellings"]
    n_classes: int
    strength: Float[Tensor, " labellings"]
    weights: Float[Tensor, "rows labellings"] | None = None
    present: Bool[Tensor, "labellings classes"] | None = None

    @property
    def width(self) -> int:
        """Columns of coefficients of one labelling: 1 for two classes, else one for each class."""
        return 1 if self.n_classes == 2 else self.n_classes

    def to(self, like: Tensor) -> Labellings:
        """Return the labellings on the device of `like`, with strengths and weights in its dtype."""
        weights = None if self.weights is None else self.weights.to(like)
        present = None if self.present is None else self.present.to(like.device)
        return Labellings(self.codes.to(like.device), self.n_classes, self.strength.to(like), weights, present)

    def of(self, rows: Tensor | None = None, labellings: Tensor | None = None) -> Labellings:
        """Return the labellings restricted to some of the rows, or to some of the labellings.

        Args:
            rows: Indices or a mask of the rows to keep; all by default.
            labellings: Indices or a mask of the labellings to keep; all by default.
        """
        codes, weights, strength, present = self.codes, self.weights, self.strength, self.present
        if rows is not None:
            codes = codes[rows]
            weights = None if weights is None else weights[rows]
        if labellings is not None:
            codes, strength = codes[:, labellings], strength[labellings]
            weights = None if weights is None else weights[:, labellings]
            present = None if present is None else present[labellings]
        return Labellings(codes, self.n_classes, strength, weights, present)


class Likelihood:
    """Losses and probabilities at given logits, with the residuals and curvature that follow from them.

    Args:
        labellings: The labellings.
        logits: Logits of each labelling, shape (rows, labellings, width).

    Attributes:
        p: Probabilities, shape (rows, labellings, width).
        residual: Weighted gradient of the loss by the logits, shape (rows, labellings, width).
        loss: Weighted sum of log-losses of each labelling in nats, without the penalty, in float64, shape (labellings,).
        mass: Total weight of the rows in each labelling, shape (labellings,).
    """

    def __init__(self, labellings: Labellings, logits: Float[Tensor, "rows labellings width"]) -> None:
        self.labellings = labellings
        self.weights = labellings.weights
        codes = labellings.codes[:, :, None]
        if labellings.width == 1:
            self.p = torch.sigmoid(logits)
            losses = (torch.nn.functional.softplus(logits) - codes * logits)[:, :, 0]
            residual = self.p - codes
        else:
            # Over the few classes of the last axis torch's own softmax takes 5 times as long.
            top = logits.amax(dim=2, keepdim=True)
            p = (logits - top).exp_()
            total = p.sum(dim=2, keepdim=True)
            self.p = p.div_(total)
            losses = (total.log() + top - logits.gather(2, codes))[:, :, 0]
            residual = self.p.scatter_add(2, codes, -torch.ones_like(total))
        self.residual = self._weighted(residual)
        self.mass = torch.full((logits.shape[1],), float(len(logits)), device=logits.device, dtype=logits.dtype)
        if self.weights is not None:
            losses = losses * self.weights
            self.mass = self.weights.sum(dim=0).clamp(min=1e-12)
        self.loss = losses.sum(dim=0, dtype=torch.float64)

    def of(self, labellings: Tensor) -> Likelihood:
        """Return the likelihood of some of the labellings."""
        part = object.__new__(Likelihood)
        part.labellings, part.p = self.labellings.of(labellings=labellings), self.p[:, labellings]
        part.residual, part.loss, part.mass = self.residual[:, labellings], self.loss[labellings], self.mass[labellings]
        part.weights = part.labellings.weights
        return part

    def curve(self, change: Float[Tensor, "rows labellings width"]) -> Float[Tensor, "rows labellings width"]:
        """Return the second derivative of the loss by the logits, times a change of the logits."""
        if self.labellings.width == 1:
            return self._weighted(self.p * (1 - self.p) * change)
        product = self.p * change
        return self._weighted(product.addcmul_(self.p, product.sum(dim=2, keepdim=True), value=-1))

    def curvature(self) -> Float[Tensor, "labellings width"]:
        """Return the mean curvature over rows for each class, for the preconditioner.

        Where all classes of a labelling are equally likely in every row, the curvature is this number times any change
        that adds up to 0 over classes, and all changes do.
        """
        mean = self._weighted(self.p * (1 - self.p)).sum(dim=0) / self.mass[:, None]
        if self.labellings.width > 1:
            classes = torch.full_like(mean[:, :1], self.labellings.n_classes)
            if self.labellings.present is not None:
                classes = self.labellings.present.sum(dim=1, keepdim=True).to(mean.dtype)
            mean = mean * (classes / (classes - 1).clamp(min=1))
        return mean.clamp(min=1e-6)

    def _weighted(self, values: Tensor) -> Tensor:
        return values if self.weights is None else values * self.weights[:, :, None]


def binary(labels: Sequence[Sequence[int]] | np.ndarray, strength: float | Sequence[float] = 1.0) -> Labellings:
    """Return binary labellings.

    Args:
        labels: 0 or 1 for each row and labelling, shape (rows, labellings).
        strength: L2 penalty, one for all labellings or one for each.
    """
    codes = torch.as_tensor(np.asarray(labels), dtype=torch.long)
    return Labellings(codes, 2, _strengths(strength, codes.shape[1]))


def multinomial(
    codes: np.ndarray, n_classes: int, strength: float | Sequence[float] = 1.0, weights: np.ndarray | None = None
) -> Labellings:
    """Return labellings with `n_classes` classes each.

    Args:
        codes: The class of each row in each labelling, counted from 0, shape (rows, labellings).
        n_classes: Number of classes.
        strength: L2 penalty, one for all labellings or one for each.
        weights: Weight of each row in each labelling, shape (rows, labellings).
    """
    class_codes = torch.as_tensor(np.asarray(codes), dtype=torch.long)
    row_weights = None if weights is None else torch.as_tensor(np.asarray(weights, np.float64))
    return Labellings(class_codes, n_classes, _strengths(strength, class_codes.shape[1]), row_weights)


def _strengths(strength: float | Sequence[float], count: int) -> Tensor:
    return torch.as_tensor(np.broadcast_to(np.asarray(strength, np.float64), count).copy())
