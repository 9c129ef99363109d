"""Transcoders: sparse features that stand in for an MLP, from its input to its output (Dunefsky et al., arXiv 2406.11944).

Training is a few lines of its own because SAELens 6 has transcoders to use but none to train; what comes out is a
SAELens `Transcoder` (ReLU features), which saves, loads and encodes like any other.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError, checked_count
from interp.runtime.progress import Progress

if TYPE_CHECKING:
    from sae_lens import Transcoder


def train_transcoder(
    inputs: Float[Tensor, "rows d_in"],
    outputs: Float[Tensor, "rows d_out"],
    *,
    d_sae: int = 512,
    sparsity: float = 2e-3,
    updates: int = 1500,
    batch_size: int = 512,
    learning_rate: float = 2e-3,
    seed: int = 0,
    progress: Progress | None = None,
) -> Transcoder:
    """A transcoder of an MLP whose inputs (after the norm) and outputs these rows are.

    The loss is the squared error over the outputs' variance, plus `sparsity` times the summed activations, each
    weighted by the length of what it writes. The learning rate falls linearly over the second half. Raises
    `UsageError` on fewer than two rows, or rows that do not match.
    """
    checked_count("d_sae", d_sae)
    checked_count("updates", updates)
    if len(inputs) != len(outputs) or len(inputs) < 2:
        raise UsageError(f"a transcoder needs matching rows, but {len(inputs)} inputs and {len(outputs)} outputs came.")
    from sae_lens import Transcoder, TranscoderConfig

    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
        torch.manual_seed(seed)
        transcoder = Transcoder(
            TranscoderConfig(d_in=inputs.shape[1], d_out=outputs.shape[1], d_sae=d_sae, apply_b_dec_to_input=False)
        )
    with torch.no_grad():
        transcoder.W_enc.copy_(torch.randn(transcoder.W_enc.shape, generator=generator) / inputs.shape[1] ** 0.5)
        transcoder.W_dec.copy_(torch.randn(transcoder.W_dec.shape, generator=generator) / d_sae**0.5)
        transcoder.b_dec.copy_(outputs.mean(dim=0))
    parameters = list(transcoder.parameters())
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    scale = outputs.var(dim=0).sum().clamp(min=1e-12)
    for update in range(updates):
        rows = torch.randint(len(inputs), (batch_size,), generator=generator)
        x, y = inputs[rows], outputs[rows]
        acts = torch.relu(x @ transcoder.W_enc + transcoder.b_enc)
        error = (acts @ transcoder.W_dec + transcoder.b_dec - y).square().sum(dim=1).mean() / scale
        lengths = transcoder.W_dec.norm(dim=1) / scale.sqrt()
        loss = error + sparsity * (acts @ lengths).mean()
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, 2 * (1 - update / updates))
        optimizer.step()
        if progress and update % 100 == 99:
            progress(update + 1, updates)
    return transcoder.eval().requires_grad_(False)


def explained(
    transcoder: Transcoder, inputs: Float[Tensor, "rows d_in"], outputs: Float[Tensor, "rows d_out"]
) -> float:
    """The share of the outputs' variance that the transcoder explains."""
    with torch.no_grad():
        left = (transcoder(inputs) - outputs).square().sum()
    return float(1 - left / (outputs - outputs.mean(dim=0)).square().sum())


def active(transcoder: Transcoder, inputs: Float[Tensor, "rows d_in"]) -> float:
    """How many features are active on a row, in the mean."""
    with torch.no_grad():
        return float((transcoder.encode(inputs) > 0).sum(dim=1).float().mean())
