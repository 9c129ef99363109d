"""The six labels of iGSM as questions for a V-probe, at the positions of traces that a model wrote itself.

Labels are taken from what was written, so they are exact also where the model computes in another order than the
gold solution. Distractors stay matched: a parameter is always asked about together with its twin.
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

# As the paper asks them: two labels of the question itself, four that change with every sentence of the solution.
LABELS = ("necessary", "depends", "known", "value", "can_next", "necessary_next")
_PAIRS = 2  # of twins, asked about at each position


@dataclass(frozen=True)
class Reading:
    """One trace up to the end of a sentence: how many positions that is, and which parameters have been written."""

    trace: Trace
    at: int
    known: tuple[str, ...]

    @property
    def problem(self) -> Problem:
        return self.trace.problem


def sentence_ends(trace: Trace) -> list[int]:
    """How many positions lie up to the end of the question, its begin marker included, and of each full sentence."""
    asked = trace.channel.count(Channel.PROMPT)
    start = asked + (trace.channel[asked : asked + 1] == [Channel.SPECIAL])
    thoughts = [k for k, c in enumerate(trace.channel) if c == Channel.THOUGHT and trace.tokens[k] == STOP]
    return [start, *(k + 1 for k in thoughts)]


def steps_of(trace: Trace) -> list[CheckedStep]:
    """The written sentences, checked."""
    written = [t for t, c in zip(trace.tokens, trace.channel, strict=True) if c == Channel.THOUGHT]
    return check_steps(trace.problem, " ".join(written))


def readings(trace: Trace) -> list[Reading]:
    """The end of the question and of every sentence, up to the first sentence that is wrong; not after the last."""
    found: list[Reading] = []
    known: tuple[str, ...] = ()
    for at, step in zip(sentence_ends(trace), steps_of(trace), strict=False):
        found.append(Reading(trace, at, known))
        if step.error is not None:
            break
        known = (*known, step.parameter)
    return found


def question_items(traces: Sequence[Trace], label: str, rng: Random) -> list[Item]:
    """`necessary` or `depends` at the end of the question, each true case with its matched false one.

    The asked parameter and its twin are left out: that one is necessary stands in the question.
    """
    items = []
    for trace in traces:
        problem, definitions = trace.problem, definitions_of(trace.problem)
        twins, asked = problem.meta["twins"], problem.meta["asked"]
        here = Reading(trace, sentence_ends(trace)[0], ())
        if label == "necessary":
            needed = sorted(closure(definitions, asked) - {asked})
            items += [
                _item(here, (name,), "yes" if name in needed else "no") for one in needed for name in (one, twins[one])
            ]
            continue
        pairs = [(a, b) for a in definitions for b in sorted(closure(definitions, a) - {a})]
        for a, b in rng.sample(pairs, min(_PAIRS, len(pairs))):
            items += [_item(here, (a, b), "yes"), _item(here, (a, twins[b]), "no")]
    return items


def step_items(traces: Sequence[Trace], label: str, rng: Random) -> list[Item]:
    """`known`, `value`, `can_next` or `necessary_next` at the end of the question and of every right sentence."""
    items = []
    for trace in traces:
        for here in readings(trace):
            if here.problem.meta["asked"] in here.known:
                continue  # nothing is left to compute, whatever was written after it
            items += [_item(here, (name,), truth(here, label, name)) for name in _chosen(here, label, rng)]
    return items


def _chosen(here: Reading, label: str, rng: Random) -> list[str]:
    """Parameters to ask about: pairs of twins, one of them from what comes next; for `value` what has one, and one more."""
    definitions, twins = definitions_of(here.problem), here.problem.meta["twins"]
    if label == "value":
        return [*here.known, rng.choice([name for name in definitions if name not in here.known])]
    asked = here.problem.meta["asked"]
    ready = [name for name in definitions if necessary_next(definitions, asked, here.known, name)]
    needed = sorted(closure(definitions, asked))
    first = rng.choice(ready)
    rest = rng.sample([name for name in needed if name != first], min(_PAIRS - 1, len(needed) - 1))
    return [name for one in (first, *rest) for name in (one, twins[one])]


def truth(here: Reading, label: str, name: str) -> str:
    """A label of one parameter as things stand in a reading."""
    definitions, asked = definitions_of(here.problem), here.problem.meta["asked"]
    if label == "value":
        order = here.problem.meta["order"]
        return here.problem.steps[order.index(name)].value if name in here.known else "unknown"
    found: dict[str, Callable[[], bool]] = {
        "necessary": lambda: necessary(definitions, asked, name),
        "known": lambda: name in here.known,
        "can_next": lambda: can_next(definitions, here.known, name),
        "necessary_next": lambda: necessary_next(definitions, asked, here.known, name),
    }
    return "yes" if found[label]() else "no"


def _item(here: Reading, names: tuple[str, ...], label: str) -> Item:
    features = np.concatenate([surface(here.problem, name, here.known) for name in names])
    return Item(here.trace, here.at, names, label, features)


def items_of(traces: Sequence[Trace], label: str, seed: int) -> list[Item]:
    """The questions of one label over all traces."""
    make = question_items if label in LABELS[:2] else step_items
    return make(traces, label, Random(f"{label}|{seed}"))


def references(items: Sequence[Item]) -> np.ndarray:
    """For each item about `necessary`: the fewest references from the asked parameter to it, or to its twin."""
    found = []
    for item in items:
        problem = item.trace.problem
        far = distances(definitions_of(problem), problem.meta["asked"])
        found.append(next(far[n] for n in (item.about[0], problem.meta["twins"][item.about[0]]) if n in far))
    return np.array(found)


def constants(items: Sequence[Item]) -> np.ndarray:
    """For each item: whether its parameter is given as a number, so that it could be computed at once."""
    return np.array([len(definitions_of(item.trace.problem)[item.about[0]]) == 1 for item in items])


@dataclass(frozen=True)
class Decision:
    """What a model wrote after a reading: a right step, or its first wrong one."""

    here: Reading
    step: CheckedStep

    @property
    def outcome(self) -> str:
        if self.step.error is None:
            return "right"
        return self.step.error if self.step.error in NOT_NEXT else "other mistake"


def decisions(traces: Sequence[Trace]) -> Iterator[Decision]:
    """Every sentence of every trace up to its first wrong one, with what was known before; unreadable ones left out."""
    for trace in traces:
        for here, step in zip(readings(trace), steps_of(trace), strict=False):
            if step.parameter:
                yield Decision(here, step)


def decision_items(found: Sequence[Decision], label: str) -> list[Item]:
    """Is `label` true of the parameter that the model wrote next, asked before it was written?"""
    return [_item(each.here, (each.step.parameter,), truth(each.here, label, each.step.parameter)) for each in found]


def errors_table(found: Sequence[Decision], read: dict[str, np.ndarray]) -> pd.DataFrame:
    """For each outcome: how often the probes said yes of the parameter that was then written, before it was."""
    outcomes = np.array([each.outcome for each in found])
    rows = []
    for outcome in ("right", *NOT_NEXT, "other mistake"):
        here = outcomes == outcome
        if here.any():
            said = {f"{label} read as yes": float((read[label][here] == "yes").mean()) for label in read}
            rows.append({"the step written": outcome, "n": int(here.sum()), **said})
    return pd.DataFrame(rows)
