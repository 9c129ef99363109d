"""Commitment: at which step of its thinking is a reasoner's answer decided, and does what comes later still matter?

Three answers, step by step. *Forced*: the thought is cut off after k steps and the reasoner has to answer (Lanham et
al., arXiv 2307.13702); the answer is decided at the first step from which on it is always the final one. *Read*: a
probe on the state at step k says the final answer, beside the same probe on the state before any thinking. *Caused*:
step k is changed, and the answer moves or not; where it no longer moves, later thinking is post-hoc.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from interp.errors import UsageError
from interp.statistics.intervals import grouped_mean_interval
from interp.traces import Channel, Trace, TraceSet
from probes.subtext.information import class_costs

if TYPE_CHECKING:
    from interp.problems.base import Problem
    from interp.reasoners import Reasoner
    from interp.reasoners.recurrent import RecurrentReasoner

_FEWEST = 60  # traces of one length below which no probe is fitted
_POST_HOC, _USED = 0.1, 0.5


@dataclass(frozen=True)
class Commitment:
    """`steps`: by number of steps and step, the share of forced and of read answers that are the final one, with
    intervals, what the question alone gives, and the share of answers that move when that step is changed (`flip`,
    NaN where steps cannot be changed). `decided`: by number of steps the mean step of decision with its interval, and
    the flip rate there and after it. `by_trace` is the step of decision of each trace. `says` is the verdict."""

    steps: pd.DataFrame
    decided: pd.DataFrame
    by_trace: Int[np.ndarray, " traces"]
    says: str


def decided_at(agrees: Bool[np.ndarray, "traces steps"]) -> Int[np.ndarray, " traces"]:
    """The first step (from 0) from which on a trace's forced answers all are the final one; the last step counts as
    agreeing."""
    agrees = agrees.copy()
    agrees[:, -1] = True
    kept = np.logical_and.accumulate(agrees[:, ::-1], axis=1)[:, ::-1]
    return kept.argmax(axis=1)


def forced_answers(reasoner: Reasoner, traces: TraceSet) -> list[list[str | None]]:
    """For each trace the answers that are given after 0, 1, … steps of thinking, None where so few cannot be forced.

    Text is cut off; a recurrent reasoner is iterated less; a silent one thinks as if its problem had fewer steps.
    """
    from dataclasses import replace

    from interp.causal.faithfulness import early_answers
    from interp.reasoners.recurrent import RecurrentReasoner
    from interp.reasoners.silent import SilentReasoner
    from interp.reasoners.text import TextReasoner

    most = _steps_of(reasoner, traces)
    if isinstance(reasoner, RecurrentReasoner):
        by_step: list[Sequence[Trace] | None] = [None]
        by_step += [reasoner.with_iterations(k).think(traces.problems, batch_size=256) for k in range(1, max(most) + 1)]
    elif isinstance(reasoner, TextReasoner):
        by_step = list(early_answers(reasoner, traces))
    elif isinstance(reasoner, SilentReasoner) and reasoner.config.thoughts is None:
        by_step = [None]
        for k in range(1, max(most) + 1):
            shorter = [replace(p, steps=p.steps[:k]) for p in traces.problems]
            by_step.append(reasoner.think(shorter, batch_size=256))
    else:
        raise UsageError(
            f"{reasoner.name} ({reasoner.kind}) cannot be made to answer early: it has no steps that could be left out."
        )
    return [[None if found is None else found[t].answer for found in by_step[: n + 1]] for t, n in enumerate(most)]


def _steps_of(reasoner: Reasoner, traces: Sequence[Trace]) -> list[int]:
    """How many steps of thinking each trace has."""
    from interp.reasoners.recurrent import RecurrentReasoner

    if isinstance(reasoner, RecurrentReasoner):
        return [reasoner.config.iterations] * len(traces)
    found = [max(trace.step, default=0) for trace in traces]
    if not all(found):
        raise UsageError(f"trace {traces[found.index(0)].id} has no steps of thinking, so none can decide its answer.")
    return found


def commitment(reasoner: Reasoner, traces: TraceSet, *, seed: int = 0) -> Commitment:
    """When the answers of these traces are decided, by forcing, by reading and by cause."""
    answers = forced_answers(reasoner, traces)
    lengths = np.array([len(each) - 1 for each in answers])
    final = np.array([trace.answer for trace in traces])
    groups = np.array([trace.problem.structure for trace in traces])
    by_trace = np.array(
        [decided_at(np.array([[a == last for a in each]]))[0] for each, last in zip(answers, final, strict=True)]
    )
    flips = _flips(reasoner, traces, by_trace, seed)
    steps, decided = [], []
    for n in np.unique(lengths):
        here = np.flatnonzero(lengths == n)
        agrees = np.array([[a == final[t] for a in answers[t]] for t in here])
        read = _read(reasoner, [traces[t] for t in here], final[here], groups[here], int(n), seed)
        for k in range(n + 1):
            low, high = grouped_mean_interval(agrees[:, k], groups[here], seed=seed)
            if answers[here[0]][k] is None:
                low = high = float("nan")
            flip = flips[(flips["steps"] == n) & (flips["step"] == k)] if len(flips) else flips
            steps.append(
                {
                    "steps": int(n),
                    "step": k,
                    "forced": agrees[:, k].mean() if answers[here[0]][k] is not None else float("nan"),
                    "ci_low": low,
                    "ci_high": high,
                    "read": read[k] if read else float("nan"),
                    "read_from_question": read[0] if read else float("nan"),
                    "flip": flip["flip"].mean() if len(flip) else float("nan"),
                    "n": len(here),
                }
            )
        low, high = grouped_mean_interval(by_trace[here], groups[here], seed=seed)
        decided.append(
            {
                "steps": int(n),
                "decided_at": by_trace[here].mean(),
                "ci_low": low,
                "ci_high": high,
                **_around(flips, here, by_trace),
                "n": len(here),
            }
        )
    table = pd.DataFrame(decided)
    return Commitment(pd.DataFrame(steps), table, by_trace, _says(flips, by_trace, groups, seed))


def _around(flips: pd.DataFrame, here: np.ndarray, by_trace: np.ndarray) -> dict[str, float]:
    """The share of answers that move when the deciding step is changed, and when a later one is."""
    if not len(flips):
        return {"flip_there": float("nan"), "flip_after": float("nan")}
    of = flips[flips["trace"].isin(here)]
    at = by_trace[of["trace"].to_numpy()]
    there, after = of[of["step"] == at], of[of["step"] > at]
    return {
        "flip_there": float(there["flip"].mean()) if len(there) else float("nan"),
        "flip_after": float(after["flip"].mean()) if len(after) else float("nan"),
    }


def _says(flips: pd.DataFrame, by_trace: np.ndarray, groups: np.ndarray, seed: int) -> str:
    after = flips[flips["step"] > by_trace[flips["trace"].to_numpy()]] if len(flips) else flips
    if len(after) < _FEWEST:
        return (
            f"no verdict on whether later thinking is post-hoc: only {len(after)} steps that come after the decision "
            "could be changed."
        )
    held = groups[after["trace"].to_numpy()]
    low, high = grouped_mean_interval(after["flip"].to_numpy(), held, seed=seed)
    said = f"changing what comes after the decision moves {after['flip'].mean():.3f} [{low:.3f}, {high:.3f}] of the answers"
    if high < _POST_HOC:
        return f"what comes after the decision is post-hoc: {said} (n = {len(after)})."
    if low > _USED:
        return f"what comes after the decision is used: {said} (n = {len(after)})."
    return f"no clear verdict: {said} (n = {len(after)})."


def _flips(reasoner: Reasoner, traces: TraceSet, by_trace: np.ndarray, seed: int) -> pd.DataFrame:
    """Every step changed once: trace, step, steps, and whether the answer moved; empty where steps cannot be changed.

    In a text whose steps hold no value that could be mistaken, the text from the deciding step on, and from the one
    after it on, is another problem's.
    """
    from interp.causal.faithfulness import mistakes
    from interp.reasoners.recurrent import RecurrentReasoner
    from interp.reasoners.text import TextReasoner

    if isinstance(reasoner, TextReasoner):
        try:
            made = mistakes(reasoner, traces, seed)
        except UsageError:
            return _foreign_ends(reasoner, traces, by_trace, seed)
        made = made[made["after"] == "own words"]
        return made.assign(flip=~made["kept"])[["trace", "step", "steps", "flip"]]
    if isinstance(reasoner, RecurrentReasoner):
        return _exchanged_states(reasoner, traces, seed)
    return pd.DataFrame()


def _foreign_ends(reasoner: Reasoner, traces: TraceSet, by_trace: np.ndarray, seed: int) -> pd.DataFrame:
    """Each text with another problem's from the deciding step on, and from the one after it on, forced as it stands."""
    from interp.causal.faithfulness import written
    from interp.causal.forcing import force

    texts, rng = [written(trace) for trace in traces], np.random.default_rng(seed)
    rows, thoughts = [], []
    for t, text in enumerate(texts):
        for step in (by_trace[t], by_trace[t] + 1):
            others = [k for k, other in enumerate(texts) if k != t and len(other.steps) >= step]
            if 1 <= step <= len(text.steps) and others:
                donor = texts[int(rng.choice(others))]
                rows.append({"trace": t, "step": int(step), "steps": len(text.steps)})
                thoughts.append([*text.first(step - 1), *donor.ids[len(donor.first(step - 1)) :]])
    if not rows:
        return pd.DataFrame()
    after = force(reasoner, [traces[row["trace"]].problem for row in rows], thoughts, batch_size=256)
    flips = [found.answer != traces[row["trace"]].answer for row, found in zip(rows, after, strict=True)]
    return pd.DataFrame(rows).assign(flip=flips)


