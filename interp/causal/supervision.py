"""Supervised thoughts, judged: how often a monitor steps in, what that does to the answers, and what luck would do.

Everything is set beside the same problems without the monitor. Two controls inject as often, into the same traces:
*other content* at the same places (a random direction of the vector's length, other words in place of the text), and
the same content at *another place* of the same thoughts, drawn at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from interp.causal.ablation import difference_interval
from interp.errors import UsageError
from interp.reasoners.monitor import Monitor
from interp.runtime.progress import Progress
from interp.statistics.intervals import grouped_mean_interval
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.problems.base import Problem
    from interp.reasoners import Reasoner

_FEWEST = 20  # problems in which it fired, below which nothing is compared
MONITOR, CONTENT, PLACE = "monitor", "other content", "other place"


@dataclass(frozen=True)
class Supervision:
    """`traces` are those under the monitor, `undisturbed` the same problems without it.

    `table` has a row for the monitor and each control: the share of problems in which it `fired`, how often it
    `injected`, the share of answers that `changed` where it fired, and the accuracy of all, with grouped 95 % intervals;
    `n_fired` and `n`. `beyond` says by how much more answers changed than under each control, pair by pair.
    """

    traces: TraceSet
    undisturbed: TraceSet
    table: pd.DataFrame
    beyond: dict[str, dict[str, Any]]
    says: str


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
) -> Supervision:
    """Think with and without `monitor`, and with its controls where it injects.

    `places`, as `thought 2`, are the only ones that are watched where any are given. Raises `UsageError` where no trace
    has such a place.
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
    return Supervision(arms[MONITOR], before, table, beyond, _says(table, beyond))


def _positions(traces: TraceSet, monitor: Monitor, places: Sequence[str] = ()) -> dict[int, list[int]]:
    """The thoughts of each undisturbed trace that a monitor may watch, those at `places` where any are given."""
    found = {}
    for k, trace in enumerate(traces):
        names = trace.places if places else [""] * len(trace)
        found[k] = [
            at
            for at, channel in enumerate(trace.channel)
            if channel in monitor.channels and (not places or names[at] in places)
        ]
    if not any(found.values()):
        known = sorted({n for t in traces for n, c in zip(t.places, t.channel, strict=True) if c in monitor.channels})
        raise UsageError(
            f"there is nothing to watch at {', '.join(places) or 'any thought'}. "
            f"Places of these thoughts: {', '.join(known) or 'none; this reasoner does not think'}."
        )
    return found


def _always(found: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(found), device=found.device)


def _elsewhere(thoughts: dict[int, list[int]], fired: dict[int, list[int]], seed: int) -> dict[int, list[int]]:
    """As many other thoughts of each trace as it fired at; none where it has no other."""
    rng = Random(seed)
    out = {}
    for k, at in fired.items():
        others = [place for place in thoughts[k] if place not in at]
        out[k] = rng.sample(others, min(len(at), len(others)))
    return out


def _other_content(reasoner: Reasoner, monitor: Monitor, seed: int) -> Monitor:
    """A random direction of the vector's length, or as many other words as the text has."""
    if monitor.vector is not None:
        vector = np.asarray(monitor.vector, np.float32)
        drawn = np.random.default_rng(seed).normal(size=vector.shape).astype(np.float32)
        return replace(monitor, vector=drawn * (np.linalg.norm(vector) / np.linalg.norm(drawn)))
    return replace(monitor, text=_other_text(reasoner, str(monitor.text), seed))


def _other_text(reasoner: Reasoner, text: str, seed: int) -> str:
    """As many words, each another one of the task's values where it is one, else any other of its words."""
    if reasoner.config.task is None:
        raise UsageError(
            "the control of an injected text draws other words from the task's, but this model names no task. "
            "Give it one in its reasoner.json, or inject a vector."
        )
    values, words, rng = list(reasoner.task.values), reasoner.task.vocabulary(), Random(seed)
    return " ".join(
        rng.choice([other for other in (values if word in values else words) if other != word]) for word in text.split()
    )


def _row(name: str, traces: TraceSet, before: TraceSet) -> dict[str, Any]:
    groups = np.array([trace.problem.structure for trace in traces])
    fired = np.array([bool(trace.events) for trace in traces])
    changed = np.array([a.answer != b.answer for a, b in zip(traces, before, strict=True)])
    right = np.array([trace.correct for trace in traces])
    where = changed[fired]
    return {
        "arm": name,
        "fired": float(fired.mean()),
        "fired_ci": list(grouped_mean_interval(fired, groups)),
        "injected": sum(bool(event["injected"]) for trace in traces for event in trace.events),
        "changed": float(where.mean()) if len(where) else float("nan"),
        "changed_ci": list(grouped_mean_interval(where, groups[fired])),
        "changed_elsewhere": float(changed[~fired].mean()) if (~fired).any() else float("nan"),
        "accuracy": float(right.mean()),
        "accuracy_ci": list(grouped_mean_interval(right, groups)),
        "accuracy_before": before.accuracy,
        "n_fired": int(fired.sum()),
        "n": len(traces),
    }


def _beyond(ours: TraceSet, control: TraceSet, before: TraceSet) -> dict[str, Any]:
    """By how much more the answers of problems in which both fired changed under the monitor than under the control."""
    pairs = [
        ((a.answer != was.answer) - (b.answer != was.answer), was.problem.structure)
        for a, b, was in zip(ours, control, before, strict=True)
        if a.events and b.events
    ]
    if not pairs:
        return {"value": None, "ci": None, "n": 0}
    values = np.array([value for value, _ in pairs], float)
    ci = difference_interval(values, np.array([structure for _, structure in pairs]))
    return {"value": float(values.mean()), "ci": list(ci), "n": len(pairs)}


def _says(table: pd.DataFrame, beyond: dict[str, dict[str, Any]]) -> str:
    ours = table.iloc[0]
    if not ours["n_fired"]:
        return f"the monitor never fired in {ours['n']} problems."
    if not ours["injected"]:
        return f"the monitor fired in {ours['n_fired']} of {ours['n']} problems and injected nothing."
    said = []
    for name, each in beyond.items():
        if each["value"] is None:
            said.append(f"{name} could not be tried")
            continue
        if each["n"] < _FEWEST:
            said.append(f"{name} cannot be compared over {each['n']} problems; {_FEWEST} are needed")
            continue
        low, high = each["ci"]
        more = (
            "more than"
            if low > 0
            else "less than"
            if high < 0
            else "no different, as far as this sample can tell, from"
        )
        said.append(f"{more} {name} ({each['value']:+.3f} [{low:.3f}, {high:.3f}], n = {each['n']})")
    return f"stepping in changed {ours['changed']:.3f} of {ours['n_fired']} answers: {'; '.join(said)}."
