"""Activations of finished traces as plain features, and what an untrained twin and the text offer in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from interp.errors import UsageError
from interp.models.address import resolve
from interp.traces import Channel, Trace
from probes.subtext.information import Features
from probes.subtext.text_features import token_columns

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


def states(
    reasoner: Reasoner, traces: Sequence[Trace], positions: np.ndarray, addresses: Sequence[str] | None = None
) -> dict[str, Float[np.ndarray, "traces d"]]:
    """The activation of each trace at its position (from 0), at each address; by default the output of every block and
    the final state. A negative position gives zeros: the trace has no such place."""
    names = addresses_of(reasoner, addresses)
    found: dict[str, np.ndarray] = {}

    def keep(name: str):  # type: ignore[no-untyped-def]
        def hook(activations, batch):  # type: ignore[no-untyped-def]
            at = np.maximum(positions[batch.traces], 0)
            rows = activations[np.arange(len(at)), at].float().cpu().numpy()
            store = found.setdefault(name, np.zeros((len(traces), rows.shape[1]), np.float32))
            store[batch.traces] = np.where(positions[batch.traces, None] >= 0, rows, 0.0)

        return hook

    reasoner.replay(traces, hooks={name: keep(name) for name in names}, batch_size=256)
    return {name: found[name] for name in names}


def states_of_rows(
    reasoner: Reasoner,
    traces: Sequence[Trace],
    trace: np.ndarray,
    position: np.ndarray,
    kind: np.ndarray,
    addresses: Sequence[str] | None = None,
) -> Features:
    """The activations at rows of (trace, position), all addresses beside each other; a trace has one row of a kind."""
    out: np.ndarray | None = None
    for each in np.unique(kind):
        here = np.flatnonzero(kind == each)
        at = np.full(len(traces), -1)
        at[trace[here]] = position[here]
        acts = np.concatenate(list(states(reasoner, traces, at, addresses).values()), axis=1)
        out = np.zeros((len(kind), acts.shape[1]), np.float32) if out is None else out
        out[here] = acts[trace[here]]
    assert out is not None
    return out


def another_row(kind: np.ndarray, seed: int) -> Int[np.ndarray, " rows"]:
    """For each row the number of another one of its kind: whose latents take its own ones' place in a control."""
    order = np.arange(len(kind))
    for each in np.unique(kind):
        shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(kind == each))
        order[shuffled] = np.roll(shuffled, 1)
    return order


def addresses_of(reasoner: Reasoner, addresses: Sequence[str] | None) -> list[str]:
    asked = list(addresses) if addresses else ["resid_post", "final"]
    return [address.name for address in resolve(reasoner.model, asked)]


def place_positions(traces: Sequence[Trace], place: str) -> np.ndarray:
    """The position of a place in each trace, -1 where it has none. Raises `UsageError` where none has it."""
    at = np.array([trace.places.index(place) if place in trace.places else -1 for trace in traces])
    if (at < 0).all():
        known = sorted({name for trace in traces for name in trace.places})
        raise UsageError(f"no trace has a place {place!r}. Places: {', '.join(known)}.")
    return at


def beside_text(
    reasoner: Reasoner, traces: Sequence[Trace], place: str, addresses: Sequence[str] | None = None
) -> tuple[list[Features], Features]:
    """What `gained` takes for latents beyond question and text up to a place: (given, beyond).

    Given are the words of question and thought up to there, and beside them the same activations of an untrained
    twin: as many features, of the same inputs, without the learning.
    """
    from interp.loading.load import random_init

    at = place_positions(traces, place)
    words = token_columns([words_until(trace, position) for trace, position in zip(traces, at, strict=True)])
    own = np.concatenate(list(states(reasoner, traces, at, addresses).values()), axis=1)
    twin = np.concatenate(list(states(random_init(reasoner), traces, at, addresses).values()), axis=1)
    return [words, np.concatenate([words, twin], axis=1)], own


def words_until(trace: Trace, position: int) -> list[str]:
    """The words of question and thought up to and with a position."""
    said = (Channel.PROMPT, Channel.THOUGHT)
    return [token for k, token in enumerate(trace.tokens) if k <= position and trace.channel[k] in said]
