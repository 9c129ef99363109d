"""Tasks: generators and exact verifiers of problems. They know no model.

Another package adds a task with an entry point of the group `cotlens.tasks`; it is then picked by name like the
built-in ones. A task of the user's own code is named `package.module:object`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from interp.errors import UsageError, unknown
from interp.problems.base import Problem, Step, Task, Verdict
from interp.problems.chain import ChainTask
from interp.problems.counter import CounterTask
from interp.problems.graph import GraphTask
from interp.problems.igsm import IGSMDrillTask, IGSMTask
from interp.problems.maze import MazeTask
from interp.problems.prosqa import ProsQATask
from interp.problems.questions import QuestionsTask, TranscriptsTask
from interp.problems.questions.python_task import is_python_name, python_task, with_spec
from interp.problems.reasons import ReasonsTask
from interp.problems.subtext import SubtextTask
from interp.problems.trigger import TriggerTask
from interp.problems.variables import VariablesTask
from interp.problems.words import WordsTask
from interp.runtime.plugins import load_plugin, plugins

__all__ = ["TASKS", "Problem", "Step", "Task", "Verdict", "parse_spec", "task", "task_names"]

# The built-in tasks. They come before a plugin of the same name.
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
    "reasons": ReasonsTask,
    "subtext": SubtextTask,
    "transcripts": TranscriptsTask,
    "trigger": TriggerTask,
    "words": WordsTask,
}


def task_names() -> list[str]:
    """Return the names of all tasks: the built-in ones, then those of installed plugins."""
    return list(dict.fromkeys([*TASKS, *plugins("tasks")]))


def parse_spec(spec: str) -> tuple[str, dict[str, str]]:
    """Return the name and the options of a spec.

    `chain:n=500,order=shuffled` gives (`chain`, {`n`: `500`, `order`: `shuffled`}), and `my_tasks:Spelling:n=500` gives
    (`my_tasks:Spelling`, {`n`: `500`}).

    Args:
        spec: A name, or a Python object as `package.module:object`, with options behind a colon.

    Returns:
        The name, and the options as texts.

    Raises:
        UsageError: An option is not written as key=value.
    """
    name, _, listed = spec.partition(":")
    # `chain:steps` is an option without its value; `my_tasks:Spelling` is an object of a module.
    item, _, after = listed.partition(":")
    if name.strip() not in TASKS and is_python_name(f"{name.strip()}:{item.strip()}"):
        name, listed = f"{name.strip()}:{item.strip()}", after
    options: dict[str, str] = {}
    for item in filter(None, listed.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(
                f"expected a task like name:key=value,key=value, got {spec!r}; write {item!r} as key=value."
            )
        options[key.strip()] = value.strip()
    return name.strip(), options


def task(spec: str, **options: object) -> Task:
    """Return the task that `spec` names.

    Args:
        spec: A name with options, such as "chain" or "chain:steps=3", or an object of a module,
            such as "my_tasks:Spelling".
        **options: Further options, which win over those of the spec, as in `task("chain", order="shuffled")`.

    Returns:
        The task, which generates and verifies problems.

    Raises:
        UsageError: The task, an option or a value is unknown, or a module cannot be imported.
    """
    name, written = parse_spec(spec)
    chosen = {**written, **options}
    if is_python_name(name):
        return python_task(name, chosen)
    make = _maker(name)
    try:
        made = make(**chosen)
        # A class that leaves its spec to a built-in parent would be that parent when it is made again.
        is_own = name in TASKS or parse_spec(getattr(made, "spec", ""))[0] == name
        return made if is_own else with_spec(made, name, chosen)
    except TypeError:
        known = list(inspect.signature(make).parameters)
        wrong = next((key for key in chosen if key not in known), None)
        if wrong is None:
            raise
        raise unknown(f"option of task {name}", wrong, known) from None
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"task {spec!r}: {error}") from None


def _maker(name: str) -> Callable[..., Task]:
    if name in TASKS:
        return TASKS[name]
    if name in plugins("tasks"):
        return load_plugin("tasks", name)
    raise unknown("task", name, task_names())
