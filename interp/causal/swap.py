"""Swap: how much of one reasoner's reasoning can another one use?

The reader answers its question after the writer's chain of thought, whole or up to some step, forced or gone on in
its own words. Texts pass as text, so tokenizers may differ; words of the answer can be masked, so that reading it
off is not what is measured. Latents pass through a ridge map from the writer's thoughts to the reader's, fitted on
other problems. Controls: another problem's reasoning (shuffled), none at all (question only), and, for latents, the
writer's state before it has thought.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.causal.donors import cyclic_donors
from interp.causal.forcing import force, resume, thought_ids
from interp.causal.patching import position, states
from interp.causal.sites import INPUT, thought_of
from interp.errors import UsageError
from interp.models.address import Address
from interp.reasoners.interventions import Intervention, replace_with
from interp.statistics.intervals import grouped_mean_interval
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.problems.base import Problem
    from interp.reasoners import Reasoner

RIDGE = 1e-2


def swap_text(
    reader: Reasoner,
    writer: Reasoner,
    problems: Sequence[Problem],
    *,
    prefixes: Sequence[float] = (0.25, 0.5, 0.75),
    seed: int = 0,
    batch_size: int = 128,
) -> pd.DataFrame:
    """The reader's answers after the writer's text, forced whole, up to a share of its words, masked, or another's.

    One row for each (arm, problem): arm, trace, structure, answer, correct (of the problem), agrees (with the
    writer's own answer). `masked` leaves out the words of the writer's answer wherever they stand. Raises
    `UsageError` where the writer writes no text, or the reader does not know its words.
    """
    written = writer.think(list(problems), batch_size=batch_size)
    texts = [_text(writer, trace) for trace in written]
    if not any(texts):
        raise UsageError(f"{writer.name} writes no text that another reasoner could read; swap its latents instead.")
    donors = _donors(written, seed)
    kept = np.flatnonzero(donors >= 0).tolist()
    arms: dict[str, Callable[[int], str]] = {
        "whole": lambda k: texts[k],
        "masked": lambda k: _masked(texts[k], written[k].answer),
        "shuffled": lambda k: texts[donors[k]],
        "question only": lambda k: "",
    }
    for share in prefixes:
        arms[f"first {share:.0%}"] = partial(_first, texts, share)
    # A beginning that the reader goes on from in its own words, beside the same one with the answer forced.
    going = {arm.replace("first", "continued from"): said for arm, said in arms.items() if arm.startswith("first")}
    asked = [problems[k] for k in kept]
    forced = {arm: force(reader, asked, [said(k) for k in kept], batch_size=batch_size) for arm, said in arms.items()}
    forced |= {
        arm: resume(reader, asked, [said(k) for k in kept], batch_size=batch_size) for arm, said in going.items()
    }
    return _told(forced, written, kept)


def swap_latents(
    reader: Reasoner,
    writer: Reasoner,
    learn: Sequence[Problem],
    problems: Sequence[Problem],
    *,
    seed: int = 0,
    batch_size: int = 256,
) -> pd.DataFrame:
    """The reader's answers with its fed-back thoughts replaced by ridge maps of the writer's, of the same step.

    The map is fitted on `learn`, from the writer's final states at each step to what the reader was fed there. Arms:
    `own` (the reader undisturbed), `mapped`, `shuffled` (another problem's, mapped), `before thinking` (a map of its
    own, from the writer's state at the question's end, which must find all in the question) and `question only`
    (each thought's mean, which knows nothing of the problem). Raises `UsageError` for readers without continuous
    thoughts, and where the two sets share a structure.
    """
    if reader.kind != "continuous":
        raise UsageError(
            f"latents can be given to a reader with continuous thoughts, but {reader.name} is {reader.kind}."
        )
    if {p.structure for p in learn} & {p.structure for p in problems}:
        raise UsageError("the problems to fit the map on and those to swap on share structures; separate them.")
    fit = [_aligned(reader, writer, learn, batch_size), _aligned(reader, writer, problems, batch_size)]
    theirs = [each.table for each in fit]
    maps = {
        side: {
            step: _ridge(fit[0].source[side][at], fit[0].target[at])
            for step in sorted(theirs[0]["step"].unique())
            if len(at := np.flatnonzero((theirs[0]["step"] == step).to_numpy()))
        }
        for side in ("thought", "before")
    }
    means = {
        step: fit[0].target[np.flatnonzero((theirs[0]["step"] == step).to_numpy())].mean(dim=0)
        for step in maps["thought"]
    }
    rows = theirs[1][theirs[1]["step"].isin(means)].reset_index()
    donors = _donors(fit[1].traces, seed)
    kept = sorted(set(np.flatnonzero(donors >= 0).tolist()) & set(rows["trace"]))
    rows = rows[rows["trace"].isin(kept)]
    place = {k: n for n, k in enumerate(kept)}
    places = {(t, s): i for t, s, i in zip(rows["trace"], rows["step"], rows["index"], strict=True)}
    where = np.array([(place[t], p) for t, p in zip(rows["trace"], rows["position"], strict=True)])

    def mapped(side: str, donated: bool) -> Tensor:
        out = []
        for t, s, i in zip(rows["trace"], rows["step"], rows["index"], strict=True):
            source = places.get((int(donors[t]), s), i) if donated else i
            out.append(maps[side][s](fit[1].source[side][source]))
        return torch.stack(out)

    values = {
        "mapped": mapped("thought", False),
        "shuffled": mapped("thought", True),
        "before thinking": mapped("before", False),
        "question only": torch.stack([means[s] for s in rows["step"]]),
    }
    asked = [problems[k] for k in kept]
    after = {"own": reader.think(asked, batch_size=batch_size)}
    for arm, given in values.items():
        edit = [Intervention(Address(INPUT), where, replace_with(given))]
        after[arm] = reader.think(asked, batch_size=batch_size, interventions=edit)
    return _told(after, fit[1].written, kept)


def swap_summary(found: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each arm, and agreement with the writer's answers, with grouped 95 % intervals."""
    out = []
    for arm, part in found.groupby("arm", sort=False):
        groups = part["structure"].to_numpy()
        row = {"arm": arm}
        for column in ("correct", "agrees"):
            row |= {
                column: part[column].mean(),
                f"{column}_ci": list(grouped_mean_interval(part[column].to_numpy(float), groups)),
            }
        out.append(row | {"n": len(part)})
    return pd.DataFrame(out)


class _Aligned:
    """Thoughts of both reasoners at the same steps of the same problems."""

    def __init__(
        self,
        traces: TraceSet,
        written: TraceSet,
        table: pd.DataFrame,
        source: dict[str, Float[Tensor, "rows d"]],
        target: Float[Tensor, "rows e"],
    ) -> None:
        self.traces, self.written, self.table, self.source, self.target = traces, written, table, source, target


def _aligned(reader: Reasoner, writer: Reasoner, problems: Sequence[Problem], batch_size: int) -> _Aligned:
    traces = reader.think(list(problems), batch_size=batch_size)
    written = writer.think(list(problems), batch_size=batch_size)
    rows, mine, theirs, before = [], [], [], []
    for k, (own, other) in enumerate(zip(traces, written, strict=True)):
        for step in range(1, problems[k].n_steps + 1):
            target = position(own, thought_of(step, 0, reader.config.thoughts_per_step))
            source = position(other, thought_of(step, 0, writer.config.thoughts_per_step))
            start = position(other, "question end")
            if None in (target, source, start):
                continue
            rows.append((k, step, target))
            mine.append((k, target))
            theirs.append((k, source))
            before.append((k, start))
    if not rows:
        raise UsageError(f"{writer.name} and {reader.name} share no step at which both think.")
    # The last block's output: what the thought came to, whether it is fed back or written.
    last = Address(f"blocks.{writer.model.cfg.n_layers - 1}.hook_out")
    first = Address("blocks.0.hook_in")
    both = [states(writer, written, a, np.array(theirs), batch_size=batch_size) for a in (first, last)]
    start_states = [states(writer, written, a, np.array(before), batch_size=batch_size) for a in (first, last)]
    given = {"thought": torch.cat(both, dim=1), "before": torch.cat(start_states, dim=1)}
    fed = states(reader, traces, Address(INPUT), np.array(mine), batch_size=batch_size)
    table = pd.DataFrame(rows, columns=["trace", "step", "position"])
    return _Aligned(traces, written, table, given, fed)


def _ridge(x: Float[Tensor, "rows d"], y: Float[Tensor, "rows e"]):  # type: ignore[no-untyped-def]
    centre, scale, mean = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6), y.mean(dim=0)
    z = ((x - centre) / scale).double()
    gram = z.T @ z + RIDGE * len(z) * torch.eye(z.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, z.T @ (y - mean).double()).float()
    return lambda rows: ((rows - centre) / scale) @ weights + mean


def _text(writer: Reasoner, trace) -> str:  # type: ignore[no-untyped-def]
    ids = thought_ids(trace)
    return writer.tokenizer.decode(ids).strip() if ids else ""


def _first(texts: Sequence[str], share: float, k: int) -> str:
    words = texts[k].split()
    return " ".join(words[: round(len(words) * share)])


def _masked(text: str, answer: str) -> str:
    hidden = set(answer.split())
    return " ".join(word for word in text.split() if word not in hidden)


def _donors(traces: TraceSet, seed: int) -> np.ndarray:
    problems = traces.problems
    return cyclic_donors([p.structure for p in problems], [p.n_steps for p in problems], seed)


def _told(after: dict[str, TraceSet], written: TraceSet, kept: Sequence[int]) -> pd.DataFrame:
    rows = []
    for arm, traces in after.items():
        for k, trace in zip(kept, traces, strict=True):
            said = (
                trace.problem.structure,
                trace.answer,
                trace.answer == trace.problem.answer,
                trace.answer == written[k].answer,
            )
            rows.append((arm, k, *said))
    return pd.DataFrame(rows, columns=["arm", "trace", "structure", "answer", "correct", "agrees"])
