"""Environment variables of options: one name for each option of each command, `COTLENS_GROUP_COMMAND_OPTION`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

PREFIX = "COTLENS"
#: The variable by which a shell asks for completions.
COMPLETION = f"_{PREFIX}_COMPLETE"
#: The version in which old names of options and of their variables stop working.
REMOVED_IN = "0.3"


def variable_prefix(*command: str) -> str:
    """Return what the variables of a command begin with, such as "COTLENS_PROBE_SWEEP" for ("probe", "sweep")."""
    return "_".join([PREFIX, *(part.upper().replace("-", "_") for part in command)])


def warn_renamed(old: str, new: str) -> None:
    """Print on stderr that an option has a new name, in one line."""
    print(f"warning: {old} is now {new}; the old name works until version {REMOVED_IN}", file=sys.stderr, flush=True)


def read_variable(name: str, prefix: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the variable that sets an option, and its value; None where none does.

    Until version 0.2 the variables of several commands had the same name. An old name still works, with a warning.

    Args:
        name: Name of the option.
        prefix: What the command's variables begin with.
        environment: The environment variables.
    """
    variable = f"{prefix}_{name.upper()}"
    if variable in environment:
        return variable, environment[variable]
    old = f"{PREFIX}_{name.upper()}"
    if old == variable or old not in environment:
        return None
    warn_renamed(old, variable)
    return old, environment[old]


def current_and_old_variable(name: str, prefix: str, old_prefix: str) -> list[str]:
    """Return the names of the variables that set an option; prints a warning where only the old one is set.

    Args:
        name: Name of the option.
        prefix: What the variables of its command begin with.
        old_prefix: What they began with until version 0.2.

    Returns:
        The variable's name, and after it the old one where that differs. The first that is set counts.
    """
    new, old = f"{prefix}_{name.upper()}", f"{old_prefix}_{name.upper()}"
    if old == new:
        return [new]
    if os.environ.get(old) and not os.environ.get(new):
        warn_renamed(old, new)
    return [new, old]
