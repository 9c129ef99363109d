"""Recurrent depth (Geiping et al., arXiv 2502.05171): the same layers applied once for each step of thought.

Measured are accuracy against iterations for every number of steps, the value read from each iteration's state, and
interchange of states: do later iterations use a state that another problem provides?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.papers.base import Organisms, PaperFigure, Section
from interp.problems import task as make_task
from interp.problems.base import Problem
from interp.runtime.progress import Progress
from interp.statistics.intervals import first_within_error, grouped_mean_interval
from interp.traces import Channel, Trace

if TYPE_CHECKING:
    from interp.reasoners.recurrent import RecurrentReasoner

SEED = 31
N, N_FULL = 300, 2000
MOST = 8
PAPER = [
    PaperFigure(
        "reasoning benchmarks against iterations, 3.5 billion parameters, with input injection",
        "scores improve up to a computation load equivalent to 50 billion parameters",
        "Geiping et al., arXiv 2502.05171, abstract",
    )
]


@dataclass(frozen=True)
class Depths:
    """Right answers by number of steps; `right[n_steps]` is iterations x problems."""

    right: dict[int, np.ndarray]
    problems: dict[int, list[Problem]]

    def accuracy(self, n_steps: int) -> list[float]:
        """Return the accuracy after each number of iterations."""
        return [float(answers.mean()) for answers in self.right[n_steps]]

    def peak(self, n_steps: int) -> int:
        """Return the fewest iterations whose accuracy is within one standard error of the best."""
        return peak(self.accuracy(n_steps), self.right[n_steps].shape[1])


def peak(accuracies: Sequence[float], n: int) -> int:
    """Return the fewest iterations, from 1, whose accuracy on `n` problems is within one standard error of the best."""
    return first_within_error(accuracies, [n] * len(accuracies)) + 1


def share_at_hops(peaks: dict[int, int], within: int = 1) -> float:
    """Return the fraction of step counts whose peak is within so many iterations of the steps needed."""
    return float(np.mean([abs(best - hops) <= within for hops, best in peaks.items()]))


def problems_of(reasoner: RecurrentReasoner, n: int, split: str) -> dict[int, list[Problem]]:
    """Return `n` problems for every number of steps."""
    lengths = range(reasoner.task.min_steps, reasoner.task.max_steps + 1)
    return {k: make_task("chain", steps=k).generate(n, seed=SEED, split=split) for k in lengths}  # type: ignore[arg-type]


def depths(
    reasoner: RecurrentReasoner, problems: dict[int, list[Problem]], progress: Progress, iterations: int = MOST
) -> Depths:
    """Solve the problems with 1 to `iterations` iterations of the same weights."""
    right: dict[int, list[list[bool]]] = {k: [] for k in problems}
    for r in range(1, iterations + 1):
        deep = reasoner.with_iterations(r)
        for k, of_length in problems.items():
            right[k].append([trace.correct for trace in deep.think(of_length, batch_size=300)])
        progress(r, iterations + 4)
    return Depths({k: np.array(answers) for k, answers in right.items()}, problems)


def states(reasoner: RecurrentReasoner, traces: Sequence[Trace]) -> np.ndarray:
    """Return the state after each iteration where the answer is read, iterations x traces x d_model."""
    at = [answer_position(trace) for trace in traces]
    by_iteration = np.zeros((reasoner.config.iterations, len(traces), reasoner.model.cfg.d_model), np.float32)

    def keep(k: int) -> Any:
        def hook(activations: Any, batch: Any) -> None:
            for b, t in enumerate(batch.traces.tolist()):
                by_iteration[k, t] = activations[b, at[t]].float().cpu().numpy()

        return hook

    hooks = {reasoner.state_after(k + 1).name: keep(k) for k in range(reasoner.config.iterations)}
    reasoner.replay(traces, hooks=hooks, batch_size=300)
    return by_iteration


def answer_position(trace: Trace) -> int:
    """Return the position at which the answer is read: the last marker."""
    return max(k for k, channel in enumerate(trace.channel) if channel == Channel.SPECIAL)


def read_values(reasoner: RecurrentReasoner, untrained: RecurrentReasoner, n: int) -> pd.DataFrame:
    """Read value k from the state after iteration k and after the one before, by probe and logit lens.

    Probes are fitted on the validation split and scored on the test split. The address is fixed, so nothing is selected.
    """
    from probes.estimators.linear import RidgeProbe

    fit, held = (_mixed(problems_of(reasoner, n, split)) for split in ("val", "test"))
    ours = [states(reasoner, reasoner.think(problems, batch_size=300)) for problems in (fit, held)]
    baseline = [states(untrained, untrained.think(problems, batch_size=300)) for problems in (fit, held)]
    rows = []
    for k in range(1, reasoner.task.max_steps + 1):
        train, test = (np.array([p.n_steps >= k for p in problems]) for problems in (fit, held))
        labels = [np.array([p.steps[k - 1].value for p in problems if p.n_steps >= k]) for problems in (fit, held)]

        def probe(parts: list[np.ndarray], at: int, train: Any = train, test: Any = test, y: Any = labels) -> float:
            fitted = RidgeProbe().fit(parts[0][at - 1][train], y[0])
            return float((fitted.predict(parts[1][at - 1][test]) == y[1]).mean())

        lens = _lens(reasoner, ours[1][k - 1][test]) == labels[1]
        rows.append(
            {
                "value after step": k,
                "probe, iteration k": probe(ours, k),
                "probe, iteration k - 1": probe(ours, k - 1) if k > 1 else None,
                "probe, iteration k, untrained": probe(baseline, k),
                "logit lens, iteration k": float(lens.mean()),
                "n": int(test.sum()),
            }
        )
    return pd.DataFrame(rows)


def _mixed(problems: dict[int, list[Problem]]) -> list[Problem]:
    """Return all problems in one list."""
    return [problem for of_length in problems.values() for problem in of_length]


def _lens(reasoner: RecurrentReasoner, states: np.ndarray) -> np.ndarray:
    """Return the logit lens's first word at each state."""
    import torch

    with torch.no_grad():
        state = torch.as_tensor(states, device=reasoner.device)
        ids = reasoner.unembed(reasoner.base.ln_f(state)).argmax(-1)
    return np.array(reasoner.tokenizer.convert_ids_to_tokens(ids.tolist()))


