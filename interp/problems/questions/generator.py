"""A task of a plain generator function: problems without end, and an oracle for other values of a step."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from random import Random
from typing import Any

from interp.errors import UsageError, unknown
from interp.problems.base import Problem, Split
from interp.problems.questions.free_text import FreeTextTask, given_answers
from interp.problems.questions.labels import labelled
from interp.problems.questions.line import clean_number, problem_of
from interp.problems.questions.related import with_related

_SAMPLE = 500  # problems that tell values and lengths
_PATIENCE = 20_000  # draws without a problem of the split or length

#: `answer_if(problem, step, value)`: the answer if a step (from 1) had reached a value; None where none follows.
Oracle = Callable[[Problem, int, str], object]


class GeneratorTask(FreeTextTask):
    """Problems of a generator function `draw(rng)`, which yields them without end.

    Each is a mapping with the fields of a line of a questions file: `question`, `answer`, and optionally `steps`,
    `values`, `counterfactuals`, `donors`, `rewrites` and labels. They are split by the question's words.

    Args:
        draw: The generator function; its first argument is a `random.Random`.
        answer_if: The oracle; by default the problems' own `counterfactuals` answer.
        options: Passed to `draw` by name.
    """

    def __init__(
        self,
        draw: Callable[..., Iterator[Mapping[str, Any]]],
        *,
        answer_if: Oracle | None = None,
        options: Mapping[str, object] | None = None,
    ) -> None:
        known = list(inspect.signature(draw).parameters)[1:]
        for option in options or {}:
            if option not in known:
                raise unknown(f"option of {draw.__name__}", option, known)
        self._draw = functools.partial(draw, **(options or {}))
        self._answer_if = answer_if
        self.name = draw.__name__
        self.spec = self.name

    @functools.cached_property
    def _sample(self) -> list[Problem]:
        return list(islice(self._problems(Random(0)), _SAMPLE))

    @functools.cached_property
    def values(self) -> tuple[str, ...]:  # type: ignore[override]
        """Every value that a step reaches in a sample of the problems, and that counterfactuals name."""
        values = (v for p in self._sample for k in range(1, p.n_steps + 1) for v in given_answers(p, k))
        gold = (step.value for p in self._sample for step in p.steps)
        return tuple(dict.fromkeys([*gold, *values]))

    @functools.cached_property
    def min_steps(self) -> int:  # type: ignore[override]
        """Fewest steps of a problem in a sample."""
        return min((p.n_steps for p in self._sample), default=0)

    @functools.cached_property
    def max_steps(self) -> int:  # type: ignore[override]
        """Most steps of a problem in a sample."""
        return max((p.n_steps for p in self._sample), default=0)

    def _problems(self, rng: Random) -> Iterator[Problem]:
        for number, raw in enumerate(self._draw(rng), 1):
            try:
                if not isinstance(raw, Mapping):
                    raise ValueError(f"expected a mapping with question and answer, got {type(raw).__name__}")
                problem = problem_of(dict(raw), self.spec, number)
            except ValueError as error:
                raise UsageError(f"problem {number} of {self.spec}: {error}.") from None
            line = (number, dict(raw))
            (problem,), refused = with_related([problem], [line])
            if refused:
                raise UsageError(f"problem {number} of {self.spec}: {refused[0].partition(': ')[2]}.")
            (problem,), _ = labelled([problem], [line])
            yield problem

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield problems of one split, of `n_steps` steps where given, until the generator ends.

        Raises:
            UsageError: The generator yields something else, or none of this split for long.
        """
        waited = 0
        for problem in self._problems(rng):
            waited += 1
            if problem.split == split and n_steps in (None, problem.n_steps):
                waited = 0
                yield problem
            elif waited == _PATIENCE:
                break
        of_length = "" if n_steps is None else f" with {n_steps} steps"
        raise UsageError(
            f"expected more problems{of_length} in the {split} split of {self.spec}, got none; let it yield without end, "
            "or ask for fewer."
        )

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Return the oracle's answer if `step` (from 1) had reached `value`.

        Raises:
            UsageError: The step does not exist, or no answer follows.
        """
        value = clean_number(value)
        known = self._known_answer(problem, step, value)
        if known is not None:
            return known
        answer = None if self._answer_if is None else self._answer_if(problem, step, value)
        if answer is None:
            raise UsageError(
                f"expected the answer that follows where step {step} reaches {value!r}, got none for "
                f"{problem.question[:60]!r}; define answer_if(problem, step, value) beside {self.name}, or yield "
                "counterfactuals."
            )
        return clean_number(str(answer))

    def step_values(self, problem: Problem, step: int) -> tuple[str, ...]:
        """Return the values that `step` may reach: all with an oracle, else those that the problem has answers for."""
        return self.values if self._answer_if is not None else super().step_values(problem, step)

    def vocabulary(self) -> list[str]:
        """Return every word of the questions, steps and answers of a sample."""
        texts = (t for p in self._sample for t in (p.question, *(step.text for step in p.steps), p.answer))
        return list(dict.fromkeys(word for text in texts for word in text.split()))
