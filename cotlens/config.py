"""`cotlens config`: what sets options besides the command line."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from interp.errors import unknown
from interp.runtime.console import AsJson, emit, new_app, print_table
from interp.runtime.environment import variable_prefix

app = new_app("List what sets the options of commands besides the command line.")


@app.command("env")
def env(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(help="A command, such as `probe sweep`. Default: every command.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the environment variable of every option. Options on the command line win."""
    rows = list(_variables(context.obj, command or []))

    def human() -> None:
        import pandas as pd

        print_table(pd.DataFrame(rows))

    emit({"variables": rows}, as_json, human)


def _variables(commands: Mapping[str, tuple[str, str]], wanted: list[str]) -> Iterator[dict[str, str]]:
    """Yield variable, command and option of every option of the commands that begin with `wanted`.

    Args:
        commands: The table of all commands, which the front passes on as the context's object.
        wanted: A command's words; none for every command.
    """
    if wanted and wanted[0] not in commands:
        raise unknown("command", wanted[0], commands)
    for name in wanted[:1] or commands:
        if name == "bench":  # its commands are there in a checkout only
            continue
        command = typer.main.get_command(pkgutil.resolve_name(commands[name][0]))
        yield from _of_command(command, (name,), wanted[1:])


def _of_command(command: Any, path: tuple[str, ...], wanted: list[str]) -> Iterator[dict[str, str]]:
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        for parameter in command.params:
            options = [option for option in parameter.opts if option.startswith("--")]
            if options and not getattr(parameter, "hidden", False):
                variable = f"{variable_prefix(*path)}_{parameter.name.upper()}"
                yield {"variable": variable, "command": " ".join(path), "option": options[0]}
        return
    if wanted and wanted[0] not in subcommands:
        raise unknown(f"command of {' '.join(path)}", wanted[0], list(subcommands))
    for name in wanted[:1] or subcommands:
        yield from _of_command(subcommands[name], (*path, name), wanted[1:])