def _exchanged_states(reasoner: RecurrentReasoner, traces: TraceSet, seed: int) -> pd.DataFrame:
    """The state after each iteration exchanged for that of a problem of other value there and as many steps."""
    from interp.reasoners.interventions import Intervention, replace_with
    from probes.subtext.latent_features import states

    at = np.array([_answering(trace) for trace in traces])
    n, rng = reasoner.config.iterations, np.random.default_rng(seed)
    frames = []
    for k in range(1, n + 1):
        address = reasoner.state_after(k)
        acts = states(reasoner, traces, at, [address.name])[address.name]
        reached = np.array([_reached(trace.problem, k) for trace in traces])
        donors = np.array([rng.choice(np.flatnonzero(reached != value)) for value in reached])
        rows = np.stack([np.arange(len(traces)), at], axis=1)
        after = reasoner.think(
            traces.problems, batch_size=256, interventions=[Intervention(address, rows, replace_with(acts[donors]))]
        )
        moved = [a.answer != b.answer for a, b in zip(after, traces, strict=True)]
        frames.append(pd.DataFrame({"trace": range(len(traces)), "step": k, "steps": n, "flip": moved}))
    return pd.concat(frames, ignore_index=True)


def _answering(trace: Trace) -> int:
    """The position whose state the first word of the answer is read from."""
    return next(k for k, channel in enumerate(trace.channel) if channel == Channel.ANSWER) - 1


