"""Forms for commands, made from the commands themselves: there is no second list of options."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer

from interp.errors import UsageError, unknown
from interp.runtime.console import usage_errors

# Options that a page does not offer: what is printed, and what runs code out of a file.
_LEFT_OUT = ("as_json", "allow_pickle")
_PARTS = re.compile(r"[=,;\s\"'\[\](){}]+")


@dataclass(frozen=True)
class JobKind:
    """A command that can be started.

    Attributes:
        title: What it does, in a few words.
        words: The command behind `cotlens`.
        app: Its Typer app, as module:attribute.
    """

    title: str
    words: tuple[str, ...]
    app: str


KINDS: dict[str, JobKind] = {
    "study": JobKind("Study a model", ("study",), "dashboards.commands:study"),
    "capture": JobKind("Capture activations of traces", ("capture", "run"), "interp.commands.capture:app"),
    "sweep": JobKind("Sweep probes over a store", ("probe", "sweep"), "probes.commands.probe:app"),
    "sae": JobKind("Train an SAE on a store", ("sae", "train"), "interp.commands.sae:app"),
}


@dataclass(frozen=True)
class Field:
    """One option or argument of a command.

    Attributes:
        name: Its name in Python.
        option: The option as it is typed; empty for an argument.
        is_path: Whether it names a file or folder.
        is_flag: Whether it takes no value.
        repeats: Whether it may be given several times.
        required: Whether the command needs it.
        default: Text of its default; empty where it has none.
        help: What the command says of it.
    """

    name: str
    option: str
    is_path: bool
    is_flag: bool
    repeats: bool
    required: bool
    default: str
    help: str

    @property
    def label(self) -> str:
        """What a form calls it."""
        return self.option or self.name.upper()


@cache
def command_of(kind: str) -> Any:
    """Return Typer's command of a kind of job.

    Raises:
        UsageError: There is no such kind.
    """
    if kind not in KINDS:
        raise unknown("job", kind, KINDS)
    command = typer.main.get_command(pkgutil.resolve_name(KINDS[kind].app))
    for word in KINDS[kind].words[1:]:
        command = command.commands[word]  # type: ignore[attr-defined]
    return command


@cache
def fields_of(kind: str) -> tuple[Field, ...]:
    """Return the options and arguments of a command, arguments and what it needs first."""
    fields = []
    for parameter in command_of(kind).params:
        if getattr(parameter, "hidden", False) or parameter.name in _LEFT_OUT:
            continue
        is_option = parameter.opts[0].startswith("-")
        is_flag = bool(getattr(parameter, "is_flag", False))
        # A switch that is on by default is offered as the option that turns it off.
        names = parameter.secondary_opts if is_flag and parameter.default is True else parameter.opts
        fields.append(
            Field(
                name=parameter.name,
                option=max(names, key=len) if is_option else "",
                is_path=parameter.type_descriptor.annotation is Path or parameter.name == "out",
                is_flag=is_flag,
                repeats=bool(parameter.multiple),
                required=bool(parameter.required) or not is_option,
                default="" if parameter.default is None or is_flag else str(parameter.default),
                help=str(getattr(parameter, "help", None) or ""),
            )
        )
    return tuple(sorted(fields, key=lambda field: (not field.required, field.name != "out")))


def words_of(kind: str, values: Mapping[str, str | bool], folder: Path, roots: Sequence[Path]) -> list[str]:
    """Return the arguments of `cotlens` for what a form holds, and check them as the command would.

    Args:
        kind: Kind of job.
        values: Texts and switches by name of the field; empty ones are left out. Several values of an option that
            repeats stand on lines or between semicolons.
        folder: Folder that relative paths begin at.
        roots: Files and folders that the job may read and write.

    Raises:
        UsageError: A value is missing or wrong, or names a path outside the folders.
    """
    arguments: list[str] = []
    options: list[str] = []
    for field in fields_of(kind):
        value = values.get(field.name, "")
        if isinstance(value, bool):
            options += [field.option] if value else []
            continue
        texts = [part.strip() for part in re.split(r"[;\n]", value)] if field.repeats else [value.strip()]
        for text in filter(None, texts):
            checked = str(below(text, folder, roots)) if field.is_path else _inside(text, folder, roots)
            if not field.option:
                arguments.append(checked)
            elif checked.startswith("-"):
                options.append(f"{field.option}={checked}")
            else:
                options += [field.option, checked]
        if field.required and not any(texts):
            raise UsageError(f"expected a value for {field.label}, got none; fill it in.")
    _parse(kind, [*options, "--", *arguments])
    return [*KINDS[kind].words, *options, *(["--"] if any(a.startswith("-") for a in arguments) else []), *arguments]


def _parse(kind: str, words: list[str]) -> None:
    """Read the arguments as the command would, and raise `UsageError` where it would refuse them."""
    try:
        command_of(kind).make_context(KINDS[kind].words[-1], words)
    except usage_errors() as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        raise UsageError(message) from None


def below(text: str, folder: Path, roots: Sequence[Path]) -> Path:
    """Return a path as an absolute one.

    Args:
        text: The path.
        folder: Where a relative path begins.
        roots: Files and folders that it must be, or be below.

    Raises:
        UsageError: It is outside of them.
    """
    try:
        path = (folder / text).resolve()
    except (OSError, ValueError, RuntimeError):
        raise UsageError(f"expected a path, got {text[:80]!r}; write one below {folder}.") from None
    if "://" in text or text.startswith("~") or not any(path.is_relative_to(root) for root in roots):
        names = ", ".join(map(str, roots))
        raise UsageError(f"expected a path below {names}, got {text}; jobs read and write nothing else.")
    return path


def _inside(text: str, folder: Path, roots: Sequence[Path]) -> str:
    """Return a text of an option as it is, where no part of it names a path outside the folders."""
    pieces = [piece for part in _PARTS.split(text) for piece in (part, *part.split(":"))]
    for part in [text, *pieces]:
        looks_like_path = part.startswith(("/", "~")) or ".." in Path(part).parts or "://" in part
        try:
            is_there = bool(part) and (folder / part).exists()
        except (OSError, ValueError):
            is_there = False
        if looks_like_path or is_there:
            below(part, folder, roots)
    return text
