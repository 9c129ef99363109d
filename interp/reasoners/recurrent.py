"""`recurrent`: thinks in depth, by running a block of layers again and again at the same position.

After Geiping et al. (arXiv 2502.05171), without their input injection (`interp.models.recurrence`). No token
carries a thought: what other reasoners do in one position after another happens here in one iteration after
another, at the position where the answer is read, and each iteration has an address.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError
from interp.models import recurrence
from interp.models.address import Address
from interp.models.load import wrap
from interp.problems.base import Problem
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.direct import DirectReasoner
from interp.reasoners.lessons import Lesson, LessonBatch


class RecurrentReasoner(DirectReasoner):
    """Answers straight after the question, having iterated `config.recurrent` layers `config.iterations` times.

    Iteration k is taught to have reached the value after step k, and to stay at the answer once all steps are
    done: the loss covers every iteration, because the answer alone teaches nothing beyond one step. It also covers
    the state before the first iteration, which is to hold the start value. Without that the first iteration finds
    the start in the question, where the next ones do not find theirs, and a second step is not learned.
    """

    kind = "recurrent"

    @classmethod
    def lesson(cls, problem: Problem, config: ReasonerConfig, hidden: int) -> Lesson:
        """Iterations 0 to `hidden` are taught, or all of `config.iterations` where that is 0.

        Raises `UsageError` for a problem whose `meta` names no start value.
        """
        if "start" not in problem.meta:
            raise UsageError(
                f"a recurrent reasoner is taught the value before the first step, but task {problem.task!r} names no "
                "`start` in its problems' meta; use chain or counter."
            )
        plain = super().lesson(problem, config, 0)
        after = plain.words.index(config.eos) - len(problem.answer.split())
        values = [problem.meta["start"], *(step.value for step in problem.steps)]
        reached = [values[min(k, problem.n_steps)] for k in range((hidden or config.iterations) + 1)]
        return Lesson(plain.words, plain.scored, after, 0, extra=tuple(reached))

    @classmethod
    def logits(cls, model: Any, batch: LessonBatch, config: ReasonerConfig) -> Float[Tensor, "batch pos vocab"]:
        first, last = _block(config)
        states = recurrence.states(model, batch.ids, first, last, batch.extra.shape[1] - 1)
        return recurrence.read_out(model, states[-1], last)

    @classmethod
    def loss(cls, model: Any, batch: LessonBatch, config: ReasonerConfig) -> Float[Tensor, ""]:
        """Mean over the iterations of the loss on the value that each should have reached, and on the end after it."""
        first, last = _block(config)
        at = batch.first_thought - 1  # the position that answers
        ends = batch.ids[:, at + 2]
        losses = []
        for k, state in enumerate(recurrence.states(model, batch.ids, first, last, batch.extra.shape[1] - 1)):
            logits = recurrence.read_out(model, state, last)[:, at : at + 2].float()
            targets = torch.stack([batch.extra[:, k], ends], dim=1)
            losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()))
        return torch.stack(losses).mean()

    @classmethod
    def prepare(cls, model: Any, config: ReasonerConfig) -> Any:
        return recurrence.unroll(model, *_block(config), config.iterations)

    @classmethod
    def stored_config(cls, model_config: Any, config: ReasonerConfig) -> Any:
        first, last = _block(config)
        model_config.n_layer -= (config.iterations - 1) * (last - first)
        return model_config

    def with_iterations(self, iterations: int) -> RecurrentReasoner:
        """The same weights iterated `iterations` times."""
        stored = recurrence.stored_model(self.model.original_model)
        deep = recurrence.unroll(stored, *_block(self.config), iterations)
        config = self.config.model_copy(update={"iterations": iterations})
        return type(self)(wrap(deep, self.tokenizer), self.tokenizer, config, name=self.name, weights=self.weights)

    def iteration_of(self, address: Address | str) -> int | None:
        """The iteration, from 1, that an address belongs to; 0 before the iterated block, None behind it."""
        return recurrence.iteration_of(address, *_block(self.config), self.config.iterations)

    def state_after(self, iteration: int) -> Address:
        """The address of the residual stream after iteration `iteration`; 0 is before the first."""
        if not 0 <= iteration <= self.config.iterations:
            raise UsageError(
                f"iteration must lie between 0 and {self.config.iterations}, but {iteration} came; "
                "take more of them with with_iterations()."
            )
        return recurrence.state_after(iteration, *_block(self.config))


def _block(config: ReasonerConfig) -> tuple[int, int]:
    if config.recurrent is None:
        raise UsageError("a recurrent reasoner needs `recurrent`, the first and last + 1 layer that are iterated.")
    return config.recurrent
