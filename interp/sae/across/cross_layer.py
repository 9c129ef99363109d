"""Dictionaries that read one layer and reconstruct another: a transcoder between two addresses of the same position.

An autoencoder spends its features on what varies most where it reads. A middle layer holds a value beside the operation
and the next value, and the value is a small part of the variance there. A dictionary that reads the middle layer and
reconstructs an earlier state, such as the thought that was fed in, spends its features on what is left of that state.
No labels are used: the targets are the model's own activations.

References:
    Dunefsky et al., "Transcoders Find Interpretable LLM Feature Circuits", arXiv 2406.11944.
    Lindsey et al., "Sparse Crosscoders for Cross-Layer Features and Model Diffing", Transformer Circuits Thread, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import numpy as np
import pandas as pd
import torch

from interp.activations import ActivationSource
from interp.models.address import Address
from interp.runtime.progress import Progress
from interp.sae.across.transcoders import TranscoderOptions, train_transcoder
from interp.sae.dictionaries import Features, Rows, SAEDictionary

if TYPE_CHECKING:
    from sae_lens import Transcoder


@dataclass(frozen=True)
class Scaling:
    """A centre and a scale, so that sparsity means the same at every address.

    Attributes:
        centre: Mean of the training rows, shape (d,).
        scale: Standard deviation about it, over all coordinates.
    """

    centre: np.ndarray
    scale: float

    @classmethod
    def of(cls, acts: Rows) -> Scaling:
        """Return the scaling of training rows, shape (rows, d)."""
        centre = acts.mean(axis=0)
        return cls(centre, max(float((acts - centre).std()), 1e-12))

    def apply(self, acts: Rows) -> Rows:
        """Return rows about the centre in units of the scale."""
        return ((acts - self.centre) / self.scale).astype(np.float32)

    def undo(self, acts: Rows) -> Rows:
        """Return rows as they were before `apply`."""
        return acts * self.scale + self.centre


class CrossLayerDictionary:
    """Sparse features that read the activations of one address and reconstruct those of another.

    Attributes:
        transcoder: A transcoder of SAELens between scaled activations.
        source: Scaling of the activations that are read.
        target: Scaling of the activations that are reconstructed.
        address: Address of the activations that are reconstructed.
    """

    def __init__(self, transcoder: Transcoder, source: Scaling, target: Scaling, address: Address) -> None:
        self.transcoder, self.source, self.target, self.address = transcoder, source, target, address
        self._scaled = SAEDictionary(transcoder)

    def encode(self, acts: Rows) -> Features:
        """Return the features of activations at the source, shape (rows, features)."""
        return self._scaled.encode(self.source.apply(acts))

    def decode(self, features: Features) -> Rows:
        """Return the reconstruction at the target, shape (rows, d)."""
        return self.target.undo(self._scaled.decode(features))

    def explained_variance(self, acts: Rows, targets: Rows) -> float:
        """Return the fraction of the targets' variance that the features of `acts` explain.

        Args:
            acts: Activations at the source, shape (rows, d).
            targets: Activations at the target, at the same positions, shape (rows, d).
        """
        residual = targets - self.decode(self.encode(acts))
        return float(1 - (residual**2).sum() / ((targets - targets.mean(axis=0)) ** 2).sum())


def train_cross_layer(
    store: ActivationSource,
    source: Address,
    target: Address,
    rows: pd.DataFrame,
    *,
    target_rows: pd.DataFrame | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Unpack[TranscoderOptions],
) -> CrossLayerDictionary:
    """Train a dictionary from the activations of one address to those of another, at the same positions.

    Args:
        store: Where the activations come from.
        source: Address that the features read.
        target: Address that they reconstruct.
        rows: A part of the store's index.
        target_rows: Rows of the targets in place of `rows`, as many; for a control whose targets are of other rows.
        seed: Seed of the weights and batches.
        progress: Called with the number of updates that are done, and of all.
        **options: Options of `train_transcoder`.

    Returns:
        The dictionary.

    Raises:
        UsageError: On fewer than two rows, or another number of target rows.
    """
    inputs = store.acts(source, rows)
    outputs = store.acts(target, rows if target_rows is None else target_rows)
    read, written = Scaling.of(inputs), Scaling.of(outputs)
    transcoder = train_transcoder(
        torch.from_numpy(read.apply(inputs)),
        torch.from_numpy(written.apply(outputs)),
        seed=seed,
        progress=progress,
        **options,
    )
    return CrossLayerDictionary(transcoder, read, written, target)
