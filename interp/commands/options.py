"""Options that several commands share: said once, as the fields of a dataclass."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command, in place of each parameter that is a dataclass, that one's fields as options, and fill it in.

    An option's default is what the parameter's own default says, so commands may share options and differ in defaults.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name not in groups:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        options = get_type_hints(groups[parameter.name], include_extras=True)
        for each in fields(groups[parameter.name]):
            default = getattr(parameter.default, each.name)
            parameters.append(parameter.replace(name=each.name, annotation=options[each.name], default=default))

    @functools.wraps(command)
    def run(**said: Any) -> Any:
        filled = {
            name: kind(**{each.name: said.pop(each.name) for each in fields(kind)}) for name, kind in groups.items()
        }
        return command(**said, **filled)

    vars(run).pop("__wrapped__")
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
