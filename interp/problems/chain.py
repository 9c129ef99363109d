"""Task `chain`: apply a list of operations to a start value, one after another.

The operations are additions, multiplications and fixed random permutations of the values. No algebra composes
them, so every intermediate value has to be computed. The set of operations is *balanced*: for every pair of
values, the same number of operations maps the first to the second. So neither the start nor any single operation
carries information about a step's value, and a linear read-out of the question's tokens is at chance.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from random import Random

import numpy as np

from interp.errors import UsageError, checked_count
from interp.problems.base import Problem, Split, Step, Task, Verdict, split_of, structure_hash
from interp.problems.options import checked_choice, checked_edit, checked_rewriting, length_range, spec_of

ORDERS = ("in-order", "shuffled", "mixed")
_PERMUTATION_SEED = 20261101
_LETTERS = "fghjkmpqrstuvwxyzabcden"
_RESTATED: dict[bool | str, bool] = {True: True, False: False, "yes": True, "no": False}


@dataclass(frozen=True)
class Operation:
    """One operation on the values.

    Attributes:
        name: The operation's token, such as "+3".
        readable: The operation in words.
        table: The result for each value.
    """

    name: str
    readable: str
    table: tuple[int, ...]


@functools.cache
def operations(n_values: int) -> tuple[Operation, ...]:
    """Return the balanced set of operations on `n_values` values.

    All non-zero additions, two multiplications, and as many random permutations as make every (from, to) pair
    equally frequent. The counts that are missing form a regular bipartite multigraph, which is a union of
    permutations (König), so each permutation is drawn as a random perfect matching.
    """
    balanced = [
        Operation(f"+{k}", f"add {k}", tuple((v + k) % n_values for v in range(n_values))) for k in range(1, n_values)
    ]
    counts = np.zeros((n_values, n_values), dtype=int)
    values = np.arange(n_values)
    for operation in balanced:
        counts[values, operation.table] += 1
    for k in range(2, n_values):
        table = values * k % n_values
        if gcd(k, n_values) == 1 and (counts[values, table] < 2).all() and len(balanced) < n_values + 1:
            balanced.append(Operation(f"*{k}", f"multiply by {k}", tuple(int(v) for v in table)))
            counts[values, table] += 1
    rng = np.random.default_rng(_PERMUTATION_SEED + n_values)
    letters = iter(_LETTERS)
    while (missing := 2 - counts).any():
        table = _random_matching(missing, rng)
        letter = next(letters, None) or f"r{len(balanced)}"
        balanced.append(Operation(letter, f"apply {letter}", tuple(int(v) for v in table)))
        counts[values, table] += 1
    return tuple(balanced)


def _random_matching(missing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random permutation that uses only pairs of which some are missing, shape (n_values,)."""
    from scipy.optimize import linear_sum_assignment

    cost = np.where(missing > 0, rng.random(missing.shape), 1e6)
    return linear_sum_assignment(cost)[1]


