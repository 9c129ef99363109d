"""Reasoners whose thoughts carry no text: the same loop, and what is fed in a thought's place.

`continuous` is Coconut (arXiv 2412.06769, section 3): a thought's input embedding is the previous
position's final-norm hidden state, here times a fixed scale where the organism was trained with one, and
through a projection where it has one, as in CODI (arXiv 2502.21074). `pause` (arXiv 2310.02226) feeds one
learned token instead, so nothing returns to the bottom of the network; on Coconut's own curriculum it is
the control that shows what the recurrence is for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.cache import run_cached
from interp.models.projection import Projection
from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.lessons import LessonBatch
from interp.reasoners.rollout import EXTRA_POSITIONS, Rollout
from interp.traces import Channel


class SilentReasoner(Reasoner):
    """A number of latent positions, known beforehand, between the markers."""

    @classmethod
    @abstractmethod
    def placeholder(cls, config: ReasonerConfig, thought: int) -> str:
        """The token recorded for thought number `thought`, from 1."""

    @classmethod
    def fillers(cls, config: ReasonerConfig, hidden: int) -> list[str]:
        n_thoughts = config.n_thoughts(hidden) if hidden else 0
        return [cls.placeholder(config, k) for k in range(1, n_thoughts + 1)]

    def _thought(self, rollout: Rollout) -> Float[Tensor, "batch d_model"] | None:
        """The embedding to feed, or None to feed the placeholder's own."""
        return None

    def _ahead(self, problems: Sequence[Problem]) -> int:
        thoughts = max(self.config.n_thoughts(problem.n_steps) for problem in problems)
        markers = [
            id for marker in (self.config.begin, self.config.end) if marker is not None for id in self._ids(marker)
        ]
        return thoughts + len(markers) + min(EXTRA_POSITIONS, self.config.max_answer_tokens)

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        self.think_silently(rollout, problems, [self.config.n_thoughts(problem.n_steps) for problem in problems])
        self._mark(rollout, self.config.end)
        self._answer(rollout)

    def think_silently(self, rollout: Rollout, problems: Sequence[Problem], thoughts: Sequence[int]) -> None:
        """The begin marker and so many thoughts of each row; of how many in all, its problem says."""
        self._mark(rollout, self.config.begin)
        wanted = [self.config.n_thoughts(problem.n_steps) for problem in problems]
        for k in range(1, max(thoughts) + 1):
            active = None if k <= min(thoughts) else torch.tensor([k <= n for n in thoughts])
            rollout.feed(
                channel=Channel.LATENT,
                ids=self._constant(self.placeholder(self.config, k), rollout),
                embeds=self._thought(rollout),
                active=active,
                steps=[_step(k, n, problem.n_steps) for n, problem in zip(wanted, problems, strict=True)],
                thought=k,
            )


class ContinuousReasoner(SilentReasoner):
    kind = "continuous"

    @classmethod
    def placeholder(cls, config: ReasonerConfig, thought: int) -> str:
        return config.latent

    def _thought(self, rollout: Rollout) -> Float[Tensor, "batch d_model"]:
        return _fed_back(rollout.last, self.projection, self.config)

    @classmethod
    def logits(cls, model: Any, batch: LessonBatch, config: ReasonerConfig) -> Float[Tensor, "batch pos vocab"]:
        """Thoughts are fed back, and gradients flow through the whole chain of them, as in the paper."""
        if not batch.n_thoughts:
            return super().logits(model, batch, config)
        embed, base = model.get_input_embeddings(), model.base_model
        projection = getattr(model, "thought_projection", None)
        first, last = batch.first_thought, batch.first_thought + batch.n_thoughts
        out, cache = run_cached(base, None, inputs_embeds=embed(batch.ids[:, :first]))
        states = [out.last_hidden_state]
        for _ in range(batch.n_thoughts):
            thought = _fed_back(states[-1][:, -1:], projection, config)
            out, cache = run_cached(base, cache, inputs_embeds=thought)
            states.append(out.last_hidden_state)
        out, _ = run_cached(base, cache, inputs_embeds=embed(batch.ids[:, last:]))
        states.append(out.last_hidden_state)
        return model.get_output_embeddings()(torch.cat(states, dim=1))


class PauseReasoner(SilentReasoner):
    kind = "pause"

    @classmethod
    def placeholder(cls, config: ReasonerConfig, thought: int) -> str:
        return config.pause


def _fed_back(state: Tensor, projection: Projection | None, config: ReasonerConfig) -> Tensor:
    return (state if projection is None else projection(state)) * config.latent_scale


def _step(thought: int, n_thoughts: int, n_steps: int) -> int:
    """The gold step that a thought stands for, when thoughts are shared out evenly over the steps."""
    return -(-thought * n_steps // n_thoughts) if n_steps else 0
