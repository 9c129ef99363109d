"""What a problem is, and the contract of a task: a generator and exact verifier of problems."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from random import Random
from types import MappingProxyType
from typing import Any, Literal

from interp.errors import UsageError, checked_count, unknown

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
MAX_PROBLEMS = 10_000_000  # as many as fit in the memory of a large machine
# Which of 20 hash buckets belong to which split. The held-out part is large because read-outs are fitted,
# selected and tested inside it.
_BUCKETS: dict[Split, range] = {"train": range(12), "val": range(12, 14), "test": range(14, 20)}


@dataclass(frozen=True)
class Step:
    """One gold reasoning step.

    Attributes:
        text: What a reasoner that thinks in words writes for this step.
        value: The result of the step.
    """

    text: str
    value: str


@dataclass(frozen=True)
class Problem:
    """A question with its answer and, where known, its gold steps.

    Attributes:
        id: A short hash of the question.
        task: Spec of the task that made the problem.
        question: What a model reads.
        answer: The right answer.
        steps: Gold steps, in order; empty where none are known.
        structure: Hash of the problem's canonical form, whatever its surface. Splits and intervals group by it.
        split: "train", "val" or "test".
        readable: The question in words for a person.
        meta: What the task needs to verify the problem, as JSON values.
    """

    id: str
    task: str
    question: str
    answer: str
    steps: tuple[Step, ...]
    structure: str
    split: str
    readable: str
    meta: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def n_steps(self) -> int:
        """The number of gold steps."""
        return len(self.steps)

    @property
    def labels(self) -> Mapping[str, str | Sequence[str | None] | None]:
        """The user's own labels: one for the problem, or a list with one for each step."""
        return self.meta.get("labels", {})

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The messages of a conversation before the question: `role` and `content` of each; mostly none."""
        return self.meta.get("messages", ())

    @property
    def prompt(self) -> str | None:
        """The whole prompt as text around `{question}`, where the problem brings its own; mostly None."""
        return self.meta.get("prompt")

    def to_json(self) -> str:
        """Return the problem as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Problem:
        """Return the problem that `to_json` wrote.

        Args:
            text: One line of JSON.

        Returns:
            A problem equal to the one that was written.
        """
        raw = json.loads(text)
        raw["steps"] = tuple(Step(**step) for step in raw["steps"])
        return cls(**raw)


@dataclass(frozen=True)
class Verdict:
    """Whether a text solves a problem.

    Attributes:
        answer: Whether the answer is right.
        steps: For each step, whether it is right; None where the text does not write that step.
        first_error: Number of the first wrong step, counted from 1; None if no step is wrong.
    """

    answer: bool
    steps: tuple[bool | None, ...]
    first_error: int | None

    @classmethod
    def of_steps(cls, answer: bool, steps: Sequence[bool | None], n_steps: int) -> Verdict:
        """Return the verdict on a text whose written steps are `steps`.

        Args:
            answer: Whether the answer is right.
            steps: Whether each written step is right; may be longer than `n_steps`.
            n_steps: Number of gold steps. Steps that were not written count as None.
        """
        checked = (*steps, *[None] * (n_steps - len(steps)))
        first_error = next((k for k, right in enumerate(checked, 1) if right is False), None)
        return cls(answer, checked, first_error)


