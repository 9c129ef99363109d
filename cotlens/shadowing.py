"""Notice a user's file that hides one of this project's packages."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

PACKAGES = ("interp", "probes", "dashboards")
_HERE = Path(__file__).resolve().parent.parent


class ShadowedPackageError(ImportError):
    """A file or folder of the user has the name of one of this project's packages and is imported in its place."""


def check_packages() -> None:
    """Check that Python finds the packages that belong to this installation.

    Raises:
        ShadowedPackageError: Python finds another file first. A command (`cotlens` or `python -m cotlens.cli`)
            prints the message instead and exits with code 2.
    """
    for name in PACKAGES:
        location = _location(name)
        if location is not None and location != _HERE / name and (_HERE / name).is_dir():
            shown = location if location.suffix == ".py" else f"{location}/"
            message = (
                f"expected the package {name!r} of cotlens, got {shown}; rename that file or folder, "
                "or start Python in another folder."
            )
            if Path(sys.argv[0] if sys.argv else "").name in ("cotlens", "cotlens.exe", "-m"):
                print(f"error: {message}", file=sys.stderr)
                raise SystemExit(2)
            raise ShadowedPackageError(message, name=name, path=str(location))


def _location(name: str) -> Path | None:
    """Return the folder or file that Python imports under `name`; None where there is none."""
    module = sys.modules.get(name)
    try:
        spec: importlib.machinery.ModuleSpec | None = (
            module.__spec__ if module is not None else importlib.util.find_spec(name)
        )
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin else None
