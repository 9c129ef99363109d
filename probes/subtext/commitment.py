"""Commitment: at which step of its thinking is a reasoner's answer decided, and does later thinking still matter?

Three tests, step by step. *Forced*: the thought is cut off after k steps and the reasoner must answer (Lanham et al.,
arXiv 2307.13702); the answer is decided at the first step from which on it is always the final one. *Read*: a probe on
the state at step k predicts the final answer, compared with the same probe on the state before thinking. *Caused*: step k is
changed, and the answer moves or not; where it no longer moves, later thinking is post-hoc.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from interp.errors import UsageError, counted
from interp.problems import task as make_task
from interp.statistics.estimates import Estimate
from interp.traces import Trace, TraceSet
from probes.subtext.readers import class_costs

if TYPE_CHECKING:
    from interp.causal.visible_text.edits import MistakesResult
    from interp.models.address import Address
    from interp.problems.base import Problem
    from interp.reasoners.base import Reasoner

_MIN_TRACES = 60  # traces of one length below which no probe is fitted
_POST_HOC, _USED = 0.1, 0.5


@dataclass(frozen=True)
class Commitment:
    """When answers are decided.

    Attributes:
        steps: One row for each number of steps and step: the share of forced and of read answers that are the final
            one, the interval of the forced share, what the state before thinking gives (`read_from_question`), and the
            share of answers that move when that step is changed (`flip`, NaN where steps cannot be changed).
        decided: One row for each number of steps: the mean deciding step with its interval, and the flip rate there and
            after it.
        by_trace: The deciding step of each trace.
        verdict: The verdict on later thinking, in words.
        left_out: Steps of a text into which no mistake could be put; None where steps are not changed by mistakes.
        left_out_share: Their share of all steps.
    """

    steps: pd.DataFrame
    decided: pd.DataFrame
    by_trace: Int[np.ndarray, " traces"]
    verdict: str
    left_out: int | None = None
    left_out_share: float | None = None


def deciding_steps(agrees: Bool[np.ndarray, "traces steps"]) -> Int[np.ndarray, " traces"]:
    """Return the first step, from 0, from which on all of a trace's forced answers are the final one.

    Args:
        agrees: Whether each forced answer is the final one, shape (traces, steps). The last step counts as agreeing.
    """
    agrees = agrees.copy()
    agrees[:, -1] = True
    kept = np.logical_and.accumulate(agrees[:, ::-1], axis=1)[:, ::-1]
    return kept.argmax(axis=1)


def forced_answers(reasoner: Reasoner, traces: TraceSet) -> list[list[str | None]]:
    """Return for each trace the answers given after 0, 1, … steps of thinking.

    Text is cut off; a recurrent reasoner is iterated less; a silent reasoner thinks as if its problem had fewer steps.

    Args:
        reasoner: The reasoner that wrote the traces.
        traces: Its traces.

    Returns:
        Answers by trace and step; None where the reasoner cannot answer after so few steps.

    Raises:
        UsageError: The reasoner has no steps that could be left out.
    """
    from interp.causal.visible_text.edits import early_answers

    n_steps = _steps_of(reasoner, traces)
    by_step: list[Sequence[Trace] | None] = [None]
    if reasoner.thinks_in_text:
        by_step = list(early_answers(reasoner, traces))
    else:
        by_step += [reasoner.think_steps(traces.problems, k, batch_size=256) for k in range(1, max(n_steps) + 1)]
    task = make_task(traces[0].problem.task)
    return [
        [None if cut is None else task.stated(cut[t].problem, cut[t].answer) for cut in by_step[: n + 1]]
        for t, n in enumerate(n_steps)
    ]


def _steps_of(reasoner: Reasoner, traces: Sequence[Trace]) -> list[int]:
    """Return how many steps of thinking each trace has."""
    n_steps = [reasoner.steps.count(trace) for trace in traces]
    if not all(n_steps):
        raise UsageError(
            f"expected steps of thinking in every trace, got none in trace {traces[n_steps.index(0)].id}; leave it out."
        )
    return n_steps


def commitment(reasoner: Reasoner, traces: TraceSet, *, seed: int = 0) -> Commitment:
    """Return when the answers of these traces are decided: by forcing, by reading and by cause.

    Args:
        reasoner: The reasoner that wrote the traces.
        traces: Its traces.
        seed: Seed of probes, changed steps and bootstrap.

    Raises:
        UsageError: The reasoner has no steps that could be left out, or a trace has none.

    References:
        Lanham et al. 2023, arXiv 2307.13702 (early answering).
    """
    answers = forced_answers(reasoner, traces)
    lengths = np.array([len(row) - 1 for row in answers])
    task = make_task(traces[0].problem.task)
    final = np.array([task.stated(trace.problem, trace.answer) for trace in traces])
    groups = np.array([trace.problem.structure for trace in traces])
    by_trace = np.array(
        [
            deciding_steps(np.array([[answer == last for answer in row]]))[0]
            for row, last in zip(answers, final, strict=True)
        ]
    )
    flips, mistaken = _flips(reasoner, traces, by_trace, seed)
    steps, decided = [], []
    for n in np.unique(lengths):
        rows = np.flatnonzero(lengths == n)
        agrees = np.array([[answer == final[t] for answer in answers[t]] for t in rows])
        read = _read_shares(reasoner, [traces[t] for t in rows], final[rows], groups[rows], int(n), seed)
        for k in range(n + 1):
            forced = Estimate.of_mean(agrees[:, k], groups[rows], seed=seed)
            if answers[rows[0]][k] is None:
                forced = Estimate(float("nan"), float("nan"), float("nan"), len(rows))
            flip = flips[(flips["steps"] == n) & (flips["step"] == k)] if len(flips) else flips
            steps.append(
                {
                    "steps": int(n),
                    "step": k,
                    "forced": forced.value,
                    "ci_low": forced.low,
                    "ci_high": forced.high,
                    "read": read[k] if read else float("nan"),
                    "read_from_question": read[0] if read else float("nan"),
                    "flip": flip["flip"].mean() if len(flip) else float("nan"),
                    "n": len(rows),
                }
            )
        step = Estimate.of_mean(by_trace[rows], groups[rows], seed=seed)
        decided.append(
            {
                "steps": int(n),
                "decided_at": step.value,
                "ci_low": step.low,
                "ci_high": step.high,
                **_flips_around(flips, rows, by_trace),
                "n": len(rows),
            }
        )
    verdict, tables = _verdict(flips, by_trace, groups, seed), (pd.DataFrame(steps), pd.DataFrame(decided))
    if mistaken is None:
        return Commitment(*tables, by_trace, verdict)
    if mistaken.left_out:
        verdict = f"{verdict} {mistaken.sentence().capitalize()}"
    return Commitment(*tables, by_trace, verdict, mistaken.left_out, mistaken.left_out_share)


def _flips_around(flips: pd.DataFrame, rows: np.ndarray, by_trace: np.ndarray) -> dict[str, float]:
    """Return the share of answers that move when the deciding step is changed, and when a later one is."""
    if not len(flips):
        return {"flip_there": float("nan"), "flip_after": float("nan")}
    changed = flips[flips["trace"].isin(rows)]
    deciding = by_trace[changed["trace"].to_numpy()]
    at_decision, later = changed[changed["step"] == deciding], changed[changed["step"] > deciding]
    return {
        "flip_there": float(at_decision["flip"].mean()) if len(at_decision) else float("nan"),
        "flip_after": float(later["flip"].mean()) if len(later) else float("nan"),
    }


def _verdict(flips: pd.DataFrame, by_trace: np.ndarray, groups: np.ndarray, seed: int) -> str:
    after = flips[flips["step"] > by_trace[flips["trace"].to_numpy()]] if len(flips) else flips
    if len(after) < _MIN_TRACES:
        return (
            f"no verdict on whether later thinking is post-hoc: only {counted(len(after), 'step')} after the decision could be "
            f"changed, and {_MIN_TRACES} are needed."
        )
    moved = Estimate.of_mean(after["flip"].to_numpy(), groups[after["trace"].to_numpy()], seed=seed)
    figure = f"changing what comes after the decision moves {moved} of the answers (n = {moved.n})"
    if moved.high < _POST_HOC:
        return f"what comes after the decision is post-hoc: {figure}."
    if moved.low > _USED:
        return f"what comes after the decision is used: {figure}."
    return f"no clear verdict: {figure}."


def _flips(
    reasoner: Reasoner, traces: TraceSet, by_trace: np.ndarray, seed: int
) -> tuple[pd.DataFrame, MistakesResult | None]:
    """Change every step once; return trace, step, steps, and whether the answer moved, and the mistakes of a text.

    In a text whose steps hold no value to falsify, the text from the deciding step on, and from the one after it on, is
    replaced by another problem's. The table is empty where steps cannot be changed.
    """
    from interp.causal.visible_text.edits import mistakes

    if reasoner.thinks_in_text:
        try:
            mistaken = mistakes(reasoner, traces, seed)
        except UsageError:
            return _foreign_ends(reasoner, traces, by_trace, seed), None
        changed = mistaken.table[mistaken.table["after"] == "own words"]
        return changed.assign(flip=~changed["kept"])[["trace", "step", "steps", "flip"]], mistaken
    addresses = reasoner.steps.iteration_addresses()
    return (_exchanged_states(reasoner, addresses, traces, seed) if addresses else pd.DataFrame()), None


def _foreign_ends(reasoner: Reasoner, traces: TraceSet, by_trace: np.ndarray, seed: int) -> pd.DataFrame:
    """Replace the end of each text, from the deciding step or the one after it, by another problem's, and force it."""
    from interp.causal.visible_text.edits import visible_thought
    from interp.causal.visible_text.forcing import force

    texts, rng = [visible_thought(trace, reasoner.tokenizer) for trace in traces], np.random.default_rng(seed)
    records, thoughts = [], []
    for t, text in enumerate(texts):
        for step in (by_trace[t], by_trace[t] + 1):
            others = [k for k, other in enumerate(texts) if k != t and len(other.steps) >= step]
            if 1 <= step <= len(text.steps) and others:
                donor = texts[int(rng.choice(others))]
                records.append({"trace": t, "step": int(step), "steps": len(text.steps)})
                thoughts.append([*text.first(step - 1), *donor.ids[len(donor.first(step - 1)) :]])
    if not records:
        return pd.DataFrame()
    after = force(reasoner, [traces[record["trace"]].problem for record in records], thoughts, batch_size=256)
    flips = [_is_changed(new, traces[record["trace"]]) for record, new in zip(records, after, strict=True)]
    return pd.DataFrame(records).assign(flip=flips)


