"""Steering: push a thought towards a chosen value, at several doses, and measure what follows and what breaks.

The direction of a value is the mean state of thoughts that hold it, minus the mean over values. Success: the answer
becomes what the task's oracle computes from the chosen value. Collateral: what changes that should not, which is
answers of problems whose thought holds the chosen value already, and answers that are no answers any more. The control
at every dose is a random direction of the same length. The dose is chosen on other problems than are tested. A written
value is pushed at all of its tokens, towards a value of as many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.causal.directions import Directions, ValueToken
from interp.causal.patching.donors import implied_answer, why_no_answer
from interp.causal.patching.patch import (
    addresses_of,
    norm_matched_noise,
    position_of_step,
)
from interp.causal.patching.positions import in_place, position_parts
from interp.causal.patching.widths import widths_of_steps
from interp.errors import UsageError, unknown
from interp.problems import task as make_task
from interp.reasoners.interventions import Edit, Intervention
from interp.runtime.progress import Progress
from interp.statistics.estimates import Estimate
from interp.statistics.intervals import first_within_error
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.problems.base import Problem, Task
    from interp.reasoners import Reasoner

DOSES = (0.5, 1.0, 2.0, 4.0, 8.0)
EDITS = ("steer", "already there", "random direction")
MODES = ("add", "set")
Mode = Literal["add", "set"]

_PLAN_COLUMNS = ["trace", "step", "steps", "width", "position", "value", "structure", "edit", "target", "predicted"]


class SteeringResult:
    """Answers after steering at every dose, on problems to choose the dose (`val`) and on others (`test`).

    Attributes:
        best: The chosen dose.
        mode: `add` or `set`.
    """

    def __init__(self, frame: pd.DataFrame, best: float, mode: str) -> None:
        self._frame, self.best, self.mode = frame, best, mode

    def table(self) -> pd.DataFrame:
        """Return one row for each edit.

        Returns:
            Columns: part (`val` or `test`), dose, edit, trace, step, steps, value, target, predicted, answer_after,
            followed, changed, malformed, structure.
        """
        return self._frame

    def rate(self, edit: str, column: str, dose: float | None = None, part: str = "test") -> Estimate:
        """Return the mean of a column.

        Args:
            edit: One of `EDITS`.
            column: `followed`, `changed` or `malformed`.
            dose: Default: the chosen dose.
            part: `val` or `test`.

        Returns:
            The mean with a 95 % interval that resamples problem structures; NaN with n = 0 where there is no edit.
        """
        table, dose = self._frame, self.best if dose is None else dose
        rows = table[(table["edit"] == edit) & (table["dose"] == dose) & (table["part"] == part)]
        return Estimate.of_mean(rows[column].to_numpy(float), rows["structure"].to_numpy())

    def collateral(self, dose: float | None = None) -> Estimate:
        """Return the larger of: answers changed where the value was there already, and malformed answers."""
        rates = [self.rate("already there", "changed", dose), self.rate("steer", "malformed", dose)]
        return max((rate for rate in rates if rate.n), key=lambda rate: rate.value, default=rates[0])

    def summary(self) -> pd.DataFrame:
        """Return the dose-response on the test problems: success, random direction and collateral of each dose."""
        rows = []
        for dose in sorted(self._frame["dose"].unique()):
            success, random = self.rate("steer", "followed", dose), self.rate("random direction", "followed", dose)
            already, malformed = self.rate("already there", "changed", dose), self.rate("steer", "malformed", dose)
            rows.append(
                {
                    "dose": dose,
                    "chosen": dose == self.best,
                    "success": success.value,
                    "success_ci": list(success.interval),
                    "random direction": random.value,
                    "random_ci": list(random.interval),
                    "changed where already there": already.value,
                    "already_ci": list(already.interval),
                    "malformed": malformed.value,
                    "n": success.n,
                    "n already": already.n,
                }
            )
        return pd.DataFrame(rows)


def steer(
    reasoner: Reasoner,
    val: TraceSet,
    test: TraceSet,
    directions: Directions,
    *,
    doses: Sequence[float] = DOSES,
    mode: Mode = "add",
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> SteeringResult:
    """Steer every step of correctly answered problems to a random other value, at every dose.

    A written value is pushed at each of its tokens, towards a value that is written in as many.

    Args:
        reasoner: The reasoner that is steered.
        val: Traces on which the dose is chosen: the smallest within one standard error of the best success.
        test: Traces that are reported.
        directions: Directions of the values.
        doses: Multiples of the direction.
        mode: `add` adds dose times the direction. `set` first removes what the state has along the directions.
        seed: Seed of target values and random directions.
        batch_size: Problems that are thought about at once.
        progress: Called with (doses done, doses in all), both parts counted.

    Returns:
        The answers at every dose.

    Raises:
        UsageError: Unknown mode, a dose that is not positive, or no thought whose answer would change.
    """
    if mode not in MODES:
        raise unknown("mode of steering", mode, MODES)
    if not doses or any(not np.isfinite(dose) or dose <= 0 for dose in doses):
        raise UsageError(f"expected doses that are positive numbers, got {list(doses)}; give some such as 0.5 and 1.")
    frames: list[pd.DataFrame] = []
    for name, traces in (("val", val), ("test", test)):
        plan = _plan(reasoner, traces, directions, seed)
        for dose in sorted(doses):
            edits = _edits(plan, directions, dose, mode, seed)
            frames.append(_outcomes(reasoner, traces, plan, directions, edits, batch_size).assign(dose=dose, part=name))
            if progress:
                progress(len(frames), 2 * len(doses))
    frame = pd.concat(frames, ignore_index=True)
    on_val = frame[(frame["part"] == "val") & (frame["edit"] == "steer")]
    success = on_val.groupby("dose")["followed"].agg(["mean", "size"])
    best = first_within_error(success["mean"].tolist(), success["size"].tolist())
    return SteeringResult(frame, float(success.index[best]), mode)


def _plan(reasoner: Reasoner, traces: TraceSet, directions: Directions, seed: int) -> pd.DataFrame:
    """Return one row for each edit: a random other value, the value that is there already, and the control."""
    rng = np.random.default_rng(seed)
    task, width_of = make_task(traces[0].problem.task), widths_of_steps(reasoner, traces, directions.offset)
    rows: list[tuple[Any, ...]] = []
    for k, trace in enumerate(traces):
        problem, steps = trace.problem, trace.problem.n_steps
        for step, gold in enumerate(problem.steps, 1):
            where = position_of_step(trace, step, directions.offset)
            if not trace.correct or where is None:
                continue
            width = width_of(k, step)
            values = directions.values.get(width, [])
            if ValueToken(step, steps, width) not in directions.means or gold.value not in values:
                continue
            answers = {value: implied_answer(task, problem, step, value) for value in values}
            targets = [
                value
                for value, answer in answers.items()
                if answer is not None and not task.says(problem, trace.answer, answer)
            ]
            shared = (k, step, steps, width, where, gold.value, problem.structure)
            rows.append((*shared, "already there", gold.value, trace.answer))
            if targets:
                target = str(rng.choice(targets))
                rows += [(*shared, edit, target, answers[target]) for edit in ("steer", "random direction")]
    plan = pd.DataFrame(rows, columns=_PLAN_COLUMNS)
    if not (plan["edit"] == "steer").any():
        reason = why_no_answer(traces, [value for values in directions.values.values() for value in values])
        raise UsageError(
            f"expected thoughts of {reasoner.name} that can be steered, got none: none of {len(traces)} answers would "
            f"change. {reason or 'Take more problems.'}"
        )
    return plan


def _edits(plan: pd.DataFrame, directions: Directions, dose: float, mode: str, seed: int) -> list[Edit]:
    """Return the edits that push every row of the plan: at the last token of each value, the one before it, and so on.

    The rows of each edit are those of the plan whose values have such a token.
    """
    edits = []
    for back in range(plan["width"].max()):
        part = plan[plan["width"] > back]
        places = zip(part["step"].tolist(), part["steps"].tolist(), part["width"].tolist(), strict=True)
        tokens = [ValueToken(step, n_steps, width, back) for step, n_steps, width in places]
        towards = torch.stack([directions.of(*key) for key in zip(part["target"], tokens, strict=True)])
        random = torch.tensor((part["edit"] == "random direction").tolist())
        pushes = torch.where(random[:, None], norm_matched_noise(towards, seed + back), towards) * dose
        edits.append(_set(directions, tokens, pushes) if mode == "set" else _add(pushes))
    return edits


def _outcomes(
    reasoner: Reasoner,
    traces: TraceSet,
    plan: pd.DataFrame,
    directions: Directions,
    edits: Sequence[Edit],
    batch_size: int,
) -> pd.DataFrame:
    """Return the plan with the answers after `edits`."""
    (address,) = addresses_of(reasoner, directions.address)
    interventions = []
    for back, edit in enumerate(edits):
        slots = np.flatnonzero(plan["width"] > back)
        part = plan.iloc[slots]
        positions = part["position"].to_numpy() - back
        parts = position_parts(reasoner, traces, address, np.stack([part["trace"], positions], axis=1))
        interventions.append(Intervention(address, np.stack([slots, positions], axis=1), in_place(edit, parts)))
    problems = [traces[t].problem for t in plan["trace"]]
    after = reasoner.think(problems, batch_size=batch_size, interventions=interventions)
    answers = [trace.answer for trace in after]
    before = [traces[t].answer for t in plan["trace"]]
    task = make_task(problems[0].task)
    return plan.drop(columns=["position", "width"]).assign(
        answer_after=answers,
        followed=[
            isinstance(implied, str) and task.says(problem, after, implied)
            for problem, after, implied in zip(problems, answers, plan["predicted"], strict=True)
        ],
        changed=[not task.same_answer(*texts) for texts in zip(problems, answers, before, strict=True)],
        malformed=malformed_answers(task, problems, answers, plan["predicted"]),
    )


def malformed_answers(
    task: Task, problems: Sequence[Problem], answers: Sequence[str], predicted: Iterable[str]
) -> list[bool]:
    """Return whether each answer is none that these problems could have.

    A free text says one of them; others begin with a value of the task or the first word of such an answer, and have
    as many words.

    Args:
        task: The task of the problems.
        problems: The problems.
        answers: The answer to each.
        predicted: Further answers that are possible.
    """
    possible = dict.fromkeys(answer for answer in [*task.values, *predicted, *(p.answer for p in problems)] if answer)
    if task.free_answers:
        return [
            not any(task.says(problem, written, answer) for answer in possible)
            for problem, written in zip(problems, answers, strict=True)
        ]
    first_words = {answer.split()[0] for answer in possible}
    lengths = {len(problem.answer.split()) for problem in problems}
    return [len(a.split()) not in lengths or a.split()[0] not in first_words for a in answers]


def _add(pushes: Tensor) -> Edit:
    def edit(activations: Tensor, rows: np.ndarray) -> Tensor:
        return activations + pushes[torch.as_tensor(rows)].to(activations)

    return edit


def _set(directions: Directions, tokens: Sequence[ValueToken], pushes: Tensor) -> Edit:
    """Return an edit that removes what the state has along the directions of its token, and adds the push."""
    spans: dict[ValueToken, Tensor] = {}
    for token in dict.fromkeys(tokens):
        _, scales, basis = torch.linalg.svd(directions.means[token] - directions.centres[token], full_matrices=False)
        spans[token] = basis[scales > 1e-6 * scales[0]]

    def edit(activations: Tensor, rows: np.ndarray) -> Tensor:
        out = activations + pushes[torch.as_tensor(rows)].to(activations)
        for token, span in spans.items():
            of_token = torch.tensor([tokens[row] == token for row in rows.tolist()])
            centre = directions.centres[token].to(activations)
            along = (activations[of_token] - centre) @ span.to(activations).T
            out[of_token] -= along @ span.to(activations)
        return out

    return edit
