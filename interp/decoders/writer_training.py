"""Training of writers: the vocabulary from prompts and texts, and shuffled epochs of next-word prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.decoders.writer import PAD_ID, Writer, WriterVocabulary
from interp.errors import CotlensError
from interp.runtime.hardware import mixed_precision
from interp.runtime.progress import Progress


def fit_writer(
    make: Callable[[WriterVocabulary, int | None, int], Writer],
    prompts: Sequence[Sequence[str]],
    latents: Float[Tensor, "rows d_latent"] | None,
    texts: Sequence[str],
    *,
    standardise: bool,
    updates: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    progress: Progress | None = None,
) -> Writer:
    """Make a writer for the words of these prompts and texts, and train it to write the texts.

    Args:
        make: Called with (vocabulary, width of the latents, positions).
        prompts: Words of each row's prompt.
        latents: The latent of each row; None for a writer without them.
        texts: The text of each row.
        standardise: Whether latents are standardised by these rows.
        updates: Number of updates.
        batch_size: Rows of an update.
        learning_rate: Largest learning rate of AdamW.
        seed: Seed of the initial weights and of the batches.
        progress: Called with (updates made, updates).

    Raises:
        CotlensError: Training diverges.
    """
    words = WriterVocabulary([w for prompt in prompts for w in prompt], [w for text in texts for w in text.split()])
    # One position is the latent's.
    positions = max(map(len, prompts)) + 1 + max(len(text.split()) for text in texts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        writer = make(words, None if latents is None else latents.shape[1], positions)
    if standardise and latents is not None:
        writer.standardise(latents)
    train_writer(
        writer,
        prompts,
        latents,
        texts,
        updates=updates,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        progress=progress,
    )
    return writer


def train_writer(
    writer: Writer,
    prompts: Sequence[Sequence[str]],
    latents: Float[Tensor, "rows d_latent"] | None,
    texts: Sequence[str],
    *,
    updates: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Train a writer to write `texts` after `prompts`, in shuffled epochs; arguments as in `fit_writer`.

    Raises:
        CotlensError: Training diverges.
    """
    prompt, text = writer.prompt_ids(prompts), writer.text_ids(texts)
    device = writer.device
    latents = None if latents is None else latents.to(device)
    optimizer = torch.optim.AdamW(
        [p for p in writer.parameters() if p.requires_grad],
        lr=learning_rate,
        weight_decay=0.01,
        betas=(0.9, 0.98),
        fused=True,
    )
    draw = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    writer.train()
    for update in range(updates):
        if not len(order):
            order = torch.randperm(len(prompt), generator=draw)
        rows, order = order[:batch_size], order[batch_size:]
        optimizer.param_groups[0]["lr"] = learning_rate * _schedule(update, updates)
        with mixed_precision(device):
            loss = writer.loss(*_trimmed(prompt[rows], None if latents is None else latents[rows], text[rows]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(writer.parameters(), 1.0)
        optimizer.step()
        if update % 50 == 0 or update == updates - 1:
            if not math.isfinite(float(loss.detach())):
                raise CotlensError(
                    f"the training of the writer diverged at update {update}; lower learning_rate ({learning_rate})."
                )
            if progress:
                progress(update + 1, updates)
    writer.eval()


def _trimmed(prompt: Tensor, latents: Tensor | None, text: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return a batch without the columns that are padding in all of it."""
    return (
        prompt[:, int((prompt != PAD_ID).any(0).int().argmax()) :],
        latents,
        text[:, : int((text != PAD_ID).any(0).sum())],
    )


def _schedule(update: int, updates: int) -> float:
    """Return the factor of the learning rate: rises over the first twentieth, falls linearly over the last half."""
    done = update / updates
    return min(1.0, (update + 1) / (0.05 * updates + 1), max(0.02, 2 * (1 - done)))
