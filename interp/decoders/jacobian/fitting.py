"""Fit a Jacobian lens to texts or to a model's own traces; a fit that was cut off goes on where it was."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from interp.decoders.jacobian.candidates import Candidates
from interp.decoders.jacobian.estimate import ALL, Context, Positions, layers_to_fit, rows_in_a_batch, sum_of_jacobians
from interp.decoders.jacobian.lens_file import LensFile
from interp.errors import UsageError, checked_count
from interp.reasoners.replayer import PartialTrace
from interp.runtime.progress import Progress
from interp.traces import Channel

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

# As the reference: positions at the beginning of texts, whose states are not typical, and tokens of a text.
SKIP_FIRST, MAX_TOKENS = 16, 128
_SECONDS = 20.0  # between two writings of a fit under way


def text_contexts(reasoner: Reasoner, texts: Sequence[str], max_tokens: int = MAX_TOKENS) -> list[Context]:
    """Return texts as contexts: their tokens, as the tokenizer gives them, cut to `max_tokens`."""
    checked_count("max_tokens", max_tokens, at_least=2)
    ids = [list(reasoner.tokenizer(text)["input_ids"])[:max_tokens] for text in texts]
    return [PartialTrace(tokens, [Channel.PROMPT] * len(tokens), None) for tokens in ids if tokens]


def fit_jacobians(
    reasoner: Reasoner,
    contexts: Sequence[Context],
    *,
    layers: Sequence[int] | None = None,
    positions: Positions = ALL,
    candidates: Sequence[int] | None = None,
    batch_size: int = 16,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> LensFile:
    """Fit a lens: the mean over contexts of the Jacobian of each layer.

    Args:
        reasoner: The model.
        contexts: Traces, or texts from `text_contexts`. Those without a position that counts are left out. Continuous
            thoughts are fed as they were thought, so that what a state does to the thoughts fed later is not part of it.
        layers: Blocks whose outputs are read; all but the last where None.
        positions: Which positions count.
        candidates: Token ids, if only their rows are wanted.
        batch_size: Contexts that run at once.
        checkpoint: A file that keeps the fit while it is under way. The same call goes on from there.
        progress: Called with (contexts done, contexts in all).

    Returns:
        The lens.

    Raises:
        UsageError: No context has a position that counts, or the checkpoint is of another fit.
    """
    checked_count("batch_size", batch_size)
    chosen = layers_to_fit(reasoner, layers)
    usable = [context for context in contexts if positions.usable(context)]
    if not usable:
        raise UsageError(
            f"expected contexts with positions to fit a lens to, got none in {len(contexts)}; take longer ones, skip fewer "
            "positions, or choose other channels."
        )
    rows = None if candidates is None else Candidates.of(reasoner, candidates)
    vectors = torch.eye(reasoner.model.cfg.d_model) if rows is None else rows.vectors
    metadata = _metadata(reasoner, usable, positions)
    tokens = None if rows is None else rows.tokens
    done, sums = 0, {layer: torch.zeros(vectors.shape) for layer in chosen}
    if checkpoint is not None and checkpoint.exists():
        done, sums = _resumed(LensFile.read(checkpoint), metadata, tokens, chosen, checkpoint)
    step, written = rows_in_a_batch(reasoner, usable, batch_size), time.monotonic()
    while done < len(usable):
        batch = usable[done : done + step]
        for layer, part in sum_of_jacobians(reasoner, batch, vectors, chosen, positions).items():
            sums[layer] += part
        done += len(batch)
        if checkpoint is not None and done < len(usable) and time.monotonic() - written > _SECONDS:
            _lens(sums, done, tokens, metadata, done).write(checkpoint)
            written = time.monotonic()
        if progress:
            progress(done, len(usable))
    return _lens(sums, len(usable), tokens, metadata, None)


def _lens(
    sums: dict[int, torch.Tensor], n: int, tokens: tuple[int, ...] | None, metadata: dict[str, Any], done: int | None
) -> LensFile:
    return LensFile({layer: total / n for layer, total in sums.items()}, n, tokens, metadata, done)


def _resumed(
    under_way: LensFile, metadata: dict[str, Any], tokens: tuple[int, ...] | None, layers: list[int], path: Path
) -> tuple[int, dict[int, torch.Tensor]]:
    stated = {key: value for key, value in under_way.metadata.items() if key != "n_prompts"}
    same = stated == metadata and under_way.candidates == tokens and sorted(under_way.matrices) == layers
    if not same or under_way.next_context is None:
        raise UsageError(
            f"expected the beginning of this fit in {path}, got another lens; choose another file, or remove it."
        )
    n = under_way.n_contexts
    return under_way.next_context, {layer: matrix * n for layer, matrix in under_way.matrices.items()}


def _metadata(reasoner: Reasoner, contexts: Sequence[Context], positions: Positions) -> dict[str, Any]:
    return {
        "written_by": "cotlens",
        "model_name": getattr(reasoner.model.cfg, "model_name", None),
        "reasoner": reasoner.name,
        "weights": reasoner.weights,
        "hook_convention": "blocks.{layer}.hook_out",
        "target_layer": reasoner.model.cfg.n_layers - 1,
        "fit_dtype": str(reasoner.unembed.weight.dtype).removeprefix("torch."),
        "skip_first_positions": positions.skip_first,
        "channels": None if positions.channels is None else list(positions.channels),
        "corpora": [_corpus(contexts)],
    }


def _corpus(contexts: Sequence[Context]) -> str:
    """Return a hash of contexts: their tokens and their continuous thoughts."""
    digest = hashlib.sha256()
    for context in contexts:
        digest.update(repr(list(map(int, context.token_ids))).encode())
        if context.latents is not None:
            digest.update(context.latents.tobytes())
    return digest.hexdigest()[:16]
