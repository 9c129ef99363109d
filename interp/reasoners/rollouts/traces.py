"""The traces of finished rows: what was written, whether the answer is right, and which step each position belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from interp.problems import task as make_task
from interp.problems.base import Problem
from interp.reasoners.options import CheckedThinkOptions
from interp.reasoners.rollouts.batch import Row
from interp.reasoners.spans import WrittenSteps, counted_parts, written_steps
from interp.reasoners.vocabulary import Vocabulary
from interp.traces import Channel, Trace


@dataclass(frozen=True)
class TraceMaker:
    """Turns the finished rows of a reasoner into traces.

    Attributes:
        vocabulary: The reasoner's vocabulary, with its config.
        reasoner: Name of the reasoner.
        weights: Hash of its weights.
        tokenizer_hash: Hash of its tokenizer.
        thinks_in_text: Whether its whole thought is text.
        visible_per_step: Visible tokens of each step, where steps are counted.
        options: The options of `think`.
    """

    vocabulary: Vocabulary
    reasoner: str
    weights: str
    tokenizer_hash: str
    thinks_in_text: bool
    visible_per_step: int
    options: CheckedThinkOptions

    def trace(self, number: int, problem: Problem, row: Row) -> Trace:
        """Return the trace of a finished row.

        Args:
            number: Number of the problem.
            problem: The problem.
            row: What was thought and answered.
        """
        thought, answer = self.vocabulary.thought_of(row), self.vocabulary.answer_of(row)
        correct = make_task(problem.task).answered_right(problem, thought, answer)
        written = self._written(problem, row, correct)
        step, sentence = row.step, []
        if written is not None and self.vocabulary.config.steps == "text":
            step, sentence = written.step, written.sentence
        elif written is not None and self.thinks_in_text and min(written.value_positions) >= 0:
            # A count that does not fit the steps of the text is of no use where the text says it all.
            step = written.step if self._counted_parts(problem, row) is None else row.step
        return Trace(
            id=number,
            problem=problem,
            reasoner=self.reasoner,
            token_ids=row.token_ids,
            tokens=self.vocabulary.tokens(row.token_ids),
            channel=[str(c) for c in row.channel],
            step=step,
            thought=row.thought,
            entropy=row.entropy,
            logprob=row.logprob,
            text=f"{thought} {answer}".strip(),
            answer=answer,
            correct=correct,
            seed=self.options.seed,
            temperature=float(self.options.temperature),
            latents=torch.stack(row.latents).numpy() if row.latents else None,
            sentence=sentence,
            events=row.events,
            weights=self.weights,
            tokenizer=self.tokenizer_hash,
            value_positions=written.value_positions if written is not None else [],
        )

    def _written(self, problem: Problem, row: Row, correct: bool) -> WrittenSteps | None:
        """Return the steps and sentences of a row's visible thought; None where it has none, or nobody asks for them."""
        is_visible = self.thinks_in_text or Channel.THOUGHT in row.channel
        if not (is_visible and (problem.steps or self.vocabulary.config.steps == "text")):
            return None
        parts = self._counted_parts(problem, row)
        return written_steps(self.vocabulary.tokenizer, row, problem, correct=correct, parts=parts)

    def _counted_parts(self, problem: Problem, row: Row) -> list[tuple[int, int]] | None:
        """Return the visible tokens of each step, where the config counts them and the count fits."""
        config = self.vocabulary.config
        if config.steps != "count":
            return None
        separator = self.vocabulary.token_id(config.separator) if config.separator else None
        return counted_parts(row, problem.n_steps, self.visible_per_step, separator)
