"""Average Jacobians of the last block's output with respect to the output of each earlier block.

For one context, J of layer l is the mean over source positions t, and the sum over target positions t' from t on, of
d(last block's output at t') / d(output of block l at t), before the final norm; a lens is the mean over contexts (Gurnee et
al. 2026, "Verbalizable Representations Form a Global Workspace in Language Models"). Only products of J with row vectors
are computed: each of the d unit vectors for all of J, or one vector for each token that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import UsageError, checked_count
from interp.models.cache import reset_rotary
from interp.models.fast_model import base_copy
from interp.reasoners.replayer import PartialTrace
from interp.traces import Trace

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

Context = Trace | PartialTrace


@dataclass(frozen=True)
class Positions:
    """Which positions of a context count.

    Attributes:
        skip_first: Positions at the beginning that are neither sources nor targets. The last position never is.
        channels: Channels whose positions are sources; None for all. Targets are of all channels.
    """

    skip_first: int = 0
    channels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        checked_count("skip_first", self.skip_first, at_least=0)

    def masks(self, contexts: Sequence[Context], width: int) -> tuple[Bool[Tensor, "n pos"], Bool[Tensor, "n pos"]]:
        """Return the sources and the targets of contexts that are padded to `width`."""
        targets = torch.zeros(len(contexts), width, dtype=torch.bool)
        for row, context in enumerate(contexts):
            targets[row, self.skip_first : len(context) - 1] = True
        sources = targets.clone()
        if self.channels is not None:
            for row, context in enumerate(contexts):
                of_channel = [str(channel) in self.channels for channel in context.channel]
                sources[row, : len(of_channel)] &= torch.tensor(of_channel)
        return sources, targets

    def usable(self, context: Context) -> bool:
        """Return whether a context has a source."""
        return bool(self.masks([context], len(context))[0].any())


#: Every position but the last is source and target.
ALL = Positions()


def layers_to_fit(reasoner: Reasoner, layers: Sequence[int] | None = None) -> list[int]:
    """Return the blocks whose outputs a lens of this model can read: all but the last, or some of them.

    Raises:
        UsageError: The model has one block, or no such blocks.
    """
    last = reasoner.model.cfg.n_layers - 1
    chosen = sorted(set(range(last) if layers is None else layers))
    if not chosen or chosen[0] < 0 or chosen[-1] >= last:
        raise UsageError(
            f"expected layers between 0 and {last - 1} ({reasoner.name} has {last + 1} blocks, and the last needs no lens), "
            f"got {chosen}; choose others."
        )
    return chosen


def sum_of_jacobians(
    reasoner: Reasoner,
    contexts: Sequence[Context],
    vectors: Float[Tensor, "rows d_model"],
    layers: Sequence[int],
    positions: Positions,
) -> dict[int, Float[Tensor, "rows d_model"]]:
    """Return vectors times the Jacobian of each layer, summed over contexts that run as one batch.

    Args:
        reasoner: The model.
        contexts: Traces or texts, each with at least one source.
        vectors: Row vectors in the space of the last block's output.
        layers: Blocks, sorted.
        positions: Which positions count.

    Returns:
        For each layer a float32 matrix on the CPU.

    Raises:
        UsageError: The model is not differentiable at a block's output.
    """
    inputs, mask = reasoner.replayer.model_inputs(contexts)
    sources, targets = (m.to(mask.device) for m in positions.masks(contexts, mask.shape[1]))
    weights = sources / sources.sum(dim=1, keepdim=True)
    names = {layer: f"blocks.{layer}.hook_out" for layer in [*layers, reasoner.model.cfg.n_layers - 1]}
    seen: dict[int, Tensor] = {}

    def watcher(layer: int) -> Any:
        def watch(activations: Tensor, hook: Any = None) -> None:
            if not activations.requires_grad:
                activations.requires_grad_(True)
            seen[layer] = activations

        return watch

    hooks = {name: watcher(layer) for layer, name in names.items()}
    with (
        torch.enable_grad(),
        _constant_parameters(reasoner),
        reasoner.network.hooked(hooks, fast=True) as base,
    ):
        if reasoner.network.rotary_limit is not None:
            reset_rotary(base)
        base(**{name: value.detach() for name, value in inputs.items()}, use_cache=False)
        out = seen.pop(reasoner.model.cfg.n_layers - 1)
        states = [seen[layer] for layer in layers]
        if out.grad_fn is None:
            raise UsageError(f"expected a model that can be differentiated, got {reasoner.name}; load it unquantised.")
        sums = torch.zeros(len(layers), *vectors.shape)
        for row, vector in enumerate(vectors.to(out)):
            gradients = torch.autograd.grad(
                out, states, targets[..., None] * vector, retain_graph=row < len(vectors) - 1
            )
            for k, gradient in enumerate(gradients):
                sums[k, row] = torch.einsum("bp,bpd->d", weights, gradient.float()).cpu()
    return dict(zip(layers, sums, strict=True))


def rows_in_a_batch(reasoner: Reasoner, contexts: Sequence[Context], batch_size: int) -> int:
    """Return how many contexts may run at once: one where masked positions would change the others."""
    longest = max(map(len, contexts), default=0)
    return 1 if reasoner.network.runs_alone(longest) is not None else batch_size


@contextmanager
def _constant_parameters(reasoner: Reasoner) -> Iterator[None]:
    """Take no gradients of parameters inside, so that the graph begins at the first state that is read."""
    models = (reasoner.model, base_copy(reasoner.model))
    parameters = {id(p): p for model in models for p in model.parameters() if p.requires_grad}.values()
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
