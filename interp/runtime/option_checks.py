"""Checks of numbers that every command makes before it runs, whatever its options are called."""

from __future__ import annotations

import math
from typing import Any

import typer
from typer.core import TyperCommand

from interp.errors import LARGEST_COUNT, UsageError


class CheckedCommand(TyperCommand):
    """A command that refuses numbers that are not finite, and whole numbers that no array, file or generator can hold."""

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
