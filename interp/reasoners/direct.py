"""`direct`: the answer straight after the question, without thoughts."""

from __future__ import annotations

from collections.abc import Sequence

from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.curriculum import Curriculum
from interp.reasoners.rollouts.rollout import Rollout
from interp.reasoners.rollouts.writing import close_thought, open_thought, write_answer


class DirectCurriculum(Curriculum):
    """Trains the answer alone."""

    writes_steps = False


class DirectReasoner(Reasoner):
    """Answers straight after the question."""

    kind = "direct"
    curriculum_class = DirectCurriculum

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        close_thought(rollout, self.vocabulary, open_thought(rollout, self.vocabulary))
        write_answer(rollout, self.vocabulary)
