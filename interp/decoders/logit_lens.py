"""Logit lens (nostalgebraist 2020): read a hidden state with the model's own final norm and unembedding."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.activations import ActivationSource
from interp.decoders.base import Readings, ranked
from interp.errors import StoreError
from interp.models.address import Address

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


class LogitLens:
    """Training-free. At a pre-norm address the final norm is applied first, at a post-norm one it is not.

    So at the last block's output it equals the model's own logits. Reads any residual-stream address.
    """

    name = "logit_lens"
    needs_model = True
    label_free = True

    def __init__(self, reasoner: Reasoner) -> None:
        self.reasoner = reasoner

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> LogitLens:
        refuse_other_model(store, self.reasoner, "this lens")
        return self

    @torch.no_grad()
    def logits(self, store: ActivationSource, address: Address, rows: pd.DataFrame) -> np.ndarray:
        """What the model would write if it stopped here, rows x vocabulary."""
        refuse_other_model(store, self.reasoner, "this lens")
        states = torch.from_numpy(store.acts(address, rows)).to(self.reasoner.device)
        return unembedded(self.reasoner, states, address.norm).float().cpu().numpy()

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> Readings:
        return ranked_tokens(self.reasoner, self.logits(store, address, rows), top_k)


def unembedded(reasoner: Reasoner, states: Tensor, norm: Literal["pre", "post"]) -> Tensor:
    """Logits of hidden states, rows x d_model, from before or after the final norm."""
    if norm == "pre":
        states = reasoner.model.ln_final(states[:, None])[:, 0]
    return reasoner.unembed(states)


def ranked_tokens(reasoner: Reasoner, logits: np.ndarray, top_k: int) -> Readings:
    """The likeliest tokens of each row, with their probabilities."""
    probabilities = torch.softmax(torch.from_numpy(logits), dim=-1).numpy()
    return ranked(probabilities, reasoner.tokenizer.convert_ids_to_tokens(range(probabilities.shape[1])), top_k)


def refuse_other_model(store: ActivationSource, reasoner: Reasoner, who: str) -> None:
    """Raise `StoreError` where a store was made by another model than the one whose weights a decoder uses."""
    if store.meta["reasoner"]["weights"] != reasoner.weights:
        raise StoreError(
            f"{who} uses {reasoner.name}'s unembedding, but the store was made by another model "
            f"({store.meta['reasoner']['name']}). Load that one."
        )


def unembedding_hash(reasoner: Reasoner) -> str:
    """A hash of the final norm's parameters and the unembedding: what a lens is fitted to, whatever else a model has."""
    digest = hashlib.sha256()
    # Wrapping renames parameters, so only their values count.
    norm = [value.detach().float().cpu().numpy() for value in reasoner.model.ln_final.state_dict().values()]
    for values in [*norm, reasoner.unembed.weight.detach().float().cpu().numpy()]:
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]
