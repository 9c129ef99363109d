"""How a way of thinking is made and taught; a new one says here what differs."""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from interp.problems.base import Problem
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.lessons import Lesson, LessonBatch, next_token_loss


class Taught:
    """The class methods of a reasoner: what its model is made of, and what it learns from. All of them have defaults."""

    writes_steps: ClassVar[bool] = True  # whether steps that are not hidden are written out in training

    @classmethod
    def words(cls, config: ReasonerConfig) -> list[str]:
        """Tokens that this way of thinking needs beyond the task's own and the common markers."""
        return []

    @classmethod
    def fillers(cls, config: ReasonerConfig, hidden: int) -> list[str]:
        """The words that stand for `hidden` silent steps in a training sequence."""
        return []

    @classmethod
    def lesson(cls, problem: Problem, config: ReasonerConfig, hidden: int) -> Lesson:
        """A training sequence in which the first `hidden` steps are silent and the later ones written.

        The loss covers what follows the silent thoughts, but for an end marker straight after them: that one
        is forced when the reasoner thinks, not predicted.
        """
        hidden = min(hidden, problem.n_steps)
        question = [*problem.question.split(), *filter(None, [config.begin])]
        silent = cls.fillers(config, hidden)
        written = [word for step in problem.steps[hidden:] for word in step.text.split()] if cls.writes_steps else []
        ending = [*filter(None, [config.end])]
        words = [*question, *silent, *written, *ending, *problem.answer.split(), config.eos]
        after = len(question) + len(silent)
        scored = [k >= after for k in range(len(words))]
        if ending and not written:
            scored[after] = False
        return Lesson(words, scored, len(question), len(silent))

    @classmethod
    def logits(cls, model: Any, batch: LessonBatch, config: ReasonerConfig) -> Float[Tensor, "batch pos vocab"]:
        """What a model in training, a plain Hugging Face model, predicts over a batch."""
        return model(input_ids=batch.ids).logits

    @classmethod
    def loss(cls, model: Any, batch: LessonBatch, config: ReasonerConfig) -> Float[Tensor, ""]:
        """The training loss of one batch."""
        return next_token_loss(cls.logits(model, batch, config), batch)

    @classmethod
    def prepare(cls, model: Any, config: ReasonerConfig) -> Any:
        """The Hugging Face model that thinks, made from the stored one before it is wrapped."""
        return model

    @classmethod
    def stored_config(cls, model_config: Any, config: ReasonerConfig) -> Any:
        """The Hugging Face configuration of the stored model, from that of the model that thinks."""
        return model_config
