"""Logit lens (nostalgebraist 2020): read a hidden state with the model's own final norm and unembedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from interp.activations import Store
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

    def __init__(self, reasoner: Reasoner) -> None:
        self.reasoner = reasoner

    def fit(self, store: Store, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> LogitLens:
        if store.meta["reasoner"]["weights"] != self.reasoner.weights:
            raise StoreError(
                f"this lens uses {self.reasoner.name}'s unembedding, but the store was made by another model "
                f"({store.meta['reasoner']['name']}). Load that one."
            )
        return self

    @torch.no_grad()
    def logits(self, store: Store, address: Address, rows: pd.DataFrame) -> np.ndarray:
        """What the model would write if it stopped here, rows x vocabulary."""
        states = torch.from_numpy(store.acts(address, rows)).to(self.reasoner.device)
        if address.norm == "pre":
            states = self.reasoner.model.ln_final(states[:, None])[:, 0]
        return self.reasoner.unembed(states).float().cpu().numpy()

    def decode(self, store: Store, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> Readings:
        logits = torch.from_numpy(self.logits(store, address, rows))
        probabilities = torch.softmax(logits, dim=-1).numpy()
        names = self.reasoner.tokenizer.convert_ids_to_tokens(range(probabilities.shape[1]))
        return ranked(probabilities, names, top_k)
