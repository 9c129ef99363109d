"""What tasks share whose problems are drawn at random."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from random import Random

from interp.errors import UsageError, checked_count
from interp.problems.base import Problem, Split, checked_seed, checked_split, distinct, stream_rng


class DrawnTask(ABC):
    """A task with an endless stream of problems for each split."""

    spec: str

    def generate(self, n: int, seed: int, split: Split = "test") -> list[Problem]:
        """`n` distinct problems of one split, the same for the same seed; a larger `n` extends the list."""
        checked_count("n", n)
        rng = stream_rng(self.spec, checked_split(split), checked_seed(seed))
        return distinct(self.draws(rng, split), n)

    @abstractmethod
    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """An endless stream of problems of one split, of `n_steps` steps where given."""


def spec_of(name: str, options: Sequence[tuple[str, object, object]]) -> str:
    """The canonical spec of a task: its name, and those of its (option, value, default) that are not at their default."""
    given = ",".join(f"{key}={value}" for key, value, default in options if value != default)
    return f"{name}:{given}" if given else name


def length_range(
    what: str, text: object, example: str, at_least: int | None = None, at_most: int | None = None
) -> tuple[int, int]:
    """`2-5` as (2, 5) and `3` as (3, 3). Raises `UsageError` on anything else, and outside the bounds."""
    low, _, high = str(text).partition("-")
    try:
        found = int(low), int(high or low)
    except ValueError:
        raise UsageError(f"{what} must look like {example}, but {text!r} came.") from None
    if at_least is not None and at_most is not None and not at_least <= found[0] <= found[1] <= at_most:
        raise UsageError(f"{what} must lie between {at_least} and {at_most}, but {text!r} came.")
    return found
