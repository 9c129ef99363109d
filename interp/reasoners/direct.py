"""`direct`: the answer straight after the question, without thoughts."""

from __future__ import annotations

from collections.abc import Sequence

from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.curriculum import Curriculum
from interp.reasoners.rollouts.batch import Row
from interp.reasoners.rollouts.queue import write_rows
from interp.reasoners.rollouts.rollout import Rollout
from interp.reasoners.rollouts.writing import AnswerWriter, close_thought, open_thought, opening_of


class DirectCurriculum(Curriculum):
    """Trains the answer alone."""

    writes_steps = False


class DirectReasoner(Reasoner):
    """Answers straight after the question."""

    kind = "direct"
    curriculum_class = DirectCurriculum
    replaces_rows = True

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        close_thought(rollout, self.vocabulary, open_thought(rollout, self.vocabulary))
        write_rows(rollout, [AnswerWriter(self.vocabulary) for _ in rollout.rows], self._begun)

    def _begun(self, row: Row, index: int) -> AnswerWriter:
        """Return the writer of a row that has just read its prompt."""
        is_closed, needs_marker = opening_of(row, self.vocabulary)
        markers = [self.config.begin if needs_marker else None, None if is_closed else self.config.end]
        return AnswerWriter(self.vocabulary, [token for one in markers for token in self.vocabulary.marker_ids(one)])
