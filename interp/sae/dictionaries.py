"""Dictionaries: a trained sparse autoencoder, and the untrained ones that stand beside it.

A trained SAE only says something where random directions, principal components and single neurons say less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from interp.errors import unknown

if TYPE_CHECKING:
    from sae_lens import SAE

Rows = Float32[np.ndarray, "rows d"]
Features = Float32[np.ndarray, "rows features"]
Baseline = Literal["random_dictionary", "pca", "neurons"]
NAMES: dict[str, str] = {
    "sae": "a trained sparse autoencoder",
    "random_dictionary": "random directions with the same number of features and the same sparsity",
    "pca": "principal components, both signs",
    "neurons": "the coordinates of the residual stream, both signs",
}
_BATCH = 8192


@runtime_checkable
class Dictionary(Protocol):
    """Turns activations into non-negative features, and features back into activations."""

    def encode(self, acts: Rows) -> Features: ...

    def decode(self, features: Features) -> Rows: ...


class SAEDictionary:
    """A sparse autoencoder of SAELens, over numpy arrays."""

    def __init__(self, sae: SAE) -> None:
        self.sae = sae

    def encode(self, acts: Rows) -> Features:
        import torch

        with torch.no_grad():
            parts = [self.sae.encode(torch.from_numpy(part)).numpy() for part in _parts(acts)]
        return np.concatenate(parts) if parts else np.empty((0, self.sae.cfg.d_sae), np.float32)

    def decode(self, features: Features) -> Rows:
        import torch

        with torch.no_grad():
            parts = [self.sae.decode(torch.from_numpy(part)).numpy() for part in _parts(features)]
        return np.concatenate(parts) if parts else np.empty((0, self.sae.cfg.d_in), np.float32)


def as_dictionary(found: Dictionary | SAE) -> Dictionary:
    """`found` itself, or an SAE of SAELens over numpy arrays."""
    return SAEDictionary(found) if hasattr(found, "W_dec") else found


class LinearDictionary:
    """Directions about a centre: features are projections above zero, of which a row keeps its `k` largest (None: all).

    `atoms` (features x d) rebuild; where none are given the directions themselves do.
    """

    def __init__(
        self,
        directions: Float32[np.ndarray, "features d"],
        centre: Float32[np.ndarray, " d"],
        k: int | None = None,
        atoms: Float32[np.ndarray, "features d"] | None = None,
    ) -> None:
        self.directions, self.centre, self.k = directions, centre, k
        self.atoms = directions if atoms is None else atoms

    def encode(self, acts: Rows) -> Features:
        found = np.maximum((acts - self.centre) @ self.directions.T, 0)
        if self.k is None or self.k >= found.shape[1]:
            return found
        kept = np.partition(found, -self.k, axis=1)[:, -self.k][:, None]
        return np.where(found >= kept, found, 0)

    def decode(self, features: Features) -> Rows:
        return features @ self.atoms + self.centre


def baseline(kind: Baseline, acts: Rows, *, d_sae: int, k: int | None, seed: int = 0) -> LinearDictionary:
    """An untrained dictionary of the activations `acts`, with at most `d_sae` features and `k` active ones.

    The random one has unit directions whose atoms are fitted by ridge regression, so that its reconstruction is the
    best that its features allow. `k` None keeps every feature, as a read-out from single features wants it.
    """
    centre = acts.mean(axis=0)
    width = acts.shape[1]
    if kind == "neurons":
        return LinearDictionary(_both_signs(np.eye(width, dtype=np.float32)), np.zeros(width, np.float32), k)
    if kind == "pca":
        axes = np.linalg.svd(acts[:20_000] - centre, full_matrices=False)[2][: max(1, d_sae // 2)]
        return LinearDictionary(_both_signs(axes), centre, k)
    if kind == "random_dictionary":
        directions = np.random.default_rng(seed).normal(size=(d_sae, width)).astype(np.float32)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        found = LinearDictionary(directions, centre, k)
        features = found.encode(acts[:20_000])
        ridge = np.diag(np.full(d_sae, 1e-2 * max(float((features**2).sum(0).mean()), 1e-12), np.float32))
        found.atoms = np.linalg.solve(features.T @ features + ridge, features.T @ (acts[:20_000] - centre))
        return found
    raise unknown("dictionary", kind, NAMES)


def _both_signs(directions: np.ndarray) -> np.ndarray:
    return np.concatenate([directions, -directions])


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(rows[at : at + _BATCH]) for at in range(0, len(rows), _BATCH)]
