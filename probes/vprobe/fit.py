"""V-probing (arXiv 2407.20311, section 4.2): does a model know something about what a description names?

The text is cut off at a position and `[START] description [END]` is appended. The model is frozen. A linear head on the
state at [END] is trained, and a low-rank update of the input embeddings, which also gives the two new tokens meaning.
Unlike a probe at one position, a V-probe can ask about any parameter of any problem. Training multiplies matrices in
bfloat16 on processors that have it; predictions are made in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError, checked_count
from interp.models.fast_model import fast_model
from interp.problems.base import checked_seed
from interp.runtime.hardware import mixed_precision, training_attention
from interp.statistics.metrics import macro_f1
from probes.vprobe.packing import Batch, Item, batches

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_HEAD_RATE, _UPDATE_RATE = 3e-3, 1e-2


class VProbeOptions(TypedDict, total=False):
    """Options of `VProbe`, which explains each."""

    rank: int
    epochs: int
    batch_size: int
    rate: float


class VProbe:
    """A linear head and a low-rank update of the embeddings.

    Args:
        rank: Rank of the update, 8 in the paper; 0 trains the head alone.
        epochs: Passes over the training items; the epoch that is best on validation is kept.
        batch_size: Traces in a batch; all items of a trace are in one batch.
        rate: Learning rates of head and update, relative to the defaults.
        seed: Seed of the update's first values and of the order of batches.

    Attributes:
        classes_: The labels, sorted.
        head_: The trained linear head.
        val_scores_: Macro-F1 on validation after each epoch.
        losses_: Mean training loss of each epoch.

    References:
        Ye et al. 2024, arXiv 2407.20311, section 4.2.
    """

    def __init__(self, rank: int = 8, epochs: int = 8, batch_size: int = 16, rate: float = 1.0, seed: int = 0) -> None:
        self.rank = checked_count("rank", rank, at_least=0)
        self.epochs = checked_count("epochs", epochs)
        self.batch_size = checked_count("batch_size", batch_size)
        self.rate = rate
        self.seed = checked_seed(seed)

    def fit(self, reasoner: Reasoner, train: Sequence[Item], val: Sequence[Item]) -> VProbe:
        """Train on `train` and keep the epoch that is best on `val`.

        Args:
            reasoner: The model to probe; its weights do not change.
            train: Items to fit.
            val: Items to select the epoch on.

        Raises:
            UsageError: Either list is empty, or all labels of `train` are the same.
        """
        if not train or not val:
            raise UsageError(
                f"expected items to train on and to select on, got {len(train)} and {len(val)}; use more problems."
            )
        self.classes_, codes = np.unique([item.label for item in train], return_inverse=True)
        if len(self.classes_) < 2:
            raise UsageError(
                f"expected at least two labels, got only {str(self.classes_[0])!r}; use items with other labels too."
            )
        self._reasoner = reasoner
        self._start(reasoner)
        gold = torch.as_tensor(codes, device=reasoner.device)
        weights = self._weights(codes).to(reasoner.device)
        packed, val_packed = batches(reasoner, train, self.batch_size), batches(reasoner, val, 4 * self.batch_size)
        optimizer = torch.optim.AdamW(
            [
                {"params": self.head_.parameters(), "lr": self.rate * _HEAD_RATE},
                {"params": self._update, "lr": self.rate * _UPDATE_RATE},
            ],
            weight_decay=0.0,
        )
        total = self.epochs * len(packed)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - step / total)
        order = np.random.default_rng(self.seed)
        self.val_scores_, self.losses_ = [], []
        for _ in range(self.epochs):
            self.losses_.append(self._epoch(packed, order.permutation(len(packed)), gold, weights, optimizer, schedule))
            self.val_scores_.append(macro_f1(np.array([item.label for item in val]), self._read(val_packed, len(val))))
            if self.val_scores_[-1] == max(self.val_scores_):
                best = [parameter.detach().clone() for parameter in self._parameters]
        with torch.no_grad():
            for parameter, value in zip(self._parameters, best, strict=True):
                parameter.copy_(value)
        return self

    def predict(self, items: Sequence[Item]) -> np.ndarray:
        """Return the label read for each item."""
        return self._read(batches(self._reasoner, items, 4 * self.batch_size), len(items))

    def score(self, items: Sequence[Item]) -> float:
        """Return the macro-F1 over the items."""
        return macro_f1(np.array([item.label for item in items]), self.predict(items))

    def _start(self, reasoner: Reasoner) -> None:
        rng = torch.Generator().manual_seed(self.seed)
        table = reasoner.embed.weight.detach().float()
        new = table.mean(dim=0, keepdim=True).expand(2, -1)
        self._table = torch.cat([table, new])
        width = table.shape[1]
        self.head_ = torch.nn.Linear(width, len(self.classes_))
        with torch.no_grad():
            self.head_.weight.normal_(0, width**-0.5, generator=rng)
            self.head_.bias.zero_()
        self.head_.to(reasoner.device)
        # Zeros times noise: the update starts at zero and still has a gradient.
        across = torch.randn(self.rank, width, generator=rng) * float(table.std())
        self._update = [
            torch.zeros(len(self._table), self.rank, device=reasoner.device, requires_grad=True),
            across.to(reasoner.device).requires_grad_(),
        ]

    @property
    def _parameters(self) -> list[Tensor]:
        return [*self.head_.parameters(), *self._update]

    @staticmethod
    def _weights(codes: np.ndarray) -> Float[Tensor, " classes"]:
        """Weight rare labels more, so that the loss agrees with macro-F1."""
        counts = np.bincount(codes)
        return torch.tensor(np.sqrt(counts.max() / counts), dtype=torch.float32)

    def _epoch(
        self,
        packed: list[Batch],
        order: np.ndarray,
        gold: Tensor,
        weights: Tensor,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> float:
        losses = []
        for number in order:
            batch = packed[number]
            with mixed_precision(self._table.device):
                logits = self.head_(self._states(batch))
            loss = torch.nn.functional.cross_entropy(logits.float(), gold[batch.items], weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def _states(self, batch: Batch) -> Float[Tensor, "questions d_model"]:
        """Return the final-norm state at each question's [END]."""
        left, right = self._update
        inputs = self._table[batch.ids]
        if self.rank:
            inputs = inputs + left[batch.ids] @ right
        if batch.latents is not None:
            inputs = inputs.masked_scatter(batch.silent[..., None], batch.latents.to(inputs))
        inputs = inputs.to(self._reasoner.embed.weight.dtype)
        barred = torch.zeros(batch.mask.shape, dtype=inputs.dtype, device=inputs.device)
        barred = barred.masked_fill(~batch.mask, torch.finfo(inputs.dtype).min)
        out = _body(self._reasoner)(
            inputs_embeds=inputs, attention_mask=barred, position_ids=batch.positions, use_cache=False
        )
        return out.last_hidden_state[batch.ends].to(self._table.dtype)

    @torch.no_grad()
    def _read(self, packed: list[Batch], n: int) -> np.ndarray:
        read = np.empty(n, dtype=self.classes_.dtype)
        for batch in packed:
            read[batch.items] = self.classes_[self.head_(self._states(batch)).argmax(dim=1).cpu().numpy()]
        return read


def _body(reasoner: Reasoner) -> Any:
    """Return the model to run: its fast copy, whose attention is fused, where that trains fastest."""
    fast = fast_model(reasoner.model) if training_attention(reasoner.device) == "sdpa" else None
    return reasoner.base if fast is None else fast.base
