"""Foresight: does the state before a step tell that the step will be wrong? And adaptive compute: does who has more to
do think more?

A reasoner that is about to slip may show it before a word of the slip is written (2504.05419 reports AUROC above 0.7
and a quarter of the tokens saved). Two readers stand beside the latents: one of the visible text, and one that knows
only how difficult the problem is, which alone explains a good part of who fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.errors import UsageError
from interp.problems import task as make_task
from interp.problems.base import Problem
from interp.stats import grouped_mean_interval
from interp.traces import Channel, Trace, TraceSet
from probes.information import Features, class_costs, folds
from probes.metrics import bootstrap_interval, scores
from probes.wording import token_columns

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_FEWEST_WRONG = 20
_LOST = 0.02  # of the right traces, how many stopping early may cost


@dataclass(frozen=True)
class Moment:
    """A point of a trace, after `step` right steps, the position there, and whether the next step goes wrong."""

    trace: int
    step: int
    position: int
    wrong: bool


def moments(traces: Sequence[Trace]) -> list[Moment]:
    """Every point of these traces before which all is right, up to and with the first wrong step."""
    found = []
    for number, trace in enumerate(traces):
        verdict = make_task(trace.problem.task).verify(trace.problem, trace.text)
        for k, right in enumerate(verdict.steps):
            if right is None:
                break
            at = max(
                p
                for p, c in enumerate(trace.channel)
                if (trace.thought[p] and trace.step[p] <= k) or c == Channel.PROMPT
            )
            found.append(Moment(number, k, at, not right))
            if not right:
                break
    return found


def foresight(reasoner: Reasoner, traces: TraceSet, *, seed: int = 0) -> pd.DataFrame:
    """One row for each reader (latents, visible text, difficulty, nothing): AUROC with its interval, calibration error,
    and what stopping would save.

    `saved` is the share of all thought tokens that are not written when a trace is stopped at the first alarm, at a
    threshold, set on other problems, that stops at most 2 % of the traces whose steps are all right, and is at least
    one half; `lost` is the share of those that are stopped here. Raises `UsageError` where fewer than 20 steps are wrong or right.
    """
    at = moments(traces)
    wrong = np.array([each.wrong for each in at])
    if min(wrong.sum(), (~wrong).sum()) < _FEWEST_WRONG:
        raise UsageError(
            f"{int(wrong.sum())} of {len(at)} steps are wrong; at least {_FEWEST_WRONG} wrong and right ones are needed. "
            "Use more traces, harder problems, or sample at a higher temperature."
        )
    groups = np.array([traces[each.trace].problem.structure for each in at])
    readers = {
        "latents": _states(reasoner, traces, at),
        "visible text": token_columns([_text(traces[each.trace], each.position) for each in at]),
        "difficulty": token_columns([_difficulty(traces[each.trace].problem, each.step) for each in at]),
        "nothing": np.empty((len(at), 0), np.float32),
    }
    rows = []
    for name, inputs in readers.items():
        chance = alarm(inputs, wrong, groups, seed)
        said = np.stack([1 - chance, chance], axis=1)
        classes = np.array([False, True])
        found = scores(wrong, classes, said, ("auroc", "ece"))
        low, high = bootstrap_interval("auroc", wrong, classes, said, groups, seed=seed)
        saved = stopping(chance, at, traces, groups, seed)
        rows.append(
            {"reader": name, "auroc": found["auroc"], "ci_low": low, "ci_high": high, "ece": found["ece"], **saved}
            | {"n": len(at), "wrong": int(wrong.sum())}
        )
    return pd.DataFrame(rows)


def alarm(inputs: Features, wrong: np.ndarray, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """The probability, told by other problems, that each moment's next step is wrong."""
    costs, classes = class_costs(inputs, wrong, groups, seed=seed)
    return 2.0 ** -costs[:, list(classes).index("True")]


