"""Options of tasks: the canonical spec, and checks with messages that name the option."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from interp.errors import UsageError, checked_count, unknown
from interp.problems.base import Problem


def spec_of(name: str, options: Sequence[tuple[str, object, object]]) -> str:
    """Return the canonical spec of a task, such as "chain:steps=3".

    Args:
        name: The task's name.
        options: (option, value, default) each; options at their default are left out.
    """
    changed = ",".join(f"{key}={value}" for key, value, default in options if value != default)
    return f"{name}:{changed}" if changed else name


def length_range(
    what: str, text: object, example: str, at_least: int | None = None, at_most: int | None = None
) -> tuple[int, int]:
    """Return the range that `text` writes: "2-5" as (2, 5), "3" as (3, 3).

    Raises:
        UsageError: The text is no range, or leaves the bounds `at_least` and `at_most`.
    """
    low, _, high = str(text).partition("-")
    try:
        bounds = int(low), int(high or low)
    except ValueError:
        raise UsageError(f"expected {what} like {example}, got {text!r}.") from None
    if at_least is not None and at_most is not None and not at_least <= bounds[0] <= bounds[1] <= at_most:
        raise UsageError(f"expected {what} between {at_least} and {at_most}, the smaller first, got {text!r}.")
    return bounds


def checked_choice(what: str, value: str, known: Iterable[str]) -> str:
    """Return `value`; raise `UsageError` unless it is among `known`."""
    known = tuple(known)
    if value not in known:
        raise unknown(what, value, known)
    return value


def checked_at_most(what: str, value: object, at_most: int, *, at_least: int = 1) -> int:
    """Return `value` as an int; raise `UsageError` unless it lies between `at_least` and `at_most`."""
    return checked_count(what, value, at_least=at_least, at_most=at_most)


def checked_step(problem: Problem, step: int) -> int:
    """Return `step`; raise `UsageError` unless the problem has a step of that number."""
    if not 1 <= step <= problem.n_steps:
        raise UsageError(f"expected a step between 1 and {problem.n_steps}, got {step}.")
    return step


def checked_edit(problem: Problem, step: int, value: str, values: Sequence[str]) -> None:
    """Raise `UsageError` unless the problem has step `step` (from 1) and its task has the value `value`."""
    checked_step(problem, step)
    checked_choice(f"value of task {problem.task.partition(':')[0]}", value, values)


def checked_rewriting(task: str, what: str, rewritings: Sequence[str]) -> str:
    """Return `what`; raise `UsageError` unless the task has that rewriting."""
    return checked_choice(f"rewriting of task {task}", what, rewritings)


def yes_no(flag: bool) -> str:
    """Return "yes" or "no", as facts are written."""
    return "yes" if flag else "no"
