"""`cotlens config`: what sets options besides the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cotlens import options_file
from cotlens.options_file import FILE, Setting, command_of, options_of, settings_in
from interp.errors import counted, unknown
from interp.runtime.console import AsJson, emit, new_app, print_table
from interp.runtime.environment import variable_prefix
from interp.runtime.files import refuse_existing

app = new_app("Write and show what sets the options of commands besides the command line.")
Commands = Mapping[str, tuple[str, str]]
Words = Annotated[
    list[str] | None, typer.Argument(help="A command, such as `probe sweep`.", show_default="every command")
]
_INTRODUCTION = """# Defaults of options for the work in this folder. Options on the command line come first, then environment
# variables (`cotlens config env`), then this file. Take away the # before what you want to set.
"""


@app.command("init")
def init(
    context: typer.Context,
    command: Words = None,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path(FILE),
) -> None:
    """Write a file of options in which every option stands with its help and default, as a comment.

    Example: cotlens config init think
    """
    refuse_existing(out)
    sections = [_section(words, found) for words, found in _commands(context.obj, command or [])]
    from interp.runtime.files import commit

    commit(out, "\n".join([_INTRODUCTION, *sections]).encode())
    print(f"{counted(len(sections), 'command')} in {out}; every option is a comment until its # is taken away")


@app.command("show")
def show(context: typer.Context, command: Words = None, as_json: AsJson = False) -> None:
    """List the options that the file of options or an environment variable sets, and which of the two wins.

    Example: cotlens config show probe sweep
    """
    path = options_file.find()
    in_file = {(s.command, s.option): s for s in (settings_in(path, context.obj) if path else [])}
    rows: list[dict[str, str]] = []
    for words, found in _commands(context.obj, command or []):
        for option, parameter in options_of(found).items():
            variable = f"{variable_prefix(*words)}_{parameter.name.upper()}"
            rows += _set_by(" ".join(words), option, in_file.get((words, option)), variable, path)

    def human() -> None:
        import pandas as pd

        print(f"file of options: {path or f'none ({FILE} in the current folder, or what COTLENS_OPTIONS names)'}")
        if rows:
            print_table(pd.DataFrame(rows))
        else:
            print("every option has its default")

    emit({"file": str(path) if path else None, "options": rows}, as_json, human)


@app.command("schema")
def schema(context: typer.Context) -> None:
    """Print the JSON schema of the file of options, for editors that check TOML by it.

    Example: cotlens config schema > cotlens.schema.json
    """
    import json

    sections: dict[str, Any] = {}
    for words, found in _commands(context.obj, []):
        inner = sections
        for word in words[:-1]:
            inner = inner.setdefault(word, _object({}))["properties"]
        inner[words[-1]] = _object({name: _schema(parameter) for name, parameter in options_of(found).items()})
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": FILE}
    print(json.dumps({**about, **_object(sections)}, indent=1))


@app.command("completion")
def completion(shell: Annotated[str, typer.Argument(help="bash, zsh, fish or powershell.")]) -> None:
    """Print what a shell reads to complete commands and options.

    Example: eval "$(cotlens config completion bash)"
    """
    from cotlens.completion import script

    print(script(shell))


@app.command("env")
def env(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(help="A command, such as `probe sweep`.", show_default="every command")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the environment variable of every option. Options on the command line win.

    Example: cotlens config env probe sweep
    """
    rows = list(_variables(context.obj, command or []))

    def human() -> None:
        import pandas as pd

        print_table(pd.DataFrame(rows))

    emit({"variables": rows}, as_json, human)


def _variables(commands: Commands, wanted: list[str]) -> Iterator[dict[str, str]]:
    """Yield variable, command and option of every option of the commands that begin with `wanted`."""
    for words, command in _commands(commands, wanted):
        for parameter in command.params:
            options = [option for option in parameter.opts if option.startswith("--")]
            if options and not getattr(parameter, "hidden", False):
                variable = f"{variable_prefix(*words)}_{parameter.name.upper()}"
                yield {"variable": variable, "command": " ".join(words), "option": options[0]}


def _commands(commands: Commands, wanted: list[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the words and the object of every command that begins with `wanted`.

    Args:
        commands: The table of all commands, which the front passes on as the context's object.
        wanted: A command's words; none for every command.
    """
    if wanted and wanted[0] not in commands:
        raise unknown("command", wanted[0], commands)
    for name in wanted[:1] or commands:
        if name != "bench":  # its commands are there in a checkout only
            yield from _below((name,), command_of(name, commands), wanted[1:])


def _below(words: tuple[str, ...], command: Any, wanted: list[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield words, command
        return
    if wanted and wanted[0] not in subcommands:
        raise unknown(f"command of {' '.join(words)}", wanted[0], list(subcommands))
    for name in wanted[:1] or subcommands:
        yield from _below((*words, name), subcommands[name], wanted[1:])


def _section(words: tuple[str, ...], command: Any) -> str:
    """Return the section of a command in a file of options, all of it comments but the title."""
    import json
    import textwrap

    lines = [f"[{'.'.join(words)}]"]
    for name, parameter in options_of(command).items():
        default = parameter.default
        in_words = f" Default: {parameter.show_default}." if isinstance(parameter.show_default, str) else ""
        text = f"{parameter.help or ''}{in_words}"
        lines += textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ")
        if isinstance(default, str | int | float | bool | list):
            lines.append(f"# {name} = {json.dumps(default, ensure_ascii=False)}")
        else:
            lines.append(f"# {name} =")
    return "\n".join(lines) + "\n"


def _set_by(
    command: str, option: str, in_file: Setting | None, variable: str, path: Path | None
) -> Iterator[dict[str, str]]:
    """Yield what sets an option, the winner first."""
    if variable in os.environ:
        yield {"command": command, "option": option, "value": os.environ[variable], "set by": variable}
    if in_file is not None:
        by = f"{path}{', which the variable overrides' if variable in os.environ else ''}"
        yield {"command": command, "option": option, "value": repr(in_file.value), "set by": by}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _schema(parameter: Any) -> dict[str, Any]:
    """Return the JSON schema of one option."""
    from pydantic import TypeAdapter

    described: dict[str, Any] = {"description": parameter.help or ""}
    if isinstance(parameter.default, str | int | float | bool | list):
        described["default"] = parameter.default
    # Typer keeps the type in a private place, which other versions may not have; then any value is allowed.
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    return {**described, **(TypeAdapter(annotation).json_schema() if annotation is not None else {})}
