"""Many classification problems over the same rows: their labels, losses, residuals and curvature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Problems:
    """Several targets over the same rows, all binary or all with the same number of classes.

    `codes` is rows x problems: 0 or 1, or the class from 0. `strength` is the L2 penalty of each problem: the
    objective is the weighted sum of log-losses plus strength/2 times the squared norm of the coefficients of the
    standardised rows (scikit-learn's 1/C). Intercepts are free. `weights` is rows x problems, 0 leaves a row out.
    """

    codes: Int[Tensor, "rows problems"]
    n_classes: int
    strength: Float[Tensor, " problems"]
    weights: Float[Tensor, "rows problems"] | None = None

    @property
    def width(self) -> int:
        """Columns of coefficients: one for a binary problem, one for each class otherwise."""
        return 1 if self.n_classes == 2 else self.n_classes

    def to(self, like: Tensor) -> Problems:
        """The same on the device of `like`, with strengths and weights in its dtype."""
        weights = None if self.weights is None else self.weights.to(like)
        return Problems(self.codes.to(like.device), self.n_classes, self.strength.to(like), weights)

    def of(self, rows: Tensor | None = None, problems: Tensor | None = None) -> Problems:
        """The same for some of the rows or some of the problems."""
        codes, weights, strength = self.codes, self.weights, self.strength
        if rows is not None:
            codes = codes[rows]
            weights = None if weights is None else weights[rows]
        if problems is not None:
            codes, strength = codes[:, problems], strength[problems]
            weights = None if weights is None else weights[:, problems]
        return Problems(codes, self.n_classes, strength, weights)


class Likelihood:
    """Probabilities at some logits, and the residuals and curvature that follow from them."""

    def __init__(self, problems: Problems, logits: Float[Tensor, "rows problems width"]) -> None:
        self.problems = problems
        self.weights = problems.weights
        self.p = torch.sigmoid(logits) if problems.width == 1 else _softmax(logits)
        self.residual = self._weighted(self.p - _targets(problems).to(logits.dtype))
        self.mass = torch.full((logits.shape[1],), float(len(logits)), device=logits.device, dtype=logits.dtype)
        if self.weights is not None:
            self.mass = self.weights.sum(dim=0).clamp(min=1e-12)

    def of(self, problems: Tensor) -> Likelihood:
        """The same for some of the problems."""
        some = object.__new__(Likelihood)
        some.problems, some.p = self.problems.of(problems=problems), self.p[:, problems]
        some.residual, some.mass = self.residual[:, problems], self.mass[problems]
        some.weights = some.problems.weights
        return some

    def curve(self, moved: Float[Tensor, "rows problems width"]) -> Float[Tensor, "rows problems width"]:
        """The second derivative of the loss times a change of the logits."""
        if self.problems.width == 1:
            return self._weighted(self.p * (1 - self.p) * moved)
        along = self.p * moved
        return self._weighted(along - self.p * along.sum(dim=2, keepdim=True))

    def curvature(self) -> tuple[Float[Tensor, "problems width"], Float[Tensor, "problems width width"]]:
        """Eigenvalues and eigenvectors of each problem's mean curvature over rows, for the preconditioner."""
        heavy = self._weighted(self.p)
        mean = heavy.sum(dim=0) / self.mass[:, None]
        outer = torch.einsum("npa,npb->pab", heavy, self.p) / self.mass[:, None, None]
        values, vectors = torch.linalg.eigh(torch.diag_embed(mean) - outer)
        return values.clamp(min=1e-6), vectors

    def _weighted(self, values: Tensor) -> Tensor:
        return values if self.weights is None else values * self.weights[:, :, None]


def _softmax(logits: Float[Tensor, "rows problems width"]) -> Float[Tensor, "rows problems width"]:
    """Over the few classes of the last axis, where torch's own takes 5 times as long."""
    p = (logits - logits.amax(dim=2, keepdim=True)).exp_()
    return p.div_(p.sum(dim=2, keepdim=True))


def _targets(problems: Problems) -> Int[Tensor, "rows problems width"]:
    if problems.width == 1:
        return problems.codes[:, :, None]
    return torch.nn.functional.one_hot(problems.codes, problems.n_classes)


def loss(problems: Problems, logits: Float[Tensor, "rows problems width"]) -> Float[Tensor, " problems"]:
    """The weighted sum of log-losses of each problem, added up in float64."""
    if problems.width == 1:
        z = logits[:, :, 0]
        each = torch.nn.functional.softplus(z) - problems.codes * z
    else:
        # torch's own logsumexp over the few classes of the last axis takes twice as long.
        top = logits.amax(dim=2, keepdim=True)
        total = (logits - top).exp_().sum(dim=2).log_() + top[:, :, 0]
        each = total - logits.gather(2, problems.codes[:, :, None])[:, :, 0]
    if problems.weights is not None:
        each = each * problems.weights
    return each.sum(dim=0, dtype=torch.float64)


def binary(labels: Sequence[Sequence[int]] | np.ndarray, strength: float | Sequence[float] = 1.0) -> Problems:
    """Binary problems from a rows x problems array of 0 and 1."""
    codes = torch.as_tensor(np.asarray(labels), dtype=torch.long)
    return Problems(codes, 2, _strengths(strength, codes.shape[1]))


def multinomial(
    codes: np.ndarray, n_classes: int, strength: float | Sequence[float] = 1.0, weights: np.ndarray | None = None
) -> Problems:
    """Problems with `n_classes` classes each, from a rows x problems array of class numbers."""
    made = torch.as_tensor(np.asarray(codes), dtype=torch.long)
    given = None if weights is None else torch.as_tensor(np.asarray(weights, np.float64))
    return Problems(made, n_classes, _strengths(strength, made.shape[1]), given)


def _strengths(strength: float | Sequence[float], count: int) -> Tensor:
    return torch.as_tensor(np.broadcast_to(np.asarray(strength, np.float64), count).copy())
