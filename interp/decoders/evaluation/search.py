"""Search over read-outs: the likeliest whole trace that the task's verifier does not refuse.

Each step offers its likeliest readings; a depth-first search over them, best first, drops a prefix as soon as the
verifier finds a wrong step in it, and keeps the consistent trace whose readings are likeliest together. The verifier
knows the question, so the constraint alone brings some of the steps: the same search over another problem's readings
says how many, and only the difference is read from the latents.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from interp.decoders.evaluation.read_outs import ReadOuts
from interp.errors import UsageError
from interp.problems import task as make_task
from interp.problems.base import Problem, Task
from interp.statistics.intervals import grouped_mean_interval

_LEAST = 1e-9


def likeliest_trace(
    task: Task, problem: Problem, texts: Sequence[Sequence[str]], scores: Sequence[Sequence[float]]
) -> tuple[list[str], bool]:
    """The consistent choice of one reading for each step with the largest product of scores, and whether there is one.

    `texts[k]` are the candidates of step k + 1 and `scores[k]` their probabilities, best first. Where every choice is
    refused, each step's likeliest is returned as it is.
    """
    logs = [np.log(np.maximum(np.asarray(each, float), _LEAST)) for each in scores]
    # The most that the steps from k on can still add, so that hopeless branches are left early.
    ahead = np.append(np.cumsum([each.max() for each in logs][::-1])[::-1], 0.0)
    best: tuple[float, list[str] | None] = (-np.inf, None)

    def walk(chosen: list[str], total: float) -> None:
        nonlocal best
        k = len(chosen)
        if total + ahead[k] <= best[0]:
            return
        if k == len(texts):
            best = (total, list(chosen))
            return
        for text, score in zip(texts[k], logs[k], strict=True):
            if text and _consistent(task, problem, [*chosen, text]):
                walk([*chosen, text], total + float(score))

    walk([], 0.0)
    found = best[1]
    return (found, True) if found is not None else ([each[0] for each in texts], False)


def _consistent(task: Task, problem: Problem, steps: Sequence[str]) -> bool:
    """Whether no step of the prefix is wrong; the answer after it is left open."""
    verdict = task.verify(problem, " ".join([*steps, "?"]))
    return not any(each is False for each in verdict.steps[: len(steps)])


def search(readouts: ReadOuts, method: str, *, split: str = "test") -> pd.DataFrame:
    """Held-out exact match by step: unconstrained, searched, and searched over another problem's readings.

    Columns: step, unconstrained, searched, ci_low, ci_high (of searched), shuffled, consistent (share of traces for
    which the verifier left a choice), consistent_shuffled, n. Raises `UsageError` where the method says values and a step
    of the task is more than its value, so that the verifier cannot read them.
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
            "Search over a decoder that says texts: verbalizer, nearest_text or step_embedding."
        )
    oracle = make_task(traces[0].problem.task)
    by_trace = {t: part.sort_values("step") for t, part in table.groupby("trace")}
    whole = {t: part for t, part in by_trace.items() if len(part) == traces[int(str(t))].problem.n_steps}
    donors = _donors({t: part["structure"].iloc[0] for t, part in whole.items()}, {t: len(p) for t, p in whole.items()})
    rows = []
    for t, part in whole.items():
        problem = traces[int(str(t))].problem
        found, consistent = likeliest_trace(oracle, problem, part["top_k"].tolist(), part["scores"].tolist())
        other = whole[donors[t]]
        given, excused = likeliest_trace(oracle, problem, other["top_k"].tolist(), other["scores"].tolist())
        for place, row in enumerate(part.to_dict("records")):
            rows.append(
                {
                    "step": row["step"],
                    "structure": row["structure"],
                    "unconstrained": row["right"],
                    "searched": found[place] == row["gold"],
                    "shuffled": given[place] == row["gold"],
                    "consistent": consistent,
                    "consistent_shuffled": excused,
                }
            )
    return _by_step(pd.DataFrame(rows))


def _donors(structures: dict, lengths: dict) -> dict:
    """Another problem with as many steps for each (itself if there is none)."""
    rng = np.random.default_rng(0)
    out = {}
    for length in set(lengths.values()):
        members = [t for t in lengths if lengths[t] == length]
        order = [members[k] for k in rng.permutation(len(members))]
        for place, t in enumerate(order):
            later = [*order[place + 1 :], *order[:place]]
            out[t] = next((u for u in later if structures[u] != structures[t]), t)
    return out


def _by_step(rows: pd.DataFrame) -> pd.DataFrame:
    out = []
    shares = ["unconstrained", "searched", "shuffled", "consistent", "consistent_shuffled"]
    for step in [0, *sorted(rows["step"].unique())]:
        part = rows if step == 0 else rows[rows["step"] == step]
        low, high = grouped_mean_interval(part["searched"].to_numpy(), part["structure"].to_numpy())
        means = {name: float(part[name].mean()) for name in shares}
        out.append({"step": int(step), **means, "ci_low": low, "ci_high": high, "n": len(part)})
    return pd.DataFrame(out)