def _is_changed(new: Trace, old: Trace) -> bool:
    return not make_task(old.problem.task).same_answer(old.problem, new.answer, old.answer)


def _exchanged_states(reasoner: Reasoner, addresses: Sequence[Address], traces: TraceSet, seed: int) -> pd.DataFrame:
    """Exchange the content of the state after each iteration for that of a problem with another value there."""
    from interp.causal.patching.positions import in_place, position_parts
    from interp.causal.patching.states import contents
    from interp.reasoners.interventions import Intervention, replace_with

    positions = np.array([reasoner.steps.location(trace, 0)[1] for trace in traces])
    n, rng = len(addresses), np.random.default_rng(seed)
    rows = np.stack([np.arange(len(traces)), positions], axis=1)
    tables = []
    for k, address in enumerate(addresses, 1):
        reached = np.array([_value_at(trace.problem, k) for trace in traces])
        donors = np.array([rng.choice(np.flatnonzero(reached != value)) for value in reached])
        # Questions differ in length, and what a position adds says where the donor's ends.
        given = contents(reasoner, traces, address, rows[donors])
        edit = in_place(replace_with(given), position_parts(reasoner, traces, address, rows))
        after = reasoner.think(traces.problems, batch_size=256, interventions=[Intervention(address, rows, edit)])
        moved = [_is_changed(new, old) for new, old in zip(after, traces, strict=True)]
        tables.append(pd.DataFrame({"trace": range(len(traces)), "step": k, "steps": n, "flip": moved}))
    return pd.concat(tables, ignore_index=True)


def _value_at(problem: Problem, k: int) -> str:
    return problem.steps[min(k, problem.n_steps) - 1].value


def _read_shares(
    reasoner: Reasoner, traces: Sequence[Trace], final: np.ndarray, groups: np.ndarray, n: int, seed: int
) -> list[float]:
    """Return how often a probe, fitted on other problems, reads the final answer from the state after each step.

    Step 0 is the state at the end of the question. Empty where there are too few traces.
    """
    from probes.subtext.latent_features import states

    if len(traces) < _MIN_TRACES or len(np.unique(final)) < 2:
        return []
    shares = []
    for k in range(n + 1):
        locations = [reasoner.steps.location(trace, k) for trace in traces]
        address, positions = locations[0][0].name, np.array([position for _, position in locations])
        acts = states(reasoner, traces, positions, [address])[address]
        costs, classes = class_costs(acts, final, groups, seed=seed)
        shares.append(float((classes[costs.argmin(axis=1)] == final).mean()))
    return shares
