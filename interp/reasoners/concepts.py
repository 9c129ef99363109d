"""`concepts`: thinks in step embeddings, one predicted vector for each step.

After large concept models (arXiv 2412.08821, section 2.3, the one trained on squared error): the model reads
the question as words, then predicts the embedding of the next step's text from those before it, and feeds it
back. At work it is a continuous reasoner with a projection; what differs is that its thoughts were taught to
be embeddings that a step autoencoder turns into words (`interp.models.concepts`).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import CotlensError
from interp.models.tokenizers import PAD
from interp.problems.base import Problem
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.lessons import Lesson, LessonBatch, next_token_loss
from interp.reasoners.silent import ContinuousReasoner

# Predicted embeddings are not exact; noise on those that are fed in training teaches to live with that.
_NOISE = 0.3


class ConceptReasoner(ContinuousReasoner):
    """One thought for each step: `projection` of the state before it, in the space of step embeddings."""

    kind = "concepts"

    @classmethod
    def lesson(cls, problem: Problem, config: ReasonerConfig, hidden: int) -> Lesson:
        """Every step is a thought; the steps' words, padded to the longest, are what the thoughts are to mean."""
        plain = super().lesson(problem, config, problem.n_steps)
        texts = [step.text.split() for step in problem.steps]
        longest = max(map(len, texts))
        words = [word for text in texts for word in [*text, *[PAD] * (longest - len(text))]]
        return Lesson(plain.words, plain.scored, plain.first_thought, plain.n_thoughts, extra=tuple(words))

    @classmethod
    def loss(cls, model: Any, batch: LessonBatch, config: ReasonerConfig) -> Float[Tensor, ""]:
        """With the true embeddings fed: squared error of the predicted ones, and how well their words and the
        answer's are predicted. The model carries its frozen `step_autoencoder`.
        """
        concepts = getattr(model, "step_autoencoder", None)
        if concepts is None:
            raise CotlensError(
                "a `concepts` reasoner is trained beside a step autoencoder; its recipe's trainer makes it."
            )
        steps = batch.extra.unflatten(1, (batch.n_thoughts, -1))
        steps = torch.nn.functional.pad(steps, (0, concepts.longest - steps.shape[-1]), value=concepts.pad_id)
        with torch.no_grad():
            true = concepts.encode(steps).float()
        first, last = batch.first_thought, batch.first_thought + batch.n_thoughts
        embeds = model.get_input_embeddings()(batch.ids)
        fed = (true + _NOISE * torch.randn_like(true)) * config.latent_scale
        states = model.base_model(
            inputs_embeds=torch.cat([embeds[:, :first], fed.to(embeds), embeds[:, last:]], dim=1)
        ).last_hidden_state
        predicted = model.thought_projection(states[:, first - 1 : last - 1]).float()
        words = concepts.decode(predicted).float().flatten(0, -2)
        told = torch.nn.functional.cross_entropy(words, steps.flatten())
        return (predicted - true).square().mean() + told + next_token_loss(model.get_output_embeddings()(states), batch)
