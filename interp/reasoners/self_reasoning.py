"""`self-reasoning`: tokens without text between the tokens of a visible thought.

After F. Bonetto's self-reasoning tokens (reasoning-tokens.ghost.io, April 2024). Each step of the visible thought is n
reasoning tokens and then a text token. The reasoning tokens have learned embeddings and share the text token's position
id. The text token attends to them, and so does everything later. In training, a query gives no gradient to the keys and
values of its own step's reasoning tokens. So the loss on the very next token cannot train them, and only later ones do
(`interp.models.stop_gradient_attention`):

    <bot>  r r t1  r r t2  ...  r r <eot>  answer

The token after t1 is predicted at t1, whose forward pass sees the two tokens before it and whose gradient does not. Two
controls differ in little. With `ordinary_gradient_loss` the gradient is left as it is. With `reasoning_read =
"reasoning"` the next text token is predicted at the last reasoning token before it, which makes the reasoning tokens
pauses (arXiv 2310.02226).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.models.base_model import base_of
from interp.models.stop_gradient_attention import same_step, use_stop_gradients
from interp.models.unembedding import Unembedding
from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.curriculum import Curriculum, Lesson, LessonBatch, next_token_loss
from interp.reasoners.rollouts.rollout import Rollout
from interp.reasoners.rollouts.writing import force_marker, open_thought, same_token, write_answer
from interp.reasoners.steps import Steps
from interp.traces import Channel


@runtime_checkable
class HasReasonerConfig(Protocol):
    """A recipe, as far as a loss needs it."""

    def reasoner(self) -> ReasonerConfig:
        """Return the config of the reasoner that is trained."""


class SelfReasoningCurriculum(Curriculum):
    """Trains reasoning tokens before each text token of the thought, by what later tokens need."""

    def words(self) -> list[str]:
        """Return the reasoning tokens."""
        return list(dict.fromkeys(_reasoning_words(self.config)))

    def lesson(self, problem: Problem, hidden: int) -> Lesson:
        """Return a lesson with all steps written; `extra` holds the reasoning tokens."""
        config = self.config
        question = [*problem.question.split(), *filter(None, [config.begin])]
        written = [word for step in problem.steps for word in step.text.split()]
        words, scored = list(question), [False] * len(question)
        for word in [*written, *filter(None, [config.end])]:
            words += [*_reasoning_words(config), word]
            scored += [*[False] * config.reasoning_tokens, True]
        ending = [*problem.answer.split(), config.eos]
        scored += [True] * len(ending)
        return Lesson([*words, *ending], scored, len(question), 0, extra=tuple(_reasoning_words(config)))

    def logits(self, model: Any, batch: LessonBatch) -> Float[Tensor, "batch pos vocab"]:
        """Return the logits of a model in training, with the gradient to a step's own reasoning tokens stopped."""
        return _logits(model, batch, self.config, stop=True)


class TokenSteps(Steps):
    """Takes each text token for a step."""

    @property
    def visible_tokens(self) -> int:
        """One."""
        return 1