def _reached(problem: Problem, k: int) -> str:
    return problem.steps[min(k, problem.n_steps) - 1].value


def _read(
    reasoner: Reasoner, traces: Sequence[Trace], final: np.ndarray, groups: np.ndarray, n: int, seed: int
) -> list[float]:
    """How often a probe, fitted on other problems, reads the final answer from the state after each step; step 0 is the
    state at the end of the question. Empty where there are too few traces for it."""
    from interp.reasoners.recurrent import RecurrentReasoner
    from probes.subtext.latent_features import states

    if len(traces) < _FEWEST or len(np.unique(final)) < 2:
        return []
    shares = []
    for k in range(n + 1):
        if isinstance(reasoner, RecurrentReasoner):
            at, address = np.array([_answering(trace) for trace in traces]), reasoner.state_after(k).name
        else:
            at, address = np.array([_end_of_step(trace, k) for trace in traces]), "ln_final.hook_out"
        acts = states(reasoner, traces, at, [address])[address]
        costs, classes = class_costs(acts, final, groups, seed=seed)
        shares.append(float((classes[costs.argmin(axis=1)] == final).mean()))
    return shares


def _end_of_step(trace: Trace, k: int) -> int:
    """The last position of step k, or of the question where k is 0."""
    if not k:
        return max(p for p, channel in enumerate(trace.channel) if channel == Channel.PROMPT)
    return max(p for p, step in enumerate(trace.step) if step <= k and trace.thought[p])
