"""Reasoners whose thoughts carry no text: the same loop, and what is fed in a thought's place.

`continuous` is Coconut (arXiv 2412.06769, section 3): a thought's input embedding is the previous
position's final-norm hidden state, here times a fixed scale where the organism was trained with one.
`pause` (arXiv 2310.02226) feeds one learned token instead, so nothing returns to the bottom of the
network; on Coconut's own curriculum it is the control that shows what the recurrence is for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.rollout import Rollout
from interp.traces import Channel


class SilentReasoner(Reasoner):
    """A fixed number of latent positions between the markers."""

    @property
    @abstractmethod
    def _placeholder(self) -> str:
        """The token id recorded for a thought."""

    def _thought(self, rollout: Rollout) -> Float[Tensor, "batch d_model"] | None:
        """The embedding to feed, or None to feed the placeholder's own."""
        return None

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        self._mark(rollout, self.config.begin)
        wanted = [self.config.n_thoughts(problem.n_steps) for problem in problems]
        ids = self._constant(self._placeholder, rollout)
        for k in range(1, max(wanted) + 1):
            active = torch.tensor([k <= n for n in wanted], device=self.device)
            rollout.feed(
                channel=Channel.LATENT,
                ids=ids,
                embeds=self._thought(rollout),
                active=active,
                steps=[_step(k, n, problem.n_steps) for n, problem in zip(wanted, problems, strict=True)],
                thought=k,
            )
        self._mark(rollout, self.config.end)
        self._answer(rollout)


class ContinuousReasoner(SilentReasoner):
    kind = "continuous"

    @property
    def _placeholder(self) -> str:
        return self.config.latent

    def _thought(self, rollout: Rollout) -> Float[Tensor, "batch d_model"]:
        return rollout.last * self.config.latent_scale


class PauseReasoner(SilentReasoner):
    kind = "pause"

    @property
    def _placeholder(self) -> str:
        return self.config.pause


def _step(thought: int, n_thoughts: int, n_steps: int) -> int:
    """The gold step that a thought stands for, when thoughts are shared out evenly over the steps."""
    return -(-thought * n_steps // n_thoughts) if n_steps else 0
