"""Task `questions`: the user's own questions from a JSONL file, with the answers that the file gives."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from interp.errors import UsageError, checked_count, counted
from interp.problems.base import (
    Problem,
    Split,
    checked_seed,
    checked_split,
    stream_rng,
)
from interp.problems.questions.file import (
    BrokenLine,
    QuestionFile,
    cached_question_file,
    read_question_file,
    read_questions,
)
from interp.problems.questions.free_text import FreeTextTask, given_answers
from interp.problems.questions.line import clean_number

__all__ = ["TRANSCRIPTS", "BrokenLine", "QuestionsTask", "TranscriptsTask", "read_questions"]
_MAX_LISTED = 5
#: The spec of problems that were imported with their transcripts.
TRANSCRIPTS = "transcripts"


class QuestionsTask(FreeTextTask):
    """Task `questions`: the questions of a file, split as the file says, else by a hash of the question's words.

    Problems carry what the file says of them. So where the file does not exist any more, their traces can still be
    checked, and their counterfactual answers and donors are known.

    Args:
        path: The JSONL file.

    Attributes:
        problems: The problems of the file.
        broken: The lines that cannot be used.
        notes: What was not taken as the file says it.
        fields: What became of each field that has no meaning of its own.
    """

    name = "questions"

    def __init__(self, path: str | Path) -> None:
        if "," in str(path):
            raise UsageError(f"expected a path without a comma for a question file, got {str(path)!r}; rename it.")
        self.path = str(path)
        self.spec = f"questions:path={self.path}"
        exists = Path(self.path).is_file()
        self._file = cached_question_file(self.path) if exists else QuestionFile([], [], [], {})
        self.problems, self.broken = self._file.problems, self._file.broken
        self.notes, self.fields = self._file.notes, self._file.fields
        self.min_steps, self.max_steps = self._file.step_range
        self.values = self._file.values

    def vocabulary(self) -> list[str]:
        """Return every word of the file's questions, steps and answers."""
        texts = (t for p in self._usable() for t in (p.question, *(step.text for step in p.steps), p.answer))
        return list(dict.fromkeys(word for text in texts for word in text.split()))

    def generate(self, n: int, seed: int, split: Split = "test") -> list[Problem]:
        """Return `n` problems of one split in an order that follows from the seed; a larger `n` extends the list.

        Warns when lines of the file were left out.

        Raises:
            UsageError: The split has fewer than `n` problems.
        """
        checked_count("n", n)
        rng = stream_rng(self.spec, checked_split(split), checked_seed(seed))
        problems = self._of_split(split)
        if self.broken:
            warnings.warn(
                f"{counted(len(self.broken), 'line')} of {self.path} left out: {_some(self.broken)}.", stacklevel=2
            )
        if self.notes:
            warnings.warn(f"of {self.path}: {_some(self.notes)}.", stacklevel=2)
        if len(problems) < n:
            raise UsageError(
                f"expected {n} problems in the {split} split of {self.path}, got {len(problems)} "
                f"({len(self.problems)} in all splits); ask for fewer."
            )
        return rng.sample(problems, len(problems))[:n]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield the problems of one split again and again, each time in another order."""
        problems = [problem for problem in self._of_split(split) if n_steps is None or problem.n_steps == n_steps]
        if not problems:
            of_length = "" if n_steps is None else f" with {n_steps} steps"
            raise UsageError(f"expected problems{of_length} in the {split} split of {self.path}, got none.")
        return _endless(problems, rng)

    def _of_split(self, split: Split) -> list[Problem]:
        return [problem for problem in self._usable() if problem.split == split]

    def _usable(self) -> list[Problem]:
        """Return the problems; raise an error that says why there are none."""
        if not self.problems:
            read_question_file(self.path)
            why = f": {self.broken[0]}" if self.broken else ""
            raise UsageError(f"expected questions in {self.path}, got no line that can be used{why}.")
        return self.problems

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Return the answer that the file gives for another value of a step.

        Raises:
            UsageError: The step does not exist, or the file gives no answer for this value.
        """
        value = clean_number(value)
        known = self._known_answer(problem, step, value)
        if known is not None:
            return known
        answers = given_answers(problem, step)
        listed = f"answers for {', '.join(answers)}" if answers else "none"
        raise UsageError(
            f"expected the answer that follows where step {step} reaches {value!r}, got {listed} in line "
            f'{problem.meta["line"]} of {self.path}; add "counterfactuals": {{"{step}": {{"{value}": "ANSWER"}}}} to it.'
        )

    def _why_no_rewrite(self, problem: Problem) -> str:
        return (
            f"expected a rewritten question of line {problem.meta['line']} of {self.path}, got none; add "
            '"rewrites": [{"question": "...", "answer": "..."}] to it, or name other lines there.'
        )

    def synonyms(self, word: str) -> tuple[str, ...]:
        """Return every word that the file gives the meaning of `word`, itself included."""
        return self._file.synonyms.get(word, (word,))

    def synonym_sets(self) -> list[tuple[str, ...]]:
        """Return the file's sets of words of one meaning. A model may write words that the file's texts do not have."""
        return sorted(set(self._file.synonyms.values()))


class TranscriptsTask(QuestionsTask):
    """Task `transcripts`: questions whose replies were written elsewhere and imported (`cotlens import traces`).

    Its problems only exist in their traces. They carry what the transcripts say of them.
    """

    name = TRANSCRIPTS

    def __init__(self) -> None:
        self.path, self.spec = "the imported transcripts", TRANSCRIPTS
        self._file = QuestionFile([], [], [], {})
        self.problems, self.broken, self.notes, self.fields = [], [], [], {}
        self.min_steps = self.max_steps = 0
        self.values = ()

    def answered_right(self, problem: Problem, thought: str, answer: str) -> bool:
        """Return whether the final answer of `answer` is right; False where the right answer is not known."""
        return bool(problem.answer) and super().answered_right(problem, thought, answer)

    def _usable(self) -> list[Problem]:
        raise UsageError(
            "expected a task that has problems, got 'transcripts', whose problems are in their traces; give those with "
            "--traces."
        )


def _some(listed: Sequence[object]) -> str:
    """Return the first few of many, and how many more there are."""
    more = f", and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    return "; ".join(map(str, listed[:_MAX_LISTED])) + more


def _endless(problems: list[Problem], rng: Random) -> Iterator[Problem]:
    while True:
        yield from rng.sample(problems, len(problems))
