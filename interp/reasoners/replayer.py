"""Replay: run finished traces through the model once, in masked batches, with hooks that see the activations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from interp.errors import UsageError, checked_count, counted
from interp.models.address import Address
from interp.models.cache import reset_rotary, run_cached
from interp.models.devices import to_device
from interp.models.fast_model import StopForward
from interp.reasoners.interventions import Intervention, intervening
from interp.reasoners.network import Network
from interp.reasoners.rollouts.batch import BatchState, Row
from interp.reasoners.rollouts.prefix import SharedPrefix, first_edited, read_prefix, shared_length
from interp.runtime.progress import Progress
from interp.traces import Channel, Trace


@dataclass(frozen=True)
class ReplayBatch:
    """The batch that a replay hook sees.

    Attributes:
        traces: For each batch row the index of its trace.
        real: Which cells are not padding.
    """

    traces: Int[np.ndarray, " batch"]
    real: Bool[Tensor, "batch pos"]


#: Sees the activations of a replayed batch, and which traces they belong to.
ReplayHook = Callable[[Float[Tensor, "batch pos d"], ReplayBatch], None]


@dataclass(frozen=True)
class PartialTrace:
    """A trace that is not finished, as far as a replay needs it.

    Attributes:
        token_ids: Its tokens so far.
        channel: The channel of each.
        latents: Its continuous thoughts so far, shape (thoughts, d_model); None where there is none.
    """

    token_ids: list[int]
    channel: list[str]
    latents: Float32[np.ndarray, "thoughts d_model"] | None

    def __len__(self) -> int:
        return len(self.token_ids)


class Replayer:
    """Replays the traces of one reasoner.

    Args:
        network: The model and its ends.
        pad_id: The token that padding cells hold.
        shares_position: Channels whose positions share the position id of the next position of another channel.
    """

    def __init__(self, network: Network, pad_id: int, shares_position: frozenset[Channel] = frozenset()) -> None:
        self.network = network
        self.pad_id = pad_id
        self.shares_position = shares_position

    @torch.no_grad()
    def replay(
        self,
        traces: Sequence[Trace | PartialTrace],
        *,
        hooks: Mapping[str, ReplayHook],
        batch_size: int = 64,
        interventions: Sequence[Intervention] = (),
        progress: Progress | None = None,
    ) -> None:
        """Run finished traces through the model once and show hooks the activations.

        Continuous thoughts are fed as they were thought. So an intervention changes what follows it in the same pass,
        but not which thoughts are fed. Where nothing is changed and every hook name is a module's input or output, the
        fast copy of the model runs, and only as far up as the last hook.

        Args:
            traces: The traces.
            hooks: Hook name to a function of the activations, batch x pos x d, and their `ReplayBatch`.
            batch_size: Traces that run at once.
            interventions: Edits of activations; they name traces by their index in `traces`.
            progress: Called with (traces done, traces in all).

        Raises:
            UsageError: `batch_size` is below 1, or the model has no such address.
        """
        checked_count("batch_size", batch_size)
        limit = self.network.rotary_limit
        if limit is not None and max(map(len, traces), default=0) > limit:
            batch_size = 1  # rotary frequencies depend on the longest row of a batch
            warn_of_other_frequencies(traces, limit)
        state = BatchState()
        current: dict[str, ReplayBatch] = {}

        prefix = self._prefix(traces, list(hooks), interventions)
        n_read = 0 if prefix is None else prefix.n

        def with_batch(name: str, action: ReplayHook) -> Callable[..., None]:
            def watch(activations: Tensor, hook: Any = None) -> None:
                action(activations if prefix is None else prefix.before(name, activations), current["batch"])

            return watch

        watchers = {name: with_batch(name, action) for name, action in hooks.items()}
        device = self.network.device
        with (
            intervening(self.network.model, interventions, state),
            self.network.hooked(watchers, fast=not interventions, whole=False) as base,
        ):
            embed = self.network.embed if base is self.network.base else base.get_input_embeddings()
            for start in range(0, len(traces), batch_size):
                batch = range(start, min(start + batch_size, len(traces)))
                part = [traces[k] for k in batch]
                real = np.arange(max(map(len, part))) < np.array([[len(trace)] for trace in part])
                state.traces = np.asarray(batch, dtype=np.int64)
                state.positions = np.where(real, np.arange(real.shape[1]), -1)[:, n_read:]
                mask = to_device(real, device)
                current["batch"] = ReplayBatch(state.traces, mask)
                if limit is not None:
                    reset_rotary(base)
                inputs = {
                    "inputs_embeds": self._inputs(part, real, embed)[:, n_read:],
                    "attention_mask": mask.long(),
                    "position_ids": to_device(self._position_ids(part, real)[:, n_read:], device),
                }
                with suppress(StopForward):
                    if prefix is None:
                        base(**inputs, use_cache=False)
                    else:
                        run_cached(base, prefix.cache_of(len(part), real.shape[1]), **inputs)
                if progress:
                    progress(batch.stop, len(traces))

    def _prefix(
        self, traces: Sequence[Trace | PartialTrace], hooks: Sequence[str], interventions: Sequence[Intervention]
    ) -> SharedPrefix | None:
        """Read the beginning that the prompts of all traces share, where that pays and nothing is changed in it."""
        limits = [len(list(takewhile(Channel.PROMPT.__eq__, trace.channel))) for trace in traces]
        edited = first_edited(interventions)
        limit = min(limits + ([] if edited is None else [edited]), default=0)
        n = shared_length(self.network, [trace.token_ids for trace in traces], limit)
        if not n:
            return None
        return read_prefix(self.network, traces[0].token_ids[:n], hooks=hooks, fast=not interventions, whole=False)

    def model_inputs(
        self, traces: Sequence[Trace | PartialTrace]
    ) -> tuple[dict[str, Tensor], Bool[Tensor, "batch pos"]]:
        """Return what the base model is given to run traces as one batch, and which cells are not padding.

        Args:
            traces: The traces; continuous thoughts are fed as they were thought.
        """
        real = np.arange(max(map(len, traces))) < np.array([[len(trace)] for trace in traces])
        mask = to_device(real, self.network.device)
        inputs = {
            "inputs_embeds": self._inputs(traces, real, self.network.embed),
            "attention_mask": mask.long(),
            "position_ids": to_device(self._position_ids(traces, real), self.network.device),
        }
        return inputs, mask

    def position_ids(self, trace: Trace) -> Int[np.ndarray, " pos"]:
        """Return the position id that each position of a trace had while thinking."""
        return self._position_ids([trace], np.ones((1, len(trace)), dtype=bool))[0]

    def first_nonfinite(self, row: Row, last: int) -> tuple[Address, int] | None:
        """Return where a row is not finite first: a block's output or the final state, and the position in it.

        Args:
            row: What was thought, with its continuous thoughts.
            last: The last position to look at.

        Returns:
            The address and the position, or None where all are finite.
        """
        n = min(last + 1, len(row.token_ids))
        n_latents = sum(channel == Channel.LATENT for channel in row.channel[:n])
        latents = torch.stack(row.latents).numpy()[:n_latents] if row.latents else None
        partial = PartialTrace(row.token_ids[:n], row.channel[:n], latents)
        broken: dict[str, int] = {}

        def look(at: str) -> ReplayHook:
            def hook(activations: Tensor, batch: ReplayBatch) -> None:
                bad = ~activations[0].flatten(1).isfinite().all(dim=1)
                if bad.any():
                    broken[at] = int(bad.nonzero()[0, 0])

            return hook

        addresses = [*(f"blocks.{k}.hook_out" for k in range(self.network.model.cfg.n_layers)), "ln_final.hook_out"]
        self.replay([partial], hooks={at: look(at) for at in addresses})
        first = next((at for at in addresses if at in broken), None)
        return None if first is None else (Address(first), broken[first])

    def _inputs(
        self, traces: Sequence[Trace | PartialTrace], real: Bool[np.ndarray, "batch pos"], embed: Any
    ) -> Float[Tensor, "batch pos d_model"]:
        """Return the input of every cell: embeddings, and continuous thoughts as they were thought."""
        device = self.network.device
        ids = np.full(real.shape, self.pad_id)
        tokens = np.concatenate([trace.token_ids for trace in traces])
        n_tokens = self.network.embed.weight.shape[0]
        foreign = tokens[(tokens < 0) | (tokens >= n_tokens)]
        if len(foreign):
            raise UsageError(
                f"expected traces with tokens from 0 to {n_tokens - 1}, got {foreign[0]}; give the model that made them."
            )
        ids[real] = tokens
        inputs = embed(to_device(ids, device))
        latents = [(k, trace) for k, trace in enumerate(traces) if trace.latents is not None and len(trace.latents)]
        if latents:
            cells = [
                (k, column)
                for k, trace in latents
                for column, channel in enumerate(trace.channel)
                if channel == Channel.LATENT
            ]
            rows, columns = to_device(np.array(cells).T, device)
            thoughts = to_device(np.concatenate([trace.latents for _, trace in latents]), device)
            inputs[rows, columns] = thoughts.to(inputs.dtype)
        return inputs

    def _position_ids(
        self, traces: Sequence[Trace | PartialTrace], real: Bool[np.ndarray, "batch pos"]
    ) -> Int[np.ndarray, "batch pos"]:
        """Return the position id that every cell had while thinking: the number of cells before it that took one."""
        takes_id = real.copy()
        for k, trace in enumerate(traces if self.shares_position else ()):
            takes_id[k, [c for c, channel in enumerate(trace.channel) if channel in self.shares_position]] = False
        return np.where(real, np.cumsum(takes_id, axis=1) - takes_id, 0)


def warn_of_other_frequencies(traces: Sequence[Trace | PartialTrace], limit: int) -> None:
    """Warn of traces that were begun under other rotary frequencies than those that their whole text is read with.

    Args:
        traces: The traces.
        limit: The length from which on frequencies depend on the length of a text.
    """
    begun = [takewhile(Channel.PROMPT.__eq__, trace.channel) for trace in traces]
    crossing = sum(len(list(prompt)) < limit < len(trace) for prompt, trace in zip(begun, traces, strict=True))
    if crossing:
        warnings.warn(
            f"{counted(crossing, 'trace')} of {len(traces)} grew beyond {limit} positions, where this model takes other "
            "rotary frequencies at every position. What was thought before is read here with those of the whole text; "
            "record activations while the model thinks to get those that it had.",
            stacklevel=3,
        )
