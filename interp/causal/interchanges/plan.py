"""The plan of an interchange: every swap with its two positions, how it is edited, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.causal.patching.donors import Donors, ReadAt, alternatives, implied_answer
from interp.causal.patching.patch import EditMaker, norm_matched_noise, position_of_step
from interp.models.address import Address
from interp.problems import task as make_task
from interp.reasoners.interventions import Edit, replace_with, replace_within
from interp.traces import TraceSet


class EditLocation(Protocol):
    """Where each step is edited."""

    offset: int

    def address(self, trace: int, step: int) -> str:
        """Return the address at which a step of a recipient is edited."""
        ...

    def target(self, trace: int, step: int) -> int | None:
        """Return the position in the recipient."""
        ...

    def source(self, donors: TraceSet, donor: int, step: int) -> int | None:
        """Return the position in the donor."""
        ...


class OffsetLocation:
    """Every step at one address, and at one offset from the step's last thought."""

    def __init__(self, traces: TraceSet, address: str, offset: int) -> None:
        self._traces, self._address, self.offset = traces, address, offset

    def address(self, trace: int, step: int) -> str:
        """Return the address at which a step of a recipient is edited."""
        return self._address

    def target(self, trace: int, step: int) -> int | None:
        """Return the position in the recipient."""
        return self.source(self._traces, trace, step)

    def source(self, donors: TraceSet, donor: int, step: int) -> int | None:
        """Return the position in the donor."""
        return position_of_step(donors[donor], step, self.offset)


class ReadingLocation:
    """Every step where a decoder read it."""

    def __init__(self, read_at: ReadAt, offset: int) -> None:
        self._read_at, self.offset = read_at, offset

    def address(self, trace: int, step: int) -> str:
        """Return the address at which a step of a recipient is edited."""
        return self._read_at[trace, step][1]

    def target(self, trace: int, step: int) -> int | None:
        """Return the position in the recipient."""
        return self._read_at[trace, step][0] if (trace, step) in self._read_at else None

    def source(self, donors: TraceSet, donor: int, step: int) -> int | None:
        """Return the position in the donor."""
        return self.target(donor, step)


def plan_swaps(
    paired: pd.DataFrame,
    traces: TraceSet,
    donors: Donors,
    where: EditLocation,
    edits: Sequence[str],
    seed: int,
    fits: Callable[[int, int, int], bool] | None = None,
) -> pd.DataFrame:
    """Return every swap with its two positions, in the order of `edits`.

    Controls at wrong places use the donors of another value. A wrong step is one from whose value in the donor another
    answer follows: where the same one does, it would be followed by a model that uses every value. A random vector takes
    only its length from the state that it replaces.

    Args:
        paired: The table of `interp.causal.patching.donors.pairs`.
        traces: The recipients.
        donors: The donors that `paired` indexes.
        where: Where each step is edited.
        edits: Names of edits.
        seed: Seed of the wrong places.
        fits: As for `interp.causal.patching.donors.pairs`.

    Returns:
        The rows of `paired`, with those of the controls, and the columns address, offset, target, source, at_step (whose thought is
        edited) and run.
    """
    rng = np.random.default_rng(seed + 1)
    rows: list[dict[str, Any]] = []
    for pair in paired.to_dict("records"):
        k, step, donor, edit = pair["trace"], pair["step"], pair["donor"], pair["edit"]
        target = where.target(k, step)
        source = target if donor < 0 else where.source(donors.traces, donor, step)
        if target is None or source is None:
            continue
        pair |= {"address": where.address(k, step), "offset": where.offset, "at_step": step}
        rows.append({**pair, "target": target, "source": source})
        if edit != "other value":
            continue
        rows.append({**pair, "edit": "random subspace", "target": target, "source": source})
        prompts = [
            [n for n, channel in enumerate(trace.channel) if channel == "prompt"]
            for trace in (traces[k], donors.traces[donor])
        ]
        n_tokens = min(map(len, prompts))
        if target in prompts[0]:  # of a model that thinks nowhere; a wrong site is another one, before it
            n_tokens = min(n_tokens, prompts[0].index(target))
        if not n_tokens:
            continue
        token = int(rng.integers(n_tokens))
        rows.append({**pair, "edit": "wrong site", "target": prompts[0][token], "source": prompts[1][token]})
        rows.append({**pair, "edit": "transplant", "target": prompts[0][token], "source": source})
        other_steps = [
            s
            for s in range(1, pair["n_steps"] + 1)
            if s != step and (fits is None or fits(k, donor, s)) and not _implies_the_same(traces, donors, pair, s)
        ]
        if "wrong step" in edits and other_steps:
            other = int(rng.choice(other_steps))
            elsewhere = where.target(k, other), where.source(donors.traces, donor, other)
            if None not in elsewhere:
                places = {"target": elsewhere[0], "source": elsewhere[1], "at_step": other}
                rows.append({**pair, "edit": "wrong step", **places})
    plan = pd.DataFrame(rows, columns=[*paired.columns, "address", "offset", "target", "source", "at_step"])
    plan = pd.concat([plan[plan["edit"] == edit] for edit in dict.fromkeys(edits)], ignore_index=True)
    return plan.assign(run=range(len(plan)))


def _implies_the_same(traces: TraceSet, donors: Donors, pair: dict[str, Any], step: int) -> bool:
    """Return whether the donor's value at another step implies the answer that the pair predicts."""
    values, problem = donors.values[pair["donor"]], traces[pair["trace"]].problem
    value, task = values[step - 1] if step <= len(values) else "", make_task(problem.task)
    implied = implied_answer(task, problem, step, value) if value else None
    return implied is not None and isinstance(pair["predicted"], str) and task.says(problem, implied, pair["predicted"])


def edit_maker(edit: str, basis: Tensor | None, seed: int) -> EditMaker:
    """Return the function that makes an edit from the donors' states."""

    def make(values: Tensor, address: Address) -> Edit:
        if edit == "random vector":
            values = norm_matched_noise(values, seed + 7)
        if edit == "random subspace":
            generator = torch.Generator().manual_seed(seed + 7)
            shape = 1 if basis is None else len(basis), values.shape[-1]
            return replace_within(values, torch.randn(shape, generator=generator))
        return replace_with(values) if basis is None else replace_within(values, basis)

    return make


def outcomes(plan: pd.DataFrame, traces: TraceSet, answers: list[str]) -> pd.DataFrame:
    """Return the plan with the answers before and after, and whether they followed or changed."""
    task = make_task(traces[0].problem.task)
    problems, before = ([getattr(traces[t], name) for t in plan["trace"]] for name in ("problem", "answer"))
    implied_answers: dict[tuple[int, int], list[str]] = {}
    chances = []
    for trace, step, answer in zip(plan["trace"], plan["step"], answers, strict=True):
        if (trace, step) not in implied_answers:
            implied_answers[trace, step] = alternatives(task, traces[trace].problem, step)
        options = implied_answers[trace, step]
        among = any(task.says(traces[trace].problem, answer, option) for option in options)
        chances.append(among / len(options) if options else 0.0)
    return plan.drop(columns=["run", "at_step"]).assign(
        answer_before=before,
        answer_after=answers,
        followed=[
            isinstance(implied, str) and task.says(problem, after, implied)  # a table holds NaN where none is known
            for problem, after, implied in zip(problems, answers, plan["predicted"], strict=True)
        ],
        changed=[not task.same_answer(*texts) for texts in zip(problems, answers, before, strict=True)],
        chance=chances,
    )