def swap_states(reasoner: RecurrentReasoner, problems: dict[int, list[Problem]]) -> pd.DataFrame:
    """Replace the state after iteration k by another problem's, where the answer is read or at the question's end.

    Column `follows` is how often the answer becomes the one that the donor's value after step k implies. Where the
    donor's value is the same, that is how often the answer stays.
    """
    from interp.reasoners.interventions import Intervention, replace_with

    rows = []
    for k in range(1, max(problems)):
        longer = [problem for n_steps, of_length in problems.items() if n_steps > k for problem in of_length]
        traces = reasoner.think(longer, batch_size=300)
        donor_states = states(reasoner, traces)[k - 1]
        donors = _donors([problem.n_steps for problem in longer])
        same = np.array([longer[a].steps[k - 1].value == longer[b].steps[k - 1].value for a, b in enumerate(donors)])
        implied = [
            reasoner.task.counterfactual(p, k, longer[b].steps[k - 1].value)
            for p, b in zip(longer, donors, strict=True)
        ]
        right = np.array([trace.correct for trace in traces])
        both_right = right & right[donors]
        groups = np.array([problem.structure for problem in longer])
        for place, back in (("answering position", 0), ("end of the question", 2)):
            at = np.array([(t, answer_position(trace) - back) for t, trace in enumerate(traces)])
            edit = Intervention(reasoner.state_after(k), at, replace_with(donor_states[donors]))
            after = reasoner.think(longer, interventions=[edit], batch_size=300)
            follows = np.array([trace.answer == target for trace, target in zip(after, implied, strict=True)])
            for donor, mask in (("other value", both_right & ~same), ("same value", both_right & same)):
                low, high = grouped_mean_interval(follows[mask], groups[mask])
                share = float(follows[mask].mean()) if mask.any() else float("nan")
                rows.append(
                    {
                        "after iteration": k,
                        "put in at": place,
                        "donor": donor,
                        "follows": share,
                        "95 %": [low, high],
                        "n": int(mask.sum()),
                    }
                )
    return pd.DataFrame(rows)


