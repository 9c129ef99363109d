"""A kind of reasoner of another package: the answer straight after the question, under a name of its own."""

from __future__ import annotations

from interp.reasoners.direct import DirectReasoner


class AnswerOnlyReasoner(DirectReasoner):
    """Answers straight after the question."""

    kind = "answer-only"