def stopping(
    chance: np.ndarray, at: Sequence[Moment], traces: Sequence[Trace], groups: np.ndarray, seed: int = 0
) -> dict[str, float]:
    """What is saved and lost when traces stop at the first moment whose alarm exceeds a threshold of other problems."""
    fold = folds(groups, seed)
    trace = np.array([each.trace for each in at])
    written = np.array([_thoughts(each, len(each)) for each in traces])
    failed = np.zeros(len(traces), bool)
    failed[[each.trace for each in at if each.wrong]] = True
    left, stopped = np.zeros(len(traces)), np.zeros(len(traces), bool)
    for k in np.unique(fold):
        loudest: dict[int, float] = {}
        for row in np.flatnonzero(fold != k).tolist():
            if not failed[trace[row]]:
                loudest[trace[row]] = max(loudest.get(trace[row], 0.0), float(chance[row]))
        # Alarms of other folds come from other fits, so a threshold far down among the quiet ones would mean nothing.
        usual = float(np.quantile(list(loudest.values()), 1 - _LOST, method="higher")) if loudest else 1.0
        threshold = max(usual, 0.5)
        for row in np.flatnonzero((fold == k) & (chance > threshold)).tolist():
            if not stopped[trace[row]]:
                stopped[trace[row]] = True
                left[trace[row]] = written[trace[row]] - _thoughts(traces[trace[row]], at[row].position + 1)
    seen = np.unique(trace)
    right = seen[~failed[seen]]
    return {
        "saved": float(left[seen].sum() / max(written[seen].sum(), 1)),
        "lost": float(stopped[right].mean()) if len(right) else float("nan"),
        "stopped_of_wrong": float(stopped[seen[failed[seen]]].mean()),
    }


def _thoughts(trace: Trace, before: int) -> int:
    return sum(channel == Channel.THOUGHT for channel in trace.channel[:before])


def _states(reasoner: Reasoner, traces: TraceSet, at: Sequence[Moment]) -> Features:
    from probes.latents import states

    out: np.ndarray | None = None
    for step in sorted({each.step for each in at}):
        rows = [row for row, each in enumerate(at) if each.step == step]
        positions = np.full(len(traces), -1)
        positions[[at[row].trace for row in rows]] = [at[row].position for row in rows]
        acts = np.concatenate(list(states(reasoner, traces, positions).values()), axis=1)
        out = np.zeros((len(at), acts.shape[1]), np.float32) if out is None else out
        out[rows] = acts[[at[row].trace for row in rows]]
    assert out is not None
    return out


def _text(trace: Trace, position: int) -> list[str]:
    return [t for k, t in enumerate(trace.tokens) if k <= position and trace.channel[k] == Channel.THOUGHT]


def _difficulty(problem: Problem, step: int) -> list[str]:
    return [f"{problem.n_steps} steps", f"step {step}", f"{len(problem.question.split())} words"]


def adaptive_compute(sets: Mapping[str, Sequence[Trace]]) -> pd.DataFrame:
    """Thoughts used against operations needed, for each named set (such as lengths that were trained on, and longer ones).

    One row for each set and number of operations: mean thoughts with its interval, the share that used exactly as many
    steps as are needed, and the share of right answers.
    """
    rows = []
    for name, traces in sets.items():
        needed = np.array([trace.problem.n_steps for trace in traces])
        used = np.array([sum(c in (Channel.THOUGHT, Channel.LATENT) for c in trace.channel) for trace in traces])
        steps = np.array([max(trace.step, default=0) if u else 0 for trace, u in zip(traces, used, strict=True)])
        # A step beyond the last one needed counts into it, so thoughts are compared with those of a gold trace too.
        gold = np.array([sum(len(step.text.split()) for step in trace.problem.steps) for trace in traces])
        for n in np.unique(needed):
            here = needed == n
            groups = np.array([trace.problem.structure for trace, yes in zip(traces, here, strict=True) if yes])
            low, high = grouped_mean_interval(used[here], groups)
            rows.append(
                {
                    "set": name,
                    "needed": int(n),
                    "thoughts": used[here].mean(),
                    "ci_low": low,
                    "ci_high": high,
                    "as_many_as_needed": float(((steps == needed) & (used == gold))[here].mean()),
                    "accuracy": float(np.mean([trace.correct for trace, yes in zip(traces, here, strict=True) if yes])),
                    "n": int(here.sum()),
                }
            )
    return pd.DataFrame(rows)
