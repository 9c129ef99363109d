"""Foresight: does the state before a step predict that the step will be wrong?

A reasoner that is about to err may show it before a word of the error is written (arXiv 2504.05419 reports AUROC above
0.7 and a quarter of the tokens saved). The latents are compared with a reader of the visible words and with one that
knows only how difficult the problem is, because difficulty alone explains a good part of the failures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.errors import UsageError
from interp.problems import task as make_task
from interp.problems.base import Problem
from interp.statistics.estimates import Estimate
from interp.statistics.intervals import drawn_groups
from interp.statistics.metrics import bootstrap_interval, scores
from interp.traces import Channel, Trace, TraceSet
from probes.subtext.latent_features import another_row, states_of_rows, words_until
from probes.subtext.readers import Features, class_costs, folds
from probes.subtext.text_features import token_columns

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

VISIBLE = ("question and text", "difficulty", "text and difficulty")
BOTH = "latents and difficulty"
_MIN_WRONG = 20
_MAX_LOST = 0.02  # share of the right traces that stopping early may cost


@dataclass(frozen=True)
class Moment:
    """A point of a trace between two steps.

    Attributes:
        trace: Number of the trace.
        step: How many right steps come before it.
        position: Position of the last token before the next step.
        wrong: Whether the next step is wrong.
    """

    trace: int
    step: int
    position: int
    wrong: bool


def moments(traces: Sequence[Trace]) -> list[Moment]:
    """Return every point before which all steps are right, up to and including the first wrong step.

    Args:
        traces: Traces of a task that verifies steps.
    """
    points = []
    for number, trace in enumerate(traces):
        verdict = make_task(trace.problem.task).verify(trace.problem, trace.text)
        for k, right in enumerate(verdict.steps):
            if right is None:
                break
            position = max(
                p
                for p, c in enumerate(trace.channel)
                if (trace.thought[p] and trace.step[p] <= k) or c == Channel.PROMPT
            )
            points.append(Moment(number, k, position, not right))
            if not right:
                break
    return points


@dataclass(frozen=True)
class Foresight:
    """How well each reader foresees wrong steps.

    Attributes:
        readers: One row a reader; see `foresight`.
        lead: AUROC of latents and difficulty minus that of the best reader without latents; the interval resamples the
            same problems for both.
        over: The best reader without latents.
        verdict: The verdict, in words.
    """

    readers: pd.DataFrame
    lead: Estimate
    over: str
    verdict: str


def foresight(reasoner: Reasoner, traces: TraceSet, *, seed: int = 0) -> Foresight:
    """Predict whether the next step is wrong, with readers fitted to other problem structures.

    The readers: the latents (every block's output and the final state at the last word before the step), question and
    text up to there, difficulty (number of steps, which one is next, length of the question), both together, the
    latents with difficulty, the entropy of the model's own next word, latents of another moment of the same step, the
    same latents of an untrained model, and nothing.

    Args:
        reasoner: The reasoner that wrote the traces.
        traces: Its traces.
        seed: Seed of folds, controls and bootstrap.

    Returns:
        One row a reader: AUROC with its interval, calibration error, and what stopping would save. `saved` is the share
        of thought tokens not written when a trace is stopped at the first alarm. The threshold is set on other problems:
        it stops at most 2 % of the traces whose steps are all right, and is at least one half. `lost` is the share of
        right traces that are stopped.

    Raises:
        UsageError: No step is written, fewer than 20 are wrong, or fewer than 20 are right.

    References:
        arXiv 2504.05419.
    """
    from interp.loading.load import random_init

    points = moments(traces)
    if not points:
        raise UsageError(
            f"expected traces whose steps are written, got none of {reasoner.name} ({reasoner.kind}); use a reasoner that "
            "thinks in text, such as chain-text."
        )
    wrong = np.array([point.wrong for point in points])
    if min(wrong.sum(), (~wrong).sum()) < _MIN_WRONG:
        raise UsageError(
            f"expected at least {_MIN_WRONG} wrong and {_MIN_WRONG} right steps, got {int(wrong.sum())} wrong of "
            f"{len(points)}; use more traces, harder problems, or a higher temperature."
        )
    groups = np.array([traces[point.trace].problem.structure for point in points])
    latents = _states(reasoner, traces, points)
    text = token_columns([words_until(traces[point.trace], point.position) for point in points])
    difficulty = token_columns([_difficulty(traces[point.trace].problem, point.step) for point in points])
    readers = {
        "latents": latents,
        "question and text": text,
        "difficulty": difficulty,
        "text and difficulty": np.concatenate([text, difficulty], axis=1),
        BOTH: np.concatenate([difficulty, latents], axis=1),
        "next word's entropy": np.array(
            [[_entropy(traces[point.trace], point.position)] for point in points], np.float32
        ),
        "another moment's latents": latents[another_row(np.array([point.step for point in points]), seed)],
        "untrained twin": _states(random_init(reasoner), traces, points),
        "nothing": np.empty((len(points), 0), np.float32),
    }
    chances = {name: error_probabilities(inputs, wrong, groups, seed) for name, inputs in readers.items()}
    records = []
    for name, chance in chances.items():
        probabilities = np.stack([1 - chance, chance], axis=1)
        classes = np.array([False, True])
        score = scores(wrong, classes, probabilities, ("auroc", "ece"))
        low, high = bootstrap_interval("auroc", wrong, classes, probabilities, groups, seed=seed)
        saved = stop_at_alarms(chance, points, traces, groups, seed)
        records.append(
            {"reader": name, "auroc": score["auroc"], "ci_low": low, "ci_high": high, "ece": score["ece"], **saved}
            | {"n": len(points), "wrong": int(wrong.sum())}
        )
    table = pd.DataFrame(records)
    best = str(table[table["reader"].isin(VISIBLE)].set_index("reader")["auroc"].idxmax())
    lead = auroc_lead(wrong, chances[BOTH], chances[best], groups, seed=seed)
    return Foresight(table, lead, best, _verdict(lead, best))


def auroc_lead(
    wrong: np.ndarray, ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray, *, seed: int = 0, draws: int = 1000
) -> Estimate:
    """Return the AUROC of one alarm minus another's on the same rows, resampling whole groups for both.

    Args:
        wrong: Whether each step is wrong, shape (rows,).
        ours: One alarm, shape (rows,).
        theirs: The other alarm, shape (rows,).
        groups: Group of each row, shape (rows,).
        seed: Seed of the bootstrap.
        draws: Number of resamples.
    """
    of_group, times = drawn_groups(groups, draws, seed)
    areas = [
        np.array([_area(wrong, ranks, weights) for weights in [np.ones(len(wrong)), *times[:, of_group]]])
        for ranks in (np.unique(alarm_, return_inverse=True)[1] for alarm_ in (ours, theirs))
    ]
    gaps = areas[0] - areas[1]
    low, high = np.nanquantile(gaps[1:], [0.025, 0.975])
    return Estimate(float(gaps[0]), float(low), float(high), len(wrong))


def _area(wrong: np.ndarray, ranks: np.ndarray, weights: np.ndarray) -> float:
    """Return the AUROC of weighted rows: the share of (wrong, right) pairs ranked right; ties count half."""
    bad, good = (np.bincount(ranks, weights * part, minlength=int(ranks.max()) + 1) for part in (wrong, ~wrong))
    pairs = bad.sum() * good.sum()
    return float(bad @ (np.cumsum(good) - good / 2) / pairs) if pairs else float("nan")


def _verdict(lead: Estimate, over: str) -> str:
    figure = f"AUROC {lead.value:+.3f} [{lead.low:.3f}, {lead.high:.3f}] over {over}"
    if lead.low > 0:
        return f"the latents foresee wrong steps beyond what is visible: {figure}."
    if lead.high < 0:
        return f"what is visible foresees wrong steps better than the latents: {figure}."
    return f"no verdict on whether the latents foresee more than what is visible: {figure}."


def error_probabilities(inputs: Features, wrong: np.ndarray, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the probability that each moment's next step is wrong, from a fit to other problems.

    Args:
        inputs: Features, shape (rows, d).
        wrong: Whether each next step is wrong, shape (rows,).
        groups: Group of each row, shape (rows,).
        seed: Seed of the folds.
    """
    costs, classes = class_costs(inputs, wrong, groups, seed=seed)
    return 2.0 ** -costs[:, list(classes).index("True")]


def stop_at_alarms(
    chance: np.ndarray, points: Sequence[Moment], traces: Sequence[Trace], groups: np.ndarray, seed: int = 0
) -> dict[str, float]:
    """Return what is saved and lost when traces stop at the first moment whose alarm exceeds a threshold.

    Args:
        chance: The alarm at each moment, shape (moments,).
        points: The moments.
        traces: The traces.
        groups: Group of each moment, shape (moments,).
        seed: Seed of the folds; a fold's threshold is set on the other folds.

    Returns:
        `saved` (share of thought tokens), `lost` (share of right traces stopped), `stopped_of_wrong`.
    """
    fold = folds(groups, seed)
    trace = np.array([point.trace for point in points])
    written = np.array([_thoughts(t, len(t)) for t in traces])
    failed = np.zeros(len(traces), bool)
    failed[[point.trace for point in points if point.wrong]] = True
    left, stopped = np.zeros(len(traces)), np.zeros(len(traces), bool)
    for k in np.unique(fold):
        loudest: dict[int, float] = {}
        for row in np.flatnonzero(fold != k).tolist():
            if not failed[trace[row]]:
                loudest[trace[row]] = max(loudest.get(trace[row], 0.0), float(chance[row]))
        # Alarms of other folds come from other fits, so a threshold among the quiet ones would mean nothing.
        usual = float(np.quantile(list(loudest.values()), 1 - _MAX_LOST, method="higher")) if loudest else 1.0
        threshold = max(usual, 0.5)
        for row in np.flatnonzero((fold == k) & (chance > threshold)).tolist():
            if not stopped[trace[row]]:
                stopped[trace[row]] = True
                left[trace[row]] = written[trace[row]] - _thoughts(traces[trace[row]], points[row].position + 1)
    seen = np.unique(trace)
    right = seen[~failed[seen]]
    return {
        "saved": float(left[seen].sum() / max(written[seen].sum(), 1)),
        "lost": float(stopped[right].mean()) if len(right) else float("nan"),
        "stopped_of_wrong": float(stopped[seen[failed[seen]]].mean()),
    }


def _thoughts(trace: Trace, before: int) -> int:
    return sum(channel == Channel.THOUGHT for channel in trace.channel[:before])


def _states(reasoner: Reasoner, traces: TraceSet, points: Sequence[Moment]) -> Features:
    trace, position, step = np.array([(point.trace, point.position, point.step) for point in points]).T
    return states_of_rows(reasoner, traces, trace, position, step)


def _entropy(trace: Trace, position: int) -> float:
    """Return the entropy of the model's next word, in nats; 0 where nothing was predicted."""
    after = trace.entropy[position + 1] if position + 1 < len(trace) else float("nan")
    return after if after == after else 0.0


def _difficulty(problem: Problem, step: int) -> list[str]:
    return [f"{problem.n_steps} steps", f"step {step}", f"{len(problem.question.split())} words"]
