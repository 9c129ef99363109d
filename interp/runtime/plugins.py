"""Tasks, reasoners, decoders, estimators, controls and pages that other packages add through entry points.

A package names its own in its `pyproject.toml`, and they are then picked by name like the built-in ones:

    [project.entry-points."cotlens.decoders"]
    my_lens = "my_package.lens:MyLens"

The groups are `cotlens.tasks`, `cotlens.reasoners`, `cotlens.decoders`, `cotlens.estimators`, `cotlens.controls`,
`cotlens.watchers` (functions that load what a monitor watches from a folder) and `cotlens.pages` (pages of the dashboard).
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from interp.errors import UsageError

Group = Literal["tasks", "reasoners", "decoders", "estimators", "controls", "watchers", "pages"]


def plugins(group: Group) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, not yet imported.

    Args:
        group: What the plugins are, such as "decoders".

    Raises:
        UsageError: Two installed packages use the same name for different objects.
    """
    by_name: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"cotlens.{group}"):
        other = by_name.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise UsageError(
                f"expected one {group} plugin named {entry.name!r}, got two: {other.value} and {entry.value}. "
                "Uninstall one of the two packages."
            )
    return by_name


def load_plugin(group: Group, name: str) -> Any:
    """Return the object that the entry point `name` of a group names.

    Args:
        group: What the plugins are, such as "decoders".
        name: A name from `plugins(group)`.

    Raises:
        UsageError: The package that registers the name cannot be imported.
    """
    entry = plugins(group)[name]
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"the {group} plugin {name!r} ({entry.value}) cannot be imported: {error}. "
            "Reinstall the package that provides it, or uninstall it."
        ) from error
