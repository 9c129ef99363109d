"""Splicing: put a dictionary's reconstruction in the activation's place while the model thinks, and see what is lost.

A thought that is fed back passes through the dictionary before the next one is thought, so errors can add up over
the loop as they never do on replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32

from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.reasoners.interventions import Edit, Intervention
from interp.runtime.progress import Progress
from interp.sae.dictionaries import Dictionary
from interp.statistics.intervals import grouped_mean_interval
from interp.traces import Channel

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

FINAL = Address("ln_final.hook_out")


def spliced(
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
    """Think the problems of `rows` again, with each dictionary at `address` at the positions of `rows`.

    One row for each condition: `original`, `mean` (the activation replaced by `mean`: what losing it costs), and every
    dictionary. Columns: accuracy with its interval over structures, same_answer (as without any edit), loss (nats, of
    the first token of the right answer where the answer began in the store), loss_recovered (1 as the original, 0 as
    the mean), accuracy_ratio with its interval, n. Raises `StoreError` when the store is of another model.
    """
    if store.meta["reasoner"]["weights"] != reasoner.weights:
        raise StoreError(
            f"{store.name} was made by {store.meta['reasoner']['name']}, not by {reasoner.name}. Load that one to splice."
        )
    chosen = np.unique(rows["trace"])
    if not len(chosen):
        raise UsageError("there are no rows to splice at; select some thoughts.")
    place = np.searchsorted(chosen, rows["trace"])
    where = np.stack([place, rows["position"].to_numpy()], axis=1)
    centre = torch.from_numpy(mean)
    edits: dict[str, Edit | None] = {"original": None, "mean": lambda found, _: centre.to(found).expand_as(found)}
    edits |= {name: _through(dictionary) for name, dictionary in dictionaries.items()}
    frames: dict[str, dict[str, Any]] = {}
    for number, (name, edit) in enumerate(edits.items()):
        frames[name] = _thought(reasoner, store, chosen, address, where, edit, batch_size)
        if progress:
            progress(number + 1, len(edits))
    return _table(frames, structures(store, pd.DataFrame({"trace": chosen})))


def _through(dictionary: Dictionary) -> Edit:
    def edit(found: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        acts = found.detach().float().cpu().numpy()
        return torch.from_numpy(dictionary.decode(dictionary.encode(acts))).to(found)

    return edit


def _thought(
    reasoner: Reasoner,
    store: ActivationSource,
    chosen: Sequence[int] | np.ndarray,
    address: Address,
    where: np.ndarray,
    edit: Edit | None,
    batch_size: int,
) -> dict[str, Any]:
    """Whether each trace's answer is right, the answer, and the loss of the right one."""
    traces = [store.traces[int(t)] for t in chosen]
    begun = [next((p for p, c in enumerate(t.channel) if c == Channel.ANSWER), None) for t in traces]
    answered = [k for k, position in enumerate(begun) if position is not None]
    finals = np.full((len(answered), reasoner.model.cfg.d_model), np.nan, np.float32)

    def watch(found: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        finals[rows] = found.detach().float().cpu().numpy()
        return found

    before = np.array([[k, (begun[k] or 0) - 1] for k in answered]).reshape(-1, 2)
    interventions = [Intervention(FINAL, before, watch)]
    if edit is not None:
        interventions.insert(0, Intervention(address, where, edit))
    after = reasoner.think([t.problem for t in traces], batch_size=batch_size, interventions=interventions)
    with torch.no_grad():
        logits = reasoner.unembed(torch.from_numpy(finals).to(reasoner.device)).float().cpu()
    gold = [reasoner.tokenizer(traces[k].problem.answer, add_special_tokens=False)["input_ids"][0] for k in answered]
    losses = np.full(len(traces), np.nan)
    losses[answered] = torch.nn.functional.cross_entropy(logits, torch.tensor(gold), reduction="none").numpy()
    return {
        "right": np.array([t.correct for t in after], dtype=bool),
        "answer": np.array([t.answer for t in after], dtype=object),
        "loss": float(np.nanmean(losses)) if np.isfinite(losses).any() else float("nan"),
    }


def _table(frames: dict[str, dict[str, Any]], groups: np.ndarray) -> pd.DataFrame:
    original, worst = frames["original"], frames["mean"]["loss"]
    accuracy = original["right"].mean()
    room = worst - original["loss"]
    out = []
    for name, found in frames.items():
        low, high = grouped_mean_interval(found["right"], groups)
        out.append(
            {
                "condition": name,
                "accuracy": found["right"].mean(),
                "ci_low": low,
                "ci_high": high,
                "same_answer": (found["answer"] == original["answer"]).mean(),
                "loss": found["loss"],
                "loss_recovered": (worst - found["loss"]) / room if abs(room) > 1e-9 else float("nan"),
                "accuracy_ratio": found["right"].mean() / accuracy if accuracy else float("nan"),
                "ratio_low": low / accuracy if accuracy else float("nan"),
                "ratio_high": high / accuracy if accuracy else float("nan"),
                "n": len(found["right"]),
            }
        )
    return pd.DataFrame(out)
