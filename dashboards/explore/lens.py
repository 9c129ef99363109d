"""What a lens reads at many positions and addresses: computed in blocks, kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int32

from interp.activations import ActivationSource
from interp.models.address import Address

if TYPE_CHECKING:
    from interp.decoders.saved_lens import SavedLens
    from interp.reasoners import Reasoner

TOP = 5
BLOCK = 32  # positions of a block
_KEPT = 256  # blocks that stay in memory
_WORK = 5e10  # multiplications that a view may take: about two seconds of one core


@dataclass(frozen=True)
class LensBlock:
    """Read-outs of the lens, one row for each row of activations.

    Attributes:
        ids: The likeliest tokens, best first, shape (rows, TOP).
        probabilities: Their probabilities, shape (rows, TOP).
        entropy: Entropy in nats, shape (rows,).
        target: Probability of the token asked for, NaN where none was, shape (rows,).
        rank: Its rank, 1 for the likeliest, NaN where none was asked for, shape (rows,).
    """

    ids: Int32[np.ndarray, "rows top"]
    probabilities: Float32[np.ndarray, "rows top"]
    entropy: Float32[np.ndarray, " rows"]
    target: Float32[np.ndarray, " rows"]
    rank: Float32[np.ndarray, " rows"]


def affordable_positions(reasoner: Reasoner, n_addresses: int) -> int:
    """Return how many positions the lens can read at that many addresses without a wait."""
    vocabulary, width = reasoner.unembed.weight.shape
    return max(8, int(_WORK / (2 * vocabulary * width * max(n_addresses, 1))))


def read_states(
    reasoner: Reasoner,
    states: Float32[np.ndarray, "rows d_model"],
    address: Address,
    targets: np.ndarray,
    lens: SavedLens | None = None,
) -> LensBlock:
    """Return what a lens reads in hidden states.

    Args:
        reasoner: The model.
        states: Hidden states, shape (rows, d_model).
        address: Where they are from.
        targets: A token id for each row, -1 for none, shape (rows,).
        lens: A fitted lens that can be read there; the logit lens by default.
    """
    import torch

    from interp.decoders.logit_lens import unembed_states

    with torch.no_grad():
        tensor = torch.from_numpy(np.ascontiguousarray(states)).to(reasoner.device)
        logits = (
            unembed_states(reasoner, tensor, address.norm).float() if lens is None else lens.logits(tensor, address)
        )
        log_p = torch.log_softmax(logits, dim=-1)
        top = log_p.topk(min(TOP, log_p.shape[1]), dim=-1)
        entropy = torch.special.entr(log_p.exp()).sum(dim=-1)
        ids = torch.from_numpy(np.maximum(targets, 0)).to(log_p.device)
        of_target = log_p.gather(1, ids[:, None])
        rank = (log_p > of_target).sum(dim=-1) + 1
    none = targets < 0
    return LensBlock(
        top.indices.int().cpu().numpy(),
        top.values.exp().cpu().numpy(),
        entropy.cpu().numpy(),
        np.where(none, np.nan, of_target[:, 0].exp().cpu().numpy()).astype(np.float32),
        np.where(none, np.nan, rank.float().cpu().numpy()).astype(np.float32),
    )


class LensCache:
    """Blocks of read-outs by store, address, rows and targets; the ones used last are kept."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[str, str, bytes, bytes], LensBlock] = OrderedDict()

    def read(
        self,
        store: ActivationSource,
        reasoner: Reasoner,
        address: Address,
        rows: np.ndarray,
        targets: np.ndarray,
        lens: SavedLens | None = None,
    ) -> LensBlock:
        """Return what the lens reads at some rows of a store.

        Args:
            store: The activations.
            reasoner: The model that made them.
            address: Where they are read.
            rows: Numbers of rows of the store's index.
            targets: A token id for each row, -1 for none.
            lens: A fitted lens that can be read there; the logit lens by default.
        """
        parts = [
            self._block(store, reasoner, address, rows[first : first + BLOCK], targets[first : first + BLOCK], lens)
            for first in range(0, len(rows), BLOCK)
        ]
        if not parts:
            return read_states(reasoner, np.zeros((0, store.meta["d_model"]), np.float32), address, targets, lens)
        names = ("ids", "probabilities", "entropy", "target", "rank")
        return LensBlock(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def _block(
        self,
        store: ActivationSource,
        reasoner: Reasoner,
        address: Address,
        rows: np.ndarray,
        targets: np.ndarray,
        lens: SavedLens | None,
    ) -> LensBlock:
        identity = f"{store.name} {store.meta['config_hash']} {reasoner.weights} {lens.version if lens else ''}"
        key = (identity, address.name, rows.tobytes(), targets.tobytes())
        block = self._blocks.pop(key, None)
        if block is None:
            block = read_states(reasoner, store.acts(address, rows), address, targets, lens)
        self._blocks[key] = block
        while len(self._blocks) > _KEPT * max(1, len(store.addresses) // 8):
            self._blocks.popitem(last=False)
        return block
