"""Swap: how much of one reasoner's reasoning another one can use.

The reader answers its question after the writer's chain of thought: whole, or a beginning of it, forced or continued in
the reader's own words. Texts pass as text, so tokenizers may differ. Words of the answer can be masked, so that the
reader cannot copy it. Latents pass through a ridge map from the writer's thoughts to the reader's, fitted on other
problems. Controls are another problem's reasoning (shuffled), none at all (question only) and, for latents, the
writer's state before it thinks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.causal.patching.donors import cyclic_donors
from interp.causal.patching.patch import INPUT, position, position_of_step
from interp.causal.patching.positions import in_place, position_parts
from interp.causal.patching.states import contents, states
from interp.causal.visible_text.forcing import force, resume, thought_ids
from interp.errors import UsageError
from interp.models.address import Address
from interp.problems import task as make_task
from interp.problems.answers import plain
from interp.reasoners.interventions import Intervention, replace_with
from interp.reasoners.needs import SILENT_KINDS
from interp.statistics.estimates import Estimate
from interp.traces import Trace, TraceSet

if TYPE_CHECKING:
    from interp.problems.base import Problem
    from interp.reasoners import Reasoner

RIDGE = 1e-2
_NO_TEXT = "expected a writer of text, got {writer}, which writes no text; swap its latents instead."


class SwapOptions(TypedDict, total=False):
    """Options of `swap_text` and, but for `prefixes`, of `swap_latents`, which explain each."""

    prefixes: Sequence[float]
    seed: int
    batch_size: int


def swap_text(
    reader: Reasoner,
    writer: Reasoner,
    problems: Sequence[Problem],
    *,
    prefixes: Sequence[float] = (0.25, 0.5, 0.75),
    seed: int = 0,
    batch_size: int = 128,
) -> pd.DataFrame:
    """Return the reader's answers after the writer's text.

    Arms: `whole`, `masked` (without the words of the writer's answer), `shuffled` (another problem's text), `question
    only`, and for each prefix `first P%` (the answer is forced after it) and `continued from P%` (the reader goes on).

    Args:
        reader: Reads the text and answers.
        writer: Writes the text.
        problems: The problems. Those without a donor of as many steps are left out.
        prefixes: Shares of the text's words.
        seed: Seed of the donors.
        batch_size: Problems that are thought about at once.

    Returns:
        One row for each (arm, problem): arm, trace, structure, answer, correct, agrees (with the writer's answer).

    Raises:
        UsageError: The writer writes no text, or the reader does not know its words.
    """
    if writer.kind in SILENT_KINDS:
        raise UsageError(_NO_TEXT.format(writer=writer.name))
    written = writer.think(list(problems), batch_size=batch_size)
    texts = [_text(writer, trace) for trace in written]
    if not any(texts):
        raise UsageError(_NO_TEXT.format(writer=writer.name))
    donors, task = _donors(written, seed), make_task(written[0].problem.task)
    kept = np.flatnonzero(donors >= 0).tolist()
    arms: dict[str, Callable[[int], str]] = {
        "whole": lambda k: texts[k],
        "masked": lambda k: _masked(texts[k], task.stated(written[k].problem, written[k].answer)),
        "shuffled": lambda k: texts[donors[k]],
        "question only": lambda k: "",
    }
    beginnings = {f"{share:.0%}": partial(_first, texts, share) for share in prefixes}
    arms |= {f"first {share}": beginning for share, beginning in beginnings.items()}
    recipients = [problems[k] for k in kept]
    after = {
        arm: force(reader, recipients, [text(k) for k in kept], batch_size=batch_size) for arm, text in arms.items()
    }
    after |= {
        f"continued from {share}": resume(reader, recipients, [text(k) for k in kept], batch_size=batch_size)
        for share, text in beginnings.items()
    }
    return _answers(after, written, kept)


def swap_latents(
    reader: Reasoner,
    writer: Reasoner,
    learn: Sequence[Problem],
    problems: Sequence[Problem],
    *,
    seed: int = 0,
    batch_size: int = 256,
) -> pd.DataFrame:
    """Return the reader's answers with its fed-back thoughts replaced by ridge maps of the writer's.

    The map goes from the writer's states at each step to what the reader is fed there. Arms: `own` (the reader
    undisturbed), `mapped`, `shuffled` (another problem's, mapped), `before thinking` (a map of the writer's state at
    the question's end, which has no more than the question to map from) and `question only` (each thought's mean, which
    is the same for every problem).

    Args:
        reader: A reasoner with continuous thoughts.
        writer: Any reasoner that thinks.
        learn: Problems that the maps are fitted on.
        problems: Problems that are answered; they share no structure with `learn`.
        seed: Seed of the donors.
        batch_size: Problems that are thought about at once.

    Returns:
        One row for each (arm, problem): arm, trace, structure, answer, correct, agrees (with the writer's answer).

    Raises:
        UsageError: The reader has no continuous thoughts, the two sets share a structure, or the reasoners share no
            step at which both think.
    """
    if reader.kind != "continuous":
        raise UsageError(
            f"expected a reader with continuous thoughts, got {reader.name}, which is {reader.kind}; swap text instead."
        )
    if {p.structure for p in learn} & {p.structure for p in problems}:
        raise UsageError(
            "expected disjoint problems to fit the map and to answer, got some that share structures; separate them."
        )
    fitted, tested = (_aligned(reader, writer, some, batch_size) for some in (learn, problems))
    of_step = {step: np.flatnonzero((fitted.table["step"] == step).to_numpy()) for step in fitted.steps}
    means = {step: fitted.fed[rows].mean(dim=0) for step, rows in of_step.items()}
    maps = {
        side: {step: _ridge(inputs[rows], fitted.fed[rows]) for step, rows in of_step.items()}
        for side, inputs in (("thought", fitted.thought), ("before", fitted.before))
    }
    rows = tested.table[tested.table["step"].isin(means)].reset_index()
    donors = _donors(tested.traces, seed)
    kept = sorted(set(np.flatnonzero(donors >= 0).tolist()) & set(rows["trace"]))
    rows = rows[rows["trace"].isin(kept)]
    slots = {k: slot for slot, k in enumerate(kept)}
    steps = list(zip(rows["trace"], rows["step"], rows["index"], strict=True))
    row_of = {(trace, step): row for trace, step, row in steps}
    targets = np.array([(slots[trace], where) for trace, where in zip(rows["trace"], rows["position"], strict=True)])
    donated = [row_of.get((int(donors[trace]), step), row) for trace, step, row in steps]
    values = {
        "mapped": [maps["thought"][step](tested.thought[row]) for _, step, row in steps],
        "shuffled": [
            maps["thought"][step](tested.thought[row]) for (_, step, _), row in zip(steps, donated, strict=True)
        ],
        "before thinking": [maps["before"][step](tested.before[row]) for _, step, row in steps],
        "question only": [means[step] for _, step, _ in steps],
    }
    recipients = [problems[k] for k in kept]
    places = rows[["trace", "position"]].to_numpy()
    parts = position_parts(reader, tested.traces, Address(INPUT), places)
    after = {"own": reader.think(recipients, batch_size=batch_size)}
    for arm, vectors in values.items():
        edit = [Intervention(Address(INPUT), targets, in_place(replace_with(torch.stack(vectors)), parts))]
        after[arm] = reader.think(recipients, batch_size=batch_size, interventions=edit)
    return _answers(after, tested.written, kept)


def swap_summary(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy of each arm and its agreement with the writer's answers.

    Args:
        answers: The table of `swap_text` or `swap_latents`.

    Returns:
        Columns: arm, correct, correct_ci, agrees, agrees_ci, n. Intervals are 95 %, grouped by problem structure.
    """
    rows = []
    for arm, part in answers.groupby("arm", sort=False):
        row = {"arm": arm}
        for column in ("correct", "agrees"):
            share = Estimate.of_mean(part[column].to_numpy(float), part["structure"].to_numpy())
            row |= {column: share.value, f"{column}_ci": list(share.interval)}
        rows.append(row | {"n": len(part)})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Aligned:
    """Thoughts of both reasoners at the same steps of the same problems.

    Attributes:
        traces: The reader's traces.
        written: The writer's traces.
        table: One row for each step at which both think: trace, step, position (in the reader's trace).
        thought: The writer's states at the step, shape (rows, 2 d_writer).
        before: The writer's states at the question's end, shape (rows, 2 d_writer).
        fed: What the reader is fed at the step, without its position's embedding, shape (rows, d_reader).
    """

    traces: TraceSet
    written: TraceSet
    table: pd.DataFrame
    thought: Float[Tensor, "rows d"]
    before: Float[Tensor, "rows d"]
    fed: Float[Tensor, "rows e"]

    @property
    def steps(self) -> list[int]:
        """The steps that occur."""
        return sorted(self.table["step"].unique())


def _aligned(reader: Reasoner, writer: Reasoner, problems: Sequence[Problem], batch_size: int) -> _Aligned:
    traces = reader.think(list(problems), batch_size=batch_size)
    written = writer.think(list(problems), batch_size=batch_size)
    rows, read, wrote, before = [], [], [], []
    for k, (trace, text) in enumerate(zip(traces, written, strict=True)):
        for step in range(1, problems[k].n_steps + 1):
            target = position_of_step(trace, step)
            source = position_of_step(text, step)
            start = position(text, "question end")
            if None in (target, source, start):
                continue
            rows.append((k, step, target))
            read.append((k, target))
            wrote.append((k, source))
            before.append((k, start))
    if not rows:
        raise UsageError(
            f"expected steps at which both reasoners think, got none of {writer.name} and {reader.name}; "
            "choose another pair."
        )

    def written_states(where: list) -> Tensor:
        # The last block's output holds the finished thought, whether it is fed back or written.
        last = Address(f"blocks.{writer.model.cfg.n_layers - 1}.hook_out")
        both = [states(writer, written, a, np.array(where), batch_size=batch_size) for a in (Address(INPUT), last)]
        return torch.cat(both, dim=1)

    table = pd.DataFrame(rows, columns=["trace", "step", "position"])
    fed = contents(reader, traces, Address(INPUT), np.array(read), batch_size=batch_size)
    return _Aligned(traces, written, table, written_states(wrote), written_states(before), fed)


def _ridge(x: Float[Tensor, "rows d"], y: Float[Tensor, "rows e"]) -> Callable[[Tensor], Tensor]:
    """Fit a ridge map on standardised inputs."""
    centre, scale, mean = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6), y.mean(dim=0)
    z = ((x - centre) / scale).double()
    gram = z.T @ z + RIDGE * len(z) * torch.eye(z.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, z.T @ (y - mean).double()).float()
    return lambda rows: ((rows - centre) / scale) @ weights + mean


