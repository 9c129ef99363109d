"""`text`: visible reasoning, one token after another until the end marker."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.rollout import Rollout
from interp.traces import Channel


class TextReasoner(Reasoner):
    kind = "text"

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        self._mark(rollout, self.config.begin)
        stops = {self.token_id(token) for token in (self.config.end, self.config.eos) if token}
        thinking = torch.ones(len(problems), dtype=torch.bool, device=self.device)
        kept_free = 1 + self.config.max_answer_tokens
        per_step = self.config.thoughts_per_step
        for k in range(1, self.config.max_thought_tokens + 1):
            ids = rollout.logits.argmax(-1)
            thinking = thinking & torch.tensor([int(i) not in stops for i in ids], device=self.device)
            thinking = thinking & (rollout.room > kept_free)
            if not thinking.any():
                break
            steps = [min(-(-k // per_step), problem.n_steps) for problem in problems]
            rollout.feed(channel=Channel.THOUGHT, ids=ids, active=thinking, steps=steps, thought=k, sampled=True)
        self._mark(rollout, self.config.end)
        self._answer(rollout)
