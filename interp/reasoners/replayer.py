"""Replay: finished traces through the model once, in masked batches, with hooks that see what passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import checked_count
from interp.models.fast_model import StopForward
from interp.models.moving import to_device
from interp.reasoners.interventions import BatchState, Intervention, intervening
from interp.runtime.progress import Progress
from interp.traces import Channel, Trace


@dataclass(frozen=True)
class ReplayBatch:
    """The batch that a replay hook is looking at: which traces, and which cells are real."""

    traces: Int[np.ndarray, " batch"]
    real: Bool[Tensor, "batch pos"]


ReplayHook = Callable[[Float[Tensor, "batch pos d"], ReplayBatch], None]


class Replays:
    """The part of a reasoner that runs what was thought again."""

    model: Any
    base: Any
    embed: Any
    pad_id: int
    # Channels whose positions take no position id of their own, but that of the next position that does.
    shares_position: ClassVar[frozenset[Channel]] = frozenset()
    _watched: Callable[..., AbstractContextManager[Any]]

    @property
    def device(self) -> torch.device:
        """Where the model is, and where it computes."""
        return self.embed.weight.device

    @torch.no_grad()
    def replay(
        self,
        traces: Sequence[Trace],
        *,
        hooks: Mapping[str, ReplayHook],
        batch_size: int = 64,
        interventions: Sequence[Intervention] = (),
        progress: Progress | None = None,
    ) -> None:
        """Run the finished traces through the model once, in masked batches, and show hooks what passes.

        Continuous thoughts are fed as they were thought, so an intervention changes what comes after it in
        the same pass but not which thoughts are fed. Interventions name traces by their place in `traces`.
        Where nothing is changed and every hook names a module's input or output, the plain model runs, and
        only as far up as the last of them.
        """
        checked_count("batch_size", batch_size)
        where = BatchState()
        now: dict[str, ReplayBatch] = {}

        def watch(action: ReplayHook) -> Callable[..., None]:
            return lambda activations, hook=None: action(activations, now["batch"])

        watchers = {name: watch(action) for name, action in hooks.items()}
        with (
            intervening(self.model, interventions, where),
            self._watched(watchers, plainly=not interventions, whole=False) as base,
        ):
            embed = self.embed if base is self.base else base.get_input_embeddings()
            for start in range(0, len(traces), batch_size):
                batch = range(start, min(start + batch_size, len(traces)))
                part = [traces[k] for k in batch]
                real = np.arange(max(map(len, part))) < np.array([[len(trace)] for trace in part])
                where.traces = np.asarray(batch, dtype=np.int64)
                where.positions = np.where(real, np.arange(real.shape[1]), -1)
                there = to_device(real, self.device)
                now["batch"] = ReplayBatch(where.traces, there)
                with suppress(StopForward):
                    base(
                        inputs_embeds=self._replay_inputs(part, real, embed),
                        attention_mask=there.long(),
                        position_ids=to_device(self._places(part, real), self.device),
                        use_cache=False,
                    )
                if progress:
                    progress(batch.stop, len(traces))

    def _replay_inputs(
        self, traces: Sequence[Trace], real: Bool[np.ndarray, "batch pos"], embed: Any
    ) -> Float[Tensor, "batch pos d_model"]:
        """What was fed at every cell of a replayed batch: embeddings, and continuous thoughts as they were thought."""
        ids = np.full(real.shape, self.pad_id)
        ids[real] = np.concatenate([trace.token_ids for trace in traces])
        inputs = embed(to_device(ids, self.device))
        fed = [(k, trace) for k, trace in enumerate(traces) if trace.latents is not None and len(trace.latents)]
        if fed:
            cells = [(k, c) for k, trace in fed for c, each in enumerate(trace.channel) if each == Channel.LATENT]
            rows, columns = to_device(np.array(cells).T, self.device)
            inputs[rows, columns] = to_device(np.concatenate([trace.latents for _, trace in fed]), self.device).to(
                inputs.dtype
            )
        return inputs

    def _places(self, traces: Sequence[Trace], real: Bool[np.ndarray, "batch pos"]) -> Int[np.ndarray, "batch pos"]:
        """The position id of every cell of a replayed batch, as it was while thinking: how many before it took one."""
        taken = real.copy()
        for k, trace in enumerate(traces if self.shares_position else ()):
            taken[k, [c for c, channel in enumerate(trace.channel) if channel in self.shares_position]] = False
        return np.where(real, np.cumsum(taken, axis=1) - taken, 0)
