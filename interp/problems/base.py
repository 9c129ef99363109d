"""What a problem is, and what every task can do with one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

from interp.errors import UsageError, checked_count, unknown

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
REWRITINGS = ("constant", "operations")
# Of 20 hash buckets, which belong to which split. The held-out part is large because read-outs are
# fitted, selected and tested inside it.
_BUCKETS: dict[Split, range] = {"train": range(12), "val": range(12, 14), "test": range(14, 20)}


@dataclass(frozen=True)
class Step:
    """One gold reasoning step: the text that a reasoner would write, and the value it reaches."""

    text: str
    value: str


@dataclass(frozen=True)
class Problem:
    """A question with its answer and, where known, its gold steps.

    `question` is what a model reads; `readable` says the same to a person. `structure` is a hash of
    what makes the problem what it is, whatever its surface; splits and intervals group by it.
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
        return len(self.steps)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Problem:
        raw = json.loads(text)
        raw["steps"] = tuple(Step(**step) for step in raw["steps"])
        return cls(**raw)


@dataclass(frozen=True)
class Verdict:
    """Whether a trace's text is right: the answer, each step, and the first step that goes wrong.

    `steps[k]` is None where the text holds no step k+1; `first_error` counts steps from 1.
    """

    answer: bool
    steps: tuple[bool | None, ...]
    first_error: int | None


@runtime_checkable
class Task(Protocol):
    """A generator and exact verifier of problems. `spec` names it with its options.

    `values` are the words that a step may reach, `facts` what else is known about a problem's entities:
    the name of each fact and how many entities it is about.
    """

    name: str
    spec: str
    values: tuple[str, ...]
    min_steps: int
    max_steps: int
    facts: Mapping[str, int]

    def generate(self, n: int, seed: int, split: Split) -> list[Problem]: ...

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """An endless stream of problems of one split, of `n_steps` steps where given."""
        ...

    def verify(self, problem: Problem, text: str) -> Verdict: ...

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """The answer that `problem` would have if `step` (from 1) had reached `value`."""
        ...

    def vocabulary(self) -> list[str]:
        """The words of this task's questions, steps and answers."""
        ...

    def entities(self, problem: Problem) -> tuple[str, ...]:
        """What the facts of `problem` are about: its variables, nodes or parameters."""
        ...

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        """Fact `name` about `entities` after `step` steps (0 is the end of the question).

        "yes" or "no", or a value; None where it is not defined.
        """
        ...


class WithoutFacts:
    """What a task answers that knows nothing about its problems beyond their steps and answers."""

    facts: Mapping[str, int] = MappingProxyType({})

    def entities(self, problem: Problem) -> tuple[str, ...]:
        return ()

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        return None


@runtime_checkable
class Rewritable(Protocol):
    """A task that can change one thing in a problem and say what follows."""

    def rewritten(self, problem: Problem, rng: Random, what: str = "constant") -> Problem:
        """`problem` with one `constant` (or edge) changed, or with all of its `operations` drawn anew in their places.

        Its structure, and so its split, may be another one than the problem's.
        """
        ...


@runtime_checkable
class KnowsPosterior(Protocol):
    """A task that says what can be known after some steps about where they led."""

    values: tuple[str, ...]
    name: str

    def posterior(self, problem: Problem, step: int) -> Mapping[str, float]:
        """The probability of each value after `step` steps (from 1), for one who knows the question and no more; empty
        where it is not defined."""
        ...


@runtime_checkable
class Offering(Protocol):
    """A task whose questions name the words among which the value of a step has to be."""

    def offers(self, problem: Problem) -> tuple[tuple[str, ...], ...]:
        """Sets of words, one for each way of guessing a step's value from the question without following it."""
        ...


def checked_rewriting(what: str) -> str:
    if what not in REWRITINGS:
        raise unknown("rewriting", what, REWRITINGS)
    return what


def structure_hash(*parts: object) -> str:
    """A short stable hash of a problem's canonical form."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def split_of(structure: str) -> Split:
    """The one split in which a structure may appear."""
    bucket = int(structure[:8], 16) % 20
    return next(split for split, buckets in _BUCKETS.items() if bucket in buckets)


def checked_split(split: str) -> Split:
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    return split  # type: ignore[return-value]


def checked_step(problem: Problem, step: int) -> int:
    if not 1 <= step <= problem.n_steps:
        raise UsageError(f"step must lie between 1 and {problem.n_steps}, but {step} came.")
    return step


def checked_edit(problem: Problem, step: int, value: str, values: Sequence[str]) -> None:
    """Raise `UsageError` unless the problem has step `step` (from 1) and its task the value that is to be put there."""
    checked_step(problem, step)
    if value not in values:
        raise unknown(f"value of task {problem.task.partition(':')[0]}", value, values)


def checked_seed(seed: int) -> int:
    return checked_count("seed", seed, at_least=0)


def distinct(draws: Iterator[Problem], n: int, *, patience: int = 2000) -> list[Problem]:
    """The first `n` problems of `draws` with distinct questions.

    Raises `UsageError` when `patience` draws in a row bring nothing new, which means that the task
    has fewer than `n` such problems.
    """
    seen: set[str] = set()
    kept: list[Problem] = []
    misses = 0
    for problem in draws:
        if problem.question in seen:
            misses += 1
            if misses >= patience:
                raise UsageError(
                    f"{n} distinct problems were asked of {problem.task!r} ({problem.split} split), but only "
                    f"{len(kept)} were found. Ask for fewer, or for more steps."
                )
            continue
        misses = 0
        seen.add(problem.question)
        kept.append(problem)
        if len(kept) == n:
            break
    return kept


def stream_rng(spec: str, split: str, seed: int) -> Random:
    """A generator of its own for each (task, split, seed); asking for more problems extends the list."""
    return Random(f"{spec}|{split}|{seed}")
