"""Which values a step can be edited to, and the answer that follows: what a person may choose. No model is needed."""

from __future__ import annotations

from interp.causal.patching.donors import implied_answer, why_no_answer
from interp.errors import UsageError, unknown
from interp.problems.base import Task
from interp.traces import Trace


def values_to_choose(task: Task, trace: Trace, step: int) -> dict[str, str]:
    """Return the values that a step can be edited to: those that imply an answer other than the one given.

    Args:
        task: The task of the problem.
        trace: The recipient.
        step: Number of the step, from 1.

    Returns:
        The implied answer of each value.
    """
    problem = trace.problem
    own = problem.steps[step - 1].value
    implied = {v: implied_answer(task, problem, step, v) for v in task.step_values(problem, step) if v != own}
    return {v: answer for v, answer in implied.items() if answer and not task.says(problem, trace.answer, answer)}


def checked_prediction(task: Task, recipient: Trace, step: int, value: str) -> str:
    """Return the answer that a value at a step implies.

    Args:
        task: The task of the problem.
        recipient: The trace to edit.
        step: Number of the step, from 1.
        value: The value.

    Raises:
        UsageError: There is no such step, no such value, no answer that follows from it, or the same answer does.
    """
    problem = recipient.problem
    if not 1 <= step <= problem.n_steps:
        raise UsageError(f"expected a step from 1 to {problem.n_steps} of problem {recipient.id}, got {step}.")
    if value == problem.steps[step - 1].value:
        raise UsageError(f"expected another value than step {step} holds, got {value}; choose another.")
    possible = list(task.step_values(problem, step))
    if possible and value not in possible:
        raise unknown(f"value of step {step}", value, possible)
    implied = implied_answer(task, problem, step, value)
    if implied is None:
        raise UsageError(why_no_answer([recipient], [value]) or f"no answer follows from {value} at step {step}.")
    if task.says(problem, recipient.answer, implied):
        raise UsageError(
            f"expected a value that changes the answer, got {value} at step {step}, from which {implied} follows too; "
            "choose another."
        )
    return implied
