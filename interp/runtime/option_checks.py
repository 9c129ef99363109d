"""What every command does before it runs: variables of its options, and checks of their numbers."""

from __future__ import annotations

import math
import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from interp.errors import LARGEST_COUNT, UsageError
from interp.runtime.environment import PREFIX, current_and_old_variable, variable_prefix

_EXAMPLE = "\n\nExample: "
_VALUE_IN_BRACKETS = re.compile(r"(default:\s+)\(([a-z\d._]+)\)(?=[\];])")


class _HelpWithExample:
    """Help that ends with an example on a line of its own, and that lists whole sentences.

    The docstring of a command ends with a paragraph `Example: cotlens ...`.

    Attributes:
        example: The command line of the example.
    """

    help: str | None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        text, _, example = (options.get("help") or "").partition(_EXAMPLE)
        self.example = " ".join(example.split())
        super().__init__(*arguments, **{**options, "help": text})
        # The reference of all options is made of this text.
        self.epilog = f"**Example**: `{self.example}`" if self.example else None

    def get_short_help_str(self, limit: int = 0) -> str:
        """Return the first sentence, however long: the list of a group's commands is wrapped."""
        paragraph = " ".join((self.help or "").partition("\n\n")[0].split())
        first, stop, _ = paragraph.partition(". ")
        return first + stop.strip()

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, in which a default of one word is a value that the option takes, and several words describe it.

        Typer puts brackets around every default that is given as text, also around the value of a configuration file.
        """
        super().format_help(ctx, formatter)  # type: ignore[misc]
        formatter.buffer[:] = [_VALUE_IN_BRACKETS.sub(r"\1\2", formatter.getvalue())]

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example so that it can be copied: lines are broken before options, with a backslash."""
        if self.example:
            with formatter.section("Example"):
                for line in _broken(self.example, formatter.width - formatter.current_indent):
                    formatter.write(" " * formatter.current_indent + line + "\n")


class CheckedCommand(_HelpWithExample, TyperCommand):
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


class CheckedGroup(_HelpWithExample, TyperGroup):
    """A group of commands whose help lists the whole first sentence of each; its example is that of the first one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.example = next((getattr(command, "example", "") for command in self.commands.values()), "")


class CheckedApp(typer.Typer):
    """A Typer app whose commands are `CheckedCommand`s."""

    def command(self, name: str | None = None, **options: Any) -> Any:  # type: ignore[override]
        """Add a command; see `typer.Typer.command`."""
        return super().command(name, **{"cls": CheckedCommand, **options})


def _broken(command: str, width: int) -> list[str]:
    """Return a command line as lines that a shell reads as one; they are broken before options."""
    lines = [""]
    for part in command.replace(" --", "\n--").split("\n"):
        if lines[-1] and len(lines[-1]) + len(part) + 3 > width:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {part}" if lines[-1] else part
    return lines


def _check_number(option: str, number: Any) -> None:
    if isinstance(number, float) and not math.isfinite(number):
        raise UsageError(f"expected {option} to be a finite number, got {number}.")
    if isinstance(number, int) and abs(number) > LARGEST_COUNT:
        raise UsageError(f"expected {option} to be a whole number of at most {LARGEST_COUNT}, got {number}.")


def _shown_name(parameter: Any) -> str:
    """Return an option or argument as it is typed or shown, such as `--batch-size`."""
    names = [name for name in parameter.opts if name.startswith("--")]
    return names[0] if names else str(parameter.name).upper()
