"""`recurrent`: thinks in depth, by running a block of layers several times at the same position.

After Geiping et al. (arXiv 2502.05171), without their input injection (`interp.models.recurrence`). No token carries a
thought. What other reasoners do at one position after another happens here in one iteration after another, at the
position where the answer is read. Each iteration has an address.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError
from interp.models import recurrence
from interp.models.address import Address
from interp.models.wrapping import wrap
from interp.problems.base import Problem
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.curriculum import Lesson, LessonBatch
from interp.reasoners.direct import DirectCurriculum, DirectReasoner
from interp.reasoners.options import ThinkOptions
from interp.reasoners.steps import Steps
from interp.traces import Channel, Trace, TraceSet


class RecurrentCurriculum(DirectCurriculum):
    """Trains iteration k to reach the value after step k, and to stay at the answer once all steps are done.

    The loss covers every iteration, because the answer alone teaches nothing beyond one step. It also covers the state
    before the first iteration, which is trained to hold the start value. Without that, the first iteration finds the
    start in the question, where later ones do not find their value, and a second step is not learned.
    """

    def lesson(self, problem: Problem, hidden: int) -> Lesson:
        """Return a lesson for iterations 0 to `hidden`, or to `config.iterations` where that is 0.

        Raises:
            UsageError: The problem's `meta` names no start value.
        """
        if "start" not in problem.meta:
            raise UsageError(
                "a recurrent reasoner is trained on the value before the first step: expected `start` in the problems' "
                f"meta, got none in task {problem.task!r}; use chain or counter."
            )
        lesson = super().lesson(problem, 0)
        answer = lesson.words.index(self.config.eos) - len(problem.answer.split())
        values = [problem.meta["start"], *(step.value for step in problem.steps)]
        reached = [values[min(k, problem.n_steps)] for k in range((hidden or self.config.iterations) + 1)]
        return Lesson(lesson.words, lesson.scored, answer, 0, extra=tuple(reached))

    def logits(self, model: Any, batch: LessonBatch) -> Float[Tensor, "batch pos vocab"]:
        """Return the logits after the last iteration that the batch trains."""
        first, last = _block(self.config)
        states = recurrence.states(model, batch.ids, first, last, batch.extra.shape[1] - 1)
        return recurrence.read_out(model, states[-1], last)

    def loss(self, model: Any, batch: LessonBatch) -> Float[Tensor, ""]:
        """Return the mean over iterations of the loss on the value that each should reach and on the end after it."""
        first, last = _block(self.config)
        position = batch.first_thought - 1  # where the answer is predicted
        ends = batch.ids[:, position + 2]
        losses = []
        for k, state in enumerate(recurrence.states(model, batch.ids, first, last, batch.extra.shape[1] - 1)):
            logits = recurrence.read_out(model, state, last)[:, position : position + 2].float()
            targets = torch.stack([batch.extra[:, k], ends], dim=1)
            losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()))
        return torch.stack(losses).mean()


class IterationSteps(Steps):
    """Takes each iteration for a step."""

    def count(self, trace: Trace) -> int:
        """Return the number of iterations."""
        return self.config.iterations

    def location(self, trace: Trace, step: int) -> tuple[Address, int]:
        """Return the address of the state after iteration `step`, and the position where the answer is predicted."""
        return _state_after(step, self.config), list(trace.channel).index(Channel.ANSWER) - 1

    def iteration_addresses(self) -> list[Address]:
        """Return the address of the state after each iteration."""
        return [_state_after(k, self.config) for k in range(1, self.config.iterations + 1)]


class RecurrentReasoner(DirectReasoner):
    """Answers straight after the question, after iterating `config.recurrent` layers `config.iterations` times."""

    kind = "recurrent"
    curriculum_class = RecurrentCurriculum
    steps_class = IterationSteps

    @classmethod
    def prepare(cls, model: Any, config: ReasonerConfig) -> Any:
        """Return the stored model with its block of layers unrolled."""
        return recurrence.unroll(model, *_block(config), config.iterations)

    @classmethod
    def stored_config(cls, model_config: Any, config: ReasonerConfig) -> Any:
        """Return the configuration with the block's layers counted once."""
        first, last = _block(config)
        model_config.n_layer -= (config.iterations - 1) * (last - first)
        return model_config

    def with_iterations(self, iterations: int) -> RecurrentReasoner:
        """Return a reasoner with the same weights that iterates `iterations` times."""
        stored = recurrence.stored_model(self.model.original_model)
        deep = recurrence.unroll(stored, *_block(self.config), iterations)
        config = self.config.model_copy(update={"iterations": iterations})
        return type(self)(wrap(deep, self.tokenizer), self.tokenizer, config, name=self.name, weights=self.weights)

    def iteration_of(self, address: Address | str) -> int | None:
        """Return the iteration, from 1, that an address belongs to; 0 before the iterated block, None behind it."""
        return recurrence.iteration_of(address, *_block(self.config), self.config.iterations)

    def state_after(self, iteration: int) -> Address:
        """Return the address of the residual stream after an iteration; 0 is before the first.

        Raises:
            UsageError: The reasoner does not iterate so often.
        """
        return _state_after(iteration, self.config)

    def think_steps(self, problems: Sequence[Problem], n_steps: int, **options: Unpack[ThinkOptions]) -> TraceSet:
        """Think with `n_steps` iterations."""
        return self.with_iterations(n_steps).think(problems, **options)


def _state_after(iteration: int, config: ReasonerConfig) -> Address:
    if not 0 <= iteration <= config.iterations:
        raise UsageError(
            f"expected an iteration between 0 and {config.iterations}, got {iteration}; "
            "take more of them with with_iterations()."
        )
    return recurrence.state_after(iteration, *_block(config))


def _block(config: ReasonerConfig) -> tuple[int, int]:
    if config.recurrent is None:
        raise UsageError(
            "expected `recurrent` in the config of a recurrent reasoner, got none; give the first and last + 1 layer that "
            "are iterated."
        )
    return config.recurrent
