"""Activations of finished traces as features, and the features of text and untrained model to compare them with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from interp.errors import UsageError
from interp.models.address import resolve
from interp.traces import Channel, Trace
from probes.subtext.readers import Features
from probes.subtext.text_features import token_columns

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


def states(
    reasoner: Reasoner, traces: Sequence[Trace], positions: np.ndarray, addresses: Sequence[str] | None = None
) -> dict[str, Float[np.ndarray, "traces d"]]:
    """Return the activation of each trace at one position, for each address.

    Args:
        reasoner: The reasoner that wrote the traces.
        traces: The traces, replayed in one pass.
        positions: Position in each trace, from 0, shape (traces,). A negative position gives zeros.
        addresses: Which activations; by default the output of every block and the final state.
    """
    names = addresses_of(reasoner, addresses)
    by_address: dict[str, np.ndarray] = {}

    def recorder(name: str):  # type: ignore[no-untyped-def]
        def hook(activations, batch):  # type: ignore[no-untyped-def]
            columns = np.maximum(positions[batch.traces], 0)
            rows = activations[np.arange(len(columns)), columns].float().cpu().numpy()
            out = by_address.setdefault(name, np.zeros((len(traces), rows.shape[1]), np.float32))
            out[batch.traces] = np.where(positions[batch.traces, None] >= 0, rows, 0.0)

        return hook

    reasoner.replay(traces, hooks={name: recorder(name) for name in names}, batch_size=256)
    return {name: by_address[name] for name in names}


def states_of_rows(
    reasoner: Reasoner,
    traces: Sequence[Trace],
    trace: np.ndarray,
    position: np.ndarray,
    index: np.ndarray,
    addresses: Sequence[str] | None = None,
) -> Features:
    """Return the activations at rows of (trace, position), with the columns of all addresses joined.

    Args:
        reasoner: The reasoner that wrote the traces.
        traces: The traces.
        trace: Number of the trace of each row, shape (rows,).
        position: Position of each row, shape (rows,).
        index: Which of its trace's rows each row is (its step or thought), shape (rows,). A trace has at most one row
            of an index.
        addresses: As in `states`.
    """
    out: np.ndarray | None = None
    for value in np.unique(index):
        rows = np.flatnonzero(index == value)
        positions = np.full(len(traces), -1)
        positions[trace[rows]] = position[rows]
        acts = np.concatenate(list(states(reasoner, traces, positions, addresses).values()), axis=1)
        out = np.zeros((len(index), acts.shape[1]), np.float32) if out is None else out
        out[rows] = acts[trace[rows]]
    assert out is not None
    return out


def another_row(index: np.ndarray, seed: int) -> Int[np.ndarray, " rows"]:
    """Return for each row the number of another row of the same index, whose latents replace its own in a control.

    Args:
        index: Step or thought of each row, shape (rows,).
        seed: Seed of the pairing.
    """
    order = np.arange(len(index))
    for value in np.unique(index):
        shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(index == value))
        order[shuffled] = np.roll(shuffled, 1)
    return order


def addresses_of(reasoner: Reasoner, addresses: Sequence[str] | None) -> list[str]:
    """Return the hook names of `addresses`; by default those of every block's output and of the final state."""
    names = list(addresses) if addresses else ["resid_post", "final"]
    return [address.name for address in resolve(reasoner.model, names)]


def place_positions(traces: Sequence[Trace], place: str) -> np.ndarray:
    """Return the position of a place in each trace, -1 where it has none.

    Args:
        traces: The traces.
        place: Name of a place, such as "question end".

    Raises:
        UsageError: No trace has the place.
    """
    positions = np.array([trace.places.index(place) if place in trace.places else -1 for trace in traces])
    if (positions < 0).all():
        places = sorted({name for trace in traces for name in trace.places})
        raise UsageError(f"expected a place that some trace has, got {place!r}; use one of {', '.join(places)}.")
    return positions


def text_and_latents(
    reasoner: Reasoner, traces: Sequence[Trace], place: str, addresses: Sequence[str] | None = None
) -> tuple[list[Features], Features]:
    """Return the (given, beyond) of `information_gain` for latents beyond question and text up to a place.

    Given are the words of question and thought up to there, and the same activations of an untrained
    copy of the model: as many features, of the same inputs, without the learning.

    Args:
        reasoner: The reasoner that wrote the traces.
        traces: The traces.
        place: Name of the place, such as "question end".
        addresses: As in `states`.

    Returns:
        (given, beyond) for `information_gain`: two alternatives of what is known without the latents, and the latents,
        each of shape (traces, columns).

    Raises:
        UsageError: No trace has the place.
    """
    from interp.loading.load import random_init

    positions = place_positions(traces, place)
    words = token_columns([words_until(trace, position) for trace, position in zip(traces, positions, strict=True)])
    trained = np.concatenate(list(states(reasoner, traces, positions, addresses).values()), axis=1)
    untrained = np.concatenate(list(states(random_init(reasoner), traces, positions, addresses).values()), axis=1)
    return [words, np.concatenate([words, untrained], axis=1)], trained


def words_until(trace: Trace, position: int) -> list[str]:
    """Return the words of question and thought up to and including a position."""
    visible = (Channel.PROMPT, Channel.THOUGHT)
    return [token for k, token in enumerate(trace.tokens) if k <= position and trace.channel[k] in visible]
