"""`cotlens.toml`: defaults of options for the work in one folder."""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import UsageError, unknown

FILE = "cotlens.toml"
#: Names another file; empty for none.
VARIABLE = "COTLENS_OPTIONS"
# Options that name or change a configuration of their own; with them on the command line, the file's section is left out.
_OWN_CONFIGURATION = ("--config", "--set")


@dataclass(frozen=True)
class Setting:
    """One option that the file sets.

    Attributes:
        command: The words of the command, such as ("probe", "sweep").
        option: The option without dashes, such as "batch-size".
        parameter: Name of the command's parameter.
        value: The value in the file.
    """

    command: tuple[str, ...]
    option: str
    parameter: str
    value: Any


def find(environment: Mapping[str, str] = os.environ, folder: Path | None = None) -> Path | None:
    """Return the file of options: the one that COTLENS_OPTIONS names, else `cotlens.toml` in the current folder.

    Raises:
        UsageError: The variable names a file that does not exist.
    """
    named = environment.get(VARIABLE)
    if named is not None:
        if named and not Path(named).is_file():
            raise UsageError(f"expected the file of options that {VARIABLE} names, got {named}, which does not exist.")
        return Path(named) if named else None
    path = (folder or Path()) / FILE
    return path if path.is_file() else None


def settings_in(path: Path, commands: Mapping[str, tuple[str, str]]) -> list[Setting]:
    """Return what a file sets.

    Args:
        path: A TOML file, with a section for each command: `[think]`, `[probe.sweep]`.
        commands: The table of commands.

    Raises:
        UsageError: It cannot be read, or names a command or an option that does not exist.
    """
    from interp.runtime.config import read_config

    content = read_config(path)
    settings: list[Setting] = []
    for name, section in content.items():
        if name not in commands:
            raise unknown(f"command in {path}", name, commands)
        settings += _of_section(path, section, command_of(name, commands), (name,))
    return settings


def command_of(name: str, commands: Mapping[str, tuple[str, str]]) -> Any:
    """Return a command or group of the table, as Typer builds it."""
    import typer

    return typer.main.get_command(pkgutil.resolve_name(commands[name][0]))


def options_of(command: Any) -> dict[str, Any]:
    """Return the options of a command that a file can set, by their names without dashes."""
    options = {}
    for parameter in command.params:
        names = [name for name in parameter.opts if name.startswith("--")]
        if names and not getattr(parameter, "hidden", False) and names[0] not in ("--json", "--help"):
            options[names[0].removeprefix("--")] = parameter
    return options


def _of_section(path: Path, section: Any, command: Any, words: tuple[str, ...]) -> Iterator[Setting]:
    where = f"[{'.'.join(words)}] of {path}"
    if not isinstance(section, dict):
        raise UsageError(f"expected {where} to be a section with options, got {section!r}; write [{'.'.join(words)}].")
    subcommands = getattr(command, "commands", None)
    if subcommands is not None:
        for name, inner in section.items():
            if name not in subcommands:
                raise unknown(f"command in {where}", name, list(subcommands))
            yield from _of_section(path, inner, subcommands[name], (*words, name))
        return
    options = options_of(command)
    for name, value in section.items():
        option = name.replace("_", "-")
        if option not in options:
            raise unknown(f"option in {where}", name, list(options))
        if isinstance(value, dict):
            raise UsageError(f"expected {name} in {where} to be a value or a list, got a section.")
        yield Setting(words, option, str(options[option].name), value)


def defaults_for(name: str, arguments: Sequence[str], commands: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Return the defaults that the file gives the command that is run, and say on stderr which they are.

    Options on the command line and environment variables win over them.

    Args:
        name: The first word of the command.
        arguments: The words after it.
        commands: The table of commands.

    Returns:
        A `default_map` of click: parameter to value, nested by subcommand.

    Raises:
        UsageError: The file cannot be read, or names a command or an option that does not exist.
    """
    path = find()
    if path is None or name == "config" or {"-h", "--help"} & set(arguments):
        return {}
    words = (name, *(word for word in arguments[:1] if not word.startswith("-")))
    settings = [s for s in settings_in(path, commands) if s.command in ((name,), words)]
    own = [word for word in arguments if word.split("=")[0] in _OWN_CONFIGURATION]
    if not settings:
        return {}
    listed = ", ".join(f"{s.option} = {s.value!r}" for s in settings)
    if own:
        print(f"note: {path} is not read, because {own[0].split('=')[0]} is given (it has {listed})", file=sys.stderr)
        return {}
    print(f"note: {path} sets {listed}", file=sys.stderr)
    defaults: dict[str, Any] = {}
    for setting in settings:
        inner = defaults
        for word in setting.command[1:]:
            inner = inner.setdefault(word, {})
        inner[setting.parameter] = setting.value
    return defaults
