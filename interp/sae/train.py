"""Training a sparse autoencoder with SAELens on rows of an activation store."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float32

from interp.activations import Store
from interp.errors import StoreError, UsageError, checked_count
from interp.models.address import Address

if TYPE_CHECKING:
    import torch
    from sae_lens import SAE

Progress = Callable[[int, int], None]
_NORM_BATCHES = 8  # read before training starts, to bring inputs to SAELens's expected norm


def train_sae(
    store: Store,
    address: Address,
    rows: pd.DataFrame,
    *,
    d_sae: int = 512,
    k: int = 16,
    samples: int = 200_000,
    batch_size: int = 1024,
    learning_rate: float = 1e-3,
    seed: int = 0,
    progress: Progress | None = None,
) -> SAE:
    """A TopK sparse autoencoder (Gao et al., arXiv 2406.04093) of the activations of `rows` at `address`.

    `samples` counts rows seen, each epoch in a new order. Raises `UsageError` when there are fewer rows than
    one batch can be drawn from.
    """
    checked_count("d_sae", d_sae, at_least=k)
    acts = store.acts(address, rows)
    if len(acts) < 2:
        raise UsageError(f"an SAE needs rows to learn from, but {len(acts)} came.")
    import torch
    from sae_lens import LoggingConfig, SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig

    batch_size = min(batch_size, len(acts))
    updates = max(1, samples // batch_size)
    with torch.random.fork_rng(devices=[]), _silent():
        torch.manual_seed(seed)
        sae = TopKTrainingSAE(
            TopKTrainingSAEConfig(
                d_in=acts.shape[1],
                d_sae=d_sae,
                k=k,
                apply_b_dec_to_input=True,
                normalize_activations="expected_average_only_in",
            )
        )
        trainer = SAETrainer(
            cfg=SAETrainerConfig(
                total_training_samples=updates * batch_size,
                train_batch_size_samples=batch_size,
                lr=learning_rate,
                lr_end=learning_rate / 10,
                lr_warm_up_steps=min(100, updates // 10),
                lr_decay_steps=updates // 5,
                dead_feature_window=max(50, updates // 5),
                n_batches_for_norm_estimate=_NORM_BATCHES,
                logger=LoggingConfig(log_to_wandb=False),
            ),
            sae=sae,
            data_provider=_batches(acts, batch_size, seed, updates, progress),
        )
        trained = trainer.fit()
    trained.cfg.metadata.hook_name = address.name
    return trained.eval()


def _batches(
    acts: Float32[np.ndarray, "rows d"], size: int, seed: int, updates: int, progress: Progress | None
) -> Iterator[torch.Tensor]:
    import torch

    rng = np.random.default_rng(seed)
    served = 0
    while True:
        order = rng.permutation(len(acts))
        for start in range(0, len(order) - size + 1, size):
            served += 1
            if progress:
                progress(min(max(served - _NORM_BATCHES, 0), updates), updates)
            yield torch.from_numpy(acts[order[start : start + size]])


def save_sae(sae: SAE, folder: Path | str) -> None:
    """Write an SAE in SAELens's own format."""
    with _silent():
        sae.save_inference_model(str(folder))


def load_sae(folder: Path | str) -> SAE:
    """An SAE from a folder in SAELens's format."""
    from sae_lens import SAE

    if not (Path(folder) / "cfg.json").exists():
        raise StoreError(f"no SAE at {folder}: a SAELens folder holds cfg.json and sae_weights.safetensors.")
    with _silent():
        return SAE.load_from_disk(str(folder)).eval()


def explained_variance(sae: SAE, acts: Float32[np.ndarray, "rows d"]) -> float:
    """1 minus the residual sum of squares over the total sum of squares about the mean."""
    import torch

    with torch.no_grad():
        rebuilt = sae(torch.from_numpy(acts)).numpy()
    return float(1 - ((acts - rebuilt) ** 2).sum() / ((acts - acts.mean(0)) ** 2).sum())


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """SAELens prints bars of its own; ours are enough."""
    logger = logging.getLogger("sae_lens")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
