"""States at named positions, and putting some problem's states in the place of another's while it is being thought.

Every causal test here is a list of *swaps*: whose state, from which position, goes to which position of which
problem. Controls are other lists over the same problems, so one function carries all of them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UsageError, unknown
from interp.models.address import Address, resolve
from interp.reasoners.interventions import Edit, Intervention, replace_with
from interp.runtime.progress import Progress
from interp.traces import Trace, TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.reasoners.base import ReplayBatch

EVERYTHING = "everything"  # the whole residual stream of a position: what enters the first block and leaves each
CACHE = "cache"  # what later positions read of a position: its keys and values in every block


def addresses_of(reasoner: Reasoner, site: str) -> list[Address]:
    """The addresses that a site stands for: `everything`, `cache`, a hook name, or a pattern of them."""
    n_layers = reasoner.model.cfg.n_layers
    if site == EVERYTHING:
        return [Address("blocks.0.hook_in"), *(Address(f"blocks.{k}.hook_out") for k in range(n_layers))]
    if site == CACHE:
        return [Address(f"blocks.{k}.attn.hook_{part}") for k in range(n_layers) for part in "kv"]
    return resolve(reasoner.model, site)


def position(trace: Trace, place: str) -> int | None:
    """Where `place` stands in a trace (`thought 2`, `begin`, `question 3`), or None where it has no such place."""
    if place.startswith("question ") and place != "question end":
        k = int(place.split()[1])
        return k - 1 if 1 <= k <= sum(c == "prompt" for c in trace.channel) else None
    places = trace.places
    return places.index(place) if place in places else None


def states(
    reasoner: Reasoner,
    traces: Sequence[Trace],
    address: Address,
    rows: Int[np.ndarray, "rows 2"],
    *,
    batch_size: int = 256,
) -> Float[Tensor, "rows ..."]:
    """The activation at `address` at each (trace, position) of `rows`; float32, on the CPU."""
    (known,) = resolve(reasoner.model, address.name)
    wanted: dict[int, list[tuple[int, int]]] = {}
    for row, (trace, place) in enumerate(np.asarray(rows).tolist()):
        wanted.setdefault(trace, []).append((row, place))
    found: list[Tensor | None] = [None] * len(rows)
    used = sorted(wanted)

    def watch(activations: Tensor, batch: ReplayBatch) -> None:
        for b, k in enumerate(batch.traces.tolist()):
            for row, place in wanted[used[k]]:
                found[row] = activations[b, place].detach().float().cpu().clone()

    reasoner.replay([traces[k] for k in used], hooks={known.name: watch}, batch_size=batch_size)
    return torch.stack([each for each in found if each is not None])


def swap(
    reasoner: Reasoner,
    traces: TraceSet,
    swaps: pd.DataFrame,
    *,
    donors: TraceSet | None = None,
    site: str = EVERYTHING,
    edit: Callable[[Tensor, Address], Edit] | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> list[str]:
    """The answers after each group of swaps, in the order of `swaps["edit"]`'s first appearance.

    `swaps` has the columns edit (rows with one number are carried out together), trace (in `traces`), target (a
    position in it), donor (in `donors`, or in `traces` where none are given) and source (a position in the donor).
    `edit` makes an edit of the donors' states, rows x d; by default they replace what is there. The states are those
    of undisturbed thinking.
    """
    if not len(swaps):
        raise UsageError("there is nothing to swap: no problem has a donor. Take more problems.")
    donors = traces if donors is None else donors
    make = edit or (lambda values, address: replace_with(values))
    numbers = swaps["edit"].to_numpy()
    order = list(dict.fromkeys(numbers.tolist()))
    slot = {number: k for k, number in enumerate(order)}
    owner = dict(zip(numbers.tolist(), swaps["trace"].tolist(), strict=True))
    rows = np.stack([[slot[n] for n in numbers.tolist()], swaps["target"].to_numpy()], axis=1)
    sources = swaps[["donor", "source"]].to_numpy()
    edits = [
        Intervention(a, rows, make(states(reasoner, donors, a, sources, batch_size=batch_size), a))
        for a in addresses_of(reasoner, site)
    ]
    problems = [traces[owner[number]].problem for number in order]
    after = reasoner.think(problems, batch_size=batch_size, interventions=edits, progress=progress)
    return [trace.answer for trace in after]


def checked_kinds(kinds: Sequence[str], known: Sequence[str]) -> list[str]:
    for kind in kinds:
        if kind not in known:
            raise unknown("kind of edit", kind, known)
    return list(kinds)
