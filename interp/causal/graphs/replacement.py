"""The replacement model: every MLP is replaced by its transcoder.

It measures how far an attribution graph over those features can be trusted. Where its next token is not the model's
own, the graph explains another model (Ameisen et al. 2025, "Circuit Tracing", section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.devices import copy_to
from interp.runtime.progress import Progress
from interp.sae.across.transcoders import TranscoderOptions, explained_variance, mean_active, train_transcoder
from interp.traces import Channel, Trace, TraceSet

if TYPE_CHECKING:
    from sae_lens import Transcoder

    from interp.reasoners import Reasoner
    from interp.reasoners.replayer import ReplayBatch


def mlp_rows(
    reasoner: Reasoner, traces: TraceSet, *, batch_size: int = 128
) -> dict[int, tuple[Float[Tensor, "rows d"], Float[Tensor, "rows d"]]]:
    """Return the input (after the norm) and the output of each block's MLP at every position, padding excluded."""
    kept: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(activations: Tensor, batch: ReplayBatch) -> None:
            kept.setdefault(name, []).append(activations[batch.real].detach().float().cpu())

        return hook

    n_layers = reasoner.model.cfg.n_layers
    names = [f"blocks.{k}.mlp.hook_{side}" for k in range(n_layers) for side in ("in", "out")]
    reasoner.replay(traces, hooks={name: keep(name) for name in names}, batch_size=batch_size)
    joined = {name: torch.cat(parts) for name, parts in kept.items()}
    return {k: (joined[f"blocks.{k}.mlp.hook_in"], joined[f"blocks.{k}.mlp.hook_out"]) for k in range(n_layers)}


def transcoders_of(
    reasoner: Reasoner,
    traces: TraceSet,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Unpack[TranscoderOptions],
) -> list[Transcoder]:
    """Train a transcoder for the MLP of each block.

    Args:
        reasoner: The reasoner of the traces.
        traces: Traces to train on.
        seed: Seed of the first block; later blocks count up from it.
        progress: Called with (blocks done, blocks in all).
        **options: See `TranscoderOptions`.

    Returns:
        One transcoder for each block.
    """
    rows = mlp_rows(reasoner, traces)
    out = []
    for block, (inputs, outputs) in rows.items():
        out.append(train_transcoder(inputs, outputs, seed=seed + block, **options))
        if progress:
            progress(block + 1, len(rows))
    return out


def quality(reasoner: Reasoner, traces: TraceSet, transcoders: Sequence[Transcoder]) -> pd.DataFrame:
    """Return the explained variance of each block's transcoder, which should be measured on held-out traces.

    Args:
        reasoner: The reasoner of the traces.
        traces: Held-out traces.
        transcoders: One for each block.

    Returns:
        Columns: block, explained, active (mean number of active features), features.
    """
    rows = mlp_rows(reasoner, traces)
    return pd.DataFrame(
        {
            "block": k,
            "explained": explained_variance(t, *rows[k]),
            "active": mean_active(t, rows[k][0]),
            "features": t.cfg.d_sae,
        }
        for k, t in enumerate(transcoders)
    )


def agreement(
    reasoner: Reasoner, traces: TraceSet, transcoders: Sequence[Transcoder] | None, *, batch_size: int = 128
) -> pd.DataFrame:
    """Return whether the replacement model's likeliest next token is the model's own.

    Args:
        reasoner: The reasoner of the traces.
        traces: The traces.
        transcoders: One for each block; None sets every MLP output to zero, which is the control.
        batch_size: Traces that are replayed at once.

    Returns:
        One row for each position that predicts a thought or an answer token: trace, position, agrees, structure.
    """
    original = _predicted(reasoner, traces, [], batch_size)
    hooks = []
    for block in range(reasoner.model.cfg.n_layers):
        hooks += _replacing(block, None if transcoders is None else copy_to(transcoders[block], reasoner.device))
    replaced = _predicted(reasoner, traces, hooks, batch_size)
    out = []
    for k, trace in enumerate(traces):
        for place in predicting_positions(trace):
            agrees = bool(original[k][place] == replaced[k][place])
            out.append((k, place, agrees, trace.problem.structure))
    return pd.DataFrame(out, columns=["trace", "position", "agrees", "structure"])


def predicting_positions(trace: Trace) -> list[int]:
    """Return the positions whose next token the model chose: those before each visible thought and answer token."""
    return [k - 1 for k, c in enumerate(trace.channel) if c in (Channel.THOUGHT, Channel.ANSWER) and k]


def _replacing(block: int, transcoder: Transcoder | None) -> list[tuple[str, Any]]:
    recorded: dict[str, Tensor] = {}

    def record_input(activations: Tensor, hook: Any = None) -> None:
        recorded["in"] = activations

    def replace_output(activations: Tensor, hook: Any = None) -> Tensor:
        return (
            torch.zeros_like(activations) if transcoder is None else transcoder(recorded["in"].float()).to(activations)
        )

    return [(f"blocks.{block}.mlp.hook_in", record_input), (f"blocks.{block}.mlp.hook_out", replace_output)]


def _predicted(reasoner: Reasoner, traces: TraceSet, hooks: list[tuple[str, Any]], batch_size: int) -> list[np.ndarray]:
    tokens: list[np.ndarray] = [np.empty(0)] * len(traces)

    def keep(state: Tensor, batch: ReplayBatch) -> None:
        best = reasoner.unembed(state).argmax(dim=-1).cpu().numpy()
        for b, k in enumerate(batch.traces.tolist()):
            tokens[k] = best[b]

    with reasoner.model.hooks(fwd_hooks=hooks):
        reasoner.replay(traces, hooks={"ln_final.hook_out": keep}, batch_size=batch_size)
    return tokens
