"""Options that several commands share, and options that have a new name."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from interp.errors import UsageError
from interp.runtime.environment import warn_renamed

_EMPTY = inspect.Parameter.empty


@dataclass(frozen=True)
class OldName:
    """A former name of an option, which keeps working for one version and prints a warning.

    Write it after `typer.Option` in the annotation, and decorate the command with `with_options`:

        @app.command("train")
        @with_options
        def train(
            channels: Annotated[list[str] | None, typer.Option(help="..."), OldName("--channel")] = None,
            size: Annotated[str, typer.Option(help="..."), OldName("--quick", value="quick")] = "normal",
        ) -> None: ...

    The old name is not shown by `--help`. It takes the same values, may be repeated where the new one may,
    and has its own environment variable as before. It also works in a dataclass of options.

    Attributes:
        name: The old option, such as "--channel".
        value: The value that the new option gets, where the old one was a flag. False stands for its `--no-` form.
    """

    name: str
    value: Any = None


def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Expand the dataclass parameters of a Typer command into options, and keep old option names working.

    Each parameter whose type is a dataclass is replaced with one option for each field. The defaults come from the
    parameter's own default, so commands can share options and differ in their defaults. Old names are declared
    with `OldName`.

    Args:
        command: A Typer command function. Put this decorator below `@app.command()`.

    Returns:
        The function that Typer reads; it fills in the dataclasses and calls `command`.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name not in groups:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        field_hints = get_type_hints(groups[parameter.name], include_extras=True)
        for field in fields(groups[parameter.name]):
            default = getattr(parameter.default, field.name)
            parameters.append(parameter.replace(name=field.name, annotation=field_hints[field.name], default=default))
    renames = [
        _Rename(parameter, old)
        for parameter in parameters
        for old in getattr(parameter.annotation, "__metadata__", ())
        if isinstance(old, OldName)
    ]
    defaults = {rename.new.name: rename.new.default for rename in renames}
    # A required option is checked here and not by Typer, because its old name may fill it.
    parameters = [
        parameter.replace(annotation=_optional(parameter.annotation), default=None)
        if defaults.get(parameter.name) is _EMPTY
        else parameter
        for parameter in parameters
    ]
    parameters += [rename.parameter() for rename in renames]

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        for rename in renames:
            rename.apply(values)
        for name, default in defaults.items():
            if default is _EMPTY and values[name] is None:
                raise UsageError(f"Missing option '{_option_name(name, hints)}'.")
        objects = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        return command(**values, **objects)

    vars(run).pop("__wrapped__")
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


class _Rename:
    """One old name of one option of a command."""

    def __init__(self, new: inspect.Parameter, old: OldName) -> None:
        self.new, self.old = new, old
        # Typer makes the environment variable from the parameter's name, so the old name keeps its own.
        self.name = old.name.lstrip("-").replace("-", "_")

    def parameter(self) -> inspect.Parameter:
        """Return the hidden option with the old name. Its value is None where the option is not used."""
        info = copy.copy(_option_info(self.new.annotation))
        info.param_decls, info.hidden, info.help, info.show_default = (self.old.name,), True, None, False
        info.default = ...  # Typer keeps the first declared name of an annotated option here
        base = bool if self.old.value is not None else get_args(self.new.annotation)[0]
        annotation: Any = Annotated[_none_or(base), info]
        return self.new.replace(name=self.name, annotation=annotation, default=None)

    def apply(self, values: dict[str, Any]) -> None:
        """Move the old option's value, if there is one, to the new option, and print a warning."""
        value = values.pop(self.name)
        if value is None or value == [] or (self.old.value is not None and not value):
            return
        name = self.new.name
        new_option = _option_name(name, {name: self.new.annotation})
        current, default = values[name], self.new.default
        if isinstance(value, list):
            value = [*(current or []), *value]
        elif current is not None and current != (None if default is _EMPTY else default):
            raise UsageError(f"expected {new_option} or its old name {self.old.name}, got both; leave the old one out.")
        warn_renamed(self.old.name, self._written(new_option))
        values[name] = value if self.old.value is None else self.old.value

    def _written(self, option: str) -> str:
        """Return what is to be written now."""
        if self.old.value is None or self.old.value is True:
            return option
        return f"--no-{option.removeprefix('--')}" if self.old.value is False else f"{option} {self.old.value}"


def _option_info(annotation: Any) -> Any:
    """Return the `typer.Option` of an annotation."""
    return next(part for part in annotation.__metadata__ if hasattr(part, "param_decls"))


def _option_name(name: str, hints: dict[str, Any]) -> str:
    """Return an option as it is typed, such as `--batch-size`."""
    info = _option_info(hints[name]) if name in hints else None
    declared = () if info is None else (info.default, *(info.param_decls or ()))
    option = next((text for text in declared if str(text).startswith("--")), "--" + name.replace("_", "-"))
    return option.partition("/")[0]  # of a switch, `--name/--no-name`


def _none_or(base: Any) -> Any:
    """Return the type `base | None`."""
    is_optional = get_origin(base) in (Union, types.UnionType) and type(None) in get_args(base)
    return base if is_optional else base | None


def _optional(annotation: Any) -> Any:
    """Return the annotation of an option, with None allowed."""
    base, *metadata = get_args(annotation)
    return Annotated[(_none_or(base), *metadata)]
