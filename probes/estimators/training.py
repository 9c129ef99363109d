"""Gradient training of small probes, stopped where rows kept aside stop getting better."""

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

# Fewer different rows than this cannot say when to stop.
_FEWEST_ASIDE = 10


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: AdamW for at most `epochs`, `patience` of them without a better validation loss."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int
    seed: int


@dataclass(frozen=True)
class History:
    """Passes over the data, the pass whose weights were kept, and its log-loss on the rows aside (NaN without any)."""

    epochs: int
    best_epoch: int
    validation_loss: float


def standardisation(
    rows: Float[np.ndarray, "rows d"], weights: Float[np.ndarray, " rows"] | None
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """The weighted mean and spread of each column; a column that does not vary beyond rounding is left at its scale."""
    mean = np.average(rows, axis=0, weights=weights)
    spread = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weights))
    return mean, np.where(spread > 1e-12 * np.abs(mean).clip(1e-6), spread, 1.0)


def schedule_of(probe: Any) -> Schedule:
    """The training schedule that a probe's parameters say. Raises `UsageError` where they make no sense."""
    for name in ("learning_rate", "weight_decay"):
        value = getattr(probe, name)
        if not (isinstance(value, (int, float)) and np.isfinite(value) and value >= 0):
            raise UsageError(f"{name} must be a number of at least 0, but {value!r} came.")
    if not 0 <= probe.validation_fraction < 1:
        raise UsageError(f"validation_fraction must be between 0 and 1, but {probe.validation_fraction!r} came.")
    return Schedule(
        epochs=checked_count("epochs", probe.epochs),
        batch_size=checked_count("batch_size", probe.batch_size),
        learning_rate=probe.learning_rate,
        weight_decay=probe.weight_decay,
        patience=checked_count("patience", probe.patience),
        seed=checked_count("random_state", probe.random_state, at_least=0),
    )


def checked_groups(groups: Any, X: Any, sample_weight: Any) -> np.ndarray | None:  # noqa: N803
    """One group a row, of the rows that `sample_weight` leaves."""
    if groups is None:
        return None
    given = np.asarray(groups)
    if given.shape != (len(X),):
        raise UsageError(f"{len(X)} rows came with groups of shape {given.shape}; give one group a row.")
    return given if sample_weight is None else given[np.asarray(sample_weight) > 0]


def kept_aside(
    rows: Float[np.ndarray, "rows *axes"], groups: np.ndarray | None, share: float, seed: int
) -> Bool[np.ndarray, " rows"]:
    """About a `share` of the rows to stop training by, whole groups at a time; none when they would be too few.

    Without `groups` a row's content decides, so that copies of a row are never on both sides, and their number
    and order change nothing.
    """
    if groups is None:
        with np.errstate(over="ignore"):
            content = np.ascontiguousarray(rows, np.float32) + np.float32(0)  # so that -0 counts as 0
        keys = [row.tobytes() for row in content]
    else:
        keys = [str(group).encode() for group in groups]
    draws = {key: _uniform(seed, key) for key in set(keys)}
    if sum(draw < share for draw in draws.values()) < _FEWEST_ASIDE:
        return np.zeros(len(rows), dtype=bool)
    return np.array([draws[key] < share for key in keys])


def train(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    codes: Int[Tensor, " rows"],
    weights: Float[Tensor, " rows"],
    aside: Bool[np.ndarray, " rows"],
    schedule: Schedule,
) -> History:
    """Train `module(*inputs)`, which gives logits, on the rows not `aside`; the weights of the best pass are kept."""
    order = torch.Generator().manual_seed(schedule.seed)
    learned_from = torch.from_numpy(np.flatnonzero(~aside))
    held = torch.from_numpy(np.flatnonzero(aside))
    optimiser = torch.optim.AdamW(
        module.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
    )
    whole = len(learned_from) <= schedule.batch_size
    best, best_epoch, epoch = math.inf, 0, 0
    kept: dict[str, Tensor] = {}
    for epoch in range(1, schedule.epochs + 1):
        shuffled = learned_from if whole else learned_from[torch.randperm(len(learned_from), generator=order)]
        for chosen in shuffled.split(schedule.batch_size):
            optimiser.zero_grad()
            _loss(module, inputs, codes, weights, chosen).backward()
            optimiser.step()
        if not len(held):
            continue
        with torch.no_grad():
            loss = float(_loss(module, inputs, codes, weights, held))
        if loss < best:
            best, best_epoch = loss, epoch
            kept = {name: value.detach().clone() for name, value in module.state_dict().items()}
        elif epoch - best_epoch >= schedule.patience:
            break
    if kept:
        module.load_state_dict(kept)
    return History(epoch, best_epoch or epoch, best if kept else math.nan)


def _loss(module: nn.Module, inputs: tuple[Tensor, ...], codes: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    logits = module(*(each[chosen] for each in inputs))
    each = nn.functional.cross_entropy(logits, codes[chosen], reduction="none")
    return (each * weights[chosen]).sum() / weights[chosen].sum()


def _uniform(seed: int, key: bytes) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}|".encode() + key).digest()[:8], "big") / 2**64
