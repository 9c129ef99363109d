"""Warn about names of an earlier version."""

from __future__ import annotations

import warnings


def warn_old_name(old: str, new: str) -> None:
    """Warn that a function is called by its old name.

    Args:
        old: The name that was used.
        new: The name that replaces it.
    """
    warnings.warn(f"{old} is now {new}; the old name works until version 0.3", DeprecationWarning, stacklevel=3)
