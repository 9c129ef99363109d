"""Task `chain`: a start value and a list of operations to apply to it, one after another.

The operations are additions, multiplications and fixed random permutations of the values, so no
algebra composes them and every intermediate value has to be computed. Together they are *balanced*:
for every pair of values, the same number of operations maps the first to the second. So neither the
start alone nor any single operation says anything about any step's value, and a linear read-out of
the question's tokens is at chance by construction.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from random import Random

import numpy as np

from interp.errors import UsageError, checked_count, unknown
from interp.problems.base import (
    Problem,
    Split,
    Step,
    Verdict,
    WithoutFacts,
    checked_edit,
    checked_rewriting,
    split_of,
    structure_hash,
)
from interp.problems.drawn import DrawnTask, length_range, spec_of

ORDERS = ("in-order", "shuffled", "mixed")
_PERMUTATION_SEED = 20261101
_LETTERS = "fghjkmpqrstuvwxyzabcden"
_RESTATED: dict[bool | str, bool] = {True: True, False: False, "yes": True, "no": False}


@dataclass(frozen=True)
class Operation:
    """One operation: its token, how a person would say it, and the value that each value becomes."""

    name: str
    readable: str
    table: tuple[int, ...]


@functools.cache
def operations(n_values: int) -> tuple[Operation, ...]:
    """The balanced set of operations on `n_values` values.

    All non-zero additions, two multiplications, and as many random permutations as make every
    (from, to) pair equally frequent: the remaining counts form a regular bipartite multigraph, which
    is a union of permutations (König), so each one is drawn as a random perfect matching.
    """
    found = [
        Operation(f"+{k}", f"add {k}", tuple((v + k) % n_values for v in range(n_values))) for k in range(1, n_values)
    ]
    counts = np.zeros((n_values, n_values), dtype=int)
    values = np.arange(n_values)
    for operation in found:
        counts[values, operation.table] += 1
    for k in range(2, n_values):
        table = values * k % n_values
        if gcd(k, n_values) == 1 and (counts[values, table] < 2).all() and len(found) < n_values + 1:
            found.append(Operation(f"*{k}", f"multiply by {k}", tuple(int(v) for v in table)))
            counts[values, table] += 1
    rng = np.random.default_rng(_PERMUTATION_SEED + n_values)
    letters = iter(_LETTERS)
    while (left := 2 - counts).any():
        table = _random_matching(left, rng)
        letter = next(letters, None) or f"r{len(found)}"
        found.append(Operation(letter, f"apply {letter}", tuple(int(v) for v in table)))
        counts[values, table] += 1
    return tuple(found)


def _random_matching(left: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment

    cost = np.where(left > 0, rng.random(left.shape), 1e6)
    return linear_sum_assignment(cost)[1]


class ChainTask(WithoutFacts, DrawnTask):
    """`chain`: `values` values (10), 2 to 5 steps, operations in order or shuffled with index keys.

    A question reads `4 +3 f *7 ?` in order, and `4 2: f 3: *7 1: +3 ?` shuffled. A trace's text is the
    value after each step: `7 2 4`. With `restated=yes` each step says what it does: `4 +3 = 7 ;`.
    """

    name = "chain"

    def __init__(
        self, order: str = "in-order", steps: str = "2-5", values: int | str = 10, restated: bool | str = False
    ) -> None:
        if order not in ORDERS:
            raise unknown("order of task chain", order, ORDERS)
        self.order = order
        self.n_values = checked_count("values of task chain", values, at_least=5)
        self.min_steps, self.max_steps = length_range("steps of task chain", steps, "2-5 or 3", 1, 9)
        if restated not in _RESTATED:
            raise UsageError(f"restated of task chain must be yes or no, but {restated!r} came.")
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
        keys = [f"{k}:" for k in range(1, 10)]
        signs = ["=", ";"] if self.restated else []
        return [*self.values, *(operation.name for operation in self.operations), *keys, "?", *signs]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """An endless stream of problems of one split, of `n_steps` steps where given."""
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
        """The problem, in order, that applies the operations of those names to `start`, in the split that it falls in."""
        if not 0 <= start < self.n_values or not names or any(name not in self._by_name for name in names):
            raise UsageError(f"task chain makes no problem of start {start!r} and operations {names!r}.")
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
        said = ", ".join(operation.readable for operation in chosen)
        return Problem(
            id=structure_hash(question),
            task=self.spec,
            question=question,
            answer=str(value),
            steps=tuple(steps),
            structure=structure,
            split=split,
            readable=f"Start with {start}; {said} (mod {self.n_values}).",
            meta={"start": str(start), "operations": [operation.name for operation in chosen]},
        )

    def _words(self, before: int, operation: Operation) -> list[str]:
        """How a step is written."""
        value = str(operation.table[before])
        return [str(before), operation.name, "=", value, ";"] if self.restated else [value]

    def rewritten(self, problem: Problem, rng: Random, what: str = "constant") -> Problem:
        """`problem` with another start value, or (`operations`) with another start and other operations.

        Words keep their places, so the two questions differ in the rewritten words alone.
        """
        checked_rewriting(what)
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
        """Check `text`, the steps and then the answer, separated by white space.

        The last word is the answer and the words before it are the steps, one word each, or five where they
        are restated; a text of one word has an answer and no steps. Each step is checked against what follows
        from the *written* value before it, so one slip is counted once.
        """
        words = text.split()
        size, value_at = (5, 3) if self.restated else (1, 0)
        written = [words[k : min(k + size, len(words) - 1)] for k in range(0, len(words) - 1, size)]
        answer = words[-1] if words else None
        right: list[bool | None] = []
        before = problem.meta["start"]
        for k, name in enumerate(problem.meta["operations"]):
            if k >= len(written):
                right.append(None)
                continue
            right.append(before in self.values and written[k] == self._words(int(before), self._by_name[name]))
            before = written[k][value_at] if len(written[k]) > value_at else ""
        right.extend(False for _ in written[problem.n_steps :])
        first = next((k for k, ok in enumerate(right, 1) if ok is False), None)
        return Verdict(answer=answer == problem.answer, steps=tuple(right), first_error=first)

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """The answer if step `step` (from 1) had reached `value` and the later steps were applied to it."""
        checked_edit(problem, step, value, self.values)
        reached = int(value)
        for name in problem.meta["operations"][step:]:
            reached = self._by_name[name].table[reached]
        return str(reached)
