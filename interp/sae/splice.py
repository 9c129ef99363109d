"""Splicing: replace an activation by a dictionary's reconstruction while the model thinks, and measure what is lost.

A thought that is fed back passes through the dictionary before the next one is computed, so errors can add up over the
loop, as they cannot on replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float32

from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.reasoners.interventions import Edit, Intervention
from interp.runtime.progress import Progress
from interp.sae.dictionaries import Dictionary
from interp.statistics.estimates import Estimate
from interp.traces import Channel

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

FINAL = Address("ln_final.hook_out")
_SMALLEST_GAP = 1e-9


@dataclass(frozen=True)
class _Outcome:
    """What thinking under one condition gives, one entry for each trace."""

    right: Bool[np.ndarray, " traces"]
    answers: np.ndarray
    loss: float


def splice(
    reasoner: Reasoner,
    store: ActivationSource,
    address: Address,
    rows: pd.DataFrame,
    dictionaries: dict[str, Dictionary],
    mean: Float32[np.ndarray, " d"],
    *,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Let a reasoner think again with each dictionary in place of an activation.

    Args:
        reasoner: The reasoner whose activations the store holds.
        store: Where the activations come from.
        address: Where to replace them.
        rows: Positions to replace, a part of the store's index.
        dictionaries: Dictionaries by name.
        mean: Mean activation, shape (d,).
        batch_size: Most problems that are thought about at once.
        progress: Called with the number of conditions that are done, and of all.

    Returns:
        One row for each condition: `original` (no edit), `mean` (the activation replaced by `mean`, the cost of losing
        it), and each dictionary. Columns: condition, accuracy with ci_low and ci_high over structures, same_answer
        (fraction of answers as without edits), loss (nats, of the first token of the right answer, where the stored trace
        begins to answer), loss_recovered (1 for the original, 0 for the mean), accuracy_ratio (to the original) with
        ratio_low and ratio_high, n.

    Raises:
        StoreError: When the activations are of another model.
        UsageError: When there are no rows.
    """
    if store.meta["reasoner"]["weights"] != reasoner.weights:
        raise StoreError(
            f"{store.name} was made by {store.meta['reasoner']['name']}, not by {reasoner.name}. Load that one to splice."
        )
    traces = np.unique(rows["trace"])
    if not len(traces):
        raise UsageError("there are no rows to splice at; select some thoughts.")
    cells = np.stack([np.searchsorted(traces, rows["trace"]), rows["position"].to_numpy()], axis=1)
    centre = torch.from_numpy(mean)
    edits: dict[str, Edit | None] = {"original": None, "mean": lambda acts, _: centre.to(acts).expand_as(acts)}
    edits |= {name: _reconstruct(dictionary) for name, dictionary in dictionaries.items()}
    outcomes: dict[str, _Outcome] = {}
    for number, (name, edit) in enumerate(edits.items()):
        outcomes[name] = _think(reasoner, store, traces, address, cells, edit, batch_size)
        if progress:
            progress(number + 1, len(edits))
    return _table(outcomes, structures(store, pd.DataFrame({"trace": traces})))


def _reconstruct(dictionary: Dictionary) -> Edit:
    """Return an edit that replaces activations by their reconstruction."""

    def edit(acts: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        values = acts.detach().float().cpu().numpy()
        return torch.from_numpy(dictionary.decode(dictionary.encode(values))).to(acts)

    return edit


def _think(
    reasoner: Reasoner,
    store: ActivationSource,
    chosen: Sequence[int] | np.ndarray,
    address: Address,
    cells: np.ndarray,
    edit: Edit | None,
    batch_size: int,
) -> _Outcome:
    """Think about the problems of the chosen traces with an edit at some cells (trace, position)."""
    traces = [store.traces[int(t)] for t in chosen]
    answer_starts = [next((p for p, c in enumerate(t.channel) if c == Channel.ANSWER), None) for t in traces]
    answered = [k for k, position in enumerate(answer_starts) if position is not None]
    final_states = np.full((len(answered), reasoner.model.cfg.d_model), np.nan, np.float32)

    def keep_final_states(acts: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        final_states[rows] = acts.detach().float().cpu().numpy()
        return acts

    before_answer = np.array([[k, (answer_starts[k] or 0) - 1] for k in answered]).reshape(-1, 2)
    interventions = [Intervention(FINAL, before_answer, keep_final_states)]
    if edit is not None:
        interventions.insert(0, Intervention(address, cells, edit))
    after = reasoner.think([t.problem for t in traces], batch_size=batch_size, interventions=interventions)
    with torch.no_grad():
        logits = reasoner.unembed(torch.from_numpy(final_states).to(reasoner.device)).float().cpu()
    gold = [reasoner.tokenizer(traces[k].problem.answer, add_special_tokens=False)["input_ids"][0] for k in answered]
    losses = np.full(len(traces), np.nan)
    losses[answered] = torch.nn.functional.cross_entropy(logits, torch.tensor(gold), reduction="none").numpy()
    return _Outcome(
        right=np.array([t.correct for t in after], dtype=bool),
        answers=np.array([t.answer for t in after], dtype=object),
        loss=float(np.nanmean(losses)) if np.isfinite(losses).any() else float("nan"),
    )


def _table(outcomes: dict[str, _Outcome], groups: np.ndarray) -> pd.DataFrame:
    """Compare the conditions with the original and the mean."""
    original, mean_loss = outcomes["original"], outcomes["mean"].loss
    original_accuracy = original.right.mean()
    gap = mean_loss - original.loss
    records: list[dict[str, Any]] = []
    for name, outcome in outcomes.items():
        accuracy = Estimate.of_mean(outcome.right, groups)
        ratio, low, high = (
            (value / original_accuracy if original_accuracy else float("nan"))
            for value in (accuracy.value, accuracy.low, accuracy.high)
        )
        records.append(
            {
                "condition": name,
                "accuracy": accuracy.value,
                "ci_low": accuracy.low,
                "ci_high": accuracy.high,
                "same_answer": (outcome.answers == original.answers).mean(),
                "loss": outcome.loss,
                "loss_recovered": (mean_loss - outcome.loss) / gap if abs(gap) > _SMALLEST_GAP else float("nan"),
                "accuracy_ratio": ratio,
                "ratio_low": low,
                "ratio_high": high,
                "n": accuracy.n,
            }
        )
    return pd.DataFrame(records)
