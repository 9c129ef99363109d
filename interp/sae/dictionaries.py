"""Dictionaries: trained sparse autoencoders, and the untrained baselines that they are compared with.

A trained SAE shows something only where random directions, principal components and single neurons do worse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from interp.errors import unknown
from interp.runtime.threads import one_thread_if_narrow

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
_FIT_ROWS = 20_000


@runtime_checkable
class Dictionary(Protocol):
    """Turns activations into non-negative features, and features back into activations."""

    def encode(self, acts: Rows) -> Features:
        """Return the features of activations, shape (rows, features)."""
        ...

    def decode(self, features: Features) -> Rows:
        """Return the reconstruction from features, shape (rows, d)."""
        ...


class SAEDictionary:
    """A sparse autoencoder of SAELens that takes and returns numpy arrays."""

    def __init__(self, sae: SAE) -> None:
        """Wrap `sae`, which stays on the CPU."""
        self.sae = sae

    def encode(self, acts: Rows) -> Features:
        """Return the features of activations, shape (rows, features)."""
        import torch

        with torch.no_grad():
            parts = [self.sae.encode(torch.from_numpy(part)).numpy() for part in _batches(acts)]
        return np.concatenate(parts) if parts else np.empty((0, self.sae.cfg.d_sae), np.float32)

    def decode(self, features: Features) -> Rows:
        """Return the reconstruction from features, shape (rows, d)."""
        import torch

        with torch.no_grad():
            parts = [self.sae.decode(torch.from_numpy(part)).numpy() for part in _batches(features)]
        return np.concatenate(parts) if parts else np.empty((0, self.sae.cfg.d_in), np.float32)


def as_dictionary(sae: Dictionary | SAE) -> Dictionary:
    """Return a dictionary as it is, and an SAE of SAELens wrapped as one."""
    return SAEDictionary(sae) if hasattr(sae, "W_dec") else sae


class LinearDictionary:
    """Directions about a centre: a feature is the part of a projection above zero."""

    def __init__(
        self,
        directions: Float32[np.ndarray, "features d"],
        centre: Float32[np.ndarray, " d"],
        k: int | None = None,
        atoms: Float32[np.ndarray, "features d"] | None = None,
    ) -> None:
        """Make a dictionary of fixed directions.

        Args:
            directions: Directions that rows are projected on, shape (features, d).
            centre: Subtracted from rows before, and added to reconstructions, shape (d,).
            k: Largest number of active features in a row; None keeps all.
            atoms: What each feature adds to a reconstruction, shape (features, d); the directions by default.
        """
        self.directions, self.centre, self.k = directions, centre, k
        self.atoms = directions if atoms is None else atoms

    def encode(self, acts: Rows) -> Features:
        """Return the features of activations, shape (rows, features)."""
        features = np.maximum((acts - self.centre) @ self.directions.T, 0)
        if self.k is None or self.k >= features.shape[1]:
            return features
        smallest_kept = np.partition(features, -self.k, axis=1)[:, -self.k][:, None]
        return np.where(features >= smallest_kept, features, 0)

    def decode(self, features: Features) -> Rows:
        """Return the reconstruction from features, shape (rows, d)."""
        return features @ self.atoms + self.centre


def baseline(name: Baseline, acts: Rows, *, d_sae: int, k: int | None, seed: int = 0) -> LinearDictionary:
    """Return an untrained dictionary of activations.

    The random dictionary has unit directions; its atoms are fitted by ridge regression, so that its reconstruction is
    the best that its features allow.

    Args:
        name: `random_dictionary`, `pca` or `neurons`.
        acts: Activations, shape (rows, d).
        d_sae: Largest number of features.
        k: Largest number of active features in a row. None keeps all, which suits a read-out from single features.
        seed: Seed of the random directions.

    Returns:
        The dictionary.

    Raises:
        UsageError: On an unknown name.
    """
    width = acts.shape[1]
    with one_thread_if_narrow(max(width, d_sae) if name == "random_dictionary" else width):
        return _fitted(name, acts, d_sae, k, seed)


def _fitted(name: Baseline, acts: Rows, d_sae: int, k: int | None, seed: int) -> LinearDictionary:
    """Fit a baseline; the arguments are those of `baseline`."""
    centre, width = acts.mean(axis=0), acts.shape[1]
    if name == "neurons":
        return LinearDictionary(_both_signs(np.eye(width, dtype=np.float32)), np.zeros(width, np.float32), k)
    if name == "pca":
        axes = np.linalg.svd(acts[:_FIT_ROWS] - centre, full_matrices=False)[2][: max(1, d_sae // 2)]
        return LinearDictionary(_both_signs(axes), centre, k)
    if name == "random_dictionary":
        directions = np.random.default_rng(seed).normal(size=(d_sae, width)).astype(np.float32)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        dictionary = LinearDictionary(directions, centre, k)
        features = dictionary.encode(acts[:_FIT_ROWS])
        ridge = np.diag(np.full(d_sae, 1e-2 * max(float((features**2).sum(0).mean()), 1e-12), np.float32))
        dictionary.atoms = np.linalg.solve(features.T @ features + ridge, features.T @ (acts[:_FIT_ROWS] - centre))
        return dictionary
    raise unknown("dictionary", name, NAMES)


def _both_signs(directions: np.ndarray) -> np.ndarray:
    return np.concatenate([directions, -directions])


def _batches(rows: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)]