class ChainTask(Task):
    """Task `chain`: operations in order, or shuffled with index keys.

    A question reads `4 +3 f *7 ?` in order, and `4 2: f 3: *7 1: +3 ?` shuffled. A trace's text is the value after
    each step, `7 2 4`.

    Args:
        order: "in-order", "shuffled", or "mixed" for both.
        steps: Range of the number of steps, such as "2-5" or "3".
        values: Number of values.
        restated: Whether each step of a trace restates its operation: `4 +3 = 7 ;`.
    """

    name = "chain"
    rewritings = ("constant", "operations")

    def __init__(
        self, order: str = "in-order", steps: str = "2-5", values: int | str = 10, restated: bool | str = False
    ) -> None:
        self.order = checked_choice("order of task chain", order, ORDERS)
        self.n_values = checked_count("values of task chain", values, at_least=5)
        self.min_steps, self.max_steps = length_range("steps of task chain", steps, "2-5 or 3", 1, 9)
        if restated not in _RESTATED:
            raise UsageError(f"expected restated of task chain to be yes or no, got {restated!r}.")
        self.restated = _RESTATED[restated]
        options = [
            ("order", order, "in-order"),
            ("steps", str(steps), "2-5"),
            ("values", self.n_values, 10),
            ("restated", "yes" if self.restated else "no", "no"),
        ]
        self.spec = spec_of("chain", options)
        self.values = tuple(str(v) for v in range(self.n_values))
        self.operations = operations(self.n_values)
        self._by_name = {operation.name: operation for operation in self.operations}

    def vocabulary(self) -> list[str]:
        """Return every word of the task's questions, steps and answers."""
        keys = [f"{k}:" for k in range(1, 10)]
        signs = ["=", ";"] if self.restated else []
        return [*self.values, *(operation.name for operation in self.operations), *keys, "?", *signs]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield problems of one split without end, of `n_steps` steps where given."""
        while True:
            length = n_steps or rng.randint(self.min_steps, self.max_steps)
            start = rng.randrange(self.n_values)
            chosen = [rng.choice(self.operations) for _ in range(length)]
            structure = structure_hash(self.name, self.n_values, start, [operation.name for operation in chosen])
            if split_of(structure) != split:
                continue
            order = self.order if self.order != "mixed" else rng.choice(ORDERS[:2])
            yield self._problem(start, chosen, structure, split, self._surface(rng, order, start, chosen))

    def problem(self, start: int, names: list[str]) -> Problem:
        """Return the in-order problem that applies named operations to a start value.

        Args:
            start: A value, from 0.
            names: Names of the operations, in order; at least one.

        Raises:
            UsageError: The start value or an operation does not exist.
        """
        if not 0 <= start < self.n_values or not names or any(name not in self._by_name for name in names):
            raise UsageError(
                f"expected a start from 0 to {self.n_values - 1} and operations of task chain, got {start!r} and {names!r}."
            )
        chosen = [self._by_name[name] for name in names]
        structure = structure_hash(self.name, self.n_values, start, names)
        return self._problem(
            start, chosen, structure, split_of(structure), self._surface(Random(0), ORDERS[0], start, chosen)
        )

    def _surface(self, rng: Random, order: str, start: int, chosen: list[Operation]) -> str:
        if order == "in-order":
            return " ".join([str(start), *(operation.name for operation in chosen), "?"])
        keyed = [f"{k}: {operation.name}" for k, operation in enumerate(chosen, 1)]
        rng.shuffle(keyed)
        return " ".join([str(start), *keyed, "?"])

    def _problem(self, start: int, chosen: list[Operation], structure: str, split: Split, question: str) -> Problem:
        value, steps = start, []
        for operation in chosen:
            text = " ".join(self._words(value, operation))
            value = operation.table[value]
            steps.append(Step(text=text, value=str(value)))
        readable = ", ".join(operation.readable for operation in chosen)
        return Problem(
            id=structure_hash(question),
            task=self.spec,
            question=question,
            answer=str(value),
            steps=tuple(steps),
            structure=structure,
            split=split,
            readable=f"Start with {start}; {readable} (mod {self.n_values}).",
            meta={"start": str(start), "operations": [operation.name for operation in chosen]},
        )

    def _words(self, before: int, operation: Operation) -> list[str]:
        """Return the words of the step that applies `operation` to the value `before`."""
        value = str(operation.table[before])
        return [str(before), operation.name, "=", value, ";"] if self.restated else [value]

    def rewrite(self, problem: Problem, rng: Random, what: str = "constant") -> Problem:
        """Return `problem` with another start value or, for "operations", with other operations too.

        Words keep their places, so the two questions differ in the rewritten words alone.
        """
        checked_rewriting(self.name, what, self.rewritings)
        start = rng.choice([v for v in range(self.n_values) if str(v) != problem.meta["start"]])
        chosen = [self._by_name[name] for name in problem.meta["operations"]]
        words = problem.question.split()
        words[0] = str(start)
        if what == "operations":
            chosen = [rng.choice(self.operations) for _ in chosen]
            keyed = {words[k]: k + 1 for k in range(1, len(words) - 1) if words[k].endswith(":")}
            for k, operation in enumerate(chosen, 1):
                words[keyed.get(f"{k}:", k)] = operation.name
        structure = structure_hash(self.name, self.n_values, start, [operation.name for operation in chosen])
        return self._problem(start, chosen, structure, split_of(structure), " ".join(words))

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`: the steps and then the answer, separated by white space.

        The last word is the answer. The words before it are the steps, one word each, or five where steps are
        restated. Each step is checked against the *written* value before it, so one slip counts once.
        """
        words = text.split()
        size, value_at = (5, 3) if self.restated else (1, 0)
        written = [words[k : min(k + size, len(words) - 1)] for k in range(0, len(words) - 1, size)]
        answer = words[-1] if words else None
        right: list[bool | None] = []
        before = problem.meta["start"]
        for k, name in enumerate(problem.meta["operations"][: len(written)]):
            right.append(before in self.values and written[k] == self._words(int(before), self._by_name[name]))
            before = written[k][value_at] if len(written[k]) > value_at else ""
        right.extend(False for _ in written[problem.n_steps :])
        return Verdict.of_steps(answer == problem.answer, right, len(problem.meta["operations"]))

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Return the answer if `step` (from 1) had reached `value` and the later steps were applied to it."""
        checked_edit(problem, step, value, self.values)
        reached = int(value)
        for name in problem.meta["operations"][step:]:
            reached = self._by_name[name].table[reached]
        return str(reached)
