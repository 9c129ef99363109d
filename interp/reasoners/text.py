"""`text`: visible reasoning, one token after another until the end marker."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.rollout import Rollout
from interp.traces import Channel


class TextReasoner(Reasoner):
    """Thinks in text between two markers, each of one token or several.

    Without a begin marker the prompt is taken to have opened the thought itself. A thought that is not closed
    when its budget is spent (`max_thought_tokens`, or the model's positions) is closed by force, and the answer
    follows.
    """

    kind = "text"

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        self._mark(rollout, self.config.begin)
        self._write(rollout, problems)

    def _write(self, rollout: Rollout, problems: Sequence[Problem], given: Sequence[Sequence[int]] = ()) -> None:
        """Write thoughts after those `given` (token ids, equally many for each row, fed already), then the answer."""
        ending = self._ids(self.config.end) if self.config.end else []
        stops = {self.token_id(self.config.eos), *ending[:1]} if len(ending) <= 1 else {self.token_id(self.config.eos)}
        thinking = torch.ones(len(problems), dtype=torch.bool, device=self.device)
        closed = torch.zeros_like(thinking)
        separator = self.token_id(self.config.separator) if self.config.separator else None
        # Steps that each row has written to their separator.
        finished = [sum(i == separator for i in each) for each in given] if given else [0] * len(problems)
        before = len(given[0]) if given else 0
        kept_free = len(ending) + self.config.max_answer_tokens
        for k in range(before + 1, self.config.max_thought_tokens + 1):
            ids = rollout.choose()
            thinking = thinking & torch.tensor([int(i) not in stops for i in ids], device=self.device)
            thinking = thinking & (rollout.room > kept_free)
            if not thinking.any():
                break
            by_count = -(-k // self.config.thoughts_per_step)
            steps = [
                min(by_count if separator is None else done + 1, problem.n_steps)
                for done, problem in zip(finished, problems, strict=True)
            ]
            rollout.feed(channel=Channel.THOUGHT, ids=ids, active=thinking, steps=steps, thought=k, sampled=True)
            finished = [done + (i == separator) for done, i in zip(finished, ids.tolist(), strict=True)]
            if len(ending) > 1:
                just = torch.tensor([row.ends_with(ending) for row in rollout.rows], device=self.device) & thinking
                for b in torch.nonzero(just)[:, 0].tolist():
                    rollout.rows[b].relabel(len(ending), Channel.SPECIAL)
                closed, thinking = closed | just, thinking & ~just
        self._mark(rollout, self.config.end, ~closed)
        self._answer(rollout)
