"""Package fronts whose names are imported when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module-level `__getattr__` that imports each name from its own module on first use.

    Keeps `import package` cheap: PyTorch loads only when a name that needs it is used.

    Args:
        package: Full name of the package, `__name__` in its `__init__.py`.
        homes: Public name to the full name of the module that defines it.

    Returns:
        A function to assign to `__getattr__` (PEP 562).

    Raises:
        AttributeError: By the returned function, for a name that `homes` does not list.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        # Stored in the package, so that the next access does not come here again.
        setattr(importlib.import_module(package), name, value)
        return value

    return __getattr__
