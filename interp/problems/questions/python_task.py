"""Tasks of a user's own code, named `package.module:object`.

The object is a task, a class of tasks, a function that makes one (its return annotation says so), or a generator
function of problems. Nothing else is called: a spec may come from a file that somebody else wrote.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from interp.errors import UsageError, unknown
from interp.problems.base import Task
from interp.problems.questions.generator import GeneratorTask

_NAME = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<object>[^\W\d]\w*(\.[^\W\d]\w*)*)")
_NEEDED = ("values", "min_steps", "max_steps")
# A folder with one of these files was made by a program or downloaded; Python files in it are not imported.
_DATA_FILES = ("config.json", "reasoner.json", "manifest.jsonl", "adapter_config.json")
# Tasks by object and options, with the object, so that no other gets its id. Each trace names its task anew.
_MADE: dict[tuple[int, str, str], tuple[Any, Task]] = {}


def is_python_name(name: str) -> bool:
    """Return whether a task's name is a Python object, such as `my_tasks:Spelling`."""
    return _NAME.fullmatch(name) is not None


def python_task(name: str, options: dict[str, object]) -> Task:
    """Return the task that a Python object is or makes.

    Args:
        name: The object, as `package.module:object`. The module is looked for as an import does, then in the current
            folder.
        options: Options of a class or function; a task that is ready takes none.

    Returns:
        The task; its `spec` makes it again.

    Raises:
        UsageError: The module or the object does not exist or is no task, or an option does not fit.
    """
    module_name, _, path = name.partition(":")
    module = _module(module_name, name)
    thing: Any = module
    for part in path.split("."):
        if not hasattr(thing, part):
            raise unknown(f"object of module {module_name}", path, _offered(module))
        thing = getattr(thing, part)
    if isinstance(thing, Task):
        if options:
            raise UsageError(
                f"expected no options for {name}, which is a task already, got {', '.join(options)}; name its class to "
                "choose options."
            )
        return with_spec(thing, name, options)
    key = (id(thing), name, repr(sorted(options.items())))
    if key not in _MADE:
        _MADE[key] = thing, with_spec(_make(thing, name, module, options), name, options)
    return _MADE[key][1]


def with_spec(made: Task, name: str, options: dict[str, object]) -> Task:
    """Give a task the spec that makes it again, and check that it is complete.

    Args:
        made: The task.
        name: The name that it was made by.
        options: The options that it was made with.

    Raises:
        UsageError: The task lacks an attribute.
    """
    # Looked up without computing them: a generator's values come from a sample of its problems, which name the spec.
    missing = [needed for needed in _NEEDED if inspect.getattr_static(made, needed, None) is None]
    if missing:
        raise UsageError(
            f"expected task {name} to have the attributes {', '.join(_NEEDED)}, got none named {', '.join(missing)}; "
            "set them in its class (see interp.problems.Task)."
        )
    if not hasattr(made, "name"):
        made.name = name
    written = ",".join(f"{key}={value}" for key, value in options.items())
    made.spec = f"{name}:{written}" if written else name
    return made


def _module(module_name: str, name: str) -> Any:
    try:
        return _import(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _broken(module_name, name, error) from error
        raise UsageError(
            f"expected a task like chain:steps=3 or a Python object like package.module:object, got {name!r}, but there "
            f"is no module {error.name!r}; install its package, or run in the folder of its file."
        ) from None
    except UsageError:
        raise
    except Exception as error:
        raise _broken(module_name, name, error) from error


def _import(module_name: str) -> Any:
    """Import a module; where it is not installed, from the current folder."""
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        here = Path.cwd()
        top = module_name.partition(".")[0]
        there = (here / f"{top}.py").is_file() or (here / top).is_dir()
        if error.name != top or not there or any((here / file).exists() for file in _DATA_FILES):
            raise
        # At the end, so that no file there hides an installed package.
        sys.path.append(str(here))
        importlib.invalidate_caches()
        return importlib.import_module(module_name)


def _broken(module_name: str, name: str, error: Exception) -> UsageError:
    return UsageError(
        f"expected to import module {module_name} for task {name!r}, got {type(error).__name__}: {error}; "
        f'mend it, and try `python -c "import {module_name}"`.'
    )


def _make(thing: Any, name: str, module: Any, options: dict[str, object]) -> Task:
    """Return the task that a class or a function makes of options."""
    if inspect.isgeneratorfunction(thing):
        oracle = getattr(thing, "answer_if", None) or getattr(module, "answer_if", None)
        return GeneratorTask(thing, answer_if=oracle, options=options)
    is_class = inspect.isclass(thing) and issubclass(thing, Task)
    if not is_class and not (inspect.isfunction(thing) and _returns_a_task(thing)):
        hint = "; say what it returns: `-> Task`" if inspect.isfunction(thing) else ""
        what = "a function" if inspect.isfunction(thing) else type(thing).__name__
        raise UsageError(
            f"expected {name} to be a Task, a class of tasks, a function that returns one or a generator function of "
            f"problems, got {what}{hint}."
        )
    parameters = inspect.signature(thing).parameters
    takes_any = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    for option in options:
        if option not in parameters and not takes_any:
            raise unknown(f"option of task {name}", option, parameters)
    try:
        made = thing(**options)
    except TypeError as error:
        raise UsageError(f"expected {name} to make a task, got an error: {error}.") from error
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"task {name}: {error}") from None
    if not isinstance(made, Task):
        raise UsageError(f"expected {name} to make a Task, got {type(made).__name__}; return a Task from it.")
    return made


def _returns_a_task(function: Callable[..., Any]) -> bool:
    try:
        returned = get_type_hints(function).get("return")
    except Exception:  # An annotation that cannot be resolved says nothing.
        return False
    return inspect.isclass(returned) and issubclass(returned, Task)


def _offered(module: Any) -> list[str]:
    """Return the names of a module's own objects that can be tasks."""
    return [
        name
        for name, thing in vars(module).items()
        if isinstance(thing, Task)
        or inspect.isgeneratorfunction(thing)
        or (inspect.isclass(thing) and issubclass(thing, Task) and thing.__module__ == module.__name__)
    ]
