"""Logistic losses of many labellings of the same rows: values, residuals and curvature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
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
    """

    codes: Int[Tensor, "rows labellings"]
    n_classes: int
    strength: Float[Tensor, " labellings"]
    weights: Float[Tensor, "rows labellings"] | None = None

    @property
    def width(self) -> int:
        """Columns of coefficients of one labelling: 1 for two classes, else one for each class."""
        return 1 if self.n_classes == 2 else self.n_classes

    def to(self, like: Tensor) -> Labellings:
        """Return the labellings on the device of `like`, with strengths and weights in its dtype."""
        weights = None if self.weights is None else self.weights.to(like)
        return Labellings(self.codes.to(like.device), self.n_classes, self.strength.to(like), weights)

    def of(self, rows: Tensor | None = None, labellings: Tensor | None = None) -> Labellings:
        """Return the labellings restricted to some of the rows, or to some of the labellings.

        Args:
            rows: Indices or a mask of the rows to keep; all by default.
            labellings: Indices or a mask of the labellings to keep; all by default.
        """
        codes, weights, strength = self.codes, self.weights, self.strength
        if rows is not None:
            codes = codes[rows]
            weights = None if weights is None else weights[rows]
        if labellings is not None:
            codes, strength = codes[:, labellings], strength[labellings]
            weights = None if weights is None else weights[:, labellings]
        return Labellings(codes, self.n_classes, strength, weights)


class Likelihood:
    """Probabilities at given logits, with the residuals and curvature that follow from them.

    Args:
        labellings: The labellings.
        logits: Logits of each labelling, shape (rows, labellings, width).

    Attributes:
        p: Probabilities, shape (rows, labellings, width).
        residual: Weighted gradient of the loss by the logits, shape (rows, labellings, width).
        mass: Total weight of the rows in each labelling, shape (labellings,).
    """

    def __init__(self, labellings: Labellings, logits: Float[Tensor, "rows labellings width"]) -> None:
        self.labellings = labellings
        self.weights = labellings.weights
        self.p = torch.sigmoid(logits) if labellings.width == 1 else _softmax(logits)
        self.residual = self._weighted(self.p - _targets(labellings).to(logits.dtype))
        self.mass = torch.full((logits.shape[1],), float(len(logits)), device=logits.device, dtype=logits.dtype)
        if self.weights is not None:
            self.mass = self.weights.sum(dim=0).clamp(min=1e-12)

    def of(self, labellings: Tensor) -> Likelihood:
        """Return the likelihood of some of the labellings."""
        part = object.__new__(Likelihood)
        part.labellings, part.p = self.labellings.of(labellings=labellings), self.p[:, labellings]
        part.residual, part.mass = self.residual[:, labellings], self.mass[labellings]
        part.weights = part.labellings.weights
        return part

    def curve(self, change: Float[Tensor, "rows labellings width"]) -> Float[Tensor, "rows labellings width"]:
        """Return the second derivative of the loss by the logits, times a change of the logits."""
        if self.labellings.width == 1:
            return self._weighted(self.p * (1 - self.p) * change)
        product = self.p * change
        return self._weighted(product - self.p * product.sum(dim=2, keepdim=True))

    def curvature(self) -> tuple[Float[Tensor, "labellings width"], Float[Tensor, "labellings width width"]]:
        """Return eigenvalues and eigenvectors of each labelling's mean curvature over rows, for the preconditioner."""
        weighted = self._weighted(self.p)
        mean = weighted.sum(dim=0) / self.mass[:, None]
        outer = torch.einsum("npa,npb->pab", weighted, self.p) / self.mass[:, None, None]
        values, vectors = torch.linalg.eigh(torch.diag_embed(mean) - outer)
        return values.clamp(min=1e-6), vectors

    def _weighted(self, values: Tensor) -> Tensor:
        return values if self.weights is None else values * self.weights[:, :, None]


def _softmax(logits: Float[Tensor, "rows labellings width"]) -> Float[Tensor, "rows labellings width"]:
    """Return the softmax over the last axis, which is short; torch's own takes 5 times as long there."""
    p = (logits - logits.amax(dim=2, keepdim=True)).exp_()
    return p.div_(p.sum(dim=2, keepdim=True))


def _targets(labellings: Labellings) -> Int[Tensor, "rows labellings width"]:
    if labellings.width == 1:
        return labellings.codes[:, :, None]
    return torch.nn.functional.one_hot(labellings.codes, labellings.n_classes)


def loss(labellings: Labellings, logits: Float[Tensor, "rows labellings width"]) -> Float[Tensor, " labellings"]:
    """Return the weighted sum of log-losses of each labelling, without the penalty.

    Args:
        labellings: The labellings.
        logits: Logits of each labelling, shape (rows, labellings, width).

    Returns:
        Losses in nats, summed in float64, shape (labellings,).
    """
    if labellings.width == 1:
        z = logits[:, :, 0]
        losses = torch.nn.functional.softplus(z) - labellings.codes * z
    else:
        # torch's own logsumexp over the few classes of the last axis takes twice as long.
        top = logits.amax(dim=2, keepdim=True)
        total = (logits - top).exp_().sum(dim=2).log_() + top[:, :, 0]
        losses = total - logits.gather(2, labellings.codes[:, :, None])[:, :, 0]
    if labellings.weights is not None:
        losses = losses * labellings.weights
    return losses.sum(dim=0, dtype=torch.float64)


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
