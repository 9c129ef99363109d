"""Tasks whose problems are checked as free text, and carry the answers to other values of their steps."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from interp.errors import UsageError
from interp.problems.answers import answer_is_right, final_answer, number_of, numbers_in, plain
from interp.problems.base import Problem, Task, Verdict
from interp.problems.options import checked_step
from interp.problems.questions.related import related


class FreeTextTask(Task):
    """A task of the user's own: free text is checked, and each problem carries its counterfactuals and rewrites."""

    rewritings = ("constant", "operations")
    free_answers = True

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check the final answer of a free text, and which steps it writes: see `verify_free_text`."""
        return verify_free_text(problem, text)

    def answered_right(self, problem: Problem, thought: str, answer: str) -> bool:
        """Return whether the final answer of `answer` is right."""
        return bool(answer.strip()) and answer_is_right(answer, problem.answer)

    def says(self, problem: Problem, written: str, answer: str) -> bool:
        """Return whether the final answer of a free text is `answer`."""
        return written == answer or (bool(written.strip() and answer) and answer_is_right(written, answer))

    def stated(self, problem: Problem, written: str) -> str:
        """Return the final answer of a free text."""
        return final_answer(written, problem.answer).text

    def step_values(self, problem: Problem, step: int) -> tuple[str, ...]:
        """Return the gold value of a step and those that the problem carries an answer for."""
        own = problem.steps[checked_step(problem, step) - 1].value
        return tuple(dict.fromkeys([own, *given_answers(problem, step)]))

    def donors(self, problem: Problem) -> tuple[Problem, ...]:
        """Return the donors that the problem names; empty where it names none."""
        return related(problem, "donors")

    def rewrite(self, problem: Problem, rng: Random, what: str = "constant") -> Problem:
        """Return one of the rewrites that the problem names, whatever they change.

        Raises:
            UsageError: It names none.
        """
        rewrites = related(problem, "rewrites")
        if not rewrites:
            raise UsageError(self._why_no_rewrite(problem))
        return rng.choice(rewrites)

    def _why_no_rewrite(self, problem: Problem) -> str:
        return f"expected a rewrite of {problem.question[:60]!r}, got none; yield `rewrites` beside its question."

    def _known_answer(self, problem: Problem, step: int, value: str) -> str | None:
        """Return the answer if `step` had reached `value`, from the problem alone; None where it does not say."""
        own = problem.steps[checked_step(problem, step) - 1].value
        return given_answers(problem, step).get(value, problem.answer if value == own else None)


def given_answers(problem: Problem, step: int) -> dict[str, str]:
    """Return the counterfactual answers that a problem carries for a step, by value."""
    return problem.meta.get("counterfactuals", {}).get(str(step), {})


def verify_free_text(problem: Problem, text: str) -> Verdict:
    r"""Check the final answer of a free text.

    The answer follows `####`, `\boxed` or "answer is", else it is the last number or the last words. A step is True
    where its value is written after those of the steps before it, and None otherwise. No step is called wrong, because
    free text can leave steps out.

    Args:
        problem: The problem.
        text: The thought and the answer.
    """
    steps = _values_in_order(problem, _reasoning(text, problem.answer))
    return Verdict(answer_is_right(text, problem.answer), tuple(steps), None)


def _reasoning(text: str, gold: str) -> str:
    """Return the part of a text before its final answer."""
    answer = final_answer(text, gold)
    if answer.marked or number_of(gold) is not None:
        return answer.before
    words = text.split()
    return " ".join(words[: max(0, len(words) - len(gold.split()))])


def _values_in_order(problem: Problem, text: str) -> Iterator[bool | None]:
    """Yield for each step True where its value follows those of the steps before it, else None."""
    numbers, words = numbers_in(text), plain(text)
    for step in problem.steps:
        number = number_of(step.value)
        if number is not None:
            index = numbers.index(number) if number in numbers else -1
            numbers = numbers if index < 0 else numbers[index + 1 :]
        else:
            index = f" {words} ".find(f" {plain(step.value)} ")
            words = words if index < 0 else words[index + len(plain(step.value)) :].strip()
        yield None if index < 0 else True
