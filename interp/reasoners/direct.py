"""`direct`: the answer straight after the question, with no thoughts at all."""

from __future__ import annotations

from collections.abc import Sequence

from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.rollout import Rollout


class DirectReasoner(Reasoner):
    kind = "direct"
    writes_steps = False

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        self._mark(rollout, self.config.begin)
        self._mark(rollout, self.config.end)
        self._answer(rollout)
