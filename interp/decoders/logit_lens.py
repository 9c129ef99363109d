"""Logit lens (nostalgebraist 2020): read a hidden state with the model's own final norm and unembedding."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.activations import ActivationSource
from interp.decoders.base import DecoderTraits, RankedTexts, rank_classes
from interp.errors import StoreError
from interp.models.address import Address

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


class LogitLens:
    """The model's own unembedding, applied to any residual-stream address. Nothing is trained.

    At an address before the final norm the norm is applied first. So at the last block's output the lens equals the
    model's own logits.

    Args:
        reasoner: The model that the store was captured from.
    """

    name = "logit_lens"
    traits: ClassVar[DecoderTraits] = DecoderTraits(needs_model=True, uses_labels=False)

    def __init__(self, reasoner: Reasoner) -> None:
        self.reasoner = reasoner

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> LogitLens:
        """Check that the store is of this model; nothing is fitted.

        Raises:
            StoreError: The store was made by another model.
        """
        require_same_model(store, self.reasoner, "this lens")
        return self

    @torch.no_grad()
    def logits(self, store: ActivationSource, address: Address, rows: pd.DataFrame) -> np.ndarray:
        """Return the lens's logits, shape (rows, vocabulary)."""
        require_same_model(store, self.reasoner, "this lens")
        states = torch.from_numpy(store.acts(address, rows)).to(self.reasoner.device)
        return unembed_states(self.reasoner, states, address.norm).float().cpu().numpy()

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the likeliest tokens of each row, with their probabilities."""
        return rank_tokens(self.reasoner, self.logits(store, address, rows), top_k)


def unembed_states(reasoner: Reasoner, states: Tensor, norm: Literal["pre", "post"]) -> Tensor:
    """Return the logits of hidden states, shape (rows, vocabulary), as the model computes them in its own dtype.

    Args:
        reasoner: The model.
        states: Hidden states in any dtype, shape (rows, d_model).
        norm: Whether the states come from before (`pre`) or after the final norm.
    """
    states = states.to(reasoner.unembed.weight.dtype)
    if norm == "pre":
        states = reasoner.model.ln_final(states[:, None])[:, 0]
    return reasoner.unembed(states)


def rank_tokens(reasoner: Reasoner, logits: np.ndarray, top_k: int) -> RankedTexts:
    """Return the likeliest tokens of each row of logits, with their probabilities."""
    probabilities = torch.softmax(torch.from_numpy(logits), dim=-1).numpy()
    tokens = reasoner.tokenizer.convert_ids_to_tokens(range(probabilities.shape[1]))
    return rank_classes(probabilities, tokens, top_k)


def require_same_model(store: ActivationSource, reasoner: Reasoner, decoder: str) -> None:
    """Check that a store was captured from the model whose weights a decoder uses.

    Args:
        store: The store.
        reasoner: The decoder's model.
        decoder: What the message calls the decoder, such as "this lens".

    Raises:
        StoreError: It was captured from another model.
    """
    if store.meta["reasoner"]["weights"] != reasoner.weights:
        raise StoreError(
            f"{decoder} uses {reasoner.name}'s unembedding, but the store was made by another model "
            f"({store.meta['reasoner']['name']}). Load that one."
        )


def unembedding_hash(reasoner: Reasoner) -> str:
    """Return a hash of the final norm's parameters and the unembedding: all of the model that a lens is fitted to."""
    digest = hashlib.sha256()
    # Wrapping renames parameters, so only their values count.
    norm = [value.detach().float().cpu().numpy() for value in reasoner.model.ln_final.state_dict().values()]
    for values in [*norm, reasoner.unembed.weight.detach().float().cpu().numpy()]:
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]
