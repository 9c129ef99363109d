"""Training steps of EleutherAI's sparsify, where it is installed: its coder, its loss and Adam, as its trainer has them."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import torch

INSTALL = "sparsify is not installed: pip install 'cotlens[peers]'"


def installed() -> bool:
    """Return whether sparsify can be imported here."""
    return importlib.util.find_spec("sparsify") is not None


def name_and_version() -> str:
    """Return how notes name sparsify."""
    return f"sparsify {version('eai-sparsify')}"


class SparsifyTrainer:
    """Trains sparsify's TopK coder on batches, one update for each.

    Args:
        sae: A TopK SAE of SAELens, whose weights it starts from.
        data_provider: Batches of rows, shape (rows, d_in).
        lr: Learning rate.
    """

    n_training_steps = 0

    def __init__(self, sae: Any, data_provider: Iterator[torch.Tensor], lr: float) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints which kernels it uses
            from sparsify import SparseCoder, SparseCoderConfig

        config = SparseCoderConfig(num_latents=sae.cfg.d_sae, k=sae.cfg.k)
        self.coder = SparseCoder(sae.cfg.d_in, config)
        self.data_provider = data_provider
        with torch.no_grad():
            self.coder.encoder.weight.copy_(sae.W_enc.T)
            self.coder.W_dec.copy_(sae.W_dec)
        self._optimizer = torch.optim.Adam(self.coder.parameters(), lr=lr)

    def step(self, batch: torch.Tensor) -> None:
        """Make one update on a batch, shape (rows, d_in)."""
        self.coder.set_decoder_norm_to_unit_norm()
        self.coder(batch).fvu.backward()
        self.coder.remove_gradient_parallel_to_decoder_directions()
        self._optimizer.step()
        self._optimizer.zero_grad()

    @torch.no_grad()
    def explained_variance(self, batch: torch.Tensor) -> float:
        """Return the fraction of the variance of a batch that is explained."""
        return 1 - float(self.coder(batch).fvu)
