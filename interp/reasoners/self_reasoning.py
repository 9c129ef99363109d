"""`self-reasoning`: tokens without text between the tokens of a visible thought.

After F. Bonetto's self-reasoning tokens (reasoning-tokens.ghost.io, April 2024). Each step of the visible
thought is n reasoning tokens and then a text token. The reasoning tokens have learned embeddings and share the
text token's position id; the text token reads them, and so does everything later. In training, a query gives no
gradient to the keys and values of its own step's reasoning tokens, so that the loss on the very next token
cannot train them and only later ones do (`interp.models.stop_gradient_attention`):

    <bot>  r r t1  r r t2  ...  r r <eot>  answer

The token after t1 is predicted at t1, whose forward pass sees the two tokens before it and whose gradient does
not. Two controls differ in little: with `ordinary_gradient_loss` the gradient is left as it is, and with
`reasoning_read = "reasoning"` the next text token is predicted at the last reasoning token before it, which
makes the reasoning tokens pauses (arXiv 2310.02226).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.models.stop_gradient_attention import same_step, stopping_gradients
from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.lessons import Lesson, LessonBatch, next_token_loss
from interp.reasoners.rollout import Rollout
from interp.traces import Channel

if TYPE_CHECKING:
    from interp.organisms.catalog import Recipe


class SelfReasoner(Reasoner):
    """Thinks in text between two markers, with `config.reasoning_tokens` silent tokens before each of its tokens.

    The end marker is a text token like the others. The question and the answer have no reasoning tokens.
    """

    kind = "self-reasoning"
    shares_position = frozenset({Channel.LATENT})

    @classmethod
    def words(cls, config: ReasonerConfig) -> list[str]:
        return list(dict.fromkeys(_reasoning_words(config)))

    @classmethod
    def lesson(cls, problem: Problem, config: ReasonerConfig, hidden: int) -> Lesson:
        question = [*problem.question.split(), *filter(None, [config.begin])]
        written = [word for step in problem.steps for word in step.text.split()]
        words, scored = list(question), [False] * len(question)
        for word in [*written, *filter(None, [config.end])]:
            words += [*_reasoning_words(config), word]
            scored += [*[False] * config.reasoning_tokens, True]
        ending = [*problem.answer.split(), config.eos]
        scored += [True] * len(ending)
        return Lesson([*words, *ending], scored, len(question), 0, extra=tuple(_reasoning_words(config)))

    @classmethod
    def logits(cls, model: Any, batch: LessonBatch, config: ReasonerConfig) -> Float[Tensor, "batch pos vocab"]:
        return _logits(model, batch, config, stop=True)

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        self._mark(rollout, self.config.begin)
        stops = {self.token_id(token) for token in (self.config.end, self.config.eos) if token}
        open_ = torch.ones(len(problems), dtype=torch.bool)
        each = self.config.reasoning_tokens + 1
        for k in range(1, self.config.max_thought_tokens + 2):
            steps = [min(k, problem.n_steps) for problem in problems]
            ids = self._reason(rollout, open_, steps, (k - 1) * each)
            going = torch.tensor([i not in stops for i in ids.tolist()])
            going &= (rollout.room > self.config.max_answer_tokens + 1) & (k <= self.config.max_thought_tokens)
            self._mark(rollout, self.config.end, open_ & ~going)
            open_ &= going
            if not open_.any():
                break
            rollout.feed(channel=Channel.THOUGHT, ids=ids, active=open_, steps=steps, thought=k * each, sampled=True)
        self._answer(rollout)

    def _reason(
        self, rollout: Rollout, open_: Bool[Tensor, " batch"], steps: list[int], before: int
    ) -> Int[Tensor, " batch"]:
        """Feed the reasoning tokens of one step and say which text token follows them."""
        at_text = self.config.reasoning_read == "text"
        text, ids = rollout.last, rollout.choose() if at_text else None
        for j, word in enumerate(_reasoning_words(self.config), 1):
            rollout.feed(
                channel=Channel.LATENT,
                ids=self._constant(word, rollout),
                active=open_,
                steps=steps,
                thought=before + j,
            )
        if ids is None:
            return rollout.choose()
        rollout.last = text
        return ids


def ordinary_gradient_loss(recipe: Recipe) -> Callable[[Any, LessonBatch, float], Float[Tensor, ""]]:
    """The loss of the control: the same forward pass, with every gradient left as it is."""
    config = recipe.reasoner()
    return lambda model, batch, done: next_token_loss(ordinary_logits(model, batch, config), batch)


def ordinary_logits(model: Any, batch: LessonBatch, config: ReasonerConfig) -> Float[Tensor, "batch pos vocab"]:
    """What `SelfReasoner.logits` returns, to the last bit, with all of its gradients."""
    return _logits(model, batch, config, stop=False)


def layout(
    ids: Int[Tensor, "batch pos"], reasoning: Int[Tensor, " n_reasoning"]
) -> tuple[Bool[Tensor, "batch pos"], Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Of a batch of token ids: which are reasoning tokens, every token's position id, and the text token before it.

    A reasoning token shares the position id of the text token that follows it. The third result is the column
    of the last text token before each column, at which the token in that column is predicted (0 for the first).
    """
    silent = torch.isin(ids, reasoning)
    columns = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    latest = torch.where(silent, -1, columns).cummax(dim=1).values
    before = torch.cat([torch.zeros_like(latest[:, :1]), latest[:, :-1]], dim=1)
    taken = (~silent).long()
    return silent, torch.cumsum(taken, dim=1) - taken, before.clamp(min=0)


def _logits(model: Any, batch: LessonBatch, config: ReasonerConfig, *, stop: bool) -> Float[Tensor, "batch pos vocab"]:
    """What is predicted of the token after each column: at the column itself, or at the last text token before."""
    silent, places, before = layout(batch.ids, batch.extra[0])
    # Without a mask, Hugging Face takes shared position ids for several sequences packed into one.
    inputs: dict[str, Any] = {"input_ids": batch.ids, "position_ids": places}
    inputs["attention_mask"] = torch.ones_like(batch.ids)
    if stop:
        with stopping_gradients(model):
            states = model.base_model(**inputs, stopped=same_step(places, silent)).last_hidden_state
    else:
        states = model.base_model(**inputs).last_hidden_state
    if config.reasoning_read == "text":
        source = torch.cat([before[:, 1:], before[:, -1:]], dim=1)
        states = states.gather(1, source[:, :, None].expand_as(states))
    return model.get_output_embeddings()(states)


def _reasoning_words(config: ReasonerConfig) -> list[str]:
    return [config.reasoning.format(k) for k in range(1, config.reasoning_tokens + 1)]
