"""Whether a reasoner answers better than one who has not read the questions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from interp.models.report import LoadReport
from interp.problems.answers import plain
from interp.statistics.estimates import Estimate
from interp.traces import TraceSet


class ChanceWarning(TypedDict):
    """What is said of a reasoner at chance, and what chance is."""

    chance: float
    warning: str


@dataclass(frozen=True)
class ChanceCheck:
    """The accuracy of traces beside what one fixed answer scores.

    Attributes:
        accuracy: The share of right answers.
        chance: The share of questions whose answer is the most frequent one.
        answer: That answer.
    """

    accuracy: Estimate
    chance: float
    answer: str

    @classmethod
    def of(cls, traces: TraceSet) -> ChanceCheck:
        """Return the check of some traces, at least one."""
        answers = [plain(trace.problem.answer) or trace.problem.answer for trace in traces]
        answer, n = Counter(answers).most_common(1)[0]
        right = np.array([trace.correct for trace in traces])
        structures = np.array([trace.problem.structure for trace in traces])
        return cls(Estimate.of_mean(right, structures), n / len(traces), answer)

    @classmethod
    def warning_of(cls, traces: TraceSet, loaded: LoadReport, *, own_questions: bool) -> ChanceWarning | None:
        """Return a warning where answers are at chance and the reasoner or its questions are the user's.

        Args:
            traces: What the reasoner thought.
            loaded: How it was loaded.
            own_questions: Whether the questions are the user's; otherwise only a reasoner of which something was assumed
                is warned about.
        """
        if not len(traces) or not (own_questions or loaded.assumptions()):
            return None
        check = cls.of(traces)
        return {"chance": check.chance, "warning": check.warning(loaded)} if check.is_at_chance else None

    @property
    def is_at_chance(self) -> bool:
        """Whether the interval of the accuracy includes chance, or lies below it, and not every answer is right."""
        return self.accuracy.value < 1.0 and not self.accuracy.low > self.chance

    def warning(self, loaded: LoadReport) -> str:
        """Return what to say of a reasoner at chance: it may not think the way it was loaded."""
        measured = self.accuracy
        text = (
            f"{measured.value:.3f} [{measured.low:.3f}, {measured.high:.3f}] of {measured.n} answers are right, which is no "
            f"better than always answering {self.answer[:30]!r} ({self.chance:.3f})"
        )
        assumed = loaded.assumptions()
        if not assumed:
            return f"{text}."
        listed = ", ".join(f"{name} {value!r}" for name, value in assumed.items())
        return f"{text}; perhaps it does not think the way it was loaded. Assumed: {listed}. Give them with --reasoner."
