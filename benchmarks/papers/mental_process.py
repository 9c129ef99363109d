"""The six labels of iGSM as items for a V-probe, at the positions of traces that a model wrote.

Labels are derived from what was written, so they are exact even where the model computes in another order than the
gold solution. Distractors are matched: each parameter is probed together with its twin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import pandas as pd

from interp.problems.base import Problem
from interp.problems.igsm import NOT_NEXT, CheckedStep, check_steps, surface
from interp.problems.igsm.checking import definitions_of
from interp.problems.igsm.graph import closure, distances
from interp.problems.igsm.labels import can_next, necessary, necessary_next
from interp.problems.igsm.wording import STOP
from interp.traces import Channel, Trace
from probes.vprobe.packing import Item

# Two labels depend on the question alone; four change with every sentence of the solution.
LABELS = ("necessary", "depends", "known", "value", "can_next", "necessary_next")
_PAIRS = 2  # pairs of twins probed at each position


@dataclass(frozen=True)
class Reading:
    """One trace up to the end of a sentence.

    Attributes:
        trace: The trace.
        at: Number of positions up to the end of the sentence.
        known: Parameters written so far.
    """

    trace: Trace
    at: int
    known: tuple[str, ...]

    @property
    def problem(self) -> Problem:
        """The problem of the trace."""
        return self.trace.problem


def sentence_ends(trace: Trace) -> list[int]:
    """Return the number of positions up to the end of the question with its begin marker, and of each full sentence."""
    n_prompt = trace.channel.count(Channel.PROMPT)
    start = n_prompt + (trace.channel[n_prompt : n_prompt + 1] == [Channel.SPECIAL])
    thoughts = [k for k, c in enumerate(trace.channel) if c == Channel.THOUGHT and trace.tokens[k] == STOP]
    return [start, *(k + 1 for k in thoughts)]


def steps_of(trace: Trace) -> list[CheckedStep]:
    """Return the written sentences, checked."""
    written = [t for t, c in zip(trace.tokens, trace.channel, strict=True) if c == Channel.THOUGHT]
    return check_steps(trace.problem, " ".join(written))


def readings(trace: Trace) -> list[Reading]:
    """Return a reading before each sentence, up to the first wrong one."""
    before: list[Reading] = []
    known: tuple[str, ...] = ()
    for at, step in zip(sentence_ends(trace), steps_of(trace), strict=False):
        before.append(Reading(trace, at, known))
        if step.error is not None:
            break
        known = (*known, step.parameter)
    return before


def question_items(traces: Sequence[Trace], label: str, rng: Random) -> list[Item]:
    """Return items on `necessary` or `depends` at the end of the question, each true case with its matched false one.

    The asked parameter and its twin are left out, because the question states that it is necessary.
    """
    items = []
    for trace in traces:
        problem, definitions = trace.problem, definitions_of(trace.problem)
        twins, asked = problem.meta["twins"], problem.meta["asked"]
        reading = Reading(trace, sentence_ends(trace)[0], ())
        if label == "necessary":
            needed = sorted(closure(definitions, asked) - {asked})
            items += [
                _item(reading, (name,), "yes" if name in needed else "no")
                for one in needed
                for name in (one, twins[one])
            ]
            continue
        pairs = [(a, b) for a in definitions for b in sorted(closure(definitions, a) - {a})]
        for a, b in rng.sample(pairs, min(_PAIRS, len(pairs))):
            items += [_item(reading, (a, b), "yes"), _item(reading, (a, twins[b]), "no")]
    return items


def step_items(traces: Sequence[Trace], label: str, rng: Random) -> list[Item]:
    """Return items on `known`, `value`, `can_next` or `necessary_next` after the question and every right sentence."""
    items = []
    for trace in traces:
        for reading in readings(trace):
            if reading.problem.meta["asked"] in reading.known:
                continue  # nothing is left to compute
            items += [
                _item(reading, (name,), truth(reading, label, name)) for name in _draw_parameters(reading, label, rng)
            ]
    return items


def _draw_parameters(reading: Reading, label: str, rng: Random) -> list[str]:
    """Draw parameters to probe: pairs of twins, one pair ready next. For `value`: all known ones and one unknown."""
    definitions, twins = definitions_of(reading.problem), reading.problem.meta["twins"]
    if label == "value":
        return [*reading.known, rng.choice([name for name in definitions if name not in reading.known])]
    asked = reading.problem.meta["asked"]
    ready = [name for name in definitions if necessary_next(definitions, asked, reading.known, name)]
    needed = sorted(closure(definitions, asked))
    first = rng.choice(ready)
    others = rng.sample([name for name in needed if name != first], min(_PAIRS - 1, len(needed) - 1))
    return [name for one in (first, *others) for name in (one, twins[one])]


def truth(reading: Reading, label: str, name: str) -> str:
    """Return the label of one parameter at a reading."""
    definitions, asked = definitions_of(reading.problem), reading.problem.meta["asked"]
    if label == "value":
        order = reading.problem.meta["order"]
        return reading.problem.steps[order.index(name)].value if name in reading.known else "unknown"
    label_of: dict[str, Callable[[], bool]] = {
        "necessary": lambda: necessary(definitions, asked, name),
        "known": lambda: name in reading.known,
        "can_next": lambda: can_next(definitions, reading.known, name),
        "necessary_next": lambda: necessary_next(definitions, asked, reading.known, name),
    }
    return "yes" if label_of[label]() else "no"


def _item(reading: Reading, names: tuple[str, ...], label: str) -> Item:
    features = np.concatenate([surface(reading.problem, name, reading.known) for name in names])
    return Item(reading.trace, reading.at, names, label, features)


def items_of(traces: Sequence[Trace], label: str, seed: int) -> list[Item]:
    """Return the items of one label over all traces."""
    make = question_items if label in LABELS[:2] else step_items
    return make(traces, label, Random(f"{label}|{seed}"))


def references(items: Sequence[Item]) -> np.ndarray:
    """Return, for each item on `necessary`, the distance in references from the asked parameter to it or to its twin."""
    shortest = []
    for item in items:
        problem = item.trace.problem
        reachable = distances(definitions_of(problem), problem.meta["asked"])
        shortest.append(
            next(reachable[n] for n in (item.about[0], problem.meta["twins"][item.about[0]]) if n in reachable)
        )
    return np.array(shortest)


def constants(items: Sequence[Item]) -> np.ndarray:
    """Return, for each item, whether the question gives its parameter as a number."""
    return np.array([len(definitions_of(item.trace.problem)[item.about[0]]) == 1 for item in items])


@dataclass(frozen=True)
class Decision:
    """The step that a model wrote after a reading: a right one, or its first wrong one."""

    reading: Reading
    step: CheckedStep

    @property
    def outcome(self) -> str:
        """`right`, one of `NOT_NEXT`, or `other mistake`."""
        if self.step.error is None:
            return "right"
        return self.step.error if self.step.error in NOT_NEXT else "other mistake"


def decisions(traces: Sequence[Trace]) -> Iterator[Decision]:
    """Yield every sentence of every trace up to its first wrong one; sentences without a known parameter are skipped."""
    for trace in traces:
        for reading, step in zip(readings(trace), steps_of(trace), strict=False):
            if step.parameter:
                yield Decision(reading, step)


def decision_items(written: Sequence[Decision], label: str) -> list[Item]:
    """Return items on the parameter that the model wrote next, read before it was written."""
    return [
        _item(decision.reading, (decision.step.parameter,), truth(decision.reading, label, decision.step.parameter))
        for decision in written
    ]


def errors_table(written: Sequence[Decision], read: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return, for each outcome, how often the probes read yes for the parameter before it was written."""
    outcomes = np.array([decision.outcome for decision in written])
    rows = []
    for outcome in ("right", *NOT_NEXT, "other mistake"):
        mask = outcomes == outcome
        if mask.any():
            shares = {f"{label} read as yes": float((read[label][mask] == "yes").mean()) for label in read}
            rows.append({"the step written": outcome, "n": int(mask.sum()), **shares})
    return pd.DataFrame(rows)
