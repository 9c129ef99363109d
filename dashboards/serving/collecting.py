"""Garbage collection of the server: Streamlit collects after every drawing, which must not look through all modules."""

from __future__ import annotations

import gc


def settle() -> None:
    """Collect garbage now, and leave what is alive out of later collections.

    Streamlit collects all generations after every drawing, so the objects of imported packages and of a loaded model,
    some hundred thousand, would make every click wait. Call it after what loads many objects, or lets go of many: what
    was left out before is looked through once more.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