def _donors(n_steps: Sequence[int]) -> np.ndarray:
    """Return, for each problem, another one with the same number of steps."""
    donors = np.arange(len(n_steps))
    for k in set(n_steps):
        rows = np.flatnonzero(np.asarray(n_steps) == k)
        donors[rows] = np.roll(rows, 1)
    return donors


def measure(progress: Progress, full: bool, organisms: Organisms) -> Section:
    """Measure accuracy against iterations, values read after each iteration, and interchange of states."""
    from interp.loading.load import random_init
    from interp.reasoners.recurrent import RecurrentReasoner

    n = N_FULL if full else N
    reasoner = organisms.load("chain-recurrent")
    assert isinstance(reasoner, RecurrentReasoner)
    untrained = random_init(reasoner)
    assert isinstance(untrained, RecurrentReasoner)
    problems = problems_of(reasoner, n, "test")
    ours = depths(reasoner, problems, progress)
    control = depths(untrained, {k: of_length[:200] for k, of_length in problems.items()}, lambda done, total: None)
    progress(MOST + 1, MOST + 4)
    section = Section("recurrent", "Recurrent depth: one iteration, one step", paper=PAPER)
    section.tables["Accuracy against iterations, held-out problems"] = _accuracies(ours)
    section.tables["Value k read where the answer is read"] = read_values(reasoner, untrained, n)
    progress(MOST + 3, MOST + 4)
    section.tables["Another problem's state after iteration k"] = swap_states(reasoner, problems)
    progress(MOST + 4, MOST + 4)
    section.measures = _measures(ours, control)
    section.notes = _notes(reasoner, ours)
    return section


def _accuracies(ours: Depths) -> pd.DataFrame:
    """Return one row for each number of steps."""
    return pd.DataFrame(
        [
            {"steps": k, **{f"{r} it.": a for r, a in enumerate(ours.accuracy(k), 1)}, "peak at": ours.peak(k)}
            | {"n": len(ours.problems[k])}
            for k in ours.right
        ]
    )


def _measures(ours: Depths, control: Depths) -> dict[str, dict[str, Any]]:
    peaks = {k: ours.peak(k) for k in ours.right}
    at_peak = ", ".join(f"{k} steps: {peaks[k]} (accuracy {max(ours.accuracy(k)):.3f})" for k in peaks)
    best = max(max(control.accuracy(k)) for k in control.right)
    return {
        "papers.recurrent.peak_at_hops": {
            "value": share_at_hops(peaks),
            "n": len(peaks),
            "note": f"peak = fewest iterations within one standard error of the best; {at_peak}; exactly at the "
            f"steps needed: {share_at_hops(peaks, within=0):.2f}; best accuracy untrained {best:.3f}",
        }
    }


def _notes(reasoner: RecurrentReasoner, ours: Depths) -> list[str]:
    trained = reasoner.config.iterations
    one_too_few = {k: ours.accuracy(k)[k - 2] for k in ours.right if k > 1}
    beyond = {k: min(ours.accuracy(k)[trained:]) for k in ours.right}
    return [
        "One iteration too few gives accuracies of "
        + ", ".join(f"{value:.3f} ({k} steps)" for k, value in one_too_few.items())
        + "; chance is 0.1.",
        f"Trained with up to {trained} iterations; with up to {MOST}, the worst accuracy is "
        + ", ".join(f"{value:.3f} ({k} steps)" for k, value in beyond.items())
        + ".",
        "Every iteration was trained on its value (deep supervision), and there is no input injection. So this is a "
        "looped transformer with known contents, not a model that learned depth recurrence without supervision.",
    ]
