"""Transplants: a thought read by what other problems answer with it, without labels.

The thought of a step is put in the place of the same step's thought of several *hosts*, training problems whose thoughts
are at the same positions. The task's oracle says which answer follows in a host from each value that the step may have. The values are ranked
by how many hosts answer as they imply. Nothing is trained, and no label of the problem that is read is seen, so this also
reads thoughts that no word stands for, such as pauses. A thought that nothing uses is not read, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch

from interp.activations import ActivationSource
from interp.decoders.base import DecoderTraits, RankedTexts, pad_ranking
from interp.decoders.logit_lens import require_same_model
from interp.errors import UsageError, checked_count, unknown
from interp.models.address import Address
from interp.problems import task as make_task
from interp.problems.base import Problem, Task
from interp.reasoners.interventions import Intervention, replace_with
from interp.traces import Channel, Trace

if TYPE_CHECKING:
    from torch import Tensor

    from interp.reasoners import Reasoner
    from interp.reasoners.replayer import ReplayBatch

_INPUT = "blocks.0.hook_in"
#: What of a thought is moved: what is fed where thoughts are fed back, and all that is computed elsewhere; or what later
#: positions read of it.
MOVED = ("thought", "cache")


class Transplant:
    """A step's thought read as the value that explains the answers of other problems into which it is put.

    The location only says which steps are read: the whole thought of the step is moved. For fixed tokens, such as pauses,
    that is all of the step's positions.

    Args:
        reasoner: The model that the store was captured from.
        hosts: Number of problems that each thought is put into.
        moved: A name from `MOVED`. `thought` moves what is fed as a continuous thought, and everything that is computed at
            other thoughts; `cache` moves keys and values.
    """

    name = "transplant"
    traits: ClassVar[DecoderTraits] = DecoderTraits(
        needs_model=True, uses_labels=False, follows_probe=True, per_step=False, needs_step=True
    )

    def __init__(self, reasoner: Reasoner, *, hosts: int = 3, moved: str = "thought") -> None:
        if moved not in MOVED:
            raise unknown("part of a thought to move", moved, MOVED)
        self.reasoner, self.hosts, self.moved = reasoner, checked_count("hosts", hosts), moved

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> Transplant:
        """Choose the hosts among the problems of `rows`, those answered right first; nothing is trained.

        Raises:
            StoreError: The store is of another model.
            UsageError: There are no problems, or the task knows no answer for another value of any step.
        """
        require_same_model(store, self.reasoner, "this transplant")
        traces = [store.traces[trace] for trace in rows["trace"].unique()]
        if not traces:
            raise UsageError("expected problems for a transplant to put thoughts into, got no rows; choose other rows.")
        self.hosts_: dict[tuple[int, ...], list[Trace]] = {}
        for trace in sorted(traces, key=lambda trace: not trace.correct):
            of_shape = self.hosts_.setdefault(_shape(trace), [])
            # One host more, because a problem is no host of itself.
            if len(of_shape) <= self.hosts:
                of_shape.append(trace)
        hosts = [trace for of in self.hosts_.values() for trace in of]
        if not any(_implied(host, step) for host in hosts for step in range(1, host.problem.n_steps + 1)):
            raise UsageError(
                "expected a task that knows which answer follows from another value of a step, got "
                f"{hosts[0].problem.task}; give its questions the field 'counterfactuals'."
            )
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the values of each row by the share of hosts that answer as they imply."""
        require_same_model(store, self.reasoner, "this transplant")
        runs: list[tuple[int, Trace, int]] = []
        taken: list[tuple[int, int, int]] = []  # run, trace, position
        for row, (t, step) in enumerate(zip(rows["trace"].tolist(), rows["read_step"].tolist(), strict=True)):
            donor = store.traces[t]
            hosts = [of for of in self.hosts_.get(_shape(donor), []) if of.problem.structure != donor.problem.structure]
            for host in hosts[: self.hosts]:
                taken += [(len(runs), t, position) for position in self._positions(donor, step)]
                runs.append((row, host, step))
        counts: list[dict[str, float]] = [{} for _ in range(len(rows))]
        for (row, host, step), answer in zip(runs, self._answers(store, runs, taken), strict=True):
            task = make_task(host.problem.task)
            values = [v for v, implied in _implied(host, step).items() if task.says(host.problem, answer, implied)]
            for value in values:
                counts[row][value] = counts[row].get(value, 0.0) + 1 / (self.hosts * len(values))
        ranked = [sorted(of_row.items(), key=lambda item: -item[1])[:top_k] for of_row in counts]
        return pad_ranking(
            [[text for text, _ in row] for row in ranked], [[p for _, p in row] for row in ranked], top_k
        )

    def _answers(
        self, store: ActivationSource, runs: Sequence[tuple[int, Trace, int]], taken: Sequence[tuple[int, int, int]]
    ) -> list[str]:
        """Return the answer of each run's host with the states that the run takes from a trace, at the same positions."""
        if not runs:
            return []
        used = sorted({t for _, t, _ in taken})
        kept: dict[tuple[str, int, int], Tensor] = {}

        def keep(name: str, activations: Tensor, batch: ReplayBatch) -> None:
            for b, number in enumerate(batch.traces.tolist()):
                for position in wanted[used[number]]:
                    kept[name, used[number], position] = activations[b, position].detach().clone()

        wanted: dict[int, set[int]] = {t: set() for t in used}
        for _, t, position in taken:
            wanted[t].add(position)
        hooks = {name: partial(keep, name) for name in self._addresses()}
        self.reasoner.replay([store.traces[t] for t in used], hooks=hooks)
        places = np.array([(run, position) for run, _, position in taken])
        interventions = [
            Intervention(
                Address(name), places, replace_with(torch.stack([kept[name, t, position] for _, t, position in taken]))
            )
            for name in hooks
        ]
        problems = [host.problem for _, host, _ in runs]
        return [trace.answer for trace in self.reasoner.think(problems, batch_size=256, interventions=interventions)]

    def _addresses(self) -> list[str]:
        """Return the names of the activations that are moved."""
        n_layers = self.reasoner.model.cfg.n_layers
        if self.moved == "cache":
            return [f"blocks.{layer}.attn.hook_{part}" for layer in range(n_layers) for part in "kv"]
        deeper = [] if self._is_fed else [f"blocks.{layer}.hook_out" for layer in range(n_layers)]
        return [_INPUT, *deeper]

    @property
    def _is_fed(self) -> bool:
        """Whether a thought reaches the model through its input: a fed-back state, or a written word."""
        return self.reasoner.kind == "continuous" or self.reasoner.thinks_in_text

    def _positions(self, trace: Trace, step: int) -> list[int]:
        """Return the positions of a step's thought: the last one, or of fixed tokens all."""
        last = trace.step_position(step)
        if self._is_fed:
            return [] if last is None else [last]
        pairs = enumerate(zip(trace.step, trace.channel, strict=True))
        return [k for k, (number, channel) in pairs if number == step and channel == Channel.LATENT]


def _shape(trace: Trace) -> tuple[int, ...]:
    """Return the positions of the thoughts of a trace, and its number of steps."""
    return (trace.problem.n_steps, *(k for k, number in enumerate(trace.thought) if number))


def _implied(host: Trace, step: int) -> dict[str, str]:
    """Return the answer that follows in a host from each value that a step may have, as the task's oracle says."""
    task, problem = make_task(host.problem.task), host.problem
    values = dict.fromkeys((*task.step_values(problem, step), *task.values))
    implied = {value: _answer(task, problem, step, value) for value in values}
    return {value: answer for value, answer in implied.items() if answer is not None}


def _answer(task: Task, problem: Problem, step: int, value: str) -> str | None:
    try:
        return task.counterfactual(problem, step, value)
    except UsageError:
        return None
