"""Supervised thoughts: how often a monitor fires, what its injections change, and what controls change.

Everything is compared with the same problems without the monitor. Two controls inject as often, into the same traces:
*other content* at the same places (a random direction of the vector's length, other words in place of the text), and
the same content at *other places* of the same thoughts, drawn at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from interp.causal.patching.patch import match_norms
from interp.errors import UsageError
from interp.problems import task as make_task
from interp.reasoners.monitor import Monitor
from interp.runtime.progress import Progress
from interp.statistics.estimates import Estimate
from interp.traces import Trace, TraceSet

if TYPE_CHECKING:
    from interp.problems.base import Problem
    from interp.reasoners import Reasoner

_FEWEST = 20  # problems in which the monitor fired, below which nothing is compared
MONITOR, CONTENT, PLACE = "monitor", "other content", "other place"


@dataclass(frozen=True)
class SupervisionResult:
    """Answers with and without a monitor.

    Attributes:
        traces: The traces under the monitor.
        undisturbed: The same problems without it.
        table: A row for the monitor and each control: arm, fired (share of problems in which it fired), injected
            (number of injections), changed (share of answers that changed where it fired), changed_elsewhere,
            accuracy, accuracy_before, n_fired, n, and grouped 95 % intervals.
        beyond: For each control, how much more answers changed under the monitor, over the problems in which both
            fired.
        verdict: The result in one sentence.
    """

    traces: TraceSet
    undisturbed: TraceSet
    table: pd.DataFrame
    beyond: dict[str, Estimate]
    verdict: str


def supervise(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    monitor: Monitor,
    *,
    places: Sequence[str] = (),
    seed: int = 0,
    batch_size: int = 256,
    temperature: float = 0.0,
    progress: Progress | None = None,
) -> SupervisionResult:
    """Think with and without a monitor, and with its controls where it injects.

    Args:
        reasoner: The reasoner that is watched.
        problems: The problems.
        monitor: Scores each thought and injects past its threshold.
        places: Watch only these places, such as `thought 2`. Default: every thought.
        seed: Seed of sampling and of the controls.
        batch_size: Problems that are thought about at once.
        temperature: 0 is greedy.
        progress: Called with (arms done, arms in all).

    Returns:
        The traces, the table of arms and the comparison with each control.

    Raises:
        UsageError: No trace has such a place.
    """

    def think(monitors: Sequence[Monitor]) -> TraceSet:
        return reasoner.think(problems, batch_size=batch_size, seed=seed, temperature=temperature, monitors=monitors)

    before = think([])
    if places:
        monitor = replace(monitor, only=_positions(before, monitor, places))
    arms = {MONITOR: think([monitor])}
    if progress:
        progress(1, 3)
    fired = {k: [event["position"] for event in trace.events] for k, trace in enumerate(arms[MONITOR])}
    if (monitor.text is not None or monitor.vector is not None) and any(fired.values()):
        arms[CONTENT] = think([_other_content(reasoner, monitor, seed)])
        if progress:
            progress(2, 3)
        elsewhere = _elsewhere(_positions(before, monitor), fired, seed)
        arms[PLACE] = think([replace(monitor, score=_always, threshold=0.5, only=elsewhere)])
    table = pd.DataFrame([_row(name, traces, before) for name, traces in arms.items()])
    beyond = {name: _beyond(arms[MONITOR], arms[name], before) for name in arms if name != MONITOR}
    return SupervisionResult(arms[MONITOR], before, table, beyond, _sentence(table, beyond))


def _positions(traces: TraceSet, monitor: Monitor, places: Sequence[str] = ()) -> dict[int, list[int]]:
    """Return the positions of each trace that a monitor may watch, only those at `places` where any are given."""
    positions = {}
    for k, trace in enumerate(traces):
        names = trace.places if places else [""] * len(trace)
        positions[k] = [
            n
            for n, channel in enumerate(trace.channel)
            if channel in monitor.channels and (not places or names[n] in places)
        ]
    if not any(positions.values()):
        known = sorted({n for t in traces for n, c in zip(t.places, t.channel, strict=True) if c in monitor.channels})
        raise UsageError(
            f"there is nothing to watch at {', '.join(places) or 'any thought'}. "
            f"Places of these thoughts: {', '.join(known) or 'none; this reasoner does not think'}."
        )
    return positions


def _always(activations: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(activations), device=activations.device)


def _elsewhere(thoughts: dict[int, list[int]], fired: dict[int, list[int]], seed: int) -> dict[int, list[int]]:
    """Return as many other positions of each trace as it fired at, or all others where there are fewer."""
    rng = Random(seed)
    elsewhere = {}
    for k, positions in fired.items():
        others = [position for position in thoughts[k] if position not in positions]
        elsewhere[k] = rng.sample(others, min(len(positions), len(others)))
    return elsewhere


def _other_content(reasoner: Reasoner, monitor: Monitor, seed: int) -> Monitor:
    """Return the monitor with a random direction of the vector's length, or with as many other words."""
    if monitor.vector is not None:
        vector = torch.tensor(np.asarray(monitor.vector, np.float32))[None]
        noise = np.random.default_rng(seed).normal(size=vector.shape[1:]).astype(np.float32)
        return replace(monitor, vector=match_norms(torch.from_numpy(noise)[None], vector)[0].numpy())
    return replace(monitor, text=_other_text(reasoner, str(monitor.text), seed))