class Task(ABC):
    """A generator and exact verifier of problems.

    Subclasses define `draws`, `verify`, `counterfactual` and `vocabulary`; the other methods have defaults.

    Attributes:
        name: Name of the task, as it is picked.
        spec: Name and options, such as "chain:steps=3"; `interp.task(spec)` makes the same task again.
        values: Every value that a step can reach.
        min_steps: Fewest steps of a problem.
        max_steps: Most steps of a problem.
        facts: Name of each fact about entities, and the number of entities that it is about.
        symbols: Words that can be exchanged for each other throughout a problem.
        rewritings: What `rewrite` can change: "constant", "operations", both or nothing.
        has_posterior: Whether `posterior` is defined.
        free_answers: Whether answers are free text, in which `stated` finds the answer.
        thoughts_hold_names: Whether thoughts hold names besides values, so that a donor for an interchange
            must share the names.
    """

    name: str
    spec: str
    values: tuple[str, ...]
    min_steps: int
    max_steps: int
    facts: Mapping[str, int] = MappingProxyType({})
    symbols: tuple[str, ...] = ()
    rewritings: tuple[str, ...] = ()
    has_posterior: bool = False
    thoughts_hold_names: bool = False
    free_answers: bool = False

    def generate(self, n: int, seed: int, split: Split = "test") -> list[Problem]:
        """Return `n` distinct problems of one split.

        Args:
            n: Number of problems. A larger `n` extends the list of a smaller one.
            seed: Which problems; the same seed gives the same list.
            split: "train", "val" or "test".

        Raises:
            UsageError: The split has fewer than `n` problems.
        """
        checked_count("n", n, at_most=MAX_PROBLEMS)
        rng = stream_rng(self.spec, checked_split(split), checked_seed(seed))
        problems = distinct(self.draws(rng, split), n)
        # A user's own class may name its problems' task otherwise, or inherit from one that does.
        return [p if p.task == self.spec else replace(p, task=self.spec) for p in problems]

    @abstractmethod
    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield problems of one split without end, of `n_steps` steps where given."""

    @abstractmethod
    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`, the steps and then the answer."""

    def answered_right(self, problem: Problem, thought: str, answer: str) -> bool:
        """Return whether the answer that follows a thought is right; what the thought says of it does not count.

        Args:
            problem: The problem.
            thought: The visible thought, which may be empty.
            answer: What was written as the answer.
        """
        return bool(answer.strip()) and self.verify(problem, f"{thought} {answer}".strip()).answer

    def says(self, problem: Problem, written: str, answer: str) -> bool:
        """Return whether what was written as the answer is `answer`, which need not be the right one.

        Args:
            problem: The problem.
            written: What was written as the answer.
            answer: An answer in the task's own form, such as `counterfactual` returns.
        """
        return written == answer

    def stated(self, problem: Problem, written: str) -> str:
        """Return the answer in what was written as the answer: all of it, where answers are no free text."""
        return written

    def same_answer(self, problem: Problem, one: str, other: str) -> bool:
        """Return whether two texts that were written as the answer to a problem say the same."""
        return one == other or self.says(problem, one, self.stated(problem, other))

    @abstractmethod
    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Return the answer that `problem` would have if `step` (from 1) had reached `value`.

        Raises:
            UsageError: The step or the value does not exist, or no answer follows.
        """

    def step_values(self, problem: Problem, step: int) -> tuple[str, ...]:
        """Return the values that `step` (from 1) of a problem may reach; all values of the task by default."""
        return self.values

    def donors(self, problem: Problem) -> tuple[Problem, ...]:
        """Return the problems that may give a state to this one, where the task names them; else empty."""
        return ()

    @abstractmethod
    def vocabulary(self) -> list[str]:
        """Return every word of the task's questions, steps and answers."""

    def entities(self, problem: Problem) -> tuple[str, ...]:
        """Return what the facts of `problem` are about: its variables, nodes or parameters."""
        return ()

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        """Return fact `name` about `entities` after `step` steps.

        Args:
            problem: The problem.
            name: A key of `facts`.
            entities: As many entities as `facts[name]` says.
            step: Number of steps done; 0 is the end of the question.

        Returns:
            "yes" or "no", or a value; None where the fact is not defined.
        """
        return None

    def rewrite(self, problem: Problem, rng: Random, what: str = "constant") -> Problem:
        """Return `problem` with one thing changed, and the answer that follows.

        The new problem may have another structure, and so another split.

        Args:
            problem: The problem to change.
            rng: Source of randomness.
            what: "constant" changes one constant or edge; "operations" draws a new constant and new
                operations and leaves the words' places.

        Raises:
            UsageError: The task cannot rewrite its problems, or not in this way.
        """
        raise UsageError(
            f"expected a task that can rewrite its problems, got {self.name}; take other problems instead."
        )

    def posterior(self, problem: Problem, step: int) -> Mapping[str, float]:
        """Return the probability of each value after `step` steps (from 1), given the question alone.

        Empty where it is not defined.
        """
        return {}

    def guess_sets(self, problem: Problem) -> tuple[tuple[str, ...], ...]:
        """Return sets of words from which a step's value can be guessed without following the question.

        One set for each way of guessing, such as the candidates that a question names. Empty where the question
        names none.
        """
        return ()

    def meaning(self, word: str) -> str | None:
        """Return what a word of a trace means to a reader; None for a word that means no value."""
        return word

    def synonyms(self, word: str) -> tuple[str, ...]:
        """Return every word with the meaning of `word`, itself included."""
        return (word,)

    def synonym_sets(self) -> list[tuple[str, ...]]:
        """Return the sets of words of one meaning; words that have no synonyms are in none."""
        sets = {self.synonyms(word) for word in self.vocabulary()}
        return sorted(words for words in sets if len(words) > 1)


def structure_hash(*parts: object) -> str:
    """Return a short stable hash of a problem's canonical form."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def split_of(structure: str) -> Split:
    """Return the one split in which problems of this structure appear.

    Args:
        structure: Structure hash of a problem.

    Returns:
        "train", "val" or "test".
    """
    bucket = int(structure[:8], 16) % 20
    return next(split for split, buckets in _BUCKETS.items() if bucket in buckets)


def checked_split(split: str) -> Split:
    """Return `split`; raise `UsageError` unless it is "train", "val" or "test"."""
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    return split  # type: ignore[return-value]


def checked_seed(seed: int) -> int:
    """Return `seed`; raise `UsageError` unless it is a whole number of at least 0."""
    return checked_count("seed", seed, at_least=0)


def distinct(draws: Iterator[Problem], n: int, *, patience: int = 2000) -> list[Problem]:
    """Return the first `n` problems of `draws` with distinct questions.

    Raises:
        UsageError: `patience` draws in a row repeat earlier questions, so the task has fewer than `n` problems.
    """
    questions: set[str] = set()
    problems: list[Problem] = []
    repeats = 0
    for problem in draws:
        if problem.question in questions:
            repeats += 1
            if repeats >= patience:
                raise UsageError(
                    f"expected {n} distinct problems of {problem.task!r} ({problem.split} split), got "
                    f"{len(problems)}; ask for fewer, or for more steps."
                )
            continue
        repeats = 0
        questions.add(problem.question)
        problems.append(problem)
        if len(problems) == n:
            break
    return problems


def stream_rng(spec: str, split: str, seed: int) -> Random:
    """Return a generator for one (task, split, seed), independent of how many problems are drawn."""
    return Random(f"{spec}|{split}|{seed}")
