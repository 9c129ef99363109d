"""`concepts`: thinks in step embeddings, one predicted vector for each step.

After large concept models (arXiv 2412.08821, section 2.3, the one trained on squared error). The model reads the question
as words, predicts the embedding of the next step's text from those before it, and feeds it back. While thinking it is a
continuous reasoner with a projection. What differs is training: its thoughts are embeddings that a step autoencoder turns
into words (`interp.models.step_autoencoder`).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import CotlensError
from interp.models.base_model import base_of
from interp.models.tokenizers import PAD
from interp.models.unembedding import Unembedding
from interp.problems.base import Problem
from interp.reasoners.curriculum import Lesson, LessonBatch, next_token_loss
from interp.reasoners.silent import ContinuousCurriculum, ContinuousReasoner

# Standard deviation of the noise on embeddings that are fed in training: predicted embeddings are not exact either.
_NOISE = 0.3


class ConceptCurriculum(ContinuousCurriculum):
    """Trains thoughts as the embeddings of the steps' texts."""

    def lesson(self, problem: Problem, hidden: int) -> Lesson:
        """Return a lesson in which every step is a thought; `extra` holds the steps' words, padded to the longest."""
        lesson = super().lesson(problem, problem.n_steps)
        texts = [step.text.split() for step in problem.steps]
        longest = max(map(len, texts))
        words = [word for text in texts for word in [*text, *[PAD] * (longest - len(text))]]
        return Lesson(lesson.words, lesson.scored, lesson.first_thought, lesson.n_thoughts, extra=tuple(words))

    def loss(self, model: Any, batch: LessonBatch) -> Float[Tensor, ""]:
        """Return the loss with the true embeddings fed.

        It is the squared error of the predicted embeddings, plus the cross-entropy of the words they decode to, plus the
        next-token loss of the answer.

        Args:
            model: A plain Hugging Face model with its frozen `step_autoencoder`.
            batch: The lessons.

        Raises:
            CotlensError: The model has no step autoencoder.
        """
        autoencoder = getattr(model, "step_autoencoder", None)
        if autoencoder is None:
            raise CotlensError(
                "a `concepts` reasoner is trained beside a step autoencoder: expected `step_autoencoder` on the model, got "
                "none; use its recipe's trainer, which makes it."
            )
        steps = batch.extra.unflatten(1, (batch.n_thoughts, -1))
        steps = torch.nn.functional.pad(steps, (0, autoencoder.longest - steps.shape[-1]), value=autoencoder.pad_id)
        with torch.no_grad():
            true = autoencoder.encode(steps).float()
        first, last = batch.first_thought, batch.first_thought + batch.n_thoughts
        embeds = model.get_input_embeddings()(batch.ids)
        fed = (true + _NOISE * torch.randn_like(true)) * self.config.latent_scale
        states = base_of(model)(
            inputs_embeds=torch.cat([embeds[:, :first], fed.to(embeds), embeds[:, last:]], dim=1)
        ).last_hidden_state
        predicted = model.thought_projection(states[:, first - 1 : last - 1]).float()
        word_logits = autoencoder.decode(predicted).float().flatten(0, -2)
        word_loss = torch.nn.functional.cross_entropy(word_logits, steps.flatten())
        answer_loss = next_token_loss(Unembedding(model)(states), batch)
        return (predicted - true).square().mean() + word_loss + answer_loss


class ConceptReasoner(ContinuousReasoner):
    """Feeds one thought for each step: the projection of the state before it, in the space of step embeddings."""

    kind = "concepts"
    curriculum_class = ConceptCurriculum
