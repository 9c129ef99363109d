"""Gradient training of small probes, with early stopping on validation rows."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp.errors import UsageError, checked_count

# Fewer different validation rows than this are too few to stop by.
_MIN_VALIDATION = 10


@dataclass(frozen=True)
class Schedule:
    """Training options for AdamW: at most `epochs` passes, `patience` of them without a better validation loss."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int
    seed: int


@dataclass(frozen=True)
class History:
    """Outcome of a training.

    Attributes:
        epochs: Passes over the data.
        best_epoch: The pass whose weights were kept.
        validation_loss: Log-loss on the validation rows at that pass; NaN without validation rows.
    """

    epochs: int
    best_epoch: int
    validation_loss: float


def standardisation(
    rows: Float[np.ndarray, "rows d"], weights: Float[np.ndarray, " rows"] | None
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Return the weighted mean and standard deviation of each column; 1 for a column that varies only by rounding."""
    mean = np.average(rows, axis=0, weights=weights)
    spread = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weights))
    return mean, np.where(spread > 1e-12 * np.abs(mean).clip(1e-6), spread, 1.0)


def training_schedule(probe: Any) -> Schedule:
    """Return the schedule in a probe's parameters.

    Raises:
        UsageError: A parameter is out of range.
    """
    for name in ("learning_rate", "weight_decay"):
        value = getattr(probe, name)
        if not (isinstance(value, (int, float)) and np.isfinite(value) and value >= 0):
            raise UsageError(f"expected {name} to be a number of at least 0, got {value!r}; change it.")
    if not 0 <= probe.validation_fraction < 1:
        raise UsageError(
            f"expected validation_fraction to be at least 0 and below 1, got {probe.validation_fraction!r}; change it."
        )
    return Schedule(
        epochs=checked_count("epochs", probe.epochs),
        batch_size=checked_count("batch_size", probe.batch_size),
        learning_rate=probe.learning_rate,
        weight_decay=probe.weight_decay,
        patience=checked_count("patience", probe.patience),
        seed=checked_count("random_state", probe.random_state, at_least=0),
    )


def checked_groups(groups: Any, X: Any, sample_weight: Any) -> np.ndarray | None:  # noqa: N803
    """Return the group of each row with a positive weight, or None without groups."""
    if groups is None:
        return None
    of_row = np.asarray(groups)
    if of_row.shape != (len(X),):
        raise UsageError(f"expected one group for each of {len(X)} rows, got shape {of_row.shape}; give one a row.")
    return of_row if sample_weight is None else of_row[np.asarray(sample_weight) > 0]


def validation_rows(
    rows: Float[np.ndarray, " rows *axes"], groups: np.ndarray | None, share: float, seed: int
) -> Bool[np.ndarray, " rows"]:
    """Return a mask of the rows to stop training by: about a `share` of the rows, whole groups at a time.

    Without `groups`, a hash of a row's content decides, so copies of a row are on the same side, and the number and
    order of the rows do not matter.

    Args:
        rows: Rows or sequences, first axis rows.
        groups: Group of each row, shape (rows,).
        share: Share of the rows for validation.
        seed: Seed of the hash.

    Returns:
        The mask, shape (rows,); all False if fewer than 10 different rows or groups would be chosen.
    """
    if groups is None:
        with np.errstate(over="ignore"):
            content = np.ascontiguousarray(rows, np.float32) + np.float32(0)  # -0 becomes 0
        keys = [row.tobytes() for row in content]
    else:
        keys = [str(group).encode() for group in groups]
    draws = {key: _uniform(seed, key) for key in set(keys)}
    if sum(draw < share for draw in draws.values()) < _MIN_VALIDATION:
        return np.zeros(len(rows), dtype=bool)
    return np.array([draws[key] < share for key in keys])


def train(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    codes: Int[Tensor, " rows"],
    weights: Float[Tensor, " rows"],
    validation: Bool[np.ndarray, " rows"],
    schedule: Schedule,
) -> History:
    """Train a module by cross-entropy on the rows outside `validation` and keep the weights of the best pass.

    Args:
        module: Called as `module(*inputs)`; returns logits, shape (rows, classes).
        inputs: Tensors whose first axis is rows.
        codes: The class of each row, counted from 0, shape (rows,).
        weights: Weight of each row, shape (rows,).
        validation: Mask of the rows to stop by, shape (rows,).
        schedule: Training options.

    Returns:
        What happened; the module holds the kept weights.
    """
    order = torch.Generator().manual_seed(schedule.seed)
    training_rows = torch.from_numpy(np.flatnonzero(~validation))
    held_out = torch.from_numpy(np.flatnonzero(validation))
    optimiser = torch.optim.AdamW(
        module.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
    )
    one_batch = len(training_rows) <= schedule.batch_size
    best, best_epoch, epoch = math.inf, 0, 0
    best_state: dict[str, Tensor] = {}
    for epoch in range(1, schedule.epochs + 1):
        shuffled = training_rows if one_batch else training_rows[torch.randperm(len(training_rows), generator=order)]
        for batch in shuffled.split(schedule.batch_size):
            optimiser.zero_grad()
            _loss(module, inputs, codes, weights, batch).backward()
            optimiser.step()
        if not len(held_out):
            continue
        with torch.no_grad():
            loss = float(_loss(module, inputs, codes, weights, held_out))
        if loss < best:
            best, best_epoch = loss, epoch
            best_state = {name: value.detach().clone() for name, value in module.state_dict().items()}
        elif epoch - best_epoch >= schedule.patience:
            break
    if best_state:
        module.load_state_dict(best_state)
    return History(epoch, best_epoch or epoch, best if best_state else math.nan)


def _loss(module: nn.Module, inputs: tuple[Tensor, ...], codes: Tensor, weights: Tensor, batch: Tensor) -> Tensor:
    logits = module(*(tensor[batch] for tensor in inputs))
    losses = nn.functional.cross_entropy(logits, codes[batch], reduction="none")
    return (losses * weights[batch]).sum() / weights[batch].sum()


def _uniform(seed: int, key: bytes) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}|".encode() + key).digest()[:8], "big") / 2**64