def _text(writer: Reasoner, trace: Trace) -> str:
    ids = thought_ids(trace, writer.tokenizer)
    return writer.tokenizer.decode(ids).strip() if ids else ""


def _first(texts: Sequence[str], share: float, k: int) -> str:
    words = texts[k].split()
    return " ".join(words[: round(len(words) * share)])


def _masked(text: str, answer: str) -> str:
    """Return a text without the words of an answer, whatever punctuation stands at them."""
    hidden = set(filter(None, map(plain, answer.split())))
    return " ".join(word for word in text.split() if plain(word) not in hidden)


def _donors(traces: TraceSet, seed: int) -> np.ndarray:
    problems = traces.problems
    return cyclic_donors([p.structure for p in problems], [p.n_steps for p in problems], seed)


def _answers(after: dict[str, TraceSet], written: TraceSet, kept: Sequence[int]) -> pd.DataFrame:
    rows = []
    for arm, traces in after.items():
        for k, trace in zip(kept, traces, strict=True):
            problem = trace.problem
            right = trace.correct
            agrees = make_task(problem.task).same_answer(problem, trace.answer, written[k].answer)
            rows.append((arm, k, problem.structure, trace.answer, right, agrees))
    return pd.DataFrame(rows, columns=["arm", "trace", "structure", "answer", "correct", "agrees"])
