"""Running a model over new positions with its key-value cache, by whatever name its transformers version has for it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def run_cached(base: Any, cache: Any, **inputs: Any) -> tuple[Any, Any]:
    """The output of `base` over `inputs`, and the cache that then holds them; `cache` is None at the beginning.

    transformers 5.24 calls the argument `cache`; before, it was `past_key_values`.
    """
    out = base(**inputs, **{_name(type(base).forward): cache}, use_cache=True)
    return out, out["cache" if "cache" in list(out.keys()) else "past_key_values"]


@functools.cache
def _name(forward: Callable[..., Any]) -> str:
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"
