"""Tasks: generators and exact verifiers of problems. They know no model."""

from __future__ import annotations

from collections.abc import Callable

from interp.errors import UsageError, unknown
from interp.problems.base import Problem, Step, Task, Verdict
from interp.problems.chain import ChainTask
from interp.problems.counter import CounterTask
from interp.problems.graph import GraphTask
from interp.problems.igsm import IGSMDrillTask, IGSMTask
from interp.problems.maze import MazeTask
from interp.problems.prosqa import ProsQATask
from interp.problems.questions import QuestionsTask
from interp.problems.subtext import SubtextTask
from interp.problems.trigger import TriggerTask
from interp.problems.variables import VariablesTask

__all__ = ["TASKS", "Problem", "Step", "Task", "Verdict", "parse_spec", "task"]

TASKS: dict[str, Callable[..., Task]] = {
    "chain": ChainTask,
    "counter": CounterTask,
    "graph": GraphTask,
    "igsm": IGSMTask,
    "igsm-drill": IGSMDrillTask,
    "maze": MazeTask,
    "variables": VariablesTask,
    "prosqa": ProsQATask,
    "questions": QuestionsTask,
    "subtext": SubtextTask,
    "trigger": TriggerTask,
}


def parse_spec(spec: str) -> tuple[str, dict[str, str]]:
    """`chain:n=500,order=shuffled` as (`chain`, {`n`: `500`, `order`: `shuffled`})."""
    name, _, rest = spec.partition(":")
    options: dict[str, str] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"a task is written name:key=value,key=value, but {spec!r} came; see {item!r}.")
        options[key.strip()] = value.strip()
    return name.strip(), options


def task(spec: str, **options: object) -> Task:
    """The task that `spec` names, for example `task("chain", order="shuffled")` or `task("chain:steps=3")`.

    Raises `UsageError` on an unknown task or option.
    """
    name, given = parse_spec(spec)
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    merged = {**given, **options}
    try:
        return TASKS[name](**merged)
    except TypeError:
        import inspect

        known = list(inspect.signature(TASKS[name]).parameters)
        wrong = next((key for key in merged if key not in known), None)
        if wrong is None:
            raise
        raise unknown(f"option of task {name}", wrong, known) from None
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"task {spec!r}: {error}") from None
