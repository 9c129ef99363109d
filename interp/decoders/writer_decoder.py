"""What the verbalizer and the oracle share: a writer that is trained on latents at one address and then writes texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from interp.activations import ActivationSource
from interp.decoders.low_rank import AdaptedWriter
from interp.decoders.writer import Writer, WriterVocabulary
from interp.decoders.writer_training import fit_writer
from interp.errors import StoreError, UsageError, checked_count
from interp.models.address import Address
from interp.runtime.progress import Progress

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


class WriterDecoder:
    """A decoder that writes texts with a model of its own, or with low-rank adapters on the reasoner's model.

    Args:
        d_model: Width of the writer.
        n_layers: Layers of the writer.
        n_heads: Attention heads of the writer.
        updates: Number of updates.
        batch_size: Rows of an update.
        learning_rate: Largest learning rate.
        seed: Seed of the initial weights and of the batches.
        progress: Called with (updates made, updates).
        reasoner: With it the writer is that model itself, frozen, with low-rank adapters
            (`interp.decoders.low_rank`), and the three sizes are not used.
        rank: Rank of the adapters.

    Raises:
        UsageError: A size is out of range.
    """

    #: What messages call the decoder.
    noun: ClassVar[str]
    #: What to do where it is not fitted.
    how_to_fit: ClassVar[str] = "call fit first"
    #: Rows that are written at once.
    rows_at_once: ClassVar[int]

    def __init__(
        self,
        *,
        d_model: int,
        n_layers: int,
        n_heads: int,
        updates: int,
        batch_size: int,
        learning_rate: float,
        seed: int,
        progress: Progress | None,
        reasoner: Reasoner | None,
        rank: int,
    ) -> None:
        self.d_model = checked_count("d_model", d_model)
        self.n_layers = checked_count("n_layers", n_layers)
        self.n_heads = checked_count("n_heads", n_heads)
        if d_model % (2 * n_heads):
            raise UsageError(
                f"expected d_model to be a multiple of twice n_heads, got {d_model} and {n_heads}; change one of them."
            )
        self.updates = checked_count("updates", updates)
        self.batch_size = checked_count("batch_size", batch_size)
        self.learning_rate, self.seed, self.progress = learning_rate, seed, progress
        self.reasoner, self.rank = reasoner, checked_count("rank", rank)
        self.writer_: Writer | None = None

    def _train(
        self,
        prompts: Sequence[Sequence[str]],
        latents: Float[Tensor, "rows d_latent"] | None,
        texts: Sequence[str],
        *,
        standardise: bool,
    ) -> None:
        """Train the writer to write `texts` after `prompts`; arguments as in `fit_writer`."""
        self.longest_ = max(len(text.split()) for text in texts)
        self.writer_ = fit_writer(
            self._make,
            prompts,
            latents,
            texts,
            standardise=standardise,
            updates=self.updates,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            progress=self.progress,
        )

    def _make(self, words: WriterVocabulary, d_latent: int | None, positions: int) -> Writer:
        if self.reasoner is not None:
            return AdaptedWriter(words, d_latent, self.reasoner, positions=positions, rank=self.rank)
        return Writer(
            words, d_latent, d_model=self.d_model, n_layers=self.n_layers, n_heads=self.n_heads, positions=positions
        )

    def _fitted(self) -> Writer:
        if self.writer_ is None:
            raise UsageError(f"this {self.noun} is not fitted; {self.how_to_fit}.")
        return self.writer_

    def _check_address(self, address: Address) -> None:
        if address != self.address_:
            raise UsageError(
                f"expected {self.address_}, where this {self.noun} was fitted, got {address}; fit one there."
            )

    def _check_model(self, store: ActivationSource) -> None:
        if store.meta["reasoner"]["weights"] != self.weights_:
            raise StoreError(
                f"expected a store of the model that this {self.noun} was fitted to, got one of "
                f"{store.meta['reasoner']['name']}; fit one to this store."
            )

    def _remember_source(self, store: ActivationSource, address: Address) -> None:
        self.address_, self.weights_ = address, store.meta["reasoner"]["weights"]

    def _candidates(
        self, prompts: Sequence[Sequence[str]], latents: Float[Tensor, "rows d_latent"] | None, beams: int
    ) -> list[tuple[list[str], np.ndarray]]:
        """Return for each row the likeliest texts and their log-probabilities."""
        writer = self._fitted()
        candidates: list[tuple[list[str], np.ndarray]] = []
        for start in range(0, len(prompts), self.rows_at_once):
            batch = slice(start, start + self.rows_at_once)
            texts, scores = writer.candidates(
                writer.prompt_ids(prompts[batch]),
                None if latents is None else latents[batch],
                beams=beams,
                longest=self.longest_,
            )
            candidates += zip(texts, scores.numpy(), strict=True)
        return candidates
