"""A day of clicking does not grow: everything that is kept for all readers has a largest number of entries."""

from __future__ import annotations

import ast
from pathlib import Path

import dashboards

CACHES = {"cache_resource", "cache_data"}


def caches() -> list[tuple[str, ast.expr]]:
    """The place and the decorator of each of Streamlit's caches."""
    found = []
    for file in sorted(Path(dashboards.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for decorator in getattr(node, "decorator_list", []):
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if isinstance(called, ast.Attribute) and called.attr in CACHES:
                    found.append((f"{file.name}:{node.lineno}", decorator))
    return found


def test_every_cache_has_a_largest_number_of_entries() -> None:
    places = caches()
    assert len(places) > 20
    endless = [
        place
        for place, decorator in places
        if not isinstance(decorator, ast.Call) or "max_entries" not in {word.arg for word in decorator.keywords}
    ]
    assert endless == []
