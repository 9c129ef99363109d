"""The beginning that all texts of a call share (a system prompt, worked examples), read once and copied for each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.cache import cache_copies, new_cache, run_cached, shares_prefixes
from interp.models.devices import to_device
from interp.models.fast_model import StopForward
from interp.reasoners.interventions import Intervention
from interp.reasoners.network import Network
from interp.reasoners.rollouts.batch import BatchState

#: Positions from which on sharing pays. The shipped organisms' questions are shorter.
MIN_SHARED = 32
#: Hooks with one number for each pair of positions, in the shape batch x heads x query x key.
OVER_PAIRS = ("hook_pattern", "hook_attn_scores")


@dataclass(frozen=True)
class SharedPrefix:
    """A beginning that was read once.

    Attributes:
        n: Number of positions.
        cache: Its keys and values, of one row.
        states: Its final-norm states; None where the pass ended before them.
        activations: What hooks saw, by hook name, shape (1, n, ...).
    """

    n: int
    cache: Any
    states: Float[Tensor, "1 n d_model"] | None
    activations: dict[str, Tensor]

    def cache_of(self, rows: int, capacity: int) -> Any:
        """Return a cache of `rows` rows that go on after the prefix, with room for `capacity` positions in all."""
        return cache_copies(self.cache, rows, capacity)

    def show(self, hooks: Mapping[str, Callable[[Tensor, BatchState], None]], state: BatchState) -> None:
        """Call hooks with the activations of the prefix in every row of a batch, as if it had just been read.

        Args:
            hooks: The hooks by name.
            state: The batch. Its positions become those of the prefix.
        """
        rows = len(state.traces)
        state.positions = np.tile(np.arange(self.n), (rows, 1))
        for name, hook in hooks.items():
            activations = self.activations[name]
            hook(activations.expand(rows, *activations.shape[1:]), state)

    def before(self, name: str, activations: Tensor) -> Tensor:
        """Return the activations of a hook with those of the prefix put before them in each row."""
        prefix = self.activations[name]
        return torch.cat([prefix.expand(len(activations), *prefix.shape[1:]), activations], dim=1)


def shared_length(network: Network, texts: Sequence[Sequence[int]], at_most: int | None = None) -> int:
    """Return how many positions at the beginning of texts may be read once for all of them; 0 where it does not pay.

    Args:
        network: The model and its ends.
        texts: Token ids. At least one token of each is left over.
        at_most: The most positions that may be shared.
    """
    if len(texts) < 2 or network.rotary_limit is not None:
        return 0
    first, last = min(texts, key=list), max(texts, key=list)  # in the order of words, all others lie between these two
    n = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    n = min(n, min(map(len, texts)) - 1, n if at_most is None else at_most)
    return n if n >= MIN_SHARED else 0


def first_edited(interventions: Sequence[Intervention]) -> int | None:
    """Return the first position that any intervention edits; None where there is none."""
    positions = [int(one.rows[:, 1].min()) for one in interventions if len(one.rows)]
    return min(positions, default=None)


@torch.no_grad()
def read_prefix(
    network: Network, ids: Sequence[int], *, hooks: Sequence[str] = (), fast: bool, whole: bool = True
) -> SharedPrefix | None:
    """Read the beginning of texts once.

    Args:
        network: The model and its ends. No hooks but those named here are on it.
        ids: Its tokens.
        hooks: Names of the hooks whose activations are kept.
        fast: Whether the fast copy of the model runs, where it can be read at every hook.
        whole: Whether the pass runs to its end. Otherwise it may end once every hook has run.

    Returns:
        The prefix; None where the model cannot go on after a copied beginning, and where a hook has not one entry for
        each position, so that it cannot be shown in parts.
    """
    if any(name.endswith(OVER_PAIRS) for name in hooks) or not shares_prefixes(network.base_under(hooks, fast=fast)):
        return None
    activations: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(acts: Tensor, hook: Any = None) -> None:
            activations[name] = acts.detach().clone()

        return hook

    states = None
    with network.hooked({name: keep(name) for name in hooks}, fast=fast, whole=whole) as base:
        copied = base is not network.base
        cache = new_cache(base, len(ids), keeps_all=True)
        embed = base.get_input_embeddings() if copied else network.embed
        row = to_device(np.array([ids]), network.device)
        with suppress(StopForward):
            out, cache = run_cached(
                base,
                cache,
                inputs_embeds=embed(row),
                attention_mask=torch.ones_like(row),
                position_ids=torch.arange(len(ids), device=network.device)[None],
            )
            states = out.last_hidden_state
    if any(len(activations[name]) != 1 or activations[name].shape[1] != len(ids) for name in hooks):
        return None
    return SharedPrefix(len(ids), cache, states, activations)
