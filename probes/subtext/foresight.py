"""Foresight: does the state before a step tell that the step will be wrong? And adaptive compute: does who has more to
do think more?

A reasoner that is about to slip may show it before a word of the slip is written (2504.05419 reports AUROC above 0.7
and a quarter of the tokens saved). Beside the latents stand a reader of the visible words and one that knows
only how difficult the problem is, which alone explains a good part of who fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from interp.errors import UsageError
from interp.problems import task as make_task
from interp.problems.base import Problem
from interp.statistics.intervals import drawn_groups, grouped_mean_interval
from interp.statistics.metrics import bootstrap_interval, scores
from interp.traces import Channel, Trace, TraceSet
from probes.subtext.information import Features, class_costs, folds
from probes.subtext.latent_features import another_row, states_of_rows, words_until
from probes.subtext.text_features import token_columns

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

VISIBLE = ("question and text", "difficulty", "text and difficulty")
BOTH = "latents and difficulty"
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


@dataclass(frozen=True)
class Foresight:
    """`readers` is the table of `foresight`, `lead` by how much the AUROC of latents and difficulty exceeds that
    of the best reader without latents, with its interval (the same problems resampled for both), `says` the verdict."""

    readers: pd.DataFrame
    lead: dict[str, Any]
    says: str


def foresight(reasoner: Reasoner, traces: TraceSet, *, seed: int = 0) -> Foresight:
    """Whether the next step is about to be wrong, told by readers that were fitted to other problem structures.

    One row for each: the latents (every block's output and the final state at the last word before the step), question
    and text up to there, difficulty (number of steps, which one is next, length of the question), both together, the
    latents beside difficulty, the entropy of the
    model's own next word, latents of another moment of as many steps, the same latents of an untrained twin, and
    nothing. Columns: AUROC with its interval, calibration error, and what stopping would save.

    `saved` is the share of all thought tokens that are not written when a trace is stopped at the first alarm, at a
    threshold, set on other problems, that stops at most 2 % of the traces whose steps are all right, and is at least
    one half; `lost` is the share of those that are stopped here. Raises `UsageError` where fewer than 20 steps are wrong or right.
    """
    from interp.loading.load import random_init

    at = moments(traces)
    wrong = np.array([each.wrong for each in at])
    if min(wrong.sum(), (~wrong).sum()) < _FEWEST_WRONG:
        raise UsageError(
            f"{int(wrong.sum())} of {len(at)} steps are wrong; at least {_FEWEST_WRONG} wrong and right ones are needed. "
            "Use more traces, harder problems, or sample at a higher temperature."
        )
    groups = np.array([traces[each.trace].problem.structure for each in at])
    own = _states(reasoner, traces, at)
    text = token_columns([words_until(traces[each.trace], each.position) for each in at])
    difficulty = token_columns([_difficulty(traces[each.trace].problem, each.step) for each in at])
    readers = {
        "latents": own,
        "question and text": text,
        "difficulty": difficulty,
        "text and difficulty": np.concatenate([text, difficulty], axis=1),
        BOTH: np.concatenate([difficulty, own], axis=1),
        "next word's entropy": np.array([[_entropy(traces[each.trace], each.position)] for each in at], np.float32),
        "another moment's latents": own[another_row(np.array([each.step for each in at]), seed)],
        "untrained twin": _states(random_init(reasoner), traces, at),
        "nothing": np.empty((len(at), 0), np.float32),
    }
    chances = {name: alarm(inputs, wrong, groups, seed) for name, inputs in readers.items()}
    rows = []
    for name, chance in chances.items():
        said = np.stack([1 - chance, chance], axis=1)
        classes = np.array([False, True])
        found = scores(wrong, classes, said, ("auroc", "ece"))
        low, high = bootstrap_interval("auroc", wrong, classes, said, groups, seed=seed)
        saved = stopping(chance, at, traces, groups, seed)
        rows.append(
            {"reader": name, "auroc": found["auroc"], "ci_low": low, "ci_high": high, "ece": found["ece"], **saved}
            | {"n": len(at), "wrong": int(wrong.sum())}
        )
    table = pd.DataFrame(rows)
    best = str(table[table["reader"].isin(VISIBLE)].set_index("reader")["auroc"].idxmax())
    lead = {"over": best, **auroc_lead(wrong, chances[BOTH], chances[best], groups, seed=seed)}
    return Foresight(table, lead, _says(lead))


def auroc_lead(
    wrong: np.ndarray, ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray, *, seed: int = 0, draws: int = 1000
) -> dict[str, Any]:
    """AUROC of one alarm minus another's on the same rows, with a 95 % interval over whole groups drawn for both."""
    of_group, times = drawn_groups(groups, draws, seed)
    areas = [
        np.array([_area(wrong, ranks, weights) for weights in [np.ones(len(wrong)), *times[:, of_group]]])
        for ranks in (np.unique(each, return_inverse=True)[1] for each in (ours, theirs))
    ]
    gaps = areas[0] - areas[1]
    low, high = np.nanquantile(gaps[1:], [0.025, 0.975])
    return {"value": float(gaps[0]), "ci": [float(low), float(high)], "n": len(wrong)}


def _area(wrong: np.ndarray, ranks: np.ndarray, weights: np.ndarray) -> float:
    """AUROC of weighted rows: the share of (wrong, right) pairs in which the wrong one ranks higher; ties count half."""
    bad, good = (np.bincount(ranks, weights * part, minlength=int(ranks.max()) + 1) for part in (wrong, ~wrong))
    pairs = bad.sum() * good.sum()
    return float(bad @ (np.cumsum(good) - good / 2) / pairs) if pairs else float("nan")


def _says(lead: dict[str, Any]) -> str:
    low, high = lead["ci"]
    told = f"AUROC {lead['value']:+.3f} [{low:.3f}, {high:.3f}] over {lead['over']}"
    if low > 0:
        return f"the latents tell of slips beyond what is visible: {told}."
    if high < 0:
        return f"what is visible tells more of slips than the latents do: {told}."
    return f"no verdict on whether the latents tell more than what is visible: {told}."


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
    trace, position, step = np.array([(each.trace, each.position, each.step) for each in at]).T
    return states_of_rows(reasoner, traces, trace, position, step)


def _entropy(trace: Trace, position: int) -> float:
    """Of the model's distribution over the word that comes next, in nats; 0 where nothing was predicted there."""
    after = trace.entropy[position + 1] if position + 1 < len(trace) else float("nan")
    return after if after == after else 0.0


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


def compute_summary(sets: Mapping[str, Sequence[Trace]], *, seed: int = 0, draws: int = 1000) -> pd.DataFrame:
    """One row for each set: does who has more to do think more?

    `correlation` is Spearman's between thoughts used and operations needed, `beyond_length` the same with the length of
    the question taken out of both (NaN where all questions of a set with as many words need as many operations),
    each with an interval over whole structures; `shuffled` is the correlation with the operations of another problem.
    """
    rows = []
    for name, traces in sets.items():
        used = np.array([sum(c in (Channel.THOUGHT, Channel.LATENT) for c in trace.channel) for trace in traces], float)
        needed = np.array([trace.problem.n_steps for trace in traces], float)
        length = np.array([len(trace.problem.question.split()) for trace in traces])
        of_group, drawn = drawn_groups(np.array([trace.problem.structure for trace in traces]), draws, seed)
        times = drawn[:, of_group]
        whole = [rankdata(used), rankdata(needed)]
        within = [_within(each, length) for each in whole]
        row: dict[str, Any] = {"set": name}
        for column, (a, b) in (("correlation", whole), ("beyond_length", within)):
            spread = np.array([_correlation(a, b, each) for each in times])
            low, high = np.nanquantile(spread, [0.025, 0.975]) if np.isfinite(spread).any() else (np.nan, np.nan)
            row |= {column: _correlation(a, b, np.ones(len(a))), f"{column}_ci": [float(low), float(high)]}
        shuffled = np.random.default_rng(seed).permutation(whole[1])
        right = np.mean([trace.correct for trace in traces])
        row |= {"shuffled": _correlation(whole[0], shuffled, np.ones(len(used))), "accuracy": right, "n": len(used)}
        rows.append(row)
    return pd.DataFrame(rows)


def _within(values: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """`values` less the mean of their kind."""
    codes = np.unique(kinds, return_inverse=True)[1]
    return values - (np.bincount(codes, values) / np.bincount(codes))[codes]


def _correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> float:
    a, b = a - np.average(a, weights=weights), b - np.average(b, weights=weights)
    scale = np.sqrt((weights @ a**2) * (weights @ b**2))
    return float(weights @ (a * b) / scale) if scale > 1e-9 else float("nan")
