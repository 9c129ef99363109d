"""What stays of an earlier run where a later one lacks some of its organisms.

Not all organisms are shipped. Whoever measures the shipped ones again should not lose what was measured of the others.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

OF_SEED = ", training seed "  # within the caption of a table of another training seed
NOTE = "Rows of organisms that were not here are of an earlier run."


def with_earlier(said: dict[str, Any], before: dict[str, Any], missing: list[str]) -> dict[str, Any]:
    """`said` with what only `before` has: tables of other training seeds and, of organisms that are `missing`, rows.

    A row is known by the words in its first two columns, up to the first number. A section with no tables at all gives
    way to the earlier one.
    """
    if not before.get("tables"):
        return said
    if not said["tables"]:
        return {key: value for key, value in before.items() if key != "seeds"}
    tables, notes = dict(said["tables"]), list(said["notes"])
    for caption, rows in before["tables"].items():
        if caption not in tables and OF_SEED in caption:
            tables[caption] = rows
        elif caption in tables and missing:
            tables[caption] = _together(tables[caption], rows)
            if len(tables[caption]) > len(said["tables"][caption]) and NOTE not in notes:
                notes.append(NOTE)
    return said | {"tables": tables, "notes": notes}


def _together(rows: list[dict[str, Any]], earlier: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """These rows and those that are only in `earlier`, in the order of that."""
    here = set(map(_key, rows))
    order = list(dict.fromkeys(map(_key, [*earlier, *rows])))
    return sorted([*rows, *(row for row in earlier if _key(row) not in here)], key=lambda row: order.index(_key(row)))


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(takewhile(lambda value: isinstance(value, str), list(row.values())[:2]))
