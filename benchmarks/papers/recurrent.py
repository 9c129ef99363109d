"""Recurrent depth (Geiping et al., arXiv 2502.05171): the same layers again and again, one step of thought each time.

Accuracy against iterations for every number of steps, what each iteration's state says, and whether a state that is
put in its place is what the later iterations work on.
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
    """Right answers by number of steps, iterations and problem: `right[n_steps]` is iterations x problems."""

    right: dict[int, np.ndarray]
    problems: dict[int, list[Problem]]

    def accuracy(self, n_steps: int) -> list[float]:
        return [float(each.mean()) for each in self.right[n_steps]]

    def peak(self, n_steps: int) -> int:
        """The fewest iterations whose accuracy lies within one standard error of the best."""
        return peak(self.accuracy(n_steps), self.right[n_steps].shape[1])


def peak(accuracies: Sequence[float], n: int) -> int:
    """The number of iterations, from 1, at which accuracy peaks: the fewest within one standard error of the best."""
    return first_within_error(accuracies, [n] * len(accuracies)) + 1


def share_at_hops(peaks: dict[int, int], within: int = 1) -> float:
    """The share of step counts whose peak lies within so many iterations of the steps needed."""
    return float(np.mean([abs(found - hops) <= within for hops, found in peaks.items()]))


def problems_of(reasoner: RecurrentReasoner, n: int, split: str) -> dict[int, list[Problem]]:
    """So many problems for every number of steps, by number of steps."""
    lengths = range(reasoner.task.min_steps, reasoner.task.max_steps + 1)
    return {k: make_task("chain", steps=k).generate(n, seed=SEED, split=split) for k in lengths}  # type: ignore[arg-type]


def depths(
    reasoner: RecurrentReasoner, problems: dict[int, list[Problem]], progress: Progress, iterations: int = MOST
) -> Depths:
    """Let the same weights think with 1 to `iterations` iterations."""
    right: dict[int, list[list[bool]]] = {k: [] for k in problems}
    for r in range(1, iterations + 1):
        deep = reasoner.with_iterations(r)
        for k, of_length in problems.items():
            right[k].append([trace.correct for trace in deep.think(of_length, batch_size=300)])
        progress(r, iterations + 4)
    return Depths({k: np.array(each) for k, each in right.items()}, problems)


def states(reasoner: RecurrentReasoner, traces: Sequence[Trace]) -> np.ndarray:
    """The state after each iteration where the answer is read: iterations x traces x d_model."""
    at = [answering(trace) for trace in traces]
    found = np.zeros((reasoner.config.iterations, len(traces), reasoner.model.cfg.d_model), np.float32)

    def keep(k: int) -> Any:
        def hook(activations: Any, batch: Any) -> None:
            for b, t in enumerate(batch.traces.tolist()):
                found[k, t] = activations[b, at[t]].float().cpu().numpy()

        return hook

    hooks = {reasoner.state_after(k + 1).name: keep(k) for k in range(reasoner.config.iterations)}
    reasoner.replay(traces, hooks=hooks, batch_size=300)
    return found


def answering(trace: Trace) -> int:
    """The position at which the answer is read: the last marker."""
    return max(k for k, channel in enumerate(trace.channel) if channel == Channel.SPECIAL)


def decoded(reasoner: RecurrentReasoner, untrained: RecurrentReasoner, n: int) -> pd.DataFrame:
    """Value k read from the state after iteration k and from the one before it, held out, by probe and logit lens.

    Probes are fitted on the validation split. The site is given by the question, so nothing is selected.
    """
    from probes.estimators.linear import RidgeProbe

    fit, held = (_mixed(problems_of(reasoner, n, split)) for split in ("val", "test"))
    ours = [states(reasoner, reasoner.think(each, batch_size=300)) for each in (fit, held)]
    blank = [states(untrained, untrained.think(each, batch_size=300)) for each in (fit, held)]
    rows = []
    for k in range(1, reasoner.task.max_steps + 1):
        train, test = (np.array([p.n_steps >= k for p in each]) for each in (fit, held))
        labels = [np.array([p.steps[k - 1].value for p in each if p.n_steps >= k]) for each in (fit, held)]

        def probe(found: list[np.ndarray], at: int, train: Any = train, test: Any = test, y: Any = labels) -> float:
            fitted = RidgeProbe().fit(found[0][at - 1][train], y[0])
            return float((fitted.predict(found[1][at - 1][test]) == y[1]).mean())

        lens = _lens(reasoner, ours[1][k - 1][test]) == labels[1]
        rows.append(
            {
                "value after step": k,
                "probe, iteration k": probe(ours, k),
                "probe, iteration k - 1": probe(ours, k - 1) if k > 1 else None,
                "probe, iteration k, untrained": probe(blank, k),
                "logit lens, iteration k": float(lens.mean()),
                "n": int(test.sum()),
            }
        )
    return pd.DataFrame(rows)


def _mixed(problems: dict[int, list[Problem]]) -> list[Problem]:
    return [problem for each in problems.values() for problem in each]


def _lens(reasoner: RecurrentReasoner, found: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        state = torch.as_tensor(found, device=reasoner.device)
        ids = reasoner.unembed(reasoner.base.ln_f(state)).argmax(-1)
    return np.array(reasoner.tokenizer.convert_ids_to_tokens(ids.tolist()))


def swapped(reasoner: RecurrentReasoner, problems: dict[int, list[Problem]]) -> pd.DataFrame:
    """Put another problem's state after iteration k in place, at the answering position and at the one before the markers.

    `follows` is how often the answer becomes what the donor's value after step k implies for the problem's later
    steps; where the donor's value is the same, that is how often the answer stays.
    """
    from interp.reasoners.interventions import Intervention, replace_with

    rows = []
    for k in range(1, max(problems)):
        ours = [problem for n_steps, each in problems.items() if n_steps > k for problem in each]
        traces = reasoner.think(ours, batch_size=300)
        found = states(reasoner, traces)[k - 1]
        donors = _donors([problem.n_steps for problem in ours])
        same = np.array([ours[a].steps[k - 1].value == ours[b].steps[k - 1].value for a, b in enumerate(donors)])
        implied = [
            reasoner.task.counterfactual(p, k, ours[b].steps[k - 1].value) for p, b in zip(ours, donors, strict=True)
        ]
        right = np.array([trace.correct for trace in traces])
        kept = right & right[donors]
        groups = np.array([problem.structure for problem in ours])
        for site, back in (("answering position", 0), ("end of the question", 2)):
            at = np.array([(t, answering(trace) - back) for t, trace in enumerate(traces)])
            edit = Intervention(reasoner.state_after(k), at, replace_with(found[donors]))
            after = reasoner.think(ours, interventions=[edit], batch_size=300)
            follows = np.array([trace.answer == wanted for trace, wanted in zip(after, implied, strict=True)])
            for kind, chosen in (("other value", kept & ~same), ("same value", kept & same)):
                low, high = grouped_mean_interval(follows[chosen], groups[chosen])
                share = float(follows[chosen].mean()) if chosen.any() else float("nan")
                rows.append(
                    {
                        "after iteration": k,
                        "put in at": site,
                        "donor": kind,
                        "follows": share,
                        "95 %": [low, high],
                        "n": int(chosen.sum()),
                    }
                )
    return pd.DataFrame(rows)


def _donors(n_steps: Sequence[int]) -> np.ndarray:
    """For each problem, another one of as many steps."""
    donors = np.arange(len(n_steps))
    for k in set(n_steps):
        here = np.flatnonzero(np.asarray(n_steps) == k)
        donors[here] = np.roll(here, 1)
    return donors


def measure(progress: Progress, full: bool, organisms: Organisms) -> Section:
    """Accuracy against iterations, per-iteration decoding, and interchange of states."""
    from interp.loading.load import random_init
    from interp.reasoners.recurrent import RecurrentReasoner

    n = N_FULL if full else N
    reasoner = organisms.load("chain-recurrent")
    assert isinstance(reasoner, RecurrentReasoner)
    untrained = random_init(reasoner)
    assert isinstance(untrained, RecurrentReasoner)
    problems = problems_of(reasoner, n, "test")
    found = depths(reasoner, problems, progress)
    control = depths(untrained, {k: each[:200] for k, each in problems.items()}, lambda done, total: None)
    progress(MOST + 1, MOST + 4)
    section = Section("recurrent", "Recurrent depth: one iteration, one step", paper=PAPER)
    section.tables["Accuracy against iterations, held-out problems"] = _accuracies(found)
    section.tables["Value k read where the answer is read"] = decoded(reasoner, untrained, n)
    progress(MOST + 3, MOST + 4)
    section.tables["Another problem's state after iteration k"] = swapped(reasoner, problems)
    progress(MOST + 4, MOST + 4)
    section.measures = _measures(found, control)
    section.notes = _notes(reasoner, found)
    return section


def _accuracies(found: Depths) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"steps": k, **{f"{r} it.": a for r, a in enumerate(found.accuracy(k), 1)}, "peak at": found.peak(k)}
            | {"n": len(found.problems[k])}
            for k in found.right
        ]
    )


def _measures(found: Depths, control: Depths) -> dict[str, dict[str, Any]]:
    peaks = {k: found.peak(k) for k in found.right}
    at_peak = ", ".join(f"{k} steps: {peaks[k]} (accuracy {max(found.accuracy(k)):.3f})" for k in peaks)
    best = max(max(control.accuracy(k)) for k in control.right)
    return {
        "papers.recurrent.peak_at_hops": {
            "value": share_at_hops(peaks),
            "n": len(peaks),
            "note": f"peak = fewest iterations within one standard error of the best; {at_peak}; exactly at the "
            f"steps needed: {share_at_hops(peaks, within=0):.2f}; best accuracy untrained {best:.3f}",
        }
    }


def _notes(reasoner: RecurrentReasoner, found: Depths) -> list[str]:
    taught = reasoner.config.iterations
    short = {k: found.accuracy(k)[k - 2] for k in found.right if k > 1}
    beyond = {k: min(found.accuracy(k)[taught:]) for k in found.right}
    return [
        "One iteration too few gives accuracies of "
        + ", ".join(f"{value:.3f} ({k} steps)" for k, value in short.items())
        + "; chance is 0.1.",
        f"Trained with up to {taught} iterations; with up to {MOST}, the worst accuracy is "
        + ", ".join(f"{value:.3f} ({k} steps)" for k, value in beyond.items())
        + ".",
        "Every iteration was taught its value (deep supervision), and there is no input injection: this is a looped "
        "transformer with known contents, not a model that found depth recurrence by itself.",
    ]
