"""Completion of commands and options in a shell, by Typer's own scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typer.completion import completion_init, get_completion_script
from typer.core import TyperGroup

from cotlens.options_file import command_of
from interp.errors import unknown
from interp.runtime.environment import COMPLETION

SHELLS = ("bash", "zsh", "fish", "powershell")


class _Commands(TyperGroup):
    """All commands; each is imported when words after its name are completed."""

    def __init__(self, commands: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(name="cotlens")
        self._table = commands

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self._table:
            return None
        command = command_of(cmd_name, self._table)
        command.short_help = self._table[cmd_name][1]
        return command


def script(shell: str) -> str:
    """Return what a shell reads to complete `cotlens`.

    Args:
        shell: bash, zsh, fish or powershell.

    Raises:
        UsageError: It is none of these.
    """
    if shell not in SHELLS:
        raise unknown("shell", shell, SHELLS)
    return get_completion_script(prog_name="cotlens", complete_var=COMPLETION, shell=shell)


def answer(commands: Mapping[str, tuple[str, str]]) -> int:
    """Print the completions that a shell asks for, and return the exit code."""
    completion_init()
    try:
        _Commands(commands).main(args=[], prog_name="cotlens", complete_var=COMPLETION)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