def _other_text(reasoner: Reasoner, text: str, seed: int) -> str:
    """Return as many words: another value of the task for each value, and any other word for the rest."""
    if reasoner.config.task is None:
        raise UsageError(
            f"expected a task, whose words are the control of an injected text, got none from {reasoner.name}; "
            "name one in its reasoner.json, or inject a vector."
        )
    values, words, rng = list(reasoner.task.values), reasoner.task.vocabulary(), Random(seed)
    return " ".join(
        rng.choice([other for other in (values if word in values else words) if other != word]) for word in text.split()
    )


def _row(name: str, traces: TraceSet, before: TraceSet) -> dict[str, Any]:
    groups = np.array([trace.problem.structure for trace in traces])
    fired = np.array([bool(trace.events) for trace in traces])
    changed = np.array([_changed(a, b) for a, b in zip(traces, before, strict=True)])
    fired_share = Estimate.of_mean(fired, groups)
    changed_share = Estimate.of_mean(changed[fired], groups[fired])
    accuracy = Estimate.of_mean(np.array([trace.correct for trace in traces]), groups)
    return {
        "arm": name,
        "fired": fired_share.value,
        "fired_ci": list(fired_share.interval),
        "injected": sum(bool(event["injected"]) for trace in traces for event in trace.events),
        "changed": changed_share.value,
        "changed_ci": list(changed_share.interval),
        "changed_elsewhere": float(changed[~fired].mean()) if (~fired).any() else float("nan"),
        "accuracy": accuracy.value,
        "accuracy_ci": list(accuracy.interval),
        "accuracy_before": before.accuracy,
        "n_fired": changed_share.n,
        "n": len(traces),
    }


def _beyond(watched: TraceSet, control: TraceSet, before: TraceSet) -> Estimate:
    """Return how much more answers changed under the monitor than under a control, where both fired."""
    pairs = [
        (_changed(a, was) - _changed(b, was), was.problem.structure)
        for a, b, was in zip(watched, control, before, strict=True)
        if a.events and b.events
    ]
    differences = np.array([difference for difference, _ in pairs], float)
    return Estimate.of_difference(differences, np.array([structure for _, structure in pairs]))


def _sentence(table: pd.DataFrame, beyond: Mapping[str, Estimate]) -> str:
    watched = table.iloc[0]
    if not watched["n_fired"]:
        return f"the monitor never fired in {watched['n']} problems."
    if not watched["injected"]:
        return f"the monitor fired in {watched['n_fired']} of {watched['n']} problems and injected nothing."
    clauses = []
    for name, more in beyond.items():
        if not more.n:
            clauses.append(f"{name} could not be tried")
        elif more.n < _FEWEST:
            clauses.append(f"{name} cannot be compared over {more.n} problems; {_FEWEST} are needed")
        else:
            clauses.append(
                f"{_direction(more)} {name} ({more.value:+.3f} [{more.low:.3f}, {more.high:.3f}], n = {more.n})"
            )
    return f"injecting changed {watched['changed']:.3f} of {watched['n_fired']} answers: {'; '.join(clauses)}."


def _direction(more: Estimate) -> str:
    if more.low > 0:
        return "more than"
    return "less than" if more.high < 0 else "no different, as far as this sample can tell, from"


def _changed(after: Trace, before: Trace) -> bool:
    return not make_task(before.problem.task).same_answer(before.problem, after.answer, before.answer)
