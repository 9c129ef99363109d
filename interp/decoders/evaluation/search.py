"""Search over read-outs: the likeliest trace whose steps the task's verifier accepts.

Each step offers its likeliest readings. A depth-first search over them, best first, drops a prefix as soon as the verifier
finds a wrong step in it, and keeps the consistent trace with the largest product of scores. The verifier knows the
question, so the constraint alone brings some of the steps. The same search over another problem's readings says how many;
only the difference is read from the latents. A verifier that calls no step wrong, as that of the user's own questions,
constrains nothing, and the search is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from interp.decoders.evaluation.read_outs import ReadOuts
from interp.errors import UsageError
from interp.problems import task as make_task
from interp.problems.base import Problem, Task
from interp.statistics.estimates import Estimate

_LEAST = 1e-9


def likeliest_trace(
    task: Task, problem: Problem, texts: Sequence[Sequence[str]], scores: Sequence[Sequence[float]]
) -> tuple[list[str], bool]:
    """Return the consistent choice of one reading for each step with the largest product of scores.

    Args:
        task: The task, whose verifier judges the steps.
        problem: The problem.
        texts: The candidates of each step, best first.
        scores: Their probabilities.

    Returns:
        The chosen texts, and whether a consistent choice exists. Without one, each step's likeliest text is chosen.
    """
    logs = [np.log(np.maximum(np.asarray(of_step, float), _LEAST)) for of_step in scores]
    # The most that the steps from k on can still add, so that hopeless branches are left early.
    ahead = np.append(np.cumsum([of_step.max() for of_step in logs][::-1])[::-1], 0.0)
    best: tuple[float, list[str] | None] = (-np.inf, None)

    def extend(prefix: list[str], total: float) -> None:
        nonlocal best
        k = len(prefix)
        if total + ahead[k] <= best[0]:
            return
        if k == len(texts):
            best = (total, list(prefix))
            return
        for text, score in zip(texts[k], logs[k], strict=True):
            if text and _is_consistent(task, problem, [*prefix, text]):
                extend([*prefix, text], total + float(score))

    extend([], 0.0)
    chosen = best[1]
    return (chosen, True) if chosen is not None else ([of_step[0] for of_step in texts], False)


def _is_consistent(task: Task, problem: Problem, steps: Sequence[str]) -> bool:
    """Return whether no step of the prefix is wrong; the answer after it is left open."""
    verdict = task.verify(problem, " ".join([*steps, "?"]))
    return not any(right is False for right in verdict.steps[: len(steps)])


def _can_reject(task: Task, pairs: Sequence[tuple[Problem, Problem]]) -> bool:
    """Return whether the verifier calls the gold steps of another problem wrong, for any of the pairs."""
    return any(
        not _is_consistent(task, problem, [step.text for step in other.steps])
        for problem, other in pairs
        if problem.steps != other.steps
    )


def search(readouts: ReadOuts, method: str, *, split: str = "test") -> pd.DataFrame:
    """Return the exact match by step without search, with it, and with it over another problem's readings.

    Args:
        readouts: Read-outs that include `method`.
        method: A decoder that writes whole steps, as the verifier reads them.
        split: The part of the problems to search over.

    Returns:
        Columns step (0 for all), unconstrained, searched, shuffled, consistent (the share of traces for which the
        verifier left a choice), consistent_shuffled, ci_low, ci_high (of searched), n. The row of step 0 also has whole
        (the share of traces found with all their steps), whole_unconstrained, whole_shuffled, and gain (whole minus
        whole_shuffled) with gain_low and gain_high.

    Raises:
        UsageError: There are no read-outs of the split, the method reads values where steps are longer texts, or the
            task's verifier accepts the steps of every other problem.
    """
    table = readouts.of(method)
    table = table[table["split"] == split]
    if table.empty:
        raise UsageError(f"there are no read-outs of {method} in the {split} split to search over.")
    traces = readouts.store.traces
    step = traces[int(table["trace"].iloc[0])].problem.steps[int(table["step"].iloc[0]) - 1]
    if table["gold"].iloc[0] != step.text:
        raise UsageError(
            f"{method} reads values, but a step of this task is written {step.text!r}, and the verifier reads whole steps. "
            "Search over a decoder that writes texts: verbalizer, nearest_text or step_embedding."
        )
    task = make_task(traces[0].problem.task)
    by_trace = {int(str(trace)): part.sort_values("step") for trace, part in table.groupby("trace")}
    complete = {trace: part for trace, part in by_trace.items() if len(part) == traces[trace].problem.n_steps}
    donors = _donors(
        {trace: part["structure"].iloc[0] for trace, part in complete.items()},
        {trace: len(part) for trace, part in complete.items()},
    )
    if not complete:
        raise UsageError(
            f"expected traces whose steps are all read by {method}, got none in the {split} split; capture all thoughts."
        )
    if not _can_reject(task, [(traces[trace].problem, traces[donors[trace]].problem) for trace in complete]):
        raise UsageError(
            f"the verifier of task {task.name} calls no step wrong, also not those of other problems, so a search under it "
            "finds only what was read; use a task whose verifier checks steps."
        )
    rows = []
    for trace, part in complete.items():
        problem, other = traces[trace].problem, complete[donors[trace]]
        chosen, consistent = likeliest_trace(task, problem, part["top_k"].tolist(), part["scores"].tolist())
        shuffled, excused = likeliest_trace(task, problem, other["top_k"].tolist(), other["scores"].tolist())
        for k, row in enumerate(part.to_dict("records")):
            rows.append(
                {
                    "trace": trace,
                    "step": row["step"],
                    "structure": row["structure"],
                    "unconstrained": row["right"],
                    "searched": chosen[k] == row["gold"],
                    "shuffled": shuffled[k] == row["gold"],
                    "consistent": consistent,
                    "consistent_shuffled": excused,
                }
            )
    return _by_step(pd.DataFrame(rows))


def _donors(structures: Mapping[int, str], lengths: Mapping[int, int]) -> dict[int, int]:
    """Return another problem with as many steps for each trace; itself if there is none."""
    rng = np.random.default_rng(0)
    donors = {}
    for length in set(lengths.values()):
        members = [trace for trace in lengths if lengths[trace] == length]
        order = [members[k] for k in rng.permutation(len(members))]
        for k, trace in enumerate(order):
            others = [*order[k + 1 :], *order[:k]]
            donors[trace] = next((other for other in others if structures[other] != structures[trace]), trace)
    return donors


def _by_step(rows: pd.DataFrame) -> pd.DataFrame:
    table = []
    shares = ["unconstrained", "searched", "shuffled", "consistent", "consistent_shuffled"]
    for step in [0, *sorted(rows["step"].unique())]:
        part = rows if step == 0 else rows[rows["step"] == step]
        searched = Estimate.of_mean(part["searched"].to_numpy(), part["structure"].to_numpy())
        means = {name: float(part[name].mean()) for name in shares}
        whole = _whole(rows) if step == 0 else {}
        table.append(
            {"step": int(step), **means, "ci_low": searched.low, "ci_high": searched.high, "n": searched.n, **whole}
        )
    return pd.DataFrame(table)


def _whole(rows: pd.DataFrame) -> dict[str, float]:
    """Return the shares of traces that are found with all their steps, and what the latents add to the search."""
    of_trace = rows.groupby("trace")
    found = of_trace[["searched", "unconstrained", "shuffled"]].all()
    added = found["searched"].astype(float) - found["shuffled"]
    gain = Estimate.of_difference(added.to_numpy(), of_trace["structure"].first().to_numpy())
    return {
        "whole": float(found["searched"].mean()),
        "whole_unconstrained": float(found["unconstrained"].mean()),
        "whole_shuffled": float(found["shuffled"].mean()),
        "gain": gain.value,
        "gain_low": gain.low,
        "gain_high": gain.high,
    }
