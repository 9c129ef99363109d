"""`cotlens bench`: run the benches of a checkout. They are not part of the installed package."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from interp.errors import UsageError

_BESIDE = Path(__file__).resolve().parent.parent


def app(*, args: list[str], **options: Any) -> Any:
    """Run `cotlens bench` with the benches beside the package or in the working directory.

    Args:
        args: The arguments after `bench`.
        **options: Passed to the Typer app of the benches.

    Raises:
        UsageError: There is no `benchmarks` folder.
    """
    return _benches().app(args=args, **options)


def _benches() -> Any:
    """Return the module `benchmarks.cli` of a checkout."""
    for root in (_BESIDE, Path.cwd()):
        if (root / "benchmarks" / "measures.toml").is_file() and (root / "benchmarks" / "cli.py").is_file():
            # First in the path, so that no other package of that name is imported.
            if str(root) not in sys.path:
                sys.path.insert(0, str(root))
            return importlib.import_module("benchmarks.cli")
    raise UsageError(
        f"expected a checkout of cotlens with a folder benchmarks/, got neither {_BESIDE / 'benchmarks'} nor "
        f"{Path.cwd() / 'benchmarks'}; clone the repository and run `cotlens bench` there."
    )
