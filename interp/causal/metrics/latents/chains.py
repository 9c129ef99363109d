"""Chains whose steps are latents: what metrics read of them, and how their thoughts are changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor

from interp.causal.metrics.base import Chains
from interp.causal.metrics.readings import Text, answer_start
from interp.causal.patching.patch import (
    EditMaker,
    answers_after,
    input_address,
    swaps_as_interventions,
)
from interp.errors import UsageError
from interp.models.address import Address
from interp.reasoners.interventions import Edit, replace_with
from interp.traces import Channel, Trace, TraceSet

if TYPE_CHECKING:
    from interp.problems.base import Problem
    from interp.reasoners.replayer import ReplayBatch

#: How a thought is changed: by a donor's (or its own) state, or by the mean of the states that are changed.
DONOR, MEAN = "donor", "mean"


def _donated(values: Tensor, address: Address) -> Edit:
    return replace_with(values)


def _mean(values: Tensor, address: Address) -> Edit:
    return replace_with(values.mean(dim=0, keepdim=True).expand_as(values).contiguous())


_MAKERS: Mapping[str, EditMaker] = MappingProxyType({DONOR: _donated, MEAN: _mean})


class LatentChains(Chains):
    """Traces whose thoughts are latents, by steps.

    A thought is changed where it is fed: at the input of a continuous thought, and otherwise in all that is computed at
    the position (`interp.causal.patching.patch.input_address`).

    Args:
        reasoner: A reasoner with latents.
        traces: Its traces, of problems with gold steps.
        seed: Seed of everything that metrics draw.
        batch_size: Problems that are thought about at once.

    Raises:
        UsageError: A trace has no latent of a step.
    """

    def find_steps(self, trace: Trace) -> list[list[int]]:
        """Return the positions of the latents of each step."""
        steps: dict[int, list[int]] = {}
        for position, (channel, number) in enumerate(zip(trace.channel, trace.step, strict=True)):
            if channel == Channel.LATENT and number:
                steps.setdefault(number, []).append(position)
        if not steps:
            raise UsageError(f"expected latents of steps, got trace {trace.id} without one; use a silent reasoner.")
        return [steps[number] for number in sorted(steps)]

    @property
    def fed(self) -> str:
        """The address at which a thought is changed."""
        return input_address(self.reasoner)

    @property
    def is_fed_back(self) -> bool:
        """Whether thoughts reach the model through its input, so that a thought is one vector."""
        return self.reasoner.kind == "continuous"

    def value_positions(self, trace: Trace, k: int) -> list[int]:
        """Return where the value of step `k`, from 0, may be: its last continuous thought, or all its fixed tokens."""
        positions = self.find_steps(trace)[k]
        return positions[-1:] if self.is_fed_back else positions

    def kept_after_steps(self, keys: Sequence[tuple[int, int]]) -> np.ndarray:
        """Return whether each trace keeps its answer where it answers after the thoughts of its first steps."""
        kept = np.zeros(len(keys))
        n_thoughts = np.array([sum(map(len, self.positions[t][:k])) for t, k in keys])
        for n in np.unique(n_thoughts):
            rows = np.flatnonzero(n_thoughts == n)
            numbers = [keys[row][0] for row in rows.tolist()]
            fewer = self.reasoner.with_config(thoughts=int(n))
            answered = fewer.think([self.traces[t].problem for t in numbers], batch_size=self.batch_size)
            kept[rows] = self.same(numbers, answered)
        return kept

    def answers_holding(self, numbers: Sequence[int], problems: Sequence[Problem]) -> TraceSet:
        """Return the answers to other questions of the same length while the thoughts of traces are held as they were."""
        rows = [
            {"run": run, "trace": t, "target": position, "donor": -1, "source": position}
            for run, t in enumerate(numbers)
            for position in self.thoughts(t)
        ]
        _, held = swaps_as_interventions(
            self.reasoner, self.traces, pd.DataFrame(rows), address=self.fed, batch_size=self.batch_size
        )
        return self.reasoner.think(list(problems), batch_size=self.batch_size, interventions=held)

    def thoughts(self, t: int) -> list[int]:
        """Return the positions of all thoughts of a trace."""
        return [position for positions in self.positions[t] for position in positions]

    def thought_texts(self, traces: Sequence[Trace]) -> list[str]:
        """Return the words that the logit lens reads of each thought: the likeliest token where it is computed."""
        words: dict[int, str] = {}
        places = [[p - 1 for p, channel in enumerate(trace.channel) if channel == Channel.LATENT] for trace in traces]

        def keep(activations: Tensor, batch: ReplayBatch) -> None:
            for b, t in enumerate(batch.traces.tolist()):
                likeliest = self.reasoner.unembed(activations[b, places[t]]).argmax(-1).tolist()
                words[t] = " ".join(self.reasoner.tokenizer.decode([token]).strip() for token in likeliest)

        self.reasoner.replay(list(traces), hooks={"ln_final.hook_out": keep}, batch_size=self.batch_size)
        return [words[t] for t in range(len(traces))]

    def text(self, t: int, unseen: Sequence[int] = ()) -> Text:
        """Return a trace as a text whose answer is scored; continuous thoughts are fed as they were thought."""
        trace = self.traces[t]
        end = max(k for k, channel in enumerate(trace.channel) if channel == Channel.ANSWER) + 1
        latents = [p for p, channel in enumerate(trace.channel) if channel == Channel.LATENT]
        fed = {} if trace.latents is None else dict(zip(latents, trace.latents, strict=True))
        return Text(list(trace.token_ids[:end]), answer_start(trace), tuple(unseen), fed)

    def answers_with(
        self, rows: Sequence[dict[str, Any]], donors: TraceSet | None, address: str | None = None
    ) -> list[str]:
        """Return the answers where thoughts are changed while the model thinks.

        Args:
            rows: Changes, with keys run, trace, target, donor (-1 for the trace itself), source and edit (`DONOR` or
                `MEAN`). Changes of one run are made together.
            donors: The traces that `donor` indexes; the chains' own by default.
            address: Where states are changed; where thoughts are fed by default.

        Returns:
            One answer for each run, in the order of its first row.
        """
        return answers_after(
            self.reasoner,
            self.traces,
            pd.DataFrame(list(rows)),
            donors=donors,
            address=address or self.fed,
            makers=_MAKERS,
            batch_size=self.batch_size,
        )

    def changed(self, numbers: Sequence[int], answers: Sequence[str]) -> np.ndarray:
        """Return whether each answer is another than its trace gives, as 1.0 or 0.0."""
        own = [self.traces[t] for t in numbers]
        same = [self.task.same_answer(of.problem, new, of.answer) for of, new in zip(own, answers, strict=True)]
        return 1 - np.array(same, float)

    @cached_property
    def holders(self) -> dict[tuple[int, int, str], list[int]]:
        """(number of steps, step from 0, value) to the numbers of the other chains that hold it there, right ones first."""
        return holders_of(self.others)


def holders_of(traces: TraceSet) -> dict[tuple[int, int, str], list[int]]:
    """Return which traces hold each value at each step: (number of steps, step from 0, value) to their numbers.

    Args:
        traces: Traces with latents. Those that are answered right come first.
    """
    found: dict[tuple[int, int, str], list[int]] = {}
    for number in sorted(range(len(traces)), key=lambda number: not traces[number].correct):
        problem = traces[number].problem
        for k, step in enumerate(problem.steps):
            found.setdefault((problem.n_steps, k, step.value), []).append(number)
    return found


def with_thought(trace: Trace, position: int, thought: np.ndarray) -> Trace:
    """Return a trace in which one continuous thought is another, and later thoughts are as they were."""
    latents = np.array(trace.latents)
    latents[sum(channel == Channel.LATENT for channel in trace.channel[:position])] = thought
    return replace(trace, latents=latents)