class SelfReasoner(Reasoner):
    """Thinks in text between two markers, with `config.reasoning_tokens` silent tokens before each of its tokens.

    The end marker is a text token like the others. The question and the answer have no reasoning tokens.
    """

    kind = "self-reasoning"
    shares_position = frozenset({Channel.LATENT})
    curriculum_class = SelfReasoningCurriculum
    steps_class = TokenSteps

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        closed = open_thought(rollout, self.vocabulary)
        stops = {self.vocabulary.token_id(token) for token in (self.config.end, self.config.eos) if token}
        thinking = torch.tensor([not is_closed for is_closed in closed])
        per_step = self.config.reasoning_tokens + 1
        for k in range(1, self.config.max_thought_tokens + 2 if thinking.any() else 1):
            steps = [min(k, problem.n_steps) for problem in problems]
            ids = self._reason(rollout, thinking, steps, (k - 1) * per_step)
            going_on = torch.tensor([i not in stops for i in ids.tolist()])
            going_on &= (rollout.room > self.config.max_answer_tokens + 1) & (k <= self.config.max_thought_tokens)
            force_marker(rollout, self.vocabulary, self.config.end, thinking & ~going_on)
            thinking &= going_on
            if not thinking.any():
                break
            rollout.feed(
                channel=Channel.THOUGHT, ids=ids, active=thinking, steps=steps, thought=k * per_step, sampled=True
            )
        write_answer(rollout, self.vocabulary)

    def _reason(
        self, rollout: Rollout, active: Bool[Tensor, " batch"], steps: list[int], n_before: int
    ) -> Int[Tensor, " batch"]:
        """Feed the reasoning tokens of one step, and return the text token that follows them."""
        state = rollout.last
        ids = rollout.choose() if self.config.reasoning_read == "text" else None
        for j, word in enumerate(_reasoning_words(self.config), 1):
            rollout.feed(
                channel=Channel.LATENT,
                ids=same_token(rollout, self.vocabulary.token_id(word)),
                active=active,
                steps=steps,
                thought=n_before + j,
            )
        if ids is None:
            return rollout.choose()
        rollout.last = state  # the text token is predicted at the text token before it
        return ids


def ordinary_gradient_loss(recipe: HasReasonerConfig) -> Callable[[Any, LessonBatch, float], Float[Tensor, ""]]:
    """Return the loss of the control: the same forward pass, with every gradient left as it is."""
    config = recipe.reasoner()
    return lambda model, batch, done: next_token_loss(ordinary_logits(model, batch, config), batch)


def ordinary_logits(model: Any, batch: LessonBatch, config: ReasonerConfig) -> Float[Tensor, "batch pos vocab"]:
    """Return the logits of `SelfReasoningCurriculum`, equal to the last bit, with all of their gradients."""
    return _logits(model, batch, config, stop=False)


def layout(
    ids: Int[Tensor, "batch pos"], reasoning: Int[Tensor, " n_reasoning"]
) -> tuple[Bool[Tensor, "batch pos"], Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Return which tokens are reasoning tokens, every token's position id, and the text token before it.

    Args:
        ids: Token ids.
        reasoning: Ids of the reasoning tokens.

    Returns:
        A mask of the reasoning tokens; the position ids, where a reasoning token shares that of the text token after it;
        and for each column the last text token's column before it, at which its token is predicted (0 for the first).
    """
    silent = torch.isin(ids, reasoning)
    columns = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    latest = torch.where(silent, -1, columns).cummax(dim=1).values
    before = torch.cat([torch.zeros_like(latest[:, :1]), latest[:, :-1]], dim=1)
    takes_id = (~silent).long()
    return silent, torch.cumsum(takes_id, dim=1) - takes_id, before.clamp(min=0)


def _logits(model: Any, batch: LessonBatch, config: ReasonerConfig, *, stop: bool) -> Float[Tensor, "batch pos vocab"]:
    """Return the logits of the token after each column, read at the column or at the last text token before."""
    silent, position_ids, before = layout(batch.ids, batch.extra[0])
    # Without a mask, Hugging Face takes shared position ids for several sequences packed into one.
    inputs: dict[str, Any] = {"input_ids": batch.ids, "position_ids": position_ids}
    inputs["attention_mask"] = torch.ones_like(batch.ids)
    if stop:
        with use_stop_gradients(model):
            states = base_of(model)(**inputs, stopped=same_step(position_ids, silent)).last_hidden_state
    else:
        states = base_of(model)(**inputs).last_hidden_state
    if config.reasoning_read == "text":
        source = torch.cat([before[:, 1:], before[:, -1:]], dim=1)
        states = states.gather(1, source[:, :, None].expand_as(states))
    return Unembedding(model)(states)


def _reasoning_words(config: ReasonerConfig) -> list[str]:
    return [config.reasoning.format(k) for k in range(1, config.reasoning_tokens + 1)]
