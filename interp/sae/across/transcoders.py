"""Transcoders: sparse features that replace an MLP, from its input to its output.

SAELens 6 can use transcoders and cannot train them, so training is done here. The result is a SAELens `Transcoder` with
ReLU features.

References:
    Dunefsky et al., "Transcoders Find Interpretable LLM Feature Circuits", arXiv 2406.11944.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError, checked_count
from interp.runtime.progress import Progress

if TYPE_CHECKING:
    from sae_lens import Transcoder


class TranscoderOptions(TypedDict, total=False):
    """Options of `train_transcoder`, which explains each."""

    d_sae: int
    sparsity: float
    updates: int
    batch_size: int
    learning_rate: float


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
    """Train a transcoder of an MLP.

    The loss is the squared error over the outputs' variance, plus `sparsity` times the summed activations, each weighted
    by the norm of its decoder direction. The learning rate falls linearly over the second half.

    Args:
        inputs: Inputs of the MLP, after the norm, shape (rows, d_in).
        outputs: Its outputs, shape (rows, d_out).
        d_sae: Number of features.
        sparsity: Weight of the sparsity loss.
        updates: Number of updates.
        batch_size: Rows in one update.
        learning_rate: Learning rate of Adam.
        seed: Seed of the weights and batches.
        progress: Called with the number of updates that are done, and of all.

    Returns:
        The transcoder, ready for inference.

    Raises:
        UsageError: On fewer than two rows, or inputs and outputs of different length.
    """
    checked_count("d_sae", d_sae)
    checked_count("updates", updates)
    if len(inputs) != len(outputs) or len(inputs) < 2:
        raise UsageError(
            f"expected as many inputs as outputs, at least 2, got {len(inputs)} and {len(outputs)}; give the rows of one MLP."
        )
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


def explained_variance(
    transcoder: Transcoder, inputs: Float[Tensor, "rows d_in"], outputs: Float[Tensor, "rows d_out"]
) -> float:
    """Return the fraction of the outputs' variance that the transcoder explains.

    Args:
        transcoder: A fitted transcoder.
        inputs: Inputs of the MLP, shape (rows, d_in).
        outputs: Outputs of the MLP, shape (rows, d_out).

    Returns:
        1 minus the residual sum of squares over the total sum of squares about the mean.
    """
    with torch.no_grad():
        residual = (transcoder(inputs) - outputs).square().sum()
    return float(1 - residual / (outputs - outputs.mean(dim=0)).square().sum())


def mean_active(transcoder: Transcoder, inputs: Float[Tensor, "rows d_in"]) -> float:
    """Return the mean number of active features in a row.

    Args:
        transcoder: A fitted transcoder.
        inputs: Inputs of the MLP, shape (rows, d_in).

    Returns:
        The mean over rows.
    """
    with torch.no_grad():
        return float((transcoder.encode(inputs) > 0).sum(dim=1).float().mean())
