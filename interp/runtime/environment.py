"""Environment variables of options: one name for each option of each command, `COTLENS_GROUP_COMMAND_OPTION`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping

PREFIX = "COTLENS"
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


def adopt_old_variables(names: Iterable[str], prefix: str, old_prefix: str) -> None:
    """Set the variables of a command from those of their old names, with a warning for each.

    Args:
        names: Names of the command's options.
        prefix: What its variables begin with.
        old_prefix: What they began with until version 0.2.
    """
    for name in names:
        old, new = f"{old_prefix}_{name.upper()}", f"{prefix}_{name.upper()}"
        if old != new and old in os.environ and new not in os.environ:
            warn_renamed(old, new)
            os.environ[new] = os.environ[old]
