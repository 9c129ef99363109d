"""What every command does before it runs: variables of its options, and checks of their numbers."""

from __future__ import annotations

import math
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

from interp.errors import LARGEST_COUNT, UsageError
from interp.runtime.environment import PREFIX, current_and_old_variable, variable_prefix


class CheckedCommand(TyperCommand):
    """A command that refuses numbers that are not finite, and whole numbers that no array, file or generator can hold.

    Each of its options has a variable of its own, which `cotlens config env` lists; the help does not repeat them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for parameter in self.params:
            if hasattr(parameter, "show_envvar"):
                parameter.show_envvar = False

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return the context of a run, in which variables may have their old names."""
        prefixes = None
        if parent is not None and parent.auto_envvar_prefix:
            command = variable_prefix(str(info_name))
            prefixes = parent.auto_envvar_prefix + command.removeprefix(PREFIX), command
        elif "auto_envvar_prefix" in extra:
            prefixes = extra["auto_envvar_prefix"], PREFIX
        if prefixes:
            for parameter in self.params:
                if isinstance(parameter, TyperOption):
                    parameter.envvar = current_and_old_variable(str(parameter.name), *prefixes)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Check the values of all options, then run the command."""
        for parameter in self.get_params(ctx):
            value = ctx.params.get(parameter.name)
            for number in value if isinstance(value, (list, tuple)) else [value]:
                _check_number(_shown_name(parameter), number)
        return super().invoke(ctx)


class CheckedApp(typer.Typer):
    """A Typer app whose commands are `CheckedCommand`s."""

    def command(self, name: str | None = None, **options: Any) -> Any:  # type: ignore[override]
        """Add a command; see `typer.Typer.command`."""
        return super().command(name, **{"cls": CheckedCommand, **options})


def _check_number(option: str, number: Any) -> None:
    if isinstance(number, float) and not math.isfinite(number):
        raise UsageError(f"expected {option} to be a finite number, got {number}.")
    if isinstance(number, int) and abs(number) > LARGEST_COUNT:
        raise UsageError(f"expected {option} to be a whole number of at most {LARGEST_COUNT}, got {number}.")


def _shown_name(parameter: Any) -> str:
    """Return an option or argument as it is typed or shown, such as `--batch-size`."""
    names = [name for name in parameter.opts if name.startswith("--")]
    return names[0] if names else str(parameter.name).upper()
