"""Logistic losses of many labellings of the same rows: values, residuals and curvature."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
        codes: The class of each row in each labelling, counted from 0, shape (labellings, rows).
        n_classes: Number of classes of every labelling.
        strength: L2 penalty of each labelling, shape (labellings,); scikit-learn's 1/C.
        weights: Weight of each row in each labelling, shape (labellings, rows); 0 leaves a row out. All 1 by default.
        present: Which classes each labelling of more than two classes has, shape (labellings, classes); all by
            default. A class that it does not have has a probability of exactly 0.
    """

    codes: Int[Tensor, "labellings rows"]
    n_classes: int
    strength: Float[Tensor, " labellings"]
    weights: Float[Tensor, "labellings rows"] | None = None
    present: Bool[Tensor, "labellings classes"] | None = None

    def __len__(self) -> int:
        """Return the number of labellings."""
        return len(self.codes)

    @property
    def width(self) -> int:
        """Vectors of coefficients of one labelling: 1 for two classes, else one for each class."""
        return 1 if self.n_classes == 2 else self.n_classes

    @property
    def mass(self) -> Float[Tensor, " labellings"]:
        """Total weight of the rows in each labelling, in the dtype of the strengths."""
        if self.weights is None:
            return torch.full_like(self.strength, float(self.codes.shape[1]))
        return self.weights.sum(dim=1).clamp(min=1e-12)

    def to(self, like: Tensor) -> Labellings:
        """Return the labellings on the device of `like`, with strengths and weights in its dtype."""
        weights = None if self.weights is None else self.weights.to(like)
        present = None if self.present is None else self.present.to(like.device)
        return Labellings(self.codes.to(like.device), self.n_classes, self.strength.to(like), weights, present)

    def with_strength(self, strength: float) -> Labellings:
        """Return the same labellings with one penalty for all of them."""
        return replace(self, strength=torch.full_like(self.strength, strength))

    def of(self, labellings: Tensor) -> Labellings:
        """Return some of the labellings: their indices or a mask."""
        return Labellings(
            self.codes[labellings],
            self.n_classes,
            self.strength[labellings],
            None if self.weights is None else self.weights[labellings],
            None if self.present is None else self.present[labellings],
        )


class Likelihood:
    """Losses and probabilities at given logits, with the residuals and curvature that follow from them.

    Args:
        labellings: The labellings.
        logits: Logits of each labelling, shape (labellings, width, rows).

    Attributes:
        p: Probabilities, shape (labellings, width, rows).
        residual: Weighted gradient of the loss by the logits, shape (labellings, width, rows).
        loss: Weighted sum of log-losses of each labelling in nats, without the penalty, in float64, shape (labellings,).
        mass: Total weight of the rows in each labelling, shape (labellings,).
    """

    def __init__(self, labellings: Labellings, logits: Float[Tensor, "labellings width rows"]) -> None:
        self.labellings = labellings
        self.weights = labellings.weights
        codes = labellings.codes[:, None]
        if labellings.width == 1:
            self.p = torch.sigmoid(logits)
            losses = (torch.nn.functional.softplus(logits) - codes * logits)[:, 0]
            residual = self.p - codes
        else:
            # Over classes torch's own softmax takes several times as long.
            top = logits.amax(dim=1, keepdim=True)
            p = (logits - top).exp_()
            total = p.sum(dim=1, keepdim=True)
            self.p = p.div_(total)
            losses = (total.log() + top - logits.gather(1, codes))[:, 0]
            residual = self.p.scatter_add(1, codes, -torch.ones_like(total))
        self.residual = self._weighted(residual)
        self.mass = labellings.mass.to(logits)
        if self.weights is not None:
            losses = losses * self.weights
        self.loss = losses.sum(dim=1, dtype=torch.float64)
        self._variance: Tensor | None = None  # for two classes, where each product with the curvature needs it

    def of(self, labellings: Tensor) -> Likelihood:
        """Return the likelihood of some of the labellings."""
        part = object.__new__(Likelihood)
        part.labellings, part.p = self.labellings.of(labellings), self.p[labellings]
        part.residual, part.loss, part.mass = self.residual[labellings], self.loss[labellings], self.mass[labellings]
        part.weights = part.labellings.weights
        part._variance = None if self._variance is None else self._variance[labellings]
        return part

    def with_labellings(self, labellings: Labellings) -> Likelihood:
        """Return the likelihood of the same labels under other penalties."""
        other = copy.copy(self)
        other.labellings = labellings
        return other

    def variance(self) -> Float[Tensor, "labellings width rows"]:
        """Return the weighted p (1 - p): the second derivative of the loss by each logit alone."""
        if self._variance is not None:
            return self._variance
        variance = self._weighted(torch.addcmul(self.p, self.p, self.p, value=-1))
        if self.labellings.width == 1:
            self._variance = variance
        return variance

    def curve(self, change: Float[Tensor, "labellings width rows"]) -> Float[Tensor, "labellings width rows"]:
        """Return the second derivative of the loss by the logits, times a change of the logits."""
        if self.labellings.width == 1:
            return self.variance() * change
        product = self.p * change
        return self._weighted(product.addcmul_(self.p, product.sum(dim=1, keepdim=True), value=-1))

    def curvature(self) -> Float[Tensor, "labellings width"]:
        """Return the mean curvature over rows for each class, for the preconditioner.

        Where all classes of a labelling are equally likely in every row, the curvature is this number times any change
        that adds up to 0 over classes, and all changes do.
        """
        mean = self.variance().sum(dim=2) / self.mass[:, None]
        if self.labellings.width > 1:
            classes = torch.full_like(mean[:, :1], self.labellings.n_classes)
            if self.labellings.present is not None:
                classes = self.labellings.present.sum(dim=1, keepdim=True).to(mean.dtype)
            mean = mean * (classes / (classes - 1).clamp(min=1))
        return mean.clamp(min=1e-6)

    def _weighted(self, values: Tensor) -> Tensor:
        return values if self.weights is None else values * self.weights[:, None]


def binary(labels: Sequence[Sequence[int]] | np.ndarray, strength: float | Sequence[float] = 1.0) -> Labellings:
    """Return binary labellings.

    Args:
        labels: 0 or 1 for each row and labelling, shape (rows, labellings).
        strength: L2 penalty, one for all labellings or one for each.
    """
    codes = _transposed(labels).long()
    return Labellings(codes, 2, _strengths(strength, len(codes)))


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
    class_codes = _transposed(codes).long()
    row_weights = None if weights is None else _transposed(weights).double()
    return Labellings(class_codes, n_classes, _strengths(strength, len(class_codes)), row_weights)


def _transposed(values: Sequence[Sequence[int]] | np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.asarray(values).T))


def _strengths(strength: float | Sequence[float], count: int) -> Tensor:
    return torch.as_tensor(np.broadcast_to(np.asarray(strength, np.float64), count).copy())
